//! Puts verified modules where K's modprobe finds them, proves that it does, and undoes everything if it does not.
//!
//! `/lib/modules/K/updates/vfguard/NAME.ko[.xz…]`: a temporary file in the same directory, fsync, rename; depmod; proof;
//! initramfs. The previous files keep a second name until all of that is done.

mod file;
pub mod initramfs;
pub(super) mod sign;
pub(super) mod verified;

use self::file::{compression, label, reference, Compression};
pub use self::verified::VerifiedModule;
use crate::driver::rest;
use crate::error::{advise, Remedy};
use crate::finding::{Fact, Finding};
use crate::host::command::{run_ok, Spec};
use crate::host::devices::pci::Device;
use crate::host::files::below::Dir;
use crate::host::lock::WriteLock;
use crate::host::{failpoint, files, Host};
use crate::kernel::installed::modules_dir;
use crate::kernel::tree::BuildTree;
use crate::kernel::KernelRelease;
use crate::module::{Index, Provider, Target};
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Below K's module directory.
pub const DIR: &str = "updates/vfguard";
/// The suffix of the second name of a previous file. depmod reads files that end in `.ko` or a compression's suffix, hidden
/// ones too, so it must be another suffix.
const FORMER: &str = ".former";
/// depmod takes 6 s for 4,000 compressed modules; a slow disk needs more time.
const DEPMOD_LIMIT: Duration = Duration::from_secs(300);

/// The directory of vfguard's modules, below the root.
pub(super) fn dir(kernel: &KernelRelease) -> PathBuf {
    modules_dir(kernel).join(DIR)
}

/// vfguard's installed file of a module, below the root.
pub fn installed_module(host: &Host, kernel: &KernelRelease, name: &str) -> Option<PathBuf> {
    let dir = dir(kernel);
    Compression::ALL.iter().map(|c| dir.join(format!("{name}{}", c.suffix()))).find(|p| host.is_file(p))
}

/// Installs modules for a kernel, the driver first, and updates its initramfs. `obsolete` are names of modules that an
/// earlier build made and this one did not. Returns the modules' paths below the root.
///
/// # Errors
/// When any step fails; then the previous state is restored.
pub fn install(
    host: &Host,
    lock: &WriteLock,
    tree: &BuildTree,
    modules: &[VerifiedModule],
    obsolete: &[&str],
    devices: &[&Device],
    initrds: &[PathBuf],
) -> Result<Vec<PathBuf>> {
    let kernel = &tree.release;
    lock.still_ours()?;
    let modules_dir = host.path(modules_dir(kernel));
    if !modules_dir.is_dir() {
        return Err(advise(
            format!("{kernel} has no module directory ({})", modules_dir.display()),
            format!("install the kernel {kernel}"),
        ));
    }
    let dir = host.make_dirs(dir(kernel), 0o755).remedy(
        format!("preparing {}", dir(kernel).display()),
        format!("make {} writable (mount -o remount,rw), then: vfguard prepare {kernel}", modules_dir.display()),
    )?;
    sweep(&dir.path())?;
    let reference = reference(host, kernel);
    let compression = compression(tree, reference.as_deref());
    let mut change = Change { host, kernel, dir: &dir, made: Vec::new(), former: Vec::new() };
    let done = (|| {
        for module in modules {
            change.replace(module, compression, reference.as_deref())?;
        }
        for name in obsolete {
            change.withdraw(name)?;
        }
        failpoint::hit("installed-before-depmod");
        depmod(host, kernel)?;
        failpoint::hit("depmod-before-proof");
        for (n, module) in modules.iter().enumerate() {
            // Only the first module is the driver. The others support it and claim no device.
            let devices = if n == 0 { devices } else { &[] };
            resolves(host, kernel, module.name(), devices).map_err(|f| advise(f.detail, f.remedy))?;
        }
        let names: Vec<&str> = modules.iter().map(VerifiedModule::name).collect();
        // The files on the disk have changed, so load the evidence again.
        initramfs::refresh(host, lock, &Target::load(host, kernel), initrds, &names).map(drop)
    })();
    match done {
        Ok(()) => {
            failpoint::hit("proven-before-settled");
            let paths = change.made.iter().map(|name| self::dir(kernel).join(name)).collect();
            change.commit()?;
            Ok(paths)
        }
        // If the lock was lost, another run may already use the new files. They were verified before they got their names,
        // so they stay.
        Err(e) => Err(match lock.still_ours() {
            Ok(()) => {
                rest::begin(host, kernel);
                change.take_back(e)
            }
            Err(lost) => lost.context(format!("{e:#}")),
        }),
    }
}

/// Removes what an interrupted run left: temporary files and second names. The modules themselves were verified before they
/// got their names, so they stay.
pub(super) fn sweep(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(FORMER) || name.starts_with(".vfguard-") {
            files::remove(&entry.path())?;
        }
    }
    Ok(())
}

/// A change in progress, with what is needed to undo it.
struct Change<'a> {
    host: &'a Host,
    kernel: &'a KernelRelease,
    dir: &'a Dir,
    /// Names in it that were written.
    made: Vec<OsString>,
    /// Second name and name of each file that was there before.
    former: Vec<(OsString, OsString)>,
}

impl Change<'_> {
    fn replace(&mut self, module: &VerifiedModule, compression: Compression, reference: Option<&Path>) -> Result<()> {
        let name = OsString::from(format!("{}{}", module.name(), compression.suffix()));
        let old = self.keep(module.name())?;
        let act = || format!("writing {}", self.dir.shown().join(&name).display());
        let mut temporary = tempfile::Builder::new().prefix(".vfguard-").tempfile_in(self.dir.path()).with_context(act)?;
        temporary.write_all(&compression.compress(module.bytes())?).with_context(act)?;
        let file = temporary.as_file();
        file.set_permissions(Permissions::from_mode(0o644)).with_context(act)?;
        label(file, reference)?;
        file.sync_all().with_context(act)?;
        failpoint::hit("temporary-before-rename");
        temporary.persist(self.dir.at(&name)).map_err(|e| e.error).with_context(act)?;
        self.made.push(name.clone());
        failpoint::hit("renamed-before-sync");
        for old in old.iter().filter(|old| **old != name) {
            files::remove(&self.dir.at(old))?;
        }
        self.dir.sync()
    }

    /// Moves a module out of use that an earlier build made.
    fn withdraw(&mut self, name: &str) -> Result<()> {
        for old in self.keep(name)? {
            files::remove(&self.dir.at(old))?;
        }
        self.dir.sync()
    }

    /// Gives the files of a module, in any compression, a second name.
    fn keep(&mut self, name: &str) -> Result<Vec<OsString>> {
        let names = Compression::ALL.iter().map(|c| OsString::from(format!("{name}{}", c.suffix())));
        let old: Vec<OsString> = names.filter(|name| self.dir.at(name).symlink_metadata().is_ok()).collect();
        for old in &old {
            let mut second = old.clone();
            second.push(FORMER);
            let act = || format!("keeping {}", self.dir.shown().join(old).display());
            fs::hard_link(self.dir.at(old), self.dir.at(&second)).with_context(act)?;
            self.former.push((second, old.clone()));
        }
        Ok(old)
    }

    fn commit(self) -> Result<()> {
        for (second, _) in &self.former {
            files::remove(&self.dir.at(second))?;
        }
        Ok(())
    }

    /// Restores the previous state. Returns the error that made it necessary; what could not be restored is added to it.
    fn take_back(self, error: anyhow::Error) -> anyhow::Error {
        let undo = || -> Result<()> {
            for path in self.made.iter().filter(|p| !self.former.iter().any(|(_, old)| old == *p)) {
                files::remove(&self.dir.at(path))?;
            }
            for (second, old) in &self.former {
                let act = || format!("restoring {}", self.dir.shown().join(old).display());
                fs::rename(self.dir.at(second), self.dir.at(old)).with_context(act)?;
            }
            self.dir.sync()?;
            failpoint::hit("restored-before-depmod");
            if self.former.is_empty() {
                // Only if it is empty: a file that somebody else put there keeps the directory.
                let _ = fs::remove_dir(self.dir.shown());
            }
            depmod(self.host, self.kernel)
        };
        match undo() {
            Ok(()) => error,
            Err(e) => error.context(format!("the previous state is not wholly back ({e:#})")),
        }
    }
}

/// Runs depmod for one kernel. With another root, the settings are that root's, never this machine's.
pub(super) fn depmod(host: &Host, kernel: &KernelRelease) -> Result<()> {
    let dir = modules_dir(kernel);
    // depmod follows absolute symbolic links out of the root that is given to it.
    let by_depmod = host.root().join(dir.strip_prefix("/").unwrap_or(&dir));
    if !host.is_live() && fs::canonicalize(&by_depmod).ok() != Some(host.path(&dir)) {
        return Err(advise(
            format!(
                "a link in the way of {} leads out of {}, and depmod would follow it",
                dir.display(),
                host.root().display()
            ),
            format!("make the links of {} relative", by_depmod.display()),
        ));
    }
    run_ok(&depmod_spec(host, kernel)).map(drop).remedy(
        format!("running depmod for {kernel}"),
        "install kmod, or mend what depmod names; then: vfguard prepare".to_string(),
    )
}

fn depmod_spec(host: &Host, kernel: &KernelRelease) -> Spec {
    let mut args: Vec<OsString> = Vec::new();
    if !host.is_live() {
        args.extend(["-b".into(), host.root().into()]);
        let settings = ["/run/depmod.d", "/etc/depmod.d", "/usr/local/lib/depmod.d", "/usr/lib/depmod.d", "/lib/depmod.d"];
        let mut there: Vec<PathBuf> = settings.iter().map(|d| host.path(d)).filter(|d| d.is_dir()).collect();
        there.dedup();
        if there.is_empty() {
            there.push("/dev/null".into());
        }
        for dir in there {
            args.extend(["-C".into(), dir.into()]);
        }
    }
    args.push(kernel.as_str().into());
    Spec::new("depmod", args, DEPMOD_LIMIT)
}

/// Proves by the files that depmod wrote that each device resolves to vfguard's file of the module.
///
/// # Errors
/// The finding that says where the device resolves instead.
pub(super) fn resolves(host: &Host, kernel: &KernelRelease, name: &str, devices: &[&Device]) -> Result<(), Finding> {
    let index = Index::load(host, kernel);
    let ours = installed_module(host, kernel, name);
    match index.path(name) {
        Some(path) if Some(&path) == ours.as_ref() => {}
        Some(path) => {
            return Err(Finding::new(
                Fact::Shadowed,
                format!("modprobe would load {} instead of {DIR}/{name}.ko on {kernel}", path.display()),
                format!("let `search` in /etc/depmod.d name `updates` first, and remove an `override` of {name} there; then: vfguard prepare {kernel}"),
            ));
        }
        None => {
            let detail = format!("depmod for {kernel} knows no module {name}");
            return Err(Finding::new(Fact::DepmodStale, detail, format!("depmod {kernel}")));
        }
    }
    if let Some(gone) = index.dependencies(name).into_iter().find(|path| !host.is_file(path)) {
        let detail = format!("depmod for {kernel} still has {} before {name}, which is gone", gone.display());
        return Err(Finding::new(Fact::DepmodStale, detail, format!("depmod {kernel}")));
    }
    let wanted = Provider::Module(name.replace('-', "_"));
    match devices.iter().find(|d| !index.resolve(&d.modalias).contains(&wanted)) {
        None => Ok(()),
        Some(device) => Err(Finding::new(
            Fact::DeviceUnclaimed,
            format!("{} ({}) does not lead to {name} on {kernel}", device.address, device.modalias),
            format!(
                "take a release of the driver that knows the device: vfguard prepare {kernel} --source FILE --sha256 HEX"
            ),
        )),
    }
}
