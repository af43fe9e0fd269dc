//! A hold that keeps a declined kernel from booting: the wanted kernel is another one, found by record or mark, or by the loader's own
//! files.

use super::literal::{entry, stock};
use super::*;
use crate::boot::declined;

const LATER: &str = "4.18.0-600.el8.x86_64";

/// The default is held on OLD, and NEW is declined.
fn declined(m: Machine) -> Machine {
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    declined::add(&m.host, &m.lock, &k(NEW), "").unwrap();
    m
}

fn install(m: &Machine, kernel: &str) {
    for path in [format!("boot/vmlinuz-{kernel}"), format!("boot/initramfs-{kernel}.img"), format!("lib/modules/{kernel}/x")]
    {
        put(m.dir.path(), &path, b"");
    }
}

fn off(m: &Machine) -> Option<HeldOff> {
    held_off(&m.host, &next_boot(&m.host, &config::Boot::default()))
}

/// The declined kernel stays off and nothing is wanted; `later` installs the next kernel, which is wanted and promoted.
fn skipped(m: &Machine, later: impl FnOnce(&Machine)) {
    let kept = || Some(HeldOff { kernel: k(NEW), wanted: None });
    assert_eq!((m.next().as_str(), off(m)), (OLD, kept()));
    let hold = held(&m.host).unwrap();
    assert_eq!((&hold.held, &hold.wanted, &hold.declined), (&k(OLD), &k(OLD), &Some(k(NEW))));
    assert!(hold.line().contains(&format!("{NEW} is declined")) && !hold.line().contains("instead"), "{}", hold.line());
    assert!(promote(&m.host, &m.lock, None).is_err(), "the default would go back to the declined kernel");
    assert_eq!((m.next().as_str(), off(m)), (OLD, kept()));
    later(m);
    assert_eq!((m.next().as_str(), m.wanted().as_deref()), (OLD, Some(LATER)));
    let hold = held(&m.host).unwrap();
    assert_eq!((&hold.wanted, &hold.declined), (&k(LATER), &None));
    // Both are declined, then one of them is accepted again.
    declined::add(&m.host, &m.lock, &k(LATER), "").unwrap();
    assert_eq!((m.next().as_str(), m.wanted()), (OLD, None));
    declined::remove(&m.host, &m.lock, &k(LATER)).unwrap();
    m.promote().unwrap();
    assert_eq!((m.next().as_str(), held(&m.host)), (LATER, None));
}

fn bls_entry(m: &Machine) {
    install(m, LATER);
    let text = format!("title x\nversion {LATER}\nlinux /vmlinuz-{LATER}\ninitrd /initramfs-{LATER}.img\noptions ro\n");
    put(m.dir.path(), &format!("boot/loader/entries/{MID}-{LATER}.conf"), text.as_bytes());
}

#[test]
fn a_saved_default_goes_to_the_first_newer_kernel_of_the_menu() {
    skipped(&declined(saved()), bls_entry);
    // With the record alone, and with the mark alone.
    for lost in ["record", "mark"] {
        let m = declined(saved());
        if lost == "record" {
            fs::remove_file(m.dir.path().join(&RECORD[1..])).unwrap();
        } else {
            let block = grubenv::edit(&m.read("boot/grub2/grubenv"), &mark::variables(None, None)).unwrap();
            put(m.dir.path(), "boot/grub2/grubenv", &block);
        }
        assert_eq!((m.next().as_str(), m.wanted()), (OLD, None), "{lost}");
        // The lost one is written again as it was.
        hold(&m.host, &m.lock, &k(OLD)).unwrap();
        assert_eq!(Hold::read(&m.host).map(|h| (h.wanted, h.held)), Some((k(NEW), k(OLD))), "{lost}");
        skipped(&m, bls_entry);
    }
}

#[test]
fn a_literal_default_goes_where_the_configuration_leads_without_the_block() {
    let m = declined(stock());
    let path = "boot/grub/grub.cfg";
    let config = String::from_utf8(m.read(path)).unwrap();
    skipped(&m, |m| {
        install(m, LATER);
        // A later kernel that the configuration does not start is not wanted.
        let tail = config.replacen(
            "submenu 'Advanced' --id 'adv' {\n",
            &format!("submenu 'Advanced' --id 'adv' {{\n{}", entry(LATER, "")),
            1,
        );
        put(m.dir.path(), path, tail.as_bytes());
        assert_eq!((m.next().as_str(), m.wanted()), (OLD, None));
        let first = tail.replacen(&format!("vmlinuz-{NEW}"), &format!("vmlinuz-{LATER}"), 1);
        put(m.dir.path(), path, first.replacen(&format!("initramfs-{NEW}"), &format!("initramfs-{LATER}"), 1).as_bytes());
    });
    assert!(!m.host.exists("/boot/grub/custom.cfg"));
}

#[test]
fn grub_legacy_and_systemd_boot_skip_it_too() {
    let menu = format!("default=0\ntimeout=5\n{}{}", title(NEW), title(OLD));
    skipped(&declined(Machine::new(&[("boot/grub/grub.conf", &menu)])), |m| {
        install(m, LATER);
        // Like new-kernel-pkg without UPDATEDEFAULT.
        let held = String::from_utf8(m.read("boot/grub/grub.conf")).unwrap();
        let more = held.replacen("title", &format!("{}title", title(LATER)), 1).replace("default=1", "default=2");
        put(m.dir.path(), "boot/grub/grub.conf", more.as_bytes());
    });
    let text = |k: &str| format!("title x\nversion {k}\nsort-key x\nlinux /vmlinuz-{k}\n");
    let [new, old] = [NEW, OLD].map(|k| (format!("boot/loader/entries/{k}.conf"), text(k)));
    let m = Machine::new(&[
        ("sys/firmware/efi/fw_platform_size", "64"),
        ("boot/EFI/systemd/systemd-bootx64.efi", ""),
        ("boot/loader/loader.conf", "timeout 3\n"),
        (&new.0, &new.1),
        (&old.0, &old.1),
    ]);
    skipped(&declined(m), |m| {
        install(m, LATER);
        put(m.dir.path(), &format!("boot/loader/entries/{LATER}.conf"), text(LATER).as_bytes());
    });
}

#[test]
fn a_hold_that_moves_still_keeps_the_declined_kernel_off() {
    let m = declined(saved());
    bls_entry(&m);
    assert_eq!(m.wanted().as_deref(), Some(LATER));
    // The held kernel is no longer safe, and the later one is running.
    hold(&m.host, &m.lock, &k(LATER)).unwrap();
    assert_eq!(Hold::read(&m.host).map(|h| (h.wanted, h.held)), Some((k(NEW), k(LATER))));
    assert_eq!((m.next().as_str(), off(&m)), (LATER, Some(HeldOff { kernel: k(NEW), wanted: None })));
}

#[test]
fn uninstalling_vfguard_removes_the_mark_and_the_record_keeps_what_would_boot() {
    let m = declined(saved());
    fs::remove_file(m.dir.path().join(&RECORD[1..])).unwrap();
    let hold = held(&m.host).unwrap();
    assert_eq!(unmark(&m.host, &m.lock, &hold).unwrap(), Some(k(OLD)));
    assert_eq!(Hold::read(&m.host).map(|h| (h.wanted, h.declined)), Some((k(NEW), None)));
    assert_eq!((m.next().as_str(), grubenv::get(&m.read("boot/grub2/grubenv"), mark::MARK)), (OLD, None));
    let m = declined(stock());
    assert_eq!(unmark(&m.host, &m.lock, &held(&m.host).unwrap()).unwrap(), Some(k(NEW)));
    assert_eq!((m.next().as_str(), m.host.exists("/boot/grub/custom.cfg")), (NEW, false));
}
