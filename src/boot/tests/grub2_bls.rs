//! A GRUB that reads no grub.cfg.

use super::*;

#[test]
fn a_hold_on_grub2_bls_writes_nothing_and_names_the_command_that_works() {
    let entry = |k: &str| format!("title x\nversion {k}\nlinux /boot/vmlinuz-{k}\n");
    let (new, old) = (entry(NEW), entry(OLD));
    let m = Machine::new(&[
        ("etc/os-release", "ID=opensuse-tumbleweed\nID_LIKE=\"opensuse suse\"\n"),
        ("sys/firmware/efi/fw_platform_size", "64"),
        ("boot/efi/EFI/opensuse/grubbls.efi", "MZ"),
        ("boot/efi/loader/entries/system-x-4.18.0-553-1.conf", &new),
        ("boot/efi/loader/entries/system-x-4.18.0-80-1.conf", &old),
    ]);
    assert_eq!(m.next(), NEW);
    let error = hold(&m.host, &m.lock, &k(OLD)).unwrap_err();
    assert!(crate::error::remedy(&error).unwrap().contains("sdbootutil set-default"), "{error:#}");
    assert!(settable(&m.host).unwrap_err().remedy.contains("sdbootutil"));
    assert_eq!(fs::read_dir(m.dir.path().join("boot/efi/EFI/opensuse")).unwrap().count(), 1);
    assert!(!m.host.exists(RECORD));
}
