use super::*;

/// A line of mountinfo for `id`, device, root in it, mount point, type, source.
fn line(id: u32, device: &str, root: &str, point: &str, kind: &str, source: &str) -> String {
    format!("{id} 1 {device} {root} {point} rw,relatime shared:1 - {kind} {source} rw\n")
}

fn may(text: &str, id: u64, needed: &[&str]) -> bool {
    let mounts = parse(text.as_bytes());
    let mount = mounts.iter().find(|m| m.id == id).unwrap_or_else(|| panic!("no mount {id} in {text}"));
    is_apart(&mounts, mount, &needed.iter().map(PathBuf::from).collect::<Vec<_>>())
}

#[test]
fn only_a_journalled_file_system_that_is_for_boot_files_only_may_be_frozen() {
    // Shortened mountinfo of: Debian 12 on LVM with /boot on ext4 and an EFI partition; Rocky 9 with XFS; Fedora 40 on btrfs
    // subvolumes, with and without /boot on ext4; openSUSE with /boot in the root's subvolume; Fedora Silverblue (ostree).
    let debian = "\
24 30 0:22 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
26 30 0:5 / /dev rw,nosuid,relatime shared:2 - devtmpfs udev rw,size=4033820k,nr_inodes=1008455,mode=755,inode64
28 30 0:24 / /run rw,nosuid,nodev,noexec,relatime shared:5 - tmpfs tmpfs rw,size=812960k,mode=755,inode64
30 1 254:0 / / rw,relatime shared:1 - ext4 /dev/mapper/vg-root rw,errors=remount-ro
90 30 8:2 / /boot rw,relatime shared:48 - ext2 /dev/sda2 rw
93 90 8:1 / /boot/efi rw,relatime shared:50 - vfat /dev/sda1 rw,fmask=0077,dmask=0077
";
    let rocky = "\
59 1 253:0 / / rw,relatime shared:1 - xfs /dev/mapper/rl-root rw,seclabel,attr2,inode64,noquota
96 59 252:1 / /boot rw,relatime shared:51 - xfs /dev/vda1 rw,seclabel,attr2,inode64,logbufs=8,noquota
";
    let fedora = "\
61 1 0:33 /root / rw,relatime shared:1 - btrfs /dev/vda3 rw,seclabel,compress=zstd:1,subvolid=257,subvol=/root
97 61 0:33 /home /home rw,relatime shared:52 - btrfs /dev/vda3 rw,seclabel,compress=zstd:1,subvolid=256,subvol=/home
100 61 252:2 / /boot rw,relatime shared:54 - ext4 /dev/vda2 rw,seclabel
";
    let subvolume = "\
61 1 0:33 /@ / rw,relatime shared:1 - btrfs /dev/vda2 rw,subvolid=256,subvol=/@
98 61 0:33 /@/boot/grub2/x86_64-efi /boot/grub2/x86_64-efi rw,relatime shared:53 - btrfs /dev/vda2 rw,subvol=/@/boot
";
    let silverblue = "\
70 1 0:39 / / ro,relatime shared:1 - overlay composefs ro,seclabel,lowerdir=/run/ostree/.private/cfsroot-lower
71 70 0:33 /root/ostree/deploy/fedora/var /var rw,relatime shared:2 - btrfs /dev/vda3 rw,seclabel,subvol=/root
72 70 252:2 / /boot rw,relatime shared:3 - ext4 /dev/vda2 rw,seclabel
";
    let efi = "93 30 8:1 / /efi rw,relatime - ext4 /dev/sda1 rw\n30 1 254:0 / / rw - ext4 /dev/dm-0 rw\n";
    for (what, text, id, expected) in [
        ("ext4 of its own", fedora.to_owned(), 100, true),
        ("XFS of its own", rocky.to_owned(), 96, true),
        ("beside an overlay", silverblue.to_owned(), 72, true),
        ("/efi", efi.to_owned(), 93, true),
        ("ext2 has no journal", debian.to_owned(), 90, false),
        ("FAT has no journal", debian.to_owned(), 93, false),
        ("the root", debian.to_owned(), 30, false),
        ("the root on XFS", rocky.to_owned(), 59, false),
        ("btrfs is whole without", subvolume.to_owned(), 98, false),
        ("a bind mount of the root's", format!("{rocky}97 59 253:0 /b /boot rw - xfs /dev/mapper/rl-root rw\n"), 97, false),
        ("btrfs' way on a journalled one", subvolume.replace("btrfs", "xfs"), 98, false),
        ("the same device, another number", fedora.replace("/dev/vda3", "/dev/vda2"), 100, false),
        ("no root in sight", rocky.lines().last().unwrap().to_owned() + "\n", 96, false),
        ("its name is no word", rocky.replace("/boot", "/boot/a\\040b"), 96, false),
        ("its name only begins so", rocky.replace("/boot", "/boot2"), 96, false),
    ] {
        assert_eq!(may(&text, id, &["/usr/bin/vfguard", "/swapfile"]), expected, "{what}");
    }
    for place in ["/", "/run", "/var", "/tmp", "/mnt/backup", "/sysroot", "/usr", "/var/lib/containers/x"] {
        let also = line(200, "252:1", "/", place, "xfs", "/dev/vda1");
        assert!(!may(&format!("{rocky}{also}"), 96, &[]), "mounted at {place} too");
    }
    for place in ["/boot/grub2", "/efi", "/boot/efi"] {
        let also = line(200, "252:1", "/x", place, "xfs", "/dev/vda1");
        assert!(may(&format!("{rocky}{also}"), 96, &[]), "mounted at {place} too");
    }
    for needed in ["/boot/swapfile", "/boot/images/root.img", "/boot/vfguard"] {
        assert!(!may(rocky, 96, &["/usr/bin/x", needed]), "{needed} lies on it");
    }
}

#[test]
fn mountinfo_is_read_with_its_escapes_and_optional_fields_and_broken_lines_are_left_out() {
    let text = b"36 35 98:0 /a /mnt/with\\040blank\\134 rw,noatime - ext3 /dev/root rw,errors=continue\n\
                 37 35 98:1 / /b rw shared:1 master:2 - xfs none rw\nnonsense\n38 35 98:2 / /c rw\nx 1 1:1 / /d rw - a b c\n\\\n";
    let mounts = parse(text);
    let points: Vec<&Path> = mounts.iter().map(|m| m.point.as_path()).collect();
    assert_eq!(points, [Path::new("/mnt/with blank\\"), Path::new("/b")]);
    assert_eq!((mounts[1].kind.as_str(), mounts[1].source.as_str(), mounts[1].device.as_str()), ("xfs", "none", "98:1"));
}

#[test]
fn the_mount_of_a_directory_is_the_one_that_the_kernel_names() {
    let mounts = all().unwrap();
    for (place, kind) in [("/proc", "proc"), ("/", "")] {
        let mount = of(&mounts, &File::open(place).unwrap()).unwrap();
        assert!(mount.point == Path::new(place) && (kind.is_empty() || mount.kind == kind), "{mount:?}");
        assert_eq!(freezable(&File::open(place).unwrap()), None);
    }
}
