//! Archives, honest and hostile, through the unpacker: an honest one comes out whole, a hostile one is refused, and nothing
//! is ever written outside the private directory.
#![allow(missing_docs)]

#[path = "../../../support/hostile.rs"]
mod hostile;
mod packings;
#[path = "../../../support/tar.rs"]
mod tar;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tar::{gzip, Header, Tar};
use vfguard::driver::unpack::{unpack_within, Limits};
use vfguard::driver::{local_archive, Digest, Recipe, SourceTree};

/// A sandbox directory with the archive, a place that must stay as it is, and the private directory.
struct Case {
    dir: tempfile::TempDir,
    recipe: Recipe,
    limits: Limits,
}

impl Case {
    fn new() -> Case {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("into")).unwrap();
        fs::set_permissions(dir.path().join("into"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/precious"), "untouched").unwrap();
        // Said outright, since another test changes the umask meanwhile.
        fs::set_permissions(dir.path().join("outside/precious"), fs::Permissions::from_mode(0o644)).unwrap();
        let text = format!(
            "name = 'x'\ndevices = ['pci:v00001234d0000D0F0sv*sd*bc*sc*i*']\n[[releases]]\nversion = '1'\nurls = ['https://h/x']\nsha256 = '{}'\n",
            "0".repeat(64)
        );
        Case { recipe: Recipe::parse(&text, Path::new("x.toml")).unwrap(), limits: Limits::default(), dir }
    }

    fn private(&self) -> PathBuf {
        self.dir.path().join("into")
    }

    fn unpack(&self, archive: &[u8]) -> anyhow::Result<SourceTree> {
        let path = self.dir.path().join("a.tar.gz");
        fs::write(&path, archive).unwrap();
        let archive = local_archive(&path, &Digest::of(archive).unwrap()).unwrap();
        unpack_within(&archive, &self.private(), &self.recipe, &self.limits)
    }

    /// Everything beside the private directory is as it was made.
    fn assert_contained(&self, claim: &str) {
        let mut names: Vec<_> = fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["a.tar.gz", "into", "outside"], "{claim}");
        let outside = self.dir.path().join("outside");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{claim}");
        let precious = fs::metadata(outside.join("precious")).unwrap();
        assert_eq!(fs::read_to_string(outside.join("precious")).unwrap(), "untouched", "{claim}");
        assert_eq!((precious.nlink(), precious.mode() & 0o7777), (1, 0o644), "{claim}");
    }
}

/// What Intel's archives look like.
fn honest() -> Tar {
    Tar::default().dir("x-1/").file("x-1/COPYING", b"GPL").dir("x-1/src/").file("x-1/src/Makefile", b"all:\n")
}

fn read(tree: &SourceTree, path: &str) -> String {
    fs::read_to_string(tree.top().join(path)).unwrap()
}

#[test]
fn an_honest_archive_comes_out_whole_with_plain_modes_new_times_and_our_owner() {
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

/// Nothing but plain files, directories and links that stay inside, with plain modes, is in the private directory.
fn assert_plain(dir: &Path, claim: &str) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        assert!(meta.is_file() || meta.is_dir() || meta.is_symlink(), "{claim}: {path:?}");
        assert!(meta.is_symlink() || meta.mode() & 0o7022 == 0, "{claim}: {path:?} {:o}", meta.mode());
        if meta.is_dir() {
            assert_plain(&path, claim);
        }
    }
}

#[test]
fn every_hostile_archive_is_refused_with_its_reason_and_nothing_is_written_outside() {
    let attacks = hostile::attacks();
    assert!(attacks.len() >= 40, "{}", attacks.len());
    for (claim, archive, word) in &attacks {
        let case = Case::new();
        let start = Instant::now();
        let error = match case.unpack(archive) {
            Err(error) => error,
            Ok(tree) => panic!("{claim}: it was taken: {tree:?}"),
        };
        let told = format!("{error:#}");
        assert!(told.contains(word), "{claim}: {word:?} is not in {told:?}");
        assert!(!told.contains(|c: char| c.is_control()) && told.len() < 1000, "{claim}: {told:?}");
        assert!(vfguard::error::remedy(&error).is_some(), "{claim}: {told}");
        // That it ends: five seconds on a quiet machine, five times that on a loaded one.
        assert!(start.elapsed() < Duration::from_secs(120), "{claim}: {:?}", start.elapsed());
        case.assert_contained(claim);
        assert_plain(&case.private(), claim);
    }
    println!("{} hostile archives refused", attacks.len());
}

#[test]
fn what_honest_tools_write_is_taken() {
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
fn links_that_are_taken_lead_where_they_say() {
    let case = Case::new();
    let tree = case.unpack(&honest().symlink("x-1/src/l", "../COPYING").hardlink("x-1/h", "x-1/COPYING").gz()).unwrap();
    assert_eq!((read(&tree, "src/l"), read(&tree, "h")), ("GPL".into(), "GPL".into()));
    assert!(fs::canonicalize(tree.top().join("src/l")).unwrap().starts_with(fs::canonicalize(case.private()).unwrap()));
}

#[test]
fn the_version_is_the_top_directorys_when_the_file_was_named_by_a_person() {
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
fn what_gnu_tar_writes_in_each_format_is_taken() {
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
fn each_limit_ends_it() {
    let noise: Vec<u8> = (0..200_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let many = (0..30).fold(honest(), |t, i| t.file(&format!("x-1/f{i}"), b""));
    let big = honest().file("x-1/big", &noise);
    let some = Limits { total: 500_000, ..Limits::default() };
    let few = Limits { entries: 20, ..Limits::default() };
    let small = Limits { file: 1000, ..Limits::default() };
    let flat = Limits { depth: 3, ..Limits::default() };
    let short = Limits { path: 20, ..Limits::default() };
    let terse = Limits { metadata: 20, ..Limits::default() };
    let plain = Limits { records: 3, ..Limits::default() };
    let late = Limits { time: Duration::ZERO, ..Limits::default() };
    let direct = Limits { path: 20, ..Limits::default() };
    let deep = honest().file("x-1/a/b/c", b"");
    let long = honest().file("x-1/a-name-that-is-long", b"");
    let wordy = honest().pax(b'x', &[("comment", "many words")]).file("x-1/a", b"");
    let told = |t: tar::Tar, i| t.pax(b'x', &[("mtime", "1"), ("comment", "x")]).file(&format!("x-1/t{i}"), b"");
    let worded = (0..2).fold(honest(), told);
    let winding = honest().symlink("x-1/l", "./././././././././././src");
    for (claim, limits, archive, word) in [
        ("records", plain, worded, "more than 3 pax records"),
        ("time", late, honest(), "longer than 0 seconds"),
        ("a link", direct, winding, "its link is longer than 20"),
        ("total", some, big.clone(), "expands to more than 500000"),
        ("entries", few, many, "more than 20 entries"),
        ("file", small, big, "more than 1000"),
        ("depth", flat, deep, "deeper than 3"),
        ("path", short, long, "longer than 20"),
        ("metadata", terse, wordy, "more than 20"),
    ] {
        let archive = archive.gz();
        let mut case = Case::new();
        case.unpack(&archive).unwrap_or_else(|e| panic!("{claim}: without the limit: {e:#}"));
        case = Case::new();
        case.limits = limits;
        let told = format!("{:#}", case.unpack(&archive).unwrap_err());
        assert!(told.contains(word), "{claim}: {told}");
    }
}

/// 60 headers of 3,700 records: compared each with each, they are 400 million comparisons, and an archive may hold 4,000 such headers.
#[test]
fn headers_of_thousands_of_pax_records_are_read_once_and_counted_together() {
    let keys: Vec<String> = (0..3700).map(|i| format!("SCHILY.{i}")).collect();
    let records: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "")).collect();
    let headers = |n: usize| (0..n).fold(honest(), |t, i| t.pax(b'x', &records).file(&format!("x-1/p{i}"), b"")).end();
    Case::new().unpack(&headers(50)).unwrap();
    let told = format!("{:#}", Case::new().unpack(&headers(60)).unwrap_err());
    assert!(told.contains("more than 200000 pax records"), "{told}");
    // A second record of a key is found among many too.
    let twice: Vec<_> = records.iter().chain(&records[..1]).copied().collect();
    let told = format!("{:#}", Case::new().unpack(&honest().pax(b'x', &twice).file("x-1/a", b"").end()).unwrap_err());
    assert!(told.contains("twice"), "{told}");
}

#[test]
fn an_archive_that_is_changed_between_verification_and_unpacking_is_refused() {
    let case = Case::new();
    let path = case.dir.path().join("a.tar.gz");
    let good = honest().gz();
    fs::write(&path, &good).unwrap();
    let archive = local_archive(&path, &Digest::of(&good[..]).unwrap()).unwrap();
    fs::write(&path, honest().file("x-1/src/evil.c", b"evil").gz()).unwrap();
    let told = format!("{:#}", unpack_within(&archive, &case.private(), &case.recipe, &case.limits).unwrap_err());
    assert!(told.contains("changed after it was verified"), "{told}");
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
fn a_directory_that_is_shared_a_link_or_prepared_by_somebody_is_refused() {
    let case = Case::new();
    fs::set_permissions(case.private(), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(format!("{:#}", case.unpack(&honest().gz()).unwrap_err()).contains("not a private directory"));
    for prepared in ["x-1", "x-1/src", "x-1/COPYING"] {
        let case = Case::new();
        if let Some(parent) = Path::new(prepared).parent() {
            fs::create_dir_all(case.private().join(parent)).unwrap();
        }
        std::os::unix::fs::symlink(case.dir.path().join("outside"), case.private().join(prepared)).unwrap();
        assert!(case.unpack(&honest().gz()).is_err(), "{prepared}");
        case.assert_contained(prepared);
    }
    let case = Case::new();
    fs::remove_dir(case.private()).unwrap();
    std::os::unix::fs::symlink("outside", case.private()).unwrap();
    assert!(case.unpack(&honest().gz()).is_err());
    case.assert_contained("a link");
}

#[test]
fn a_full_disk_is_not_blamed_on_the_archive() {
    let case = Case::new();
    let flags = nix::mount::MsFlags::empty();
    let small = nix::mount::mount(Some("tmpfs"), &case.private(), Some("tmpfs"), flags, Some("size=16k,mode=700"));
    if small.is_err() {
        eprintln!("skipped a_full_disk_is_not_blamed_on_the_archive: no tmpfs can be mounted here");
        return;
    }
    let result = case.unpack(&honest().file("x-1/big", &[b'b'; 50_000]).gz()).map(drop);
    nix::mount::umount2(&case.private(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    let error = result.unwrap_err();
    assert!(format!("{error:#}").contains("No space"), "{error:#}");
    assert!(vfguard::error::remedy(&error).unwrap().contains("make room"), "{error:#}");
}

/// Run by [`the_worst_archives_cost_little_memory`] in a process of its own, whose peak is its own; by itself it
/// has nothing to do.
#[test]
fn unpack_what_the_parent_names() {
    let Ok(archive) = std::env::var("VFGUARD_TEST_ARCHIVE") else { return };
    let archive = fs::read(archive).unwrap();
    let case = Case::new();
    assert!(case.unpack(&archive).is_err());
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    println!("PEAK {}", peak.trim().trim_end_matches(" kB"));
}

#[test]
fn the_worst_archives_cost_little_memory() {
    let dir = tempfile::tempdir().unwrap();
    let zeros = vec![0; 32 << 20];
    let (huge, huger) = (gzip(&zeros), tar::xz(&zeros, 9));
    let greedy = tar::greedy_xz(&honest().end());
    let long = Tar::default().raw(Header::new(b'L', b"x", 0o77777777777), &vec![b'a'; 16 << 20]).gz();
    let attacks = hostile::attacks();
    let worst = attacks.iter().filter(|(claim, ..)| claim.ends_with("without end") || claim.contains("expands"));
    let worst = worst.map(|(claim, archive, _)| (*claim, archive));
    for (claim, archive) in worst.chain([
        ("32 MB of zeros", &huge),
        ("32 MB of zeros in xz", &huger),
        ("an xz dictionary of 1 GiB", &greedy),
        ("a name of 8 GiB", &long),
    ]) {
        let path = dir.path().join("worst.tar.gz");
        fs::write(&path, archive).unwrap();
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "unpack_what_the_parent_names", "--nocapture"])
            .env("VFGUARD_TEST_ARCHIVE", &path)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let peak: u64 =
            told.lines().find_map(|l| l.strip_prefix("PEAK ")).unwrap_or_else(|| panic!("{told}")).parse().unwrap();
        println!("{claim}: {peak} kB at its peak");
        assert!(peak < 64 << 10, "{claim}: {peak} kB");
    }
}

#[test]
fn the_umask_changes_nothing() {
    let old = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let case = Case::new();
    let tree = case.unpack(&honest().gz());
    nix::sys::stat::umask(old);
    let tree = tree.unwrap();
    assert_eq!(fs::metadata(tree.directory().unwrap()).unwrap().mode() & 0o777, 0o755);
    assert_eq!(fs::metadata(tree.directory().unwrap().join("Makefile")).unwrap().mode() & 0o777, 0o644);
}

#[test]
fn an_archive_cut_anywhere_is_refused() {
    let whole = honest().file("x-1/more", &[b'm'; 3000]).gz();
    for end in 0..whole.len() {
        let case = Case::new();
        assert!(case.unpack(&whole[..end]).is_err(), "cut at {end} of {}", whole.len());
        case.assert_contained("cut");
    }
}

#[test]
fn a_tar_cut_at_any_block_inside_a_sound_gzip_is_refused() {
    let whole = honest().file("x-1/more", &[b'm'; 3000]).end();
    for end in (0..whole.len() - 1024).step_by(256) {
        assert!(Case::new().unpack(&gzip(&whole[..end])).is_err(), "cut at {end} of {}", whole.len());
    }
}

/// Names as an attacker would choose them.
const NAMES: [&str; 14] = [
    "x-1",
    "x-1/",
    "x-1/a",
    "x-1/a/b",
    "x-1/./a",
    "x-1/a/..",
    "..",
    "/",
    "",
    "x-1/a\u{7f}",
    "y",
    "../outside/precious",
    "x-1/l",
    "x-1/l/p",
];
const KINDS: &[u8] = b"0\x0012345670SLKxgVMDZ";

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_sequence_of_headers_escapes_or_panics(
        entries in proptest::collection::vec((0..KINDS.len(), 0..NAMES.len(), 0..NAMES.len(), 0..3usize), 0..12)
    ) {
        let case = Case::new();
        let mut tar = Tar::default();
        for (kind, name, link, content) in entries {
            let content = ["".to_owned(), format!("{}\0", NAMES[link]), tar::record("path", NAMES[link])][content].clone();
            let header = Header::new(KINDS[kind], NAMES[name].as_bytes(), content.len() as u64).link(NAMES[link].as_bytes());
            tar = tar.raw(header, content.as_bytes());
        }
        let _ = case.unpack(&tar.gz());
        case.assert_contained("random headers");
        assert_plain(&case.private(), "random headers");
    }

    #[test]
    fn no_changed_byte_escapes_or_panics(at in 0..6000usize, to: u8) {
        let case = Case::new();
        let mut tar = honest().symlink("x-1/l", "src").hardlink("x-1/h", "x-1/COPYING").pax(b'x', &[("path", "x-1/p")]).file("q", b"q").end();
        let at = at % tar.len();
        tar[at] = to;
        let _ = case.unpack(&gzip(&tar));
        case.assert_contained("a changed byte");
        assert_plain(&case.private(), "a changed byte");
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..2000), wrapped: bool) {
        let case = Case::new();
        assert!(case.unpack(&if wrapped { gzip(&bytes) } else { bytes }).is_err());
        case.assert_contained("random bytes");
    }
}
