//! Whether a machine's network settings refer to an interface only by its name: files of EL and SUSE (`ifcfg-*`), NetworkManager's keyfiles
//! (nm-settings-keyfile(5)), systemd.network(5), netplan(5), interfaces(5), dhcpcd.conf(5), dracut.cmdline(7). cloud-init writes these
//! formats too. A file that cannot be read is assumed to do so.

use crate::host::Host;
use crate::module::fits;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// EL's, then SUSE's.
const IFCFG: [&str; 2] = ["/etc/sysconfig/network-scripts", "/etc/sysconfig/network"];
/// The directories of systemd-networkd. Files in /run are regenerated at each boot, so they are not read.
const NETWORK: [&str; 4] =
    ["/etc/systemd/network", "/usr/local/lib/systemd/network", "/usr/lib/systemd/network", "/lib/systemd/network"];
const KEYFILES: [&str; 2] = ["/etc/NetworkManager/system-connections", "/usr/lib/NetworkManager/system-connections"];
const NETPLAN: [&str; 3] = ["/etc/netplan", "/usr/lib/netplan", "/lib/netplan"];
const INTERFACES: &str = "/etc/network/interfaces";
/// Read even without a `source` line for it.
const INTERFACES_D: &str = "/etc/network/interfaces.d";
const DHCPCD: &str = "/etc/dhcpcd.conf";
/// Suffixes of files that editors and package managers leave behind and that no program reads.
const LEFT: [&str; 7] = ["~", ".bak", ".orig", ".rpmsave", ".rpmnew", ".rpmorig", ".old"];

/// The settings that refer to the interface by its name, if its name in K may be like one of `other`. None if patterns match those names
/// too.
pub(super) fn by_name(host: &Host, interface: &str, cmdline: &str, other: &[&str]) -> Option<String> {
    let own = Own { interface, other };
    if let Some(word) = cmdline.split_whitespace().find(|w| own.in_word(w)) {
        return Some(format!("`{word}` on its command line knows it by its name alone"));
    }
    let unread = |what: &Path, e: &io::Error| {
        // A dangling link and /dev/null contain no settings.
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
    all.push((DHCPCD.into(), Form::Dhcpcd));
    let known = |file: &Path| Some(format!("{} knows it by its name alone", file.display()));
    let mut patterns: Vec<(Form, PathBuf, Patterns)> = Vec::new();
    for (file, form) in all {
        match host.read_text(&file) {
            Ok(text) => match own.read(&file, form, &text) {
                Known::ByName => return known(&file),
                Known::By(found) => patterns.extend(found.into_iter().map(|p| (form, file.clone(), p))),
            },
            Err(e) => {
                if let Some(why) = unread(&file, &e) {
                    return Some(why);
                }
            }
        }
    }
    let needs_name = |(form, _, mine): &&(Form, PathBuf, Patterns)| {
        let alike = patterns.iter().filter(|(f, _, p)| f == form && p.says == mine.says).map(|(.., p)| p);
        own.needs_name(mine, alike)
    };
    patterns.iter().find(needs_name).and_then(|(_, file, _)| known(file))
}

/// Patterns of interface names that have the same settings.
struct Patterns {
    names: Vec<String>,
    /// The text of the settings and of the other conditions.
    says: String,
}

impl Patterns {
    fn new<'p>(names: impl IntoIterator<Item = &'p str>, says: String) -> Patterns {
        Patterns { names: names.into_iter().filter(|p| !p.is_empty()).map(str::to_owned).collect(), says }
    }

    fn fit(&self, name: &str) -> bool {
        self.names.iter().any(|p| fits(p, name))
    }
}

/// How a file refers to the interface.
enum Known {
    ByName,
    /// By the patterns among these that match.
    By(Vec<Patterns>),
}

#[derive(Clone, Copy, PartialEq)]
enum Form {
    Ifcfg,
    Keyfile,
    Netplan,
    Network,
    Interfaces,
    Dhcpcd,
}

struct Own<'a> {
    interface: &'a str,
    other: &'a [&'a str],
}

impl Own<'_> {
    /// Whether patterns match the interface, but not each name that it might get. Patterns with the same settings (`en*` beside `eth*`)
    /// count together, but not with a name without wildcards.
    fn needs_name<'p>(&self, mine: &Patterns, alike: impl Iterator<Item = &'p Patterns> + Clone) -> bool {
        if !mine.fit(self.interface) {
            return false;
        }
        let written = !mine.names.iter().any(|p| p.contains(['*', '?', '[']) && fits(p, self.interface));
        !self.other.iter().all(|name| mine.fit(name) || (!written && alike.clone().any(|p| p.fit(name))))
    }

    fn read(&self, file: &Path, form: Form, text: &str) -> Known {
        let mut found = Vec::new();
        let by_name = match form {
            Form::Ifcfg => self.in_ifcfg(file, text, file.starts_with(IFCFG[0])),
            Form::Keyfile => self.in_keyfile(text, &mut found),
            Form::Netplan => self.in_netplan(text, &mut found),
            Form::Network => {
                found.extend(in_network(text));
                false
            }
            Form::Interfaces => self.in_interfaces(text, &mut found),
            Form::Dhcpcd => self.in_dhcpcd(text, &mut found),
        };
        if by_name {
            Known::ByName
        } else {
            Known::By(found)
        }
    }

    /// `DEVICE=`, else the file's own name; on EL `HWADDR=` without `DEVICE=` identifies the card instead.
    fn in_ifcfg(&self, file: &Path, text: &str, by_address: bool) -> bool {
        let name = file.file_name().and_then(|f| f.to_str()).and_then(|f| f.strip_prefix("ifcfg-")).unwrap_or_default();
        match assigned(text, "DEVICE") {
            Some(device) => device == self.interface,
            None => name == self.interface && !(by_address && assigned(text, "HWADDR").is_some()),
        }
    }

    fn in_keyfile(&self, text: &str, found: &mut Vec<Patterns>) -> bool {
        let is = |value: &str| value.trim() == self.interface;
        let named = section(text, "connection").iter().any(|(key, value)| key == "interface-name" && is(value));
        let parent = ["vlan", "macvlan", "ip-tunnel", "vxlan"]
            .iter()
            .any(|part| section(text, part).iter().any(|(key, value)| key == "parent" && is(value)));
        let matched = section(text, "match");
        let patterns = matched.iter().filter(|(key, _)| key == "interface-name");
        let patterns = patterns.flat_map(|(_, value)| value.split([';', ',', ' '])).filter(|p| !p.starts_with('!'));
        let patterns = patterns.map(|p| p.trim_start_matches(['|', '&']));
        found.push(Patterns::new(patterns, without(text, &["interface-name", "id", "uuid", "timestamp"])));
        named || parent
    }

    /// A device under `ethernets:` without `match:` is identified by its key; one with only `name:` under `match:`, by that name or by its
    /// `set-name:`.
    fn in_netplan(&self, text: &str, found: &mut Vec<Patterns>) -> bool {
        let Some(block) = child(&lines(text), "network").and_then(|network| child(&network, "ethernets")) else {
            // Written in one line; the settings of a pattern are then not separated.
            let patterns = text.match_indices("match:").filter_map(|(at, _)| Some((at, flow_match(&text[at..])?.0)));
            found.extend(patterns.map(|(at, name)| Patterns::new([name.as_str()], format!("{at}: {text}"))));
            return text.contains("ethernets") && text.contains(self.interface);
        };
        children(&block).into_iter().any(|(key, rest, inside)| {
            let text = if rest.is_empty() { shown(&inside) } else { rest.clone() };
            if let Some((name, says)) = flow_match(&text) {
                found.push(Patterns::new([name.as_str()], says));
            }
            if !rest.is_empty() {
                return key == self.interface || rest.contains(self.interface);
            }
            let Some(matched) = child(&inside, "match") else {
                let flow = inside.iter().any(|(_, l)| l.starts_with("match:"));
                return key == self.interface && !(flow && inside.iter().any(|(_, l)| l.contains("macaddress")));
            };
            let name = children(&matched).into_iter().find(|(key, ..)| key == "name").map(|(_, value, _)| value);
            let says: Vec<_> = inside.into_iter().filter(|(_, line)| !line.starts_with("name:")).collect();
            found.extend(name.map(|name| Patterns::new([name.as_str()], shown(&says))));
            false
        })
    }

    /// `auto`, `allow-hotplug`, `iface` and `mapping`; a pattern begins with `/`.
    fn in_interfaces(&self, text: &str, found: &mut Vec<Patterns>) -> bool {
        let text = text.replace("\\\n", " ");
        let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
        let stanza = |verb: &str| ["iface", "mapping"].contains(&verb);
        let begins =
            |verb: &str| stanza(verb) || verb == "auto" || ["allow-", "no-", "source"].iter().any(|v| verb.starts_with(v));
        for (i, line) in lines.iter().enumerate() {
            let Some((verb, names)) = line.split_first().filter(|(verb, _)| begins(verb)) else { continue };
            let (names, says) = match *verb {
                verb if stanza(verb) => names.split_at(names.len().min(1)),
                verb if verb == "auto" || verb.starts_with("allow-") => (names, &[][..]),
                _ => continue,
            };
            let inside = lines[i + 1..].iter().take_while(|l| stanza(verb) && !l.first().is_some_and(|verb| begins(verb)));
            let says = [verb].into_iter().chain(says).chain(inside.flatten()).copied().collect::<Vec<_>>().join(" ");
            for name in names {
                match name.strip_prefix('/') {
                    Some(pattern) => {
                        let (pattern, rest) = pattern.split_at(pattern.find(['/', '=']).unwrap_or(pattern.len()));
                        found.push(Patterns::new([pattern], format!("{says}{rest}")));
                    }
                    None if *verb == "mapping" => found.push(Patterns::new([*name], says.clone())),
                    None if name.split('=').next() == Some(self.interface) => return true,
                    None => {}
                }
            }
        }
        false
    }

    /// `interface` begins the settings of one interface; `allowinterfaces` and `denyinterfaces` select those that dhcpcd configures.
    fn in_dhcpcd(&self, text: &str, found: &mut Vec<Patterns>) -> bool {
        let (mut allowed, mut denied, mut block) = (Vec::new(), Vec::new(), false);
        for line in text.lines().map(|l| l.split('#').next().unwrap_or_default().trim()).filter(|l| !l.is_empty()) {
            let (option, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let values = || value.split([' ', '\t', ',']).filter(|v| !v.is_empty());
            match option {
                "allowinterfaces" => allowed.extend(values()),
                "denyinterfaces" => denied.extend(values()),
                "interface" => {
                    found.push(Patterns::new([value.trim()], String::new()));
                    block = true;
                }
                "profile" | "ssid" => block = false,
                _ => {
                    if let Some(last) = found.last_mut().filter(|_| block) {
                        last.says += line;
                        last.says.push('\n');
                    }
                }
            }
        }
        let any = |patterns: &[&str], name: &str| patterns.iter().any(|p| fits(p, name));
        let takes = |name: &str| (allowed.is_empty() || any(&allowed, name)) && !any(&denied, name);
        self.other.iter().any(|name| takes(name) != takes(self.interface))
    }

    /// dracut's `ip=…:eth0:dhcp`, `bootdev=eth0`, and devices on top of an interface.
    fn in_word(&self, word: &str) -> bool {
        let keys = ["ip=", "bootdev=", "vlan=", "bond=", "bridge=", "team=", "rd.route="];
        let value = keys.iter().find_map(|key| word.strip_prefix(key));
        value.is_some_and(|v| v.split([':', ',']).any(|part| part == self.interface))
    }
}

/// `Name=` of systemd.network(5); if it begins with `!`, it matches all other names.
fn in_network(text: &str) -> Option<Patterns> {
    let matched = section(text, "Match");
    let names: Vec<&str> =
        matched.iter().filter(|(key, _)| key == "Name").flat_map(|(_, value)| value.split_whitespace()).collect();
    let inverted = names.first().is_some_and(|n| n.starts_with('!'));
    (!inverted).then(|| Patterns::new(names, without(text, &["Name"])))
}

/// The files with this suffix (any, if it is empty) in these directories; a file hides those of the same name in later directories.
/// systemd's drop-ins are included.
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

/// The interface files of EL and SUSE.
pub(super) fn ifcfg(host: &Host) -> Vec<PathBuf> {
    let named = |p: &PathBuf| p.file_name().is_some_and(|f| f.as_encoded_bytes().starts_with(b"ifcfg-"));
    IFCFG.iter().flat_map(|dir| files(host, &[dir], "")).filter(named).collect()
}

/// The file of interfaces(5) and the files that it includes, one level deep.
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

/// The value of a shell assignment, without quotes; the last one counts.
pub(super) fn assigned(text: &str, key: &str) -> Option<String> {
    let mut values = text.lines().filter_map(|l| l.trim().strip_prefix(key)?.strip_prefix('='));
    let value = values.next_back()?.split('#').next().unwrap_or_default().trim();
    Some(value.trim_matches(['"', '\'']).to_owned()).filter(|v| !v.is_empty())
}

/// The assignments in a section of a systemd or NetworkManager file.
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

/// The lines of such a file without comments and without assignments of these keys.
fn without(text: &str, keys: &[&str]) -> String {
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with(['#', ';']));
    let kept = lines.filter(|l| !l.split_once('=').is_some_and(|(key, _)| keys.contains(&key.trim())));
    kept.collect::<Vec<_>>().join("\n")
}

/// The lines of a YAML text with their indentation, without comments and empty lines.
fn lines(text: &str) -> Vec<(usize, String)> {
    let line = |l: &str| {
        let body = l.split(" #").next().unwrap_or_default().trim_end();
        let indent = body.len() - body.trim_start().len();
        (indent, body.trim_start().to_owned())
    };
    text.lines().map(line).filter(|(_, l)| !l.is_empty() && !l.starts_with('#') && l != "---").collect()
}

type Child = (String, String, Vec<(usize, String)>);

/// The keys of a block mapping: name, text after it, and nested block.
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

/// The text of a block, independent of its indentation.
fn shown(block: &[(usize, String)]) -> String {
    let level = block.iter().map(|(indent, _)| *indent).min().unwrap_or(0);
    block.iter().map(|(indent, line)| format!("{:1$}{line}\n", "", indent - level)).collect()
}

/// `match: {name: "eth*", …}`: the name, and the text without it.
fn flow_match(text: &str) -> Option<(String, String)> {
    let open = text.find("match:")? + "match:".len();
    let inside = text[open..].trim_start().strip_prefix('{')?.split('}').next()?;
    let term = inside.split(',').find(|term| term.trim_start().starts_with("name:"))?;
    let name = term.trim_start()["name:".len()..].trim().trim_matches(['"', '\'']);
    Some((name.to_owned(), text.replacen(term, "", 1)))
}

/// The nested block of a key, if it has one.
fn child(block: &[(usize, String)], key: &str) -> Option<Vec<(usize, String)>> {
    children(block).into_iter().find(|(k, rest, _)| k == key && rest.is_empty()).map(|(_, _, inside)| inside)
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
