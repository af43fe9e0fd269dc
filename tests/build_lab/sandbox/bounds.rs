//! How much of the machine a build may use: disk, files, and memory that is charged to no process. Each attempt to use more fails in the
//! sandbox and succeeds under plain make. The cgroup is tested where systemd runs (tests/vm/cases/gate/bounds.py).

use crate::machine::arena::{Arena, OK, SAY};
use crate::machine::lab::{self, Lab};
use crate::machine::{turn, Machine};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const MB: u64 = 1 << 20;
const WORK: &str = "var/cache/vfguard/build";

/// The disk space of the files below a directory, in bytes.
fn taken(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let one = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => taken(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(one).sum()
}

/// The peak of the disk space below a directory while `act` runs.
fn most(dir: &Path, act: impl FnOnce()) -> u64 {
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let watch = threads.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(taken(dir));
                std::thread::sleep(Duration::from_millis(5));
            }
            most
        });
        act();
        done.store(true, Ordering::Relaxed);
        watch.join().unwrap()
    })
}

fn record(arena: &Arena) -> String {
    fs::read_to_string(arena.machine.path(&format!("var/lib/vfguard/records/{}.json", arena.kernel))).unwrap()
}

/// Asserts that no directory of a run is left, and that nothing is mounted below the root.
fn nothing_is_left(machine: &Machine) {
    assert_eq!(fs::read_dir(machine.path(WORK)).unwrap().count(), 0, "a build directory was left behind");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let root = machine.root().display().to_string();
    assert!(!mounts.contains(&root), "something is still mounted below {root}");
}

#[test]
fn files_written_in_parallel_never_use_more_disk_than_a_build_may() {
    let arena = Arena::new();
    // As many files in parallel as fit; plain make gets 1.5 GB.
    let hoard = |each: u32| {
        format!(
            "for i in 1 2 3 4 5 6 7 8 9 10; do fallocate -l {each}M f$i & done; wait; sleep 1; \
             for i in $(seq 30); do fallocate -l 50M g$i || break; done; \
             test $(du -sm . | cut -f1) -gt 1100 && {SAY}; df -m . | tail -n 1; exit 1"
        )
    };
    let disk = most(&arena.machine.path(WORK), || {
        let (log, code) = arena.inside(&hoard(250));
        assert!(log.contains(lab::BEGUN) && !log.contains(OK) && code == 1, "{log}");
        assert!(log.contains("this build may take 1024 MB and 100000 files, in memory"), "{log}");
    });
    assert!(disk < 64 * MB, "{} MB of the disk were taken", disk / MB);
    let record = record(&arena);
    assert!(record.contains("too much of the disk (it may have 1024 MB and 100000 files)"), "{record}");
    assert!(record.contains("name a release of the driver that fits"), "{record}");
    nothing_is_left(&arena.machine);
    assert!(arena.plainly(&hoard(150)).contains(OK), "it fails without the sandbox too, so it proves nothing");
}

#[test]
fn a_build_cannot_make_more_files_than_it_may() {
    let arena = Arena::new();
    let perl = "for (1..110000) { open my $f, \">\", \"f$_\" or exit 1; }";
    arena.contains(&format!("mkdir d && cd d && perl -e '{perl}' && {SAY}"));
    let record = record(&arena);
    assert!(record.contains("too much of the disk"), "{record}");
    nothing_is_left(&arena.machine);
}

#[test]
fn memory_that_is_charged_to_no_process_is_not_available() {
    let arena = Arena::new();
    // Each object is removed at once, because a test outside the sandbox would leave it on this machine.
    for hoard in [
        "$i = shmget(0, 1 << 20, 0x380); exit 1 unless defined $i; shmctl($i, 0, 0)",
        "$i = msgget(0, 0x380); exit 1 unless defined $i; msgsnd($i, pack(\"l! a*\", 1, \"x\" x 8000), 0) or exit 1; msgctl($i, 0, 0)",
        "$i = semget(0, 250, 0x380); exit 1 unless defined $i; semctl($i, 0, 0, 0)",
        // mq_open(2) and mq_unlink(2) by their numbers on x86-64.
        "$n = \"vfguard-test\"; exit 1 if syscall(240, $n, 66, 384, 0) < 0; syscall(241, $n)",
    ] {
        arena.contains(&format!("perl -e '{hoard}' && {SAY}"));
    }
}

#[test]
fn a_killed_run_leaves_no_mount_and_does_not_block_the_next() {
    let arena = Arena::new();
    let (file, digest) = lab::archive(arena.machine.root(), "head -c 50M /dev/zero >big; : >/tmp/x; sleep 100", &[]);
    let prepare = ["prepare", &arena.kernel, "--source", file.to_str().unwrap(), "--sha256", &digest];
    let mut child = arena.machine.command(&prepare).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while !arena.machine.path("var/lib/vfguard/log").exists() || !arena.log().contains(lab::BEGUN) {
        assert!(start.elapsed() < Duration::from_secs(60), "it does not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    let seen = taken(&arena.machine.path(WORK));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(seen < MB, "the build directory is on the disk: {seen} bytes");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&arena.machine.root().display().to_string()), "something is still mounted");
    // The next run builds, and removes what the killed one left.
    let (log, code) = arena.inside("exit 1");
    assert!(code == 1 && log.contains(lab::BEGUN), "{log}");
    nothing_is_left(&arena.machine);
}

/// A machine with the small driver of the lab.
fn with_demo() -> (Machine, String) {
    let lab = Lab::open();
    let kernel = lab.get("K_NEW").to_owned();
    let machine = lab.install(lab.machine().demo(&lab), &kernel);
    fs::set_permissions(machine.root(), PermissionsExt::from_mode(0o755)).unwrap();
    (machine, kernel)
}

fn log_of(machine: &Machine, kernel: &str) -> String {
    fs::read_to_string(machine.path(&format!("var/lib/vfguard/log/{kernel}-demo-1.0.0-demo.log"))).unwrap()
}

#[test]
fn parallel_builds_below_two_roots_have_a_directory_each() {
    let both = [with_demo(), with_demo()];
    let start = |(machine, kernel): &(Machine, String)| {
        machine
            .command(&["prepare", kernel, "--driver", "demo"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    for mut child in both.each_ref().map(start) {
        assert!(child.wait().unwrap().success());
    }
    for (machine, kernel) in &both {
        assert!(log_of(machine, kernel).contains("in memory"));
        nothing_is_left(machine);
    }
}

#[test]
fn where_nothing_can_be_mounted_the_build_uses_the_disk_and_that_is_reported() {
    turn::alone();
    let (machine, kernel) = with_demo();
    let run = |args: &[&str]| {
        let output = Command::new("setpriv")
            .args(["--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", env!("CARGO_BIN_EXE_vfguard"), "--root"])
            .arg(machine.root())
            .args(args)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    };
    let (done, text) = run(&["prepare", &kernel, "--driver", "demo"]);
    assert!(done, "{text}");
    let log = log_of(&machine, &kernel);
    let said = "this build may take 1024 MB and 100000 files, on the disk and watched (no mount namespace can be made";
    assert!(log.contains(said) && log.contains("no cgroup (below another root no service is called)"), "{log}");
    let (_, text) = run(&["-v", "doctor"]);
    assert!(text.contains("on the disk and watched (vfguard can mount nothing)"), "{text}");
    nothing_is_left(&machine);
}
