//! A device below a master, whose driver a recipe builds.

use super::machine::VF;
use super::*;

/// ixgbevf, which a recipe claims, below Hyper-V's synthetic NIC.
fn claimed() -> Machine {
    let machine = device(machine(&["hv_netvsc"]), "vmbus", "3ad4d2a5-0000", HYPERV, "hv_netvsc", "eth0");
    let machine = device(machine, "pci", FUNCTION, VF, "ixgbevf", "enP1s1").file("sys/module/ixgbevf/taint", "OE\n");
    port(machine, "enP1s1", "eth0")
}

#[test]
fn a_driver_that_a_master_can_replace_is_still_built_and_a_required_one_is_demanded() {
    let machine = claimed();
    let run = machine.run(&["reconcile"]);
    assert_eq!((run.code, machine.saved_entry().as_str()), (0, NEW), "{}", said(&run));
    assert!(run.stdout.contains(&format!("{NEW}: ixgbevf was not prepared")), "{}", said(&run));
    assert!(!machine.path(DROP_IN).exists(), "{}", said(&run));
    let (code, findings) = findings(&machine);
    let severity = |code: &str| findings.iter().find(|f| f.0 == code).map(|f| f.1.as_str());
    assert_eq!(code, 0, "{findings:?}");
    for code in ["module-missing", "device-redundant", "headers-missing"] {
        assert_eq!(severity(code), Some("warning"), "{code}: {findings:?}");
    }
    // Each run tries again, and prints one line about it with the command that shows why.
    assert!(run.stdout.contains(&format!("ixgbevf was not built; why: vfguard -v check {NEW}")), "{}", said(&run));
    assert!(!said(&run).contains("headers-missing"), "{}", said(&run));
    assert!(machine.run(&["-v", "check", NEW]).stdout.contains("[headers-missing]"));
    let required = claimed().file("etc/vfguard/config.d/r.toml", "[drivers]\nrequired = ['ixgbevf']\n");
    assert_refused("required", &required);
}

#[test]
fn a_module_that_might_be_loaded_and_do_harm_is_not_excused() {
    let path = format!("lib/modules/{NEW}/updates/vfguard/ixgbevf.ko");
    let machine =
        claimed().file(&format!("lib/modules/{NEW}/modules.dep"), "updates/vfguard/ixgbevf.ko:\n").file(&path, "no module");
    let (code, findings) = findings(&machine);
    assert!(findings.iter().any(|f| f.0 == "not-elf" && f.1 == "unsafe"), "{findings:?}");
    assert_eq!(code, 3);
}
