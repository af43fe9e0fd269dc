//! What `check`, `status` and `verify` say of kernels and modules.

use super::machine::VF;
use super::*;

#[test]
fn a_machine_whose_devices_cannot_be_read_is_not_judged() {
    let machine = Machine::bare();
    assert_eq!(machine.run(&["check"]).code, 1);
}

#[test]
fn a_kernel_that_is_not_safe_is_reported_with_another_run_at_work() {
    use nix::fcntl::{Flock, FlockArg};
    let machine = Machine::new().kernel(K).vf("ixgbevf").file("run/vfguard/lock", "");
    let pending = |machine: &Machine| machine.run(&["--format", "json", "check", K]).stdout.contains("build-pending");
    assert!(!pending(&machine));
    let lock = fs::File::open(machine.path("run/vfguard/lock")).unwrap();
    let held = Flock::lock(lock, FlockArg::LockExclusiveNonblock).unwrap();
    assert!(pending(&machine));
    assert!(machine.run(&["status"]).stdout.contains("build-pending"));
    drop(held);
    assert!(!pending(&machine));
}

#[test]
fn a_kernel_without_a_driver_for_the_nic_is_unsafe() {
    let machine = Machine::new().kernel(K).vf("ixgbevf");
    let run = machine.run(&["--format", "json", "check", K]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    let value = run.json();
    assert_eq!(value["verdict"], "unsafe");
    assert_eq!(value["gate"], "open");
    let kernel = &value["kernels"][0];
    assert_eq!((&kernel["kernel"], &kernel["devices"][0]["modalias"]), (&Value::from(K), &Value::from(VF)));
    assert_eq!(kernel["findings"][0]["code"], "module-missing");
    assert_eq!(kernel["findings"][0]["remedy"], format!("vfguard prepare {K}"));
}

#[test]
fn a_machine_without_a_network_device_is_safe() {
    let machine = Machine::new().kernel(K);
    assert_eq!(machine.run(&["check", K]).code, 0);
}

#[test]
fn a_nic_of_another_vendor_in_use_must_be_claimed_too() {
    let machine =
        Machine::new().kernel(K).device("0000:00:05.0", "pci:v000015B3d00001018sv0sd0bc02sc00i00", Some("mlx5_core"));
    let run = machine.run(&["--format", "json", "check", K]);
    assert_eq!(run.code, 3);
    assert_eq!(run.json()["kernels"][0]["findings"][0]["code"], "device-unclaimed");
}

#[test]
fn an_unknown_boot_loader_makes_every_installed_kernel_a_candidate() {
    let machine = Machine::new().kernel(K).kernel("6.1.0-55-amd64").vf("ixgbevf");
    let value = machine.run(&["--format", "json", "check"]).json();
    assert_eq!(value["kernels"].as_array().unwrap().len(), 2);
    let codes: Vec<&Value> = value["kernels"][0]["findings"].as_array().unwrap().iter().map(|f| &f["code"]).collect();
    assert!(codes.contains(&&Value::from("boot-unknown")), "{codes:?}");
}

#[test]
fn verify_reports_a_file_that_is_no_module_as_a_finding_and_a_missing_one_as_an_error() {
    let machine = Machine::new().kernel(K).file("junk.ko", "no module");
    let junk = machine.path("junk.ko");
    let run = machine.run(&["--format", "json", "verify", junk.to_str().unwrap(), "--kernel", K]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    let value = run.json();
    assert_eq!((&value["verdict"], &value["kernel"]), (&Value::from("unsafe"), &Value::from(K)));
    assert!(value["module"].is_object());
    assert_eq!(value["findings"][0]["code"], "not-elf");
    // Several files are judged together, each in the given order, under the worst verdict.
    let both = [junk.to_str().unwrap(), junk.to_str().unwrap()];
    let value = machine.run(&[&["--format", "json", "verify"], &both[..], &["--kernel", K]].concat()).json();
    assert_eq!((&value["verdict"], value["modules"].as_array().unwrap().len()), (&"unsafe".into(), 2));
    assert_eq!(value["modules"][1]["findings"][0]["code"], "not-elf");
    assert_eq!(machine.run(&["verify", "--kernel", K]).code, 2);
    assert_eq!(machine.run(&["verify", "/nowhere/x.ko", "--kernel", K]).code, 1);
    assert_eq!(machine.run(&["verify", junk.to_str().unwrap(), "--kernel", "9.9.9"]).code, 1);
}

#[test]
fn status_warns_before_an_update_removes_the_last_safe_kernel() {
    let old = "6.1.0-54-amd64";
    let warned = |limit: u32| {
        let machine = Machine::new().kernel(old).kernel(K).device(
            "0000:00:05.0",
            "pci:v00001AF4d00001041sv0sd0bc02sc00i00",
            Some("x"),
        );
        // Only the old kernel has a driver for the device, built in.
        let machine = machine.file(&format!("lib/modules/{old}/modules.builtin"), "kernel/drivers/net/x.ko\n");
        let machine =
            machine.file(&format!("lib/modules/{old}/modules.builtin.modinfo"), "x.alias=pci:v00001AF4d*\0x.license=GPL\0");
        let machine = machine.file("etc/dnf/dnf.conf", &format!("[main]\ninstallonly_limit={limit}\n"));
        assert_eq!((machine.run(&["check", old]).code, machine.run(&["check", K]).code), (0, 3));
        machine.run(&["--format", "json", "status"]).stdout.contains("last-safe-kernel")
    };
    assert!(warned(2), "the next update removes the old kernel, the only safe one");
    assert!(!warned(3), "with room for three it stays");
}
