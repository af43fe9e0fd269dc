//! Whether there is room for one more kernel on the file system of the boot files. A package manager that runs out of space may exit with
//! success and leave half a kernel, so this is reported in advance.

use super::entry::image;
use crate::boot;
use crate::driver::free;
use crate::finding::{Fact, Finding};
use crate::host::Host;
use crate::kernel::{installed, Kernel, KernelRelease};
use crate::packages::Packages;
use std::path::{Path, PathBuf};

/// How the names of initial ramdisks begin.
const RAMDISKS: [&str; 2] = ["initr", "booster"];
/// How much larger the next kernel may be than the measured one, in percent.
const MARGIN: u64 = 10;

/// How much space the next kernel needs, and how much is free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Where the boot files are.
    pub dir: PathBuf,
    /// Bytes that are free there.
    pub free: u64,
    /// Bytes that the next kernel takes: as many as the newest installed one, with the ramdisk of the running one.
    pub wanted: u64,
    /// The kernel that was measured.
    pub measured: KernelRelease,
    /// The oldest kernel that neither runs nor may boot next, so that it can be removed.
    spare: Option<KernelRelease>,
    packages: Option<Packages>,
}

/// Measures; `None` where no kernel has a boot file, or the free space cannot be read.
pub fn look(host: &Host) -> Option<Room> {
    let (kernels, running) = (installed::installed(host), installed::running(host));
    let (measured, image) = kernels.iter().find_map(|k| Some((&k.release, image(host, &k.release)?)))?;
    let dir = image.parent()?.to_owned();
    let of = |kernel: &KernelRelease| sizes(host, &super::entry::image(host, kernel)?, kernel);
    let (files, own) = of(measured)?;
    let ramdisk = running.as_ref().and_then(of).map_or(0, |(_, ramdisk)| ramdisk);
    let wanted = files + if ramdisk > 0 { ramdisk } else { own };
    let (free, _) = free(&host.path(&dir))?;
    let spare = spare(host, &kernels, running.as_ref());
    let wanted = wanted + wanted * MARGIN / 100;
    Some(Room { dir, free, wanted, measured: measured.clone(), spare, packages: Packages::of(host) })
}

impl Room {
    /// The finding, if there is too little room.
    pub fn finding(&self) -> Option<Finding> {
        let mb = |bytes: u64| bytes.div_ceil(1 << 20);
        let (dir, measured) = (self.dir.display(), &self.measured);
        (self.free < self.wanted).then(|| {
            let detail = format!(
                "{dir} has {} MB of free disk, and one more kernel takes about {} (measured by {measured})",
                self.free >> 20,
                mb(self.wanted)
            );
            Finding::new(Fact::BootSpace, detail, self.remedy())
        })
    }

    fn remedy(&self) -> String {
        match (&self.spare, self.packages) {
            (Some(kernel), Some(Packages::Apt)) => format!("apt-get purge linux-image-{kernel}"),
            (Some(kernel), Some(Packages::Dnf)) => format!("dnf remove kernel-core-{kernel}"),
            (Some(kernel), Some(Packages::Yum)) => format!("yum remove kernel-{kernel}"),
            (Some(kernel), None) => format!("remove {kernel} with the package manager"),
            (None, _) => format!("make the file system of {} larger (df -h {0})", self.dir.display()),
        }
    }
}

fn spare(host: &Host, kernels: &[Kernel], running: Option<&KernelRelease>) -> Option<KernelRelease> {
    let next = boot::next_boot(host, &crate::config::Boot::default());
    let wanted = boot::held_off(host, &next).and_then(|held| held.wanted);
    let may_boot = |k: &KernelRelease| next.kernels.iter().map(|c| &c.kernel).chain(&wanted).chain(running).any(|b| b == k);
    let certain = next.certain && running.is_some();
    kernels.iter().rev().map(|k| &k.release).find(|k| certain && !may_boot(k)).cloned()
}

/// The bytes of a kernel's boot files: first everything but the ramdisks, then the ramdisks.
fn sizes(host: &Host, image: &Path, kernel: &KernelRelease) -> Option<(u64, u64)> {
    let dir = image.parent()?;
    // kernel-install gives each kernel a directory of its own.
    let own = dir.file_name().is_some_and(|name| name == kernel.as_str());
    let (mut files, mut ramdisks) = (0, 0);
    for name in host.read_dir(dir).unwrap_or_default() {
        let name = name.to_string_lossy();
        let length = host.metadata(dir.join(&*name)).ok().filter(|m| m.is_file()).map_or(0, |m| m.len());
        if !own && !is_of(&name, kernel) {
            continue;
        }
        if RAMDISKS.iter().any(|r| name.starts_with(r)) {
            ramdisks += length;
        } else {
            files += length;
        }
    }
    Some((files, ramdisks))
}

/// Whether a file of /boot belongs to this kernel, and not to one whose name has this name as its beginning.
fn is_of(name: &str, kernel: &KernelRelease) -> bool {
    let rest = name.split_once(kernel.as_str()).map(|(_, rest)| rest);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || rest.starts_with("kdump"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Code;

    #[test]
    fn the_next_kernel_is_measured_by_the_newest_and_by_the_ramdisk_of_the_running_one() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        assert_eq!(look(&host), None, "nothing to measure by");
        let (old, new) = ("6.1.0-5-amd64", "6.1.0-57-amd64");
        for kernel in [old, new, "6.1.0-57-amd64-dbg"] {
            host.write_atomic(format!("/lib/modules/{kernel}/modules.dep"), b"", 0o644).unwrap();
        }
        host.write_atomic("/proc/sys/kernel/osrelease", old.as_bytes(), 0o644).unwrap();
        for (file, size) in [
            ("vmlinuz-6.1.0-57-amd64", 1000),
            ("System.map-6.1.0-57-amd64", 200),
            ("config-6.1.0-57-amd64", 30),
            (".vmlinuz-6.1.0-57-amd64.hmac", 4),
            ("initrd.img-6.1.0-57-amd64", 7),
            ("initrd.img-6.1.0-57-amd64-dbg", 70_000),
            ("vmlinuz-6.1.0-5-amd64", 900),
            ("initrd.img-6.1.0-5-amd64", 5000),
        ] {
            host.write_atomic(format!("/boot/{file}"), &vec![0; size], 0o644).unwrap();
        }
        let room = look(&host).unwrap();
        assert_eq!((room.measured.as_str(), room.wanted), (new, 6234 + 623));
        assert_eq!(Room { free: 6856, ..room.clone() }.finding().unwrap().code, Code::BootSpace);
        assert_eq!(Room { free: 6857, ..room.clone() }.finding(), None);
        std::fs::remove_file(host.path("/boot/initrd.img-6.1.0-5-amd64")).unwrap();
        assert_eq!(look(&host).unwrap().wanted, 1241 + 124, "its own where the other is not there");
    }

    #[test]
    fn the_remedy_is_to_remove_the_oldest_kernel_that_is_not_needed() {
        let k = |name: &str| name.parse::<KernelRelease>().unwrap();
        let room = |packages, spare| Room {
            dir: "/boot".into(),
            free: 0,
            wanted: 80 << 20,
            measured: k("5.14.0-503.el9.x86_64"),
            spare,
            packages,
        };
        for (packages, spare, expected) in [
            (Some(Packages::Dnf), Some("5.14.0-70.el9.x86_64"), "dnf remove kernel-core-5.14.0-70.el9.x86_64"),
            (Some(Packages::Apt), Some("6.1.0-5-amd64"), "apt-get purge linux-image-6.1.0-5-amd64"),
            (Some(Packages::Yum), Some("3.10.0-1.el7.x86_64"), "yum remove kernel-3.10.0-1.el7.x86_64"),
            (None, Some("6.1"), "remove 6.1 with"),
            (Some(Packages::Dnf), None, "df -h /boot"),
        ] {
            let finding = room(packages, spare.map(k)).finding().unwrap();
            assert!(finding.remedy.contains(expected), "{finding:?}");
            assert!(finding.detail.contains("takes about 80 "), "{finding:?}");
        }
    }
}
