//! Runs hostile makefiles: through `vfguard prepare`, and as root by plain make.

use super::lab::{self, Lab};
use super::{Machine, Run};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// What an attack prints when it has succeeded; put together at run time, so that an echoed script does not look like a success.
pub const OK: &str = "ATTACK-OK";
pub const SAY: &str = "printf 'ATTACK-%s\\n' OK";

/// A machine with one kernel, a source whose makefile runs a script, and a secret that only root may read.
pub struct Arena {
    pub machine: Machine,
    pub kernel: String,
    pub secret: tempfile::TempDir,
    /// Further variables in the caller's environment.
    pub environment: &'static [(&'static str, &'static str)],
}

impl Arena {
    pub fn new() -> Arena {
        let lab = Lab::open();
        let kernel = lab.get("K_NEW").to_owned();
        let machine = lab.install(lab.machine(), &kernel);
        // Not below /tmp, since the sandbox has a /tmp of its own.
        let secret = tempfile::Builder::new().prefix("vfguard-secret-").tempdir_in("/root").unwrap();
        fs::write(secret.path().join("key"), "top secret\n").unwrap();
        Arena { machine, kernel, secret, environment: &[] }
    }

    pub fn secret(&self) -> PathBuf {
        self.secret.path().join("key")
    }

    pub fn module(&self) -> PathBuf {
        self.machine.path(&format!("lib/modules/{}/updates/vfguard/ixgbevf.ko", self.kernel))
    }

    /// Runs a script as vfguard runs makefiles. Returns its output and vfguard's exit code.
    pub fn inside(&self, script: &str) -> (String, i32) {
        let archive = lab::archive(self.machine.root(), script, &[]);
        self.prepare(&archive)
    }

    pub fn prepare(&self, archive: &(PathBuf, String)) -> (String, i32) {
        let (file, digest) = archive;
        let prepare = ["prepare", &self.kernel, "--source", file.to_str().unwrap(), "--sha256", digest];
        let run = self.machine.command(&prepare).envs(self.environment.iter().copied()).output().unwrap();
        let run = Run::from(run);
        (self.log() + &run.stdout + &run.stderr, run.code)
    }

    pub fn log(&self) -> String {
        let logs = fs::read_dir(self.machine.path("var/lib/vfguard/log")).unwrap();
        logs.map(|e| String::from_utf8_lossy(&fs::read(e.unwrap().path()).unwrap()).into_owned()).collect()
    }

    /// Runs the same script as root by plain make, and ends its process group afterwards.
    pub fn plainly(&self, script: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        lab::write_source(dir.path(), script, &[]);
        let out = fs::File::create(dir.path().join("out")).unwrap();
        let mut child = Command::new("make")
            .current_dir(dir.path().join("src"))
            .envs(self.environment.iter().copied())
            .process_group(0)
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        child.wait().unwrap();
        let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGKILL);
        String::from_utf8_lossy(&fs::read(dir.path().join("out")).unwrap()).into_owned()
    }

    /// Asserts that the attack fails inside and succeeds by plain make, as most tests here claim.
    pub fn contains(&self, script: &str) {
        let (inside, code) = self.inside(script);
        assert!(inside.contains(lab::BEGUN), "its script was not even started: {inside}");
        assert!(!inside.contains(OK), "the attack succeeded inside: {inside}");
        assert_eq!(code, 1, "{inside}");
        assert!(!self.module().exists());
        let plainly = self.plainly(script);
        assert!(plainly.contains(OK), "the attack fails without the sandbox too, so it proves nothing: {plainly}");
    }
}
