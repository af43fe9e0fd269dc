//! The boot default is moved where that has an effect, and whatever happens meanwhile, the wanted kernel is not lost.

mod machine;

use machine::{Machine, Run};

const OLD: &str = "6.1.0-53-amd64";
const NEW: &str = "6.1.0-54-amd64";
const NIC: &str = "pci:v00001D0Fd0000EC20sv00001D0Fsd0000EC20bc02sc00i00";
const DRIVER: &str = "ena.alias=pci:v00001D0Fd0000EC20sv*sd*bc*sc*i*\0ena.file=drivers/net/ena\0";

/// OLD runs and drives the card. NEW is the boot default and does not.
fn machine() -> Machine {
    Machine::new()
        .grub()
        .device("0000:00:05.0", NIC, Some("ena"))
        .kernel(OLD)
        .kernel(NEW)
        .boot_entry(OLD)
        .boot_entry(NEW)
        .boot_default(NEW)
        .file(&format!("lib/modules/{OLD}/modules.builtin.modinfo"), DRIVER)
        .file("proc/sys/kernel/osrelease", &format!("{OLD}\n"))
}

fn mended(machine: Machine) -> Machine {
    machine.file(&format!("lib/modules/{NEW}/modules.builtin.modinfo"), DRIVER)
}

fn said(run: &Run) -> String {
    format!("{}{}", run.stdout, run.stderr)
}

#[test]
fn a_kernel_loaded_for_kexec_switches_no_hold_off_and_stays_a_doubt() {
    let loaded = |machine: Machine| machine.file("sys/kernel/kexec_loaded", "1\n");
    let machine = loaded(machine());
    let run = machine.run(&["reconcile"]);
    assert_eq!((run.code, machine.saved_entry().as_str()), (3, OLD), "{}", said(&run));
    let next = machine.run(&["--format", "json", "next-boot"]);
    assert_eq!((next.code, &next.json()["certain"]), (1, &serde_json::json!(false)), "{}", said(&next));
    assert!(said(&machine.run(&["check"])).contains("kexec -u"));
    // Nor where nothing can be decided.
    let machine = loaded(self::machine()).file("etc/vfguard/drivers.d/x.toml", "no recipe\n");
    let run = machine.run(&["reconcile"]);
    assert_eq!((run.code, machine.saved_entry().as_str()), (1, OLD), "{}", said(&run));
    // Once every kernel is safe, what was held is promoted, whichever of them a kexec would start.
    let machine = loaded(self::machine());
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    let machine = mended(machine);
    let run = machine.run(&["reconcile"]);
    assert_eq!((run.code, machine.saved_entry().as_str()), (0, NEW), "{}", said(&run));
}
