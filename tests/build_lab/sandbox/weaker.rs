//! Protection where builds are not fully contained: the disk is watched, processes that leave their group are ended, System V IPC without
//! seccomp is removed, and files that the build's user may not read are removed.

use crate::machine::lab::{self, NO_SECCOMP};
use crate::machine::levels::{Contained, Stage};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use std::fs;
use std::process::Command;

const HOARD: [(&str, &[u8]); 1] = [("hoard.c", include_bytes!("../../machine/hoard.c"))];
const WEAKER: [Contained; 3] = [Contained::NoNamespaces, Contained::OwnUser, Contained::NoNamespacesOwnUser];
const OWN_USER: [Contained; 2] = [Contained::OwnUser, Contained::NoNamespacesOwnUser];

fn has_line(log: &str, line: &str) -> bool {
    log.lines().any(|l| l == line)
}

/// The files that are left in the directory of builds.
fn left(stage: &Stage) -> Vec<std::ffi::OsString> {
    fs::read_dir(stage.machine.path("var/cache/vfguard/build")).unwrap().map(|e| e.unwrap().file_name()).collect()
}

/// Processes whose command line contains a word.
fn running(word: &str) -> Vec<i32> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse::<i32>().ok());
    processes.filter(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c.contains(word))).collect()
}

/// Whether such a process is seen; one that forks all the time is not seen by every look.
fn is_seen(word: &str) -> bool {
    (0..50).any(|_| !running(word).is_empty())
}

#[test]
fn unlinked_files_count_however_they_are_kept_open() {
    let stage = Stage::new();
    for contained in WEAKER {
        for way in ["open", "mapped", "sent"] {
            let script = format!("gcc -w -o hoard hoard.c && ./hoard {way} || echo FAILED; exit 1");
            let log = stage.behind(contained, &[], &script, &HOARD);
            let told = ["TAKES", "FAILED", "KEPT"].map(|line| has_line(&log, line));
            assert_eq!(told, [true, false, false], "{contained:?} {way}: {log}");
        }
    }
}

#[test]
fn a_directory_that_cannot_be_counted_stops_a_build_of_the_callers_own_user_and_is_removed() {
    let stage = Stage::new();
    for contained in OWN_USER {
        for mode in ["000", "444"] {
            let script = format!(
                "mkdir -p hidden/in && echo x >hidden/in/f && chmod {mode} hidden/in hidden && echo HIDDEN; sleep 8; \
                 echo STILL; exit 1"
            );
            let log = stage.script(contained, &script);
            assert!(has_line(&log, "HIDDEN") && !has_line(&log, "STILL"), "{contained:?} {mode}: {log}");
            assert!(left(&stage).is_empty(), "{contained:?} {mode}: {:?}", left(&stage));
        }
    }
}

#[test]
fn a_process_that_leaves_its_group_and_parent_does_not_survive_a_build_of_the_callers_own_user() {
    let stage = Stage::new();
    // The last one forks all the time, so that it is never the same process for long.
    for (number, daemon) in [
        "setsid sh -c 'exec sleep 64301' >/dev/null 2>&1 </dev/null &",
        "(setsid sh -c 'setsid sleep 64302 & exec sleep 64302' >/dev/null 2>&1 </dev/null &)",
        "setsid perl -e '$end = time + 20; while (time < $end) { defined(my $p = fork) or next; exit if $p; select(undef, undef, undef, 0.002) }' 64303 >/dev/null 2>&1 </dev/null &",
    ]
    .into_iter()
    .enumerate()
    {
        let word = format!("6430{}", number + 1);
        for contained in OWN_USER {
            let log = stage.script(contained, &format!("{daemon}\nsleep 0.3; for i in 1 2 3 4 5 6 7 8 9; do pgrep -f {word} >/dev/null && echo RUNS && break; done; exit 1"));
            assert!(has_line(&log, "RUNS") || contained == Contained::NoNamespacesOwnUser, "{contained:?}: {log}");
            assert!(log.contains(lab::BEGUN) && !is_seen(&word), "{contained:?}: {daemon} outlived its build");
        }
        // Started by a plain shell, it does survive.
        assert!(Command::new("setsid").args(["sh", "-c", &format!("{daemon}\nsleep 0.3")]).status().unwrap().success());
        assert!(is_seen(&word), "{daemon} ends without the sandbox too, so it proves nothing");
        while is_seen(&word) {
            for pid in running(&word) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

#[test]
fn a_fork_bomb_of_the_callers_own_user_hits_the_limit_of_its_namespace() {
    let perl =
        "for (1..1500) { my $p = fork; last unless defined $p; if (!$p) { sleep 20; exit } $n++ } print \"forked $n\\n\"";
    let log = Stage::new().script(Contained::OwnUser, &format!("perl -e '{perl}'; exit 1"));
    let forked = log.lines().find_map(|l| l.strip_prefix("forked ")?.parse::<u32>().ok());
    assert!(forked.is_some_and(|n| n > 50 && n < 1500), "{log}");
}

#[test]
fn without_seccomp_the_system_v_ipc_that_a_build_leaves_is_removed() {
    let stage = Stage::new();
    let key = 0x7667_0000 + std::process::id() % 0xffff;
    let leave = format!(
        "perl -e 'defined shmget({key}, 4096, 0x3b6) or die; $q = msgget({key}, 0x3b6); msgsnd($q, pack(\"l! a*\", 1, \"x\"), 0) or die; \
         defined semget({key}, 1, 0x3b6) or die' && echo LEFT; exit 1"
    );
    let find = format!("shmget({key}, 0, 0) // msgget({key}, 0) // semget({key}, 0, 0)");
    for contained in [Contained::NoNamespaces, Contained::UserOnly] {
        let log = stage.behind(contained, &NO_SECCOMP, &leave, &[]);
        assert!(has_line(&log, "LEFT"), "{contained:?}: {log}");
        let found = Command::new("perl").args(["-e", &format!("exit(defined({find}) ? 0 : 1)")]).status().unwrap();
        assert_eq!(found.code(), Some(1), "{contained:?}: it is still there");
    }
    // With seccomp none can be left.
    let log = stage.script(Contained::NoNamespaces, &leave);
    assert!(log.contains(lab::BEGUN) && !has_line(&log, "LEFT"), "{log}");
}
