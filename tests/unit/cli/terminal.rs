//! The reader of the output goes away: the work is done as if somebody still watched.

#[path = "../../machine/mod.rs"]
mod machine;

use machine::terminal::{code, is_as, redirected, tree, Watched};
use machine::Machine;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::thread::sleep;
use std::time::Duration;

const OLD: &str = "5.14.0-1.el9.x86_64";
const NEW: &str = "5.14.0-2.el9.x86_64";

/// OLD runs on an out-of-tree driver. NEW came without headers, is the boot default and has no driver.
fn updated() -> Machine {
    let machine = Machine::new().grub().vf("ixgbevf").running(OLD).offline();
    machine.kernel(OLD).boot_entry(OLD).kernel(NEW).boot_entry(NEW).boot_default(NEW)
}

/// The verbs that are run with each way to lose the reader, and their exit codes.
const VERBS: [(&[&str], i32); 14] = [
    (&["reconcile"], 3),
    (&["reconcile", "--from", "yum"], 3),
    (&["reconcile", "--from", "dnf5"], 3),
    (&["--format", "json", "reconcile"], 3),
    (&["prepare"], 1),
    (&["--format", "json", "prepare"], 1),
    (&["check"], 3),
    (&["--format", "json", "check"], 3),
    (&["status"], 0),
    (&["--format", "json", "status"], 0),
    (&["gate", "close"], 0),
    (&["gate", "open", "--reason", "work"], 0),
    (&["decline", NEW], 0),
    (&["nonsense"], 2),
];

/// The state after a run whose output is read to the end.
fn watched(args: &[&str]) -> Vec<String> {
    let machine = updated();
    machine.run(args);
    tree(&machine)
}

/// Runs each verb in a thread of its own, since most of the time goes into syncing to the disk.
fn with_each_verb(run: impl Fn(&[&str], i32) + Sync) {
    std::thread::scope(|scope| {
        for (args, want) in VERBS {
            let run = &run;
            scope.spawn(move || run(args, want));
        }
    });
}

#[test]
fn a_terminal_that_goes_away_at_any_line_does_not_affect_the_work() {
    with_each_verb(|args, want| {
        let state = watched(args);
        for line in 1.. {
            let machine = updated();
            let mut run = Watched::start(&machine, args);
            let ended = run.read_until(|seen| seen.matches('\n').count() >= line);
            let when = format!("{args:?}, closed after line {line}: {}", run.seen);
            run.hang_up();
            assert_eq!(code(run.end()), Ok(want), "{when}");
            is_as(&machine, &state, &when);
            if ended {
                assert!(line > 1, "{args:?} printed nothing");
                break;
            }
        }
    });
}

#[test]
fn unwritable_output_does_not_affect_the_work() {
    let ways = [
        r#"exec "$@" >&-"#,
        r#"exec "$@" 2>&-"#,
        r#"exec "$@" >&- 2>&- <&-"#,
        r#"exec "$@" >/dev/full 2>/dev/full"#,
        r#""$@" 2>&1 | head -n 1 >/dev/null; exit "${PIPESTATUS[0]}""#,
        r#""$@" 2>&1 >/dev/null | head -n 1 >/dev/null; exit "${PIPESTATUS[0]}""#,
        r#""$@" 2>&1 | :; exit "${PIPESTATUS[0]}""#,
    ];
    with_each_verb(|args, want| {
        let state = watched(args);
        for way in ways {
            let machine = updated();
            assert_eq!(code(redirected(&machine, args, way)), Ok(want), "{args:?}: {way}");
            is_as(&machine, &state, &format!("{args:?}: {way}"));
        }
    });
}

/// A run that waits for another run's lock, and that lock.
fn waiting(machine: &Machine) -> (Watched, Flock<File>) {
    fs::create_dir_all(machine.path("run/vfguard")).unwrap();
    let held = Flock::lock(File::create(machine.path("run/vfguard/lock")).unwrap(), FlockArg::LockExclusive);
    let run = Watched::start(machine, &["reconcile"]);
    // It closes the gate before it waits.
    while !machine.path("run/systemd/system/reboot.target.d/50-vfguard.conf").exists() {
        sleep(Duration::from_millis(10));
    }
    sleep(Duration::from_millis(100));
    (run, held.map_err(|(_, e)| e).unwrap())
}

#[test]
fn a_hangup_does_not_end_a_run_and_the_work_is_done_after_it() {
    let machine = updated();
    let (mut run, held) = waiting(&machine);
    run.hang_up();
    sleep(Duration::from_millis(200));
    drop(held);
    assert_eq!(code(run.end()), Ok(3));
    assert!(machine.saved_entry().contains(OLD), "the boot default is not held: {}", machine.saved_entry());
}

#[test]
fn a_hangup_passed_on_by_the_shell_does_not_end_a_run_either() {
    // sshd closes the terminal; the kernel tells the shell, which passes it on to its jobs and ends.
    let machine = updated();
    let (run, held) = waiting(&machine);
    let id = nix::unistd::Pid::from_raw(i32::try_from(run.id()).unwrap());
    for _ in 0..3 {
        nix::sys::signal::kill(id, Signal::SIGHUP).unwrap();
    }
    drop(held);
    assert_eq!(code(run.end()), Ok(3));
}

#[test]
fn ctrl_c_ends_a_run() {
    let machine = updated();
    let (mut run, _held) = waiting(&machine);
    run.type_in(b"\x03");
    assert_eq!(run.end().signal(), Some(Signal::SIGINT as i32));
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_and_does_not_kill() {
    let machine = updated();
    assert_eq!(code(redirected(&machine, &["reconcile"], r#"ulimit -f 0; exec "$@" >/dev/null"#)), Ok(1));
}
