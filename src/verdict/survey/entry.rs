//! What a boot entry loads: an image that is complete and of a format that the installed GRUB can load, and a ramdisk where the kernel
//! needs one to find its root. Whether a ramdisk that the entry names exists and is complete is checked by
//! [`crate::module::initramfs_findings`].

use super::Survey;
use crate::boot::{self, Candidate, Source};
use crate::finding::{Fact, Finding};
use crate::host::{files, locks, Host};
use crate::kernel::{leaving, whole, KernelRelease};
use memchr::memmem;
use std::io;
use std::path::{Path, PathBuf};

/// Where the EFI programs of boot loaders are, and the names of GRUB's.
const PARTITIONS: [&str; 3] = ["/boot/efi/EFI", "/efi/EFI", "/boot/EFI"];
const PROGRAMS: [&str; 5] = ["grubaa64.efi", "grubx64.efi", "grubriscv64.efi", "grubloongarch64.efi", "grubarm.efi"];
/// Limit for the size of an EFI program; GRUB's has 4 MB.
const MAX_PROGRAM: u64 = 32 << 20;
/// GNU GRUB's line in the program's revocation table (shim's SBAT.md): name, generation, vendor, package, version.
const SBAT: &[u8] = b"\ngrub,";
/// The first release of GRUB that loads zboot images (its loader/efi/linux no longer asks for arm64's own magic number), and the version
/// below which no distribution is known to have added that.
const LOADS_ZBOOT: [u32; 2] = [2, 12];
const NEVER_LOADS_ZBOOT: [u32; 2] = [2, 6];
/// Ways to name a root that need a ramdisk; the kernel itself knows devices, PARTUUID and PARTLABEL (`block/early-lookup.c`).
const BY_RAMDISK: [&str; 7] = ["UUID=", "LABEL=", "/dev/mapper/", "/dev/disk/", "ZFS=", "zfs:", "live:"];

impl Survey<'_> {
    /// Findings about the image and the ramdisk that the boot entry of a kernel loads.
    pub(super) fn entry_findings(&self, kernel: &KernelRelease) -> Vec<Finding> {
        let Some(entry) = self.entry(kernel) else { return Vec::new() };
        let image = image(self.host, kernel).map(|image| self.image_findings(kernel, &image)).unwrap_or_default();
        self.stops(kernel, entry).into_iter().chain(image).chain(self.without_ramdisk(kernel, entry)).collect()
    }

    /// The finding for a kernel of which only a boot entry is left, so that there is nothing to build or to prove.
    pub(super) fn gone(&self, kernel: &KernelRelease) -> Option<Finding> {
        let entry = self.entry(kernel).filter(|entry| entry.absent || leaving::is(self.host, kernel))?;
        if entry.stops.is_none() {
            // The boot loader may name the image in a way that cannot be followed here.
            if image(self.host, kernel).is_some() {
                return None;
            }
            let detail = format!("the image of {kernel}, which the entry {:?} loads, is not there", entry.entry);
            return Some(Finding::new(
                Fact::EntryStops,
                detail,
                format!("mount /boot; install the package of {kernel} again"),
            ));
        }
        self.stops(kernel, entry)
    }

    fn stops(&self, kernel: &KernelRelease, entry: &Candidate) -> Option<Finding> {
        let stops = entry.stops.clone()?;
        if leaving::is(self.host, kernel) {
            return Some(Finding::new(Fact::KernelLeaving, stops.message, stops.remedy));
        }
        match locks::held(self.host).filter(|_| image(self.host, kernel).is_none()) {
            Some(lock) => {
                let detail = format!("{}: a package manager is at work ({lock} is locked)", stops.message);
                Some(Finding::new(Fact::PackageManagerAtWork, detail, "wait until it is done, then: vfguard reconcile"))
            }
            None => Some(Finding::new(Fact::EntryStops, stops.message, stops.remedy)),
        }
    }

    fn image_findings(&self, kernel: &KernelRelease, image: &Path) -> Vec<Finding> {
        let shown = image.display();
        let seen = match whole::look(self.host, image) {
            Ok(seen) => seen,
            // A user who is not root may not be allowed to read it (Ubuntu), and decides nothing. Root decides, so root must be able to.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied && !nix::unistd::geteuid().is_root() => {
                let detail = format!("{shown} was not looked at: {e}");
                return vec![Finding::new(Fact::ImageNotSeen, detail, "run this as root")];
            }
            Err(e) => {
                let remedy = format!("install the package of {kernel} again; read it as root");
                return vec![Finding::new(Fact::ImageUnreadable, format!("{shown} cannot be read: {e}"), remedy)];
            }
        };
        let cut = seen.cut.map(|why| {
            if let Some(lock) = locks::held(self.host) {
                let detail = format!("{shown} {why}: a package manager is at work ({lock} is locked)");
                return Finding::new(Fact::PackageManagerAtWork, detail, "wait until it is done, then: vfguard reconcile");
            }
            let remedy =
                format!("make room (df -h {}), then install the package of {kernel} again", parent(image).display());
            Finding::new(Fact::ImageDamaged, format!("{shown} is not whole: it {why}"), remedy)
        });
        let grub = matches!(self.next.source, Source::Grub2 | Source::Bls);
        let format =
            (seen.zboot && grub && !self.runs_from_zboot()).then(|| zboot(kernel, image, installed_grub(self.host)));
        cut.into_iter().chain(format.flatten()).collect()
    }

    /// Whether the running kernel has a zboot image, so that the boot loader can load them.
    fn runs_from_zboot(&self) -> bool {
        let running = self.running.as_ref().and_then(|running| image(self.host, running));
        running.and_then(|image| whole::look(self.host, &image).ok()).is_some_and(|seen| seen.zboot)
    }

    /// The finding for an entry without a ramdisk. It is compared with the entries of other kernels: with all of them if the root is named
    /// in a way that needs a ramdisk, else with the running kernel's, or with all if that has no entry. `root=` alone does not tell,
    /// because grub-mkconfig writes a device or a PARTUUID just where it found no ramdisk. In the second case entries for repairs count
    /// only where there are no others: Ubuntu's have a ramdisk where the usual ones have none.
    fn without_ramdisk(&self, kernel: &KernelRelease, entry: &Candidate) -> Option<Finding> {
        if entry.has_ramdisk() {
            return None;
        }
        let root = entry.cmdline.split(' ').find_map(|word| word.strip_prefix("root=")).unwrap_or_default();
        let lost = BY_RAMDISK.iter().any(|by| root.starts_with(by));
        let menu = self.menu.get_or_init(|| boot::menu(self.host, &self.next));
        let others: Vec<&Candidate> = menu.iter().filter(|other| other.kernel != *kernel).collect();
        let is_running = |c: &&&Candidate| Some(&c.kernel) == self.running.as_ref();
        let of_running: Vec<&Candidate> = others.iter().filter(is_running).copied().collect();
        let compared = if lost || of_running.is_empty() { others } else { of_running };
        let has_usual = compared.iter().any(|c| !c.is_for_repairs());
        let sibling = compared.into_iter().find(|c| c.has_ramdisk() && (lost || !has_usual || !c.is_for_repairs()))?;
        let detail = format!("the boot entry of {kernel} has no initrd, and that of {} has one", sibling.kernel);
        if let Some(lock) = locks::held(self.host) {
            let detail = format!("{detail}: a package manager is at work ({lock} is locked)");
            return Some(Finding::new(Fact::PackageManagerAtWork, detail, "wait until it is done, then: vfguard reconcile"));
        }
        let remedy = format!(
            "make it and its entry again: dracut -f --kver {kernel} and grub2-mkconfig, or kernel-install add (EL, Fedora); \
             update-initramfs -c -k {kernel} and update-grub (Debian)"
        );
        // The running kernel may have booted without one.
        let may_run_so = !lost && self.running.as_ref() == Some(kernel);
        let fact = if may_run_so { Fact::RunningWithoutInitramfs } else { Fact::EntryWithoutInitramfs };
        Some(Finding::new(fact, detail, remedy))
    }
}

/// The image of a kernel that a boot loader would load; the copy in the module directory does not count.
pub(super) fn image(host: &Host, kernel: &KernelRelease) -> Option<PathBuf> {
    let usual = ["vmlinuz", "vmlinux"].map(|name| PathBuf::from(format!("/boot/{name}-{kernel}")));
    let of_entries = || {
        ["/boot", "/efi", "/boot/efi"].into_iter().find_map(|top| {
            let names = host.read_dir(top).unwrap_or_default();
            names.into_iter().map(|name| Path::new(top).join(name).join(kernel).join("linux")).find(|p| host.is_file(p))
        })
    };
    usual.into_iter().find(|p| host.is_file(p)).or_else(of_entries)
}

/// Whether the image that a boot loader would load is complete, as far as is known.
pub(super) fn is_whole(host: &Host, kernel: &KernelRelease) -> bool {
    image(host, kernel).is_none_or(|image| whole::look(host, &image).is_ok_and(|seen| seen.cut.is_none()))
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/boot"))
}

/// The finding for a zboot image under the installed GRUB.
fn zboot(kernel: &KernelRelease, image: &Path, grub: Option<(String, PathBuf)>) -> Option<Finding> {
    let what = format!("{} is an EFI zboot image, which GRUB loads since 2.12", image.display());
    let remedy = format!(
        "update GRUB on the EFI partition (dnf update 'grub2-efi*', apt-get install --only-upgrade 'grub-efi*'), or: vfguard decline {kernel}"
    );
    let Some((version, place)) = grub else {
        let detail = format!("{what}; which one is installed is not known");
        return Some(Finding::new(Fact::ImageFormatUnproven, detail, remedy));
    };
    let numbers: Vec<u32> = version.split(|c: char| !c.is_ascii_digit()).take(2).filter_map(|n| n.parse().ok()).collect();
    let place = place.display();
    if numbers.as_slice() >= &LOADS_ZBOOT[..] {
        None
    } else if numbers.as_slice() < &NEVER_LOADS_ZBOOT[..] && numbers.len() == 2 {
        Some(Finding::new(Fact::ImageFormat, format!("{what}; {version} is installed ({place})"), remedy))
    } else {
        let detail =
            format!("{what}; {version} is installed ({place}), and whether its distribution taught it is not known");
        Some(Finding::new(Fact::ImageFormatUnproven, detail, remedy))
    }
}

/// The version of the GRUB that is installed for EFI, and the program that it was read from.
fn installed_grub(host: &Host) -> Option<(String, PathBuf)> {
    let vendors = PARTITIONS
        .iter()
        .flat_map(|top| host.read_dir(top).unwrap_or_default().into_iter().map(move |vendor| Path::new(top).join(vendor)));
    vendors.flat_map(|dir| PROGRAMS.map(|name| dir.join(name))).find_map(|program| {
        let bytes = files::read_bounded(&host.path(&program), MAX_PROGRAM).ok()?;
        version(&bytes).map(|version| (version, program))
    })
}

fn version(program: &[u8]) -> Option<String> {
    let at = memmem::find(program, SBAT)? + 1;
    let line = program[at..].split(|b| *b == b'\n').next()?;
    let version = std::str::from_utf8(line).ok()?.split(',').nth(4)?.trim();
    version.starts_with(|c: char| c.is_ascii_digit()).then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::{Code, Severity};

    #[test]
    fn the_version_of_grub_decides_whether_it_loads_a_zboot_image() {
        let kernel: KernelRelease = "6.2.9-300.fc38.aarch64".parse().unwrap();
        let told = |version: Option<&str>| {
            let grub = version.map(|v| (v.to_owned(), PathBuf::from("/boot/efi/EFI/fedora/grubaa64.efi")));
            zboot(&kernel, Path::new("/boot/vmlinuz-6.2.9-300.fc38.aarch64"), grub).map(|f| (f.code, f.severity()))
        };
        for (version, severity) in [
            (Some("2.12"), None),
            (Some("2.14"), None),
            (Some("2.12~rc1"), None),
            (Some("2.06"), Some(Severity::Warning)),
            (Some("2.04"), Some(Severity::Unsafe)),
            (Some("2.02~beta3"), Some(Severity::Unsafe)),
            (Some("x"), Some(Severity::Warning)),
            (None, Some(Severity::Warning)),
        ] {
            assert_eq!(told(version), severity.map(|s| (Code::ImageFormat, s)), "{version:?}");
        }
    }

    #[test]
    fn the_version_of_grub_is_read_from_its_line_in_the_revocation_table() {
        let table = b"code\0sbat,1,SBAT Version,sbat,1,https://x\ngrub,3,Free Software Foundation,grub,2.06,https://y\n\
                      grub.debian,4,Debian,grub2,2.06-13+deb12u1,https://z\n\0more";
        assert_eq!(version(table).as_deref(), Some("2.06"));
        for none in [&b"no table"[..], b"\ngrub,3", b"\ngrub,3,a,b,c,d\n", b"\ngrub,\xff,,,2.06\n"] {
            assert_eq!(version(none), None);
        }
    }
}
