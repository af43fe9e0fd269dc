//! What a person who watches a transaction sees, and which files of a removed kernel are left.

#[path = "../../machine/mod.rs"]
mod machine;

use machine::Machine;
use std::fs;

const OLD: &str = "5.14.0-1.el9.x86_64";
const NEW: &str = "5.14.0-2.el9.x86_64";
const GATE: &str = "run/systemd/system/reboot.target.d/50-vfguard.conf";

/// OLD runs on an out-of-tree driver. NEW came without headers, is the boot default and has no driver.
fn updated() -> Machine {
    let machine = Machine::new().grub().vf("ixgbevf").running(OLD).offline();
    machine.kernel(OLD).boot_entry(OLD).kernel(NEW).boot_entry(NEW).boot_default(NEW)
}

fn safe() -> Machine {
    Machine::new().grub().kernel(OLD).boot_entry(OLD).boot_default(OLD).running(OLD)
}

#[test]
fn a_refusal_gives_reason_remedy_and_effect_once_in_full_and_then_in_one_line() {
    let machine = updated();
    let run = machine.run(&["reconcile", "--from", "yum"]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    // The reason is printed before the slow part, even though no service does the work here.
    let at = |text: &str| run.stderr.find(text).unwrap_or_else(|| panic!("{text} is not in: {}", run.stderr));
    assert!(
        at(&format!("{NEW}: ixgbevf is not proven yet (a reboot is refused meanwhile)"))
            < at(&format!("{NEW}: preparing ixgbevf"))
    );
    assert!(at("gate closed: a reboot is refused") < at(&format!("{NEW}: preparing ixgbevf")));
    assert_eq!(run.stdout.matches("gate closed").count(), 0, "said twice: {}", run.stdout);
    for word in [NEW, "to mend it: vfguard prepare", "a reboot is refused", OLD, "vfguard gate open --reason"] {
        assert!(run.stdout.contains(word), "{word} is not in: {}", run.stdout);
    }
    assert!(!run.stdout.contains('\r') && !run.stderr.contains('\r'));
    assert!(run.stdout.lines().chain(run.stderr.lines()).all(|l| l.starts_with("vfguard: ")), "{}", run.stdout);
    assert!(machine.path(GATE).is_file());

    // The second hook has something new to report: OLD, which is held and now boots next, cannot be built for either.
    machine.run(&["reconcile", "--from", "rpm-trigger"]);
    let again = machine.run(&["reconcile", "--from", "kernel-install"]);
    let verdict: Vec<&str> = again.stdout.lines().filter(|l| l.contains("unsafe")).collect();
    assert_eq!(verdict.len(), 1, "{}", again.stdout);
    assert!(verdict[0].contains("still unsafe; a reboot is refused"), "{}", again.stdout);
}

#[test]
fn a_held_kernel_without_an_initramfs_is_not_promoted() {
    // As between the boot entry and dracut in a transaction.
    let machine = safe().kernel(NEW).boot_entry(NEW).boot_default(NEW);
    let entry = machine.path("boot/loader/entries").join(format!("{}-{NEW}.conf", machine::MACHINE_ID));
    let text = fs::read_to_string(&entry).unwrap() + &format!("initrd /initramfs-{NEW}.img\n");
    fs::write(&entry, text).unwrap();
    for round in 0..2 {
        let run = machine.run(&["reconcile", "--from", "kernel-install"]);
        assert_eq!(run.code, 3, "{round}: {}{}", run.stdout, run.stderr);
        assert!(machine.path(GATE).is_file(), "{round}: the gate is open: {}", run.stdout);
        assert!(machine.saved_entry().contains(OLD), "{round}: the default is {}", machine.saved_entry());
        assert!(!run.stdout.contains("gate opened"), "{round}: it opened meanwhile: {}", run.stdout);
    }
    let machine = machine.file(&format!("boot/initramfs-{NEW}.img"), &machine::ramdisk());
    let run = machine.run(&["reconcile", "--from", "kernel-install"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(machine.saved_entry().contains(NEW) && !machine.path(GATE).exists(), "{}", run.stdout);
    // The verdict is on the kernel that boots after the default was moved.
    assert!(run.stdout.contains(&format!("({NEW} boots next)")), "{}", run.stdout);
}

#[test]
fn quiet_runs_print_a_refusal_too() {
    let run = updated().run(&["-q", "reconcile", "--from", "yum"]);
    assert!(run.code == 3 && run.stdout.contains("a reboot is refused"), "{}{}", run.stdout, run.stderr);
    let run = safe().run(&["-q", "reconcile", "--from", "yum"]);
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (0, "", ""));
}

#[test]
fn a_safe_verdict_is_printed_once_in_one_line() {
    let machine = safe();
    let first = machine.run(&["reconcile", "--from", "rpm-trigger"]);
    assert_eq!((first.code, first.stdout.lines().count()), (0, 1), "{}", first.stdout);
    assert!(first.stdout.contains("safe: a reboot keeps the network") && first.stdout.contains(OLD), "{}", first.stdout);
    assert_eq!(machine.run(&["reconcile", "--from", "dnf"]).stdout, "");
    // Another kernel that boots next is printed in another line.
    let machine = machine.kernel(NEW).boot_entry(NEW).boot_default(NEW);
    assert!(machine.run(&["reconcile", "--from", "dnf"]).stdout.contains(NEW));
}

#[test]
fn stdout_for_dnf5_has_only_the_protocol() {
    let machine = updated();
    let run = machine.run(&["reconcile", "--from", "dnf5"]);
    assert_eq!(run.code, 3);
    assert_eq!(run.stdout.lines().count(), 1, "{}", run.stdout);
    assert!(run.stdout.starts_with("error=vfguard: a reboot is refused"), "{}", run.stdout);
    assert!(run.stdout.contains(NEW) && run.stdout.contains("to mend it"), "{}", run.stdout);
    assert!(run.stderr.contains("to mend it: vfguard prepare"), "{}", run.stderr);
    let run = safe().run(&["reconcile", "--from", "dnf5"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, ""));
    assert!(run.stderr.contains("safe"), "{}", run.stderr);
    // A failure to decide is an error of the protocol too.
    let run =
        safe().file("etc/vfguard/config.toml", "[drivers]\nrequired = ['none']\n").run(&["reconcile", "--from", "dnf5"]);
    assert_eq!(run.code, 1);
    assert!(run.stdout.starts_with("error=vfguard: ") && run.stdout.lines().count() == 1, "{}", run.stdout);
    // Where vfguard does not act, that is reported, but not on stdout.
    let run = updated().file("proc/cmdline", "vfguard=off\n").run(&["reconcile", "--from", "dnf5"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, ""));
    assert!(run.stderr.contains("vfguard=off"), "{}", run.stderr);
}

#[test]
fn a_message_does_not_claim_a_refusal_where_nothing_is_refused() {
    let run = updated().file("etc/vfguard/config.toml", "mode = 'observe'\n").run(&["reconcile", "--from", "yum"]);
    assert!(run.code == 3 && run.stdout.contains("do not reboot (mode"), "{}", run.stdout);
    assert!(!run.stdout.contains("a reboot is refused"), "{}", run.stdout);
    let run = updated().file("proc/cmdline", "ro single\n").run(&["reconcile", "--from", "yum"]);
    assert!(run.stdout.contains("do not reboot (in rescue mode"), "{}", run.stdout);
}

#[test]
fn a_hook_that_only_decides_does_not_wait_for_another_run_and_the_gate_is_closed() {
    use nix::fcntl::{Flock, FlockArg};
    let machine = updated();
    fs::create_dir_all(machine.path("run/vfguard")).unwrap();
    let file = fs::File::create(machine.path("run/vfguard/lock")).unwrap();
    let _held = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e).unwrap();
    let run = machine.run(&["reconcile", "--no-build", "--from", "boot"]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    assert!(run.stdout.contains("another run is at work"), "{}", run.stdout);
    assert!(machine.path(GATE).is_file());
}

#[test]
fn the_worker_writes_its_progress_to_a_file() {
    let machine = updated();
    assert_eq!(machine.run(&["--no-progress", "reconcile", "--from", "service"]).code, 3);
    let told = fs::read_to_string(machine.path("run/vfguard/progress")).unwrap();
    assert!(told.contains(&format!("{NEW}: preparing ixgbevf")) && told.contains("gate closed"), "{told}");
}

#[test]
fn missing_headers_that_no_repository_has_are_a_finding_with_a_remedy() {
    let record = r#"{"tries":1,"last":0,"absent":true,"said":"Error: Unable to find a match"}"#;
    let machine = updated().file(&format!("var/lib/vfguard/records/headers/{NEW}.json"), record);
    let run = machine.run(&["check", NEW]);
    assert!(run.stdout.contains("no repository offers the headers"), "{}", run.stdout);
    assert!(run.stdout.contains(&format!("vfguard decline {NEW}")), "{}", run.stdout);
    // Once the headers are there, the record does not count any more.
    let machine = machine
        .file(&format!("usr/src/kernels/{NEW}/include/generated/utsrelease.h"), &format!("#define UTS_RELEASE \"{NEW}\"\n"));
    let machine = machine.file(&format!("usr/src/kernels/{NEW}/include/linux/module.h"), "");
    let machine = machine.file(&format!("usr/src/kernels/{NEW}/Makefile"), "");
    let run = machine.run(&["check", NEW]);
    assert!(!run.stdout.contains("no repository offers"), "{}", run.stdout);
}

/// Removes a kernel as its package does, which removes only its own files.
fn removed(machine: Machine) -> Machine {
    let machine = machine
        .file(&format!("lib/modules/{NEW}/updates/vfguard/ixgbevf.ko"), "x")
        .file(&format!("lib/modules/{NEW}/modules.dep"), "x")
        .file(&format!("lib/modules/{NEW}/modules.dep.bin"), "x")
        .file(&format!("var/lib/vfguard/records/{NEW}.json"), "{}")
        .file(&format!("var/lib/vfguard/records/headers/{NEW}.json"), "{}")
        .file("var/lib/vfguard/records/hold.json", "{}")
        .file(&format!("var/lib/vfguard/log/{NEW}-ixgbevf-5.3.36.log"), "x")
        .file(&format!("var/lib/vfguard/log/{OLD}-ixgbevf-5.3.36.log"), "x")
        .file(&format!("var/cache/vfguard/initramfs-1-2-3-4-{NEW}-ixgbevf.json"), "x")
        .file(&format!("var/cache/vfguard/initramfs-1-2-3-4-{OLD}-ixgbevf.json"), "x");
    std::os::unix::fs::symlink(format!("/usr/src/kernels/{NEW}"), machine.path(&format!("lib/modules/{NEW}/build")))
        .unwrap();
    machine
}

#[test]
fn a_removed_kernel_leaves_no_files_of_ours() {
    // A killed depmod leaves unfinished tables; an older depmod uses another name for them.
    let machine = removed(safe())
        .file(&format!("lib/modules/{NEW}/modules.dep.bin.4711.123456.1780000000"), "x")
        .file(&format!("lib/modules/{NEW}/modules.alias.temp"), "x");
    let run = machine.run(&["reconcile", "--from", "rpm-trigger"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains(&format!("{NEW} was removed")), "{}", run.stdout);
    for gone in [
        format!("lib/modules/{NEW}"),
        format!("var/lib/vfguard/records/{NEW}.json"),
        format!("var/lib/vfguard/records/headers/{NEW}.json"),
        format!("var/lib/vfguard/log/{NEW}-ixgbevf-5.3.36.log"),
        format!("var/cache/vfguard/initramfs-1-2-3-4-{NEW}-ixgbevf.json"),
    ] {
        assert!(machine.path(&gone).symlink_metadata().is_err(), "{gone} is still there");
    }
    for kept in [
        format!("lib/modules/{OLD}/modules.dep"),
        "var/lib/vfguard/records/hold.json".into(),
        format!("var/lib/vfguard/log/{OLD}-ixgbevf-5.3.36.log"),
        format!("var/cache/vfguard/initramfs-1-2-3-4-{OLD}-ixgbevf.json"),
    ] {
        assert!(machine.path(&kept).exists(), "{kept} is gone");
    }
    assert_eq!(machine.run(&["reconcile", "--from", "rpm-trigger"]).stdout.lines().count(), 0, "cleaned up twice");
}

#[test]
fn half_written_files_of_killed_runs_are_removed() {
    let dirs = ["boot", "boot/grub2", "boot/loader", "run/vfguard", "var/lib/vfguard/records", "var/cache/vfguard"];
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(2 * 3600);
    let mut machine = updated().file(&format!("boot/.vfguard-initramfs-{NEW}"), "x").file("boot/.vfguard-new", "x");
    for dir in dirs {
        machine = machine.file(&format!("{dir}/.vfguard-Ab12Cd"), "x");
        fs::File::open(machine.path(&format!("{dir}/.vfguard-Ab12Cd"))).unwrap().set_modified(old).unwrap();
    }
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    let left = |dir: &&str| fs::read_dir(machine.path(dir)).unwrap().flatten().map(|e| e.path()).collect::<Vec<_>>();
    let left: Vec<_> = dirs.iter().flat_map(left).filter(|p| p.to_string_lossy().contains("/.vfguard")).collect();
    // Another process may be writing the last one now.
    assert_eq!(left, [machine.path("boot/.vfguard-new")]);
}

#[test]
fn files_of_others_in_the_directory_of_a_removed_kernel_stay() {
    let machine = removed(safe()).file(&format!("lib/modules/{NEW}/extra/own.ko"), "x");
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert!(machine.path(&format!("lib/modules/{NEW}/extra/own.ko")).exists());
    assert!(machine.path(&format!("lib/modules/{NEW}/modules.dep")).exists(), "its tables went");
    assert!(!machine.path(&format!("lib/modules/{NEW}/updates")).exists());
}

#[test]
fn a_half_removed_or_running_kernel_does_not_count_as_removed() {
    let ours = format!("lib/modules/{NEW}/updates/vfguard/ixgbevf.ko");
    for (file, why) in [
        (format!("boot/vmlinuz-{NEW}"), "an image"),
        (format!("lib/modules/{NEW}/kernel/drivers/a.ko"), "modules of its own"),
        (format!("lib/modules/{NEW}/modules.order"), "its package's tables"),
        (format!("usr/src/kernels/{NEW}/Makefile"), "headers"),
    ] {
        let machine = removed(safe()).file(&file, "x");
        machine.run(&["reconcile"]);
        assert!(machine.path(&ours).exists(), "cleaned up although it has {why}");
    }
    let machine = removed(safe()).running(NEW);
    machine.run(&["reconcile"]);
    assert!(machine.path(&ours).exists(), "the running kernel's module was removed");
}

/// Parses a line as yum's post-transaction-actions plugin does: by the rules of EL6 (`line.split(':')` into exactly three) and of later
/// versions. The shipped file was also run through both plugins, under Python 2.7 with yum's own matching.
#[test]
fn yums_action_file_is_valid_for_the_parsers_of_el6_and_el7() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/hooks/yum.action");
    let text = fs::read_to_string(file).unwrap();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
    let mut commands = std::collections::BTreeSet::new();
    let mut states = Vec::new();
    for line in lines {
        let parts: Vec<&str> = line.split(':').collect();
        assert_eq!(parts.len(), 3, "EL6 calls it a bad action line: {line}");
        let (key, state, command) = (parts[0], parts[1], parts[2]);
        // A key with a slash needs file lists, which EL6 does not have for removed packages.
        assert!(key == "kernel*" && !key.contains('/'), "{key}");
        // Kernels are installed beside each other and never updated.
        assert!(["install", "remove"].contains(&state), "{state}");
        assert!(!command.contains(['$', '%', '\'', '"', '`', ';', '|', '&', '>']), "the shell or yum reads it: {command}");
        commands.insert(command);
        states.push(state);
    }
    assert_eq!(states, ["install", "remove"]);
    // The same command twice runs once.
    assert_eq!(commands.into_iter().collect::<Vec<_>>(), ["/usr/bin/vfguard reconcile --from yum"]);
}

#[test]
fn yums_action_prints_a_refusal_in_full_even_after_a_scriptlet_and_nothing_where_nothing_is_new() {
    let machine = updated();
    // EL6 never shows what this prints.
    assert!(machine.run(&["reconcile", "--from", "postinst"]).stdout.contains("to mend it"));
    let run = machine.run(&["reconcile", "--from", "yum"]);
    for word in [NEW, "is not safe to boot", "to mend it: vfguard prepare", "unsafe: a reboot is refused"] {
        assert!(run.stdout.contains(word), "{word} is not in: {}", run.stdout);
    }
    // Another root's transaction, or one that is only tested.
    let again = machine.run(&["reconcile", "--from", "yum"]);
    assert_eq!((again.code, again.stdout.as_str()), (3, ""));
    for (words, lines) in
        [("yum\0update", 1), ("yum\0--installroot=/img\0install", 0), ("yum\0--setopt=tsflags=test\0update", 0)]
    {
        let machine = updated().file("var/run/yum.pid", "7\n").file("proc/7/cmdline", words);
        machine.run(&["reconcile", "--from", "yum"]);
        let said = machine.run(&["reconcile", "--from", "yum"]).stdout;
        assert_eq!(said.matches("still unsafe; a reboot is refused").count(), lines, "{words}: {said}");
    }
    let machine = safe();
    machine.run(&["reconcile", "--from", "postinst"]);
    let told = machine.run(&["reconcile", "--from", "yum"]).stdout;
    assert!(told.lines().count() == 1 && told.contains("safe"), "{told}");
    assert_eq!(machine.run(&["reconcile", "--from", "yum"]).stdout, "");
    let machine = machine.kernel(NEW).boot_entry(NEW);
    assert!(machine.run(&["reconcile", "--from", "yum"]).stdout.contains("safe"), "a kernel came");
}

#[test]
fn the_run_that_closes_the_gate_reports_it() {
    let machine = updated();
    let said = |name: &str| {
        let run = machine.run(&["reconcile", "--from", name]);
        format!("{}{}", run.stdout, run.stderr)
    };
    assert_eq!(said("postinst").matches("gate closed").count(), 1);
    for name in ["rpm-trigger", "service", "yum"] {
        assert_eq!(said(name).matches("gate closed: ").count(), 0, "{name}");
    }
}

#[test]
fn a_removal_reports_a_moved_default_and_no_verdict() {
    let machine = updated();
    machine.run(&["reconcile", "--from", "postinst"]);
    let run = machine.run(&["reconcile", "--from", "prerm", "--leaving", OLD]);
    assert!(!run.stdout.contains("not safe") && !run.stderr.contains("preparing"), "{}{}", run.stdout, run.stderr);
    assert_eq!(machine.run(&["reconcile", "--leaving", OLD]).code, 2, "a hook's name belongs to it");
}

#[test]
fn the_package_for_yum_depends_on_what_its_hooks_need() {
    let spec = include_str!("../../../packaging/vfguard.spec");
    let old = spec.split("%else\nRequires: ").nth(1).unwrap().lines().next().unwrap();
    assert!(old.contains("yum-plugin-post-transaction-actions"), "{old}");
    let trigger = spec.split("%triggerin -- kernel").nth(1).unwrap();
    assert!(trigger.lines().nth(1).unwrap().contains("reconcile --from package-trigger"), "{trigger}");
}

#[test]
fn a_hook_before_the_kernel_is_complete_closes_and_prints_nothing() {
    let machine = updated();
    let run = machine.run(&["reconcile", "--from", "package-trigger"]);
    assert_eq!((run.code, machine.saved_entry().contains(OLD)), (3, true), "{}{}", run.stdout, run.stderr);
    assert!(!run.stdout.contains("not safe to boot") && !run.stderr.contains("preparing"), "{}{}", run.stdout, run.stderr);
    // So the next hook prints it in full.
    let run = machine.run(&["reconcile", "--from", "postinst"]);
    assert!(run.stdout.contains("is not safe to boot") && run.stdout.contains("to mend it"), "{}", run.stdout);
}

#[test]
fn ubuntus_kernels_are_not_promoted_before_their_own_trigger() {
    let whole = || safe().kernel(NEW).boot_entry(NEW);
    let waits = whole().boot_default(NEW).file("proc/sys/kernel/osrelease", &format!("{OLD}\n"));
    let entry = waits.path("boot/loader/entries").join(format!("{}-{NEW}.conf", machine::MACHINE_ID));
    let text = fs::read_to_string(&entry).unwrap();
    fs::write(&entry, text.clone() + &format!("initrd /initramfs-{NEW}.img\n")).unwrap();
    assert_eq!(waits.run(&["reconcile", "--from", "postinst"]).code, 3);
    let waits = waits.file(&format!("boot/initramfs-{NEW}.img"), &machine::ramdisk());
    let waits = waits.file(&format!("usr/lib/linux/triggers/{NEW}"), "");
    assert_eq!(waits.run(&["reconcile", "--from", "dpkg-trigger"]).code, 0);
    assert!(waits.saved_entry().contains(OLD) && waits.path(GATE).exists());
    // The file of a failed trigger of a removed kernel delays nothing.
    fs::rename(waits.path(&format!("usr/lib/linux/triggers/{NEW}")), waits.path("usr/lib/linux/triggers/5.14.0-0")).unwrap();
    assert_eq!(waits.run(&["reconcile", "--from", "dpkg-trigger"]).code, 0);
    assert!(waits.saved_entry().contains(NEW) && !waits.path(GATE).exists());
}
