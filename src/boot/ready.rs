//! A hold prepared in advance, which vfguard-fail-closed.service writes if vfguard itself does not run.
//!
//! Each run that decides prepares it, so that such a hold needs no judgement and no disk space. The first line is `WAY KERNEL SEAL WHERE`,
//! the rest is the content to write; the way `none` says that nothing would have an effect. The shell script that reads it,
//! packaging/systemd/fail-closed, writes only the hold's own lines of the content and leaves the other lines as they are at that time: on
//! EL8 they hold the kernels' command line.
//!
//! The seal is a digest of the inputs and of the content. A run that finds the prepared hold up to date leaves it: most runs find nothing
//! new.

use super::loader::Asked;
use super::steps::plan::{Move, Purpose, Step, Way};
use super::NextBoot;
use crate::config::Mode;
use crate::host::Host;
use crate::kernel::KernelRelease;
use anyhow::Result;

/// A directory that only root may enter.
const DIR: &str = "/var/lib/vfguard/ready";
/// Its path, below the root. It is written while there is disk space, and read when there may be none.
pub const FILE: &str = "/var/lib/vfguard/ready/hold";

/// Prepares a hold on `to`, given what boots `now` and, if a hold is on, the kernel `held_off`. Without a kernel that is known to be good,
/// or without a known boot loader, it removes the prepared hold. An up-to-date one is not worked out again.
///
/// # Errors
/// If it cannot be written.
pub fn leave(host: &Host, now: &NextBoot, held_off: Option<&KernelRelease>, to: Option<&KernelRelease>) -> Result<()> {
    let Some((to, asked)) = to.zip(now.asked.as_ref()) else {
        return host.remove(FILE).map(drop);
    };
    let wanted = held_off.or(now.lasting().map(|c| &c.kernel));
    let inputs = inputs(host, asked, wanted, to);
    if host.read(FILE).is_ok_and(|left| is_sealed(&left, &inputs)) {
        return Ok(());
    }
    // If nothing is held off yet, the shell script marks the kernel that it holds off.
    let purpose = Purpose::Unattended(wanted.filter(|w| *w != to));
    let plans = asked.loader.plans(host, to, None, purpose).into_iter().flatten();
    // The shell script writes one file.
    let mut steps = plans.filter_map(|plan| plan.steps.into_iter().next());
    let takes = |step: &Step| {
        let now = asked.loader.preview(host, &Move::one(step.clone()));
        now.lasting().is_some_and(|next| next.kernel == *to)
    };
    // If the loader has a default of its own, or no entry starts the kernel, nothing that the script could write would hold it.
    let content = match steps.find(takes) {
        Some(Step { at, way, after, .. }) => {
            let way = match way {
                Way::InPlace => "in-place",
                Way::Replace => "replace",
                Way::Bootctl(_) => "bootctl",
            };
            let (at, after) = (at.as_os_str().as_encoded_bytes(), after.unwrap_or_default());
            sealed(&inputs, way.as_bytes(), to.as_str().as_bytes(), at, &after)
        }
        None => sealed(&inputs, b"none", to.as_str().as_bytes(), b"-", b""),
    };
    host.make_dirs(DIR, 0o700)?;
    host.write_atomic(FILE, &content, 0o600)
}

/// All inputs of a hold as they are now. GRUB writes its environment past the file system, so that file's times do not change.
pub(super) fn inputs(host: &Host, asked: &Asked, wanted: Option<&KernelRelease>, to: &KernelRelease) -> Vec<u8> {
    let mut inputs = format!("{} {:?} {wanted:?} {to}\n", env!("CARGO_PKG_VERSION"), asked.loader).into_bytes();
    for file in &asked.places.files {
        inputs.extend(host.identity(file).unwrap_or_default().into_bytes());
        inputs.push(b'\n');
    }
    inputs.extend(asked.loader.untimed(host, asked));
    inputs
}

fn sealed(inputs: &[u8], way: &[u8], kernel: &[u8], place: &[u8], content: &[u8]) -> Vec<u8> {
    let all = [inputs, way, kernel, place, content].join(&b'\n');
    let digest = ring::digest::digest(&ring::digest::SHA256, &all);
    let seal: String = digest.as_ref().iter().take(16).map(|b| format!("{b:02x}")).collect();
    [[way, kernel, seal.as_bytes(), place].join(&b' ').as_slice(), content].join(&b'\n')
}

fn is_sealed(left: &[u8], inputs: &[u8]) -> bool {
    let mut parts = left.splitn(2, |byte| *byte == b'\n');
    let (Some(line), Some(content)) = (parts.next(), parts.next()) else { return false };
    let words: Vec<&[u8]> = line.splitn(4, |byte| *byte == b' ').collect();
    matches!(words[..], [way, kernel, _, place] if sealed(inputs, way, kernel, place, content) == left)
}

/// The configured mode, for the same shell script, which does not read the settings.
const MODE: &str = "/var/lib/vfguard/ready/mode";

/// Records the mode.
///
/// # Errors
/// If it cannot be written.
pub fn leave_mode(host: &Host, mode: Mode) -> Result<()> {
    let word = match mode {
        Mode::Enforce => "enforce\n",
        Mode::Observe => "observe\n",
    };
    if host.read_text(MODE).is_ok_and(|left| left == word) {
        return Ok(());
    }
    host.make_dirs(DIR, 0o700)?;
    host.write_atomic(MODE, word.as_bytes(), 0o600)
}
