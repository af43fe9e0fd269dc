//! `boot.edit_grub_defaults` on a live root: the real grub-mkconfig makes a grub.cfg that uses a saved default, where before neither that
//! nor custom.cfg had an effect. Only grub-probe is a stand-in, since the root of a namespace is on no disk.
//! In rescue mode, so that the default is held and no systemd is needed to refuse a reboot.

#[path = "../../machine/mod.rs"]
mod machine;

use machine::kernels::{DRIVER, NIC};
use machine::live::enter;
use machine::{ramdisk, Machine, Run};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

const OLD: &str = "6.1.0-53-amd64";
const NEW: &str = "6.1.0-54-amd64";
const CONFIG: &str = "boot/grub/grub.cfg";
const ENV: &str = "boot/grub/grubenv";
const DROP_IN: &str = "etc/default/grub.d/99-vfguard.cfg";
const SETTINGS: &str = "GRUB_DEFAULT=0\nGRUB_TIMEOUT=3\nGRUB_CMDLINE_LINUX=\"console=tty0 console=ttyS0\"";

/// A machine with one disk; it counts its calls.
const PROBE: &str = r#"#!/bin/sh
echo x >>/var/probed
for word; do case $word in --target=*) target=${word#*=} ;; -t) target=device ;; esac; done
case $target in
device) echo /dev/vda1 ;;
fs_uuid) echo 6f1b7c34-8e2b-4f0c-9d57-0a1b2c3d4e5f ;;
fs) echo ext2 ;;
partmap) echo msdos ;;
drive) echo '(hd0)' ;;
compatibility_hint) echo hd0 ;;
esac
"#;

/// OLD runs and drives the card, NEW does not. grub.cfg is grub-mkconfig's, without its 41_custom.
fn machine() -> Machine {
    let machine = Machine::new().kernel(OLD).kernel(NEW).device("0000:00:05.0", NIC, Some("ena"));
    let machine = machine
        .file(&format!("boot/initrd.img-{OLD}"), &ramdisk())
        .file(&format!("boot/initrd.img-{NEW}"), &ramdisk())
        .file(&format!("lib/modules/{OLD}/modules.builtin.modinfo"), DRIVER)
        .file("osrelease", &format!("{OLD}\n"))
        .file("cmdline", "ro single\n")
        .file("run/systemd/system/x", "")
        .file("run/nologin", "")
        .file("etc/os-release", "ID=debian\nVERSION_ID=12\n")
        .file("etc/default/grub", SETTINGS)
        .file("etc/default/grub.d/50-cloud.cfg", "GRUB_TIMEOUT=0\n")
        .file("etc/vfguard/config.toml", "[boot]\nedit_grub_defaults = true\n")
        .file("usr/sbin/grub-probe", PROBE);
    fs::set_permissions(machine.path("usr/sbin/grub-probe"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(machine.path("usr/bin")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_vfguard"), machine.path("usr/bin/vfguard")).unwrap();
    let copied = Command::new("cp").arg("-a").arg("/etc/grub.d").arg(machine.path("etc")).status().unwrap();
    assert!(copied.success(), "grub-common is not installed");
    fs::remove_file(machine.path("etc/grub.d/41_custom")).unwrap();
    fs::create_dir_all(machine.path("boot/grub")).unwrap();
    make(&machine);
    assert!(text(&machine, CONFIG).contains("set default=\"0\""), "{}", text(&machine, CONFIG));
    machine
}

/// Runs what an administrator's update-grub runs.
fn make(machine: &Machine) {
    let made = enter(machine, "env -u LANG LC_ALL=C grub-mkconfig -o /boot/grub/grub.cfg && chmod 600 /boot/grub/grub.cfg");
    assert_eq!(made.code, 0, "{}", said(&made));
}

fn said(run: &Run) -> String {
    format!("{}{}", run.stdout, run.stderr)
}

fn text(machine: &Machine, path: &str) -> String {
    fs::read_to_string(machine.path(path)).unwrap_or_default()
}

fn drives(machine: &Machine, good: bool) {
    machine.put(&format!("lib/modules/{NEW}/modules.builtin.modinfo"), if good { DRIVER } else { "" });
}

fn reconcile(machine: &Machine, code: i32) -> String {
    let run = enter(machine, "vfguard reconcile --no-build");
    assert_eq!(run.code, code, "{}", said(&run));
    said(&run)
}

fn next(machine: &Machine) -> String {
    let run = machine.run(&["--format", "json", "next-boot"]);
    assert_eq!(run.json()["certain"], true, "{}", said(&run));
    run.json()["kernels"][0]["kernel"].as_str().unwrap().to_owned()
}

/// The content of GRUB's settings and of its directory.
fn files(machine: &Machine) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for dir in ["etc/default", "etc/default/grub.d", "boot/grub"] {
        let entries = fs::read_dir(machine.path(dir)).unwrap().map(|e| e.unwrap());
        let files = entries.filter(|e| e.file_type().unwrap().is_file());
        found.extend(files.map(|e| (e.path().display().to_string(), fs::read_to_string(e.path()).unwrap())));
    }
    found.sort();
    found
}

fn looks(machine: &Machine) -> usize {
    text(machine, "var/probed").len()
}

#[test]
fn the_machines_own_mkconfig_makes_a_saved_default_work_once_and_it_stays_after_the_promotion() {
    let m = machine();
    let told = reconcile(&m, 3);
    assert!(told.contains(&format!("the boot default is held on {OLD}")), "{told}");
    assert_eq!(next(&m), OLD);
    assert!(text(&m, DROP_IN).contains("\nGRUB_DEFAULT=saved\n") && text(&m, "etc/default/grub") == SETTINGS);
    assert!(text(&m, CONFIG).contains("set default=\"${saved_entry}\""));
    assert!(text(&m, ENV).contains(&format!("gnulinux-{OLD}-advanced")), "{}", text(&m, ENV));
    assert_eq!(fs::metadata(m.path(CONFIG)).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(m.path("boot/grub")).unwrap().count(), 2, "a temporary is left");
    // The literal default was the first entry, and so is an empty saved one: a later kernel is the default as before.
    drives(&m, true);
    reconcile(&m, 0);
    assert_eq!(next(&m), NEW);
    assert!(!text(&m, ENV).contains("saved_entry=gnulinux") && m.path(DROP_IN).exists());
    let (config, before) = (text(&m, CONFIG), looks(&m));
    drives(&m, false);
    reconcile(&m, 3);
    assert_eq!((next(&m).as_str(), text(&m, CONFIG), looks(&m)), (OLD, config.clone(), before));
    // Without the saved default NEW would boot, and a removal must not change that.
    let run = enter(&m, "vfguard gate remove");
    assert!(said(&run).contains("/boot/grub/grub.cfg goes on obeying saved_entry"), "{}", said(&run));
    assert_eq!((next(&m).as_str(), text(&m, CONFIG), m.path(DROP_IN).exists()), (OLD, config, false));
    assert!(!text(&m, ENV).contains("vfguard"), "{}", text(&m, ENV));
}

#[test]
fn a_removal_restores_grub_cfg_if_that_does_not_move_the_default() {
    let m = machine();
    let before = files(&m);
    reconcile(&m, 3);
    drives(&m, true);
    reconcile(&m, 0);
    let run = enter(&m, "vfguard gate remove");
    assert!(said(&run).contains(&format!("{NEW} stays the boot default")), "{}", said(&run));
    let mut after = files(&m);
    after.retain(|(path, _)| !path.ends_with("grubenv"));
    assert_eq!(after, before);
    assert!(!text(&m, ENV).contains("saved_entry") && next(&m) == NEW);
}

#[test]
fn where_mkconfig_reads_no_directory_a_block_in_its_settings_works_and_is_removed_exactly() {
    let m = machine();
    // As on EL 7 and Amazon Linux 2.
    let script = fs::read_to_string("/usr/sbin/grub-mkconfig").unwrap();
    let start = script.find("for x in ${sysconfdir}/default/grub.d").expect("another grub-mkconfig");
    let end = start + script[start..].find("done\n").unwrap() + 5;
    m.put("usr/sbin/grub-mkconfig", &[&script[..start], &script[end..]].concat());
    fs::set_permissions(m.path("usr/sbin/grub-mkconfig"), fs::Permissions::from_mode(0o755)).unwrap();
    reconcile(&m, 3);
    assert_eq!(next(&m), OLD);
    let settings = text(&m, "etc/default/grub");
    assert!(settings.starts_with(SETTINGS) && settings.contains("\nGRUB_DEFAULT=saved\n") && !m.path(DROP_IN).exists());
    drives(&m, true);
    reconcile(&m, 0);
    enter(&m, "vfguard gate remove");
    assert_eq!((text(&m, "etc/default/grub").as_str(), next(&m).as_str()), (SETTINGS, NEW));
}

#[test]
fn a_saved_default_that_had_no_effect_neither_moves_the_default_nor_loses_the_wanted_kernel() {
    for stale in [OLD, NEW] {
        let m = machine();
        let id = |start: &str| text(&m, CONFIG).split('\'').find(|id| id.starts_with(start)).unwrap().to_owned();
        let entry = [id("gnulinux-advanced-"), id(&format!("gnulinux-{stale}-advanced-"))].join(">");
        let set = format!("cd /boot/grub && grub-editenv grubenv create && grub-editenv grubenv set saved_entry='{entry}'");
        assert_eq!(enter(&m, &set).code, 0);
        assert_eq!(next(&m), NEW);
        let told = reconcile(&m, 3);
        assert!(told.contains(&format!("held on {OLD} ({NEW} is wanted)")), "{told}");
        drives(&m, true);
        reconcile(&m, 0);
        assert_eq!(next(&m), NEW);
    }
}

#[test]
fn a_default_that_was_not_the_first_entry_is_saved_from_then_on() {
    const LATER: &str = "6.1.0-55-amd64";
    let m = machine().kernel(LATER).file(&format!("boot/initrd.img-{LATER}"), &ramdisk());
    m.put("etc/default/grub", &SETTINGS.replace("DEFAULT=0", "DEFAULT='1>2'"));
    make(&m);
    assert_eq!(next(&m), NEW);
    reconcile(&m, 3);
    assert_eq!(next(&m), OLD);
    drives(&m, true);
    reconcile(&m, 0);
    assert!(next(&m) == NEW && text(&m, ENV).contains(&format!(">gnulinux-{NEW}-advanced")), "{}", text(&m, ENV));
}

#[test]
fn if_a_new_grub_cfg_would_lose_something_everything_is_restored_and_not_tried_again() {
    let fails = "#!/bin/sh\nexit 1\n";
    let extra = "\nmenuentry 'By hand' {\n linux /vmlinuz-6.1.0-53-amd64 root=/dev/vda1 ro rescued\n}\n";
    type Spoil<'a> = &'a dyn Fn(&Machine);
    let machines: [(Spoil, &str); 5] = [
        (
            &|m| m.put(CONFIG, &text(m, CONFIG).replace(&format!("vmlinuz-{OLD} "), &format!("vmlinuz-{OLD} pci=nomsi "))),
            "would lose \"pci=nomsi\" of the entry",
        ),
        (&|m| m.put(CONFIG, &(text(m, CONFIG) + extra)), "would lose \"rescued\" of the entry \"By hand\""),
        (
            &|m| {
                m.put("etc/grub.d/45_fails", fails);
                fs::set_permissions(m.path("etc/grub.d/45_fails"), fs::Permissions::from_mode(0o755)).unwrap();
            },
            "making /boot/grub/grub.cfg anew",
        ),
        (
            &|m| m.put("etc/default/grub.d/zz.cfg", "GRUB_DEFAULT=0\n"),
            "makes a configuration that does not obey a saved default",
        ),
        (&|m| m.put(CONFIG, &text(m, CONFIG).replace("automatically", "")), "was not made by grub-mkconfig"),
    ];
    for (spoil, why) in machines {
        let m = machine();
        spoil(&m);
        let before = files(&m);
        let told = reconcile(&m, 3);
        assert!(told.contains("boot default not held: ") && told.contains(why), "{why}: {told}");
        assert_eq!(files(&m), before, "{why}: {told}");
        let looked = looks(&m);
        let told = reconcile(&m, 3);
        assert!(told.contains(why) && told.contains("not again until something changes"), "{told}");
        assert_eq!((looks(&m), files(&m)), (looked, before.clone()), "{why}");
        // Its settings are what grub.cfg is made from.
        m.put("etc/default/grub", &format!("{SETTINGS}\nGRUB_TIMEOUT=1\n"));
        reconcile(&m, 3);
        assert!(looks(&m) > looked || why.starts_with("was not made"), "{why}");
    }
}

#[test]
fn without_the_setting_or_on_another_root_nothing_is_written_and_the_setting_is_named() {
    let m = machine();
    let before = files(&m);
    m.put("etc/vfguard/config.toml", "");
    let told = reconcile(&m, 3);
    let remedy = "update-grub # or boot.edit_grub_defaults = true in /etc/vfguard/config.toml";
    assert!(told.contains(remedy), "{told}");
    let doctor = |status: &str| {
        let checks = enter(&m, "vfguard --format json doctor").json()["checks"].clone();
        let check = checks.as_array().unwrap().iter().find(|c| c["name"] == "boot-default").unwrap().clone();
        assert_eq!(check["status"], status, "{check}");
        check.to_string()
    };
    assert!(doctor("failed").contains(remedy));
    m.put("etc/vfguard/config.toml", "[boot]\nedit_grub_defaults = true\n");
    assert!(doctor("warning").contains("boot.edit_grub_defaults allows"));
    assert_eq!(files(&m), before);
    let machine = m.file("proc/sys/kernel/osrelease", &format!("{OLD}\n"));
    let run = machine.run(&["reconcile", "--no-build"]);
    assert!(run.code == 3 && said(&run).contains("boot default not held"), "{}", said(&run));
    assert_eq!(files(&machine), before);
}
