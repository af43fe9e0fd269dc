//! What gives an interface its name whatever the words of the command line say: a rule of udev or a `.link` file that finds the card by
//! its address, its place or the name that the kernel gave it, and EL's helper that renames by `HWADDR`.

use super::settings::{assigned, files, ifcfg, section};
use crate::host::pci::Device;
use crate::host::Host;
use crate::module::fits;
use std::path::Path;

/// Where udev's rules are; one of an earlier directory hides one of the same name in a later one.
const RULES: [&str; 5] =
    ["/etc/udev/rules.d", "/run/udev/rules.d", "/usr/local/lib/udev/rules.d", "/usr/lib/udev/rules.d", "/lib/udev/rules.d"];
/// Those of systemd-networkd and of udev's `net_setup_link`. What is in /run is made anew at each boot.
pub(super) const NETWORK: [&str; 4] =
    ["/etc/systemd/network", "/usr/local/lib/systemd/network", "/usr/lib/systemd/network", "/lib/systemd/network"];
/// EL's helper, and the rule that calls it.
const RENAMES: [&str; 4] = [
    "/usr/lib/udev/rules.d/60-net.rules",
    "/lib/udev/rules.d/60-net.rules",
    "/usr/lib/udev/rename_device",
    "/lib/udev/rename_device",
];

/// Whether the interface gets its name so.
pub(super) fn pinned(host: &Host, device: &Device, interface: &str) -> bool {
    let paths = [
        format!("/sys/class/net/{interface}/address"),
        format!("/sys/bus/pci/devices/{}/net/{interface}/address", device.address),
    ];
    let mac = paths.iter().find_map(|p| host.read_text(p).ok()).map(|m| m.trim().to_ascii_lowercase());
    let mac = mac.filter(|m| !m.is_empty());
    by_rule(host, device, interface, mac.as_deref())
        || by_link(host, device, interface, mac.as_deref())
        || mac.is_some_and(|mac| by_helper(host, interface, &mac))
}

/// `SUBSYSTEM=="net", ACTION=="add", ATTR{address}=="02:…", NAME="eth0"` (udev(7)).
fn by_rule(host: &Host, device: &Device, interface: &str, mac: Option<&str>) -> bool {
    let finds = |term: &str| {
        let Some((key, value)) = term.split_once("==") else { return false };
        let value = value.trim().trim_matches('"');
        match key.trim() {
            "ATTR{address}" | "ATTRS{address}" => mac.is_some_and(|mac| fits(&value.to_ascii_lowercase(), mac)),
            "KERNELS" => value == device.address,
            "ENV{ID_PATH}" => value == format!("pci-{}", device.address),
            _ => false,
        }
    };
    let names = |line: &str| {
        let terms: Vec<&str> = line.split(',').map(str::trim).collect();
        let given = |term: &&str| {
            let term = term.strip_prefix("NAME:=").or_else(|| term.strip_prefix("NAME="));
            term.is_some_and(|t| !t.starts_with('=') && t.trim().trim_matches('"') == interface)
        };
        terms.iter().any(given) && terms.iter().any(|t| finds(t))
    };
    let read = |file| host.read_text(file).unwrap_or_default().replace("\\\n", " ");
    files(host, &RULES, "rules")
        .iter()
        .any(|file| read(file).lines().filter(|l| !l.trim_start().starts_with('#')).any(names))
}

/// systemd.link(5): `Name=` is taken whatever `net.ifnames=` says; all of `[Match]` must fit.
fn by_link(host: &Host, device: &Device, interface: &str, mac: Option<&str>) -> bool {
    let path = format!("pci-{}", device.address);
    let says = |text: &str| {
        let link = section(text, "Link");
        if link.iter().rev().find(|(k, _)| k == "Name").map(|(_, v)| v.as_str()) != Some(interface) {
            return false;
        }
        let matched = section(text, "Match");
        let fit = |(key, value): &(String, String)| {
            let any = |one: &str| value.split_whitespace().any(|pattern| fits(pattern, one));
            match key.as_str() {
                "MACAddress" | "PermanentMACAddress" => {
                    mac.is_some_and(|mac| value.to_ascii_lowercase().replace('-', ":").split_whitespace().any(|v| v == mac))
                }
                "Path" => any(&path),
                "Type" => any("ether"),
                // The name that the kernel gave, which the words do not change.
                "OriginalName" => any(interface),
                _ => false,
            }
        };
        let finds = |(key, _): &(String, String)| key != "Type";
        matched.iter().any(finds) && matched.iter().all(fit)
    };
    files(host, &NETWORK, "link").iter().any(|file| says(&host.read_text(file).unwrap_or_default()))
}

/// `HWADDR=` of an ifcfg file, where the helper is that gives the card `DEVICE=`.
fn by_helper(host: &Host, interface: &str, mac: &str) -> bool {
    let named = |file: &Path| {
        let text = host.read_text(file).unwrap_or_default();
        let (device, address) = (assigned(&text, "DEVICE"), assigned(&text, "HWADDR"));
        device.as_deref() == Some(interface) && address.is_some_and(|a| a.eq_ignore_ascii_case(mac))
    };
    RENAMES.iter().any(|f| host.is_file(f)) && ifcfg(host).iter().any(|f| named(f))
}
