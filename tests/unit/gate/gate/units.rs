//! The systemd units: each names the way out, and calls what there is.

use super::*;

#[test]
fn each_unit_names_the_way_out_and_calls_existing_commands() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd");
    let mut calls = 0;
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        if path.extension().is_some_and(|e| e == "preset") {
            let enabled: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("enable ")).collect();
            assert!(!enabled.is_empty() && enabled.iter().all(|unit| dir.join(unit).exists()), "{enabled:?}");
            continue;
        }
        if path.extension().is_none() {
            // The script of vfguard-fail-closed.service.
            assert!(text.starts_with("#!/bin/sh\n"), "{}", path.display());
            continue;
        }
        let description = text.lines().find_map(|l| l.strip_prefix("Description=")).unwrap();
        assert!(description.contains("(way out: vfguard"), "{}: {description}", path.display());
        for unit in text.lines().filter_map(|l| l.strip_prefix("Unit=")) {
            assert!(dir.join(unit).exists(), "{} starts {unit}", path.display());
        }
        if path.extension().is_some_and(|e| e == "service") && text.contains("Type=oneshot") && !text.contains("Install") {
            assert!(text.contains("StartLimitInterval=0"), "{} could be stopped by a limit", path.display());
        }
        let commands = text.lines().filter(|l| l.starts_with("Exec")).filter_map(|l| l.split_once('='));
        for line in commands.filter_map(|(_, c)| c.trim_start_matches('-').strip_prefix("/usr/bin/vfguard ")) {
            // Its command is valid: on this machine, which is safe, it exits with success.
            let run = settled().run(&line.split(' ').collect::<Vec<_>>());
            assert_eq!(run.code, 0, "{line}: {}", run.stderr);
            calls += 1;
        }
    }
    assert!(calls >= 4, "{calls}");
}

#[test]
fn a_run_that_fails_to_decide_starts_the_unit_that_fails_closed() {
    for name in ["vfguard-boot.service", "vfguard.service"] {
        let text = fs::read_to_string(format!("{}/packaging/systemd/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert!(text.contains("\nOnFailure=vfguard-fail-closed.service\n"), "{name} may die and leave the gate open");
    }
}
