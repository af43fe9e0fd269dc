//! Machines with devices that a built-in recipe claims and that their kernels drive in-tree: nothing is downloaded, built or refused.

#[path = "../../machine/mod.rs"]
mod machine;

use machine::{ko, Machine, Run};
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

const OLD: &str = "6.1.0-53-amd64";
const NEW: &str = "6.1.0-54-amd64";
const ENA: (&str, &str) = ("ena", "pci:v00001D0Fd0000EC20");
const IAVF: (&str, &str) = ("iavf", "pci:v00008086d0000154C");
const IGBVF: (&str, &str) = ("igbvf", "pci:v00008086d000010CA");

/// OLD runs, NEW is the boot default; both have in-tree drivers for these devices.
fn machine(drivers: &[(&str, &str)]) -> Machine {
    let machine = Machine::new().grub().boot_entry(OLD).boot_entry(NEW).boot_default(NEW).running(OLD).offline();
    [OLD, NEW].iter().fold(machine, |machine, kernel| {
        let mut machine = machine.kernel(kernel);
        let tree = format!("usr/src/kernels/{kernel}");
        for (name, text) in [
            ("include/generated/utsrelease.h", format!("#define UTS_RELEASE \"{kernel}\"\n")),
            ("include/linux/module.h", String::new()),
            ("include/config/auto.conf", "CONFIG_SMP=y\nCONFIG_MODULES=y\nCONFIG_MODULE_UNLOAD=y\n".into()),
            ("Module.symvers", "0x00000000\tmodule_layout\tvmlinux\tEXPORT_SYMBOL\t\n".into()),
            ("Makefile", String::new()),
        ] {
            machine = machine.file(&format!("{tree}/{name}"), &text);
        }
        let vermagic = format!("{kernel} SMP mod_unload ");
        for (name, alias) in drivers {
            let path = format!("lib/modules/{kernel}/kernel/drivers/net/{name}.ko");
            let alias = format!("{alias}sv*sd*bc*sc*i*");
            let info = [("vermagic", vermagic.as_str()), ("license", "GPL"), ("intree", "Y"), ("alias", alias.as_str())];
            machine = machine.file(&path, "");
            fs::write(machine.path(&path), ko::module(name, &info)).unwrap();
        }
        assert!(Command::new("depmod").arg("-b").arg(machine.root()).arg(kernel).status().unwrap().success());
        machine
    })
}

/// A network device without an interface, bound or not.
fn function(machine: Machine, address: &str, id: &str, driver: Option<&str>) -> Machine {
    let machine = machine.device(address, &format!("{id}sv00000000sd00000000bc02sc00i00"), driver);
    fs::remove_dir_all(machine.path(&format!("sys/bus/pci/devices/{address}/net"))).unwrap();
    machine
}

/// A device in use by an in-tree driver of the running kernel.
fn used(machine: Machine, address: &str, (driver, id): (&str, &str)) -> Machine {
    let alias = format!("{id}sv00000000sd00000000bc02sc00i00");
    machine.device(address, &alias, Some(driver)).file(&format!("sys/module/{driver}/taint"), "\n")
}

fn said(run: &Run) -> String {
    format!("{}{}", run.stdout, run.stderr)
}

/// Asserts that the update goes through: NEW stays the default, the gate is open, and no build was tried.
fn assert_untouched(what: &str, machine: &Machine) {
    let run = machine.run(&["reconcile"]);
    let told = said(&run);
    assert_eq!((run.code, machine.saved_entry().as_str()), (0, NEW), "{what}: {told}");
    assert!(!told.contains("preparing") && !told.contains("gate closed"), "{what}: {told}");
    assert!(!machine.path("var/lib/vfguard/records").join(format!("{NEW}.json")).exists(), "{what}");
    let doctor = machine.run(&["--format", "json", "doctor"]).json();
    let headers = doctor["checks"].as_array().unwrap().iter().find(|c| c["name"] == "headers").unwrap().clone();
    assert_eq!(headers["detail"], "no driver needs to be built here", "{what}");
}

#[test]
fn a_stock_machine_with_an_in_tree_driver_is_left_alone() {
    for driver in [ENA, IAVF, IGBVF] {
        assert_untouched(driver.0, &used(machine(&[driver]), "0000:00:05.0", driver));
    }
    // As on Amazon Linux 2: an in-tree driver with a version that the recipe names.
    let machine = used(machine(&[ENA]), "0000:00:05.0", ENA).file("sys/module/ena/version", "2.17.0g\n");
    assert_untouched("a version of the recipe's", &machine);
}

#[test]
fn a_function_that_is_bound_to_another_driver_needs_no_out_of_tree_driver() {
    let machine = used(machine(&[ENA]), "0000:00:05.0", ENA);
    let machine = function(machine, "0000:00:06.0", ENA.1, Some("igb_uio")).file("sys/module/igb_uio/taint", "OE\n");
    assert_untouched("a second function for user space", &machine);
}

#[test]
fn virtual_functions_of_the_machines_own_card_are_left_to_its_guests() {
    let host = || {
        let machine = used(machine(&[ENA]), "0000:00:05.0", ENA);
        let machine = machine.file("etc/modprobe.d/guests.conf", "blacklist iavf\n");
        function(machine, "0000:05:02.0", IAVF.1, None)
    };
    let machine = host();
    symlink("../0000:05:00.0", machine.path("sys/bus/pci/devices/0000:05:02.0/physfn")).unwrap();
    assert_untouched("a function for a guest", &machine);
    // The guest has no such card: the virtual function is its own network.
    let run = host().run(&["check"]);
    assert_eq!(run.code, 3, "{}", said(&run));
}

#[test]
fn a_device_without_a_driver_is_ignored_if_the_recipe_has_no_release_for_the_kernel() {
    assert_untouched("igbvf", &function(machine(&[IGBVF]), "0000:00:05.0", IGBVF.1, None));
}

#[test]
fn a_kernel_without_its_in_tree_driver_is_refused_and_the_remedy_names_the_package() {
    let machine = used(machine(&[ENA]), "0000:00:05.0", ENA);
    fs::remove_file(machine.path(&format!("lib/modules/{NEW}/kernel/drivers/net/ena.ko"))).unwrap();
    assert!(Command::new("depmod").arg("-b").arg(machine.root()).arg(NEW).status().unwrap().success());
    let run = machine.run(&["check"]);
    assert_eq!(run.code, 3, "{}", said(&run));
    assert!(run.stdout.contains("in a package of extra modules here (kernel-modules-extra"), "{}", said(&run));
}
