//! Ends a hold without a promotion: our lines are removed from the loader's files, and the default stays where it is if possible.

use super::record::{Hold, RECORD};
use crate::boot::choose;
use crate::boot::steps::moves::make;
use crate::host::lock::BootLock;
use crate::host::Host;
use crate::kernel::KernelRelease;
use anyhow::Result;

/// Ends a hold and leaves the default where it is: the held kernel is now the wanted one.
///
/// # Errors
/// If the loader's files cannot be read or written.
pub fn release(host: &Host, _lock: &BootLock) -> Result<()> {
    drop_mark(host, false)?;
    forget(host)
}

/// Removes the mark and leaves the default on the held kernel by the best means that works; if none works, the previous default is
/// restored. With `all`, our leftovers without a mark are removed too. Returns the kernel that then boots, if known.
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

/// Removes the record durably: if a power cut restored the record, the hold would come back with it.
pub(super) fn forget(host: &Host) -> Result<()> {
    host.remove_durably(RECORD).map(drop)
}

/// Removes everything of ours from the loader's files when vfguard is uninstalled, and keeps the record, so that the wanted kernel is known
/// if vfguard is installed again. The default stays on the held kernel if the loader obeys a saved default, else the previous default is
/// restored. Returns the kernel that then boots, if known.
///
/// # Errors
/// If the loader's files cannot be read or written, or the record cannot be written.
pub fn unmark(host: &Host, _lock: &BootLock, hold: &Hold) -> Result<Option<KernelRelease>> {
    if Hold::read(host).is_none_or(|record| record.told() != hold.told()) {
        hold.write(host)?;
    }
    drop_mark(host, true)
}

/// When vfguard is uninstalled and no hold is on: undoes the change by which [`hold_with`](super::hold_with) made the loader obey a saved
/// default, if the default stays the same without it. Returns a message for the user.
pub fn unteach(host: &Host, _lock: &BootLock) -> Option<String> {
    choose::resolve(host).asked?.loader.unteach(host)
}

/// Like [`unmark`] where no hold is on: leftovers of ours may remain that somebody edited.
///
/// # Errors
/// If the loader's files cannot be read or written.
pub fn clean(host: &Host, _lock: &BootLock) -> Result<Option<KernelRelease>> {
    drop_mark(host, true)
}
