//! System calls that a build does not need (tests/machine/calls.c), at every level of containment. As root by plain make each of them must
//! succeed, or the test would prove nothing. Calls that this kernel does not have are counted as skipped.

use crate::machine::lab::{self, NO_SECCOMP};
use crate::machine::levels::{Contained, Filter, Stage};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::process::Command;

/// The program that makes the calls, and its name in the source.
const CALLS: [(&str, &[u8]); 1] = [("calls.c", include_bytes!("../../machine/calls.c"))];
/// seccomp(2) has this number on x86-64.
const SECCOMP: &str = "317";

/// Compiles the program and runs it with an argument: for one call or for all.
fn script(argument: &str) -> String {
    format!("gcc -w -o calls calls.c && ./calls {argument}; exit 1\n")
}

/// The result of each call: `GOT`, `HELD` or `OTHER`, and the errno.
fn said(log: &str) -> BTreeMap<&str, (&str, &str)> {
    log.lines().filter_map(line).collect()
}

fn line(line: &str) -> Option<(&str, (&str, &str))> {
    match line.split(' ').collect::<Vec<_>>()[..] {
        [what @ ("GOT" | "HELD" | "OTHER"), name, errno] => Some((name, (what, errno))),
        _ => None,
    }
}

/// The same as root by plain make.
fn plainly(argument: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    lab::write_source(dir.path(), &script(argument), &CALLS);
    let output = Command::new("make").current_dir(dir.path().join("src")).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn calls_that_a_build_does_not_need_fail_at_every_level_and_succeed_outside() {
    let stage = Stage::new();
    let outside = plainly("");
    let outside = said(&outside);
    assert!(outside.len() > 30, "{outside:?}");
    for (name, (what, errno)) in &outside {
        match *what {
            "GOT" => {}
            // Written directly, because libtest hides the output of a test that passes; tests/run.sh lists it.
            "HELD" => {
                #[allow(clippy::disallowed_methods)]
                let _ = writeln!(std::io::stderr(), "\nskipped build/{name}: this kernel has no such call");
            }
            _ => panic!("{name} fails without the sandbox too ({errno}), so it proves nothing"),
        }
    }
    for contained in Contained::ALL {
        let log = stage.behind(contained, &[], &script(""), &CALLS);
        let inside = said(&log);
        let free: Vec<_> = inside.iter().filter(|(_, (what, _))| *what != "HELD").collect();
        assert!(inside.len() == outside.len() && free.is_empty(), "{contained:?}: {free:?}: {log}");
    }
}

#[test]
fn without_seccomp_a_build_can_make_calls_that_the_filter_refuses() {
    let stage = Stage::new();
    let log = stage.behind(Contained::Full, &NO_SECCOMP, &script(""), &CALLS);
    let inside = said(&log);
    for name in ["vsock", "io_uring", "unshare", "clone", "clone3", "add_key", "memfd_create", "i386-unshare"] {
        assert_eq!(inside[name].0, "GOT", "{name}: {log}");
    }
}

#[test]
fn a_key_that_a_build_leaves_is_not_visible_to_the_next() {
    let found = |log: &str| log.lines().filter(|l| l.starts_with("FOUND key")).count();
    let left = |log: &str| log.lines().any(|l| l == "LEFT keys");
    assert!(left(&plainly("leave")), "root cannot leave keys");
    assert!(found(&plainly("remove")) >= 2, "they are not found outside either, so this proves nothing");
    let stage = Stage::new();
    for contained in [Contained::Full, Contained::NoNamespaces, Contained::UserOnly] {
        for filters in [&NO_SECCOMP[..], &[]] {
            let log = stage.behind(contained, filters, &script("leave"), &CALLS);
            assert_eq!(left(&log), !filters.is_empty(), "{contained:?}: {log}");
            let log = stage.behind(contained, filters, &script("find"), &CALLS);
            assert!(log.contains(lab::BEGUN) && found(&log) == 0, "{contained:?}: {log}");
        }
    }
}

#[test]
fn without_seccomp_landlock_also_prevents_mounts_in_a_nested_namespace() {
    let stage = Stage::new();
    // unshare(CLONE_NEWUSER | CLONE_NEWNS) and mount(2) by their numbers on x86-64. Executing a program in between would lose the
    // capabilities of the namespace, since /proc is read-only and no user can be mapped.
    let perl = "syscall(272, 0x10020000) == 0 or die $!; ($n, $m, $t) = (\"none\", \"m\", \"tmpfs\"); \
                exit(syscall(165, $n, $m, $t, 0, 0) == 0 ? 0 : 1)";
    let script = format!("mkdir m && perl -e '{perl}' && echo 0 | tr 0 M; exit 1");
    let mounted = |filters: &[Filter]| {
        let log = stage.behind(Contained::Full, filters, &script, &[]);
        assert!(log.contains(lab::BEGUN), "{log}");
        log.lines().any(|l| l == "M")
    };
    if std::env::var_os("VFGUARD_NO_LANDLOCK").is_none() {
        assert!(!mounted(&NO_SECCOMP));
    }
    let [seccomp, prctl] = NO_SECCOMP;
    let landlock = ["444", "446", "38"];
    assert!(!mounted(&[landlock]), "in further namespaces, which seccomp refuses");
    // The last filter refuses any further filter.
    assert!(mounted(&[landlock, seccomp, prctl]), "it fails without both too, so it proves nothing");
}

/// Builds the small driver for real behind filters. Returns the output and the build's log.
fn build(stage: &Stage, filters: &[Filter]) -> (String, String) {
    let mut words: Vec<String> = Vec::new();
    for filter in filters {
        words.push(stage.machine.path("filter").display().to_string());
        words.extend(filter.map(str::to_owned));
    }
    words.extend([env!("CARGO_BIN_EXE_vfguard"), "--root"].map(str::to_owned));
    words.push(stage.machine.root().display().to_string());
    words.extend(["-v", "prepare", &stage.kernel, "--driver", "demo", "--rebuild"].map(str::to_owned));
    let output = Command::new(&words[0]).args(&words[1..]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let log = stage.machine.path(&format!("var/lib/vfguard/log/{}-demo-1.0.0-demo.log", stage.kernel));
    (text, fs::read_to_string(log).unwrap())
}

#[test]
fn where_seccomp_is_missing_or_refused_a_driver_still_builds_and_that_is_reported() {
    let stage = Stage::new();
    let weaker = "the build ran with weaker isolation than expected";
    let (text, log) = build(&stage, &[]);
    assert!(text.contains("; seccomp\n") && !text.contains(weaker) && !log.contains("refused here"), "{text}{log}");
    let (text, log) = build(&stage, &NO_SECCOMP);
    assert!(text.contains("; no seccomp\n") && !text.contains(weaker) && !log.contains("refused here"), "{text}{log}");
    // EPERM and EINVAL, as behind the filters of some containers, although the kernel has seccomp.
    for (errno, name) in [("1", "EPERM"), ("22", "EINVAL")] {
        let (text, log) = build(&stage, &[[SECCOMP, SECCOMP, errno]]);
        assert!(text.contains("; no seccomp\n") && text.contains(weaker), "{name}: {text}");
        assert!(log.contains(&format!("seccomp is refused here ({name}")), "{name}: {log}");
    }
}

#[test]
fn on_kernels_with_filters_but_without_their_system_call_the_filter_still_works() {
    // Linux 3.5 to 3.16.
    let old: &[Filter] = &[[SECCOMP, SECCOMP, "38"]];
    let stage = Stage::new();
    let (text, log) = build(&stage, old);
    assert!(text.contains("; seccomp\n") && !log.contains("refused here"), "{text}{log}");
    let log = stage.behind(Contained::Full, old, &script(""), &CALLS);
    let inside = said(&log);
    assert!(inside.len() > 30 && inside.values().all(|(what, _)| *what == "HELD"), "{log}");
}

#[test]
fn status_reports_whether_calls_are_filtered() {
    let stage = Stage::new();
    let filter = stage.machine.path("filter");
    let status = |filters: &[Filter]| {
        let mut command = Command::new("env");
        for words in filters {
            command.arg(&filter).args(words);
        }
        command.args([env!("CARGO_BIN_EXE_vfguard"), "--root"]).arg(stage.machine.root());
        let output = command.args(["--format", "json", "status"]).output().unwrap();
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["seccomp"].as_bool()
    };
    assert_eq!(status(&[]), Some(true));
    assert_eq!(status(&NO_SECCOMP), Some(false));
}

#[test]
fn a_build_works_where_only_a_mount_namespace_can_be_made() {
    let stage = Stage::new();
    // unshare(2) with all flags of a build fails, as if one kind of namespace were used up.
    let (text, log) = build(&stage, &[["272:1812070400", "272", "28"]]);
    assert!(log.contains("namespaces are refused here (ENOSPC"), "{text}{log}");
    assert!(
        log.contains("files, in memory"),
        "the build directory is no file system of its own, so this shows nothing: {log}"
    );
}
