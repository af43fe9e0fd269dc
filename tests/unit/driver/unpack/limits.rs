//! Limits on what an archive may cost: entries, sizes, time, disk, memory.

use super::*;

#[test]
fn each_limit_ends_the_unpacking() {
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

/// 60 headers of 3,700 records. Comparing each record with each other would take 400 million comparisons, and an archive may hold 4,000
/// such headers.
#[test]
fn headers_of_thousands_of_pax_records_are_read_once_and_counted_together() {
    let keys: Vec<String> = (0..3700).map(|i| format!("SCHILY.{i}")).collect();
    let records: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "")).collect();
    let headers = |n: usize| (0..n).fold(honest(), |t, i| t.pax(b'x', &records).file(&format!("x-1/p{i}"), b"")).end();
    Case::new().unpack(&headers(50)).unwrap();
    let told = format!("{:#}", Case::new().unpack(&headers(60)).unwrap_err());
    assert!(told.contains("more than 200000 pax records"), "{told}");
    // A repeated key is found among many records too.
    let twice: Vec<_> = records.iter().chain(&records[..1]).copied().collect();
    let told = format!("{:#}", Case::new().unpack(&honest().pax(b'x', &twice).file("x-1/a", b"").end()).unwrap_err());
    assert!(told.contains("twice"), "{told}");
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

/// Run by [`the_worst_archives_cost_little_memory`] in a process of its own, so that the peak of its memory is its own. Without that it
/// does nothing.
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
            .args(["--exact", "limits::unpack_what_the_parent_names", "--nocapture"])
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
