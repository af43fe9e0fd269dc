//! Random schedules of the real binary. On a scratch root three actors act at the same time: hooks that decide; a person; and a package
//! manager, with a card that disappears and comes back and another tool that writes GRUB's environment. Each run sleeps at random instants;
//! with an odd seed it may be killed at one. When all have ended, one more run decides, and then:
//!
//! - P1: the gate is open only if all that may boot is safe, or an override covers the unsafe kernels;
//! - P3: if all that may boot is safe, the gate is open;
//! - P4: the kernel that the packages want is the default, is recorded as wanted, or was declined; and without an override the default is a
//!   safe kernel;
//! - no temporary file is left after a run that had the lock.
//!
//! If no run was killed, each change was followed by its hook, so P1 holds before that last run too.
//!
//! Built with `--features failpoints` (tests/run.sh build). `VFGUARD_FULL` raises the 200 seeds to 10,000. A failure prints its seed and
//! what happened; `VFGUARD_SCHEDULES_SEED=N` repeats one.
#![cfg(feature = "failpoints")]
#![allow(clippy::print_stderr)] // that story

#[path = "../../machine/mod.rs"]
mod machine;

use machine::kernels::Random;
use machine::{points, Machine};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Mutex;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant, SystemTime};
use vfguard::boot;
use vfguard::gate::{self, State};
use vfguard::host::Host;

const RUNNING: &str = "6.1.0-10-amd64";
/// How many failures of a kind are printed with all that happened.
const STORIES: usize = 2;

/// One schedule on a machine of its own.
struct Schedule {
    machine: Machine,
    host: Host,
    /// Whether runs are killed.
    deadly: bool,
    log: PathBuf,
    kernels: Mutex<Kernels>,
    /// Whether the actors have ended: runs after that are neither delayed nor killed.
    quiet: AtomicBool,
}

/// The acts of the package manager and the person.
#[derive(Default)]
struct Kernels {
    /// The installed kernels, in order; the running one is never removed.
    there: Vec<String>,
    good: BTreeSet<String>,
    /// The kernel that was last made the default, if it is still installed.
    wanted: Option<String>,
    declined: BTreeSet<String>,
    next_number: u32,
}

impl Schedule {
    fn new(seed: u64) -> Schedule {
        let machine = Machine::new().with_card().file("proc/sys/kernel/osrelease", &format!("{RUNNING}\n"));
        machine.add_kernel(RUNNING, true);
        let machine = machine.boot_default(RUNNING);
        let kernels = Kernels {
            there: vec![RUNNING.into()],
            good: [RUNNING.into()].into(),
            wanted: Some(RUNNING.into()),
            next_number: 11,
            ..Kernels::default()
        };
        Schedule {
            host: Host::new(machine.root()).unwrap(),
            log: machine.path("schedule.log"),
            deadly: seed % 2 == 1,
            machine,
            kernels: Mutex::new(kernels),
            quiet: AtomicBool::new(false),
        }
    }

    fn note(&self, line: &str) {
        let mut file = fs::File::options().append(true).create(true).open(&self.log).unwrap();
        std::io::Write::write_all(&mut file, format!("{line}\n").as_bytes()).unwrap();
    }

    /// Runs a command to its end. Returns whether it may have had its effect: it succeeded, or it was killed.
    fn run(&self, random: &mut Random, args: &[&str]) -> bool {
        let mut command = self.machine.command(args);
        if !self.quiet.load(Ordering::Relaxed) {
            let seed = random.below(1 << 40) * 2 + u64::from(self.deadly);
            command.env("VFGUARD_SCHEDULE", seed.to_string()).env("VFGUARD_SCHEDULE_LOG", &self.log);
        }
        self.note(&format!("starts: {}", args.join(" ")));
        let output = command.output().unwrap();
        self.note(&format!("ended: {}: {}", args.join(" "), output.status));
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        text.lines().for_each(|line| self.note(&format!("    {line}")));
        let killed = output.status.signal() == Some(9) && self.deadly;
        // Unsafe, undecided, locked; no other exit code is allowed.
        assert!(killed || matches!(output.status.code(), Some(0 | 1 | 3 | 4)), "{args:?}: {}: {text}", output.status);
        killed || output.status.success()
    }

    /// The actor for hooks, the watch and the timer.
    fn deciders(&self, random: &mut Random) {
        for _ in 0..=random.below(3) {
            sleep(random.moment(40));
            let from = *random.of(&["watch", "timer", "yum", "boot"]);
            self.run(random, &["-q", "reconcile", "--no-build", "--from", from]);
        }
    }

    fn person(&self, random: &mut Random) {
        for _ in 0..=random.below(2) {
            sleep(random.moment(60));
            let kernel = random.of(&self.kernels.lock().unwrap().there).clone();
            match random.below(6) {
                0 => self.run(random, &["-q", "gate", "open", "--reason", "x"]),
                1 => self.run(random, &["-q", "gate", "open", "--reason", "x", "--kernel", &kernel]),
                2 => self.run(random, &["-q", "gate", "close"]),
                3 => self.run(random, &["check"]),
                _ => {
                    let declined = self.run(random, &["-q", "decline", &kernel]);
                    if declined {
                        self.kernels.lock().unwrap().declined.insert(kernel);
                    }
                    declined
                }
            };
        }
    }

    /// The actor for packages, their hooks after each change, and other changes of the machine.
    fn packages(&self, random: &mut Random) {
        for _ in 0..=random.below(3) {
            sleep(random.moment(20));
            match random.below(10) {
                0..=3 => self.install(random),
                4 => self.remove(random),
                5 | 6 => self.driver(random),
                7 | 8 => {
                    self.note("the card goes");
                    self.machine.plug(false);
                    sleep(random.moment(40));
                    self.note("the card is back");
                    self.machine.plug(true);
                }
                _ => {
                    self.note("another tool writes the environment");
                    let value = random.below(100).to_string();
                    self.machine.editenv("other", Some(&value), [random.moment(3), random.moment(3)]);
                    continue;
                }
            }
            self.run(random, &["-q", "reconcile", "--no-build", "--from", "yum"]);
        }
    }

    fn install(&self, random: &mut Random) {
        let good = random.below(3) == 0;
        let kernel = {
            let mut kernels = self.kernels.lock().unwrap();
            let kernel = format!("6.1.0-{}-amd64", kernels.next_number);
            kernels.next_number += 1;
            if good {
                kernels.good.insert(kernel.clone());
            }
            kernel
        };
        self.note(&format!("{kernel} is installed, good: {good}"));
        self.machine.add_kernel(&kernel, good);
        self.kernels.lock().unwrap().there.push(kernel.clone());
        sleep(random.moment(10));
        self.set_default(random, &kernel);
    }

    fn set_default(&self, random: &mut Random, kernel: &str) {
        let entry = format!("{}-{kernel}", machine::MACHINE_ID);
        self.note(&format!("the default is being set to {kernel}"));
        self.machine.editenv("saved_entry", Some(&entry), [random.moment(2), random.moment(2)]);
        self.note(&format!("the default was set to {kernel}"));
        self.kernels.lock().unwrap().wanted = Some(kernel.to_owned());
    }

    fn remove(&self, random: &mut Random) {
        let others: Vec<String> = self.kernels.lock().unwrap().there.iter().filter(|k| *k != RUNNING).cloned().collect();
        if others.is_empty() {
            return;
        }
        let kernel = random.of(&others).clone();
        self.note(&format!("{kernel} is removed"));
        let first = {
            let mut kernels = self.kernels.lock().unwrap();
            kernels.there.retain(|k| *k != kernel);
            kernels.wanted = kernels.wanted.take().filter(|k| *k != kernel);
            kernels.there.last().unwrap().clone()
        };
        self.machine.remove_kernel(&kernel);
        // As grubby does when the default kernel is removed.
        if self.machine.env("saved_entry").as_ref() == Some(&kernel) {
            self.set_default(random, &first);
        }
    }

    /// A driver is installed or removed.
    fn driver(&self, random: &mut Random) {
        let mut kernels = self.kernels.lock().unwrap();
        let kernel = random.of(&kernels.there).clone();
        let good = kernel == RUNNING || random.below(4) != 0;
        if good {
            kernels.good.insert(kernel.clone());
        } else {
            kernels.good.remove(&kernel);
        }
        self.note(&format!("{kernel} drives the card: {good}"));
        self.machine.drives(&kernel, good);
    }

    /// The kernel that GRUB starts by default; a saved one that was removed does not count.
    fn default(&self, there: &[String]) -> Option<String> {
        self.machine.env("saved_entry").filter(|k| there.contains(k)).or_else(|| there.last().cloned())
    }

    fn may_boot(&self) -> Vec<String> {
        let kernels = self.kernels.lock().unwrap();
        let there = |k: &String| kernels.there.contains(k);
        let next = self.default(&kernels.there);
        let wanted = boot::held(&self.host).map(|hold| hold.wanted.to_string()).filter(there);
        [self.machine.env("next_entry").filter(there), next, wanted].into_iter().flatten().collect()
    }

    /// The unsafe kernels that may boot, and whether an override covers them.
    fn unsafe_ones(&self) -> (Vec<String>, bool) {
        let good = self.kernels.lock().unwrap().good.clone();
        let bad: Vec<String> = self.may_boot().into_iter().filter(|k| !good.contains(k)).collect();
        let named: Vec<_> = bad.iter().map(|k| k.parse().unwrap()).collect();
        let covered = gate::active_override(&self.host).is_some_and(|o| o.covers(&named));
        (bad, covered)
    }

    fn p1(&self) -> Result<(), String> {
        let (mut bad, covered) = self.unsafe_ones();
        let state = gate::state(&self.host).state;
        if state == State::Overridden {
            // A held-off kernel does not boot, and the override names the kernels that may.
            let held_off = boot::held(&self.host).map(|hold| hold.wanted.to_string());
            bad.retain(|kernel| Some(kernel) != held_off.as_ref());
        }
        let refused = state == State::Closed || bad.is_empty() || covered;
        refused.then_some(()).ok_or_else(|| format!("P1: the gate is {state:?}, and {bad:?} may boot"))
    }

    fn p3(&self) -> Result<(), String> {
        let (bad, _) = self.unsafe_ones();
        let closed = bad.is_empty() && gate::state(&self.host).state == State::Closed;
        (!closed).then_some(()).ok_or_else(|| "P3: the gate is closed, and all is safe".into())
    }

    fn p4(&self) -> Result<(), String> {
        let (_, covered) = self.unsafe_ones();
        let kernels = self.kernels.lock().unwrap();
        let saved = self.default(&kernels.there);
        let recorded = boot::Hold::read(&self.host).map(|hold| hold.wanted.to_string());
        let marked = self.machine.env("vfguard_wanted");
        if let Some(wanted) = kernels.wanted.as_ref().filter(|k| !kernels.declined.contains(*k)) {
            if ![&saved, &recorded, &marked].contains(&&Some(wanted.clone())) {
                return Err(format!("P4: {wanted} is forgotten: default {saved:?}, hold {recorded:?}, mark {marked:?}"));
            }
        }
        match saved {
            Some(saved) if !kernels.good.contains(&saved) && !covered => {
                Err(format!("P4: the default is {saved}, which is not safe"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Asserts that after a run with the lock no files of killed runs are left.
    fn swept(&self, random: &mut Random) -> Result<(), String> {
        let left = self.machine.temporaries();
        if !left.is_empty() {
            // As old as a file that no process is still writing.
            let old = SystemTime::now() - Duration::from_secs(24 * 3600);
            left.iter().for_each(|path| fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap());
            self.run(random, &["-q", "gate", "close"]);
            self.run(random, &["-q", "reconcile", "--no-build"]);
        }
        let left = self.machine.temporaries();
        left.is_empty().then_some(()).ok_or_else(|| format!("temporary files are left: {left:?}"))
    }

    fn play(&self, random: &mut Random) -> Result<(), String> {
        self.run(random, &["-q", "reconcile", "--no-build"]);
        let seeds = [random.below(1 << 60), random.below(1 << 60), random.below(1 << 60)];
        scope(|scope| {
            scope.spawn(|| self.deciders(&mut Random::new(seeds[0])));
            scope.spawn(|| self.person(&mut Random::new(seeds[1])));
            scope.spawn(|| self.packages(&mut Random::new(seeds[2])));
        });
        self.quiet.store(true, Ordering::Relaxed);
        if !self.deadly {
            self.p1().map_err(|e| format!("before the last run, {e}"))?;
        }
        self.run(random, &["-q", "reconcile", "--no-build"]);
        self.p1().and(self.p3()).and(self.p4()).and_then(|()| self.swept(random))
    }

    fn story(&self) -> String {
        let hold = fs::read_to_string(self.machine.path("var/lib/vfguard/records/hold.json")).unwrap_or_default();
        let env = fs::read_to_string(self.machine.path(machine::kernels::ENV)).unwrap_or_default();
        format!("{}{hold}\n{}", fs::read_to_string(&self.log).unwrap_or_default(), env.trim_end_matches('#'))
    }
}

/// The results of all schedules.
#[derive(Default)]
struct Figures {
    runs: AtomicU64,
    sleeps: AtomicU64,
    kills: AtomicU64,
    reached: Mutex<BTreeSet<String>>,
    /// The kind of each failure.
    failures: Mutex<Vec<String>>,
}

impl Figures {
    fn count(&self, log: &str) {
        let is = |what: fn(&str) -> bool| log.lines().filter(|l| what(l)).count() as u64;
        self.runs.fetch_add(is(|l| l.starts_with("starts: ")), Ordering::Relaxed);
        self.sleeps.fetch_add(is(|l| l.ends_with(" us") && !l.ends_with(": 0 us")), Ordering::Relaxed);
        self.kills.fetch_add(is(|l| l.ends_with(": killed")), Ordering::Relaxed);
        let points = log.lines().filter_map(|l| l.split_once(' ')?.1.split_once(':')).map(|(point, _)| point.to_owned());
        self.reached.lock().unwrap().extend(points);
    }

    fn play(&self, seed: u64, tell: bool) {
        let schedule = Schedule::new(seed);
        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| schedule.play(&mut Random::new(seed))));
        let story = schedule.story();
        self.count(&story);
        let Err(why) = played.unwrap_or_else(|_| Err("a run or an actor ended as none should".into())) else {
            return if tell {
                eprintln!("{story}")
            };
        };
        let mut failures = self.failures.lock().unwrap();
        eprintln!("seed {seed}: {why} (again: VFGUARD_SCHEDULES_SEED={seed})");
        let kind = why.split(':').next().unwrap_or_default().to_owned();
        if failures.iter().filter(|known| **known == kind).count() < STORIES {
            eprintln!("{story}");
        }
        failures.push(kind);
    }
}

#[test]
fn for_any_interleaving_and_any_killed_run_gate_and_default_end_in_the_right_state() {
    // No test here is about durability, and syncing to a disk would take longer than everything else.
    if std::path::Path::new("/dev/shm").is_dir() {
        std::env::set_var("TMPDIR", "/dev/shm");
    }
    let figures = Figures::default();
    if let Some(seed) = std::env::var("VFGUARD_SCHEDULES_SEED").ok().and_then(|s| s.parse().ok()) {
        figures.play(seed, true);
        assert!(figures.failures.into_inner().unwrap().is_empty());
        return;
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse().ok());
    let full = std::env::var_os("VFGUARD_FULL").is_some();
    let seeds = number("VFGUARD_SCHEDULES").unwrap_or(if full { 10_000 } else { 200 });
    // Most of the time is spent sleeping.
    let workers = 2 * std::thread::available_parallelism().map_or(2, |n| n.get()) as u64;
    let start = Instant::now();
    scope(|scope| {
        for worker in 0..workers {
            let figures = &figures;
            scope.spawn(move || (worker..seeds).step_by(workers as usize).for_each(|seed| figures.play(seed, false)));
        }
    });
    let [runs, sleeps, kills] =
        [&figures.runs, &figures.sleeps, &figures.kills].map(|figure| figure.load(Ordering::Relaxed));
    let failures = figures.failures.into_inner().unwrap();
    println!(
        "{seeds} schedules in {:?}: {runs} runs, {sleeps} pauses, {kills} kills, {} failures",
        start.elapsed(),
        failures.len()
    );
    assert!(failures.is_empty(), "{} of {seeds} schedules failed", failures.len());
    let reached = figures.reached.into_inner().unwrap();
    let missed: Vec<_> = points::BETWEEN.iter().filter(|p| !reached.contains(**p)).collect();
    assert!(seeds < 200 || missed.is_empty(), "no schedule comes to {missed:?}");
    assert!(sleeps > seeds && kills > seeds / 4, "too little happens: {sleeps} pauses, {kills} kills");
}
