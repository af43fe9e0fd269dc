//! K's initramfs: where it carries the driver, it must carry the new one. Made beside the old one, looked into, renamed.

use crate::error::{advise, Remedy};
use crate::host::command::{self, run_ok, Spec};
use crate::host::{failpoint, files, Host};
use crate::kernel::KernelRelease;
use anyhow::Result;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// dracut takes a minute on a slow machine.
const LIMIT: Duration = Duration::from_secs(900);

/// Where the initramfs of a kernel lies, below the root.
pub fn image(host: &Host, kernel: &KernelRelease) -> Option<PathBuf> {
    let names =
        [format!("/boot/initramfs-{kernel}.img"), format!("/boot/initrd.img-{kernel}"), format!("/boot/initrd-{kernel}")];
    names.into_iter().map(PathBuf::from).find(|p| host.is_file(p))
}

/// Rebuilds it if it holds one of the modules. Only on the live machine: what goes into it depends on the whole system.
///
/// # Errors
/// When it cannot be looked into or made, or the new one does not hold our modules; then the old one is untouched.
pub(super) fn rebuild_if_it_carries(host: &Host, kernel: &KernelRelease, modules: &[&str]) -> Result<()> {
    let Some(image) = image(host, kernel).filter(|_| host.is_live()) else { return Ok(()) };
    let listed = list(&image)?;
    let carried: Vec<&&str> = modules.iter().filter(|m| holds(&listed, m).is_some()).collect();
    if carried.is_empty() {
        return Ok(());
    }
    let dir = image.parent().unwrap_or(Path::new("/boot"));
    let temporary = dir.join(format!(".vfguard-initramfs-{kernel}"));
    files::remove(&temporary)?;
    let made = run_ok(&maker(kernel, &temporary)?)
        .map(drop)
        .remedy(format!("rebuilding the initramfs of {kernel}"), "mend what it says, then: vfguard prepare")
        .and_then(|()| list(&temporary))
        .and_then(|listed| {
            match carried.iter().find(|m| !holds(&listed, m).is_some_and(|p| p.contains(super::install::DIR))) {
                None => Ok(()),
                Some(m) => Err(advise(
                    format!("the new initramfs of {kernel} does not carry {}/{m}.ko", super::install::DIR),
                    "look into the settings of dracut or initramfs-tools that name modules, then: vfguard prepare",
                )),
            }
        });
    if let Err(e) = made {
        files::remove(&temporary)?;
        return Err(e);
    }
    std::fs::File::open(&temporary)
        .and_then(|f| f.sync_all())
        .remedy("syncing the new initramfs", "look at the disk of /boot")?;
    failpoint::hit("initramfs-before-rename");
    std::fs::rename(&temporary, &image).remedy(format!("replacing {}", image.display()), "make /boot writable")?;
    files::sync_dir(dir)?;
    // GRUB reads no journal: what it reads must have arrived.
    nix::unistd::sync();
    Ok(())
}

/// Rebuilds it if it holds one of the modules in another place than ours: what a run that died before it came to the
/// initramfs left.
///
/// # Errors
/// Those of rebuilding.
pub(super) fn rebuild_if_stale(host: &Host, kernel: &KernelRelease, modules: &[&str]) -> Result<()> {
    let Some(image) = image(host, kernel).filter(|_| host.is_live()) else { return Ok(()) };
    let listed = list(&image)?;
    let ours = |m: &&str| holds(&listed, m).is_none_or(|p| p.contains(super::install::DIR));
    if modules.iter().all(ours) {
        return Ok(());
    }
    rebuild_if_it_carries(host, kernel, modules)
}

/// The lines of a listing that name a module's file, if any.
fn holds<'l>(listed: &'l str, module: &str) -> Option<&'l str> {
    let plain = module.replace('-', "_");
    listed.lines().find(|line| {
        let file = line.rsplit('/').next().unwrap_or_default().split_whitespace().next().unwrap_or_default();
        file.split_once(".ko").is_some_and(|(stem, _)| stem.replace('-', "_") == plain)
    })
}

fn list(image: &Path) -> Result<String> {
    let Some(tool) = ["lsinitrd", "lsinitramfs"].into_iter().find(|t| command::find(t).is_some()) else {
        return Err(advise(
            format!("{} cannot be looked into: neither lsinitrd nor lsinitramfs is installed", image.display()),
            "install dracut, or initramfs-tools-core",
        ));
    };
    // The runner keeps the tail of what is printed; a listing is longer.
    let log = tempfile::NamedTempFile::new()?;
    let mut spec = Spec::new(tool, [image.as_os_str()], LIMIT);
    spec.log = Some(log.path().to_owned());
    run_ok(&spec)
        .remedy(format!("looking into {}", image.display()), "rebuild it: dracut --force, or update-initramfs -u")?;
    Ok(String::from_utf8_lossy(&files::read_bounded(log.path(), crate::host::MAX_FILE)?).into_owned())
}

fn maker(kernel: &KernelRelease, to: &Path) -> Result<Spec> {
    let kernel: &OsStr = kernel.as_str().as_ref();
    if command::find("dracut").is_some() {
        Ok(Spec::new("dracut", ["--force".as_ref(), to.as_os_str(), kernel], LIMIT))
    } else if command::find("mkinitramfs").is_some() {
        Ok(Spec::new("mkinitramfs", ["-o".as_ref(), to.as_os_str(), kernel], LIMIT))
    } else {
        Err(advise("the initramfs carries the driver, and nothing here can make one", "install dracut, or initramfs-tools"))
    }
}
