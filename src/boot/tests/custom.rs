//! A custom.cfg with content that is not ours.

use super::literal::{stock, FILE};
use super::*;
use std::os::unix::fs::{symlink, PermissionsExt};

#[test]
fn a_custom_cfg_that_cannot_be_written_is_named_and_left_alone() {
    let large = vec![b'#'; 2 << 20];
    type Make<'a> = &'a dyn Fn(&Machine, &Path);
    let cases: [(Make, &str); 5] = [
        (&|_, at| fs::write(at, &large).unwrap(), "FileTooLarge"),
        (&|_, at| fs::create_dir(at).unwrap(), "custom.cfg"),
        (&|_, at| symlink("/boot/grub/gone.cfg", at).unwrap(), "is a link"),
        (
            &|m, at| {
                put(m.dir.path(), "etc/grub-custom.cfg", b"");
                symlink("/etc/grub-custom.cfg", at).unwrap();
            },
            "is a link",
        ),
        (&|_, at| fs::write(at, "return\n").unwrap(), "would still start"),
    ];
    for (make, why) in cases {
        let m = stock();
        make(&m, &m.dir.path().join(FILE));
        let error = hold(&m.host, &m.lock, &k(OLD)).unwrap_err();
        let why = if why == "FileTooLarge" { "larger than" } else { why };
        assert!(format!("{error:#}").contains(why) && crate::error::remedy(&error).is_some(), "{why}: {error:#}");
        assert!(m.next() == NEW && !m.host.exists(RECORD));
    }
    // A link inside /boot is followed, and stays a link.
    let m = stock();
    put(m.dir.path(), "boot/grub/mine.cfg", b"set timeout=1\n");
    symlink("mine.cfg", m.dir.path().join(FILE)).unwrap();
    hold(&m.host, &m.lock, &k(OLD)).unwrap();
    assert!(m.next() == OLD && m.dir.path().join(FILE).is_symlink());
    m.promote().unwrap();
    assert_eq!(m.read("boot/grub/mine.cfg"), b"set timeout=1\n");
}

#[test]
fn a_custom_cfg_that_others_may_write_keeps_its_mode_and_is_reported() {
    let m = stock();
    put(m.dir.path(), FILE, b"set timeout=1\n");
    let file = m.dir.path().join(FILE);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let change = hold(&m.host, &m.lock, &k(OLD)).unwrap();
    assert!(change.what.contains("others than root can write /boot/grub/custom.cfg"), "{change:?}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o666);
}
