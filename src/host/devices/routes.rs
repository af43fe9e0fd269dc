//! The interfaces that carry a default route, by `/proc/net/route` and `/proc/net/ipv6_route` (the kernel writes them in
//! `fib_route_seq_show` of net/ipv4/fib_trie.c and `ipv6_route_seq_show` of net/ipv6/ip6_fib.c, older ones in `rt6_info_route`
//! of net/ipv6/route.c).

use crate::host::Host;

/// `RTF_UP` and `RTF_REJECT` of `linux/route.h`: a working route, and a route that rejects its packets.
const UP: u32 = 0x1;
const REJECT: u32 = 0x200;

/// The names of the interfaces, each once.
pub fn default_interfaces(host: &Host) -> Vec<String> {
    let read = |path: &str| host.read_text(path).unwrap_or_default();
    let mut found: Vec<String> = read("/proc/net/route").lines().filter_map(ipv4).map(str::to_owned).collect();
    found.extend(read("/proc/net/ipv6_route").lines().filter_map(ipv6).map(str::to_owned));
    found.sort();
    found.dedup();
    found
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask …`. 0.0.0.0 with a nonzero mask is half of the Internet, as a VPN
/// routes it.
fn ipv4(line: &str) -> Option<&str> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let all = words.get(1) == Some(&"00000000") && words.get(7) == Some(&"00000000");
    words.first().copied().filter(|_| all && works(words.get(3)))
}

/// Destination and its prefix length, source and its prefix length, next hop, metric, references, uses, flags, interface.
fn ipv6(line: &str) -> Option<&str> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let all = words.first().is_some_and(|to| to.bytes().all(|b| b == b'0')) && words.get(1) == Some(&"00");
    words.get(9).copied().filter(|_| all && works(words.get(8)))
}

fn works(flags: Option<&&str>) -> bool {
    let flags = flags.and_then(|f| u32::from_str_radix(f, 16).ok()).unwrap_or(REJECT);
    flags & (UP | REJECT) == UP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_route_works_and_leads_everywhere() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        assert!(default_interfaces(&host).is_empty());
        let ipv4 = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                    eth0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
                    eth1\t0000000A\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n\
                    tun0\t00000000\t0100000A\t0003\t0\t0\t0\t00000080\t0\t0\t0\n\
                    *\t00000000\t00000000\t0200\t0\t0\t0\t00000000\t0\t0\t0\n";
        let (zero, hop) = ("0".repeat(32), format!("fe80{}1", "0".repeat(27)));
        let ipv6 = format!(
            "{zero} 00 {zero} 00 {hop} 00000064 00000001 00000000 00000003     eth2\n\
             {zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo\n\
             {hop} 80 {zero} 00 {zero} 00000000 00000001 00000000 80200001     eth3\nno route\n"
        );
        host.write_atomic("/proc/net/route", ipv4.as_bytes(), 0o644).unwrap();
        host.write_atomic("/proc/net/ipv6_route", ipv6.as_bytes(), 0o644).unwrap();
        assert_eq!(default_interfaces(&host), ["eth0", "eth2"]);
    }
}
