//! A terminal that goes away during a build: the kernel still gets its driver.

use crate::machine::lab::{self, Lab};
use crate::machine::terminal::{code, is_as, tree, Watched};
use crate::machine::Machine;
use nix::sys::signal::Signal;
use std::fs;

/// A machine on which a kernel has just been installed; and that kernel.
fn stage(lab: &Lab) -> (Machine, String) {
    let kernel = lab.get("K_NEW").to_owned();
    (lab.install(lab.machine().grub().demo(lab), &kernel), kernel)
}

#[test]
fn a_terminal_that_goes_away_anywhere_in_a_build_does_not_affect_it() {
    let lab = Lab::open();
    for args in [&["reconcile"] as &[&str], &["-v", "prepare"]] {
        let (machine, kernel) = stage(&lab);
        assert_eq!(machine.run(args).code, 0);
        assert!(machine.path(&format!("lib/modules/{kernel}/updates/vfguard/demo.ko")).is_file());
        let state = tree(&machine);
        // Redrawn lines count too: the progress bar is then in the middle of its work.
        for line in (0..).map(|n| 1 << n) {
            let (machine, _) = stage(&lab);
            let mut run = Watched::start(&machine, args);
            let ended = run.read_until(|seen| seen.matches(['\n', '\r']).count() >= line);
            let when = format!("{args:?}, closed after line {line}: {}", run.seen);
            run.hang_up();
            let end = code(run.end());
            // The hung-up run could not print the reason of a failure; a run whose output is read does.
            let why = if end == Ok(0) { String::new() } else { machine.run(&["reconcile"]).stdout };
            assert_eq!(end, Ok(0), "{when}\n{why}");
            is_as(&machine, &state, &when);
            if ended {
                assert!(line > 1, "{args:?} printed nothing");
                break;
            }
        }
    }
}

#[test]
fn a_build_has_the_default_actions_of_hangup_and_broken_pipe() {
    let lab = Lab::open();
    for (ignored_by_caller, want) in [("", 0), ("--ignore-signal=HUP", 1)] {
        let (machine, kernel) = stage(&lab);
        let (archive, digest) = lab::archive(machine.root(), "grep ^Sig /proc/self/status; exit 1", &[]);
        let archive = archive.display().to_string();
        let args = ["prepare", &kernel, "--driver", "demo", "--rebuild", "--source", &archive, "--sha256", &digest];
        let run = machine.command(&args);
        let mut env = std::process::Command::new("env");
        env.args(["--default-signal=HUP,PIPE,XFSZ", ignored_by_caller].iter().filter(|a| !a.is_empty()));
        let output = env.arg(run.get_program()).args(run.get_args()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
        let logs: Vec<_> = fs::read_dir(machine.path("var/lib/vfguard/log")).unwrap().map(|e| e.unwrap().path()).collect();
        let text: String = logs.iter().map(|path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()).collect();
        let mask = |name: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_else(|| panic!("{name} is not in: {text}"));
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        let bit = |signal: Signal| 1 << (signal as i32 - 1);
        let about = bit(Signal::SIGHUP) | bit(Signal::SIGPIPE) | bit(Signal::SIGXFSZ);
        assert_eq!(mask("SigIgn:") & about, want * bit(Signal::SIGHUP), "{text}");
        assert_eq!((mask("SigBlk:"), mask("SigCgt:") & about), (0, 0), "{text}");
    }
}
