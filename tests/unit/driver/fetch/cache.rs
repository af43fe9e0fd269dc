//! The cache: which archives are kept and set aside, and archives that are already here.

use super::*;

#[test]
fn an_honest_server_is_asked_once_and_then_the_cache_serves() {
    let server = Server::always(Reply::ok(&archive()));
    let case = Case::new();
    let url = server.url("/x-1.0.tar.gz");
    let first = case.good(&[&url]);
    assert_eq!(first.origin(), &FetchedFrom::Url(url.clone()));
    assert_eq!(first.version(), Some("1.0"));
    assert_eq!(*case.told.bytes.lock().unwrap(), archive().len() as u64);
    let second = case.good(&[&url]);
    assert_eq!(second.origin(), &FetchedFrom::Cache);
    assert_eq!(server.requests().len(), 1);
    assert_eq!(case.sources(), ["x-1.0.tar.gz"]);
}

#[test]
fn another_digest_is_an_error_whose_remedy_names_the_recipes_key_and_not_the_network() {
    let case = Case::new();
    let server = Server::always(Reply::ok(b"not the archive"));
    let error = case.fetch(&[&server.url("/x")]).unwrap_err();
    let cure = remedy(&error).unwrap();
    assert!(cure.contains("correct `sha256` in the recipe") && !cure.contains("network"), "{cure}");
}

#[test]
fn wrong_bytes_are_set_aside_with_both_digests_in_the_error_and_the_next_place_is_tried() {
    let mut wrong = archive();
    wrong[100] ^= 1;
    let got = Digest::of(&wrong[..]).unwrap().to_string();
    let bad = Server::always(Reply::ok(&wrong));
    let good = Server::always(Reply::ok(&archive()));
    let case = Case::new();
    let told = case.bad(&[&bad.url("/a")]);
    assert!(told.contains(&got) && told.contains(&Digest::of(&archive()[..]).unwrap().to_string()), "{told}");
    assert!(told.contains("set aside as") && !told.contains("it is"), "{told}");
    assert_eq!(bad.requests().len(), 1, "the same place would send the same again");
    assert_eq!(fs::read(case.directory().join("x-1.0.tar.gz.rejected")).unwrap(), wrong);
    case.good(&[&bad.url("/a"), &good.url("/a")]);
    let page = Server::always(Reply::ok(b"<html>please log in"));
    assert!(Case::new().bad(&[&page.url("/a")]).contains("it is an HTML page"));
}

#[test]
fn files_that_were_set_aside_or_left_by_killed_runs_are_limited() {
    let case = Case::new();
    for i in 0..9 {
        write(&case.directory().join(format!("y-{i}.tar.gz.rejected")), b"");
    }
    let old = std::time::SystemTime::now() - Duration::from_secs(3 * 86400);
    let part = |name: &str| {
        let path = case.directory().join(name);
        write(&path, b"");
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(old).unwrap();
        (path, file)
    };
    let (left, _) = part(".part-of-a-dead-run");
    let (busy, file) = part(".part-of-a-slow-run");
    let held = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive).unwrap();
    let server = Server::always(Reply::ok(&archive()));
    assert!(case.fetch_only(&[&server.url("/a")]).is_ok());
    assert!(!left.exists() && busy.exists(), "{:?}", case.sources());
    drop(held);
    assert_eq!(case.sources().iter().filter(|n| n.ends_with(".rejected")).count(), 4, "{:?}", case.sources());
}

#[test]
fn a_cached_archive_that_was_changed_is_set_aside_and_fetched_again() {
    let server = Server::always(Reply::ok(&archive()));
    let case = Case::new();
    case.good(&[&server.url("/a")]);
    fs::write(case.cached(), b"changed").unwrap();
    let again = case.good(&[&server.url("/a")]);
    assert_eq!(again.origin(), &FetchedFrom::Url(server.url("/a")));
    assert_eq!(fs::read(case.directory().join("x-1.0.tar.gz.rejected")).unwrap(), b"changed");
    fs::write(case.cached(), b"changed again").unwrap();
    let told = case.bad(&[&server.url("/a").replace("/a", ":0/")]);
    assert!(told.contains("x-1.0.tar.gz: SHA-256"), "{told}");
}

#[test]
fn a_link_or_a_fifo_in_the_cache_is_never_followed_or_waited_for() {
    let server = Server::always(Reply::ok(&archive()));
    let case = Case::new();
    write(&case.dir.path().join("elsewhere"), &archive());
    fs::create_dir_all(case.directory()).unwrap();
    std::os::unix::fs::symlink(case.dir.path().join("elsewhere"), case.cached()).unwrap();
    let found = case.good(&[&server.url("/a")]);
    assert!(fs::symlink_metadata(found.path()).unwrap().is_file());
    fs::remove_file(case.cached()).unwrap();
    nix::unistd::mkfifo(&case.cached(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(case.good(&[&server.url("/a")]).origin(), &FetchedFrom::Url(server.url("/a")));
}

#[test]
fn mirrors_are_tried_first_and_a_file_url_is_a_path_of_the_machine() {
    let mirror = Server::always(Reply::ok(&archive()));
    let origin = Server::always(Reply::ok(&archive()));
    let mut case = Case::new();
    case.config.mirrors = vec![format!("{}/drivers/", mirror.url(""))];
    let found = case.good(&[&origin.url("/a")]);
    assert_eq!(found.origin(), &FetchedFrom::Url(mirror.url("/drivers/x-1.0.tar.gz")));
    assert_eq!(origin.requests().len(), 0);
    let mut case = Case::new();
    write(&case.dir.path().join("srv/x-1.0.tar.gz"), &archive());
    case.config.mirrors = vec!["file:///srv".into()];
    assert_eq!(case.good(&[&origin.url("/a")]).origin(), &FetchedFrom::Url("file:///srv/x-1.0.tar.gz".into()));
    let case = Case::new();
    let told = case.bad(&["file:///srv", "file:///dev/zero"]);
    assert!(told.contains("file:///srv: "), "{told}");
}

#[test]
fn a_cache_that_cannot_be_created_is_an_error_with_a_remedy() {
    let case = Case::new();
    write(&case.dir.path().join("var/lib/vfguard"), b"a file where the directory should be");
    let told = case.bad(&["file:///x"]);
    assert!(told.contains("var/lib/vfguard"), "{told}");
}

#[test]
fn a_full_disk_ends_it_at_once_and_leaves_nothing() {
    let server = Server::always(Reply::ok(&archive()));
    let case = Case::new();
    fs::create_dir_all(case.directory()).unwrap();
    let small =
        nix::mount::mount(Some("tmpfs"), &case.directory(), Some("tmpfs"), nix::mount::MsFlags::empty(), Some("size=16k"));
    if small.is_err() {
        eprintln!("skipped a_full_disk_ends_it_at_once_and_leaves_nothing: no tmpfs can be mounted here");
        return;
    }
    let error = case.fetch(&[&server.url("/a"), &server.url("/b")]).map(drop);
    let left = case.sources();
    nix::mount::umount(&case.directory()).unwrap();
    let error = error.unwrap_err();
    assert!(format!("{error:#}").contains("No space"), "{error:#}");
    assert!(remedy(&error).unwrap().contains("make room"));
    assert_eq!(server.requests().len(), 1, "another place has no more room");
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_local_archive_is_accepted_only_by_its_digest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("any.tar.gz");
    write(&path, &archive());
    let right = Digest::of(&archive()[..]).unwrap();
    let found = local_archive(&path, &right).unwrap();
    assert_eq!((found.origin(), found.version()), (&FetchedFrom::File(path.clone()), None));
    assert_eq!(Digest::of(found.file()).unwrap(), right);
    let wrong = Digest::of(&b""[..]).unwrap();
    let error = local_archive(&path, &wrong).unwrap_err();
    let told = format!("{error:#}");
    assert!(told.contains(&right.to_string()) && told.contains(&wrong.to_string()) && remedy(&error).is_some(), "{told}");
    assert!(path.exists(), "a person's own file is left where it is");
    nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for name in ["fifo", "missing", "."] {
        let error = local_archive(&dir.path().join(name), &right).unwrap_err();
        assert!(remedy(&error).is_some(), "{name}: {error:#}");
    }
}

#[test]
fn many_runs_at_once_all_get_the_archive() {
    let server = Server::always(Reply::ok(&archive()));
    let case = Case::new();
    let url = server.url("/a");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut own = Case::new();
                own.host = case.host.clone();
                let found = own.fetch_only(&[&url]).unwrap();
                assert_eq!(Digest::of(found.file()).unwrap(), found.sha256());
            });
        }
    });
    assert_eq!(case.sources(), ["x-1.0.tar.gz"]);
}
