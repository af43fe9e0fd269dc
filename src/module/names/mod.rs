//! Whether a network interface keeps its name in K: addresses, firewalls and routes depend on it.
//!
//! The name comes from words of the command line (`net.ifnames=`, `biosdevname=`, dracut's `ifname=`; systemd.net-naming-scheme(7)), from
//! rules in `/etc/udev/rules.d` and from `/etc/systemd/network/*.link` (systemd.link(5)), some of which match the driver's name.

mod card;
mod link;
mod pins;
mod rules;
mod settings;

use crate::finding::{Fact, Finding};
use crate::host::devices::pci::Device;
use crate::host::Host;
use card::Card;
use std::path::Path;

/// Examples of names by firmware or slot numbers, and of names in the order of discovery.
const PREDICTABLE: [&str; 5] = ["ens3", "enp0s3", "enp39s0f0v1", "eno1", "enX0"];
const DISCOVERED: [&str; 2] = ["eth0", "eth1"];
const BIOSDEVNAME: [&str; 2] = ["em1", "p1p1_0"];
/// If one of these is masked by a link to /dev/null, the kernel's names stay.
const NAMING: [&str; 2] = ["/etc/udev/rules.d/80-net-setup-link.rules", "/etc/udev/rules.d/80-net-name-slot.rules"];
/// The same, if no other `.link` file names the interface.
const DEFAULT_LINK: &str = "/etc/systemd/network/99-default.link";

/// A word of the command line that decides how an interface is named and differs in K.
struct Change {
    /// How it begins; the last word with this beginning counts.
    word: &'static str,
    /// The whole word on the running kernel's command line, and on that of the kernel to start.
    now: Option<String>,
    then: Option<String>,
    /// Examples of the names to which it may lead; empty if it has no effect here.
    leads_to: Vec<&'static str>,
}

/// Compares how the interface of a device is named now and in K, whose driver for it is `driver`.
pub fn interface_findings(host: &Host, device: &Device, driver: &str, cmdline: &str) -> Vec<Finding> {
    let Some(interface) = &device.interface else { return Vec::new() };
    let mut findings = Vec::new();
    let running = host.read_text("/proc/cmdline").unwrap_or_default();
    let card = Card::new(host, device, interface, driver);
    let changes = if running.trim().is_empty() { Vec::new() } else { changes(&card, &running, cmdline) };
    for change in &changes {
        let shown = |word: &Option<String>| word.as_ref().map_or(format!("no `{}…`", change.word), |w| format!("`{w}`"));
        let words = format!("the kernel runs with {} and would start with {}", shown(&change.now), shown(&change.then));
        findings.push(renamed(&card, cmdline, &change.leads_to, &words, &put_back(host, change)));
    }
    let same = |name: &str| name.replace('-', "_") == driver;
    let bound = device.driver.as_deref().filter(|bound| !same(bound) && !device.module.as_deref().is_some_and(same));
    if let Some((file, bound)) = bound.and_then(|bound| Some((rule_by_driver(host, interface, bound)?, bound))) {
        let why = format!("{file} names it by the driver {bound}, and {driver} would drive it");
        let remedy = format!("let {file} match the address of the device or of the card instead");
        let other: Vec<&str> = PREDICTABLE.into_iter().chain(DISCOVERED).collect();
        findings.push(renamed(&card, cmdline, &other, &why, &remedy));
    }
    findings
}

/// Unsafe if nothing else gives the interface its name and the network settings refer to it only by that name.
fn renamed(card: &Card, cmdline: &str, other: &[&str], why: &str, remedy: &str) -> Finding {
    let interface = card.interface;
    let known =
        if other.is_empty() || pins::pinned(card) { None } else { settings::by_name(card.host, interface, cmdline, other) };
    match known {
        Some(known) => {
            Finding::new(Fact::InterfaceRename, format!("{interface} may get another name, and {known}: {why}"), remedy)
        }
        None => Finding::new(Fact::InterfaceRenameUnconfigured, format!("{interface} may get another name: {why}"), remedy),
    }
}

fn changes(card: &Card, running: &str, cmdline: &str) -> Vec<Change> {
    let (host, interface) = (card.host, card.interface);
    let discovered = interface.strip_prefix("eth").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    let masked = NAMING.iter().any(|f| pins::masked(host, f))
        || (pins::masked(host, DEFAULT_LINK) && link::given(card) == link::Given::Nothing);
    let off = |line: &str| {
        let value = last(line, "net.ifnames=").map(|w| w["net.ifnames=".len()..].to_ascii_lowercase());
        value.is_some_and(|v| ["0", "no", "n", "false", "f", "off"].contains(&v.as_str()))
    };
    let mut changes = Vec::new();
    let mut add = |word: &'static str, differs: bool, leads_to: Vec<&'static str>| {
        let (now, then) = (last(running, word), last(cmdline, word));
        if differs && now != then {
            changes.push(Change { word, now: now.map(str::to_owned), then: then.map(str::to_owned), leads_to });
        }
    };
    let (now, then) = (off(running), off(cmdline));
    let leads_to = match () {
        () if masked => Vec::new(),
        // The interface already has such a name: naming by slot is not in use here.
        () if then && discovered => Vec::new(),
        () if then => DISCOVERED.to_vec(),
        () => PREDICTABLE.to_vec(),
    };
    add("net.ifnames=", now != then, leads_to);
    let idle = masked || then || discovered;
    add("net.naming-scheme=", true, if idle { Vec::new() } else { PREDICTABLE.to_vec() });
    let there = ["/sbin/biosdevname", "/usr/sbin/biosdevname", "/usr/bin/biosdevname"].iter().any(|f| host.is_file(f));
    let any: Vec<&str> = BIOSDEVNAME.into_iter().chain(PREDICTABLE).chain(DISCOVERED).collect();
    add("biosdevname=", true, if there { any.clone() } else { Vec::new() });
    let given = |line: &str| -> Vec<String> {
        let words = line.split_whitespace().filter_map(|w| w.strip_prefix("ifname="));
        words.filter(|w| w.split(':').next() == Some(interface)).map(str::to_ascii_lowercase).collect()
    };
    let (now, then) = (given(running), given(cmdline));
    if !now.is_empty() && now != then {
        let whole = |words: &[String]| words.last().map(|w| format!("ifname={w}"));
        changes.push(Change { word: "ifname=", now: whole(&now), then: whole(&then), leads_to: any });
    }
    changes
}

fn last<'c>(cmdline: &'c str, word: &str) -> Option<&'c str> {
    cmdline.split_whitespace().rfind(|w| w.starts_with(word))
}

/// The command that makes the boot entry's command line equal to the running one, with this machine's own tool.
fn put_back(host: &Host, change: &Change) -> String {
    let there = |tool: &str| ["/usr/sbin", "/sbin", "/usr/bin"].iter().any(|dir| host.is_file(Path::new(dir).join(tool)));
    let (word, verb) = match (&change.now, &change.then) {
        (Some(now), _) => (now.as_str(), "put"),
        (None, Some(then)) => (then.as_str(), "take"),
        (None, None) => (change.word, "put"),
    };
    if there("grubby") {
        let option = if verb == "put" { "args" } else { "remove-args" };
        return format!("grubby --update-kernel=ALL --{option}=\"{word}\"");
    }
    let into = if verb == "put" { "into" } else { "out of" };
    let edit = format!("{verb} {word} {into} GRUB_CMDLINE_LINUX in /etc/default/grub, then");
    match () {
        () if there("update-grub") => format!("{edit} update-grub"),
        () if there("grub2-mkconfig") => format!("{edit} grub2-mkconfig -o /boot/grub2/grub.cfg"),
        () if there("grub-mkconfig") => format!("{edit} grub-mkconfig -o /boot/grub/grub.cfg"),
        () => format!(
            "{verb} {word} {into} the kernel's line in the boot entry, and {into} /etc/kernel/cmdline if that is there"
        ),
    }
}

/// A file that gives the interface its name by matching the driver's name.
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
    use crate::finding::{Code, Severity};

    pub(super) fn device() -> Device {
        Device {
            address: "0000:00:03.0".into(),
            modalias: "pci:v0".into(),
            interface: Some("eth0".into()),
            driver: Some("ixgbevf".into()),
            module: None,
            class: 0x02_0000,
            driver_override: None,
            present: true,
        }
    }

    pub(super) fn root(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
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
    fn a_missing_word_may_rename_the_interface() {
        let (_dir, host) = root(&[("proc/cmdline", "ro net.ifnames=0 quiet\n")]);
        assert_eq!(interface_findings(&host, &device(), "ixgbevf", "ro net.ifnames=0"), []);
        let findings = interface_findings(&host, &device(), "ixgbevf", "ro");
        assert_eq!((findings.len(), findings[0].code), (1, Code::InterfaceRename));
        assert_eq!(findings[0].severity(), Severity::Warning, "no settings name it");
        assert_eq!(
            interface_findings(&host, &device(), "ixgbevf", "net.ifnames=1 net.ifnames=0"),
            [],
            "the last one counts"
        );
    }

    #[test]
    fn words_that_mean_the_same_are_no_change() {
        let (_dir, host) = root(&[("proc/cmdline", "ro\n")]);
        assert_eq!(interface_findings(&host, &device(), "ixgbevf", "ro net.ifnames=1"), []);
    }

    /// The severity on a machine whose settings refer to eth0 by its name, with this running command line.
    fn severity(running: &str, cmdline: &str, files: &[(&str, &str)]) -> Option<Severity> {
        let settings = ("etc/network/interfaces", "auto eth0\niface eth0 inet dhcp\n");
        let (_dir, host) = root(&[&[("proc/cmdline", running), settings], files].concat());
        interface_findings(&host, &device(), "ixgbevf", cmdline).into_iter().map(|f| f.severity()).max()
    }

    #[test]
    fn a_missing_word_is_unsafe_if_it_gave_the_name() {
        let (refused, warned) = (Some(Severity::Unsafe), Some(Severity::Warning));
        let tool = ("usr/sbin/biosdevname", "");
        let mac = "02:00:00:00:00:01";
        let word = &format!("ro ifname=eth0:{mac}");
        for (running, cmdline, files, expected) in [
            ("ro net.ifnames=0", "ro", &[][..], refused),
            ("ro net.ifnames=off", "ro net.ifnames=1", &[], refused),
            ("ro net.ifnames=0 biosdevname=0", "ro net.ifnames=0", &[], warned),
            ("ro net.ifnames=0 biosdevname=0", "ro net.ifnames=0", &[tool], refused),
            ("ro", "ro biosdevname=1", &[tool], refused),
            // Named eth0 without the word, it keeps that name with the word.
            ("ro", "ro net.ifnames=0", &[], warned),
            ("ro net.naming-scheme=v238", "ro", &[], warned),
            (word, "ro", &[], refused),
            (word, "ro ifname=eth0:02:00:00:00:00:02", &[], refused),
            (word, "ro ifname=eth1:02:00:00:00:00:02 ifname=eth0:02:00:00:00:00:01", &[], None),
        ] {
            assert_eq!(severity(running, cmdline, files), expected, "{running} → {cmdline}");
        }
    }

    #[test]
    fn masked_naming_does_not_depend_on_the_word() {
        let settings = ("etc/network/interfaces", "iface eth0 inet dhcp\n");
        let (dir, host) = root(&[("proc/cmdline", "net.ifnames=0"), settings, ("etc/systemd/network/x", "")]);
        assert_eq!(interface_findings(&host, &device(), "ixgbevf", "ro")[0].severity(), Severity::Unsafe);
        std::os::unix::fs::symlink("/dev/null", dir.path().join("etc/systemd/network/99-default.link")).unwrap();
        assert_eq!(interface_findings(&host, &device(), "ixgbevf", "ro")[0].severity(), Severity::Warning);
    }

    #[test]
    fn the_address_of_a_card_with_the_name_of_a_missing_one_pins_nothing() {
        let rule =
            "SUBSYSTEM==\"net\", ACTION==\"add\", DRIVERS==\"?*\", ATTR{address}==\"0a:1b:2c:3d:4e:5f\", NAME=\"eth0\"\n";
        let (_dir, host) = root(&[
            ("proc/cmdline", "net.ifnames=0"),
            ("etc/network/interfaces", "iface eth0 inet dhcp\n"),
            ("sys/class/net/eth0/address", "0a:1b:2c:3d:4e:5f\n"),
            ("etc/udev/rules.d/70-net.rules", rule),
        ]);
        let severity = |present| interface_findings(&host, &Device { present, ..device() }, "ixgbevf", "ro")[0].severity();
        assert_eq!((severity(true), severity(false)), (Severity::Warning, Severity::Unsafe));
    }

    #[test]
    fn the_remedy_names_the_word_and_this_machines_tool() {
        for (tool, running, cmdline, remedy) in [
            ("usr/sbin/grubby", "net.ifnames=0", "ro", "grubby --update-kernel=ALL --args=\"net.ifnames=0\""),
            ("sbin/grubby", "ro", "net.ifnames=0", "grubby --update-kernel=ALL --remove-args=\"net.ifnames=0\""),
            (
                "usr/sbin/update-grub",
                "net.ifnames=0",
                "ro",
                "put net.ifnames=0 into GRUB_CMDLINE_LINUX in /etc/default/grub, then update-grub",
            ),
            (
                "usr/sbin/grub2-mkconfig",
                "ro",
                "net.ifnames=0",
                "take net.ifnames=0 out of GRUB_CMDLINE_LINUX in /etc/default/grub, then grub2-mkconfig -o /boot/grub2/grub.cfg",
            ),
            (
                "x",
                "net.ifnames=0",
                "ro",
                "put net.ifnames=0 into the kernel's line in the boot entry, and into /etc/kernel/cmdline if that is there",
            ),
        ] {
            let (_dir, host) = root(&[("proc/cmdline", running), (tool, "")]);
            assert_eq!(interface_findings(&host, &device(), "ixgbevf", cmdline)[0].remedy, remedy);
        }
    }

    #[test]
    fn a_rule_that_matches_the_driver_does_not_match_another_driver() {
        let link = ("etc/systemd/network/10-eth0.link", "[Match]\nDriver=ixgbevf\n[Link]\nName=eth0\n");
        let rule = ("etc/udev/rules.d/70-net.rules", "SUBSYSTEM==\"net\", DRIVERS==\"ixgbevf\", NAME=\"eth0\"\n");
        for file in [link, rule] {
            let (_dir, host) = root(&[("proc/cmdline", "ro"), file]);
            assert_eq!(interface_findings(&host, &device(), "ixgbevf", "ro"), []);
            assert_eq!(interface_findings(&host, &device(), "other", "ro").len(), 1, "{}", file.0);
        }
    }
}
