//! If grub.cfg has a default of its own, a block in custom.cfg holds it.

use super::*;
use std::process::Command;

/// The `41_custom` part of grub.cfg, as grub-mkconfig writes it.
const CUSTOM: &str = "if [ -f  ${config_directory}/custom.cfg ]; then\n  source ${config_directory}/custom.cfg\nelif [ -z \"${config_directory}\" -a -f  $prefix/custom.cfg ]; then\n  source $prefix/custom.cfg\nfi\n";
pub(super) const FILE: &str = "boot/grub/custom.cfg";

/// The head that Debian's grub-mkconfig writes, with this default.
fn head(default: &str) -> String {
    format!("if [ -s $prefix/grubenv ]; then\n  set have_grubenv=true\n  load_env\nfi\nif [ \"${{next_entry}}\" ] ; then\n   set default=\"${{next_entry}}\"\n   set next_entry=\n   save_env next_entry\n   set boot_once=true\nelse\n   set default=\"{default}\"\nfi\n")
}

pub(super) fn entry(k: &str, more: &str) -> String {
    format!("menuentry 'Debian, with Linux {k}{more}' --id 'gnulinux-{k}{more}' {{\n linux /boot/vmlinuz-{k} root=/dev/vda1 ro{more}\n initrd /boot/initramfs-{k}.img\n}}\n")
}

fn debian(default: &str, tail: &str) -> Machine {
    let inner = [entry(NEW, ""), entry(NEW, " recovery"), entry(OLD, " recovery"), entry(OLD, "")].concat();
    let simple = format!("menuentry 'Debian' --id 'gnulinux-simple' {{\n linux /boot/vmlinuz-{NEW} root=/dev/vda1 ro\n initrd /boot/initramfs-{NEW}.img\n}}\n");
    let config = format!("{}{simple}submenu 'Advanced' --id 'adv' {{\n{inner}}}\n{tail}", head(default));
    let block = env("");
    Machine::new(&[
        ("boot/grub/grub.cfg", &config),
        ("boot/grub/grubenv", &block),
        ("etc/os-release", "ID=debian\nVERSION_ID=12\n"),
    ])
}

pub(super) fn stock() -> Machine {
    debian("0", CUSTOM)
}

/// Every file below /boot.
fn files(m: &Machine) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut todo = vec![m.dir.path().join("boot")];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
            if entry.is_dir() {
                todo.push(entry);
            } else {
                found.push((entry.clone(), fs::read(&entry).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// Checks that GRUB's own parser accepts the file.
fn accepted(m: &Machine) {
    match Command::new("grub-script-check").arg(m.dir.path().join(FILE)).output() {
        Ok(out) => assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr)),
        // Not through libtest, which would capture it: tests/run.sh counts these lines.
        Err(_) => crate::print::err(&crate::text::Text::of("skipped boot/grub-script-check: it is not installed")),
    }
}

#[test]
fn a_literal_default_is_held_by_a_block_and_a_promotion_restores_every_byte() {
    let contents: [Option<&[u8]>; 4] = [None, Some(b""), Some(b"set timeout=3"), Some(b"menuentry 'caf\xe9' {\n true\n}\n")];
    for content in contents {
        let m = stock();
        content.into_iter().for_each(|content| put(m.dir.path(), FILE, content));
        let before = files(&m);
        let change = hold(&m.host, &m.lock, &k(OLD)).unwrap();
        assert!(change.changed && change.what.starts_with(&format!("the boot default is held on {OLD}")), "{change:?}");
        assert_eq!((m.next().as_str(), m.wanted().as_deref()), (OLD, Some(NEW)));
        assert_eq!(held(&m.host).map(|h| (h.wanted, h.held)), Some((k(NEW), k(OLD))));
        let text = m.read(FILE);
        let block = format!(
            "\n# vfguard-hold {OLD} {NEW}\nif [ -z \"${{boot_once}}\" ]; then set default='adv>gnulinux-{OLD}'; fi\n"
        );
        assert!(String::from_utf8_lossy(&text).contains(&block), "{}", String::from_utf8_lossy(&text));
        if content.is_none_or(|content| content.is_ascii()) {
            accepted(&m);
        }
        assert!(!hold(&m.host, &m.lock, &k(OLD)).unwrap().changed, "a second hold finds nothing to do");
        assert_eq!(m.read(FILE), text);
        assert!(m.promote().unwrap().changed);
        assert_eq!((m.next().as_str(), m.wanted()), (NEW, None));
        assert_eq!(files(&m), before);
        assert!(!m.host.exists(RECORD));
    }
}

#[test]
fn a_one_shot_default_works_during_a_hold() {
    let m = stock();
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    put(m.dir.path(), "boot/grub/grubenv", env(&format!("next_entry=Advanced>gnulinux-{NEW}\n")).as_bytes());
    let answer = next_boot(&m.host, &config::Boot::default());
    assert_eq!(answer.first().map(|c| (c.kernel.clone(), c.role)), Some((k(NEW), BootRole::Once)));
    assert_eq!(answer.lasting().unwrap().kernel, k(OLD));
    assert!(clear_once(&m.host, &m.lock).unwrap().changed);
    assert_eq!(next_boot(&m.host, &config::Boot::default()).first().unwrap().kernel, k(OLD));
}

#[test]
fn the_wanted_kernel_of_a_block_is_what_the_configuration_says_now() {
    const THIRD: &str = "4.18.0-600.el8.x86_64";
    let m = stock();
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    for path in [format!("boot/vmlinuz-{THIRD}"), format!("boot/initramfs-{THIRD}.img"), format!("lib/modules/{THIRD}/x")] {
        put(m.dir.path(), &path, b"");
    }
    let config = String::from_utf8(m.read("boot/grub/grub.cfg")).unwrap();
    let newer = config.replacen("menuentry 'Debian' ", &format!("{}menuentry 'Debian' ", entry(THIRD, "")), 1);
    put(m.dir.path(), "boot/grub/grub.cfg", newer.as_bytes());
    assert_eq!((m.next().as_str(), m.wanted().as_deref()), (OLD, Some(THIRD)));
    assert_eq!(wanted_entry(&m.host, &k(THIRD)).unwrap().entry, format!("Debian, with Linux {THIRD}"));
    // It was installed after the judgement, so it is not promoted.
    assert!(was_set_meanwhile(&promote(&m.host, &m.lock, Some(&k(NEW))).unwrap_err()));
    m.promote().unwrap();
    assert_eq!((m.next().as_str(), m.host.exists(format!("/{FILE}"))), (THIRD, false));
    // The same without the record.
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    fs::remove_file(m.host.path(RECORD)).unwrap();
    assert_eq!(m.wanted().as_deref(), Some(THIRD));
    m.promote().unwrap();
    assert_eq!(m.next(), THIRD);
}

#[test]
fn a_saved_default_is_preferred_if_obeyed_and_an_earlier_block_is_removed() {
    let m = debian("${saved_entry}", CUSTOM);
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    assert!(!m.host.exists(format!("/{FILE}")) && m.next() == OLD);
    // The configuration changes to a literal default: the new hold removes the mark from the environment.
    let literal = String::from_utf8(m.read("boot/grub/grub.cfg")).unwrap().replace("${saved_entry}", "0");
    put(m.dir.path(), "boot/grub/grub.cfg", literal.as_bytes());
    assert_eq!(m.next(), NEW);
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    assert_eq!((m.next().as_str(), m.wanted().as_deref()), (OLD, Some(NEW)));
    assert_eq!(grubenv::get(&m.read("boot/grub/grubenv"), mark::MARK), None);
    m.promote().unwrap();
    assert_eq!((m.next().as_str(), m.host.exists(format!("/{FILE}"))), (NEW, false));
}

#[test]
fn a_block_that_grub_would_not_read_is_not_written() {
    for (tail, why) in
        [("", "would still start"), ("source ${config_directory}/custom.cfg\nset default=0\n", "would still start")]
    {
        let m = debian("0", tail);
        let before = files(&m);
        let error = hold(&m.host, &m.lock, &k(OLD)).unwrap_err();
        assert!(format!("{error:#}").contains(why), "{error:#}");
        let remedy = format!("echo GRUB_DEFAULT=saved >>/etc/default/grub && update-grub{OR_EDIT}");
        assert_eq!(crate::error::remedy(&error), Some(remedy.as_str()));
        assert_eq!(files(&m), before);
        assert!(!m.host.exists(RECORD));
    }
}

#[test]
fn the_block_is_not_written_beside_a_stub_on_an_efi_partition() {
    let m = stock();
    put(m.dir.path(), "sys/firmware/efi/fw_platform_size", b"64\n");
    let stub = "search.fs_uuid 6f1b7c34 root\nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n";
    put(m.dir.path(), "boot/efi/EFI/debian/grub.cfg", stub.as_bytes());
    assert_eq!(choose::loaders(&m.host).0.remove(0).config(), Path::new("/boot/efi/EFI/debian/grub.cfg"));
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    assert!(m.next() == OLD && m.host.exists(format!("/{FILE}")));
    assert!(!m.host.exists("/boot/efi/EFI/debian/custom.cfg"));
}

#[test]
fn an_edited_block_is_written_again_and_removed_whole() {
    for change in [
        |text: String| text.replace("# vfguard-hold end", ""),
        |text: String| format!("{text}{text}"),
        |text: String| text.replace("if [ -z", "if [ -n"),
        |text: String| text.replace("set default=", "set other="),
    ] {
        let m = stock();
        put(m.dir.path(), FILE, b"set timeout=1\n");
        hold(&m.host, &m.lock, &k(OLD)).unwrap();
        let text = change(String::from_utf8(m.read(FILE)).unwrap());
        put(m.dir.path(), FILE, text.as_bytes());
        if m.next() != OLD {
            hold(&m.host, &m.lock, &k(OLD)).unwrap();
        }
        assert_eq!((m.next().as_str(), m.wanted().as_deref()), (OLD, Some(NEW)), "{text}");
        accepted(&m);
        m.promote().unwrap();
        let rest = String::from_utf8(m.read(FILE)).unwrap();
        assert!(m.next() == NEW && !rest.contains("vfguard") && !rest.contains("boot_once"), "{rest}");
    }
}

#[test]
fn removing_the_block_by_hand_ends_the_hold() {
    let m = stock();
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    fs::remove_file(m.dir.path().join(FILE)).unwrap();
    let answer = next_boot(&m.host, &config::Boot::default());
    assert_eq!((m.next().as_str(), m.wanted(), held(&m.host)), (NEW, None, None));
    forget_stale(&m.host, &m.lock, &answer).unwrap();
    assert!(!m.host.exists(RECORD));
}

#[test]
fn after_uninstalling_the_held_kernel_stays_if_a_saved_default_is_obeyed_else_the_default_is_restored() {
    let m = stock();
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    let record = held(&m.host).unwrap();
    assert_eq!(unmark(&m.host, &m.lock, &record).unwrap(), Some(k(NEW)));
    assert_eq!((m.next().as_str(), m.host.exists(format!("/{FILE}"))), (NEW, false));
    // The configuration now obeys a saved default: the block is removed, and a plain saved default replaces it.
    let m = stock();
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    let saved =
        String::from_utf8(m.read("boot/grub/grub.cfg")).unwrap().replace("default=\"0\"", "default=\"${saved_entry}\"");
    put(m.dir.path(), "boot/grub/grub.cfg", saved.as_bytes());
    let record = held(&m.host).unwrap();
    assert_eq!(unmark(&m.host, &m.lock, &record).unwrap(), Some(k(OLD)));
    assert_eq!((m.next().as_str(), m.host.exists(format!("/{FILE}"))), (OLD, false));
    assert_eq!(grubenv::get(&m.read("boot/grub/grubenv"), mark::MARK), None);
}

#[test]
fn a_menu_that_is_regenerated_in_another_language_keeps_the_hold() {
    let m = stock();
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    let config = String::from_utf8(m.read("boot/grub/grub.cfg")).unwrap();
    let german = config.replace("submenu 'Advanced", "submenu 'Erweiterte");
    assert_ne!(german, config);
    put(m.dir.path(), "boot/grub/grub.cfg", german.as_bytes());
    assert_eq!((m.next().as_str(), m.wanted().as_deref()), (OLD, Some(NEW)));
}

#[test]
fn the_held_entry_is_complete_not_a_rescue_entry_and_like_the_running_one() {
    let m = stock();
    // Entries of a snapshot, and one whose name has no release, come first.
    let snapshot =
        entry(OLD, "").replace("root=/dev/vda1", "root=/dev/vda1 rootflags=subvol=snap").replace("'gnulinux-", "'snap-");
    let broken = entry(OLD, "").replace("initrd /boot/", "initrd /boot/gone-").replace("'gnulinux-", "'broken-");
    let bare =
        entry(OLD, "").replace(&format!("'gnulinux-{OLD}'"), "'bare'").replace(&format!(", with Linux {OLD}'"), " bare'");
    let rescue = entry(OLD, "").replace("with Linux", "rescue,").replace("'gnulinux-", "'a-rescue-");
    let config = String::from_utf8(m.read("boot/grub/grub.cfg")).unwrap();
    let more = config.replacen("submenu 'Adv", &format!("{broken}{bare}{rescue}{snapshot}submenu 'Adv"), 1);
    put(m.dir.path(), "boot/grub/grub.cfg", more.as_bytes());
    put(m.dir.path(), "proc/cmdline", format!("BOOT_IMAGE=/boot/vmlinuz-{OLD} root=/dev/vda1 ro\n").as_bytes());
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    let text = String::from_utf8(m.read(FILE)).unwrap();
    assert!(text.contains(&format!("set default='adv>gnulinux-{OLD}'")), "{text}");
    // Without that entry, the next best one is held, and never the one whose initrd is missing.
    let none = more.replace(&entry(OLD, ""), "");
    for (gone, want) in [("", "'snap-"), ("snap-", "'bare'"), ("bare", "'a-rescue-")] {
        let _ = m.promote();
        let config = if gone.is_empty() { none.clone() } else { String::from_utf8(m.read("boot/grub/grub.cfg")).unwrap() };
        let config = config.replace(&format!("'{gone}{OLD}' {{\n linux /boot/vmlinuz-{OLD}"), "'x' {\n linux /gone");
        let config = config.replace(&format!("'{gone}' {{\n linux /boot/vmlinuz-{OLD}"), "'x' {\n linux /gone");
        put(m.dir.path(), "boot/grub/grub.cfg", config.as_bytes());
        hold(&m.host, &m.lock, &k(OLD)).unwrap();
        let text = String::from_utf8(m.read(FILE)).unwrap();
        assert!(text.contains(&format!("set default={want}")), "{want}: {text}");
    }
}

#[test]
fn an_entry_that_asks_for_a_password_stops_and_is_no_target() {
    let m = stock();
    let locked = String::from_utf8(m.read("boot/grub/grub.cfg")).unwrap();
    let users = "set superusers=\"root\"\nexport superusers\npassword root x\n";
    put(m.dir.path(), "boot/grub/grub.cfg", format!("{users}{locked}").as_bytes());
    let answer = next_boot(&m.host, &config::Boot::default());
    let problem = answer.problems.iter().find(|p| p.message.contains("asks for a user name")).unwrap();
    assert!(answer.certain && answer.lasting().is_none() && problem.remedy.contains("--unrestricted"), "{answer:?}");
    assert!(hold(&m.host, &m.lock, &k(OLD)).is_err() && m.next().is_empty());
    // A default that asks for a password is moved to an entry that does not.
    let (title, open) =
        (format!("menuentry 'Debian, with Linux {OLD}'"), format!("menuentry --unrestricted 'Debian, with Linux {OLD}'"));
    let half = locked.replace(&title, &open);
    let half = half.replace("submenu '", "submenu --unrestricted '");
    put(m.dir.path(), "boot/grub/grub.cfg", format!("{users}{half}").as_bytes());
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    assert!(m.next() == OLD && next_boot(&m.host, &config::Boot::default()).lasting().is_some());
    m.promote().unwrap_err();
    assert_eq!(m.next(), OLD);
    std::fs::remove_file(m.dir.path().join(FILE)).unwrap();
    // Unrestricted entries below a restricted submenu.
    let open = locked.replace("menuentry '", "menuentry --unrestricted '");
    put(m.dir.path(), "boot/grub/grub.cfg", format!("{users}{open}").as_bytes());
    assert!(next_boot(&m.host, &config::Boot::default()).certain);
    let error = hold(&m.host, &m.lock, &k(OLD)).unwrap_err();
    assert!(format!("{error:#}").contains("asks for no password"), "{error:#}");
    let open = open.replace("submenu '", "submenu --unrestricted '");
    put(m.dir.path(), "boot/grub/grub.cfg", format!("{users}{open}").as_bytes());
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    assert!(m.next() == OLD && next_boot(&m.host, &config::Boot::default()).certain);
}

#[test]
fn a_default_by_number_is_noted_and_the_first_entry_is_not() {
    for (default, noted) in [("0", false), ("1>2", true), ("1", true), ("gnulinux-simple", false), ("", false)] {
        let answer = next_boot(&debian(default, CUSTOM).host, &config::Boot::default());
        let number = answer.problems.iter().find(|p| p.message.contains("is a number"));
        assert_eq!(number.is_some(), noted, "{default}: {answer:?}");
        assert!(answer.certain && number.is_none_or(|p| p.remedy.contains("grub-set-default")), "{default}");
    }
}

#[test]
fn a_hold_that_was_written_without_effect_is_not_tried_again_until_something_changes() {
    let m = stock();
    let asked = choose::resolve(&m.host).asked.unwrap();
    let error = crate::error::advise("the disk does not keep it", "look at the disk");
    rest::begin(&m.host, &asked, &k(OLD), &error);
    let before = files(&m);
    let again = hold(&m.host, &m.lock, &k(OLD)).unwrap_err();
    assert!(format!("{again:#}").contains("the disk does not keep it (tried once"), "{again:#}");
    assert_eq!((crate::error::remedy(&again), m.next().as_str()), (Some("look at the disk"), NEW));
    assert!(files(&m) == before && !m.host.exists(RECORD));
    // It is tried again for another kernel, after some time, or after another file has changed.
    assert!(rest::is_on(&m.host, &asked, &k(NEW)).is_none());
    let failed = m.host.path("/run/vfguard/hold-failed");
    for (back, on) in [(3600, false), (60, true)] {
        let at = std::time::SystemTime::now() - Duration::from_secs(back);
        fs::File::options().write(true).open(&failed).unwrap().set_modified(at).unwrap();
        assert_eq!(rest::is_on(&m.host, &asked, &k(OLD)).is_some(), on, "{back}");
    }
    put(m.dir.path(), FILE, b"set timeout=1\n");
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    assert!(m.next() == OLD && !failed.exists());
}

#[test]
fn a_promotion_restores_the_previously_saved_default_and_pins_nothing() {
    for saved in ["", "saved_entry=0\n", "saved_entry=1>0\nother=x\n", "saved_entry=gnulinux-simple\n"] {
        let m = debian("${saved_entry}", CUSTOM);
        put(m.dir.path(), "boot/grub/grubenv", env(saved).as_bytes());
        let before = files(&m);
        hold(&m.host, &m.lock, &k(OLD)).unwrap();
        // The hold moves to another kernel and back: the saved default from before the first hold counts.
        hold(&m.host, &m.lock, &k(NEW)).unwrap();
        hold(&m.host, &m.lock, &k(OLD)).unwrap();
        assert_eq!((m.next().as_str(), m.wanted().as_deref()), (OLD, Some(NEW)), "{saved}");
        m.promote().unwrap();
        assert_eq!((m.next().as_str(), files(&m) == before), (NEW, true), "{saved}");
    }
    // The saved default means another kernel in the meantime: the wanted kernel is set by name.
    let m = debian("${saved_entry}", CUSTOM);
    put(m.dir.path(), "boot/grub/grubenv", env("saved_entry=1>3\n").as_bytes());
    assert_eq!(m.next(), OLD);
    hold(&m.host, &m.lock, &k(NEW)).unwrap();
    let config = String::from_utf8(m.read("boot/grub/grub.cfg")).unwrap();
    put(m.dir.path(), "boot/grub/grub.cfg", config.replacen(&entry(NEW, ""), "", 1).as_bytes());
    put(m.dir.path(), "boot/grub/grub.cfg", (config.replacen(&entry(NEW, " recovery"), "", 1) + &entry(NEW, "")).as_bytes());
    m.promote().unwrap();
    assert_eq!(m.next(), OLD);
    // A nearly full environment block can still be held.
    let m = debian("${saved_entry}", CUSTOM);
    let full = env(&format!("kernelopts={}\nsaved_entry={}\n", "x".repeat(720), "0".repeat(90)));
    put(m.dir.path(), "boot/grub/grubenv", full.as_bytes());
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    assert_eq!((m.next().as_str(), m.wanted().as_deref()), (OLD, Some(NEW)));
    m.promote().unwrap();
    assert_eq!(m.next(), NEW);
}
