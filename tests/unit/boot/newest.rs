//! `newest-not-booting`: for each layout on which updates are installed but never run, the reason, the age and the command that fixes it.
//! Nothing is reported if vfguard itself holds the default, or a person declined the kernel.

#[path = "../../machine/mod.rs"]
mod machine;

use machine::{Machine, MACHINE_ID};
use serde_json::Value;
use std::fs;

const OLD: &str = "5.14.0-70.13.1.el9_0.x86_64";
const NEW: &str = "5.14.0-503.11.1.el9_5.x86_64";

/// What a verb reports about it, once: detail, remedy, and the kernel.
fn told(machine: &Machine, verb: &[&str]) -> Option<(String, String, String)> {
    let value = machine.run(&[&["--format", "json"], verb].concat()).json();
    let kernels = value["kernels"].as_array().unwrap();
    let of = |k: &Value| {
        let found = k["findings"].as_array().unwrap().iter().filter(|f| f["code"] == "newest-not-booting");
        let text = |v: &Value| v.as_str().unwrap().to_owned();
        found
            .map(|f| (f["severity"] == "info", text(&f["detail"]), text(&f["remedy"]), text(&k["kernel"])))
            .collect::<Vec<_>>()
    };
    let mut all: Vec<_> = kernels.iter().flat_map(of).collect();
    assert!(all.len() <= 1 && all.iter().all(|(info, ..)| *info), "{all:?}");
    all.pop().map(|(_, detail, remedy, kernel)| (detail, remedy, kernel))
}

/// OLD boots and NEW is installed; both have an entry.
fn el9() -> Machine {
    let machine = Machine::new().grub().file("etc/os-release", "ID=rhel\nVERSION_ID=9.4\nID_LIKE=fedora\n");
    let machine = machine.file("usr/bin/dnf", "").file("etc/sysconfig/kernel", "UPDATEDEFAULT=yes\n").running(OLD);
    machine.kernel(OLD).boot_entry(OLD).kernel(NEW).boot_entry(NEW).boot_default(OLD)
}

fn debian(default: &str) -> Machine {
    let entry = |k: &str| format!("menuentry 'Debian, with Linux {k}' {{\n  linux /vmlinuz-{k} root=/dev/vda1 ro\n}}\n");
    let menu = format!("set default=\"{default}\"\n{}{}", entry("6.1.0-57-amd64"), entry("6.1.0-56-amd64"));
    let machine = Machine::new().kernel("6.1.0-56-amd64").kernel("6.1.0-57-amd64").running("6.1.0-56-amd64");
    machine.file("etc/os-release", "ID=debian\n").file("boot/grub/grub.cfg", &menu)
}

#[test]
fn a_permanently_saved_default_is_reported_with_the_reason_why_packages_do_not_move_it() {
    let grubby = format!("vfguard check {NEW} && grubby --set-default=/boot/vmlinuz-{NEW}");
    let (detail, remedy, kernel) = told(&el9(), &["check"]).unwrap();
    assert!(detail.contains(&format!("{NEW}, the newest installed kernel, installed today, will never start")), "{detail}");
    assert!(detail.ends_with(&format!("saved as \"{MACHINE_ID}-{OLD}\"")), "{detail}");
    assert_eq!((remedy, kernel.as_str()), (grubby, OLD));
    let machine = el9().file("etc/sysconfig/kernel", "UPDATEDEFAULT=no\n");
    let (detail, remedy, _) = told(&machine, &["check"]).unwrap();
    assert!(detail.ends_with("and UPDATEDEFAULT=no in /etc/sysconfig/kernel"), "{detail}");
    assert!(remedy.contains("UPDATEDEFAULT=yes/' /etc/sysconfig/kernel && grubby --set-default="), "{remedy}");
}

#[test]
fn each_verb_that_lists_findings_reports_it_once_and_people_see_it_without_v() {
    let machine = el9();
    for (verb, kernel) in [(&["check"][..], OLD), (&["status"], NEW), (&["check", NEW], NEW)] {
        assert_eq!(told(&machine, verb).map(|(_, _, k)| k).as_deref(), Some(kernel), "{verb:?}");
        let text = machine.run(verb).stdout;
        assert_eq!(text.matches("[newest-not-booting]").count(), 1, "{verb:?}: {text}");
        assert!(text.contains("grubby --set-default"), "{verb:?}: {text}");
    }
    assert_eq!(told(&machine, &["reconcile"]), None, "it decides nothing, and each change leads to such a run");
    assert_eq!(told(&machine, &["check", OLD]), None, "asked of another kernel");
    assert_eq!(machine.run(&["check"]).code, 0, "it refuses nothing");
    assert_eq!(told(&el9().boot_default(NEW), &["check"]), None);
    let before = machine.boot_default(OLD);
    assert_eq!(told(&before.kernel(&format!("{NEW}+debug")).boot_default(NEW), &["check"]), None, "another kind of kernel");
}

#[test]
fn a_missing_entry_and_one_in_another_place_are_distinguished() {
    let entry = format!("boot/loader/entries/{MACHINE_ID}-{NEW}.conf");
    let machine = el9();
    let text = fs::read_to_string(machine.path(&entry)).unwrap();
    fs::remove_file(machine.path(&entry)).unwrap();
    let (detail, remedy, _) = told(&machine, &["check"]).unwrap();
    assert!(detail.contains("has no entry for it"), "{detail}");
    assert_eq!(remedy, format!("kernel-install add {NEW} /boot/vmlinuz-{NEW}"));
    let machine = machine.file(&format!("boot/efi/loader/entries/{MACHINE_ID}-{NEW}.conf"), &text);
    let (detail, ..) = told(&machine, &["check"]).unwrap();
    assert!(detail.contains(&format!("/boot/efi/loader/entries/{MACHINE_ID}-{NEW}.conf")), "{detail}");
    let machine = debian("0").kernel("6.1.0-58-amd64");
    let (detail, remedy, _) = told(&machine, &["check"]).unwrap();
    assert!(detail.contains("6.1.0-58-amd64") && detail.contains("has no entry for it (6.1.0-57-amd64 boots)"), "{detail}");
    assert_eq!(remedy, "update-grub");
}

#[test]
fn entries_with_an_older_machine_id_that_sort_first_are_reported() {
    let machine = Machine::of_case("el9-old-machine-id-sorts-first");
    let (detail, remedy, kernel) = told(&machine, &["check"]).unwrap();
    assert!(detail.contains("another machine-id (97e1b2a8d2c24e0f93d4a1b5c6d7e8f9) sort first"), "{detail}");
    assert!(remedy.starts_with(&format!("vfguard check {NEW} && ")) && kernel == OLD, "{remedy}");
}

#[test]
fn a_default_by_number_or_title_in_grub_cfg_itself_is_reported() {
    let (detail, remedy, _) = told(&debian("1"), &["check"]).unwrap();
    assert!(detail.contains("/boot/grub/grub.cfg names the boot default by its number, \"1\""), "{detail}");
    assert!(remedy.ends_with("&& echo GRUB_DEFAULT=0 >>/etc/default/grub && update-grub"), "{remedy}");
    let (detail, ..) = told(&debian("Debian, with Linux 6.1.0-56-amd64"), &["check"]).unwrap();
    assert!(detail.contains("itself names the boot default, \"Debian, with"), "{detail}");
    assert_eq!(told(&debian("0"), &["check"]), None);
    let machine = Machine::of_case("el7-literal-number-ignores-saved");
    let (detail, remedy, _) = told(&machine, &["check"]).unwrap();
    assert!(detail.contains("by its number, \"1\""), "{detail}");
    assert!(remedy.contains("GRUB_DEFAULT=saved") && remedy.contains("grub2-mkconfig -o /boot/grub2/grub.cfg"), "{remedy}");
}

#[test]
fn a_kernel_that_is_held_off_or_declined_is_not_reported() {
    let machine = el9().boot_default(NEW).vf("ixgbevf").offline();
    assert_eq!(machine.run(&["reconcile", "--no-build"]).code, 3);
    assert_eq!(machine.saved_entry(), OLD);
    assert_eq!(told(&machine, &["check"]), None, "held");
    assert_eq!(machine.run(&["decline", NEW]).code, 0);
    assert_eq!(told(&machine, &["check"]), None, "declined");
}
