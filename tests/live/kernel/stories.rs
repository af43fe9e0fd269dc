//! The README's examples with the binary, on real headers and real sources.

#[path = "../../machine/mod.rs"]
mod machine;

use machine::lab::Lab;
use machine::Machine;
use std::time::{Duration, Instant};

const GATE: &str = "run/systemd/system/reboot.target.d/50-vfguard.conf";

/// A machine that runs K1 on a module of ours, on which K2 has just been installed.
fn updated(lab: &Lab, k1: &str, k2: &str, releases: &[(&str, &str)]) -> Machine {
    let machine = lab.machine().grub().vf("ixgbevf").running(k1);
    let machine = lab.install(machine, k1);
    let releases: String = releases.iter().map(|(key, range)| lab.release(&machine, key, range)).collect();
    let machine = machine.recipe(&releases);
    let run = machine.run(&["prepare", k1]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    lab.install(machine, k2)
}

fn module(machine: &Machine, kernel: &str) -> bool {
    let dir = machine.path(&format!("lib/modules/{kernel}/updates/vfguard"));
    std::fs::read_dir(dir).is_ok_and(|mut d| d.any(|e| e.unwrap().file_name().to_string_lossy().starts_with("ixgbevf.ko")))
}

#[test]
fn when_k2_is_installed_the_gate_closes_the_module_is_built_verified_and_installed_and_the_gate_opens() {
    let lab = Lab::open();
    let (k1, k2) = (lab.get("K_OLD"), lab.get("K_NEW"));
    let machine = updated(&lab, k1, k2, &[("IXGBEVF_61", "")]);
    assert_eq!(machine.run(&["check"]).code, 3, "before anything is done, K2 is unsafe");

    let mut run = machine.command(&["reconcile", "--from", "test"]).spawn().unwrap();
    let start = Instant::now();
    while !(machine.path(GATE).exists() && machine.saved_entry() == k1) {
        assert!(start.elapsed() < Duration::from_secs(30), "the gate did not close, or the boot default was not held");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(!module(&machine, k2), "the gate closed and the default was held only after the build");
    assert_eq!(run.wait().unwrap().code(), Some(0));

    assert!(!machine.path(GATE).exists(), "the gate stayed closed");
    assert!(module(&machine, k2));
    assert_eq!(machine.saved_entry(), k2, "the boot default was not promoted");
    let check = machine.run(&["--format", "json", "check"]);
    assert_eq!(check.code, 0, "{}", check.stdout);
    let value = check.json();
    assert_eq!((value["verdict"].as_str(), value["gate"].as_str()), (Some("safe"), Some("open")));
    assert_eq!(value["kernels"][0]["kernel"], k2);
    assert_eq!(value["kernels"][0]["role"], "next");
    assert_eq!(value["kernels"][0]["modules"][0]["origin"], "built");
    assert_eq!(value["kernels"][0]["modules"][0]["version"], lab.get("IXGBEVF_61_VERSION"));

    let again = machine.run(&["reconcile"]);
    assert_eq!(again.code, 0);
    assert!(!again.stdout.contains("built, verified"), "a second run built again: {}", again.stdout);
}

#[test]
fn when_the_build_fails_the_gate_stays_closed_and_check_gives_the_reason_and_the_command() {
    let lab = Lab::open();
    let (k1, k2) = (lab.get("K_NEW"), lab.get("K_612"));
    let machine = updated(&lab, k1, k2, &[("IXGBEVF_61", "")]);
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 3, "{}{}", run.stdout, run.stderr);
    assert!(machine.path(GATE).is_file(), "the gate is open after a failed build");
    assert_eq!(machine.saved_entry(), k1, "the boot default leads into an unproven kernel");
    assert!(!module(&machine, k2));

    let check = machine.run(&["check"]);
    assert_eq!(check.code, 3);
    assert!(check.stdout.contains("do not reboot (gate closed)"), "{}", check.stdout);
    assert!(check.stdout.contains("ixgbevf") && check.stdout.contains(".c:"), "no compiler error: {}", check.stdout);
    assert!(check.stdout.contains("to mend it: vfguard prepare"), "{}", check.stdout);
    let value = machine.run(&["--format", "json", "check", k2]).json();
    let codes: Vec<_> = value["kernels"][0]["findings"].as_array().unwrap().iter().map(|f| f["code"].clone()).collect();
    assert!(codes.contains(&"build-failed".into()) && codes.contains(&"module-missing".into()), "{codes:?}");

    // The person provides a source that compiles, and the gate opens without further commands.
    let source = lab.file("IXGBEVF_612");
    let digest = lab.get("IXGBEVF_612_SHA256");
    let run = machine.run(&["prepare", k2, "--source", source.to_str().unwrap(), "--sha256", digest]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(!machine.path(GATE).exists(), "the gate stayed closed although all is safe: {}", run.stdout);
    assert_eq!(machine.saved_entry(), k2);
    assert_eq!(machine.run(&["check"]).code, 0);
}

#[test]
fn a_fallback_release_is_built_where_the_first_does_not_compile() {
    let lab = Lab::open();
    let (k1, k2) = (lab.get("K_NEW"), lab.get("K_612"));
    let releases =
        [("IXGBEVF_61", "kernels = { below = '6.13' }"), ("IXGBEVF_612", "kernels = { from = '6.13' }\nfallback = true")];
    let machine = updated(&lab, k1, k2, &releases);
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let value = machine.run(&["--format", "json", "check"]).json();
    assert_eq!(value["kernels"][0]["modules"][0]["version"], lab.get("IXGBEVF_612_VERSION"));
}

#[test]
fn a_module_of_the_newest_abi_is_refused_on_an_older_one_though_modprobe_accepts_it() {
    let lab = Lab::open();
    let (new, old) = (lab.get("K_NEW"), lab.get("K_OLD"));
    let machine = updated(&lab, new, old, &[("IXGBEVF_61", "")]);
    let from = machine.path(&format!("lib/modules/{new}/updates/vfguard/ixgbevf.ko"));
    let to = machine.path(&format!("lib/modules/{old}/updates/vfguard/ixgbevf.ko"));
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    std::fs::copy(&from, &to).unwrap();
    let modprobe = |args: &[&str]| {
        std::process::Command::new("modprobe").arg("-d").arg(machine.root()).args(["-S", old]).args(args).output().unwrap()
    };
    let depmod = std::process::Command::new("depmod").arg("-b").arg(machine.root()).arg(old).status().unwrap();
    assert!(depmod.success() && modprobe(&["-n", "ixgbevf"]).status.success(), "modprobe was meant to be content");
    let run = machine.run(&["--format", "json", "check", old]);
    assert_eq!(run.code, 3);
    let value = run.json();
    let findings = value["kernels"][0]["findings"].as_array().unwrap();
    let crc = findings.iter().find(|f| f["code"] == "symbol-crc").expect("no symbol-crc finding");
    // The lab counted them by comparing `modprobe --dump-modversions` with Module.symvers.
    let counted = format!("{} of {}", lab.get("MISMATCHES_OLD"), lab.get("IMPORTS"));
    assert!(crc["detail"].as_str().unwrap().contains(&counted), "{crc} does not say {counted}");
}
