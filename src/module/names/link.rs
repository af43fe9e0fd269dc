//! Which `.link` file decides about an interface's name: systemd.link(5). Those of all directories are taken in the order of their
//! names, the first of which all of `[Match]` fits counts, and no later one does.

use super::card::{Card, Fit};
use super::settings::section;
use crate::host::Host;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The first hides files of the same name in the others.
const LASTING: [&str; 4] =
    ["/etc/systemd/network", "/usr/local/lib/systemd/network", "/usr/lib/systemd/network", "/lib/systemd/network"];
/// Made anew at each boot, by netplan for example; whether it will be the same is not known.
const RUNTIME: &str = "/run/systemd/network";

/// What the files come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// None fits.
    Nothing,
    /// The name that the interface has.
    Own,
    /// Another one, one by a policy, or it cannot be told.
    Other,
}

/// What they give an interface.
pub(super) fn given(card: &Card) -> Given {
    for (path, runtime) in listed(card.host) {
        let read = match text(card.host, &path) {
            Ok(None) => continue,
            Ok(Some(text)) => text,
            Err(_) => return Given::Other,
        };
        match (matches(card, &read), names(card, &read)) {
            (Fit::No, _) => {}
            // If it is there again it gives that name, and else the next one decides.
            (Fit::Yes | Fit::May, true) if runtime => {}
            (Fit::Yes, true) => return Given::Own,
            (Fit::Yes | Fit::May, _) => return Given::Other,
        }
    }
    Given::Nothing
}

/// The files in their order, and whether they are made anew at each boot.
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
            // What /run hides may show at the next boot.
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

/// A file with its drop-ins; none for one that is empty or /dev/null, which takes the name away.
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

/// Whether `Name=` is the one that the interface has, whatever `net.ifnames=` says: it counts only without a policy, and where what
/// must fit is one card's own.
fn names(card: &Card, text: &str) -> bool {
    let link = section(text, "Link");
    let last = |key: &str| link.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty());
    let finds = |(key, value): &(String, String)| match key.as_str() {
        "MACAddress" | "PermanentMACAddress" | "Path" => !value.is_empty() && !value.starts_with('!'),
        // The name that the kernel gave, which the words do not change.
        "OriginalName" => value == card.interface,
        _ => false,
    };
    last("Name") == Some(card.interface) && last("NamePolicy").is_none() && section(text, "Match").iter().any(finds)
}

/// All of `[Match]`. Without any, systemd up to 242 takes it for all interfaces and later ones for none.
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
        // A card has none.
        "Kind" => any(&|_| Fit::No),
        "OriginalName" => any(&|value| card.kernel_name(value)),
        _ => Fit::May,
    }
}

/// The digits of a hardware address in one of its three forms.
fn digits(address: &str) -> String {
    address.chars().filter(char::is_ascii_hexdigit).map(|c| c.to_ascii_lowercase()).collect()
}
