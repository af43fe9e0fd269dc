//! Hostile archives, and archives that are cut, changed or unpacked into a directory of somebody else.

use super::*;
use std::time::Instant;

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
        // Only to see that it ends: five seconds on a quiet machine, five times that on a loaded one.
        assert!(start.elapsed() < Duration::from_secs(120), "{claim}: {:?}", start.elapsed());
        case.assert_contained(claim);
        assert_plain(&case.private(), claim);
    }
    println!("{} hostile archives refused", attacks.len());
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
fn a_shared_linked_or_prepared_directory_is_refused() {
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
fn an_archive_cut_anywhere_is_refused() {
    let whole = honest().file("x-1/more", &[b'm'; 3000]).gz();
    for end in 0..whole.len() {
        let case = Case::new();
        assert!(case.unpack(&whole[..end]).is_err(), "cut at {end} of {}", whole.len());
        case.assert_contained("cut");
    }
}

#[test]
fn a_tar_cut_at_any_block_inside_a_complete_gzip_is_refused() {
    let whole = honest().file("x-1/more", &[b'm'; 3000]).end();
    for end in (0..whole.len() - 1024).step_by(256) {
        assert!(Case::new().unpack(&gzip(&whole[..end])).is_err(), "cut at {end} of {}", whole.len());
    }
}
