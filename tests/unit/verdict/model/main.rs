//! The gate against a model: steps that may happen to a machine, in any order. After each look of vfguard four things must hold.
//!
//! 1. The gate is open only if the next, one-shot, fallback and wanted kernels are all safe, or an override that covers the unsafe ones is
//!    active, or the mode or the place says that vfguard does not act.
//! 2. If all of them are safe, the gate is open.
//! 3. If the mode or the command line says that nothing is held, no hold keeps the default off a safe kernel, unless a person declined that
//!    kernel.
//! 4. No run moves the default to a declined kernel. If all is safe, the default is the kernel that is wanted instead.
//!
//! The model knows only what a person would: which kernels drive the card, what the packages made the default, and what the boot loader's
//! files say. `VFGUARD_MODEL_SEEDS=N` runs more sequences. A failure names its seed, and `VFGUARD_MODEL_SEED=S` repeats it and prints every
//! step.
#![allow(clippy::print_stderr)] // that story

#[path = "../../../machine/mod.rs"]
mod machine;
mod step;
mod take;

use machine::kernels::Random;
use machine::Machine;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use step::Step;
use vfguard::boot;
use vfguard::gate::{self, State};
use vfguard::host::Host;

const SEEDS: u64 = 40;
const STEPS: usize = 30;

struct Over {
    kernels: Vec<String>,
    /// Seconds that are left by the clock and by the time since boot.
    left: (i64, i64),
}

struct Model {
    machine: Machine,
    host: Host,
    kernels: BTreeMap<u64, (String, bool)>,
    running: String,
    /// The kernel that was last made the default by a package, an admin or vfguard.
    wanted: Option<String>,
    /// That kernel was removed, so the first of the menu is wanted while the default is held elsewhere.
    gone: bool,
    declined: BTreeSet<String>,
    over: Option<Over>,
    uptime: i64,
    boots: u64,
    next_number: u64,
    /// The disk changed, or time passed, since vfguard looked.
    dirty: bool,
    observed: bool,
    /// The special mode of this boot on the command line; with any, nothing is refused.
    word: &'static str,
}

fn name(number: u64) -> String {
    format!("6.1.0-{number}-amd64")
}

impl Model {
    fn new() -> Model {
        let machine = Machine::new().with_card();
        let host = Host::new(machine.root()).unwrap();
        let mut model = Model {
            machine,
            host,
            kernels: BTreeMap::new(),
            running: name(10),
            wanted: None,
            gone: false,
            declined: BTreeSet::new(),
            over: None,
            uptime: 1000,
            boots: 0,
            next_number: 10,
            dirty: false,
            observed: false,
            word: "",
        };
        model.install(&name(10), true);
        model.booted(name(10), "");
        model
    }

    fn install(&mut self, kernel: &str, good: bool) {
        self.add(kernel, good);
        self.set_default(kernel);
    }

    fn add(&mut self, kernel: &str, good: bool) {
        let number = self.next_number;
        self.next_number += 1;
        self.machine.add_kernel(kernel, good);
        self.kernels.insert(number, (kernel.to_owned(), good));
    }

    fn entry(&self, variable: &str) -> Option<String> {
        self.machine.env(variable).filter(|kernel| self.kernels.values().any(|(k, _)| k == kernel))
    }

    fn set_default(&mut self, kernel: &str) {
        self.machine.set_env("saved_entry", Some(kernel));
        self.wants(kernel);
    }

    fn wants(&mut self, kernel: &str) {
        (self.wanted, self.gone) = (Some(kernel.to_owned()), false);
    }

    fn first(&self) -> String {
        self.kernels.values().next_back().unwrap().0.clone()
    }

    /// The kernels that GRUB starts: one-shot, and by default.
    fn next(&self) -> (Option<String>, String) {
        (self.entry("next_entry"), self.entry("saved_entry").unwrap_or_else(|| self.first()))
    }

    fn good(&self, kernel: &str) -> bool {
        self.kernels.values().any(|(k, good)| k == kernel && *good)
    }

    /// The wanted kernel. For a declined kernel that does not boot, it is the newest later one, if any.
    fn wanted(&self) -> Option<String> {
        let there = |k: &String| self.kernels.values().any(|(name, _)| name == k);
        let wanted = if self.gone { Some(self.first()) } else { self.wanted.clone().filter(there) }?;
        let number = self.kernels.iter().find(|(_, (name, _))| *name == wanted).map(|(number, _)| *number)?;
        if !self.declined.contains(&wanted) || self.next().1 == wanted {
            return Some(wanted);
        }
        let later = self.kernels.range(number + 1..).rev().map(|(_, (name, _))| name);
        later.into_iter().find(|name| !self.declined.contains(*name)).cloned()
    }

    fn unsafe_ones(&self) -> Vec<String> {
        let (once, next) = self.next();
        let wanted = self.wanted();
        let all = [once, Some(next), self.entry("fallback"), wanted];
        let mut bad: Vec<String> = all.into_iter().flatten().filter(|k| !self.good(k)).collect();
        bad.sort();
        bad.dedup();
        bad
    }

    fn time(&mut self, by_clock: i64, by_boot: i64) {
        self.uptime += by_boot;
        self.machine.put("proc/uptime", &format!("{}.00 1.00\n", self.uptime));
        if let Some(over) = &mut self.over {
            over.left = (over.left.0 - by_clock, over.left.1 - by_boot);
        }
        // The clock of the test's machine cannot be moved, so the stored times are moved instead.
        let path = self.machine.path("run/vfguard/override.json");
        if let Ok(text) = fs::read_to_string(&path) {
            let mut stored: serde_json::Value = serde_json::from_str(&text).unwrap();
            for key in ["since", "until"] {
                stored[key] = (stored[key].as_i64().unwrap() - by_clock).into();
            }
            fs::write(&path, stored.to_string()).unwrap();
        }
    }

    fn booted(&mut self, kernel: String, word: &'static str) {
        self.word = word;
        self.machine.put("proc/cmdline", &format!("root=/dev/vda1 ro {word}\n"));
        let _ = fs::remove_dir_all(self.machine.path("run"));
        self.boots += 1;
        self.uptime = 20;
        self.machine.put("proc/uptime", "20.00 1.00\n");
        self.machine.put("proc/sys/kernel/random/boot_id", &format!("boot-{}\n", self.boots));
        self.machine.put("proc/sys/kernel/osrelease", &format!("{kernel}\n"));
        self.running = kernel;
        self.over = None;
        self.dirty = true;
    }

    fn hook(&mut self) {
        let before = self.entry("saved_entry");
        let run = self.machine.run(&["-q", "reconcile", "--from", "model"]);
        assert!(matches!(run.code, 0 | 3), "reconcile ended with {}: {}{}", run.code, run.stdout, run.stderr);
        self.decided(before);
    }

    /// After a run that decided, and that found this default.
    fn decided(&mut self, before: Option<String>) {
        self.dirty = false;
        let after = self.entry("saved_entry").filter(|after| Some(after) != before.as_ref());
        if let Some(after) = after.filter(|after| *after != self.running) {
            assert!(!self.declined.contains(&after), "the default went to {after}, which is declined");
        }
        let next = self.next().1;
        if self.wanted().is_some_and(|wanted| next == wanted) {
            // This kernel is the default now, and a later hold keeps it off.
            self.wants(&next);
        }
        if self.entry("saved_entry").is_none() {
            // No record names a wanted kernel, so the menu's first is wanted.
            (self.wanted, self.gone) = (None, false);
        }
    }

    fn hands_off(&self) -> bool {
        self.observed || !self.word.is_empty()
    }

    fn check(&self) {
        if self.hands_off() {
            assert_ne!(gate::state(&self.host).state, State::Closed, "closed where nothing may be refused");
            let left = (self.observed || self.word == "vfguard=off").then(|| boot::held(&self.host)).flatten();
            if let Some(hold) = left.filter(|hold| !self.dirty && hold.declined.is_none()) {
                assert!(!self.good(hold.wanted.as_str()), "left held where nothing is, though {} is safe", hold.wanted);
            }
            return;
        }
        let bad = self.unsafe_ones();
        let covered =
            self.over.as_ref().is_some_and(|o| o.left.0 > 0 && o.left.1 > 0 && bad.iter().all(|k| o.kernels.contains(k)));
        let state = gate::state(&self.host).state;
        if !bad.is_empty() && !covered {
            assert_eq!(state, State::Closed, "not closed although unsafe: {bad:?}");
        }
        if !self.dirty && bad.is_empty() {
            assert_ne!(state, State::Closed, "closed although all is safe");
            if let Some(wanted) = self.wanted() {
                assert_eq!(self.next().1, wanted, "wanted, safe, and not promoted");
            }
        }
    }
}

fn play(seed: u64, tell: bool) {
    let mut random = Random::new(seed);
    let mut model = Model::new();
    model.hook();
    let mut story = Vec::new();
    for _ in 0..STEPS {
        let step = Step::choose(&model, &mut random);
        story.push(format!("{step:?}"));
        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            model.take(&step);
            if !model.dirty {
                model.check();
            }
        }));
        if tell {
            let gate = gate::state(&model.host);
            let (next, wanted, bad, declined) = (model.next(), model.wanted(), model.unsafe_ones(), &model.declined);
            eprintln!(
                "{step:?}\n    next {next:?} wanted {wanted:?} declined {declined:?} unsafe {bad:?} gate {:?} {:?}",
                gate.state, gate.reason
            );
        }
        if let Err(e) = played {
            eprintln!("seed {seed} fails after: {}", story.join(", "));
            std::panic::resume_unwind(e);
        }
    }
    model.hook();
    model.check();
}

#[test]
fn the_gate_is_open_exactly_if_all_that_may_boot_is_safe_or_a_person_opened_it() {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse().ok());
    if let Some(seed) = number("VFGUARD_MODEL_SEED") {
        return play(seed, true);
    }
    let seeds = number("VFGUARD_MODEL_SEEDS").unwrap_or(SEEDS);
    std::thread::scope(|scope| {
        for half in 0..2 {
            scope.spawn(move || (0..seeds).filter(|s| s % 2 == half).for_each(|seed| play(seed, false)));
        }
    });
}

#[test]
fn a_kernel_after_a_declined_one_is_refused_and_promoted_like_any_other() {
    let mut model = Model::new();
    model.hook();
    for step in Step::declined_and_later() {
        model.take(&step);
        if !model.dirty {
            model.check();
        }
    }
    assert_eq!(model.next(), (None, name(12)));
}
