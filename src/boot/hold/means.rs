//! Chooses the means of moving the default that the loader would obey.

use crate::boot::loader::Loader;
use crate::boot::meanwhile::SetMeanwhile;
use crate::boot::steps::moves::can_be_made;
use crate::boot::steps::plan::{Move, Purpose};
use crate::boot::Candidate;
use crate::error::{advise, Remedy};
use crate::host::Host;
use crate::kernel::KernelRelease;
use anyhow::Result;

/// The first means of moving the default that would take effect, judged by what the loader would do with it in memory.
pub(super) fn obeyed(
    host: &Host,
    loader: &Loader,
    to: &KernelRelease,
    entry: Option<&str>,
    purpose: Purpose,
) -> Result<Move> {
    let (mut hindered, mut ignored) = (None, None);
    for plan in loader.plans(host, to, entry, purpose) {
        match plan {
            Ok(plan) => match loader.preview(host, &plan).lasting() {
                Some(next) if next.kernel == *to => {
                    can_be_made(&plan)?;
                    return Ok(plan);
                }
                next => ignored = ignored.or_else(|| Some(disobeyed(host, loader, to, next))),
            },
            Err(e) => hindered = hindered.or(Some(e)),
        }
    }
    // A means that could not be tried may be the one that the loader obeys, so its error comes first.
    Err(hindered.or(ignored).unwrap_or_else(|| disobeyed(host, loader, to, None)))
}

pub(super) fn disobeyed(host: &Host, loader: &Loader, to: &KernelRelease, next: Option<&Candidate>) -> anyhow::Error {
    let next = next.map_or("nothing that is known".to_owned(), |c| c.kernel.to_string());
    advise(format!("with the boot default set to {to}, the boot loader would still start {next}"), loader.remedy(host))
}

/// Works out a move of the default, and checks on the very bytes that it changes that the default still is `from`.
pub(super) fn plan_from(
    host: &Host,
    loader: &Loader,
    from: Option<&KernelRelease>,
    to: &KernelRelease,
    entry: Option<&str>,
    purpose: Purpose,
) -> Result<Move> {
    let plan = obeyed(host, loader, to, entry, purpose)?;
    if loader.preview(host, &plan.start()).lasting().map(|c| &c.kernel) != from {
        return Err(SetMeanwhile).remedy("moving the boot default", "vfguard reconcile, once the package manager is done");
    }
    Ok(plan)
}
