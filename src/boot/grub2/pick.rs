//! Chooses the entry through which a kernel becomes the default.

use super::script::Choice;
use crate::boot::image;
use crate::boot::steps::plan::is_rescue;
use crate::host::Host;
use crate::kernel::KernelRelease;

/// The entry for a kernel: one that starts it, with all its files there and without a password. `entry` is preferred. Then come, in this
/// order: an entry that is not for repairs; one whose name contains the release, since Debian's `gnulinux-simple-UUID` means another kernel
/// after the next update-grub; and the one whose command line is nearest to the running kernel's, since an entry of a snapshot manager or
/// for debugging may come first in the menu.
pub(super) fn pick<'a>(host: &Host, choices: &'a [Choice], to: &KernelRelease, entry: Option<&str>) -> Option<&'a Choice> {
    let running = host.read_text("/proc/cmdline").unwrap_or_default();
    let usable = choices.iter().filter(|c| !c.selector.is_empty() && !c.locked && starts(host, c, to));
    usable.min_by_key(|c| {
        let named = c.selector.contains(to.as_str());
        (Some(c.entry.as_str()) != entry, for_repairs(c), !named, distance(&running, &c.cmdline))
    })
}

/// Whether an entry starts this kernel and everything that it loads exists.
fn starts(host: &Host, choice: &Choice, to: &KernelRelease) -> bool {
    let whole = || choice.initrds.iter().all(|initrd| image::locate(host, initrd).is_some());
    let image = || choice.image.as_deref().and_then(|i| image::look(host, i).release);
    choice.failed.is_none() && image().as_ref() == Some(to) && whole()
}

fn for_repairs(choice: &Choice) -> bool {
    let name = choice.entry.to_ascii_lowercase();
    is_rescue(&choice.cmdline) || ["rescue", "recovery"].iter().any(|word| name.contains(word))
}

/// How many words two command lines do not share; a different root counts before everything else.
fn distance(running: &str, entry: &str) -> (bool, usize) {
    // The boot loader adds or removes these words.
    let words = |line: &str| -> Vec<String> {
        let words = line.split_ascii_whitespace().filter(|w| !w.starts_with("BOOT_IMAGE=") && !w.starts_with("initrd="));
        words.map(str::to_owned).collect()
    };
    let (running, entry) = (words(running), words(entry));
    let root = |words: &[String]| words.iter().find(|w| w.starts_with("root=")).cloned();
    let missing = |a: &[String], b: &[String]| a.iter().filter(|w| !b.contains(w)).count();
    (!running.is_empty() && root(&running) != root(&entry), missing(&running, &entry) + missing(&entry, &running))
}
