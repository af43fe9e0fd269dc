//! Which kernels are installed: an image together with its module directory.

use super::{leaving, KernelRelease};
use crate::host::Host;
use std::path::PathBuf;

/// An installed kernel: image and module directory exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// `uname -r` once it runs.
    pub release: KernelRelease,
    /// The image below the root, e.g. `/boot/vmlinuz-K`.
    pub image: PathBuf,
}

/// The directory of a kernel's modules, below the root.
pub fn modules_dir(release: &KernelRelease) -> PathBuf {
    PathBuf::from("/lib/modules").join(release)
}

/// The image of a release below the root, if there is one: in `/boot`, else inside the module directory (kernel-core), else below the boot
/// loader's own directory (`/boot/<machine-id>/K/linux`, systemd-boot). A kernel that is being removed has none.
pub fn image(host: &Host, release: &KernelRelease) -> Option<PathBuf> {
    if leaving::is(host, release) {
        return None;
    }
    let fixed = [
        PathBuf::from(format!("/boot/vmlinuz-{release}")),
        modules_dir(release).join("vmlinuz"),
        PathBuf::from(format!("/boot/vmlinux-{release}")),
    ];
    if let Some(found) = fixed.into_iter().find(|p| host.is_file(p)) {
        return Some(found);
    }
    ["/boot", "/efi", "/boot/efi"].iter().find_map(|boot| {
        let names = host.read_dir(boot).ok()?;
        names.into_iter().map(|n| PathBuf::from(boot).join(n).join(release).join("linux")).find(|p| host.is_file(p))
    })
}

/// All installed kernels, newest first. Rescue and kdump images have no module directory of their own name and do not count.
pub fn installed(host: &Host) -> Vec<Kernel> {
    let mut kernels: Vec<Kernel> = host
        .read_dir("/lib/modules")
        .unwrap_or_default()
        .iter()
        .filter_map(|name| name.to_str()?.parse::<KernelRelease>().ok())
        .filter(|release| host.is_dir(modules_dir(release)))
        .filter_map(|release| image(host, &release).map(|image| Kernel { release, image }))
        .collect();
    kernels.sort_by(|a, b| b.release.cmp(&a.release));
    kernels
}

/// The running kernel: `proc/sys/kernel/osrelease` below the root.
pub fn running(host: &Host) -> Option<KernelRelease> {
    host.read_text("/proc/sys/kernel/osrelease").ok()?.trim().parse().ok()
}
