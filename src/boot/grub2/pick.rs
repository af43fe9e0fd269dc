//! The entry by which a kernel becomes the default.

use super::script::Choice;
use crate::boot::image;
use crate::boot::steps::plan::is_rescue;
use crate::host::Host;
use crate::kernel::KernelRelease;

/// The entry by which to name a kernel: one that starts it whole and without a password. `entry` is preferred; else not one for repairs,
/// one whose name holds the release, since Debian's `gnulinux-simple-UUID` means another kernel after the next update-grub, and the one
/// whose command line is nearest to the running kernel's: a snapshot manager's or a debugging entry may come first in the menu.
pub(super) fn pick<'a>(host: &Host, choices: &'a [Choice], to: &KernelRelease, entry: Option<&str>) -> Option<&'a Choice> {
    let running = host.read_text("/proc/cmdline").unwrap_or_default();
    let usable = choices.iter().filter(|c| !c.selector.is_empty() && !c.locked && starts(host, c, to));
    usable.min_by_key(|c| {
        let named = c.selector.contains(to.as_str());
        (Some(c.entry.as_str()) != entry, for_repairs(c), !named, distance(&running, &c.cmdline))
    })
}

/// Whether an entry starts this kernel, with everything there that it loads.
fn starts(host: &Host, choice: &Choice, to: &KernelRelease) -> bool {
    let whole = || choice.initrds.iter().all(|initrd| image::locate(host, initrd).is_some());
    let image = || choice.image.as_deref().and_then(|i| image::look(host, i).release);
    choice.failed.is_none() && image().as_ref() == Some(to) && whole()
}

fn for_repairs(choice: &Choice) -> bool {
    let name = choice.entry.to_ascii_lowercase();
    is_rescue(&choice.cmdline) || ["rescue", "recovery"].iter().any(|word| name.contains(word))
}

/// How many words two command lines do not share; another root counts before all else.
fn distance(running: &str, entry: &str) -> (bool, usize) {
    // The boot loader puts these in, or takes them out.
    let words = |line: &str| -> Vec<String> {
        let words = line.split_ascii_whitespace().filter(|w| !w.starts_with("BOOT_IMAGE=") && !w.starts_with("initrd="));
        words.map(str::to_owned).collect()
    };
    let (running, entry) = (words(running), words(entry));
    let root = |words: &[String]| words.iter().find(|w| w.starts_with("root=")).cloned();
    let missing = |a: &[String], b: &[String]| a.iter().filter(|w| !b.contains(w)).count();
    (!running.is_empty() && root(&running) != root(&entry), missing(&running, &entry) + missing(&entry, &running))
}
