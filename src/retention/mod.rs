//! Which kernels a package manager keeps: a warning if its next update would remove the last safe one, and protection of the held kernel's
//! packages where there is a simple means ([`protect`]).

mod apt;
mod limit;
pub mod protect;
mod zypp;

use crate::finding::{Fact, Finding};
use crate::host::Host;
use crate::kernel::KernelRelease;
use crate::packages::Packages;

/// The result of the next kernel update.
struct Outlook {
    /// The kernels that it would remove, oldest first.
    doomed: Vec<KernelRelease>,
    /// The setting or program that would remove them.
    by: String,
    /// The command that keeps one of them.
    keep: Box<dyn Fn(&KernelRelease) -> String>,
}

/// A warning if the next kernel update would remove every safe kernel. The new kernel counts as one of those kept, but is not known to be
/// safe.
pub fn last_safe_kernel(
    host: &Host,
    installed: &[KernelRelease],
    running: Option<&KernelRelease>,
    safe: &[KernelRelease],
) -> Option<Finding> {
    let mut oldest = installed.to_vec();
    oldest.sort();
    let outlook = match Packages::of(host) {
        Some(Packages::Apt) => apt::outlook(host, &oldest, running),
        Some(Packages::Dnf | Packages::Yum) => limit::outlook(host, &oldest, running),
        None => zypp::outlook(host, &oldest, running).or_else(|| limit::outlook(host, &oldest, running)),
    }?;
    warning(&outlook, installed, safe)
}

fn warning(outlook: &Outlook, installed: &[KernelRelease], safe: &[KernelRelease]) -> Option<Finding> {
    let is_safe = |k: &KernelRelease| safe.contains(k);
    let stays = installed.iter().any(|k| is_safe(k) && !outlook.doomed.contains(k));
    let last = outlook.doomed.iter().rev().find(|k| is_safe(k))?;
    (!stays).then(|| {
        let detail = format!("the next kernel update would remove {last}, the last safe kernel ({})", outlook.by);
        Finding::new(Fact::LastSafeKernel, detail, (outlook.keep)(last))
    })
}
