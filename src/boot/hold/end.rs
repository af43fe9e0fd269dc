//! The end of a hold that is no promotion: what is ours goes out of the loader's files, and the default stays where it is if that can be.

use super::record::{Hold, RECORD};
use crate::boot::choose;
use crate::boot::steps::moves::make;
use crate::host::lock::BootLock;
use crate::host::Host;
use crate::kernel::KernelRelease;
use anyhow::Result;

/// Ends a hold and leaves the default where it is: the held kernel is the wanted one now.
///
/// # Errors
/// Those of reading and writing the loader's files.
pub fn release(host: &Host, _lock: &BootLock) -> Result<()> {
    drop_mark(host, false)?;
    forget(host)
}

/// Takes the mark away, and leaves the default on the held kernel by the best means that does; without one it is given back. With `all`
/// what is left of ours without a mark goes as well. The kernel that boots then, where that is known.
fn drop_mark(host: &Host, all: bool) -> Result<Option<KernelRelease>> {
    let now = choose::resolve(host);
    let lasting = now.lasting().map(|c| c.kernel.clone());
    let Some(asked) = now.asked else { return Ok(lasting) };
    let mark = asked.loader.mark(host, &asked).map(|mark| mark.held);
    let Some(held) = mark.or_else(|| lasting.clone().filter(|_| all)) else { return Ok(lasting) };
    let mut plans = asked.loader.plans_unmarked(host, &asked, &held);
    if lasting.as_ref().is_some_and(|lasting| *lasting != held) {
        // Somebody moved the default since; it stays there.
        plans.drain(..plans.len().saturating_sub(1));
    }
    let mut last = Ok(None);
    for plan in plans {
        last = plan.map(|plan| {
            let then = asked.loader.preview(host, &plan).lasting().map(|c| c.kernel.clone());
            Some((plan, then))
        });
        if matches!(&last, Ok(Some((_, then))) if then.as_ref() == Some(&held)) {
            break;
        }
    }
    let Some((plan, then)) = last? else { return Ok(lasting) };
    make(host, plan)?;
    Ok(then)
}

/// Removes the record for good: one that a power cut brought back would bring back its hold.
pub(super) fn forget(host: &Host) -> Result<()> {
    host.remove_durably(RECORD).map(drop)
}

/// Takes all that is ours out of the loader's files, for the removal of vfguard, and leaves the record: should it be installed again, what
/// was wanted is known. The default stays on the held kernel where the loader obeys a saved one, and else is given back. The kernel that
/// boots then, where that is known.
///
/// # Errors
/// Those of reading and writing the loader's files and the record.
pub fn unmark(host: &Host, _lock: &BootLock, hold: &Hold) -> Result<Option<KernelRelease>> {
    if Hold::read(host).is_none_or(|record| record.told() != hold.told()) {
        hold.write(host)?;
    }
    drop_mark(host, true)
}

/// For the removal of vfguard, once no hold is on: what [`hold_with`](super::hold_with) had the loader obey is taken back, where the default
/// stays what it is. What a person should know.
pub fn unteach(host: &Host, _lock: &BootLock) -> Option<String> {
    choose::resolve(host).asked?.loader.unteach(host)
}

/// The same where no hold is on: something of ours may be left that somebody changed.
///
/// # Errors
/// Those of reading and writing the loader's files.
pub fn clean(host: &Host, _lock: &BootLock) -> Result<Option<KernelRelease>> {
    drop_mark(host, true)
}
