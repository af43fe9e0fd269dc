//! An entry of any boot loader, and the kernel that it starts.

use super::{image, BootRole, Candidate, NextBoot, Problem};
use crate::host::Host;
use crate::kernel::installed::modules_dir;
use crate::kernel::{leaving, KernelRelease};
use std::path::{Path, PathBuf};

/// An entry of any boot loader, as it is written.
pub(super) struct BootEntry<'a> {
    pub role: BootRole,
    pub entry: String,
    pub why: String,
    /// The kernel's file.
    pub spec: String,
    pub cmdline: String,
    pub initrds: &'a [String],
    /// Why it cannot start, if that is known.
    pub failed: Option<String>,
    /// Set if it asks for a password: how to remove that.
    pub locked: Option<&'static str>,
    /// Whether the entry's file system belongs to this machine. Then a missing file is really missing; another system's file system cannot
    /// be examined.
    pub ours: &'a dyn Fn() -> bool,
}

const STALE: &str = "remove the stale entry, install that kernel again, or make another entry the default";

/// Adds the kernel of an entry, with everything that is doubtful about it.
pub(super) fn candidate(host: &Host, answer: &mut NextBoot, entry: BootEntry) {
    let image = image::look(host, &entry.spec);
    let gone = image.path.is_none().then(|| format!("{} is not there", image::strip_device(&entry.spec)));
    let stops = image.release.as_ref().and_then(|kernel| leaves(host, kernel).or_else(|| stops(&entry, gone.as_deref())));
    match (&stops, entry.failed.or(gone)) {
        // The loader stops at the default, so it never reaches a fallback behind it.
        (Some(Problem { message, remedy }), _) => {
            answer.note(message, remedy);
            if entry.role == BootRole::Fallback {
                return;
            }
        }
        (None, Some(why)) => answer.doubt(
            format!(
                "the entry {:?} cannot be started: {why}; the boot loader would fall back or wait for a person",
                entry.entry
            ),
            STALE,
        ),
        (None, None) => {}
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
        unified: entry.spec.to_ascii_lowercase().ends_with(".efi"),
        absent: image.path.is_none(),
        stops,
    });
}

/// Why a kernel that is being removed cannot start.
pub(super) fn leaves(host: &Host, kernel: &KernelRelease) -> Option<Problem> {
    let message = format!("{kernel} is being removed");
    leaving::is(host, kernel).then(|| Problem { message, remedy: "wait until the package manager is done".into() })
}

/// Why the boot loader is certain to stop at an entry.
fn stops(entry: &BootEntry, gone: Option<&str>) -> Option<Problem> {
    let what = |why: &str| format!("the boot loader stops at the entry {:?}: {why}", entry.entry);
    if let Some(remedy) = entry.locked {
        let message = what("it, or a submenu that it is in, asks for a user name and a password before it starts");
        return Some(Problem { message, remedy: remedy.into() });
    }
    let gone = gone.filter(|_| entry.failed.is_none() && (entry.ours)())?;
    Some(Problem { message: what(gone), remedy: STALE.into() })
}

/// The path of a missing ramdisk, as if it were in /boot.
fn absent(spec: &str) -> PathBuf {
    let path = image::strip_device(spec).trim_start_matches('/');
    if path.starts_with("boot/") {
        Path::new("/").join(path)
    } else {
        Path::new("/boot").join(path)
    }
}
