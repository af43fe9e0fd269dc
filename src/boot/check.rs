//! A second opinion: what `grubby` takes for the default. It ignores `next_entry` and may sort unlike GRUB, so that it can
//! only raise a doubt.

use super::{image, NextBoot, Source};
use crate::host::command::{run, Spec};
use crate::host::Host;
use std::path::Path;
use std::time::Duration;

/// Where grubby is.
const GRUBBY: [&str; 2] = ["/usr/sbin/grubby", "/sbin/grubby"];
/// It reads a few files.
const LIMIT: Duration = Duration::from_secs(30);

/// Asks `grubby --default-kernel`, where it is installed and this is the live machine; a disagreement makes the answer
/// uncertain. Apart from [`super::next_boot`], since it starts a process.
pub fn cross_check(host: &Host, answer: &mut NextBoot) {
    let grub = matches!(answer.source, Source::GrubLegacy | Source::Grub2 | Source::Bls);
    let Some(grubby) = GRUBBY.iter().find(|p| host.is_file(p)).filter(|_| host.is_live() && grub) else { return };
    let Some(ours) = answer.lasting().map(|c| c.kernel.clone()) else { return };
    let outcome = match run(&Spec::new(grubby, ["--default-kernel"], LIMIT)) {
        Ok(outcome) if outcome.success() => outcome,
        Ok(outcome) => {
            let last = outcome.tail.lines().last().unwrap_or("it printed nothing").to_owned();
            answer.note(format!("grubby --default-kernel: {last} ({})", outcome.status), "grubby --default-kernel");
            return;
        }
        Err(e) => return answer.note(format!("grubby --default-kernel: {e:#}"), "grubby --default-kernel"),
    };
    let theirs = outcome.tail.lines().rev().find_map(|l| image::release_of_name(Path::new(l.trim())));
    if let Some(theirs) = theirs.filter(|t| *t != ours) {
        answer.doubt(
            format!("grubby takes {theirs} for the default, and by the boot loader's own rules it is {ours}"),
            format!("grubby --set-default /boot/vmlinuz-{ours}"),
        );
    }
}
