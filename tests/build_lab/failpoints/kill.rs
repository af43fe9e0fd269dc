//! Killed at each dangerous instant, killed at any moment, and terminated. Afterwards the gate is closed or the next boot is proven, every
//! good module is unchanged to the byte, no process is left, and the next run completes the work.
//!
//! Built with `--features failpoints` (tests/run.sh build); `VFGUARD_FULL` raises the 20 random moments to 200.

use crate::machine::lab::Lab;
use crate::machine::{points, Machine};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const GATE: &str = "run/systemd/system/reboot.target.d/50-vfguard.conf";
/// How long the programs of a killed run may take to end.
const ORPHANS: Duration = Duration::from_secs(2);

/// The failpoints that a `reconcile` for a new kernel passes, in order.
const RECONCILE: [&str; 17] = [
    "record-before-rename",
    "gate-recorded-before-files",
    "gate-written-before-confirmed",
    "hold-recorded-before-move",
    "grubenv-before-write",
    "grubenv-before-sync",
    "verified-before-install",
    "temporary-before-rename",
    "renamed-before-sync",
    "installed-before-depmod",
    "depmod-before-proof",
    "proven-before-settled",
    "promoted-before-record",
    "gate-compared-before-opening",
    "gate-removed-in-part",
    "gate-removed-before-reload",
    "gate-removed-before-record",
];
/// The failpoints of replacing a good module.
const REPLACE: [&str; 6] = [
    "verified-before-install",
    "temporary-before-rename",
    "renamed-before-sync",
    "installed-before-depmod",
    "depmod-before-proof",
    "proven-before-settled",
];
/// The failpoints that need a test of their own: the last test here, `initramfs` here, `freeze_live`, `gate_kill`.
const ELSEWHERE: [&str; 4] =
    ["restored-before-depmod", "initramfs-before-rename", "frozen-before-thaw", "pass-given-before-opening"];

/// The state after a run that died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Left {
    /// The gate is closed.
    Closed,
    /// The gate is open, and the next boot is proven.
    Safe,
    /// Nothing has changed: the run had not reached the gate yet.
    Untouched,
}

/// A machine that runs K1 on a module of ours, on which K2 has just been installed.
struct Stage {
    machine: Machine,
    k1: String,
    k2: String,
    good: Vec<u8>,
}

impl Stage {
    fn new() -> Stage {
        let lab = Lab::open();
        let (k1, k2) = (lab.get("K_PREV").to_owned(), lab.get("K_NEW").to_owned());
        let machine = lab.install(lab.machine().grub().running(&k1).demo(&lab), &k1);
        let run = machine.run(&["prepare", &k1]);
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        let machine = lab.install(machine, &k2);
        let good = fs::read(module(&machine, &k1)).unwrap();
        Stage { machine, k1, k2, good }
    }

    /// The state when K2 had just been installed.
    fn again(self) -> Stage {
        let Stage { machine, k1, k2, good } = self;
        let _ = fs::remove_dir_all(machine.path(&format!("lib/modules/{k2}/updates")));
        assert!(depmod(&machine, &k2));
        let machine = machine.boot_default(&k2);
        assert_eq!(machine.run(&["check"]).code, 3, "K2 is to be unsafe again");
        Stage { machine, k1, k2, good }
    }

    fn start(&self) -> Child {
        let reconcile = self.machine.command(&["reconcile", "--from", "test"]);
        // A shell ignores some signals in the programs that it starts in the background, as the tests may be.
        let mut command = Command::new("env");
        command.arg("--default-signal=INT,TERM,HUP").arg(reconcile.get_program()).args(reconcile.get_args());
        quiet(command).spawn().unwrap()
    }

    /// What must hold in any state in which the run ended.
    fn holds(&self, when: &str) -> Left {
        let check = self.machine.run(&["--format", "json", "check"]);
        let closed = check.json()["gate"] == "closed";
        let entry = self.machine.saved_entry();
        let left = match (closed, check.code) {
            (true, _) => Left::Closed,
            (false, 0) => Left::Safe,
            (false, 3) => {
                self.is_untouched(when);
                Left::Untouched
            }
            (false, code) => panic!("{when}: open, and check ends with {code}: {}", check.stdout),
        };
        assert!(fs::read(module(&self.machine, &self.k1)).unwrap() == self.good, "{when}: K1's module is another");
        assert_eq!(self.machine.run(&["check", &self.k1]).code, 0, "{when}: K1 is not good any more");
        assert!(entry == self.k1 || entry == self.k2, "{when}: the boot default is {entry}");
        left
    }

    /// The gate is open on a kernel that is not safe. So the run must have died before it closed the gate, which it does first, in parallel
    /// with holding the default. The unit that systemd starts when a run dies must then close the gate.
    fn is_untouched(&self, when: &str) {
        let machine = &self.machine;
        let begun = format!("lib/modules/{}/updates", self.k2);
        assert!(!machine.path(&begun).exists(), "{when}: the gate is open, and {begun} is there");
        let builds = fs::read_dir(machine.path("var/cache/vfguard/build")).unwrap().count();
        assert_eq!(builds, 0, "{when}: the gate is open, and a build had begun");
        let script = include_str!("../../../packaging/systemd/fail-closed");
        assert!(script.contains("/usr/bin/vfguard --no-progress gate close --undecided"), "another command fails closed");
        let close = machine.run(&["--no-progress", "gate", "close", "--undecided"]);
        assert_eq!(close.code, 0, "{when}: {}", close.stderr);
        assert_eq!(machine.run(&["--format", "json", "check"]).json()["gate"], "closed", "{when}");
        assert_eq!(machine.saved_entry(), self.k1, "{when}: the default is not held");
    }

    /// The next run completes the work of the killed one, and removes what it left.
    fn recovers(&self, when: &str) {
        let run = self.machine.run(&["reconcile"]);
        assert_eq!(run.code, 0, "after {when}: {}{}", run.stdout, run.stderr);
        assert!(!self.machine.path(GATE).exists(), "after {when} the gate stayed closed");
        assert_eq!(self.machine.saved_entry(), self.k2, "after {when} the boot default is not promoted");
        is_good(&self.machine, &self.k2);
        let run = self.machine.run(&["reconcile"]);
        assert!(
            run.code == 0 && !run.stderr.contains("vfguard:") && !run.stdout.contains("vfguard:"),
            "{when}: {}",
            run.stdout
        );
        assert_eq!(left_behind(&self.machine), [] as [PathBuf; 0], "after {when}");
    }
}

fn module(machine: &Machine, kernel: &str) -> PathBuf {
    machine.path(&format!("lib/modules/{kernel}/updates/vfguard/demo.ko"))
}

fn depmod(machine: &Machine, kernel: &str) -> bool {
    Command::new("depmod").arg("-b").arg(machine.root()).arg(kernel).status().unwrap().success()
}

fn quiet(mut command: Command) -> Command {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Asserts that the installed module is complete and right, and that modprobe would load it.
fn is_good(machine: &Machine, kernel: &str) {
    let file = module(machine, kernel);
    let verify = machine.run(&["verify", file.to_str().unwrap(), "--kernel", kernel]);
    assert_eq!(verify.code, 0, "{}{}", verify.stdout, verify.stderr);
    let dep = fs::read_to_string(machine.path(&format!("lib/modules/{kernel}/modules.dep"))).unwrap();
    assert_eq!(dep, "updates/vfguard/demo.ko:\n");
}

/// Temporary files, previous files, build directories.
fn left_behind(machine: &Machine) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo: Vec<PathBuf> = ["lib", "var/cache"].iter().map(|d| machine.path(d)).collect();
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(".vfguard-") || name.ends_with(".former") || name.starts_with("run-") {
                found.push(entry.path());
            } else if entry.file_type().unwrap().is_dir() {
                todo.push(entry.path());
            }
        }
    }
    found
}

/// Processes except vfguard's own that name the machine's root in their arguments or work below it.
fn living(root: &Path) -> Vec<String> {
    let word = root.display().to_string();
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit()))
        .filter(|e| e.file_name().to_string_lossy() != std::process::id().to_string())
        .filter_map(|e| {
            let line = String::from_utf8_lossy(&fs::read(e.path().join("cmdline")).ok()?).replace('\0', " ");
            let cwd = fs::read_link(e.path().join("cwd")).unwrap_or_default();
            (line.contains(&word) || cwd.starts_with(root)).then_some(line)
        })
        .collect()
}

fn nothing_lives_on(machine: &Machine, when: &str) {
    let start = Instant::now();
    loop {
        let living = living(machine.root());
        if living.is_empty() {
            return;
        }
        assert!(start.elapsed() < ORPHANS, "{when}: {living:?} outlived vfguard");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The duration of an undisturbed run.
fn whole_run(stage: &Stage) -> Duration {
    let start = Instant::now();
    assert!(stage.start().wait().unwrap().success());
    start.elapsed()
}

#[test]
fn something_is_killed_at_each_dangerous_instant_in_the_sources() {
    let mut found = BTreeSet::new();
    let mut todo = vec![PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                todo.push(entry.path());
            } else {
                let text = fs::read_to_string(entry.path()).unwrap();
                for call in ["failpoint::hit(\"", "failpoint::is_wanted(\""] {
                    found.extend(text.split(call).skip(1).map(|r| r.split('"').next().unwrap().to_owned()));
                }
            }
        }
    }
    let known = RECONCILE.iter().chain(&REPLACE).chain(&ELSEWHERE).chain(&points::BETWEEN).chain(&points::ALONE);
    let known: BTreeSet<String> = known.map(|p| (*p).to_owned()).collect();
    assert_eq!(found, known);
}

#[test]
fn a_reconcile_killed_at_a_dangerous_instant_leaves_no_open_gate_and_the_next_one_completes_it() {
    let mut stage = Stage::new();
    for point in RECONCILE {
        stage = stage.again();
        let status = quiet(stage.machine.command(&["reconcile"])).env("VFGUARD_FAILPOINT", point).status().unwrap();
        assert_eq!(status.code(), None, "{point} was not reached");
        nothing_lives_on(&stage.machine, point);
        let left = stage.holds(point);
        let expected = match point {
            // The default is held in parallel with closing the gate: neither waits for the other.
            "record-before-rename" | "gate-recorded-before-files" | "hold-recorded-before-move" => left != Left::Safe,
            "grubenv-before-write" | "grubenv-before-sync" => left != Left::Safe,
            "gate-removed-in-part" | "gate-removed-before-reload" | "gate-removed-before-record" => left == Left::Safe,
            _ => left == Left::Closed,
        };
        assert!(expected, "{point}: {left:?}");
        stage.recovers(point);
        println!("killed at {point}: held, recovered");
    }
}

#[test]
fn a_good_module_that_is_being_replaced_is_never_lost() {
    let stage = Stage::new();
    let (machine, k1) = (&stage.machine, &stage.k1);
    for point in REPLACE {
        let rebuild = ["prepare", k1, "--driver", "demo", "--rebuild"];
        let status = quiet(machine.command(&rebuild)).env("VFGUARD_FAILPOINT", point).status().unwrap();
        assert_eq!(status.code(), None, "{point} was not reached");
        assert!(fs::read(module(machine, k1)).unwrap() == stage.good, "{point}: the same source, another module");
        is_good(machine, k1);
        assert_eq!(machine.run(&["check", k1]).code, 0, "{point}");
        assert_eq!(machine.run(&rebuild).code, 0, "after {point}");
        assert_eq!(left_behind(machine), [] as [PathBuf; 0], "after {point}");
    }
}

#[test]
fn killed_while_it_undoes_a_failed_installation_the_previous_module_is_there() {
    let stage = Stage::new();
    let Stage { machine, k1, good, .. } = stage;
    // Somebody's other copy, and a search order that prefers it: the check after the installation fails, and it is undone.
    let extra = machine.path(&format!("lib/modules/{k1}/extra"));
    fs::create_dir_all(&extra).unwrap();
    fs::copy(module(&machine, &k1), extra.join("demo.ko")).unwrap();
    let machine = machine.file("etc/depmod.d/local.conf", "search extra updates built-in\n");
    let rebuild = ["prepare", &k1, "--driver", "demo", "--rebuild"];
    let status = quiet(machine.command(&rebuild)).env("VFGUARD_FAILPOINT", ELSEWHERE[0]).status().unwrap();
    assert_eq!(status.code(), None, "{} was not reached", ELSEWHERE[0]);
    assert!(fs::read(module(&machine, &k1)).unwrap() == good);
    fs::remove_dir_all(&extra).unwrap();
    fs::remove_file(machine.path("etc/depmod.d/local.conf")).unwrap();
    assert_eq!(machine.run(&["prepare", &k1, "--driver", "demo"]).code, 0);
    is_good(&machine, &k1);
    assert_eq!(left_behind(&machine), [] as [PathBuf; 0]);
}

#[test]
fn killed_at_any_moment_of_a_reconcile_nothing_is_lost_and_the_next_run_succeeds() {
    let kills: u32 = if std::env::var_os("VFGUARD_FULL").is_some() { 200 } else { 20 };
    let mut stage = Stage::new();
    let whole = whole_run(&stage);
    let (mut left, mut ended) = (BTreeMap::new(), 0);
    // Moments spread by the golden ratio: early and late ones are equally frequent, and no two are the same. (There is no seed, so the test
    // repeats exactly.)
    for n in 0..kills {
        stage = stage.again();
        let mut child = stage.start();
        let at = whole.mul_f64(f64::from(n + 1) * 0.618_034 % 1.0);
        std::thread::sleep(at);
        let _ = child.kill();
        ended += u32::from(child.wait().unwrap().success());
        let when = format!("kill {n} after {at:?}");
        nothing_lives_on(&stage.machine, &when);
        *left.entry(stage.holds(&when)).or_insert(0) += 1;
        stage.recovers(&when);
    }
    println!(
        "kill -9 in a reconcile of {whole:?}: {kills} kills, {ended} of them after its end; left {left:?}; all recovered"
    );
    assert!(left.contains_key(&Left::Closed), "the moments miss the run");
}

#[test]
fn a_signal_ends_its_children_too_and_the_gate_stays_closed() {
    let mut stage = Stage::new();
    let whole = whole_run(&stage);
    // Not HUP: a terminal that goes away does not end a run (tests/unit/cli/terminal.rs).
    for signal in ["TERM", "INT"] {
        for part in [0.0, 0.1, 0.3] {
            stage = stage.again();
            let mut child = stage.start();
            // Counted from the moment at which the build has begun.
            while fs::read_dir(stage.machine.path("var/cache/vfguard/build")).map_or(0, Iterator::count) == 0 {
                assert!(child.try_wait().unwrap().is_none(), "it ended before it built");
                std::thread::sleep(Duration::from_millis(5));
            }
            std::thread::sleep(whole.mul_f64(part));
            let id = child.id().to_string();
            assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
            let start = Instant::now();
            while child.try_wait().unwrap().is_none() {
                assert!(start.elapsed() < Duration::from_secs(10), "SIG{signal} is not obeyed");
                std::thread::sleep(Duration::from_millis(5));
            }
            let when = format!("SIG{signal} at {part}");
            nothing_lives_on(&stage.machine, &when);
            let left = stage.holds(&when);
            // On a fast machine the last one may find the run done, or about to end.
            assert!(left == Left::Closed || (left == Left::Safe && part > 0.1), "{when}: {left:?}");
            stage.recovers(&when);
        }
        println!("SIG{signal}: 3 moments; children gone, gate closed, recovered");
    }
}
