//! Servers that cut connections, send wrong lengths, stall, send without end, and refuse.

use super::*;

#[test]
fn a_connection_cut_at_any_offset_fails_and_a_complete_one_after_it_succeeds() {
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
fn wrong_lengths_are_refused() {
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
fn a_server_that_sends_slowly_is_cut_off_at_the_overall_limit() {
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
fn a_body_without_end_is_cut_at_the_limit_and_an_announced_huge_one_is_not_begun() {
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
fn only_temporary_statuses_are_tried_again() {
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
fn retry_after_is_obeyed_within_a_limit() {
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
fn the_next_place_is_tried_and_every_failure_is_reported() {
    let gone = Server::always(Reply::status(404));
    let busy = Server::always(Reply::status(503));
    let good = Server::always(Reply::ok(&archive()));
    let dead = format!("http://localhost:{}/dead", free_port());
    let case = Case::new();
    let found = case.good(&[&gone.url("/gone"), &dead, &busy.url("/busy"), &good.url("/good")]);
    assert_eq!(found.origin(), &FetchedFrom::Url(good.url("/good")));
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
    assert!(cure.contains("x-1.0.tar.gz in fetch.mirrors") && error.downcast_ref::<NotFetched>().is_some(), "{cure}");
}

#[test]
fn an_unreachable_server_is_tried_for_only_one_archive_of_a_run() {
    let case = Case::new();
    let (dead, file) = (format!("http://localhost:{}/dead", free_port()), "file:///nowhere.tar.gz");
    let busy = Server::always(Reply::status(503));
    let run = Unanswered::default();
    let told = |url: &str| format!("{:#}", case.fetch_in_run(&[url, file], &run).unwrap_err());
    assert!(told(&dead).contains("refused"));
    let again = told(&format!("{dead}/another"));
    assert!(again.contains("not tried") && !again.contains("refused"), "{again}");
    // A server that answers is asked each time, and another run asks all of them.
    assert!(told(&busy.url("/a")).contains("503") && told(&busy.url("/b")).contains("503"));
    assert!(format!("{:#}", case.fetch(&[&dead]).unwrap_err()).contains("refused"));
}

#[test]
fn a_name_that_does_not_resolve_is_one_of_the_reported_failures() {
    let good = Server::always(Reply::ok(&archive()));
    let mut case = Case::new();
    case.config.attempts = 1;
    case.good(&["https://no-such-host.invalid/x.tar.gz", &good.url("/good")]);
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn identity_encoding_is_requested_and_nothing_is_decompressed() {
    // A server that says so about a .tar.gz means the archive's own compression, and the pinned digest is that of the compressed bytes.
    let labelled = Reply::exactly(200, &[("Content-Encoding", "gzip"), ("Connection", "close")], &archive());
    let server = Server::always(labelled);
    Case::new().good(&[&server.url("/a")]);
    let asked = server.requests()[0].headers.join("\n").to_lowercase();
    assert!(asked.contains("accept-encoding: identity"), "{asked}");
    assert!(asked.contains("user-agent: vfguard/"), "{asked}");
}
