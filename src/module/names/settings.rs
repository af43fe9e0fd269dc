//! Whether a machine's network settings know an interface by its name alone: files of EL and SUSE (`ifcfg-*`), NetworkManager's
//! keyfiles (nm-settings-keyfile(5)), systemd.network(5), netplan(5), interfaces(5), dracut.cmdline(7). Those that cloud-init writes
//! are in these forms too. What cannot be read may say anything.

use super::pins::NETWORK;
use crate::host::Host;
use crate::module::fits;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// EL's, then SUSE's.
const IFCFG: [&str; 2] = ["/etc/sysconfig/network-scripts", "/etc/sysconfig/network"];
/// What is in /run is made anew at each boot.
const KEYFILES: [&str; 2] = ["/etc/NetworkManager/system-connections", "/usr/lib/NetworkManager/system-connections"];
const NETPLAN: [&str; 3] = ["/etc/netplan", "/usr/lib/netplan", "/lib/netplan"];
const INTERFACES: &str = "/etc/network/interfaces";
/// Read also where no `source` line names it.
const INTERFACES_D: &str = "/etc/network/interfaces.d";
/// What editors and package managers leave behind, which nobody reads.
const LEFT: [&str; 7] = ["~", ".bak", ".orig", ".rpmsave", ".rpmnew", ".rpmorig", ".old"];

/// Who knows the interface by its name, which would be like one of `other` in K: nobody where a pattern fits those too.
pub(super) fn by_name(host: &Host, interface: &str, cmdline: &str, other: &[&str]) -> Option<String> {
    let own = Own { interface, other };
    if let Some(word) = cmdline.split_whitespace().find(|w| own.in_word(w)) {
        return Some(format!("`{word}` on its command line knows it by its name alone"));
    }
    let unread = |what: &Path, e: &io::Error| {
        // A link to nothing, and /dev/null, say nothing.
        let nothing = [ErrorKind::NotFound, ErrorKind::NotADirectory, ErrorKind::InvalidInput].contains(&e.kind());
        (!nothing).then(|| format!("{}, which may know it by its name alone, cannot be read: {e}", what.display()))
    };
    let directories = [&IFCFG[..], &KEYFILES, &NETPLAN, &NETWORK, &[INTERFACES_D]].concat();
    if let Some(why) = directories.iter().find_map(|dir| unread(Path::new(dir), &host.read_dir(dir).err()?)) {
        return Some(why);
    }
    let mut all: Vec<(PathBuf, Form)> = ifcfg(host).into_iter().map(|f| (f, Form::Ifcfg)).collect();
    let keyfiles = KEYFILES.iter().flat_map(|dir| files(host, &[dir], ""));
    all.extend(keyfiles.map(|f| (f, Form::Keyfile)));
    all.extend(files(host, &NETPLAN, "yaml").into_iter().map(|f| (f, Form::Netplan)));
    all.extend(files(host, &NETWORK, "network").into_iter().map(|f| (f, Form::Network)));
    all.extend(interfaces(host).into_iter().map(|f| (f, Form::Interfaces)));
    all.into_iter().find_map(|(file, form)| match host.read_text(&file) {
        Ok(text) => own.known_in(&file, form, &text).then(|| format!("{} knows it by its name alone", file.display())),
        Err(e) => unread(&file, &e),
    })
}

#[derive(Clone, Copy)]
enum Form {
    Ifcfg,
    Keyfile,
    Netplan,
    Network,
    Interfaces,
}

struct Own<'a> {
    interface: &'a str,
    other: &'a [&'a str],
}

impl Own<'_> {
    /// Whether patterns fit the interface by its name, and no name that it might get.
    fn need<'p>(&self, patterns: impl IntoIterator<Item = &'p str>) -> bool {
        let patterns: Vec<&str> = patterns.into_iter().filter(|p| !p.is_empty()).collect();
        let fit = |name: &str| patterns.iter().any(|p| fits(p, name));
        fit(self.interface) && !self.other.iter().all(|name| fit(name))
    }

    fn known_in(&self, file: &Path, form: Form, text: &str) -> bool {
        match form {
            Form::Ifcfg => self.in_ifcfg(file, text, file.starts_with(IFCFG[0])),
            Form::Keyfile => self.in_keyfile(text),
            Form::Netplan => self.in_netplan(text),
            Form::Network => self.in_network(text),
            Form::Interfaces => self.in_interfaces(text),
        }
    }

    /// `DEVICE=`, else the file's own name; EL finds the card by `HWADDR=` alone.
    fn in_ifcfg(&self, file: &Path, text: &str, by_address: bool) -> bool {
        let name = file.file_name().and_then(|f| f.to_str()).and_then(|f| f.strip_prefix("ifcfg-")).unwrap_or_default();
        match assigned(text, "DEVICE") {
            Some(device) => device == self.interface,
            None => name == self.interface && !(by_address && assigned(text, "HWADDR").is_some()),
        }
    }

    fn in_keyfile(&self, text: &str) -> bool {
        let is = |value: &str| value.trim() == self.interface;
        let named = section(text, "connection").iter().any(|(key, value)| key == "interface-name" && is(value));
        let parent = ["vlan", "macvlan", "ip-tunnel", "vxlan"]
            .iter()
            .any(|part| section(text, part).iter().any(|(key, value)| key == "parent" && is(value)));
        let matched = section(text, "match");
        let patterns = matched.iter().filter(|(key, _)| key == "interface-name");
        let patterns = patterns.flat_map(|(_, value)| value.split([';', ',', ' '])).filter(|p| !p.starts_with('!'));
        named || parent || self.need(patterns.map(|p| p.trim_start_matches(['|', '&'])))
    }

    fn in_network(&self, text: &str) -> bool {
        let matched = section(text, "Match");
        let names: Vec<&str> =
            matched.iter().filter(|(key, _)| key == "Name").flat_map(|(_, value)| value.split_whitespace()).collect();
        !names.first().is_some_and(|n| n.starts_with('!')) && self.need(names)
    }

    /// A device under `ethernets:` without `match:` is known by its key; with one by `name:` alone, or by what `set-name:` makes of it.
    fn in_netplan(&self, text: &str) -> bool {
        let Some(block) = child(&lines(text), "network").and_then(|network| child(&network, "ethernets")) else {
            // Written in one line, which is read no further.
            return text.contains("ethernets") && text.contains(self.interface);
        };
        children(&block).into_iter().any(|(key, rest, inside)| {
            if !rest.is_empty() {
                return key == self.interface || rest.contains(self.interface);
            }
            let Some(matched) = child(&inside, "match") else {
                let flow = inside.iter().any(|(_, l)| l.starts_with("match:"));
                return key == self.interface && !(flow && inside.iter().any(|(_, l)| l.contains("macaddress")));
            };
            let name = children(&matched).into_iter().find(|(key, ..)| key == "name").map(|(_, value, _)| value);
            name.is_some_and(|name| self.need([name.as_str()]))
        })
    }

    /// `auto`, `allow-hotplug` and `iface` lines; a pattern begins with `/`.
    fn in_interfaces(&self, text: &str) -> bool {
        text.replace("\\\n", " ").lines().any(|line| {
            let mut words = line.split_whitespace();
            let verb = words.next().unwrap_or_default();
            let names: Vec<&str> = match verb {
                "iface" | "mapping" => words.take(1).collect(),
                _ if verb == "auto" || verb.starts_with("allow-") => words.collect(),
                _ => return false,
            };
            names.iter().any(|name| match name.split('/').collect::<Vec<_>>()[..] {
                ["", pattern, ..] => self.need([pattern.split('=').next().unwrap_or(pattern)]),
                _ if verb == "mapping" => self.need([*name]),
                _ => name.split('=').next() == Some(self.interface),
            })
        })
    }

    /// dracut's `ip=…:eth0:dhcp`, `bootdev=eth0` and what is built on an interface.
    fn in_word(&self, word: &str) -> bool {
        let keys = ["ip=", "bootdev=", "vlan=", "bond=", "bridge=", "team=", "rd.route="];
        let value = keys.iter().find_map(|key| word.strip_prefix(key));
        value.is_some_and(|v| v.split([':', ',']).any(|part| part == self.interface))
    }
}

/// The files of directories that end so, an earlier directory hiding a later one; any for an empty ending. systemd's drop-ins are among
/// them.
pub(super) fn files(host: &Host, directories: &[&str], ending: &str) -> Vec<PathBuf> {
    let mut by_name: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    for directory in directories {
        for name in host.read_dir(directory).unwrap_or_default() {
            let (name, path) = (PathBuf::from(&name), Path::new(directory).join(&name));
            let left = name.to_str().is_some_and(|n| n.starts_with('.') || LEFT.iter().any(|l| n.ends_with(l)));
            if name.extension().is_some_and(|e| e == "d")
                && name.file_stem().is_some_and(|n| Path::new(n).extension().is_some_and(|e| e == ending))
            {
                let inside = host.read_dir(&path).unwrap_or_default();
                by_name.extend(inside.iter().map(|conf| (name.join(conf), path.join(conf))));
            } else if !left && (ending.is_empty() || name.extension().is_some_and(|e| e == ending)) {
                by_name.entry(name).or_insert(path);
            }
        }
    }
    by_name.into_values().collect()
}

/// EL's and SUSE's files of interfaces.
pub(super) fn ifcfg(host: &Host) -> Vec<PathBuf> {
    let named = |p: &PathBuf| p.file_name().is_some_and(|f| f.as_encoded_bytes().starts_with(b"ifcfg-"));
    IFCFG.iter().flat_map(|dir| files(host, &[dir], "")).filter(named).collect()
}

/// interfaces(5) and what it includes, one level deep.
fn interfaces(host: &Host) -> Vec<PathBuf> {
    let mut all = files(host, &[INTERFACES_D], "");
    let text = host.read_text(INTERFACES).unwrap_or_default();
    for line in text.lines() {
        let Some((verb, path)) = line.trim().split_once(char::is_whitespace) else { continue };
        let path = Path::new("/etc/network").join(path.trim());
        match (verb, path.parent().and_then(Path::to_str), path.file_name().and_then(|f| f.to_str())) {
            ("source", Some(dir), Some(pattern)) => {
                all.extend(
                    files(host, &[dir], "")
                        .into_iter()
                        .filter(|f| f.file_name().and_then(|f| f.to_str()).is_some_and(|f| fits(pattern, f))),
                );
            }
            ("source-directory", ..) => all.extend(path.to_str().map(|dir| files(host, &[dir], "")).unwrap_or_default()),
            _ => {}
        }
    }
    all.push(INTERFACES.into());
    all
}

/// The value that a shell assignment gives, without quotes; the last one counts.
pub(super) fn assigned(text: &str, key: &str) -> Option<String> {
    let mut values = text.lines().filter_map(|l| l.trim().strip_prefix(key)?.strip_prefix('='));
    let value = values.next_back()?.split('#').next().unwrap_or_default().trim();
    Some(value.trim_matches(['"', '\'']).to_owned()).filter(|v| !v.is_empty())
}

/// The assignments of a section of systemd's and NetworkManager's files.
pub(super) fn section(text: &str, name: &str) -> Vec<(String, String)> {
    let (mut inside, mut found) = (false, Vec::new());
    for line in text.lines().map(str::trim).filter(|l| !l.starts_with(['#', ';'])) {
        if let Some(header) = line.strip_prefix('[') {
            inside = header.strip_suffix(']') == Some(name);
        } else if let (true, Some((key, value))) = (inside, line.split_once('=')) {
            found.push((key.trim().to_owned(), value.trim().trim_matches('"').to_owned()));
        }
    }
    found
}

/// The lines of a YAML text with their indentation, without comments and empty ones.
fn lines(text: &str) -> Vec<(usize, String)> {
    let line = |l: &str| {
        let body = l.split(" #").next().unwrap_or_default().trim_end();
        let indent = body.len() - body.trim_start().len();
        (indent, body.trim_start().to_owned())
    };
    text.lines().map(line).filter(|(_, l)| !l.is_empty() && !l.starts_with('#') && l != "---").collect()
}

type Child = (String, String, Vec<(usize, String)>);

/// The keys of a block mapping: name, what stands behind it, and what is inside.
fn children(block: &[(usize, String)]) -> Vec<Child> {
    let Some(level) = block.iter().map(|(indent, _)| *indent).min() else { return Vec::new() };
    let mut found: Vec<Child> = Vec::new();
    for (indent, line) in block {
        match (line.split_once(':'), found.last_mut()) {
            (Some((key, rest)), _) if *indent == level => {
                let plain = |s: &str| s.trim().trim_matches(['"', '\'']).to_owned();
                found.push((plain(key), plain(rest), Vec::new()));
            }
            (_, Some((_, _, inside))) => inside.push((*indent, line.clone())),
            (_, None) => {}
        }
    }
    found
}

/// What is inside of a key that has a block.
fn child(block: &[(usize, String)], key: &str) -> Option<Vec<(usize, String)>> {
    children(block).into_iter().find(|(k, rest, _)| k == key && rest.is_empty()).map(|(_, _, inside)| inside)
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
