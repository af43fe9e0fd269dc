//! Whether a network interface keeps its name in K: addresses, firewalls and routes hang on it.
//!
//! The name comes from words of the command line (`net.ifnames=`, `biosdevname=`; systemd.net-naming-scheme(7)), from rules in
//! `/etc/udev/rules.d` and from `/etc/systemd/network/*.link` (systemd.link(5)), of which some match the driver's name.

use crate::finding::{Code, Finding};
use crate::host::pci::Device;
use crate::host::Host;
use std::path::Path;

/// Words of the command line that decide how interfaces are named; the last of its kind counts.
const WORDS: [&str; 3] = ["net.ifnames=", "biosdevname=", "net.naming-scheme="];

/// Compares what names the interface of a device now with what will in K, whose driver for it is `driver`.
pub fn interface_findings(host: &Host, device: &Device, driver: &str, cmdline: &str) -> Vec<Finding> {
    let Some(interface) = &device.interface else { return Vec::new() };
    let mut findings = Vec::new();
    let running = host.read_text("/proc/cmdline").unwrap_or_default();
    for word in WORDS {
        let (now, then) = (last(&running, word), last(cmdline, word));
        if now != then && !running.trim().is_empty() {
            let shown = |value: Option<&str>| value.map_or(format!("no `{word}…`"), |v| format!("`{word}{v}`"));
            findings.push(Finding::warn(
                Code::InterfaceRename,
                format!("{interface} may get another name: the kernel runs with {} and would start with {}", shown(now), shown(then)),
                "make the words of both command lines the same (GRUB_CMDLINE_LINUX in /etc/default/grub, or grubby --update-kernel)",
            ));
        }
    }
    let same = |name: &str| name.replace('-', "_") == driver;
    let bound = device.driver.as_deref().filter(|bound| !same(bound) && !device.module.as_deref().is_some_and(same));
    if let Some((file, bound)) = bound.and_then(|bound| Some((rule_by_driver(host, interface, bound)?, bound))) {
        findings.push(Finding::warn(
            Code::InterfaceRename,
            format!("{interface} may get another name: {file} names it by the driver {bound}, and {driver} would drive it"),
            format!("let {file} match the address of the device or of the card instead"),
        ));
    }
    findings
}

fn last<'c>(cmdline: &'c str, word: &str) -> Option<&'c str> {
    cmdline.split_whitespace().filter_map(|w| w.strip_prefix(word)).next_back()
}

/// A file that gives the interface its name and does so by the driver's.
fn rule_by_driver(host: &Host, interface: &str, driver: &str) -> Option<String> {
    let links = ("/etc/systemd/network", "link", format!("Driver={driver}"), format!("Name={interface}"));
    let rules = ("/etc/udev/rules.d", "rules", format!("DRIVERS==\"{driver}\""), format!("NAME=\"{interface}\""));
    for (dir, ending, matched, named) in [links, rules] {
        for file in host.read_dir(dir).unwrap_or_default() {
            let path = Path::new(dir).join(&file);
            let text = host.read_text(&path).unwrap_or_default();
            let together = if ending == "link" { vec![text.as_str()] } else { text.lines().collect() };
            let says = together.iter().any(|part| part.contains(&matched) && part.contains(&named));
            if says && path.extension().is_some_and(|e| e == ending) {
                return Some(path.display().to_string());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> Device {
        Device {
            address: "0000:00:03.0".into(),
            modalias: "pci:v0".into(),
            interface: Some("eth0".into()),
            driver: Some("ixgbevf".into()),
            module: None,
            class: 0x02_0000,
            driver_override: None,
        }
    }

    fn root(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let host = Host::new(dir.path()).unwrap();
        (dir, host)
    }

    #[test]
    fn a_word_that_goes_missing_may_rename_the_interface() {
        let (_dir, host) = root(&[("proc/cmdline", "ro net.ifnames=0 quiet\n")]);
        assert_eq!(interface_findings(&host, &device(), "ixgbevf", "ro net.ifnames=0"), []);
        let findings = interface_findings(&host, &device(), "ixgbevf", "ro");
        assert_eq!((findings.len(), findings[0].code), (1, Code::InterfaceRename));
    }

    #[test]
    fn a_rule_that_matches_the_driver_names_nothing_for_another_driver() {
        let link = ("etc/systemd/network/10-eth0.link", "[Match]\nDriver=ixgbevf\n[Link]\nName=eth0\n");
        let rule = ("etc/udev/rules.d/70-net.rules", "SUBSYSTEM==\"net\", DRIVERS==\"ixgbevf\", NAME=\"eth0\"\n");
        for file in [link, rule] {
            let (_dir, host) = root(&[("proc/cmdline", "ro"), file]);
            assert_eq!(interface_findings(&host, &device(), "ixgbevf", "ro"), []);
            assert_eq!(interface_findings(&host, &device(), "other", "ro").len(), 1, "{}", file.0);
        }
    }
}
