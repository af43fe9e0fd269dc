//! An initramfs is read as the kernel unpacks it: real cpio archives, compressed by real programs, in any number and order.

#[path = "../../machine/mod.rs"]
mod machine;

use machine::Machine;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

const K: &str = "6.1.0-56-amd64";
const OTHER: &str = "6.1.0-55-amd64";

/// A file, a link (`target`) or a hard link to an earlier name.
#[derive(Clone, Copy)]
enum Item<'a> {
    File(&'a str, &'a str),
    Link(&'a str, &'a str),
    Hard(&'a str, &'a str),
}
use Item::{File, Hard, Link};

fn cpio(items: &[Item]) -> Vec<u8> {
    archive(items, "")
}

/// Makes an archive; `which` are find's conditions. It has directories too unless the conditions exclude them.
fn archive(items: &[Item], which: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    };
    for item in items {
        match item {
            File(name, text) => fs::write(at(name), text).unwrap(),
            Link(name, target) => symlink(target, at(name)).unwrap(),
            Hard(name, to) => fs::hard_link(dir.path().join(to), at(name)).unwrap(),
        }
    }
    run(&format!("find . -mindepth 1 {which} | sort | cpio -o -H newc --quiet"), dir.path(), &[])
}

fn run(script: &str, dir: &Path, input: &[u8]) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), input).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", script]).current_dir(dir).stdin(Stdio::from(fs::File::open(file.path()).unwrap()));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn packed(program: &str, content: &[u8]) -> Vec<u8> {
    run(program, Path::new("/"), content)
}

/// A machine whose disk has the driver "new"; its boot entry names these images.
fn machine(images: &[Vec<u8>]) -> Machine {
    let machine = Machine::new().grub().kernel(K).boot_default(K).vf("ixgbevf").running(OTHER);
    let machine = machine.file(&format!("lib/modules/{K}/updates/ixgbevf.ko"), "new");
    let machine = machine.file(&format!("lib/modules/{K}/modules.dep"), "updates/ixgbevf.ko:\n");
    let mut names = Vec::new();
    for (i, image) in images.iter().enumerate() {
        fs::write(machine.path(&format!("boot/image-{i}")), image).unwrap();
        names.push(format!("/image-{i}"));
    }
    let entry =
        format!("title Linux\nversion {K}\nlinux /vmlinuz-{K}\ninitrd {}\noptions root=/dev/vda1 ro\n", names.join(" "));
    machine.file(&format!("boot/loader/entries/{}-{K}.conf", machine::MACHINE_ID), &entry)
}

/// The refusing finding about the initramfs.
fn said(machine: &Machine) -> Option<String> {
    finding(machine).map(|(detail, _)| detail)
}

/// The same with its remedy.
fn finding(machine: &Machine) -> Option<(String, String)> {
    let value = machine.run(&["--format", "json", "check", K]).json();
    let all = value["kernels"][0]["findings"].as_array().unwrap();
    let found = all.iter().find(|f| f["code"] == "initramfs-stale" && f["severity"] == "unsafe")?;
    let text = |key: &str| found[key].as_str().unwrap().to_owned();
    Some((text("detail"), text("remedy")))
}

fn driver(text: &str) -> Vec<u8> {
    cpio(&[File(&format!("usr/lib/modules/{K}/updates/ixgbevf.ko"), text)])
}

#[test]
fn archives_in_a_row_count_with_any_compression_and_the_later_one_wins() {
    let early = cpio(&[File("kernel/x86/microcode/GenuineIntel.bin", "microcode")]);
    let base = cpio(&[File("init", "#!/bin/sh\n"), Link("lib", "usr/lib"), File("usr/lib/os-release", "ID=x\n")]);
    let (old, new) = (driver("old"), driver("new"));
    let (gzip, zeros) = (|c: &[u8]| packed("gzip -c", c), vec![0; 512]);
    for program in ["cat", "gzip -c", "xz -c --check=crc32", "lzma -c", "zstd -qc", "lz4 -l -c"] {
        let pack = |content: &[u8]| packed(program, content);
        for (parts, stale) in [
            (vec![&early[..], &zeros, &gzip(&base), &zeros, &pack(&old)], true),
            (vec![&early, &zeros, &gzip(&base), &zeros, &pack(&new)], false),
            (vec![&pack(&base), &zeros, &gzip(&old)], true),
            (vec![&gzip(&old), &zeros, &pack(&new), &zeros, &gzip(&base)], false),
            (vec![&pack(&new), &zeros, &pack(&base), &zeros, &pack(&old)], true),
        ] {
            // The kernel needs a plain archive to begin at a multiple of four.
            let mut image = Vec::new();
            for part in parts {
                image.resize(image.len().next_multiple_of(4), 0);
                image.extend(part);
            }
            let said = said(&machine(&[image]));
            assert_eq!(said.as_ref().is_some_and(|s| s.contains("another ixgbevf")), stale, "{program}: {said:?}");
            assert_eq!(said.is_some(), stale, "{program}: {said:?}");
        }
    }
    // Members, frames and streams without padding between them.
    for program in ["gzip -c", "xz -c --check=crc32", "zstd -qc"] {
        let image = [packed(program, &base), packed(program, &old)].concat();
        assert!(said(&machine(&[image])).unwrap().contains("another ixgbevf"), "{program}");
    }
    let image = packed("gzip -c", &[&base[..], &zeros, &old].concat());
    assert!(said(&machine(&[image])).unwrap().contains("another ixgbevf"), "two archives in one stream");
}

#[test]
fn unreadable_data_after_an_archive_is_never_ignored() {
    let (base, old) = (packed("gzip -c", &cpio(&[File("init", "x")])), driver("old"));
    let plain = cpio(&[File("init", "x")]);
    let cut = packed("xz -c", &old);
    for (image, why) in [
        ([&base[..], &packed("bzip2 -c", &old)].concat(), "packed with bzip2"),
        ([&base[..], &[0x89, b'L', b'Z', b'O', 0, 1]].concat(), "packed with lzo"),
        ([&base[..], b"no archive"].concat(), "neither a cpio archive nor packed"),
        ([&base[..], &cut[..cut.len() / 2]].concat(), "cannot be read"),
        ([&plain[..], &[0; 3], &old].concat(), "not aligned"),
        ([&plain[..], &[0; 2], &packed("gzip -c", &old)].concat(), "not aligned"),
        // The kernel unpacks each stream by itself.
        ([packed("gzip -c", &old[..100]), packed("gzip -c", &old[100..])].concat(), "cannot be read"),
    ] {
        let said = said(&machine(&[image])).unwrap_or_else(|| panic!("nothing was said of {why}"));
        assert!(said.contains(why), "{why}: {said}");
    }
    // An excessive number of parts.
    let image = packed("gzip -c", &cpio(&[])).repeat(5000);
    assert!(said(&machine(&[image])).unwrap().contains("too many parts"));
}

/// A new image would be compressed in the same way, so the setting is named before the command.
#[test]
fn an_unsupported_compression_is_reported_with_the_setting_that_changes_it() {
    let old = driver("old");
    for (program, why) in
        [("bzip2 -c", "bzip2, which vfguard does not read"), ("lz4 -c", "lz4 in frames, which the kernel does not read")]
    {
        let (detail, remedy) = finding(&machine(&[packed(program, &old)])).unwrap_or_else(|| panic!("{program}"));
        assert!(detail.contains(why), "{program}: {detail}");
        let command = remedy.find(&format!("update-initramfs -u -k {K}")).unwrap();
        for setting in ["COMPRESS=gzip in /etc/initramfs-tools/initramfs.conf", "compress=\"gzip\" in /etc/dracut.conf.d/"] {
            assert!(remedy.find(setting).is_some_and(|at| at < command), "{program}: {remedy}");
        }
    }
    let same = packed("lz4 -c", &driver("new"));
    assert!(said(&machine(&[same])).is_some(), "the kernel does not unpack it, whatever it holds");
    let (_, remedy) = finding(&machine(&[b"no archive".to_vec()])).unwrap();
    assert!(!remedy.contains("compress"), "{remedy}");
}

/// What `bootconfig -a` (tools/bootconfig of the kernel) appends to an initrd.
fn bootconfig(text: &str, before: usize) -> Vec<u8> {
    let mut config = [text.as_bytes(), b"\0"].concat();
    config.resize((before + config.len() + 20).next_multiple_of(4) - before - 20, 0);
    let sum = config.iter().fold(0u32, |sum, b| sum.wrapping_add(u32::from(*b)));
    let size = u32::try_from(config.len()).unwrap();
    [&config[..], &size.to_le_bytes(), &sum.to_le_bytes(), b"#BOOTCONFIG\n"].concat()
}

#[test]
fn a_boot_configuration_after_the_initrd_is_not_part_of_it() {
    let base = cpio(&[File("init", "x")]);
    for (text, stale) in [("old", true), ("new", false)] {
        for image in [packed("gzip -c", &driver(text)), packed("zstd -qc", &driver(text)), driver(text)] {
            let footer = bootconfig("kernel.quiet\nfeature.x = 1\n", image.len());
            for padding in 0..4 {
                // A boot loader may align the size.
                let image = [&image[..], &footer, &vec![0; padding]].concat();
                let said = said(&machine(&[base.clone(), image]));
                assert_eq!(said.is_some(), stale, "{said:?}");
                assert_eq!(said.is_some_and(|s| s.contains("another ixgbevf")), stale);
            }
        }
    }
    // The kernel ignores a damaged one, and one that is not at the end.
    let image = packed("gzip -c", &driver("new"));
    let footer = bootconfig("kernel.quiet\n", image.len());
    let mut damaged = footer.clone();
    damaged[0] ^= 1;
    let mut too_large = footer.clone();
    let at = too_large.len() - 17;
    too_large[at] = 0x7f;
    for footer in [damaged, too_large] {
        assert!(said(&machine(&[[&image[..], &footer].concat()])).is_some());
    }
    assert!(said(&machine(&[[&image[..], &footer].concat(), base])).is_some());
}

/// The same archive without its trailer, which newc does not need.
fn without_trailer(archive: &[u8]) -> &[u8] {
    let name = archive.windows(10).position(|w| w == b"TRAILER!!!").unwrap();
    &archive[..name - 110]
}

#[test]
fn an_archive_without_a_trailer_is_read_to_its_end() {
    let (base, old, new) = (cpio(&[File("init", "x")]), driver("old"), driver("new"));
    let gzip = |c: &[u8]| packed("gzip -c", c);
    let base = without_trailer(&base);
    for (text, stale) in [(&old, true), (&new, false)] {
        let text = without_trailer(text);
        for image in [
            [base, text].concat(),
            [base, &[0; 512], text].concat(),
            gzip(&[base, &[0; 512], text].concat()),
            [base, &gzip(text)].concat(),
        ] {
            let said = said(&machine(&[image]));
            assert_eq!(said.as_ref().is_some_and(|s| s.contains("another ixgbevf")), stale, "{said:?}");
            assert_eq!(said.is_some(), stale, "{said:?}");
        }
    }
}

#[test]
fn a_driver_in_a_directory_that_no_entry_creates_is_never_unpacked() {
    let own = format!("usr/lib/modules/{K}/updates/ixgbevf.ko");
    let (files, base) = (archive(&[File(&own, "old")], "-type f"), cpio(&[File("init", "x")]));
    assert_eq!(said(&machine(&[[&files[..], &base].concat()])), None);
    let directories = archive(&[File(&own, "old")], "-type d");
    assert!(said(&machine(&[[&directories[..], &files, &base].concat()])).unwrap().contains("another ixgbevf"));
}

#[test]
fn links_in_an_initramfs_are_followed_as_the_kernel_does() {
    let gzip = |items: &[Item]| packed("gzip -c", &cpio(items));
    let own = format!("usr/lib/modules/{K}/updates/ixgbevf.ko");
    let through = format!("lib/modules/{K}/updates/ixgbevf.ko");
    let target = format!("usr/lib/modules/{OTHER}/extra/ixgbevf.ko");
    let weak = format!("usr/lib/modules/{K}/weak-updates/ixgbevf.ko");
    let lead = format!("../../{OTHER}/extra/ixgbevf.ko");
    let kernels_own = format!("usr/lib/modules/{K}/kernel/ixgbevf.ko");
    let table = format!("usr/lib/modules/{K}/modules.dep");
    let merged = Link("lib", "usr/lib");
    // An archive with a directory `lib` replaces the link; an archive with files only is unpacked through it.
    let files = |text| packed("gzip -c", &archive(&[File(&through, text)], "-type f"));
    for (what, image, stale) in [
        ("the second goes through the link", [gzip(&[merged, File(&own, "old")]), files("new")].concat(), false),
        ("and so it does with the old one", [gzip(&[merged, File(&own, "new")]), files("old")].concat(), true),
        ("a directory in its place", [gzip(&[merged, File(&own, "new")]), gzip(&[File(&through, "old")])].concat(), true),
        ("a link to another kernel's", gzip(&[File(&target, "old"), Link(&weak, &lead)]), true),
        ("a link to the same as on the disk", gzip(&[File(&target, "new"), Link(&weak, &lead)]), false),
        ("another kernel's alone", gzip(&[File(&target, "old")]), false),
        (
            "a link to another name",
            gzip(&[File(&format!("usr/lib/modules/{K}/updates/x.bin"), "old"), Link(&own, "x.bin")]),
            true,
        ),
        ("a hard link", gzip(&[File("usr/a.ko", "old"), Hard(&own, "usr/a.ko")]), true),
        ("a hard link of the same", gzip(&[File("usr/a.ko", "new"), Hard(&own, "usr/a.ko")]), false),
        ("two copies and no table", gzip(&[File(&own, "new"), File(&kernels_own, "old")]), true),
        (
            "two copies and a table",
            gzip(&[File(&own, "new"), File(&kernels_own, "old"), File(&table, "updates/ixgbevf.ko:\n")]),
            false,
        ),
        (
            "a table that takes the other",
            gzip(&[File(&own, "new"), File(&kernels_own, "old"), File(&table, "kernel/ixgbevf.ko:\n")]),
            true,
        ),
    ] {
        let said = said(&machine(&[image]));
        assert_eq!(said.is_some(), stale, "{what}: {said:?}");
    }
}

#[test]
fn the_images_of_one_entry_are_one_file_system() {
    let pack = |text: &str| packed("zstd -qc", &driver(text));
    assert_eq!(said(&machine(&[pack("old"), pack("new")])), None);
    let said = said(&machine(&[pack("new"), pack("old")])).unwrap();
    assert!(said.starts_with("/boot/image-0 with /boot/image-1 carries another ixgbevf"), "{said}");
}
