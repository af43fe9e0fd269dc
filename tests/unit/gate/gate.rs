//! The gate from outside: what closes it, what opens it, and where vfguard keeps its hands off.

#[path = "../../machine/mod.rs"]
mod machine;

use machine::{Machine, Run};
use std::fs;

const OLD: &str = "6.1.0-53-amd64";
const NEW: &str = "6.1.0-54-amd64";
const LATER: &str = "6.1.0-55-amd64";
/// A network device that no recipe claims: each kernel must have a driver of its own for it.
const NIC: &str = "pci:v00001234d0000BEEFsv00001234sd0000BEEFbc02sc00i00";
const UNIT: &str = "run/systemd/system/VFGUARD_blocks_reboot__run_vfguard_status.service";
const DROP_IN: &str = "run/systemd/system/reboot.target.d/50-vfguard.conf";

/// A kernel that drives the device with a built-in driver.
fn good(machine: Machine, kernel: &str) -> Machine {
    machine.kernel(kernel).boot_entry(kernel).file(
        &format!("lib/modules/{kernel}/modules.builtin.modinfo"),
        "ena.alias=pci:v00001234d0000BEEFsv*sd*bc*sc*i*\0ena.file=drivers/net/ena\0",
    )
}

/// A kernel without a driver for the device.
fn bad(machine: Machine, kernel: &str) -> Machine {
    machine.kernel(kernel).boot_entry(kernel)
}

fn settled() -> Machine {
    // Which GRUB it is decides what a default means.
    let machine = Machine::new().grub().file("etc/os-release", "ID=rhel\nVERSION_ID=9.4\nID_LIKE=fedora\n");
    let machine = machine.device("0000:00:05.0", NIC, Some("ena"));
    good(machine, OLD).boot_default(OLD).file("proc/sys/kernel/osrelease", &format!("{OLD}\n"))
}

/// OLD runs; NEW came, is the boot default, and cannot drive the device; a hook ran.
fn refused() -> Machine {
    let machine = bad(settled(), NEW).boot_default(NEW);
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 3, "{}{}", run.stdout, run.stderr);
    machine
}

fn shown(machine: &Machine) -> serde_json::Value {
    let run = machine.run(&["--format", "json", "gate", "show"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    run.json()
}

fn gate(machine: &Machine) -> String {
    shown(machine)["gate"].as_str().unwrap().to_owned()
}

fn files(machine: &Machine) -> bool {
    let closed = machine.path(DROP_IN).exists();
    assert_eq!(closed, machine.path(UNIT).symlink_metadata().is_ok());
    closed
}

fn open(machine: &Machine, more: &[&str]) -> Run {
    machine.run(&[&["gate", "open", "--reason", "the console is at hand"], more].concat())
}

#[test]
fn an_unsafe_kernel_closes_the_gate_and_its_driver_opens_it_again() {
    let machine = refused();
    assert!(files(&machine));
    let value = shown(&machine);
    assert_eq!(
        (&value["schema"], &value["gate"], &value["override"]),
        (&1.into(), &"closed".into(), &serde_json::Value::Null)
    );
    assert!(value["reasons"][0].as_str().unwrap().contains(NEW), "{value}");
    assert!(fs::read_to_string(machine.path("run/motd.d/50-vfguard")).unwrap().contains(NEW));
    let machine = good(machine, NEW);
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert_eq!(gate(&machine), "open");
    assert!(!files(&machine) && !machine.path("run/motd.d/50-vfguard").exists());
    assert_eq!(machine.saved_entry(), NEW);
}

#[test]
fn a_gate_that_somebody_broke_is_seen_and_closed_again() {
    let machine = refused();
    fs::remove_file(machine.path("run/systemd/system/systemd-reboot.service.d/50-vfguard.conf")).unwrap();
    assert_eq!(gate(&machine), "open");
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert_eq!(gate(&machine), "closed");
}

#[test]
fn a_gate_closed_in_part_is_cleared_away_once_all_is_safe() {
    let machine = settled().file(DROP_IN, "[Unit]\nRequires=left-over.service\n");
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert!(!machine.path(DROP_IN).exists(), "a left-over drop-in still refuses reboots");
}

/// Whether the audit log has an event of that kind; the hold that refusing sets is there in any case.
fn audited(machine: &Machine, event: &str) -> bool {
    let log = fs::read_to_string(machine.path("var/lib/vfguard/audit.log")).unwrap_or_default();
    assert!(log.contains("\"boot-default\""), "{log}");
    log.contains(&format!("\"{event}\""))
}

#[test]
fn an_override_needs_a_reason_and_a_time_within_bounds() {
    let machine = refused();
    for args in [
        &["gate", "open"][..],
        &["gate", "open", "--reason", ""],
        &["gate", "open", "--reason", " \t "],
        &["gate", "open", "--reason", "x", "--for", "25h"],
        &["gate", "open", "--reason", "x", "--for", "0s"],
        &["gate", "open", "--reason", "x", "--for", "soon"],
        &["gate", "open", "--reason", "x", "--for", "99999999999999999999y"],
    ] {
        assert_eq!(machine.run(args).code, 2, "{args:?}");
    }
    assert_eq!(machine.run(&["gate", "open", "--reason", "x", "--kernel", "9.9"]).code, 1);
    assert_eq!(gate(&machine), "closed");
    assert!(!audited(&machine, "override"));
}

#[test]
fn an_override_opens_is_told_apart_and_is_audited() {
    let machine = refused();
    let run = open(&machine, &["--for", "10m"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("the console is at hand"), "{}", run.stdout);
    assert!(!files(&machine));
    let value = shown(&machine);
    assert_eq!(value["gate"], "overridden");
    let over = &value["override"];
    assert_eq!(over["until"].as_i64().unwrap() - over["since"].as_i64().unwrap(), 600);
    let log = fs::read_to_string(machine.path("var/lib/vfguard/audit.log")).unwrap();
    let line = log.lines().find(|line| line.contains("\"override\"")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["event"], &line["reason"]), (&"override".into(), &"the console is at hand".into()));
    assert!(line["uid"].is_u64() && line["until"].is_string());
    // check is blind to it, and a hook leaves it.
    assert_eq!(machine.run(&["check"]).code, 3);
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert_eq!(gate(&machine), "overridden");
}

#[test]
fn a_kernel_that_the_override_did_not_name_closes_the_gate_again() {
    let machine = refused();
    assert_eq!(open(&machine, &[]).code, 0);
    let machine = bad(machine, LATER).boot_default(LATER);
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert_eq!(gate(&machine), "closed");
    // It has ended: that the other kernel goes away again does not bring it back.
    fs::remove_file(machine.path(&format!("boot/vmlinuz-{LATER}"))).unwrap();
    fs::remove_dir_all(machine.path(&format!("lib/modules/{LATER}"))).unwrap();
    fs::remove_file(machine.path(&format!("boot/loader/entries/0123456789abcdef0123456789abcdef-{LATER}.conf"))).unwrap();
    let machine = machine.boot_default(NEW);
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert_eq!(gate(&machine), "closed");
}

#[test]
fn an_override_that_has_ended_is_none_and_the_next_look_closes() {
    let machine = refused();
    assert_eq!(open(&machine, &[]).code, 0);
    let path = machine.path("run/vfguard/override.json");
    let mut over: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    over["until"] = 1.into();
    fs::write(&path, over.to_string()).unwrap();
    assert_ne!(gate(&machine), "overridden");
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert_eq!(gate(&machine), "closed");
}

#[test]
fn an_override_that_names_the_held_off_kernel_lets_it_be_the_default() {
    let machine = refused();
    assert_eq!(machine.saved_entry(), OLD, "the default was not held");
    let run = open(&machine, &["--kernel", NEW]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(machine.saved_entry(), NEW);
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert_eq!((machine.saved_entry().as_str(), gate(&machine).as_str()), (NEW, "overridden"));
}

#[test]
fn closing_by_hand_holds_until_all_is_found_safe() {
    let machine = settled();
    let run = machine.run(&["gate", "close"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(files(&machine));
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert_eq!(gate(&machine), "open");
    let machine = refused();
    assert_eq!(open(&machine, &[]).code, 0);
    assert_eq!(machine.run(&["gate", "close"]).code, 0);
    assert_eq!(gate(&machine), "closed");
    assert_eq!(shown(&machine)["override"], serde_json::Value::Null);
}

#[test]
fn what_cannot_be_decided_closes_the_gate_and_settings_that_are_broken_do_not_lock_it() {
    let machine = settled().file("etc/vfguard/config.toml", "mode = [[[");
    assert_eq!(machine.run(&["reconcile"]).code, 1);
    let value = shown(&machine);
    assert_eq!(value["gate"], "closed");
    assert!(value["reasons"][0].as_str().unwrap().contains("config.toml"), "{value}");
    assert_eq!(open(&machine, &[]).code, 0);
    assert_eq!(gate(&machine), "overridden");
    assert_eq!(machine.run(&["reconcile", "--no-such-option"]).code, 2);
}

#[test]
fn observing_refuses_and_holds_nothing() {
    let machine = bad(settled(), NEW).boot_default(NEW).file("etc/vfguard/config.toml", "mode = 'observe'\n");
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert_eq!((gate(&machine).as_str(), machine.saved_entry().as_str()), ("open", NEW));
    assert_eq!(machine.run(&["gate", "close"]).code, 1);
    assert!(!files(&machine));
    assert!(shown(&machine)["hands_off"].as_str().unwrap().contains("observe"));
}

#[test]
fn in_rescue_emergency_and_offline_update_the_default_is_held_and_nothing_refused() {
    for words in ["single", "systemd.unit=emergency.target", "systemd.unit=system-update.target"] {
        let machine = bad(settled(), NEW).boot_default(NEW).file("proc/cmdline", &format!("root=/dev/vda1 {words}\n"));
        let run = machine.run(&["reconcile"]);
        assert!(run.code == 3 && run.stdout.contains("no reboot is refused"), "{words}: {}", run.stdout);
        assert_eq!((gate(&machine).as_str(), machine.saved_entry().as_str()), ("open", OLD), "{words}");
    }
}

#[test]
fn early_at_boot_a_driver_that_udev_is_about_to_load_is_waited_for_and_no_other() {
    use std::time::{Duration, Instant};
    let machine = Machine::new().grub().device("0000:00:05.0", NIC, None);
    let machine = bad(machine, NEW).boot_default(NEW).file("proc/sys/kernel/osrelease", &format!("{NEW}\n"));
    let start = Instant::now();
    assert_eq!(machine.run(&["reconcile", "--from", "boot"]).code, 0, "udev is idle: nobody uses the device");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    let machine = machine.file("run/udev/queue", "");
    let code = std::thread::scope(|scope| {
        let decided = scope.spawn(|| machine.run(&["reconcile", "--from", "boot"]).code);
        std::thread::sleep(Duration::from_millis(500));
        let driver = machine.path("sys/bus/pci/devices/0000:00:05.0/driver");
        std::os::unix::fs::symlink("../../../../bus/pci/drivers/ena", driver).unwrap();
        decided.join().unwrap()
    });
    assert_eq!((code, gate(&machine).as_str()), (3, "closed"), "in use, and the kernel has no driver for it");
}

#[test]
fn early_at_boot_a_network_device_is_waited_for_and_another_kind_is_not() {
    use std::time::{Duration, Instant};
    let decided = |modalias: &str| {
        let machine = settled().file("run/udev/queue", "").file("sys/bus/virtio/devices/virtio0/modalias", modalias);
        let start = Instant::now();
        let run = machine.run(&["reconcile", "--no-build", "--from", "boot"]);
        (run.code, start.elapsed(), run.stdout + &run.stderr)
    };
    let (entropy, network) = (decided("virtio:d00000004v00001AF4\n"), decided("virtio:d00000001v00001AF4\n"));
    assert!(entropy.0 == 0 && entropy.1 < Duration::from_secs(8), "{entropy:?}");
    assert!(!entropy.2.contains("waited"), "{entropy:?}");
    // udev was not done: nobody knows whether the device will be in use, so nothing is decided, which refuses.
    assert!(network.0 == 1 && network.1 > Duration::from_secs(9), "{network:?}");
    assert!(network.2.contains("waited 10.0 s for a driver of virtio0 (virtio0 has none)"), "{network:?}");
    assert!(network.2.contains("udev is still at work, and virtio0 may yet get a driver"), "{network:?}");
}

#[test]
fn the_word_on_the_command_line_turns_all_of_it_off() {
    let machine = refused().file("proc/cmdline", "root=/dev/vda1 vfguard=off\n");
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert!(!files(&machine));
    assert_eq!(machine.run(&["gate", "close"]).code, 1);
    let run = machine.run(&["reboot"]);
    assert_ne!(run.code, 2, "{}", run.stderr);
}

#[test]
fn a_scheduled_reboot_is_noticed_when_the_gate_closes() {
    let machine =
        bad(settled(), NEW).boot_default(NEW).file("run/systemd/shutdown/scheduled", "USEC=1700000000000000\nMODE=reboot\n");
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 3);
    let said = machine.run(&["reconcile"]).stdout;
    let told = fs::read_to_string(machine.path("run/motd.d/50-vfguard")).unwrap();
    for text in [&told, &run.stdout] {
        assert!(text.contains("2023-11-14T22:13:20Z") && text.contains("shutdown -c"), "{text}");
    }
    assert!(!said.contains("shutdown -c"), "said again by a run that changed nothing: {said}");
}

#[test]
fn a_reboot_is_checked_and_refused_like_check() {
    assert_eq!(settled().run(&["reboot"]).code, 0);
    let machine = refused();
    let run = machine.run(&["reboot"]);
    assert_eq!(run.code, 3);
    assert!(run.stdout.contains(NEW), "{}", run.stdout);
    assert_eq!(gate(&machine), "closed");
}

#[test]
fn the_held_kernel_can_be_rebooted_into_and_an_unsafe_next_one_cannot() {
    let machine = refused();
    let run = machine.run(&["reboot", "--held"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains(OLD), "{}", run.stdout);
    assert!(fs::read_to_string(machine.path("var/lib/vfguard/audit.log")).unwrap().contains("\"reboot\""));
    let machine = bad(settled(), NEW).boot_default(NEW);
    assert_ne!(machine.run(&["reboot", "--held"]).code, 0);
}

#[test]
fn an_override_that_covers_lets_the_reboot_through_and_another_does_not() {
    let machine = refused();
    assert_eq!(open(&machine, &["--kernel", NEW]).code, 0);
    let run = machine.run(&["reboot"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let machine = refused();
    assert_eq!(open(&machine, &["--kernel", OLD]).code, 0);
    assert_eq!(machine.run(&["reboot"]).code, 3);
}

#[test]
fn a_reboot_waits_for_a_run_only_when_told() {
    use nix::fcntl::{Flock, FlockArg};
    let machine = settled();
    fs::create_dir_all(machine.path("run/vfguard")).unwrap();
    let file = fs::File::create(machine.path("run/vfguard/lock")).unwrap();
    let held = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e).unwrap();
    assert_eq!(machine.run(&["reboot"]).code, 4);
    // The gate waits for nobody.
    assert_eq!(machine.run(&["gate", "close"]).code, 0);
    assert_eq!(open(&machine, &[]).code, 0);
    let mut waiting = machine.command(&["reboot", "--wait"]).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(waiting.try_wait().unwrap().is_none());
    drop(held);
    assert!(waiting.wait().unwrap().success());
}

#[test]
fn nothing_is_promised_where_the_next_boot_is_uncertain() {
    let machine = refused();
    fs::remove_file(machine.path("boot/grub2/grub.cfg")).unwrap();
    assert_ne!(machine.run(&["reboot", "--held"]).code, 0);
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert_eq!(gate(&machine), "closed");
}

#[test]
fn each_unit_names_the_way_out_and_calls_what_there_is() {
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
            // What it calls is understood: here on a machine that is safe, so that it ends well.
            let run = settled().run(&line.split(' ').collect::<Vec<_>>());
            assert_eq!(run.code, 0, "{line}: {}", run.stderr);
            calls += 1;
        }
    }
    assert!(calls >= 4, "{calls}");
}

#[test]
fn whatever_ends_a_run_that_decides_starts_the_unit_that_fails_closed() {
    for name in ["vfguard-boot.service", "vfguard.service"] {
        let text = fs::read_to_string(format!("{}/packaging/systemd/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert!(text.contains("\nOnFailure=vfguard-fail-closed.service\n"), "{name} may die and leave the gate open");
    }
}

#[test]
fn a_run_that_died_closes_the_gate_and_overrules_nobody() {
    let machine = settled();
    assert_eq!(machine.run(&["gate", "close", "--undecided"]).code, 0);
    assert!(shown(&machine)["reasons"][0].as_str().unwrap().contains("ended without a decision"));
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert_eq!(gate(&machine), "open", "the next decision opens it");
    let machine = refused();
    let before = shown(&machine);
    assert_eq!(machine.run(&["gate", "close", "--undecided"]).code, 0);
    assert_eq!(shown(&machine), before, "the reasons are lost");
    assert_eq!(open(&machine, &[]).code, 0);
    assert_eq!(machine.run(&["gate", "close", "--undecided"]).code, 0);
    assert_eq!(gate(&machine), "overridden");
    let machine = settled().file("etc/vfguard/config.toml", "mode = 'observe'\n");
    assert_eq!(machine.run(&["gate", "close", "--undecided"]).code, 0, "what policy leaves open is no failure");
    assert_eq!(gate(&machine), "open");
}

#[test]
fn removing_leaves_neither_gate_nor_override_and_needs_no_reason() {
    for overridden in [false, true] {
        let machine = refused();
        if overridden {
            assert_eq!(open(&machine, &[]).code, 0);
        }
        let run = machine.run(&["gate", "remove"]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert!(run.stdout.contains(OLD), "that the default stays held is not said: {}", run.stdout);
        assert!(!files(&machine) && !machine.path("run/motd.d/50-vfguard").exists());
        assert_eq!(fs::read_dir(machine.path("run/systemd/system")).unwrap().count(), 0);
        assert_eq!((gate(&machine), &shown(&machine)["override"]), ("open".into(), &serde_json::Value::Null));
        assert!(audited(&machine, "remove") && audited(&machine, "override") == overridden);
        assert_eq!(machine.run(&["gate", "remove"]).code, 0, "twice");
    }
    let machine = refused();
    fs::remove_file(machine.path("var/lib/vfguard/audit.log")).unwrap();
    fs::create_dir_all(machine.path("var/lib/vfguard/audit.log")).unwrap();
    assert_eq!(machine.run(&["gate", "remove"]).code, 0, "an audit log that cannot be written keeps the gate");
    assert!(!files(&machine));
}

#[test]
fn closing_by_hand_does_not_depend_on_the_audit_log() {
    let machine = settled();
    fs::create_dir_all(machine.path("var/lib/vfguard/audit.log")).unwrap();
    assert_eq!(machine.run(&["gate", "close"]).code, 1);
    assert!(files(&machine));
}

#[test]
fn the_audit_log_only_ever_grows() {
    use std::os::unix::fs::MetadataExt;
    let machine = refused();
    let path = machine.path("var/lib/vfguard/audit.log");
    let inode = fs::metadata(&path).unwrap().ino();
    let mut before = fs::read(&path).unwrap();
    let steps: [&[&str]; 6] = [
        &["gate", "open", "--reason", "one"],
        &["reboot"],
        &["gate", "close"],
        &["gate", "remove"],
        &["decline", NEW, "--reason", "two"],
        &["reboot"],
    ];
    for args in steps {
        assert_eq!(machine.run(args).code, 0, "{args:?}");
        let after = fs::read(&path).unwrap();
        assert!(after.len() > before.len() && after.starts_with(&before), "{args:?}");
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode, "{args:?}: another file took its place");
        before = after;
    }
}

#[test]
fn deciding_without_building_closes_at_once_and_builds_nothing() {
    let machine = Machine::new().grub().file("etc/os-release", "ID=rhel\nVERSION_ID=9.4\nID_LIKE=fedora\n");
    let machine = machine.vf("ixgbevf").running(OLD).kernel(OLD).boot_entry(OLD).boot_default(OLD).offline();
    let run = machine.run(&["reconcile", "--no-build", "--from", "boot"]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    assert_eq!(gate(&machine), "closed");
    assert!(!machine.path("var/lib/vfguard/log").exists(), "something was built");
}

#[test]
fn what_is_unsafe_is_refused_while_another_run_still_builds() {
    use nix::fcntl::{Flock, FlockArg};
    let machine = bad(settled(), NEW).boot_default(NEW).file("etc/vfguard/config.d/1.toml", "[hook]\nlock_timeout = 0\n");
    fs::create_dir_all(machine.path("run/vfguard")).unwrap();
    let file = fs::File::create(machine.path("run/vfguard/lock")).unwrap();
    let held = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e).unwrap();
    assert_eq!(machine.run(&["reconcile"]).code, 4);
    assert_eq!(gate(&machine), "closed");
    drop(held);
}

#[test]
fn an_override_covers_a_kernel_that_has_an_image_and_no_modules() {
    let machine = bad(settled(), NEW).boot_default(NEW);
    fs::remove_dir_all(machine.path(&format!("lib/modules/{NEW}"))).unwrap();
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert!(files(&machine));
    let run = machine.run(&["gate", "open", "--reason", "it needs none"]);
    assert_eq!((run.code, files(&machine)), (0, false), "{}{}", run.stdout, run.stderr);
}

#[test]
fn a_grubenv_that_is_full_is_not_to_be_removed_and_the_remedy_names_a_program_of_that_name() {
    let machine = bad(settled(), NEW).boot_default(NEW);
    let grubenv = machine.path("boot/grub2/grubenv");
    // Another tool's variable takes nearly all of the room, as the kernels' command line may on EL8.
    let text = fs::read_to_string(&grubenv).unwrap();
    let saved = text.lines().find(|line| line.starts_with("saved_entry=")).unwrap();
    let head = format!("# GRUB Environment Block\n{saved}\nkernelopts=");
    let full = format!("{head}{}\n", "x".repeat(1024 - head.len() - 1));
    fs::write(&grubenv, full).unwrap();
    let run = machine.run(&["reconcile"]);
    let said = format!("{}{}", run.stdout, run.stderr);
    assert!(run.code == 3 && files(&machine), "{said}");
    assert!(said.contains("it is full") && said.contains("grub2-editenv /boot/grub2/grubenv unset"), "{said}");
    assert!(!said.contains("rm /boot"), "{said}");
}

#[test]
fn a_gate_closed_with_a_reason_stays_closed_until_a_person_opens_it() {
    let machine = settled();
    assert_eq!(machine.run(&["gate", "close", "--reason", ""]).code, 2);
    assert_eq!(machine.run(&["gate", "close", "--reason", "two\nlines"]).code, 2);
    assert!(!files(&machine), "a closing that is refused closed");
    let run = machine.run(&["gate", "close", "--reason", "change freeze until Monday"]);
    assert!(run.code == 0 && run.stdout.contains("change freeze until Monday"), "{}{}", run.stdout, run.stderr);
    let log = fs::read_to_string(machine.path("var/lib/vfguard/audit.log")).unwrap();
    assert!(log.contains("\"event\":\"close\"") && log.contains("\"reason\":\"change freeze until Monday\""), "{log}");
    let motd = fs::read_to_string(machine.path("run/motd.d/50-vfguard")).unwrap();
    assert!(motd.contains("an administrator closed the gate") && motd.contains("vfguard gate open --reason TEXT"), "{motd}");
    for by in ["a look", "a boot"] {
        if by == "a boot" {
            fs::remove_dir_all(machine.path("run")).unwrap();
        }
        for args in
            [&["reconcile"][..], &["reconcile", "--from", "99-install"], &["reconcile", "--no-build", "--from", "watch"]]
        {
            let run = machine.run(args);
            assert_eq!(run.code, 0, "all is safe: {}{}", run.stdout, run.stderr);
            assert!(files(&machine), "opened by {args:?} after {by}");
        }
        let check = machine.run(&["check"]);
        assert!(check.code == 0 && check.stdout.contains("the gate is closed by hand by uid "), "{}", check.stdout);
        assert!(check.stdout.contains("change freeze until Monday; to open it: vfguard gate open --reason TEXT"));
        let reboot = machine.run(&["reboot"]);
        assert!(
            reboot.code == 3 && reboot.stderr.contains("change freeze until Monday"),
            "{}{}",
            reboot.stdout,
            reboot.stderr
        );
        assert_eq!(machine.run(&["reboot", "--held"]).code, 3);
        assert!(files(&machine));
    }
    // A kernel that is not safe is told beside it, and goes from the reasons once it is.
    let machine = bad(machine, NEW).boot_default(NEW);
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    let reasons = shown(&machine)["reasons"].as_array().unwrap().clone();
    assert!(reasons.len() == 2 && reasons[0].as_str().unwrap().contains("freeze"), "{reasons:?}");
    let machine = good(machine, NEW);
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert_eq!(machine.saved_entry(), NEW, "a freeze is about reboots: the boot default follows");
    let reasons = shown(&machine)["reasons"].as_array().unwrap().clone();
    assert!(files(&machine) && reasons.len() == 1 && reasons[0].as_str().unwrap().contains("freeze"), "{reasons:?}");
    // As the remedy says; then the verdict decides again.
    assert_eq!(open(&machine, &[]).code, 0);
    assert!(!files(&machine));
    fs::remove_file(machine.path("run/vfguard/override.json")).unwrap();
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert_eq!(gate(&machine), "open");
    // A record that cannot be read counts, and opens in the same way.
    let machine = machine.file("var/lib/vfguard/closed-by-hand.json", "{");
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert!(files(&machine) && shown(&machine)["reasons"][0].as_str().unwrap().contains("cannot be read"));
    assert_eq!(open(&machine, &[]).code, 0);
    assert!(!files(&machine) && !machine.path("var/lib/vfguard/closed-by-hand.json").exists());
    // And goes with vfguard.
    assert_eq!(machine.run(&["gate", "close", "--reason", "x"]).code, 0);
    assert_eq!(machine.run(&["gate", "remove"]).code, 0);
    assert!(!files(&machine) && !machine.path("var/lib/vfguard/closed-by-hand.json").exists());
}

#[test]
fn a_freeze_refuses_nothing_where_vfguard_keeps_its_hands_off() {
    let machine = settled();
    assert_eq!(machine.run(&["gate", "close", "--reason", "freeze"]).code, 0);
    let machine = machine.file("etc/vfguard/config.toml", "mode = 'observe'\n");
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert!(!files(&machine));
    let reboot = machine.run(&["reboot"]);
    assert!(reboot.code == 0 && reboot.stdout.contains("would reboot"), "{}{}", reboot.stdout, reboot.stderr);
    let machine = machine.file("etc/vfguard/config.toml", "");
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert!(files(&machine), "the freeze is forgotten");
}

#[test]
fn an_order_beside_an_unsafe_kernel_is_told_once_and_one_that_cannot_be_read_too() {
    let log = |machine: &Machine| fs::read_to_string(machine.path("var/lib/vfguard/audit.log")).unwrap().lines().count();
    let machine = refused();
    assert_eq!(machine.run(&["gate", "close", "--reason", "freeze"]).code, 0);
    for record in [None, Some("{")] {
        record.iter().for_each(|text| fs::write(machine.path("var/lib/vfguard/closed-by-hand.json"), text).unwrap());
        assert_eq!(machine.run(&["reconcile", "--no-build"]).code, 3);
        let (lines, reasons) = (log(&machine), shown(&machine)["reasons"].clone());
        assert!(reasons.as_array().unwrap().len() == 2 && reasons[1].as_str().unwrap().contains(NEW), "{reasons}");
        for _ in 0..3 {
            assert_eq!(machine.run(&["reconcile", "--no-build"]).code, 3);
        }
        assert_eq!((log(&machine), &shown(&machine)["reasons"]), (lines, &reasons), "each run tells it anew");
    }
}

#[test]
fn an_order_that_cannot_be_ended_keeps_nobody_from_removing_the_gate() {
    let machine = refused();
    fs::create_dir_all(machine.path("var/lib/vfguard/closed-by-hand.json/x")).unwrap();
    let run = machine.run(&["gate", "remove"]);
    assert!(run.code == 1 && run.stderr.contains("closed-by-hand.json"), "{}{}", run.stdout, run.stderr);
    assert!(!files(&machine), "the gate stays closed");
    let told = run.stdout + &run.stderr;
    assert!(told.contains("the boot default stays on"), "what comes after it is left out: {told}");
}
