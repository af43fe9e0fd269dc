//! Runs that overtake each other, replayed with the real binary: one is paused at a dangerous instant, something else happens to the
//! machine, and the run goes on. Built with `--features failpoints` (tests/run.sh build).
#![cfg(feature = "failpoints")]

#[path = "../../machine/mod.rs"]
mod machine;

use machine::{Machine, Run};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const OLD: &str = "6.1.0-53-amd64";
const NEW: &str = "6.1.0-54-amd64";
const LATER: &str = "6.1.0-55-amd64";
/// One of the files that refuse a reboot.
const DROP_IN: &str = "run/systemd/system/reboot.target.d/50-vfguard.conf";
const HOLD: &str = "var/lib/vfguard/records/hold.json";
/// Longer than needed on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(50);
/// The command of a hook or the watch: it decides, and builds nothing.
const DECIDE: [&str; 4] = ["reconcile", "--no-build", "--from", "yum"];

/// OLD runs and drives the card. NEW is the boot default and LATER is first in the menu; neither drives it.
fn machine() -> Machine {
    let machine = Machine::new().with_card().file("proc/sys/kernel/osrelease", &format!("{OLD}\n"));
    machine.add_kernel(OLD, true);
    machine.add_kernel(NEW, false);
    machine.add_kernel(LATER, false);
    machine.boot_default(NEW)
}

/// The same, with the default held on OLD and the gate closed.
fn held() -> Machine {
    let machine = machine();
    let run = machine.run(&DECIDE);
    assert_eq!((run.code, machine.saved_entry().as_str()), (3, OLD), "{}", said(&run));
    assert!(machine.path(DROP_IN).exists());
    machine
}

/// The same with OLD as the default: all is safe, and a person has closed the gate. The next run opens it.
fn closed_by_hand() -> Machine {
    let machine = machine().boot_default(OLD);
    assert_eq!(machine.run(&["gate", "close"]).code, 0);
    assert!(machine.path(DROP_IN).exists());
    machine
}

fn said(run: &Run) -> String {
    format!("{}{}", run.stdout, run.stderr)
}

/// Waits until another process has done something.
fn await_that(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < PATIENCE, "it did not happen: {what}");
        sleep(Duration::from_millis(5));
    }
}

/// Whether every way to reboot is refused.
fn is_closed_whole(machine: &Machine) -> bool {
    let gate = machine.run(&["--format", "json", "gate", "show"]).json();
    gate["gate"] == "closed" && gate["not_confirmed"].is_null()
}

/// Asserts that an open gate means that all kernels are safe.
fn assert_sound(machine: &Machine, story: &str) {
    let check = machine.run(&["check"]);
    assert!(is_closed_whole(machine) || check.code == 0, "the gate is not closed: {}\n{story}", said(&check));
}

/// A run of the binary that pauses at failpoints; it is killed with the test.
struct Actor {
    child: Option<Child>,
    points: tempfile::TempDir,
}

impl Actor {
    fn start(machine: &Machine, args: &[&str], pauses: &str) -> Actor {
        Actor::start_with(machine.command(args), pauses)
    }

    fn start_with(mut command: Command, pauses: &str) -> Actor {
        let points = tempfile::tempdir().unwrap();
        command.env("VFGUARD_PAUSE", pauses).env("VFGUARD_PAUSE_DIR", points.path());
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Actor { child: Some(child), points }
    }

    /// Waits until the run pauses at this point.
    fn at(&mut self, point: &str) {
        let reached = self.points.path().join(format!("{point}.reached"));
        let start = Instant::now();
        while !reached.exists() {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none() && start.elapsed() < PATIENCE, "{point} is not reached ({ended:?})");
            sleep(Duration::from_millis(2));
        }
    }

    fn go(&self, point: &str) {
        fs::write(self.points.path().join(format!("{point}.go")), "").unwrap();
    }

    fn end(mut self) -> Run {
        self.child.take().unwrap().wait_with_output().unwrap().into()
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Asserts that, with the card back, gate and hold are on as before.
fn is_held_with_the_card_back(machine: &Machine, story: &str) {
    assert_eq!(machine.saved_entry(), OLD, "the default was moved to a kernel that is not proven\n{story}");
    assert!(machine.path(HOLD).exists(), "the hold is forgotten\n{story}");
    assert!(is_closed_whole(machine), "the gate was opened\n{story}");
    machine.plug(true);
    assert_eq!(machine.run(&["check"]).code, 3);
    assert_sound(machine, story);
}

#[test]
fn a_card_that_is_absent_for_a_moment_moves_no_default_and_opens_no_gate() {
    for from in ["watch", "timer", "yum"] {
        let machine = held();
        machine.plug(false);
        let run = machine.run(&["reconcile", "--no-build", "--from", from]);
        is_held_with_the_card_back(&machine, &format!("{from}: {}", said(&run)));
    }
}

#[test]
fn a_card_that_disappears_while_a_run_waits_for_the_lock_moves_no_default_and_opens_no_gate() {
    for point in ["write-lock-before-taken", "write-lock-taken", "judged-before-decided"] {
        let machine = held();
        let mut run = Actor::start(&machine, &DECIDE, point);
        run.at(point);
        machine.plug(false);
        run.go(point);
        let run = run.end();
        is_held_with_the_card_back(&machine, &format!("{point}: {}", said(&run)));
    }
}

#[test]
fn a_card_that_comes_back_before_the_gate_opens_keeps_it_closed() {
    for point in ["safe-before-promoted", "promoted-before-open", "gate-lock-taken"] {
        let machine = held();
        machine.plug(false);
        // If the absence of a card does not count as safe, none of these points is reached.
        let mut run = Actor::start(&machine, &DECIDE, point);
        let reached = run.points.path().join(format!("{point}.reached"));
        await_that("it pauses or ends", || reached.exists() || run.child.as_mut().unwrap().try_wait().unwrap().is_some());
        machine.plug(true);
        run.go(point);
        let run = run.end();
        assert_eq!(machine.saved_entry(), OLD, "{point}: {}", said(&run));
        assert_sound(&machine, &format!("{point}: {}", said(&run)));
    }
}

#[test]
fn a_run_that_decides_holds_at_once_while_another_one_has_the_lock_of_builds() {
    let machine = closed_by_hand();
    let mut builder = Actor::start(&machine, &["reconcile"], "write-lock-taken");
    builder.at("write-lock-taken");
    let machine = machine.boot_default(NEW);
    let hook = Actor::start(&machine, &DECIDE, "");
    await_that("the default is held", || machine.saved_entry() == OLD);
    await_that("the gate is closed on NEW's account", || machine.run(&["gate", "show"]).stdout.contains(NEW));
    let hook = hook.end();
    assert_eq!(hook.code, 3, "{}", said(&hook));
    builder.go("write-lock-taken");
    let run = builder.end();
    assert_eq!((run.code, machine.saved_entry().as_str()), (3, OLD), "{}", said(&run));
    assert!(is_closed_whole(&machine), "{}", said(&run));
    assert!(fs::read_to_string(machine.path(HOLD)).unwrap().contains(NEW));
}

/// A hook installs NEW as the default while a run is about to open the gate, and has closed the gate when that run goes on.
fn closed_while_an_opener_waits(point: &str, dies: &str) {
    let machine = closed_by_hand();
    let mut command = machine.command(&["reconcile"]);
    command.env("VFGUARD_FAILPOINT", dies);
    let mut opener = Actor::start_with(command, point);
    opener.at(point);
    let machine = machine.boot_default(NEW);
    let hook = machine.run(&DECIDE);
    assert_eq!(hook.code, 3, "{}", said(&hook));
    assert!(is_closed_whole(&machine));
    opener.go(point);
    let run = opener.end();
    let story = format!("{point}, killed at {dies:?}, ended with {}: {}", run.code, said(&run));
    assert!(is_closed_whole(&machine), "a run opened what a hook had closed meanwhile: {story}");
    assert_eq!(machine.saved_entry(), OLD, "{story}");
}

#[test]
fn an_opener_does_not_open_a_gate_that_a_hook_closed_while_it_waited_for_the_lock() {
    closed_while_an_opener_waits("gate-lock-before-taken", "");
    closed_while_an_opener_waits("promoted-before-open", "");
}

#[test]
fn an_opener_killed_right_after_opening_has_not_opened_what_a_hook_closed_meanwhile() {
    closed_while_an_opener_waits("gate-lock-before-taken", "gate-removed-before-record");
}

#[test]
fn a_hook_that_waits_for_an_opener_closes_after_it_even_if_the_opener_is_killed() {
    let machine = closed_by_hand();
    let mut opener = Actor::start(&machine, &["reconcile"], "gate-removed-before-record");
    opener.at("gate-removed-before-record");
    assert!(!machine.path(DROP_IN).exists());
    let machine = machine.boot_default(NEW);
    let hook = Actor::start(&machine, &DECIDE, "");
    await_that("the default is held", || machine.saved_entry() == OLD);
    drop(opener);
    let hook = hook.end();
    assert_eq!(hook.code, 3, "{}", said(&hook));
    assert!(is_closed_whole(&machine), "{}", said(&hook));
}

#[test]
fn a_gate_closed_for_a_kernel_is_not_opened_by_a_person_who_could_not_know_it() {
    let machine = closed_by_hand();
    let mut person = Actor::start(&machine, &["gate", "open", "--reason", "x"], "gate-lock-before-taken");
    person.at("gate-lock-before-taken");
    let newest = "6.1.0-56-amd64";
    machine.add_kernel(newest, false);
    let machine = machine.boot_default(newest);
    assert_eq!(machine.run(&DECIDE).code, 3);
    person.go("gate-lock-before-taken");
    let person = person.end();
    let gate = machine.run(&["--format", "json", "gate", "show"]).json();
    let covers = gate["override"]["kernels"].to_string().contains(newest);
    assert!(gate["gate"] == "closed" || covers, "open for {newest}, which the override does not name: {}", said(&person));
}

/// A package sets the default to LATER as grub2-editenv does, without pauses.
fn later_by_default(machine: &Machine) {
    let entry = format!("{}-{LATER}", machine::MACHINE_ID);
    machine.editenv("saved_entry", Some(&entry), [Duration::ZERO; 2]);
}

#[test]
fn a_default_that_a_package_sets_while_another_is_being_held_off_becomes_the_wanted_one() {
    for point in ["hold-recorded-before-move", "grubenv-before-write", "grubenv-before-sync"] {
        let machine = machine();
        let mut run = Actor::start(&machine, &DECIDE, point);
        run.at(point);
        later_by_default(&machine);
        run.go(point);
        let story = format!("{point}: {}", said(&run.end()));
        assert_eq!(machine.run(&DECIDE).code, 3);
        let hold = fs::read_to_string(machine.path(HOLD)).unwrap_or_default();
        assert!(hold.contains(&format!("\"wanted\": \"{LATER}\"")), "the package's default is forgotten: {hold}\n{story}");
        assert_eq!(machine.saved_entry(), OLD, "{story}");
    }
}

#[test]
fn a_default_that_a_package_sets_while_another_is_being_promoted_becomes_the_wanted_one() {
    for point in ["grubenv-before-write", "grubenv-before-sync"] {
        let machine = held();
        machine.drives(NEW, true);
        let mut run = Actor::start(&machine, &DECIDE, point);
        run.at(point);
        later_by_default(&machine);
        run.go(point);
        let story = format!("{point}: {}", said(&run.end()));
        assert_eq!(machine.run(&DECIDE).code, 3, "{story}");
        let hold = fs::read_to_string(machine.path(HOLD)).unwrap_or_default();
        assert!(hold.contains(&format!("\"wanted\": \"{LATER}\"")), "the package's default is forgotten: {hold}\n{story}");
        assert_eq!(machine.saved_entry(), OLD, "{story}");
    }
}

#[test]
fn a_wanted_kernel_that_is_removed_after_it_was_judged_does_not_move_the_default() {
    for point in ["safe-before-promoted", "grubenv-before-write"] {
        let machine = held();
        machine.drives(NEW, true);
        let mut run = Actor::start(&machine, &["reconcile"], point);
        run.at(point);
        machine.remove_kernel(NEW);
        run.go(point);
        let run = run.end();
        let story = format!("{point}: {}", said(&run));
        // LATER, first in the menu, is not proven.
        assert_eq!(machine.saved_entry(), OLD, "{story}");
        assert_sound(&machine, &story);
        assert_eq!(machine.run(&DECIDE).code, machine.run(&["check"]).code);
        assert_eq!(machine.saved_entry(), OLD, "{story}");
    }
}

#[test]
fn a_kernel_that_is_loaded_for_kexec_does_not_prevent_a_hold() {
    let machine = machine().file("sys/kernel/kexec_loaded", "1\n");
    let run = machine.run(&DECIDE);
    assert_eq!((run.code, machine.saved_entry().as_str()), (3, OLD), "{}", said(&run));
    assert!(is_closed_whole(&machine), "{}", said(&run));
}

#[test]
fn a_held_reboot_is_not_stopped_by_a_closing_for_reasons_known_when_it_was_requested() {
    let machine = held();
    let mut reboot = Actor::start(&machine, &["reboot", "--held"], "reboot-before-request");
    reboot.at("reboot-before-request");
    assert!(!machine.path(DROP_IN).exists());
    let mut hook = Actor::start(&machine, &DECIDE, "write-lock-before-taken");
    // The hook's early closing is over.
    hook.at("write-lock-before-taken");
    assert!(!machine.path(DROP_IN).exists(), "the reboot that is about to be asked for would be refused");
    reboot.go("reboot-before-request");
    let reboot = reboot.end();
    assert_eq!(reboot.code, 0, "{}", said(&reboot));
    assert!(reboot.stdout.contains(&format!("into the held kernel {OLD}")), "{}", said(&reboot));
    hook.go("write-lock-before-taken");
    assert_eq!(hook.end().code, 3);
}

#[test]
fn a_closing_for_another_kernel_refuses_the_whole_held_reboot() {
    let machine = held();
    let mut reboot = Actor::start(&machine, &["reboot", "--held"], "reboot-before-request");
    reboot.at("reboot-before-request");
    let machine = machine.boot_default(LATER);
    let hook = Actor::start(&machine, &DECIDE, "");
    await_that("the gate is closed", || is_closed_whole(&machine));
    reboot.go("reboot-before-request");
    let (reboot, hook) = (reboot.end(), hook.end());
    assert_eq!(hook.code, 3, "{}", said(&hook));
    assert_eq!(machine.saved_entry(), OLD, "{}", said(&hook));
    assert!(is_closed_whole(&machine), "{}{}", said(&reboot), said(&hook));
}
