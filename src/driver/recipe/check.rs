//! Checks what a recipe says. A recipe that could never work is an error, and the message shows the right form.

use super::{Fallback, Recipe};

/// Names become parts of file names. 64 is longer than any module's name (`MODULE_NAME_LEN` is 56).
const MAX_NAME: usize = 64;
/// Suffixes of archives that are not supported.
const UNREAD: [&str; 8] = [".zip", ".tar.bz2", ".tbz2", ".tar.zst", ".tar.lzma", ".7z", ".rpm", ".deb"];
/// The placeholders.
const FILLED_IN: [&str; 4] = ["{kernel}", "{source}", "{build}", "{compiler}"];
/// The modalias of a PCI function (`pci_uevent` of `drivers/pci/pci-driver.c`); `X` stands for an upper-case hexadecimal
/// digit.
const MODALIAS: &str = "pci:vXXXXXXXXdXXXXXXXXsvXXXXXXXXsdXXXXXXXXbcXXscXXiXX";

pub(super) fn validate(recipe: &Recipe) -> Result<(), String> {
    check_name("name", &recipe.name)?;
    recipe.modules.iter().try_for_each(|m| check_name("modules", m))?;
    recipe.optional.iter().try_for_each(|m| check_name("optional", m))?;
    let all: Vec<String> = recipe.modules.iter().chain(&recipe.optional).map(|m| m.replace('-', "_")).collect();
    if let Some(twice) = all.iter().enumerate().find(|(n, m)| all[..*n].contains(m)) {
        return Err(format!("modules, optional: {} is there twice", twice.1));
    }
    if recipe.devices.is_empty() {
        return Err(format!("devices: at least one modalias pattern is needed, such as {}", pattern_of("8086", "10ED")));
    }
    recipe.devices.iter().try_for_each(|d| check_device(d))?;
    check_directory(&recipe.directory)?;
    recipe.make.iter().try_for_each(|m| check_make("make", m))?;
    check_prepare(&recipe.prepare)?;
    recipe.symvers.iter().try_for_each(|path| check_symvers(path))?;
    check_version(&recipe.version_of_module)?;
    if recipe.releases.is_empty() {
        return Err("releases: at least one release is needed".into());
    }
    for (i, release) in recipe.releases.iter().enumerate() {
        let version = &release.version;
        check_name("version", version)?;
        let within = |why: String| format!("release {version}: {why}");
        release.make.iter().try_for_each(|m| check_make("make", m)).map_err(within)?;
        release.version_of_module.iter().try_for_each(|v| check_version(v)).map_err(within)?;
        if release.urls.is_empty() {
            return Err(within("urls: at least one URL is needed".into()));
        }
        if let Some(url) = release.urls.iter().find(|url| UNREAD.iter().any(|ending| url.ends_with(ending))) {
            let read = "vfguard reads .tar.gz, .tar.xz and .tar";
            return Err(within(format!(
                "urls: {:?}: {read}; name an archive that is packed so",
                crate::text::redact::scrub(url)
            )));
        }
        release.urls.iter().try_for_each(|u| super::url::check_url(u)).map_err(|e| within(format!("urls: {e}")))?;
        let never = match &release.fallback {
            Fallback::Never => true,
            Fallback::Always => false,
            Fallback::For(kernels) => kernels.is_empty(),
        };
        if release.kernels.is_empty() && never {
            return Err(within("kernels: it is for no kernel, and no fallback; give it a range, or set `fallback`".into()));
        }
        for other in &recipe.releases[..i] {
            if other.version == *version {
                return Err(within("version: it is there twice".into()));
            }
            if other.kernels.overlap(&release.kernels) {
                return Err(within(format!("kernels: the range overlaps that of release {}", other.version)));
            }
        }
    }
    Ok(())
}

/// Names and versions become file names and module names: no path separator, nothing that looks like an option.
fn check_name(key: &str, name: &str) -> Result<(), String> {
    if let (true, Some(module)) = (["modules", "optional"].contains(&key), name.strip_suffix(".ko")) {
        return Err(format!("{key}: {name:?} is a file's name; write the module's, {module:?}"));
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._+~-".contains(&b);
    let fits = (1..=MAX_NAME).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(plain)
        && !name.contains("..");
    if fits {
        return Ok(());
    }
    Err(format!("{key}: {name:?} is not 1 to {MAX_NAME} letters, digits and . _ + ~ - with a letter or digit first"))
}

/// The pattern that matches every device with these ids.
fn pattern_of(vendor: &str, device: &str) -> String {
    format!("pci:v0000{}d0000{}sv*sd*bc*sc*i*", vendor.to_ascii_uppercase(), device.to_ascii_uppercase())
}

fn check_device(pattern: &str) -> Result<(), String> {
    if pattern.split_once(':').is_some_and(|(_, rest)| can_match(pattern) && rest.bytes().any(|b| b != b'*')) {
        return Ok(());
    }
    let hex = |s: &str| s.len() == 4 && s.bytes().all(|b| b.is_ascii_hexdigit());
    let right = pattern.split_once(':').filter(|(vendor, device)| hex(vendor) && hex(device));
    let right = right
        .map(|(vendor, device)| pattern_of(vendor, device))
        .or_else(|| upper_case(pattern).filter(|right| right != pattern));
    Err(match right {
        Some(right) => format!("devices: {pattern:?} matches no device; write {right:?}"),
        None => format!(
            "devices: {pattern:?} is not a pattern that matches PCI devices and not all of them, such as {:?}",
            pattern_of("8086", "10ED")
        ),
    })
}

/// The pattern with upper-case digits, if that makes it a pattern that can match.
fn upper_case(pattern: &str) -> Option<String> {
    let mut rest = pattern.strip_prefix("pci:")?;
    let mut right = String::from("pci:");
    for (key, width) in [("v", 8), ("d", 8), ("sv", 8), ("sd", 8), ("bc", 2), ("sc", 2), ("i", 2)] {
        let Some(after) = rest.strip_prefix(key) else { break };
        // A number of full width, or one that ends with a star.
        let end = after.bytes().take(width).position(|b| b == b'*').map_or(width, |star| star + 1);
        let number = after.get(..end)?;
        right += key;
        right += &number.to_ascii_uppercase();
        rest = &after[end..];
    }
    right += rest;
    can_match(&right).then_some(right)
}

/// Whether a pattern can match any modalias. Tracks the positions of the modalias that the characters so far can reach.
fn can_match(pattern: &str) -> bool {
    let template = MODALIAS.as_bytes();
    let mut reached = vec![false; template.len() + 1];
    reached[0] = true;
    for byte in pattern.bytes() {
        let mut next = vec![false; template.len() + 1];
        for at in (0..=template.len()).filter(|&at| reached[at]) {
            let fits = |expected: u8| match (byte, expected) {
                (b'?', _) => true,
                (b'0'..=b'9' | b'A'..=b'F', b'X') => true,
                (byte, expected) => byte == expected,
            };
            if byte == b'*' {
                next[at..].fill(true);
            } else if template.get(at).is_some_and(|&expected| fits(expected)) {
                next[at + 1] = true;
            }
        }
        reached = next;
    }
    reached[template.len()]
}

fn check_directory(directory: &str) -> Result<(), String> {
    let plain = |part: &str| {
        !part.is_empty() && part != ".." && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
    };
    if directory.split('/').all(plain) {
        return Ok(());
    }
    Err(format!("directory: {directory:?} is not a path below the archive's top directory"))
}

/// `NAME=value`. make expands `$`, and a word that looks like an option would be taken as one.
fn check_make(key: &str, arg: &str) -> Result<(), String> {
    let variable = arg.split_once('=').is_some_and(|(name, _)| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    });
    if variable && !arg.contains(|c: char| c == '$' || c == '`' || c.is_control()) {
        return check_filled_in(key, arg);
    }
    Err(format!("{key}: {arg:?} is not NAME=value (without $ and `)"))
}

/// Braces must contain a known placeholder.
fn check_filled_in(key: &str, text: &str) -> Result<(), String> {
    let rest = FILLED_IN.iter().fold(text.to_owned(), |rest, known| rest.replace(known, ""));
    if rest.contains(['{', '}']) {
        return Err(format!("{key}: {text:?}: only {} are filled in", FILLED_IN.join(", ")));
    }
    Ok(())
}

fn check_prepare(prepare: &[String]) -> Result<(), String> {
    let Some(program) = prepare.first() else { return Ok(()) };
    // Searched for in the sandbox's PATH, or in the archive's top directory.
    let plain = program.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-/".contains(&b));
    if !plain || program.is_empty() || program.starts_with(['/', '-']) || program.split('/').any(|part| part == "..") {
        return Err(format!(
            "prepare: {program:?} is not a program's name, or a path below the archive's top directory (./build.sh)"
        ));
    }
    prepare.iter().try_for_each(|arg| {
        if arg.contains(char::is_control) {
            return Err(format!("prepare: {arg:?} holds a control character"));
        }
        check_filled_in("prepare", arg)
    })
}

/// A file of the host. make takes a list separated by spaces.
fn check_symvers(path: &str) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._+-/{}".contains(&b);
    if !path.starts_with('/') || path.split('/').any(|part| part == "..") || !path.bytes().all(plain) {
        return Err(format!("symvers: {path:?} is not an absolute path such as /usr/src/other/{{kernel}}/Module.symvers"));
    }
    if path.replace("{kernel}", "").contains(['{', '}']) {
        return Err(format!("symvers: {path:?}: only {{kernel}} is filled in"));
    }
    Ok(())
}

fn check_version(pattern: &str) -> Result<(), String> {
    let rest = pattern.replacen("{version}", "", 1);
    if pattern.is_empty() || rest.contains(['{', '}']) || rest.contains(char::is_control) {
        return Err(format!("version_of_module: {pattern:?} is not the module's version, such as \"{{version}}g\""));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_can_match_no_device_is_refused_with_the_right_form() {
        for good in [
            "pci:v00008086d000010EDsv*sd*bc*sc*i*",
            "pci:v00001D0Fd0000EC2?sv*",
            "pci:v00008086d*sv*sd*bc02sc00i*",
            "pci:*d000010ED*",
            "pci:v????8086d*",
        ] {
            check_device(good).unwrap();
        }
        let intel = "pci:v00008086d0000154Csv*sd*bc*sc*i*";
        for (bad, right) in [
            ("8086:154c", intel),
            ("8086:154C", intel),
            ("pci:v00008086d0000154csv*sd*bc*sc*i*", intel),
            ("pci:v00001d0fd0000ec20sv*sd*bc*sc*i*", "pci:v00001D0Fd0000EC20sv*sd*bc*sc*i*"),
            ("pci:v00008086d0000154Csv*sd*bc0csc*i*", "pci:v00008086d0000154Csv*sd*bc0Csc*i*"),
            ("pci:v8086d154C*", "such as"),
            ("pci:v00008086", "such as"),
            ("usb:v1d6bp*", "such as"),
            ("vmbus:*", "such as"),
            ("*", "such as"),
            ("pci:*", "such as"),
            ("", "such as"),
            ("154c", "such as"),
        ] {
            let error = check_device(bad).unwrap_err();
            assert!(error.contains(right), "{bad}: {error}");
        }
    }
}
