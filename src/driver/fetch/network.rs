//! Waits for the network. Only the fetch does this: a unit ordered after network-online.target would wait for everything
//! that runs before it, and that may be a kernel installation that waits for vfguard.
//!
//! A place that cannot be reached is tried again while the machine has no default route, for a bounded time in all. If there
//! is a route, or if it is unknown whether there is one, an error is final. Formats: `fib_route_seq_show` in the kernel's
//! net/ipv4/fib_trie.c, and `ipv6_route_seq_show` in net/ipv6/ip6_fib.c (`rt6_info_route` in net/ipv6/route.c before).

use crate::host::Host;
use crate::progress::Progress;
use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Roughly the longest that systemd-networkd-wait-online waits for a network; a DHCP lease takes seconds.
const PATIENCE: Duration = Duration::from_secs(90);
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_secs(2);
/// RTF_UP and RTF_REJECT of linux/route.h.
const UP: u32 = 0x1;
const REJECT: u32 = 0x200;

/// The waiting time of one run, shared by all drivers, releases and places.
#[derive(Debug)]
pub struct Network {
    patience: Duration,
    since: OnceLock<Instant>,
}

/// The one of this process.
pub(super) static NETWORK: Network = Network::new(PATIENCE);

impl Network {
    /// A waiting time that has not started.
    pub const fn new(patience: Duration) -> Network {
        Network { patience, since: OnceLock::new() }
    }

    /// Whether a place that could not be reached is worth another attempt. If so, it has waited for the pause.
    pub(super) fn may_come(&self, host: &Host, url: &reqwest::Url, progress: &dyn Progress) -> bool {
        if is_loopback(url) || has_default_route(host) != Some(false) {
            return false;
        }
        if self.since.set(Instant::now()).is_ok() {
            progress.note("waiting for the network");
        }
        let left = self.since.get().map_or(Duration::ZERO, |since| self.patience.saturating_sub(since.elapsed()));
        std::thread::sleep(PAUSE.min(left));
        left > Duration::ZERO
    }
}

fn is_loopback(url: &reqwest::Url) -> bool {
    let name = url.host_str().unwrap_or_default();
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Whether there is a default route; none if no table can be read.
fn has_default_route(host: &Host) -> Option<bool> {
    let v4 = host.read_text("/proc/net/route").ok().map(|text| text.lines().any(is_default_v4));
    // The file does not exist if IPv6 is disabled.
    let v6 = host.read_text("/proc/net/ipv6_route").ok().map(|text| text.lines().any(is_default_v6));
    match (v4, v6) {
        (None, None) => None,
        (v4, v6) => Some(v4 == Some(true) || v6 == Some(true)),
    }
}

/// Columns: interface, destination, gateway, flags, two counters, metric, mask…, in hexadecimal. The first line is the
/// header.
fn is_default_v4(line: &str) -> bool {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let [_, destination, _, flags, _, _, _, mask, ..] = fields[..] else { return false };
    destination == "00000000" && mask == "00000000" && works(flags)
}

/// Columns: destination and its length, place and its length, next hop, metric, two counters, flags, interface.
fn is_default_v6(line: &str) -> bool {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let [destination, length, _, _, _, _, _, _, flags, interface] = fields[..] else { return false };
    destination.bytes().all(|b| b == b'0') && length == "00" && interface != "lo" && works(flags)
}

fn works(flags: &str) -> bool {
    u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & UP != 0 && flags & REJECT == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
    const V6: &str = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 ";
    const UNREACHABLE: &str = "00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n";

    fn route(files: &[(&str, &str)]) -> Option<bool> {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        for (name, text) in files {
            host.write_atomic(format!("/proc/net/{name}"), text.as_bytes(), 0o644).unwrap();
        }
        has_default_route(&host)
    }

    #[test]
    fn a_default_route_is_recognised_in_the_kernels_own_format() {
        let only = format!("{V6}{UNREACHABLE}");
        let gateway = format!("{V6}fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n");
        let v4 = |line: &str| format!("{V4}{line}\n");
        let near = v4("eth0\t0064A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0");
        let far = v4("eth0\t00000000\t0164A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0");
        let half = v4("tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0");
        let reject = v4("*\t00000000\t00000000\t0201\t0\t0\t0\t00000000\t0\t0\t0");
        assert_eq!(route(&[]), None);
        for text in [V4, &near, &half, &reject] {
            assert_eq!(route(&[("route", text)]), Some(false), "{text}");
            assert_eq!(route(&[("route", text), ("ipv6_route", &only)]), Some(false), "{text}");
            assert_eq!(route(&[("route", text), ("ipv6_route", &gateway)]), Some(true), "{text}");
        }
        assert_eq!(route(&[("route", &far), ("ipv6_route", &only)]), Some(true));
    }

    #[test]
    fn loopback_never_waits_for_a_network() {
        for (url, is) in [
            ("http://localhost:81/x", true),
            ("http://127.9.9.9/x", true),
            ("https://[::1]/x", true),
            ("https://mirror.example/x", false),
            ("http://10.0.0.1/x", false),
        ] {
            assert_eq!(is_loopback(&url.parse().unwrap()), is, "{url}");
        }
    }
}
