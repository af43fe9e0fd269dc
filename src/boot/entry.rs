//! An entry of any boot loader, and the kernel that it starts.

use super::{image, Candidate, NextBoot, Role};
use crate::host::Host;
use crate::kernel::installed::modules_dir;
use std::path::{Path, PathBuf};

/// An entry of any boot loader, as it is written.
pub(super) struct Entry<'a> {
    pub role: Role,
    pub entry: String,
    pub why: String,
    /// The kernel's file.
    pub spec: String,
    pub cmdline: String,
    pub initrds: &'a [String],
    /// Why it cannot start, if that is known.
    pub failed: Option<String>,
}

/// Adds the kernel of an entry, with all that is doubtful about it.
pub(super) fn candidate(host: &Host, answer: &mut NextBoot, entry: Entry) {
    let image = image::look(host, &entry.spec);
    let failed = entry.failed.or_else(|| image.path.is_none().then(|| format!("{} is not there", entry.spec)));
    if let Some(why) = &failed {
        answer.doubt(
            format!(
                "the entry {:?} cannot be started: {why}; the boot loader would fall back or wait for a person",
                entry.entry
            ),
            "remove the stale entry, install that kernel again, or make another entry the default",
        );
    }
    if let Some(said) = &image.misnamed {
        answer.doubt(
            format!("{} is named for {said} and holds another kernel", entry.spec),
            "give the image the name of its kernel",
        );
    }
    let Some(kernel) = image.release else {
        if !entry.spec.is_empty() {
            answer.doubt(
                format!("the entry {:?} starts {}, and which kernel that is cannot be told", entry.entry, entry.spec),
                "name the image vmlinuz-RELEASE in the entry",
            );
        }
        return;
    };
    if image.path.is_some() && !host.is_dir(modules_dir(&kernel)) {
        answer.note(
            format!("{} has no modules in {}", kernel, modules_dir(&kernel).display()),
            format!("install {kernel} again, or remove its entry"),
        );
    }
    let initrds = entry.initrds.iter().map(|i| image::locate(host, i).unwrap_or_else(|| absent(i))).collect();
    answer.kernels.push(Candidate {
        kernel,
        role: entry.role,
        entry: entry.entry,
        why: entry.why,
        cmdline: entry.cmdline,
        initrds,
    });
}

/// A ramdisk that is not there, named as it would lie in /boot.
fn absent(spec: &str) -> PathBuf {
    let path = image::strip_device(spec).trim_start_matches('/');
    if path.starts_with("boot/") {
        Path::new("/").join(path)
    } else {
        Path::new("/boot").join(path)
    }
}
