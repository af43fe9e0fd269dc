//! What is left to build after a run.

use crate::driver::{self, headers};
use crate::host::Host;
use crate::kernel::tree::Tree;
use crate::kernel::KernelRelease;
use crate::verdict::judge::Work;

/// A driver that a kernel needs and that a build may still provide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The kernel.
    pub kernel: KernelRelease,
    /// The recipe's name.
    pub driver: String,
    /// Whether the kernel's headers are there.
    pub headers: bool,
}

/// What is left to build after a judgement, without builds that would only fail again.
pub fn pending(host: &Host, work: &[Work]) -> Vec<Pending> {
    let mut pending = Vec::new();
    for Work { kernel, devices, builds, .. } in work {
        let tree = Tree::of(host, kernel);
        for recipe in builds.iter().filter(|r| !driver::would_fail_again(&tree, r, devices)) {
            let headers = !headers::lacks(&tree);
            pending.push(Pending { kernel: kernel.clone(), driver: recipe.name.clone(), headers });
        }
    }
    pending
}
