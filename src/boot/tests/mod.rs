//! Moves of the boot default on complete trees.

mod beside;
mod copies;
mod custom;
mod declined;
mod grub2_bls;
mod hostile;
mod literal;
mod systemd_boot;

use super::grubenv;
use super::hold::{rest, RECORD};
use super::steps::{mark, moves, plan};
use super::*;
use crate::host::lock::BootLock;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const OLD: &str = "4.18.0-80.el8.x86_64";
const NEW: &str = "4.18.0-553.el8.x86_64";
const MID: &str = "0c3cc8ac60cb4cd4a9e2ca0a2e7d3d29";
const CFG: &str = "if [ -s $prefix/grubenv ]; then\n  load_env\nfi\nif [ \"${next_entry}\" ]; then\n  set default=\"${next_entry}\"\n  set next_entry=\n  save_env next_entry\n  set boot_once=true\nelse\n  set default=\"${saved_entry}\"\nfi\n";

struct Machine {
    dir: tempfile::TempDir,
    host: Host,
    lock: BootLock,
}

impl Machine {
    fn new(files: &[(&str, &str)]) -> Machine {
        let dir = tempfile::tempdir().unwrap();
        for k in [OLD, NEW] {
            for path in [format!("boot/vmlinuz-{k}"), format!("boot/initramfs-{k}.img"), format!("lib/modules/{k}/x")] {
                put(dir.path(), &path, b"");
            }
        }
        for (path, text) in files {
            put(dir.path(), path, text.as_bytes());
        }
        let host = Host::new(dir.path()).unwrap();
        let lock = BootLock::take(&host).unwrap();
        Machine { dir, host, lock }
    }

    fn next(&self) -> String {
        let answer = next_boot(&self.host, &config::Boot::default());
        answer.lasting().map(|c| c.kernel.to_string()).unwrap_or_default()
    }

    fn wanted(&self) -> Option<String> {
        let answer = next_boot(&self.host, &config::Boot::default());
        wanted(&self.host, &answer).map(|k| k.to_string())
    }

    /// Promotes the kernel that is wanted now.
    fn promote(&self) -> anyhow::Result<Change> {
        let answer = next_boot(&self.host, &config::Boot::default());
        promote(&self.host, &self.lock, wanted(&self.host, &answer).as_ref())
    }

    fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.dir.path().join(path)).unwrap()
    }
}

fn put(root: &Path, path: &str, bytes: &[u8]) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    // Dated long ago: a file that was written just now is read again.
    fs::File::options().write(true).open(path).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
}

fn wanted(host: &Host, now: &NextBoot) -> Option<KernelRelease> {
    held_off(host, now)?.wanted
}

fn named(host: &Host) -> Option<(Vec<u8>, Option<String>)> {
    let asked = choose::resolve(host).asked.unwrap();
    asked.loader.named(host, &asked)
}

fn env(text: &str) -> String {
    let mut block = format!("# GRUB Environment Block\n{text}");
    block.extend(std::iter::repeat_n('#', grubenv::SIZE - block.len()));
    block
}

fn k(name: &str) -> KernelRelease {
    name.parse().unwrap()
}

fn bls(env_text: &str, config: &str) -> Machine {
    let entry =
        |k: &str| format!("title Linux ({k})\nversion {k}\nlinux /vmlinuz-{k}\ninitrd /initramfs-{k}.img\noptions ro\n");
    let block = env(env_text);
    Machine::new(&[
        ("boot/grub2/grub.cfg", config),
        ("boot/grub2/grubenv", &block),
        ("etc/os-release", "ID=rocky\nVERSION_ID=8.10\nID_LIKE=\"rhel fedora\"\n"),
        (&format!("boot/loader/entries/{MID}-{OLD}.conf"), &entry(OLD)),
        (&format!("boot/loader/entries/{MID}-{NEW}.conf"), &entry(NEW)),
    ])
}

fn saved() -> Machine {
    bls(&format!("saved_entry={MID}-{NEW}\nkernelopts=ro\n"), &format!("{CFG}blscfg\n"))
}

#[test]
fn a_hold_moves_the_default_and_a_promotion_moves_it_back() {
    let m = saved();
    assert_eq!((m.next().as_str(), m.wanted()), (NEW, None));
    let change = hold(&m.host, &m.lock, &k(OLD)).unwrap();
    assert!(change.changed, "{change:?}");
    assert_eq!((m.next().as_str(), m.wanted().as_deref()), (OLD, Some(NEW)));
    let block = m.read("boot/grub2/grubenv");
    assert_eq!(block.len(), grubenv::SIZE);
    assert_eq!(grubenv::get(&block, "saved_entry"), Some(format!("{MID}-{OLD}")));
    assert_eq!(grubenv::get(&block, "kernelopts").as_deref(), Some("ro"));
    assert!(!hold(&m.host, &m.lock, &k(OLD)).unwrap().changed, "a second hold finds nothing to do");
    assert!(m.promote().unwrap().changed);
    assert_eq!((m.next().as_str(), m.wanted()), (NEW, None));
    assert!(!m.host.exists(RECORD));
    assert_eq!(grubenv::get(&m.read("boot/grub2/grubenv"), mark::MARK), None);
    assert!(!m.promote().unwrap().changed, "a second promotion finds nothing to do");
}

#[test]
fn with_a_lost_record_the_first_kernel_of_the_loader_is_wanted() {
    let m = saved();
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    fs::remove_file(m.dir.path().join(&RECORD[1..])).unwrap();
    assert_eq!(m.wanted().as_deref(), Some(NEW));
    m.promote().unwrap();
    assert_eq!((m.next().as_str(), m.wanted()), (NEW, None));
}

#[test]
fn a_default_that_was_set_during_a_hold_is_the_wanted_one() {
    let m = saved();
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    let block = grubenv::edit(&m.read("boot/grub2/grubenv"), &[("saved_entry", Some("0"))]).unwrap();
    put(m.dir.path(), "boot/grub2/grubenv", &block);
    assert_eq!((m.next().as_str(), m.wanted()), (NEW, None));
    fs::remove_file(m.dir.path().join(&RECORD[1..])).unwrap();
    assert_eq!(m.wanted(), None, "the mark in the environment names a kernel that is not the default any more");
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    assert_eq!((m.next().as_str(), m.wanted().as_deref()), (OLD, Some(NEW)));
    put(m.dir.path(), "boot/grub2/grubenv", &block);
    assert!(!m.promote().unwrap().changed);
    assert!(!m.host.exists(RECORD));
    assert_eq!((m.next().as_str(), m.wanted()), (NEW, None));
}

#[test]
fn a_released_hold_keeps_the_default() {
    let m = saved();
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    release(&m.host, &m.lock).unwrap();
    assert_eq!((m.next().as_str(), m.wanted()), (OLD, None));
}

#[test]
fn a_default_without_effect_is_an_error_and_everything_is_restored() {
    let m = bls(&format!("saved_entry={MID}-{NEW}\n"), "load_env\nset default=0\nblscfg\n");
    let before = m.read("boot/grub2/grubenv");
    let error = hold(&m.host, &m.lock, &k(OLD)).unwrap_err();
    assert!(crate::error::remedy(&error).unwrap().contains("GRUB_DEFAULT=saved"), "{error:#}");
    assert_eq!(m.read("boot/grub2/grubenv"), before);
    assert!(!m.host.exists(RECORD));
    assert_eq!((m.next().as_str(), m.wanted()), (NEW, None));
}

#[test]
fn a_broken_environment_is_not_written() {
    for block in
        ["", "saved_entry=x\n", &env("saved_entry=x\n")[..1000], &(env("saved_entry=x\n") + "#"), &env("env_block=512+1\n")]
    {
        let m = saved();
        put(m.dir.path(), "boot/grub2/grubenv", block.as_bytes());
        assert!(hold(&m.host, &m.lock, &k(OLD)).is_err(), "{block:?}");
        assert_eq!(m.read("boot/grub2/grubenv"), block.as_bytes());
        assert!(!m.host.exists(RECORD));
    }
}

#[test]
fn a_linked_environment_is_written_at_its_target_and_stays_the_same_file() {
    use std::os::unix::fs::{symlink, MetadataExt};
    let m = saved();
    let there = m.dir.path().join("boot/efi/EFI/rocky/grubenv");
    fs::create_dir_all(there.parent().unwrap()).unwrap();
    fs::rename(m.dir.path().join("boot/grub2/grubenv"), &there).unwrap();
    symlink("/boot/efi/EFI/rocky/grubenv", m.dir.path().join("boot/grub2/grubenv")).unwrap();
    let inode = fs::metadata(&there).unwrap().ino();
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    assert_eq!(m.next(), OLD);
    assert_eq!(fs::metadata(&there).unwrap().ino(), inode);
    assert!(m.dir.path().join("boot/grub2/grubenv").is_symlink());
}

#[test]
fn a_one_shot_default_can_be_cleared() {
    let m = bls(&format!("saved_entry={MID}-{OLD}\nnext_entry={MID}-{NEW}\n"), &format!("{CFG}blscfg\n"));
    let answer = next_boot(&m.host, &config::Boot::default());
    assert_eq!(answer.first().unwrap().kernel, k(NEW));
    assert!(clear_once(&m.host, &m.lock).unwrap().changed);
    let answer = next_boot(&m.host, &config::Boot::default());
    assert_eq!(answer.first().unwrap().kernel, k(OLD));
    assert!(!clear_once(&m.host, &m.lock).unwrap().changed);
}

#[test]
fn a_kernel_without_an_entry_cannot_be_held() {
    let m = saved();
    assert!(hold(&m.host, &m.lock, &k("4.18.0-1.el8.x86_64")).is_err());
    assert_eq!(m.next(), NEW);
}

#[test]
fn el7_titles_are_saved_where_ids_repeat() {
    let entry = |k: &str| {
        format!("menuentry 'CentOS Linux ({k}) 7 (Core)' --unrestricted --id 'same' {{\n linux16 /vmlinuz-{k} ro\n}}\n")
    };
    let config = format!("{CFG}{}{}", entry(NEW), entry(OLD));
    let block = env("");
    let m = Machine::new(&[("boot/grub2/grub.cfg", &config), ("boot/grub2/grubenv", &block)]);
    assert_eq!(m.next(), NEW);
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    assert_eq!(m.next(), OLD);
    let saved = grubenv::get(&m.read("boot/grub2/grubenv"), "saved_entry").unwrap();
    assert_eq!(saved, format!("CentOS Linux ({OLD}) 7 (Core)"));
}

#[test]
fn debian_entries_inside_a_submenu_are_held_by_their_ids() {
    let entry = |k: &str, more: &str| {
        format!(
            "menuentry 'Debian, with Linux {k}{more}' --id 'gnulinux-{k}{more}' {{\n linux /boot/vmlinuz-{k} ro{more}\n}}\n"
        )
    };
    let inner = [entry(NEW, ""), entry(NEW, " single"), entry(OLD, " single"), entry(OLD, "")].concat();
    let config = format!(
        "{CFG}menuentry 'Debian' --id 'gnulinux-simple' {{\n linux /boot/vmlinuz-{NEW} ro\n}}\nsubmenu 'Advanced' --id 'adv' {{\n{inner}}}\n"
    );
    let block = env("");
    let m = Machine::new(&[
        ("boot/grub/grub.cfg", &config),
        ("boot/grub/grubenv", &block),
        ("etc/os-release", "ID=debian\nVERSION_ID=12\n"),
    ]);
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    assert_eq!(m.next(), OLD);
    let saved = grubenv::get(&m.read("boot/grub/grubenv"), "saved_entry").unwrap();
    assert_eq!(saved, format!("adv>gnulinux-{OLD}"));
    m.promote().unwrap();
    assert_eq!(m.next(), NEW);
}

/// An entry of GRUB legacy.
fn title(k: &str) -> String {
    format!("title CentOS ({k})\n\troot (hd0,0)\n\tkernel /boot/vmlinuz-{k} ro\n\tinitrd /boot/initramfs-{k}.img\n")
}

#[test]
fn grub_legacy_s_menu_changes_only_in_its_default() {
    let menu = format!("# grub.conf\ndefault=0\ntimeout=5\n{}{}", title(NEW), title(OLD));
    let m = Machine::new(&[("boot/grub/grub.conf", &menu)]);
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    assert_eq!((m.next().as_str(), m.wanted().as_deref()), (OLD, Some(NEW)));
    m.promote().unwrap();
    assert_eq!(String::from_utf8(m.read("boot/grub/grub.conf")).unwrap(), menu);
}

#[test]
fn grub_legacy_s_files_name_the_number_of_the_default() {
    let entries = "title a\nboot\ntitle b\nboot\ntitle c\nboot\n";
    for (head, saved, number) in [("default=1\n", "2\n", "1"), ("default=saved\n", "2\n", "2"), ("", "2\n", "0")] {
        let menu = format!("{head}{entries}");
        let m = Machine::new(&[("boot/grub/grub.conf", &menu), ("boot/grub/default", saved)]);
        let named = named(&m.host);
        assert_eq!(named, Some((menu.into_bytes(), Some(number.into()))), "{head}");
    }
    let m = Machine::new(&[("boot/grub/grub.conf", "default=1\n")]);
    assert_eq!(named(&m.host), None, "a file that is being written names nothing");
}

#[test]
fn without_a_loader_nothing_is_moved_and_the_answer_is_uncertain() {
    let m = Machine::new(&[]);
    assert!(hold(&m.host, &m.lock, &k(OLD)).is_err());
    let none = config::Boot { loader: config::Loader::None, ..Default::default() };
    let answer = next_boot(&m.host, &none);
    assert!(!answer.certain && answer.source == Source::Unknown && answer.problems[0].message.contains("none"));
}

#[test]
fn a_hold_names_a_title_if_grubby_copies_ids() {
    let entry = |k: &str| {
        format!("menuentry 'CentOS Linux ({k}) 7' $menuentry_id_option 'gnulinux-{k}-advanced' {{\n linux16 /vmlinuz-{k} ro\n}}\n")
    };
    for (release, name) in [("7.9", format!("CentOS Linux ({OLD}) 7")), ("10", format!("gnulinux-{OLD}-advanced"))] {
        let config = format!("{CFG}menuentry_id_option=--id\n{}{}", entry(NEW), entry(OLD));
        let os = format!("ID=centos\nVERSION_ID={release}\nID_LIKE=\"rhel fedora\"\n");
        let m = Machine::new(&[("boot/grub2/grub.cfg", &config), ("boot/grub2/grubenv", &env("")), ("etc/os-release", &os)]);
        hold(&m.host, &m.lock, &k(OLD)).unwrap();
        let block = String::from_utf8(m.read("boot/grub2/grubenv")).unwrap();
        assert!(block.contains(&format!("saved_entry={name}\n")), "{release}: {block}");
    }
}
