//! A network that is not up yet. 0.0.0.0 reaches this machine, but is not a loopback address.

use super::*;
use std::io::{Read, Write};
use std::net::TcpListener;

const HEAD: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n";
const DEFAULT: &str = "eth0\t00000000\t0164A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n";

/// One attempt at each place, with these routes.
fn case(routes: &str) -> Case {
    let mut case = Case::new();
    case.config.attempts = 1;
    case.host.write_atomic("/proc/net/route", format!("{HEAD}{routes}").as_bytes(), 0o644).unwrap();
    case
}

fn waited(case: &Case) -> usize {
    case.told.notes.lock().unwrap().iter().filter(|n| *n == "waiting for the network").count()
}

/// A port on which nothing listens.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn a_place_that_is_not_reached_is_tried_again_until_the_network_is_there() {
    let case = case("");
    let port = closed_port();
    let server = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(1));
        let (mut to, _) = TcpListener::bind(("0.0.0.0", port)).unwrap().accept().unwrap();
        let _ = to.read(&mut [0; 4096]).unwrap();
        let body = archive();
        write!(to, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len()).unwrap();
        to.write_all(&body).unwrap();
    });
    case.good(&[&format!("http://0.0.0.0:{port}/x.tar.gz")]);
    server.join().unwrap();
    assert_eq!(waited(&case), 1);
}

#[test]
fn with_a_route_or_unknown_routes_an_error_is_final() {
    let url = format!("http://0.0.0.0:{}/x", closed_port());
    let loopback = format!("http://127.0.0.1:{}/x", closed_port());
    let unknown = case("");
    fs::remove_file(unknown.host.path("/proc/net/route")).unwrap();
    for (case, urls) in
        [(case(DEFAULT), [url.as_str(); 1]), (unknown, [url.as_str()]), (case(""), [&loopback]), (case(""), ["file:///x"])]
    {
        let start = Instant::now();
        case.bad(&urls);
        assert!(waited(&case) == 0 && start.elapsed() < SOON, "{urls:?}: {:?}", start.elapsed());
    }
}

#[test]
fn the_wait_for_a_network_that_never_comes_has_one_limit_for_all_places() {
    let mut case = case("");
    case.limits.network = Box::leak(Box::new(Network::new(Duration::from_secs(3))));
    let start = Instant::now();
    let said = case.bad(&["http://0.0.0.0:1/x", "http://0.0.0.0:2/x", "http://0.0.0.0:3/x"]);
    assert!(start.elapsed() >= Duration::from_secs(3) && start.elapsed() < SOON, "{:?}", start.elapsed());
    assert!(["0:1/x", "0:2/x", "0:3/x"].iter().all(|place| said.contains(place)), "{said}");
    assert_eq!(waited(&case), 1);
}
