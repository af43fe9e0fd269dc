//! What honest tools write comes out whole.

use super::*;

#[test]
fn an_honest_archive_is_unpacked_completely_with_plain_modes_new_times_and_our_owner() {
    let case = Case::new();
    let script = Header::new(b'0', b"x-1/run.sh", 2).mode(0o6755);
    let old = Header::new(b'\0', b"x-1/old", 3).mode(0o000);
    let tree = case.unpack(&honest().raw(script, b"#!").raw(old, b"old").gz()).unwrap();
    assert_eq!(tree.top(), case.private().join("x-1"));
    assert_eq!(tree.directory(), Some(case.private().join("x-1/src")));
    assert_eq!(tree.version(), Some("1"));
    assert_eq!(
        (read(&tree, "COPYING"), read(&tree, "src/Makefile"), read(&tree, "old")),
        ("GPL".into(), "all:\n".into(), "old".into())
    );
    for (path, mode) in [("run.sh", 0o755), ("COPYING", 0o644), ("old", 0o644), ("src", 0o755), (".", 0o755)] {
        let meta = fs::metadata(tree.top().join(path)).unwrap();
        assert_eq!(meta.mode() & 0o7777, mode, "{path}");
        assert_eq!(meta.uid(), nix::unistd::geteuid().as_raw(), "{path}");
        assert!(meta.modified().unwrap().elapsed().unwrap() < Duration::from_secs(60), "{path}");
    }
}

#[test]
fn archives_of_honest_tools_are_accepted() {
    let comment = ("comment", "0123456789abcdef0123456789abcdef01234567");
    let long = format!("x-1/src/{}/file.c", "directory/".repeat(12));
    for (claim, archive) in [
        ("names that begin with ./", Tar::default().dir("./").dir("./x-1/").file("./x-1/src/Makefile", b"").gz()),
        ("no directory entries", Tar::default().file("x-1/src/Makefile", b"").gz()),
        ("a directory after its content", Tar::default().file("x-1/src/Makefile", b"").dir("x-1/src").dir("x-1").gz()),
        ("git's global comment", Tar::default().pax(b'g', &[comment]).file("x-1/src/Makefile", b"").gz()),
        ("times in pax", Tar::default().pax(b'x', &[("mtime", "1.5"), ("atime", "2")]).file("x-1/src/Makefile", b"").gz()),
        ("attributes in pax", Tar::default().pax(b'x', &[("SCHILY.xattr.user.x", "y")]).file("x-1/src/Makefile", b"").gz()),
        ("a long name of pax", honest().pax(b'x', &[("path", &long)]).file("x-1/src/cut", b"").gz()),
        ("a long name of GNU", honest().long(b'L', long.as_bytes()).file("x-1/src/cut", b"").gz()),
        ("a long name of ustar", honest().raw(Header::new(b'0', b"f.c", 0).with(345, b"x-1/src/a/b"), b"").gz()),
        ("a link beside", honest().symlink("x-1/README", "COPYING").gz()),
        ("a link up and down again", honest().symlink("x-1/src/l", "../src/./Makefile").gz()),
        ("a link to what comes later", honest().symlink("x-1/l", "later").file("x-1/later", b"").gz()),
        ("a link to a directory", honest().symlink("x-1/l", "src/").gz()),
        ("a hard link", honest().hardlink("x-1/h", "x-1/COPYING").gz()),
        ("a hard link to a hard link", honest().hardlink("x-1/h", "x-1/COPYING").hardlink("x-1/i", "./x-1/h").gz()),
        (
            "padding up to tar's record",
            gzip(&{
                let mut t = honest().end();
                t.resize(10240, 0);
                t
            }),
        ),
        (
            "one zero block as its end",
            gzip(&{
                let mut t = honest().end();
                t.truncate(t.len() - 512);
                t
            }),
        ),
        ("UTF-8 in names", honest().file("x-1/r\u{e9}sum\u{e9}", b"").gz()),
        ("another top directory", Tar::default().file("driver_2.0+git/src/Makefile", b"").gz()),
    ] {
        let case = Case::new();
        let tree = case.unpack(&archive).unwrap_or_else(|e| panic!("{claim}: {e:#}"));
        assert!(tree.directory().unwrap().join("Makefile").is_file(), "{claim}");
        case.assert_contained(claim);
        assert_plain(&case.private(), claim);
    }
}

#[test]
fn accepted_links_lead_to_their_targets() {
    let case = Case::new();
    let tree = case.unpack(&honest().symlink("x-1/src/l", "../COPYING").hardlink("x-1/h", "x-1/COPYING").gz()).unwrap();
    assert_eq!((read(&tree, "src/l"), read(&tree, "h")), ("GPL".into(), "GPL".into()));
    assert!(fs::canonicalize(tree.top().join("src/l")).unwrap().starts_with(fs::canonicalize(case.private()).unwrap()));
}

#[test]
fn for_a_file_that_a_person_named_the_version_is_that_of_the_top_directory() {
    for (top, version) in [
        ("x-1.2.3", Some("1.2.3")),
        ("ethernet-linux-x-1.2.3", Some("1.2.3")),
        ("amzn-drivers-x_linux_1", Some("1")),
        ("x-1-rc2", Some("1-rc2")),
        ("src", None),
    ] {
        let tree = Case::new().unpack(&Tar::default().file(&format!("{top}/src/Makefile"), b"").gz()).unwrap();
        assert_eq!(tree.version(), version, "{top}");
    }
}

#[test]
fn each_format_of_gnu_tar_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let src = dir.path().join("x-1/src").join("deep".repeat(20));
    fs::create_dir_all(&src).unwrap();
    fs::write(dir.path().join("x-1/src/Makefile"), "all:\n").unwrap();
    fs::write(src.join("file.c"), "int x;\n".repeat(500)).unwrap();
    fs::hard_link(src.join("file.c"), dir.path().join("x-1/hard.c")).unwrap();
    std::os::unix::fs::symlink("src/Makefile", dir.path().join("x-1/Makefile")).unwrap();
    for format in ["gnu", "oldgnu", "pax", "posix", "ustar", "v7"] {
        let out = std::process::Command::new("tar")
            .args([&format!("--format={format}"), "-C", dir.path().to_str().unwrap(), "-czf", "-", "x-1"])
            .output()
            .unwrap();
        assert!(out.status.success() || format == "v7", "{format}");
        if !out.status.success() {
            continue;
        }
        let case = Case::new();
        let tree = case.unpack(&out.stdout).unwrap_or_else(|e| panic!("{format}: {e:#}"));
        assert_eq!(read(&tree, "Makefile"), "all:\n", "{format}");
        assert_eq!(read(&tree, "hard.c").len(), 3500, "{format}");
    }
}

#[test]
fn an_archive_can_be_unpacked_again_from_the_same_descriptor() {
    let case = Case::new();
    let path = case.dir.path().join("a.tar.gz");
    let good = honest().gz();
    fs::write(&path, &good).unwrap();
    let archive = local_archive(&path, &Digest::of(&good[..]).unwrap()).unwrap();
    fs::remove_file(&path).unwrap();
    for name in ["one", "two"] {
        let into = case.private().join(name);
        fs::create_dir(&into).unwrap();
        fs::set_permissions(&into, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(unpack_within(&archive, &into, &case.recipe, &case.limits)
            .unwrap()
            .directory()
            .unwrap()
            .join("Makefile")
            .is_file());
    }
}

#[test]
fn the_umask_has_no_effect() {
    let old = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let case = Case::new();
    let tree = case.unpack(&honest().gz());
    nix::sys::stat::umask(old);
    let tree = tree.unwrap();
    assert_eq!(fs::metadata(tree.directory().unwrap()).unwrap().mode() & 0o777, 0o755);
    assert_eq!(fs::metadata(tree.directory().unwrap().join("Makefile")).unwrap().mode() & 0o777, 0o644);
}
