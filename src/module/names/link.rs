//! Which `.link` file decides about an interface's name: systemd.link(5). The files of all directories are taken in the order of their
//! names; only the first one whose `[Match]` matches counts.

use super::card::{Card, Fit};
use super::settings::section;
use crate::host::Host;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Files in the first directory hide files of the same name in the others.
const LASTING: [&str; 4] =
    ["/etc/systemd/network", "/usr/local/lib/systemd/network", "/usr/lib/systemd/network", "/lib/systemd/network"];
/// Regenerated at each boot, by netplan for example; whether the content stays the same is unknown.
const RUNTIME: &str = "/run/systemd/network";

/// The result of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// No file matches.
    Nothing,
    /// The name that the interface has now.
    Own,
    /// Another name, one by a policy, or unknown.
    Other,
}

/// The name that the files give an interface.
pub(super) fn given(card: &Card) -> Given {
    for (path, runtime) in listed(card.host) {
        let read = match text(card.host, &path) {
            Ok(None) => continue,
            Ok(Some(text)) => text,
            Err(_) => return Given::Other,
        };
        match (matches(card, &read), names(card, &read)) {
            (Fit::No, _) => {}
            // If the file in /run exists again at the next boot, it gives that name; otherwise the next file decides.
            (Fit::Yes | Fit::May, true) if runtime => {}
            (Fit::Yes, true) => return Given::Own,
            (Fit::Yes | Fit::May, _) => return Given::Other,
        }
    }
    Given::Nothing
}

/// The files in their order, and whether they are regenerated at each boot.
fn listed(host: &Host) -> Vec<(PathBuf, bool)> {
    let mut by_name: BTreeMap<OsString, Vec<(PathBuf, bool)>> = BTreeMap::new();
    let mut add = |directory: &str, runtime: bool| {
        for name in host.read_dir(directory).unwrap_or_default() {
            let hidden = name.as_encoded_bytes().starts_with(b".");
            if hidden || Path::new(&name).extension().is_none_or(|e| e != "link") {
                continue;
            }
            let path = Path::new(directory).join(&name);
            let found = by_name.entry(name).or_default();
            // A file that is hidden by one in /run may not be hidden at the next boot.
            if found.iter().all(|(other, runtime)| *runtime && !other.starts_with("/etc")) {
                found.push((path, runtime));
            }
        }
    };
    add(LASTING[0], false);
    add(RUNTIME, true);
    LASTING[1..].iter().for_each(|directory| add(directory, false));
    by_name.into_values().flatten().collect()
}

/// A file with its drop-ins; none for one that is empty or a link to /dev/null, which masks the name.
fn text(host: &Host, path: &Path) -> io::Result<Option<String>> {
    let read = |path: &Path| match host.read_text(path) {
        Ok(text) => Ok(text),
        Err(_) if host.read_link(path).is_ok_and(|to| to == Path::new("/dev/null")) => Ok(String::new()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(e),
    };
    let mut text = read(path)?;
    if text.is_empty() {
        return Ok(None);
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".d");
    let mut drop_ins: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for directory in [LASTING[0], RUNTIME].iter().chain(&LASTING[1..]) {
        let directory = Path::new(directory).join(&name);
        for file in host.read_dir(&directory).unwrap_or_default() {
            if Path::new(&file).extension().is_some_and(|e| e == "conf") {
                drop_ins.entry(file.clone()).or_insert_with(|| directory.join(&file));
            }
        }
    }
    for drop_in in drop_ins.values() {
        text.push('\n');
        text += &read(drop_in)?;
    }
    Ok(Some(text))
}

/// Whether `Name=` is the present name, whatever `net.ifnames=` says: only without a policy, and if a condition identifies a single card.
fn names(card: &Card, text: &str) -> bool {
    let link = section(text, "Link");
    let last = |key: &str| link.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty());
    let finds = |(key, value): &(String, String)| match key.as_str() {
        "MACAddress" | "PermanentMACAddress" | "Path" => !value.is_empty() && !value.starts_with('!'),
        // The name that the kernel gave, which the command line does not change.
        "OriginalName" => value == card.interface,
        _ => false,
    };
    last("Name") == Some(card.interface) && last("NamePolicy").is_none() && section(text, "Match").iter().any(finds)
}

/// Evaluates all of `[Match]`. If it is empty, systemd up to 242 matches every interface and later versions none.
fn matches(card: &Card, text: &str) -> Fit {
    let mut conditions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, value) in section(text, "Match") {
        let values = conditions.entry(key).or_default();
        if value.is_empty() {
            values.clear();
        }
        values.extend(value.split_whitespace().map(str::to_owned));
    }
    conditions.retain(|_, values| !values.is_empty());
    conditions.iter().map(|(key, values)| condition(card, key, values)).min().unwrap_or(Fit::May)
}

fn condition(card: &Card, key: &str, values: &[String]) -> Fit {
    let inverted = values[0].starts_with('!');
    let any = |fit: &dyn Fn(&str) -> Fit| {
        let fit = values.iter().map(|v| fit(v.strip_prefix('!').unwrap_or(v))).max().unwrap_or(Fit::May);
        if inverted {
            !fit
        } else {
            fit
        }
    };
    match key {
        "MACAddress" | "PermanentMACAddress" => {
            any(&|value| card.mac.as_deref().map_or(Fit::May, |mac| (digits(value) == digits(mac)).into()))
        }
        "Path" => any(&|value| card.path(value)),
        "Driver" => any(&|value| card.driver(value)),
        "Type" if card.is_ethernet() => any(&|value| crate::module::fits(value, "ether").into()),
        // A card has no kind.
        "Kind" => any(&|_| Fit::No),
        "OriginalName" => any(&|value| card.kernel_name(value)),
        _ => Fit::May,
    }
}

/// The digits of a hardware address in any of its three notations.
fn digits(address: &str) -> String {
    address.chars().filter(char::is_ascii_hexdigit).map(|c| c.to_ascii_lowercase()).collect()
}
