//! Faults during a preparation: disks without space or inodes, writes that fail or are cut short, too little memory, wrong file times. The
//! good module stays unchanged to the byte, and the next run after the fault succeeds.

use crate::machine::lab::{self, Lab};
use crate::machine::Machine;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A machine with one kernel and a good module of ours.
struct Stage {
    machine: Machine,
    kernel: String,
    good: Vec<u8>,
}

impl Stage {
    fn new() -> Stage {
        let lab = Lab::open();
        let kernel = lab.get("K_NEW").to_owned();
        let machine = lab.install(lab.machine().grub().running(&kernel).demo(&lab), &kernel);
        let run = machine.run(&["prepare", &kernel]);
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        let good = fs::read(module(&machine, &kernel)).unwrap();
        Stage { machine, kernel, good }
    }

    fn rebuild(&self) -> [&str; 5] {
        ["prepare", &self.kernel, "--driver", "demo", "--rebuild"]
    }

    /// Runs `prepare --rebuild` in a mount namespace after `setup` (shell; `$R` is the root, `$K` the kernel), and then reads the installed
    /// module in there. Returns whether it succeeded, and its output.
    fn under(&self, setup: &str, env: &[(&str, &str)]) -> (bool, String) {
        let script = format!(
            "set -e; {setup}; \"$0\" --root \"$R\" \"$@\" >\"$R/told\" 2>&1 && code=0 || code=$?; \
             cp \"$R/lib/modules/$K/updates/vfguard/demo.ko\" \"$R/seen.ko\"; exit $code"
        );
        let _ = fs::remove_file(self.machine.path("seen.ko"));
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &script, env!("CARGO_BIN_EXE_vfguard")]).args(self.rebuild());
        command.env("R", self.machine.root()).env("K", &self.kernel).envs(env.iter().copied());
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        let told = fs::read_to_string(self.machine.path("told")).unwrap_or_default();
        let seen = fs::read(self.machine.path("seen.ko")).unwrap_or_default();
        assert!(seen == self.good, "{setup} {env:?}: the good module is gone: {told}");
        assert!(!told.contains("panicked"), "{told}");
        assert!(status.success() || !told.trim().is_empty(), "{setup} {env:?}: it says nothing");
        (status.success(), told)
    }

    fn recovers(&self) {
        let run = self.machine.run(&self.rebuild());
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        assert!(fs::read(module(&self.machine, &self.kernel)).unwrap() == self.good);
        assert_eq!(self.machine.run(&["check", &self.kernel]).code, 0);
    }
}

fn module(machine: &Machine, kernel: &str) -> PathBuf {
    machine.path(&format!("lib/modules/{kernel}/updates/vfguard/demo.ko"))
}

/// Mounts a small file system over a directory, with a copy of its content.
fn small(dir: &str, options: &str) -> String {
    format!(
        "rm -rf \"$R/keep\"; mkdir -p \"$R/{dir}\"; cp -a \"$R/{dir}\" \"$R/keep\"; mount -t tmpfs -o {options} none \"$R/{dir}\"; \
         cp -a \"$R/keep/.\" \"$R/{dir}\" 2>/dev/null || [ {dir} = var ]"
    )
}

#[test]
fn a_disk_that_fills_up_at_any_write_does_not_damage_a_good_module() {
    let stage = Stage::new();
    let sizes = [8, 16, 24, 40, 64, 96, 160, 256, 512, 1024, 2048, 4096];
    let mut failed = 0;
    for size in sizes {
        failed += u32::from(!stage.under(&small("var", &format!("size={size}k")), &[]).0);
    }
    let modules = [80, 88, 96, 104, 112, 120, 136];
    for size in modules {
        failed += u32::from(!stage.under(&small("lib/modules", &format!("size={size}k")), &[]).0);
    }
    stage.recovers();
    println!(
        "disk full: {} sizes of /var, {} of /lib/modules; {failed} runs failed, no module lost",
        sizes.len(),
        modules.len()
    );
    assert!(failed >= 4, "the sizes hit nothing");
}

#[test]
fn a_file_system_without_inodes_does_not_damage_a_good_module() {
    let stage = Stage::new();
    let mut failed = 0;
    // The build itself uses none of these if it has a file system of its own.
    let counts = [4, 6, 8, 10, 12, 14, 16, 20, 24, 32];
    for inodes in counts {
        failed += u32::from(!stage.under(&small("var", &format!("nr_inodes={inodes}")), &[]).0);
    }
    for inodes in [30, 31, 32, 33, 34, 35, 36] {
        failed += u32::from(!stage.under(&small("lib/modules", &format!("nr_inodes={inodes}")), &[]).0);
    }
    stage.recovers();
    println!("out of inodes: 17 counts; {failed} runs failed, no module lost");
    assert!(failed >= 2, "the counts hit nothing");
}

/// Makes the Nth call of a kind fail, or write only one byte, in vfguard itself (not in its children).
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <stdio.h>
static int nth = -2, seen;
static int hit(const char *call) {
    if (nth == -2) {
        char exe[4096]; ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
        const char *at = getenv("FAULT_AT");
        nth = n >= 8 && !strncmp(exe + n - 8, "/vfguard", 8) && at ? atoi(at) : -1;
    }
    const char *which = getenv("FAULT_CALL");
    if (nth < 0 || !which || strcmp(which, call) || seen++ != nth) return 0;
    if (getenv("FAULT_HIT")) close(creat(getenv("FAULT_HIT"), 0600));
    return 1;
}
static int short_writes(void) { const char *c = getenv("FAULT_CALL"); hit(""); return nth >= 0 && c && !strcmp(c, "short"); }
ssize_t write(int fd, const void *b, size_t n) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "write");
    if (fd > 2 && hit("write")) { errno = EIO; return -1; }
    return real(fd, b, fd > 2 && n > 1 && short_writes() ? (n + 1) / 2 : n);
}
ssize_t pwrite64(int fd, const void *b, size_t n, off_t at) {
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
    if (hit("write")) { errno = EIO; return -1; }
    return real(fd, b, n > 1 && short_writes() ? (n + 1) / 2 : n, at);
}
int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    if (hit("fsync")) { errno = EIO; return -1; }
    return real(fd);
}
ssize_t read(int fd, void *b, size_t n) {
    static ssize_t (*real)(int, void *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "read");
    if (fd > 2 && hit("read")) { errno = EIO; return -1; }
    return real(fd, b, n);
}
"#;

#[test]
fn a_read_or_write_that_fails_at_any_place_does_not_damage_a_good_module() {
    let stage = Stage::new();
    let shim = lab::preload(&stage.machine, SHIM);
    let full = std::env::var_os("VFGUARD_FULL").is_some();
    let preload = shim.to_str().unwrap();
    let hit = stage.machine.path("hit");
    let mark = hit.to_str().unwrap().to_owned();
    for (call, places, every) in [("write", 12, 1), ("fsync", 4, 1), ("read", 60, 9)] {
        let (mut failed, mut runs) = (0, 0);
        // A long run ends where there is no further call that could fail.
        for at in (0usize..).step_by(if full { 1 } else { every }).take_while(|at| full || *at < places) {
            let _ = fs::remove_file(&hit);
            let at = at.to_string();
            let fault =
                [("LD_PRELOAD", preload), ("FAULT_CALL", call), ("FAULT_AT", at.as_str()), ("FAULT_HIT", mark.as_str())];
            let (done, told) = stage.under(":", &fault);
            if !hit.exists() {
                assert!(done, "nothing failed in {call} {at}, but the run: {told}");
                break;
            }
            failed += u32::from(!done);
            runs += 1;
        }
        println!("EIO in {call}(2): {runs} places, {failed} runs failed, no module lost");
        assert!(failed > 0, "no {call} was hit");
    }
    let (done, told) = stage.under(":", &[("LD_PRELOAD", preload), ("FAULT_CALL", "short"), ("FAULT_AT", "0")]);
    assert!(done, "short writes are no failure: {told}");
    stage.recovers();
}

#[test]
fn no_read_error_makes_check_call_an_unsafe_kernel_safe() {
    let stage = Stage::new();
    let Stage { machine, kernel, .. } = &stage;
    let (shim, hit) = (lab::preload(machine, SHIM), machine.path("hit"));
    let settings = machine.path("etc/modprobe.d/x.conf");
    fs::create_dir_all(settings.parent().unwrap()).unwrap();
    for why in ["modprobe is told not to load it", "it is not there"] {
        if settings.exists() {
            fs::remove_file(&settings).unwrap();
            fs::remove_file(module(machine, kernel)).unwrap();
            assert!(Command::new("depmod").arg("-b").arg(machine.root()).arg(kernel).status().unwrap().success());
        } else {
            fs::write(&settings, "install demo /bin/false\n").unwrap();
        }
        let mut places = 0;
        loop {
            let _ = fs::remove_file(&hit);
            let mut check = machine.command(&["check"]);
            check.env("LD_PRELOAD", &shim).env("FAULT_CALL", "read").env("FAULT_HIT", &hit);
            let output = check.env("FAULT_AT", places.to_string()).output().unwrap();
            let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            assert!(matches!(output.status.code(), Some(1 | 3)), "{why}, and EIO in read {places}: {told}");
            assert!(!told.contains("panicked"), "{told}");
            if !hit.exists() {
                break;
            }
            places += 1;
        }
        println!("EIO in a check of a kernel that is unsafe ({why}): {places} places, never safe");
        assert!(places > 20, "{places}");
    }
}

#[test]
fn an_unreadable_file_of_proc_does_not_weaken_the_sandbox() {
    let stage = Stage::new();
    let said = |run: &str| run.lines().find_map(|l| l.trim().strip_prefix("sandbox: ")).unwrap_or_default().to_owned();
    let run = |words: &[&str]| {
        let output = Command::new(words[0]).args(&words[1..]).arg("-v").args(stage.rebuild()).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let root = stage.machine.root().to_str().unwrap();
    let program = [env!("CARGO_BIN_EXE_vfguard"), "--root", root];
    let whole = said(&run(&program).1);
    assert!(whole.starts_with("full: "), "{whole}");
    let trace = stage.machine.path("trace");
    for file in ["status", "ns/mnt", "ns/net", "ns/pid", "ns/ipc", "ns/uts"] {
        let file = format!("/proc/self/{file}");
        let calls = ["-e", "inject=openat,read,statx,newfstatat,readlink:error=EIO", "-P", &file];
        let strace = [&["strace", "-f", "-qq", "-o", trace.to_str().unwrap()], &calls[..], &program].concat();
        let (done, told) = run(&strace);
        assert!(done && said(&told) == whole, "EIO from {file}: {told}");
        let hit = fs::read_to_string(&trace).unwrap().contains("(INJECTED)");
        assert!(hit || file.ends_with("status"), "{file} is not looked at");
    }
}

#[test]
fn too_little_memory_for_the_build_is_reported_and_does_not_damage_a_good_module() {
    let stage = Stage::new();
    for limit in ["36000", "60000"] {
        let (done, told) = stage.under(&format!("ulimit -v {limit}"), &[]);
        println!("address space of {limit} kB: {}", told.lines().last().unwrap_or_default());
        assert!(!done && told.contains("for want of memory"), "{limit} kB: {told}");
    }
    stage.recovers();
}

#[test]
fn a_wrong_clock_changes_no_verdict_and_stops_no_build() {
    let stage = Stage::new();
    let Stage { machine, kernel, good } = &stage;
    for seconds in [0, 4_000_000_000] {
        let file = fs::File::options().write(true).open(module(machine, kernel)).unwrap();
        let time = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
        file.set_times(fs::FileTimes::new().set_accessed(time).set_modified(time)).unwrap();
        for name in ["modules.dep.bin", "modules.alias.bin"] {
            let table = machine.path(&format!("lib/modules/{kernel}/{name}"));
            fs::File::options().write(true).open(table).unwrap().set_modified(time).unwrap();
        }
        assert_eq!(machine.run(&["check", kernel]).code, 0, "the verdict depends on the clock ({seconds})");
        stage.recovers();
        assert!(&fs::read(module(machine, kernel)).unwrap() == good);
    }
}
