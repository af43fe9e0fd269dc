//! A module file and whether it will load in a kernel: [`Module`] is what the file says of itself, [`Target`] what is known
//! about the kernel, [`verify()`] compares the two; [`placement`] is what modprobe would make of it.
//!
//! Where the verifier cannot know, it is stricter than the kernel, never laxer.

mod file;
#[doc(hidden)]
pub mod fuzz;
mod initramfs;
mod names;
pub mod placement;
mod target;
mod verify;

pub use file::signature::Signature;
pub use file::{Import, Module, Offer};
pub use initramfs::{initramfs_carries, initramfs_driver, initramfs_files, initramfs_repack, initramfs_whole};
pub use names::interface_findings;
pub use placement::{check_placement, initramfs_findings, on_disk};
pub use target::index::{Index, Provider};
pub use target::Target;
pub use verify::verify;

use target::{depmod, modprobe};

/// Where the settings of modprobe and depmod are.
pub struct Settings {
    /// Of which the `*.conf` files count.
    pub directories: Vec<&'static str>,
    /// Single files of old systems.
    pub files: Vec<&'static str>,
}

/// Where the settings that decide which file is loaded are.
pub fn settings() -> Settings {
    Settings {
        directories: modprobe::DIRECTORIES.into_iter().chain(depmod::DIRECTORIES).collect(),
        files: vec![modprobe::OLD, depmod::OLD],
    }
}

/// Whether a modalias pattern of `.modinfo` or modules.alias fits: fnmatch(3) without flags, as libkmod uses it.
pub fn fits(pattern: &str, modalias: &str) -> bool {
    glob(pattern.as_bytes(), modalias.as_bytes())
}

fn glob(mut pattern: &[u8], mut text: &[u8]) -> bool {
    // One level of backtracking is enough: a later `*` makes an earlier one's choice final.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        let step = match pattern.first() {
            None if text.is_empty() => return true,
            None => None,
            Some(b'*') => {
                retry = Some((&pattern[1..], text));
                pattern = &pattern[1..];
                continue;
            }
            Some(_) => one(pattern, text),
        };
        match (step, retry) {
            (Some(rest), _) => {
                pattern = rest;
                text = &text[1..];
            }
            (None, Some((after, from))) if !from.is_empty() => {
                retry = Some((after, &from[1..]));
                (pattern, text) = (after, &from[1..]);
            }
            (None, _) => return false,
        }
    }
}

/// Matches one character; the rest of the pattern, if it fits.
fn one<'p>(pattern: &'p [u8], text: &[u8]) -> Option<&'p [u8]> {
    let c = *text.first()?;
    match pattern[0] {
        b'?' => Some(&pattern[1..]),
        b'[' => {
            let end = 1 + pattern[1..].iter().position(|&b| b == b']')?;
            class(&pattern[1..end], c).then(|| &pattern[end + 1..])
        }
        b'\\' if pattern.len() > 1 => (pattern[1] == c).then(|| &pattern[2..]),
        literal => (literal == c).then(|| &pattern[1..]),
    }
}

fn class(set: &[u8], c: u8) -> bool {
    let (negated, set) = match set.split_first() {
        Some((b'!' | b'^', rest)) => (true, rest),
        _ => (false, set),
    };
    let mut i = 0;
    let mut found = false;
    while i < set.len() {
        if i + 2 < set.len() && set[i + 1] == b'-' {
            found |= (set[i]..=set[i + 2]).contains(&c);
            i += 3;
        } else {
            found |= set[i] == c;
            i += 1;
        }
    }
    found != negated
}

/// A module's name as the kernel writes it: without `.ko` and compression, `-` as `_`.
pub fn name_of(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    base.split(".ko").next().unwrap_or(base).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modalias_patterns_fit_as_fnmatch_says() {
        let vf = "pci:v00008086d000010EDsv00008086sd00000000bc02sc00i00";
        assert!(fits("pci:v00008086d000010EDsv*sd*bc*sc*i*", vf));
        assert!(!fits("pci:v00008086d00001515sv*sd*bc*sc*i*", vf));
        assert!(fits("pci:v*d*sv*sd*bc02sc00i*", vf));
        assert!(fits("a[0-9]?c*", "a5xcdef") && !fits("a[!0-9]", "a5") && fits("*", "") && !fits("", "a"));
        assert!(fits("*a*b", "xaxbxab") && !fits("*a*b", "xaxbx"));
    }
}
