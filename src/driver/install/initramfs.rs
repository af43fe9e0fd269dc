//! Keeps K's initramfs up to date. If it contains the driver, it must contain the one on the disk, since that copy is loaded
//! first. The machine's own dracut or initramfs-tools builds a new one beside the old one; vfguard checks it and renames it.

use crate::boot;
use crate::driver::rest;
use crate::error::{advise, Remedy};
use crate::finding::{Code, Finding};
use crate::host::command::{run_ok, Spec, PATH};
use crate::host::lock::WriteLock;
use crate::host::{failpoint, files, locks, Host};
use crate::kernel::KernelRelease;
use crate::module::{self, Target};
use anyhow::Result;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The name of the new one until it is complete.
const TEMPORARY: &str = ".vfguard-initramfs-";
/// dracut takes a minute on a slow machine.
const LIMIT: Duration = Duration::from_secs(900);

/// Rebuilds every initramfs of a kernel that is missing (unless a package manager is running), cannot be read, or contains
/// one of these modules in another version than the one on the disk now. `initrds` are those that the boot entry names.
/// Returns the ones that were rebuilt, below the root.
///
/// # Errors
/// When one cannot be rebuilt, or the new one lacks what it must contain; then the old one is unchanged.
pub fn refresh(
    host: &Host,
    _lock: &WriteLock,
    target: &Target,
    initrds: &[PathBuf],
    modules: &[&str],
) -> Result<Vec<PathBuf>> {
    let kernel = &target.release;
    let mut made = Vec::new();
    for file in module::initramfs_files(kernel, initrds) {
        let there = host.is_file(&file);
        // A missing one is built only if its name shows that it is K's: it could be a microcode image, and vfguard never
        // creates images for other purposes or kernels.
        let missing = !there
            && locks::held(host).is_none()
            && initrds.contains(&file)
            && file.to_string_lossy().contains(kernel.as_str());
        if missing || (there && stale(host, target, &file, modules)) {
            remake(host, target, &file, modules)?;
            made.push(file);
        }
    }
    Ok(made)
}

fn stale(host: &Host, target: &Target, file: &Path, modules: &[&str]) -> bool {
    let is = |m: &&str| {
        let file = [file.to_owned()];
        module::initramfs_driver(host, target, &file, m, None).iter().any(refuses)
    };
    modules.iter().any(is) || module::initramfs_whole(host, target, &[file.to_owned()]).iter().any(refuses)
}

fn refuses(finding: &Finding) -> bool {
    finding.code == Code::InitramfsStale && finding.refuses()
}

fn remake(host: &Host, target: &Target, file: &Path, modules: &[&str]) -> Result<()> {
    let kernel = &target.release;
    let carries = |image: &Path, m: &str| module::initramfs_carries(host, target, image, m);
    let carried: Vec<&str> = modules.iter().copied().filter(|m| carries(file, m).unwrap_or(false)).collect();
    let real = host.path(file);
    let dir = real.parent().unwrap_or(Path::new("/"));
    sweep(dir);
    // A unique name for the tool's output. The file is removed unless it is renamed.
    let temporary = tempfile::Builder::new()
        .prefix(TEMPORARY)
        .make_in(dir, |_| Ok(()))
        .remedy(format!("choosing a name in {}", dir.display()), "make /boot writable")?
        .into_temp_path();
    let name = host.name(&temporary);
    let maker = maker(host, kernel, &name)?;
    let made = || {
        run_ok(&maker).map(drop).remedy(
            format!("making the initramfs of {kernel}"),
            format!("mend what it says, then: vfguard prepare {kernel}"),
        )?;
        serves(host, target, &name, &carried, modules)?;
        std::fs::File::open(&temporary)
            .and_then(|f| f.sync_all())
            .remedy("syncing the new initramfs", "look at the disk of /boot")
    };
    let replaced = made().and_then(|()| {
        failpoint::hit("initramfs-before-rename");
        let renamed = temporary.persist(&real).map_err(|e| e.error);
        renamed.remedy(format!("replacing {}", file.display()), "make /boot writable")
    });
    replaced.inspect_err(|_| rest::begin(host, kernel))?;
    files::sync_dir(dir)?;
    boot::flush(host, &real)
}

/// Whether a new initramfs can replace the old one, which contained these modules.
fn serves(host: &Host, target: &Target, new: &Path, carried: &[&str], modules: &[&str]) -> Result<()> {
    let kernel = &target.release;
    let carries = |m: &str| module::initramfs_carries(host, target, new, m);
    if let Some(e) = modules.iter().find_map(|m| carries(m).err()) {
        let remedy = module::initramfs_repack(kernel, &e);
        let remedy = remedy.unwrap_or_else(|| format!("look into what made it, then: vfguard prepare {kernel}"));
        return Err(advise(format!("the new initramfs of {kernel} cannot be read: {e}"), remedy));
    }
    match carried.iter().find(|m| !carries(m).unwrap_or(false)) {
        None if !stale(host, target, new, modules) => Ok(()),
        None => Err(advise(
            format!("the new initramfs of {kernel} carries another module than the disk, or is not whole"),
            format!("depmod {kernel}; then: vfguard prepare {kernel}"),
        )),
        Some(m) => Err(advise(
            format!("the new initramfs of {kernel} does not carry {m}, and the old one does"),
            "look into the settings of dracut or initramfs-tools that name modules, then: vfguard prepare",
        )),
    }
}

/// Removes the leftovers of killed runs in a directory. The caller holds the write lock, so no other run is using them.
pub(in crate::driver) fn sweep(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            let _ = files::remove(&entry.path());
        }
    }
}

/// The machine's own tool; with another root, that root's tool, run inside of it.
fn maker(host: &Host, kernel: &KernelRelease, to: &Path) -> Result<Spec> {
    let kernel: &OsStr = kernel.as_str().as_ref();
    let there = |tool: &str| PATH.split(':').any(|dir| host.is_file(Path::new(dir).join(tool)));
    let dracut: [&OsStr; 4] = ["dracut".as_ref(), "--force".as_ref(), to.as_os_str(), kernel];
    let tools: [&OsStr; 4] = ["mkinitramfs".as_ref(), "-o".as_ref(), to.as_os_str(), kernel];
    // Debian can have both. The installed hook tells which one builds the initramfs of its kernels.
    let words = match (there("dracut"), there("mkinitramfs")) {
        (true, true) if host.is_file("/etc/kernel/postinst.d/initramfs-tools") => tools,
        (true, true | false) => dracut,
        (false, true) => tools,
        (false, false) => {
            return Err(advise(
                "the initramfs is to be made anew, and nothing here can do that",
                "install dracut, or initramfs-tools",
            ))
        }
    };
    let mut words: Vec<OsString> = words.map(OsStr::to_owned).into();
    if !host.is_live() {
        words.splice(0..0, ["chroot".into(), host.root().into()]);
    }
    let program = words.remove(0);
    Ok(Spec::new(&program.to_string_lossy(), words, LIMIT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error;
    use crate::kernel::tree::Tree;

    #[test]
    fn an_initramfs_in_an_unknown_compression_names_the_setting_and_not_a_module() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("boot")).unwrap();
        let host = Host::new(dir.path()).unwrap();
        let target = Target::load(&host, &"6.1.0-56-amd64".parse().unwrap());
        let new = Path::new("/boot/new");
        for (content, why, remedy) in [
            (&b"BZh9"[..], "packed with bzip2", "COMPRESS=gzip in /etc/initramfs-tools"),
            (b"junk", "neither", "look into what made it"),
        ] {
            std::fs::write(host.path(new), content).unwrap();
            let e = serves(&host, &target, new, &["ixgbevf"], &["ixgbevf"]).unwrap_err();
            assert!(format!("{e:#}").contains(why), "{e:#}");
            assert!(error::remedy(&e).is_some_and(|r| r.contains(remedy)), "{:?}", error::remedy(&e));
        }
    }

    #[test]
    fn an_automatic_run_does_not_retry_a_failed_initramfs_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        let kernel: KernelRelease = "6.1.0-56-amd64".parse().unwrap();
        let lock = WriteLock::take(&host, std::time::Duration::ZERO).unwrap();
        let file = [PathBuf::from(format!("/boot/initramfs-{kernel}.img"))];
        std::fs::create_dir(dir.path().join("boot")).unwrap();
        // No tool can build it. Nothing was changed, so no pause is needed: the next package may bring the tool.
        assert!(refresh(&host, &lock, &Target::load(&host, &kernel), &file, &[]).is_err() && !rest::is_on(&host, &kernel));
        host.write_atomic("/usr/bin/dracut", b"no program", 0o755).unwrap();
        assert!(refresh(&host, &lock, &Target::load(&host, &kernel), &file, &[]).is_err() && rest::is_on(&host, &kernel));
        let recipe = crate::driver::recipes(&host).unwrap().remove(0);
        assert!(crate::driver::would_fail_again(&Tree::of(&host, &kernel), &recipe, &[]));
        rest::end(&host);
        assert!(!crate::driver::would_fail_again(&Tree::of(&host, &kernel), &recipe, &[]));
    }
}
