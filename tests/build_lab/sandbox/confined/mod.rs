//! Builds where no namespaces can be made, as in many containers and on EL6: another user, and Landlock if the kernel has it.
//!
//! Each attack runs twice: with Landlock, and with a filter that makes the kernel look as if it had none. Without Landlock it must succeed,
//! or the test would prove nothing. `VFGUARD_NO_LANDLOCK` says that this kernel has none (tests/run.sh counts the skip).

mod built;
mod held;

use crate::machine::lab::{self, Lab};
use crate::machine::{turn, Machine};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

/// The kernel's answer to Landlock's three system calls.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Landlock {
    /// Its real answer.
    There,
    /// ENOSYS, as on a kernel before 5.13.
    NotBuilt,
    /// EOPNOTSUPP, as on a kernel that was booted without it.
    NotEnabled,
    /// Landlock exists, but restricting fails, as behind the filters of some containers.
    Refused,
}

impl Landlock {
    /// The first and last system call (444 to 446 on every machine) and the errno.
    fn filter(self) -> Option<[&'static str; 3]> {
        match self {
            Landlock::There => None,
            Landlock::NotBuilt => Some(["444", "446", "38"]),
            Landlock::NotEnabled => Some(["444", "446", "95"]),
            Landlock::Refused => Some(["446", "446", "1"]),
        }
    }
}

/// Whether this kernel has Landlock; without it, tests that need it are skipped.
fn is_here() -> bool {
    std::env::var_os("VFGUARD_NO_LANDLOCK").is_none()
}

/// A machine with a kernel and a small driver, which every user may enter. No other test runs at the same time.
struct Stage {
    machine: Machine,
    kernel: String,
    filter: PathBuf,
}

impl Stage {
    fn new() -> Stage {
        let lab = Lab::open();
        let kernel = lab.get("K_NEW").to_owned();
        Stage::with(lab.install(lab.machine().demo(&lab), &kernel), kernel)
    }

    fn with(machine: Machine, kernel: String) -> Stage {
        turn::alone();
        // A temporary root has mode 0700, and the build user must be able to reach the tree.
        fs::set_permissions(machine.root(), PermissionsExt::from_mode(0o755)).unwrap();
        let filter = lab::filter(&machine);
        Stage { machine, kernel, filter }
    }

    /// Runs vfguard as root, with or without the ability to make namespaces.
    fn run(&self, namespaces: bool, landlock: Landlock, args: &[&str]) -> (bool, String) {
        let mut words: Vec<String> = Vec::new();
        if let Some(filter) = landlock.filter() {
            words.push(self.filter.display().to_string());
            words.extend(filter.map(str::to_owned));
        }
        if !namespaces {
            words.extend(["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"].map(str::to_owned));
        }
        words.extend([env!("CARGO_BIN_EXE_vfguard"), "--root"].map(str::to_owned));
        words.push(self.machine.root().display().to_string());
        let output = Command::new(&words[0]).args(&words[1..]).args(args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    }

    fn confined(&self, args: &[&str]) -> (bool, String) {
        self.run(false, Landlock::There, args)
    }

    /// Runs a script as the makefile of a driver. Returns the build's output.
    fn script(&self, namespaces: bool, landlock: Landlock, script: &str) -> String {
        let (file, digest) = lab::archive(self.machine.root(), script, &[]);
        let prepare = ["prepare", &self.kernel, "--driver", "demo", "--source", file.to_str().unwrap(), "--sha256", &digest];
        let (done, text) = self.run(namespaces, landlock, &prepare);
        assert!(!done, "{text}");
        let log = self.machine.path(&format!("var/lib/vfguard/log/{}-demo-unknown.log", self.kernel));
        fs::read_to_string(log).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    fn is_good(&self, name: &str) {
        let dir = self.machine.path(&format!("lib/modules/{}/updates/vfguard", self.kernel));
        // Compressed as the kernel's own modules are.
        let mut files = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
        let file = files.find(|f| f.file_name().unwrap().to_string_lossy().starts_with(&format!("{name}.ko"))).unwrap();
        let verify = self.machine.run(&["verify", file.to_str().unwrap(), "--kernel", &self.kernel]);
        assert_eq!(verify.code, 0, "{}{}", verify.stdout, verify.stderr);
    }
}

/// The Landlock version that `status` reports.
fn version(stage: &Stage, namespaces: bool) -> Option<u64> {
    let (_, json) = stage.run(namespaces, Landlock::There, &["--format", "json", "status"]);
    serde_json::from_str::<serde_json::Value>(&json).unwrap()["landlock"].as_u64()
}

/// A filter that refuses unshare(2), which /proc does not show, as in many containers.
const NO_UNSHARE: [&str; 3] = ["272", "272", "1"];
