//! Undoes what an earlier mode did. Where nothing is refused or held any more (`mode = "observe"`, `vfguard=off`, an init system that
//! cannot be gated now), the gate is opened and an earlier hold ends: the default goes to the wanted kernel if that is safe. Otherwise the
//! default stays, since vfguard never promotes a kernel that is not proven, and each report says so.

use crate::boot::{self, Hold};
use crate::config::{Config, Mode};
use crate::finding::Verdict;
use crate::flow::look::Look;
use crate::flow::refuse;
use crate::host::lock::BootLock;
use crate::host::place::Place;
use crate::host::Host;

/// How to end an earlier hold where holds are not kept any more. `None` where they are kept, and where the hold keeps a declined kernel
/// off, since a person asked for that.
pub fn left_over(config: &Config, place: Place, hold: &Hold) -> Option<String> {
    let left = (config.mode == Mode::Observe || !place.may_hold()) && hold.declined.is_none();
    left.then(|| stays(hold))
}

fn stays(hold: &Hold) -> String {
    let (held, wanted) = (&hold.held, &hold.wanted);
    format!(
        "the boot default stays held on {held} from before: {wanted} is not proven (to keep {held}: vfguard decline {wanted}; to boot \
         {wanted}: vfguard gate open --kernel {wanted} --reason TEXT)"
    )
}

/// Ends an earlier hold, or reports that it stays. Returns whether the default was moved, and a line for people; `None` where no hold is
/// on, or only one for a declined kernel.
pub(super) fn leave(host: &Host, lock: &BootLock, look: &Look) -> Option<(bool, String)> {
    if let Err(e) = boot::forget_stale(host, lock, &look.survey.next) {
        return Some((false, format!("the mark of a hold that has ended stays: {e:#}")));
    }
    let hold = boot::held(host).filter(|hold| hold.declined.is_none())?;
    let safe = look.judgement.kernels.iter().any(|k| k.kernel == hold.wanted && k.verdict == Verdict::Safe);
    if !safe {
        return Some((false, stays(&hold)));
    }
    Some(match boot::promote(host, lock, Some(&hold.wanted)) {
        Ok(change) => (change.changed, refuse::told(host, change)),
        Err(e) => (false, format!("{e:#}; {}", stays(&hold))),
    })
}
