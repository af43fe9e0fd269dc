//! Fetching against a real server that misbehaves: whatever it does, either the pinned bytes come through or nothing, in time.
#![allow(missing_docs)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use support::{Authority, Reply, Server};
use vfguard::config::Fetch;
use vfguard::driver::fetch::{fetch_within, Limits};
use vfguard::driver::{local_archive, Digest, KernelRange, Origin, Progress, Recipe, Release, VerifiedArchive};
use vfguard::error::remedy;
use vfguard::host::Host;

/// What is fetched: fetching does not care what an archive holds, but says so when it is no gzip file.
fn archive() -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b];
    bytes.extend((0..9000u32).flat_map(|i| (i.wrapping_mul(2_654_435_761) >> 8).to_le_bytes()));
    bytes
}

fn limits() -> Limits {
    Limits {
        connect: Duration::from_secs(5),
        stall: Duration::from_secs(5),
        overall: Duration::from_secs(15),
        backoff: Duration::from_millis(5),
        longest_wait: Duration::from_millis(40),
    }
}

/// Well before a server in these tests lets go by itself, also on a busy machine.
const SOON: Duration = Duration::from_secs(10);

/// A machine with an empty cache.
struct Case {
    dir: tempfile::TempDir,
    host: Host,
    config: Fetch,
    limits: Limits,
    told: Notes,
}

#[derive(Default)]
struct Notes {
    notes: Mutex<Vec<String>>,
    open: Mutex<i32>,
    bytes: Mutex<u64>,
}

impl Progress for Notes {
    fn begin(&self, _total: Option<u64>, what: &str) {
        *self.open.lock().unwrap() += 1;
        self.note(what);
    }
    fn advance(&self, n: u64) {
        *self.bytes.lock().unwrap() += n;
    }
    fn end(&self) {
        *self.open.lock().unwrap() -= 1;
    }
    fn note(&self, text: &str) {
        self.notes.lock().unwrap().push(text.to_owned());
    }
}

impl Case {
    fn new() -> Case {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        let config = Fetch { attempts: 2, ..Fetch::default() };
        Case { dir, host, config, limits: limits(), told: Notes::default() }
    }

    fn fetch(&self, urls: &[&str]) -> anyhow::Result<VerifiedArchive> {
        let release = Release {
            version: "1.0".into(),
            urls: urls.iter().map(|u| u.to_string()).collect(),
            sha256: Digest::of(&archive()[..]).unwrap(),
            kernels: KernelRange::default(),
            fallback: false,
            make: Vec::new(),
        };
        let recipe = Recipe {
            name: "x".into(),
            modules: vec!["x".into()],
            devices: Vec::new(),
            directory: "src".into(),
            make: Vec::new(),
            releases: vec![release],
        };
        let result = fetch_within(&self.host, &self.config, &self.limits, &recipe, &recipe.releases[0], &self.told);
        assert_eq!(*self.told.open.lock().unwrap(), 0, "every begin has its end");
        if result.is_err() {
            assert!(!self.cached().exists(), "nothing wrong may get the archive's name");
        }
        assert!(self.sources().iter().all(|n| !n.starts_with(".part-")), "{:?}", self.sources());
        result
    }

    /// Fetches what must come through whole.
    fn good(&self, urls: &[&str]) -> VerifiedArchive {
        let found = self.fetch(urls).unwrap_or_else(|e| panic!("{urls:?}: {e:#}"));
        assert_eq!(Digest::of(found.file()).unwrap(), found.sha256());
        assert_eq!(fs::read(found.path()).unwrap(), archive());
        found
    }

    /// Fetches what must fail, and gives what is told.
    fn bad(&self, urls: &[&str]) -> String {
        let error = self.fetch(urls).expect_err("it must fail");
        assert!(remedy(&error).is_some_and(|r| !r.is_empty()), "{error:#}");
        format!("{error:#}")
    }

    fn directory(&self) -> PathBuf {
        self.dir.path().join("var/lib/vfguard/sources")
    }

    fn cached(&self) -> PathBuf {
        self.directory().join("x-1.0.tar.gz")
    }

    fn sources(&self) -> Vec<String> {
        let Ok(list) = fs::read_dir(self.directory()) else { return Vec::new() };
        list.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn notes(&self) -> String {
        self.told.notes.lock().unwrap().join("\n")
    }
}

fn write(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
}

#[test]
fn an_honest_server_is_asked_once_and_then_the_cache_serves() {
    let server = Server::always(Reply::ok(&archive()));
    let case = Case::new();
    let url = server.url("/x-1.0.tar.gz");
    let first = case.good(&[&url]);
    assert_eq!(first.origin(), &Origin::Url(url.clone()));
    assert_eq!(first.version(), Some("1.0"));
    assert_eq!(*case.told.bytes.lock().unwrap(), archive().len() as u64);
    let second = case.good(&[&url]);
    assert_eq!(second.origin(), &Origin::Cache);
    assert_eq!(server.requests().len(), 1);
    assert_eq!(case.sources(), ["x-1.0.tar.gz"]);
}

#[test]
fn a_connection_cut_at_any_offset_never_passes_and_a_whole_one_after_it_does() {
    let whole = Reply::ok(&archive());
    let offsets: Vec<usize> = (0..50).map(|i| i * whole.len() / 50).chain([1, 16, 60, whole.len() - 1]).collect();
    let reply = whole.clone();
    let asked = offsets.clone();
    let server = Server::start(move |request, _| match request.path().rsplit('/').next().unwrap().parse::<usize>() {
        Ok(i) => reply.clone().cut(asked[i]),
        Err(_) => reply.clone(),
    });
    for i in 0..offsets.len() {
        let mut case = Case::new();
        case.config.attempts = 1;
        case.bad(&[&server.url(&format!("/{i}"))]);
        if i % 10 == 0 {
            case.good(&[&server.url(&format!("/{i}")), &server.url("/whole")]);
        }
    }
}

#[test]
fn a_cut_connection_is_tried_again_at_the_same_place() {
    let whole = Reply::ok(&archive());
    let server = Server::start(move |_, nth| if nth == 0 { whole.clone().cut(5000) } else { whole.clone() });
    let case = Case::new();
    case.good(&[&server.url("/a")]);
    assert_eq!(server.requests().len(), 2);
    assert!(case.notes().contains("trying again"), "{}", case.notes());
}

#[test]
fn lengths_that_lie_never_pass() {
    let body = archive();
    let lie =
        |length: usize| Reply::exactly(200, &[("Content-Length", &length.to_string()), ("Connection", "close")], &body);
    for (claim, reply) in [
        ("more than comes", lie(body.len() + 1)),
        ("less than comes", lie(body.len() - 1)),
        ("nothing", lie(0)),
        ("not a number", Reply::exactly(200, &[("Content-Length", "many")], &body)),
        ("two that differ", Reply::exactly(200, &[("Content-Length", "7"), ("Content-Length", "9")], &body)),
        ("a negative one", Reply::exactly(200, &[("Content-Length", "-1")], &body)),
        ("past 64 bits", Reply::exactly(200, &[("Content-Length", "99999999999999999999999")], &body)),
        ("a broken chunk", Reply::exactly(200, &[("Transfer-Encoding", "chunked")], b"zz\r\nhello\r\n0\r\n\r\n")),
        ("a chunk without end", Reply::exactly(200, &[("Transfer-Encoding", "chunked")], b"fffff\r\nhello")),
        ("no chunk at all", Reply::exactly(200, &[("Transfer-Encoding", "chunked")], b"")),
        ("not HTTP", Reply::exactly(200, &[], b"").cut(0)),
    ] {
        let server = Server::always(reply);
        let mut case = Case::new();
        case.config.attempts = 1;
        let told = case.bad(&[&server.url("/a")]);
        assert!(told.contains("localhost"), "{claim}: {told}");
    }
    let honest = Server::always(Reply::exactly(200, &[("Connection", "close")], &body));
    Case::new().good(&[&honest.url("/without-a-length")]);
    let mut chunked = format!("{:x}\r\n", body.len()).into_bytes();
    chunked.extend(&body);
    chunked.extend(b"\r\n0\r\n\r\n");
    let honest = Server::always(Reply::exactly(200, &[("Transfer-Encoding", "chunked")], &chunked));
    Case::new().good(&[&honest.url("/chunked")]);
}

#[test]
fn a_stall_at_each_stage_ends_in_time() {
    let whole = Reply::ok(&archive());
    let header = whole.len() - archive().len();
    for (stage, at) in [
        ("before a word", 0),
        ("in the status", 9),
        ("in the headers", header - 3),
        ("before the body", header),
        ("in the body", header + 9000),
        ("before the last byte", whole.len() - 1),
    ] {
        let server = Server::always(whole.clone().stall(at));
        let mut case = Case::new();
        case.config.attempts = 1;
        case.limits.stall = Duration::from_millis(250);
        let start = Instant::now();
        let told = case.bad(&[&server.url("/a")]);
        assert!(start.elapsed() < SOON, "{stage}: {:?}", start.elapsed());
        assert!(told.contains("timed out"), "{stage}: {told}");
    }
}

#[test]
fn a_server_that_stalls_in_the_handshake_ends_in_time() {
    let server = Server::mute();
    let mut case = Case::new();
    case.config.attempts = 1;
    case.limits.stall = Duration::from_millis(250);
    let start = Instant::now();
    case.bad(&[&server.url("/a").replace("http:", "https:")]);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[test]
fn a_server_that_drips_is_ended_by_the_overall_limit() {
    let server = Server::always(Reply::ok(&archive()).drip(Duration::from_millis(3)));
    let mut case = Case::new();
    case.config.attempts = 1;
    case.limits.overall = Duration::from_millis(600);
    let start = Instant::now();
    let told = case.bad(&[&server.url("/a")]);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert!(told.contains("not there after"), "{told}");
}

#[test]
fn headers_without_end_cost_neither_time_nor_memory() {
    let endless = Reply::exactly(200, &[], b"").cut(17).flood();
    let server = Server::always(endless);
    let mut case = Case::new();
    case.config.attempts = 1;
    let start = Instant::now();
    case.bad(&[&server.url("/a")]);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[test]
fn a_body_without_end_is_cut_at_the_cap_and_an_announced_giant_is_not_even_begun() {
    let flood = Server::always(Reply::exactly(200, &[], b"x").flood());
    let mut case = Case::new();
    case.config.max_bytes = 1 << 20;
    let told = case.bad(&[&flood.url("/a")]);
    assert!(told.contains("larger than 1048576 bytes"), "{told}");
    assert_eq!(flood.requests().len(), 1, "trying again would not make it smaller");
    let giant = Server::always(Reply::exactly(200, &[("Content-Length", "99999999999")], b"x"));
    let case = Case::new();
    let told = case.bad(&[&giant.url("/a")]);
    assert!(told.contains("larger than"), "{told}");
    assert_eq!(*case.told.bytes.lock().unwrap(), 0);
}

#[test]
fn statuses_that_deserve_it_are_tried_again_and_no_others() {
    for (status, requests) in [
        (408, 2),
        (425, 2),
        (429, 2),
        (500, 2),
        (502, 2),
        (503, 2),
        (504, 2),
        (400, 1),
        (401, 1),
        (403, 1),
        (404, 1),
        (410, 1),
        (418, 1),
        (204, 1),
        (206, 1),
        (304, 1),
    ] {
        let good = Reply::ok(&archive());
        let server = Server::start(move |_, nth| if nth == 0 { Reply::status(status) } else { good.clone() });
        let case = Case::new();
        match case.fetch(&[&server.url("/a")]) {
            Ok(_) => assert_eq!(requests, 2, "{status}"),
            Err(e) => assert!(requests == 1 && format!("{e:#}").contains(&status.to_string()), "{status}: {e:#}"),
        }
        assert_eq!(server.requests().len(), requests, "{status}");
    }
}

#[test]
fn retry_after_is_honoured_within_a_bound() {
    let wait = |asked: String| {
        let good = Reply::ok(&archive());
        let busy = Reply::exactly(503, &[("Retry-After", &asked), ("Content-Length", "0"), ("Connection", "close")], b"");
        let server = Server::start(move |_, nth| if nth == 0 { busy.clone() } else { good.clone() });
        let mut case = Case::new();
        case.limits.longest_wait = Duration::from_millis(1300);
        let start = Instant::now();
        case.good(&[&server.url("/a")]);
        start.elapsed()
    };
    let (short, bound) = (Duration::from_millis(1200), SOON);
    assert!(wait("0".into()) < short);
    assert!((Duration::from_secs(1)..bound).contains(&wait("1".into())));
    assert!((Duration::from_millis(1300)..bound).contains(&wait("86400".into())), "bounded");
    assert!((Duration::from_millis(1300)..bound).contains(&wait("Fri, 31 Dec 2100 23:59:59 GMT".into())), "a date");
    assert!(wait("Wed, 21 Oct 2015 07:28:00 GMT".into()) < short, "a date that is over");
    for nonsense in ["soon", "-5", "", "1e99", "99999999999999999999999"] {
        assert!(wait(nonsense.into()) < short, "{nonsense}");
    }
}

#[test]
fn the_next_place_is_tried_and_every_failure_is_told() {
    let gone = Server::always(Reply::status(404));
    let busy = Server::always(Reply::status(503));
    let good = Server::always(Reply::ok(&archive()));
    let dead = format!("http://localhost:{}/dead", free_port());
    let case = Case::new();
    let found = case.good(&[&gone.url("/gone"), &dead, &busy.url("/busy"), &good.url("/good")]);
    assert_eq!(found.origin(), &Origin::Url(good.url("/good")));
    assert_eq!((gone.requests().len(), busy.requests().len()), (1, 2));
    let case = Case::new();
    let told = case.bad(&[&gone.url("/gone"), &dead, &busy.url("/busy"), "file:///nowhere.tar.gz"]);
    for part in [
        "/gone: the server says 404",
        "/dead: ",
        "refused",
        "/busy: the server says 503",
        "file:///nowhere.tar.gz: ",
        "x-1.0.tar.gz",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("error sending request for url"), "{told}");
    let error = case.fetch(&[&gone.url("/gone")]).unwrap_err();
    let cure = remedy(&error).unwrap();
    assert!(
        cure.contains("vfguard prepare KERNEL --driver x --source FILE --sha256 ") && cure.contains("fetch.mirrors"),
        "{cure}"
    );
}

#[test]
fn a_name_that_does_not_resolve_is_one_failure_among_others() {
    let good = Server::always(Reply::ok(&archive()));
    let mut case = Case::new();
    case.config.attempts = 1;
    case.good(&["https://no-such-host.invalid/x.tar.gz", &good.url("/good")]);
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn redirects_are_followed_within_a_bound() {
    let good = Reply::ok(&archive());
    let hops = |n: usize| {
        let good = good.clone();
        let server = Server::start(move |request, _| match request.path()[1..].parse::<usize>() {
            Ok(0) | Err(_) => good.clone(),
            Ok(left) => Reply::redirect(&format!("/{}", left - 1)),
        });
        (server.url(&format!("/{n}")), server)
    };
    for n in [1, 3, 10] {
        let (url, server) = hops(n);
        Case::new().good(&[&url]);
        assert_eq!(server.requests().len(), n + 1);
    }
    let (url, server) = hops(11);
    let told = Case::new().bad(&[&url]);
    assert!(told.contains("more than 10 redirects"), "{told}");
    assert_eq!(server.requests().len(), 11, "and it is not tried again");
    let ring = Server::always(Reply::redirect("/again"));
    assert!(Case::new().bad(&[&ring.url("/again")]).contains("more than 10 redirects"));
    for to in ["file:///etc/shadow", "ftp://localhost/x", "data:text/plain,x", "http://", ""] {
        let server = Server::always(Reply::redirect(to));
        let mut case = Case::new();
        case.config.attempts = 1;
        case.bad(&[&server.url("/a")]);
    }
}

#[test]
fn https_needs_an_authority_that_is_trusted_and_an_own_one_is_a_setting() {
    let authority = Authority::new();
    let good = Reply::ok(&archive());
    let server = Server::tls(&authority, move |_, _| good.clone());
    let mut case = Case::new();
    let told = case.bad(&[&server.url("/a")]);
    assert!(told.contains("not trusted") && told.contains("fetch.ca_file"), "{told}");
    assert!(!case.notes().contains("trying again"), "a certificate does not get better: {}", case.notes());
    write(&case.dir.path().join("etc/pki/own.pem"), authority.pem().as_bytes());
    case.config.ca_file = Some("/etc/pki/own.pem".into());
    case.good(&[&server.url("/a")]);
}

#[test]
fn a_certificate_for_another_name_or_of_another_authority_is_refused() {
    let authority = Authority::new();
    let mut case = Case::new();
    write(&case.dir.path().join("ca.pem"), authority.pem().as_bytes());
    case.config.ca_file = Some("/ca.pem".into());
    let elsewhere = Server::tls_as(&authority, "elsewhere.test", Reply::ok(&archive()));
    assert!(case.bad(&[&elsewhere.url("/a")]).contains("not trusted"));
    let stranger = Server::tls_as(&Authority::new(), "localhost", Reply::ok(&archive()));
    assert!(case.bad(&[&stranger.url("/a")]).contains("not trusted"));
}

#[test]
fn a_cut_tls_connection_never_passes() {
    let authority = Authority::new();
    let whole = Reply::ok(&archive());
    let reply = whole.clone();
    let server = Server::tls(&authority, move |request, _| reply.clone().cut(request.path()[1..].parse().unwrap()));
    let mut case = Case::new();
    case.config.attempts = 1;
    write(&case.dir.path().join("ca.pem"), authority.pem().as_bytes());
    case.config.ca_file = Some("/ca.pem".into());
    for i in 0..10 {
        case.bad(&[&server.url(&format!("/{}", i * whole.len() / 10))]);
    }
    case.good(&[&server.url(&format!("/{}", whole.len()))]);
}

#[test]
fn a_ca_file_that_is_missing_empty_or_writable_by_others_is_told() {
    let server = Server::always(Reply::ok(&archive()));
    for (content, mode, word) in [
        (None, 0o644, "ca.pem"),
        (Some(""), 0o644, "holds none"),
        (Some("no pem"), 0o644, "ca.pem"),
        (Some("x"), 0o666, "written by others"),
    ] {
        let mut case = Case::new();
        if let Some(content) = content {
            write(&case.dir.path().join("ca.pem"), content.as_bytes());
            fs::set_permissions(case.dir.path().join("ca.pem"), fs::Permissions::from_mode(mode)).unwrap();
        }
        case.config.ca_file = Some("/ca.pem".into());
        let told = case.bad(&[&server.url("/a")]);
        assert!(told.contains(word), "{word}: {told}");
    }
}

#[test]
fn a_redirect_from_https_to_http_is_refused_and_the_other_way_is_fine() {
    let authority = Authority::new();
    let plain = Server::always(Reply::ok(&archive()));
    let (down, up) = (plain.url("/down"), Reply::ok(&archive()));
    let secure = Server::tls(&authority, move |request, _| match request.path() {
        "/up" => up.clone(),
        "/twice" => Reply::redirect("/down"),
        _ => Reply::redirect(&down),
    });
    let upwards = Server::always(Reply::redirect(&secure.url("/up")));
    let mut case = Case::new();
    write(&case.dir.path().join("ca.pem"), authority.pem().as_bytes());
    case.config.ca_file = Some("/ca.pem".into());
    for path in ["/down", "/twice"] {
        let told = case.bad(&[&secure.url(path)]);
        assert!(told.contains("from https to http"), "{told}");
    }
    assert_eq!(plain.requests().len(), 0, "not even asked");
    case.good(&[&upwards.url("/a")]);
}

#[test]
fn wrong_bytes_are_set_aside_and_both_digests_named_and_the_next_place_tried() {
    let mut wrong = archive();
    wrong[100] ^= 1;
    let got = Digest::of(&wrong[..]).unwrap().to_string();
    let bad = Server::always(Reply::ok(&wrong));
    let good = Server::always(Reply::ok(&archive()));
    let case = Case::new();
    let told = case.bad(&[&bad.url("/a")]);
    assert!(told.contains(&got) && told.contains(&Digest::of(&archive()[..]).unwrap().to_string()), "{told}");
    assert!(told.contains("set aside as") && !told.contains("no gzip"), "{told}");
    assert_eq!(bad.requests().len(), 1, "the same place would send the same again");
    assert_eq!(fs::read(case.directory().join("x-1.0.tar.gz.rejected")).unwrap(), wrong);
    case.good(&[&bad.url("/a"), &good.url("/a")]);
    let page = Server::always(Reply::ok(b"<html>please log in"));
    assert!(Case::new().bad(&[&page.url("/a")]).contains("no gzip file"));
}

#[test]
fn what_is_set_aside_and_what_killed_runs_left_is_bounded() {
    let case = Case::new();
    for i in 0..9 {
        write(&case.directory().join(format!("y-{i}.tar.gz.rejected")), b"");
    }
    let stale = case.directory().join(".part-stale");
    write(&stale, b"");
    let old = std::time::SystemTime::now() - Duration::from_secs(3 * 86400);
    fs::File::options().write(true).open(&stale).unwrap().set_modified(old).unwrap();
    let server = Server::always(Reply::ok(&archive()));
    case.good(&[&server.url("/a")]);
    assert_eq!(case.sources().iter().filter(|n| n.ends_with(".rejected")).count(), 4, "{:?}", case.sources());
}

#[test]
fn a_cached_archive_that_was_changed_is_set_aside_and_fetched_again() {
    let server = Server::always(Reply::ok(&archive()));
    let case = Case::new();
    case.good(&[&server.url("/a")]);
    fs::write(case.cached(), b"changed").unwrap();
    let again = case.good(&[&server.url("/a")]);
    assert_eq!(again.origin(), &Origin::Url(server.url("/a")));
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
    assert_eq!(case.good(&[&server.url("/a")]).origin(), &Origin::Url(server.url("/a")));
}

#[test]
fn mirrors_are_tried_first_and_a_file_url_is_a_path_of_the_machine() {
    let mirror = Server::always(Reply::ok(&archive()));
    let origin = Server::always(Reply::ok(&archive()));
    let mut case = Case::new();
    case.config.mirrors = vec![format!("{}/drivers/", mirror.url(""))];
    let found = case.good(&[&origin.url("/a")]);
    assert_eq!(found.origin(), &Origin::Url(mirror.url("/drivers/x-1.0.tar.gz")));
    assert_eq!(origin.requests().len(), 0);
    let mut case = Case::new();
    write(&case.dir.path().join("srv/x-1.0.tar.gz"), &archive());
    case.config.mirrors = vec!["file:///srv".into()];
    assert_eq!(case.good(&[&origin.url("/a")]).origin(), &Origin::Url("file:///srv/x-1.0.tar.gz".into()));
    let case = Case::new();
    let told = case.bad(&["file:///srv", "file:///dev/zero"]);
    assert!(told.contains("file:///srv: "), "{told}");
}

#[test]
fn the_bodys_own_compression_is_asked_for_and_nothing_is_decompressed() {
    // A server that says so about a .tar.gz means the archive's own compression; its bytes are what is pinned.
    let labelled = Reply::exactly(200, &[("Content-Encoding", "gzip"), ("Connection", "close")], &archive());
    let server = Server::always(labelled);
    Case::new().good(&[&server.url("/a")]);
    let asked = server.requests()[0].headers.join("\n").to_lowercase();
    assert!(asked.contains("accept-encoding: identity"), "{asked}");
    assert!(asked.contains("user-agent: vfguard/"), "{asked}");
}

#[test]
fn credentials_are_sent_and_never_shown() {
    let server = Server::always(Reply::status(403));
    let url = format!("http://scott:t1ger@localhost:{}/a?token=t1ger", server.port());
    let case = Case::new();
    let mut shown = case.bad(&[
        &url,
        "https://scott:t1ger@no-such-host.invalid/?t1ger",
        "scott:t1ger@nonsense",
        "http://scott:t1ger@[::1/",
    ]);
    shown += &case.notes();
    assert!(!shown.contains("t1ger"), "{shown}");
    let sent = server.requests()[0].headers.join("\n").to_lowercase();
    assert!(sent.contains("authorization: basic"), "{sent}");
    let good = Reply::ok(&archive());
    let server = Server::start(move |_, _| good.clone());
    let url = format!("http://scott:t1ger@localhost:{}/a?token=t1ger", server.port());
    let case = Case::new();
    assert_eq!(case.good(&[&url]).origin(), &Origin::Url(format!("http://***@localhost:{}/a?***", server.port())));
    assert!(!case.notes().contains("t1ger"), "{}", case.notes());
}

#[test]
fn credentials_are_not_carried_to_another_host_by_a_redirect() {
    let good = Reply::ok(&archive());
    let other = Server::start(move |_, _| good.clone());
    let first = Server::always(Reply::redirect(&other.url("/b").replace("localhost", "127.0.0.1")));
    let url = format!("http://scott:t1ger@localhost:{}/a", first.port());
    Case::new().good(&[&url]);
    let sent = other.requests()[0].headers.join("\n").to_lowercase();
    assert!(!sent.contains("authorization") && !sent.contains("referer"), "{sent}");
}

#[test]
fn a_cache_that_cannot_be_made_is_told_with_the_remedy() {
    let case = Case::new();
    write(&case.dir.path().join("var/lib/vfguard"), b"a file where the directory should be");
    let told = case.bad(&["file:///x"]);
    assert!(told.contains("var/lib/vfguard"), "{told}");
}

#[test]
fn a_full_disk_ends_it_at_once_and_leaves_nothing() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let server = Server::always(Reply::ok(&archive()));
    let case = Case::new();
    fs::create_dir_all(case.directory()).unwrap();
    let small =
        nix::mount::mount(Some("tmpfs"), &case.directory(), Some("tmpfs"), nix::mount::MsFlags::empty(), Some("size=16k"));
    if small.is_err() {
        eprintln!("skipped: no tmpfs can be mounted here");
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
fn a_local_archive_is_taken_by_its_digest_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("any.tar.gz");
    write(&path, &archive());
    let right = Digest::of(&archive()[..]).unwrap();
    let found = local_archive(&path, &right).unwrap();
    assert_eq!((found.origin(), found.version()), (&Origin::File(path.clone()), None));
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

/// Run by [`a_proxy_from_the_environment_is_used_and_no_proxy_is_honoured`] in a process of its own, where the proxy is set.
#[test]
#[ignore = "needs the environment that its parent test sets"]
fn fetch_through_the_environment() {
    let url = std::env::var("VFGUARD_TEST_URL").unwrap();
    let mut case = Case::new();
    case.config.attempts = 1;
    match case.fetch(&[&url]) {
        Ok(_) => println!("FETCHED"),
        Err(e) => println!("{e:#}"),
    }
    println!("{}", case.notes());
}

#[test]
fn a_proxy_from_the_environment_is_used_and_no_proxy_is_honoured() {
    let run = |url: &str, vars: &[(&str, &str)]| {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "fetch_through_the_environment", "--ignored", "--nocapture"])
            .env_clear()
            .env("VFGUARD_TEST_URL", url)
            .envs(vars.iter().copied())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let proxy = Server::always(Reply::ok(&archive()));
    let with_password = proxy.url("").replace("http://", "http://scott:t1ger@");
    let told = run("http://archive.invalid/a", &[("http_proxy", &with_password)]);
    assert!(told.contains("FETCHED"), "{told}");
    assert_eq!(proxy.requests()[0].path(), "http://archive.invalid/a");
    let told = run("http://archive.invalid/a", &[("http_proxy", &with_password), ("no_proxy", "archive.invalid")]);
    assert!(!told.contains("FETCHED") && proxy.requests().len() == 1, "{told}");
    let refusing = Server::always(Reply::status(407));
    let with_password = refusing.url("").replace("http://", "http://scott:t1ger@");
    let told = run("https://archive.invalid/a", &[("HTTPS_PROXY", &with_password)]);
    assert_eq!(refusing.requests()[0].line, "CONNECT archive.invalid:443 HTTP/1.1");
    assert!(!told.contains("FETCHED") && !told.contains("t1ger"), "{told}");
    let good = Server::always(Reply::ok(&archive()));
    let told = run(&good.url("/a"), &[("SSL_CERT_FILE", "/dev/null"), ("SSL_CERT_DIR", "/nowhere")]);
    assert!(told.contains("FETCHED"), "plain HTTP needs no certificates: {told}");
}
