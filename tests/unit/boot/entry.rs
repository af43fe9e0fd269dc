//! The files that the next boot's entry loads: the image is complete and of a format that the installed GRUB can load, the ramdisk exists
//! and is complete, and an entry has a ramdisk if the others have one.

#[path = "../../machine/mod.rs"]
mod machine;

use machine::{ramdisk, Machine, MACHINE_ID};
use std::fs;

const K: &str = "5.14.0-503.11.1.el9_5.x86_64";
const OLD: &str = "5.14.0-70.13.1.el9_0.x86_64";

fn machine() -> Machine {
    Machine::new().grub().kernel(K).boot_entry(K).boot_default(K)
}

/// Adds a root to the entry, and a ramdisk if `initrd`.
fn entry(machine: Machine, kernel: &str, root: &str, initrd: bool) -> Machine {
    let initrd = if initrd { format!("initrd /initramfs-{kernel}.img\n") } else { String::new() };
    let text = format!("title Linux {kernel}\nversion {kernel}\nlinux /vmlinuz-{kernel}\n{initrd}options root={root} ro\n");
    machine.file(&format!("boot/loader/entries/{MACHINE_ID}-{kernel}.conf"), &text)
}

/// The exit code of `check`, and each finding's code, severity and detail.
fn check(machine: &Machine) -> (i32, Vec<(String, String, String)>) {
    let run = machine.run(&["--format", "json", "check"]);
    let value = run.json();
    let text = |v: &serde_json::Value| v.as_str().unwrap().to_owned();
    let found = value["kernels"][0]["findings"].as_array().unwrap().iter();
    let found: Vec<_> = found.map(|f| (text(&f["code"]), text(&f["severity"]), text(&f["detail"]))).collect();
    assert!(value["kernels"][0]["findings"].as_array().unwrap().iter().all(|f| f["remedy"] != ""), "{value}");
    (run.code, found)
}

/// The only finding with this code.
fn only_of(machine: &Machine, wanted: &str) -> (i32, String, String, String) {
    let (exit, found) = check(machine);
    let (code, severity, detail) = found.into_iter().find(|(code, ..)| code == wanted).unwrap();
    (exit, code, severity, detail)
}

/// The only finding.
fn only(machine: &Machine) -> (i32, String, String, String) {
    let (exit, mut found) = check(machine);
    assert_eq!(found.len(), 1, "{found:?}");
    let (code, severity, detail) = found.remove(0);
    (exit, code, severity, detail)
}

fn put(image: &mut [u8], at: usize, bytes: &[u8]) {
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

/// An image of an x86 kernel whose header says that it is 1 MiB long.
fn bz_image() -> Vec<u8> {
    let mut image = vec![0; 1 << 20];
    put(&mut image, 0x202, b"HdrS");
    put(&mut image, 0x206, &[0x0f, 2]);
    put(&mut image, 0x1f1, &[7]);
    put(&mut image, 0x1f4, &(((1u32 << 20) - 4096) / 16).to_le_bytes());
    image
}

#[test]
fn an_image_that_only_root_may_read_is_not_called_damaged() {
    use std::os::unix::fs::PermissionsExt;
    let machine = machine();
    let mode = |path: std::path::PathBuf, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_vfguard"), machine.path("vfguard")).unwrap();
    mode(machine.path("vfguard"), 0o755);
    mode(machine.root().to_path_buf(), 0o755);
    mode(machine.path(&format!("boot/vmlinuz-{K}")), 0);
    let mut command = std::process::Command::new(machine.path("vfguard"));
    command.arg("--root").arg(machine.root()).arg("check");
    // Root reads everything.
    if nix::unistd::geteuid().is_root() {
        std::os::unix::process::CommandExt::uid(&mut command, 65534);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(0) && said.contains("was not looked at"), "{said}");
}

#[test]
fn an_incomplete_image_refuses_and_a_complete_one_does_not() {
    assert_eq!(check(&machine()), (0, vec![]));
    let image = format!("boot/vmlinuz-{K}");
    for (what, content, word) in [
        ("whole", bz_image(), ""),
        ("cut", bz_image()[..600_000].to_vec(), "has 600000 bytes of at least"),
        ("empty", vec![], "is empty"),
    ] {
        let machine = machine();
        fs::write(machine.path(&image), content).unwrap();
        if word.is_empty() {
            assert_eq!(check(&machine), (0, vec![]), "{what}");
            continue;
        }
        let (exit, code, severity, detail) = only(&machine);
        assert_eq!((exit, code.as_str(), severity.as_str()), (3, "image-damaged", "unsafe"), "{what}");
        assert!(detail.contains(&image) && detail.contains(word), "{detail}");
    }
}

#[test]
fn a_half_installed_kernel_beside_a_package_manager_at_work_is_pending() {
    // dnf 4's lock file, with a process that exists.
    let machine = machine().file("var/lib/dnf/rpmdb_lock.pid", "7\n").file("proc/7/x", "");
    fs::write(machine.path(&format!("boot/vmlinuz-{K}")), "").unwrap();
    let (exit, code, _, detail) = only(&machine);
    assert!(exit == 3 && code == "build-pending" && detail.contains("rpmdb_lock.pid"), "{code}: {detail}");
}

#[test]
fn a_zboot_image_is_judged_by_the_installed_grub() {
    let zboot = || {
        let mut image = vec![0; 4096];
        put(&mut image, 0, b"MZ\0\0zimg");
        put(&mut image, 8, &1024u32.to_le_bytes());
        put(&mut image, 12, &2048u32.to_le_bytes());
        image
    };
    let with = |version: Option<&str>| {
        let mut machine = machine();
        if let Some(version) = version {
            let table = format!("sbat,1,SBAT Version,sbat,1,x\ngrub,3,Free Software Foundation,grub,{version},y\n");
            machine = machine.file("boot/efi/EFI/redhat/grubaa64.efi", &table);
        }
        fs::write(machine.path(&format!("boot/vmlinuz-{K}")), zboot()).unwrap();
        machine
    };
    assert_eq!(check(&with(Some("2.12"))), (0, vec![]));
    for (version, exit, severity, word) in [
        (Some("2.02"), 3, "unsafe", "2.02 is installed (/boot/efi/EFI/redhat/grubaa64.efi)"),
        (Some("2.06"), 0, "warning", "whether its distribution"),
        (None, 0, "warning", "which one is installed is not known"),
    ] {
        let (told, code, weight, detail) = only(&with(version));
        assert_eq!((told, code.as_str(), weight.as_str()), (exit, "image-format", severity), "{version:?}");
        assert!(detail.contains(word), "{detail}");
    }
    let running = with(Some("2.02")).kernel(OLD).running(OLD);
    fs::write(running.path(&format!("boot/vmlinuz-{OLD}")), zboot()).unwrap();
    assert_eq!(check(&running), (0, vec![]), "the boot loader started such a one");
}

#[test]
fn a_truncated_ramdisk_refuses_even_if_no_driver_is_expected_in_it() {
    let initrd = format!("boot/initramfs-{K}.img");
    let whole = entry(machine(), K, "UUID=1", true).file(&initrd, &ramdisk());
    assert_eq!(check(&whole), (0, vec![]));
    let (exit, code, severity, detail) = only(&whole.file(&initrd, &ramdisk()[..100]));
    assert_eq!((exit, code.as_str(), severity.as_str()), (3, "initramfs-stale", "unsafe"));
    assert!(detail.contains("is not whole"), "{detail}");
}

#[test]
fn an_entry_without_a_ramdisk_is_judged_by_the_other_entries_and_its_root() {
    let with = |root: &str, initrd: bool, sibling: bool| {
        let machine = entry(machine().kernel(OLD), OLD, root, sibling);
        let machine = machine.file(&format!("boot/initramfs-{OLD}.img"), &ramdisk());
        entry(machine, K, root, initrd).file(&format!("boot/initramfs-{K}.img"), &ramdisk())
    };
    for (what, root, initrd, sibling, refused) in [
        ("a ramdisk", "UUID=1", true, true, false),
        ("none, and the root is found by one", "UUID=1", false, true, true),
        // As grub-mkconfig writes it if it finds no ramdisk.
        ("none, and the root is a plain device", "/dev/vda1", false, true, true),
        ("none, and the root is told by its partition", "PARTUUID=1-2", false, true, true),
        ("none in any entry", "UUID=1", false, false, false),
    ] {
        let (exit, found) = check(&with(root, initrd, sibling));
        let found: Vec<_> = found.iter().filter(|(code, ..)| code != "newest-not-booting").collect();
        assert_eq!((exit, found.len()), (if refused { 3 } else { 0 }, usize::from(refused)), "{what}: {found:?}");
        if let Some((code, told, detail)) = found.first() {
            assert_eq!((code.as_str(), told.as_str()), ("initramfs-stale", "unsafe"), "{what}");
            assert!(detail.contains(&format!("that of {OLD} has one")), "{detail}");
        }
    }
    // The running kernel's entry shows what is usual here; an entry for repairs shows nothing.
    let bare = || entry(with("/dev/vda1", false, true).kernel("5.14.0-1"), "5.14.0-1", "/dev/vda1", false);
    assert_eq!(check(&bare().running("5.14.0-1")).0, 0);
    assert_eq!(check(&bare().running(OLD)).0, 3);
    let text = format!("title Linux (recovery mode)\nversion {OLD}\nlinux /vmlinuz-{OLD}\ninitrd /initramfs-{OLD}.img\noptions root=/dev/vda1 single\n");
    let repairs =
        with("/dev/vda1", false, false).file(&format!("boot/loader/entries/{MACHINE_ID}-{OLD}-recovery.conf"), &text);
    assert_eq!(check(&repairs).0, 0);
    // A word that is on every command line does not make an entry one for repairs. Where the root needs a ramdisk, any entry's ramdisk
    // counts.
    assert_eq!(check(&with("/dev/vda1 nomodeset", false, true)).0, 3);
    assert_eq!(check(&with("UUID=1", false, true).running(K)).0, 3);
    let hand_built =
        entry(with("UUID=1", false, true).kernel("5.14.0-1"), "5.14.0-1", "/dev/vda1", false).running("5.14.0-1");
    assert_eq!(check(&hand_built).0, 3);
    // A ramdisk that the command line names, and one inside the image.
    assert_eq!(check(&with("/dev/vda1 initrd=\\initrd.img", false, true)).0, 0);
}

#[test]
fn without_any_image_nothing_is_safe() {
    let machine = machine();
    fs::remove_file(machine.path(&format!("boot/vmlinuz-{K}"))).unwrap();
    let (exit, code, severity, _) = only_of(&machine, "entry-stops");
    assert_eq!((exit, code.as_str(), severity.as_str()), (3, "entry-stops", "unsafe"));
}

#[test]
fn the_default_is_not_held_on_the_running_kernel_if_its_image_is_incomplete() {
    let held = |image: &str| {
        let machine = machine().kernel(OLD).boot_entry(OLD).running(OLD).vf("ixgbevf").offline();
        let machine = machine.file(&format!("boot/vmlinuz-{OLD}"), image);
        let run = machine.run(&["reconcile", "--no-build"]);
        assert_eq!(run.code, 3, "{}{}", run.stdout, run.stderr);
        machine.saved_entry() == OLD
    };
    assert!(held("an image"));
    assert!(!held(""), "a power cycle would stop at the boot loader's prompt");
}

#[test]
fn a_default_without_an_image_is_certain_and_unsafe_and_is_moved() {
    let gone = || {
        let machine = machine().kernel(OLD).boot_entry(OLD).running(OLD).vf("ixgbevf").offline();
        for file in [format!("boot/vmlinuz-{K}"), format!("lib/modules/{K}")] {
            let path = machine.path(&file);
            if path.is_dir() {
                fs::remove_dir_all(path).unwrap()
            } else {
                fs::remove_file(path).unwrap()
            }
        }
        machine
    };
    let machine = gone();
    let next = machine.run(&["--format", "json", "next-boot"]).json();
    assert_eq!((&next["certain"], &next["kernels"][0]["kernel"]), (&true.into(), &K.into()), "{next}");
    // Nothing is built for it, and nothing else is required of it.
    let (exit, code, severity, detail) = only(&machine);
    assert_eq!((exit, code.as_str(), severity.as_str()), (3, "entry-stops", "unsafe"));
    assert!(detail.contains(&format!("/vmlinuz-{K} is not there")), "{detail}");
    let run = machine.run(&["reconcile"]);
    assert_eq!(machine.saved_entry(), OLD, "{}{}", run.stdout, run.stderr);
    assert!(!run.stdout.contains(&format!("{K}: ixgbevf")), "{}", run.stdout);
    // While a package is being removed, the finding says so.
    let machine = gone().file("var/lib/dnf/rpmdb_lock.pid", "7\n").file("proc/7/x", "");
    assert_eq!(only(&machine).1, "build-pending");
}

#[test]
fn an_entry_on_an_unreadable_file_system_is_not_reported_as_gone() {
    let elsewhere =
        format!("menuentry 'Other' {{\n search --set=root other\n linux /boot/vmlinuz-{OLD}-other root=/dev/sdz1\n}}\n");
    let here = format!("menuentry 'Ours' {{\n search --set=root ours\n linux /vmlinuz-{K}\n}}\n");
    let certain = |first: &str, second: &str| {
        let machine = Machine::new().kernel(K).file("boot/grub2/grub.cfg", &format!("set default=0\n{first}{second}"));
        machine.run(&["--format", "json", "next-boot"]).json()["certain"].clone()
    };
    assert_eq!(certain(&elsewhere, &here), false);
    assert_eq!(certain(&elsewhere.replace("root other", "root ours"), &here), true);
}
