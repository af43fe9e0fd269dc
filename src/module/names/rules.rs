//! Whether a rule of udev gives an interface its name: udev(7).

use super::card::{Card, Fit};
use super::settings::files;
use crate::module::fits;

/// The directories of the rules; a file hides those of the same name in later directories. Files in /run are regenerated at each boot, for
/// example from `ifname=` by dracut, so they are not read.
const RULES: [&str; 4] = ["/etc/udev/rules.d", "/usr/local/lib/udev/rules.d", "/usr/lib/udev/rules.d", "/lib/udev/rules.d"];
/// Attributes of a card that do not depend on the driver.
const CONSTANT: [&str; 6] = ["vendor", "device", "subsystem_vendor", "subsystem_device", "revision", "class"];

/// `SUBSYSTEM=="net", ACTION=="add", ATTR{address}=="02:…", NAME="eth0"`: whether a rule gives the present name, identifies the card, and
/// certainly matches it.
pub(super) fn name(card: &Card) -> bool {
    let read = |file| card.host.read_text(file).unwrap_or_default().replace("\\\n", " ");
    files(card.host, &RULES, "rules").iter().any(|file| in_file(card, &read(file)))
}

fn in_file(card: &Card, text: &str) -> bool {
    // The label to which an earlier rule jumps, or may jump.
    let mut skipped_to: Option<String> = None;
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let Some(terms) = terms(line) else { continue };
        let assigned = |key: &str| terms.iter().find(|t| t.key == key && ["=", ":="].contains(&t.operator)).map(|t| t.value);
        if skipped_to.is_some() && assigned("LABEL") == skipped_to.as_deref() {
            skipped_to = None;
        }
        if skipped_to.is_some() {
            continue;
        }
        let fit = matches(card, &terms);
        if fit == Fit::Yes && assigned("NAME") == Some(card.interface) && terms.iter().any(Term::finds) {
            return true;
        }
        skipped_to = assigned("GOTO").filter(|_| fit != Fit::No).map(str::to_owned);
    }
    false
}

struct Term<'r> {
    key: &'r str,
    operator: &'r str,
    value: &'r str,
}

impl Term<'_> {
    fn is_match(&self) -> bool {
        ["==", "!="].contains(&self.operator)
    }

    /// Whether it identifies a single card.
    fn finds(&self) -> bool {
        self.operator == "==" && ["ATTR{address}", "ATTRS{address}", "KERNELS", "ENV{ID_PATH}"].contains(&self.key)
    }
}

/// The terms of a rule; none if it has a syntax error.
fn terms(line: &str) -> Option<Vec<Term<'_>>> {
    let mut found = Vec::new();
    let mut rest = line.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let named = rest.find(['{', '=', '!', '+', '-', ':'])?;
        let named = if rest[named..].starts_with('{') { rest.find('}')? + 1 } else { named };
        let (key, behind) = rest.split_at(named);
        let behind = behind.trim_start();
        let operator = ["==", "!=", "+=", "-=", ":=", "="].into_iter().find(|o| behind.starts_with(o))?;
        let quoted = behind[operator.len()..].trim_start().strip_prefix('"')?;
        let (value, behind) = quoted.split_once('"')?;
        found.push(Term { key: key.trim(), operator, value });
        rest = behind.trim_start_matches([' ', '\t', ',']);
    }
    Some(found)
}

/// Evaluates all conditions. Those about parents must match one parent together: the interface itself or the card.
fn matches(card: &Card, terms: &[Term]) -> Fit {
    let (parents, own): (Vec<&Term>, Vec<&Term>) = terms.iter().partition(|t| {
        t.is_match() && (t.key.starts_with("ATTRS{") || ["KERNELS", "SUBSYSTEMS", "DRIVERS"].contains(&t.key))
    });
    let all = |terms: &[&Term], fit: &dyn Fn(&str, &str) -> Fit| {
        let one = |term: &&Term| {
            // The output of a program, and an import, are conditions too.
            if !term.is_match() {
                let asks = ["PROGRAM", "RESULT"].contains(&term.key) || term.key.starts_with("IMPORT");
                return if asks { Fit::May } else { Fit::Yes };
            }
            let fit = term.value.split('|').map(|pattern| fit(term.key, pattern)).max().unwrap_or(Fit::May);
            if term.operator == "==" {
                fit
            } else {
                !fit
            }
        };
        terms.iter().map(one).min().unwrap_or(Fit::Yes)
    };
    let parents = all(&parents, &|key, pattern| interface(card, key, pattern))
        .max(all(&parents, &|key, pattern| pci(card, key, pattern)));
    // Other parents, such as bridges, are not examined.
    parents.max(Fit::May).min(all(&own, &|key, pattern| event(card, key, pattern)))
}

/// A condition about the event or the interface.
fn event(card: &Card, key: &str, pattern: &str) -> Fit {
    let attribute = |name: &str, usual: &str| fits(pattern, card.attribute(name).as_deref().unwrap_or(usual)).into();
    match key {
        "ACTION" => fits(pattern, "add").into(),
        "SUBSYSTEM" => fits(pattern, "net").into(),
        "KERNEL" => card.kernel_name(pattern),
        "ENV{ID_PATH}" => card.path(pattern),
        "ATTR{address}" => address(card, pattern),
        "ATTR{type}" if card.is_ethernet() => attribute("type", "1"),
        "ATTR{dev_id}" => attribute("dev_id", "0x0"),
        "ATTR{dev_port}" => attribute("dev_port", "0"),
        _ => Fit::May,
    }
}

/// A condition about a parent, evaluated for the interface, which counts as the first parent.
fn interface(card: &Card, key: &str, pattern: &str) -> Fit {
    match key {
        "KERNELS" => card.kernel_name(pattern),
        "SUBSYSTEMS" => fits(pattern, "net").into(),
        "DRIVERS" => Fit::No,
        "ATTRS{address}" => address(card, pattern),
        _ => Fit::May,
    }
}

/// A condition about a parent, evaluated for the card.
fn pci(card: &Card, key: &str, pattern: &str) -> Fit {
    match key {
        "KERNELS" => fits(pattern, &card.device.address).into(),
        "SUBSYSTEMS" => fits(pattern, "pci").into(),
        "DRIVERS" => card.driver(pattern),
        "ATTRS{address}" => Fit::No,
        _ => {
            let name = key.strip_prefix("ATTRS{").and_then(|k| k.strip_suffix('}')).filter(|name| CONSTANT.contains(name));
            let path = name.map(|name| format!("/sys/bus/pci/devices/{}/{name}", card.device.address));
            path.and_then(|path| card.host.read_text(path).ok()).map_or(Fit::May, |is| fits(pattern, is.trim()).into())
        }
    }
}

fn address(card: &Card, pattern: &str) -> Fit {
    card.mac.as_deref().map_or(Fit::May, |mac| fits(&pattern.to_ascii_lowercase(), mac).into())
}
