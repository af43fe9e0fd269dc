//! Holds of systemd-boot: by loader.conf, by its variable, and by both.

use super::*;
use crate::boot::efi;

const CONF: &str = "boot/loader/loader.conf";

fn entry(k: &str) -> String {
    format!("title x\nversion {k}\nsort-key x\nlinux /vmlinuz-{k}\n")
}

/// A machine with this loader.conf, if any, and an entry for each kernel; `counter` is in the names of their files.
fn machine(conf: Option<&str>, counter: &str) -> Machine {
    let m = Machine::new(&[("sys/firmware/efi/fw_platform_size", "64"), ("boot/EFI/systemd/systemd-bootx64.efi", "")]);
    for k in [OLD, NEW] {
        put(m.dir.path(), &format!("boot/loader/entries/{k}{counter}.conf"), entry(k).as_bytes());
    }
    if let Some(conf) = conf {
        put(m.dir.path(), CONF, conf.as_bytes());
    }
    m
}

fn set(m: &Machine, name: &str, value: &str) {
    put(m.dir.path(), &efi::loader_path(name)[1..], &efi::value(value, None));
}

fn files(m: &Machine) -> [Option<Vec<u8>>; 2] {
    [CONF, &efi::loader_path("LoaderEntryDefault")[1..]].map(|path| fs::read(m.dir.path().join(path)).ok())
}

const CONFS: [Option<&str>; 6] = [
    None,
    Some(""),
    Some("timeout 3\n"),
    Some("timeout 3\ndefault 4.18.0-*"),
    Some("#default x\ndefault *-553*\n\ndefault 4.18*\n"),
    Some("default nothing\n"),
];

#[test]
fn a_promotion_restores_every_byte_of_loader_conf_and_the_variable() {
    for conf in CONFS {
        for variable in [None, Some("*-553.*"), Some("@saved"), Some("nothing")] {
            for record in [true, false] {
                let m = machine(conf, "");
                set(&m, "LoaderEntryLastBooted", &format!("{NEW}.conf"));
                variable.into_iter().for_each(|value| set(&m, "LoaderEntryDefault", value));
                let (before, what) = (files(&m), format!("{conf:?} {variable:?}, with its record: {record}"));
                hold(&m.host, &m.lock, &k(OLD)).unwrap();
                assert_eq!((m.next().as_str(), m.wanted().as_deref()), (OLD, Some(NEW)), "{what}");
                if !record {
                    fs::remove_file(m.dir.path().join(&RECORD[1..])).unwrap();
                }
                let held = files(&m);
                assert!(!hold(&m.host, &m.lock, &k(OLD)).unwrap().changed, "{what}");
                assert_eq!(files(&m), held, "{what}");
                m.promote().unwrap();
                assert_eq!((files(&m), m.next().as_str()), (before, NEW), "{what}");
            }
        }
    }
}

#[test]
fn a_later_kernel_is_wanted_if_the_previous_default_matches_it() {
    const LATER: &str = "4.18.0-600.el8.x86_64";
    for variable in [None, Some("4.18.0-*")] {
        let m = machine(Some("default 4.18.0-*\n"), "");
        variable.into_iter().for_each(|value| set(&m, "LoaderEntryDefault", value));
        hold(&m.host, &m.lock, &k(OLD)).unwrap();
        for path in [format!("boot/vmlinuz-{LATER}"), format!("lib/modules/{LATER}/x")] {
            put(m.dir.path(), &path, b"");
        }
        put(m.dir.path(), &format!("boot/loader/entries/{LATER}.conf"), entry(LATER).as_bytes());
        assert_eq!((m.next().as_str(), m.wanted().as_deref()), (OLD, Some(LATER)), "{variable:?}");
        m.promote().unwrap();
        assert_eq!(m.next(), LATER, "{variable:?}");
    }
}

#[test]
fn a_hold_that_moves_keeps_what_was_set_before_the_first_hold() {
    for variable in [None, Some("*-553.*")] {
        let m = machine(Some("default *-553.*\n"), "");
        variable.into_iter().for_each(|value| set(&m, "LoaderEntryDefault", value));
        let before = files(&m);
        const LATER: &str = "4.18.0-500.el8.x86_64";
        for path in [format!("boot/vmlinuz-{LATER}"), format!("lib/modules/{LATER}/x")] {
            put(m.dir.path(), &path, b"");
        }
        put(m.dir.path(), &format!("boot/loader/entries/{LATER}.conf"), entry(LATER).as_bytes());
        for to in [OLD, LATER] {
            hold(&m.host, &m.lock, &k(to)).unwrap();
            assert_eq!((m.next().as_str(), m.wanted().as_deref()), (to, Some(NEW)), "{variable:?}");
        }
        m.promote().unwrap();
        assert_eq!(files(&m), before, "{variable:?}");
    }
}

#[test]
fn a_default_that_somebody_sets_during_a_hold_ends_it_and_stays() {
    for variable in [None, Some("*-553.*")] {
        let m = machine(Some("timeout 3\n"), "");
        variable.into_iter().for_each(|value| set(&m, "LoaderEntryDefault", value));
        hold(&m.host, &m.lock, &k(OLD)).unwrap();
        set(&m, "LoaderEntryDefault", "*-553.el8*");
        assert_eq!((m.next().as_str(), m.wanted().as_deref()), (NEW, None), "{variable:?}");
        hold(&m.host, &m.lock, &k(OLD)).unwrap();
        assert_eq!(m.next(), OLD);
        m.promote().unwrap();
        let text = efi::utf16(&files(&m)[1].as_deref().unwrap()[4..]);
        assert_eq!((text.as_str(), m.read(CONF).as_slice()), ("*-553.el8*", b"timeout 3\n".as_slice()), "{variable:?}");
    }
}

#[test]
fn after_uninstalling_the_held_kernel_stays_and_nothing_of_ours_remains() {
    for variable in [None, Some("*-553.*")] {
        let m = machine(Some("default *-553.*\n"), "");
        variable.into_iter().for_each(|value| set(&m, "LoaderEntryDefault", value));
        hold(&m.host, &m.lock, &k(OLD)).unwrap();
        assert_eq!(unmark(&m.host, &m.lock, &held(&m.host).unwrap()).unwrap(), Some(k(OLD)), "{variable:?}");
        assert_eq!(m.next(), OLD, "{variable:?}");
        let conf = String::from_utf8(m.read(CONF)).unwrap();
        assert!(!conf.contains("vfguard") && !conf.contains("LoaderEntry"), "{variable:?}: {conf}");
    }
    let m = machine(None, "");
    assert_eq!(clean(&m.host, &m.lock).unwrap(), Some(k(NEW)));
    assert_eq!(files(&m), [None, None]);
}

#[test]
fn an_entry_with_a_boot_counter_is_held_for_every_version_of_the_loader() {
    for version in ["252.39-1~deb12u2", "257.9", "260"] {
        for variable in [None, Some("*")] {
            let m = machine(Some("timeout 3\n"), "+3");
            set(&m, "LoaderInfo", &format!("systemd-boot {version}"));
            variable.into_iter().for_each(|value| set(&m, "LoaderEntryDefault", value));
            hold(&m.host, &m.lock, &k(OLD)).unwrap();
            let answer = next_boot(&m.host, &config::Boot::default());
            assert!(answer.certain && m.next() == OLD, "{version} {variable:?}: {answer:?}");
        }
    }
}

#[test]
fn the_version_decides_whether_an_id_without_its_counter_names_an_entry() {
    for (version, next, certain) in [("252.39", NEW, true), ("257.9", OLD, false), ("259.1", OLD, true)] {
        let m = machine(Some(&format!("default {OLD}.conf\n")), "+3");
        set(&m, "LoaderInfo", &format!("systemd-boot {version}"));
        let answer = next_boot(&m.host, &config::Boot::default());
        assert_eq!((m.next().as_str(), answer.certain), (next, certain), "{version}");
    }
}
