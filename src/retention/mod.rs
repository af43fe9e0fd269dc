//! What a package manager keeps of the kernels: a warning where its next update would take the last safe one away, and the held kernel's
//! packages protected where there is a plain means ([`protect`]).

mod apt;
mod limit;
pub mod protect;
mod zypp;

use crate::finding::{Fact, Finding};
use crate::host::Host;
use crate::kernel::KernelRelease;
use crate::packages::Packages;

/// What the next kernel update would lead to.
struct Outlook {
    /// The kernels that would go, oldest first.
    doomed: Vec<KernelRelease>,
    /// What would take them away.
    by: String,
    /// The command that keeps one of them.
    keep: Box<dyn Fn(&KernelRelease) -> String>,
}

/// A warning if the next kernel update would remove every safe kernel. The new kernel counts among those kept, and is not known to be
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
