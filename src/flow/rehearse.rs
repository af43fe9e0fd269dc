//! Rehearses a build in a scratch root, for a kernel that need not be installed. The machine itself is not changed.
//!
//! The scratch root is a small machine: K's headers, the lists of modules in K's module directory, this machine's devices (or one of the
//! recipe's where it has none), its recipes and cached archives.

use crate::config::{Config, Rehearse, Sign};
use crate::driver::fetch::Unanswered;
use crate::driver::{self, Digest, Numbers, Prepared, Recipe, Release};
use crate::error::advise;
use crate::host::devices::pci::{self, Device};
use crate::host::{files, os_release, Host};
use crate::kernel::{installed, tree, KernelRelease};
use crate::packages::{Download, Freshness, Headers, Lists, Packages};
use crate::progress::Progress;
use crate::verdict::judge::KernelReport;
use crate::verdict::survey::{room, Survey};
use anyhow::{Context, Result};
use serde::Serialize;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How many kernels are tried, newest first. A mirror that is being updated lacks one or two; if four in a row are missing, it is broken.
const TRIES: usize = 4;
/// For all downloads together: the headers of one kernel are 10 to 100 MB.
const DOWNLOADS: Duration = Duration::from_secs(900);

/// Which kernel to rehearse for.
#[derive(Clone, Debug)]
pub enum Choice {
    /// This kernel.
    Kernel(KernelRelease),
    /// The newest kernel of the distribution's own series and flavour whose headers the package manager offers.
    Available,
    /// The newest kernel that is installed here.
    NewestInstalled,
}

/// The result of a rehearsal.
pub struct Rehearsal {
    /// Where the headers come from.
    pub headers: &'static str,
    /// Whether the device is this machine's own, and not made up from the recipe.
    pub own_device: bool,
    /// Time to choose the kernel and to lay out the scratch root.
    pub layout: Duration,
    /// The digest of the archive that was to be built and where it came from, or why there is none.
    pub archive: Result<(Digest, String)>,
    /// The driver that was built, or why it was not.
    pub prepared: Result<Prepared>,
    /// The verdict on the kernel in the scratch root.
    pub report: KernelReport,
}

/// A kernel on offer that was not used.
#[derive(Clone, Debug, Serialize)]
pub struct PassedOver {
    /// The kernel.
    pub kernel: KernelRelease,
    /// Why it was not used.
    pub why: String,
}

/// The kernel to rehearse for, and its headers where this machine does not have them.
pub struct Chosen {
    /// The kernel.
    pub kernel: KernelRelease,
    /// How fresh the package lists are, where they were needed.
    pub lists: Option<Freshness>,
    /// Newer kernels that were not used.
    pub passed_over: Vec<PassedOver>,
    /// The kernel that an update installs, if that is an older one.
    pub update_installs: Option<KernelRelease>,
    headers: Option<Headers>,
    took: Duration,
}

impl Chosen {
    /// A kernel whose headers are here, so that the package manager is not needed.
    fn here(kernel: KernelRelease) -> Chosen {
        let (lists, headers, update_installs) = (None, None, None);
        Chosen { kernel, lists, passed_over: Vec::new(), update_installs, headers, took: Duration::ZERO }
    }
}

/// Chooses the kernel, and downloads its headers where they are not here.
///
/// # Errors
/// When none can be found.
pub fn choose(host: &Host, config: &Rehearse, choice: &Choice, progress: &dyn Progress) -> Result<Chosen> {
    let start = Instant::now();
    let mut chosen = match choice {
        Choice::Kernel(kernel) if tree::build_tree(host, kernel).is_ok() => Chosen::here(kernel.clone()),
        Choice::Kernel(kernel) => named(config, kernel, progress)?,
        Choice::Available => available(host, config, progress)?,
        Choice::NewestInstalled => {
            let newest =
                installed::installed(host).into_iter().map(|k| k.release).find(|k| tree::build_tree(host, k).is_ok());
            Chosen::here(newest.ok_or_else(|| {
                advise(
                    "no installed kernel has its headers here",
                    "name a kernel, or take the newest that is offered: `vfguard rehearse --available`",
                )
            })?)
        }
    };
    chosen.took = start.elapsed();
    Ok(chosen)
}

/// A kernel whose headers are not here.
fn named(config: &Rehearse, kernel: &KernelRelease, progress: &dyn Progress) -> Result<Chosen> {
    let lists = refresh(progress)?;
    match download(&lists, config, kernel, DOWNLOADS, progress)? {
        Download::Complete(headers) => {
            let (headers, lists) = (Some(headers), Some(lists.freshness().clone()));
            Ok(Chosen { headers, lists, ..Chosen::here(kernel.clone()) })
        }
        Download::Missing(why) => Err(advise(
            format!("no headers of {kernel}: {why} (package lists: {})", lists.freshness()),
            "name a kernel that is offered; `vfguard rehearse --available` takes the newest",
        )),
    }
}

/// The newest kernel on offer whose headers can be downloaded.
fn available(host: &Host, config: &Rehearse, progress: &dyn Progress) -> Result<Chosen> {
    let lists = refresh(progress)?;
    let offer = lists.offer()?;
    let mut passed_over = Vec::new();
    // The kernel that the metapackage names may have left the mirror, or may not be there yet.
    if let Some(own) = offer.update_installs.as_ref().filter(|own| offer.kernels.first().is_some_and(|k| k < own)) {
        passed_over.push(PassedOver { kernel: own.clone(), why: "its headers are not on offer".to_owned() });
    }
    let start = Instant::now();
    for kernel in offer.kernels.into_iter().take(TRIES) {
        let headers = if tree::build_tree(host, &kernel).is_ok() {
            None
        } else {
            let left = DOWNLOADS.saturating_sub(start.elapsed());
            match download(&lists, config, &kernel, left, progress)? {
                Download::Complete(headers) => Some(headers),
                Download::Missing(why) => {
                    passed_over.push(PassedOver { kernel, why });
                    continue;
                }
            }
        };
        let gone = passed_over.iter().any(|p| offer.update_installs.as_ref() == Some(&p.kernel));
        let update_installs = offer.update_installs.filter(|own| *own < kernel && !gone);
        let lists = Some(lists.freshness().clone());
        return Ok(Chosen { lists, passed_over, update_installs, headers, ..Chosen::here(kernel) });
    }
    let tried: Vec<String> = passed_over.iter().map(|p| format!("{}: {}", p.kernel, p.why)).collect();
    Err(advise(
        format!("no kernel's headers could be downloaded (package lists: {}); {}", lists.freshness(), tried.join("; ")),
        "check the network and the package manager's mirrors (`apt-get update`, `dnf makecache`)",
    ))
}

fn refresh(progress: &dyn Progress) -> Result<Lists> {
    let packages = Packages::here()?;
    progress.begin(None, "refreshing the package lists");
    let lists = Lists::refresh(packages);
    progress.end();
    lists
}

fn download(
    lists: &Lists,
    config: &Rehearse,
    kernel: &KernelRelease,
    within: Duration,
    progress: &dyn Progress,
) -> Result<Download> {
    progress.begin(None, &format!("downloading the headers of {kernel}"));
    let download = lists.download(kernel, within, config.allow_unsigned);
    progress.end();
    download
}

/// Runs the whole rehearsal below `scratch`.
///
/// # Errors
/// When the scratch root cannot be set up. A driver that does not build is no error, but a [`Rehearsal`].
pub fn rehearse(
    host: &Host,
    config: &Config,
    scratch: &Path,
    chosen: &Chosen,
    recipe: &Recipe,
    source: Option<(PathBuf, Digest)>,
    progress: &dyn Progress,
) -> Result<Rehearsal> {
    let start = Instant::now();
    let kernel = &chosen.kernel;
    // Downloaded headers bring the program that signs modules (scripts/sign-file), and it must not get the machine's key.
    let config = &Config { sign: Sign::default(), ..config.clone() };
    let stage = Host::new(scratch)?;
    let headers = lay_headers(host, &stage, config, chosen)?;
    lay_modules(host, &stage, kernel, recipe)?;
    let own_device = lay_devices(host, &stage, recipe)?;
    for dir in ["/etc/vfguard/drivers.d", "/usr/lib/vfguard/drivers.d", "/var/lib/vfguard/sources"] {
        copy_files(host, &stage, Path::new(dir))?;
    }
    for release in &recipe.releases {
        take_local(host, &stage, config, recipe, release)?;
    }
    for file in os_release::files(host) {
        if let Ok(content) = host.read(&file) {
            stage.write_atomic(&file, &content, 0o644)?;
        }
    }
    let layout = chosen.took + start.elapsed();
    let devices = pci::devices(&stage)?;
    let meant: Vec<&Device> = devices.iter().filter(|d| recipe.claims(&d.modalias)).collect();
    let lock = crate::host::lock::WriteLock::take(&stage, Duration::ZERO)?;
    let sources = source.clone();
    let tree = tree::Tree::of(&stage, kernel);
    let request = driver::Request { tree: &tree, recipe, devices: &meant, rebuild: true, source, jobs: None, initrds: &[] };
    let prepared = driver::prepare(&stage, config, &lock, &request, progress);
    let archive = match prepared.as_ref().ok().and_then(|prepared| prepared.archive.clone()) {
        Some(archive) => Ok(archive),
        None => obtain(&stage, config, kernel, recipe, sources.as_ref(), progress),
    };
    let mut report = Survey::new(&stage, config)?.judge_one(kernel)?.kernels.remove(0);
    // A finding about this machine, where the kernel will be installed.
    report.findings.extend(room::look(host).and_then(|room| room.finding()));
    Ok(Rehearsal { headers, own_device, layout, archive, prepared, report })
}

/// Copies a release's archive that a `file` URL or mirror names into the scratch root's cache, since such a path does not exist below that
/// root.
fn take_local(host: &Host, stage: &Host, config: &Config, recipe: &Recipe, release: &Release) -> Result<()> {
    for path in driver::fetch::files(&config.fetch, recipe, release) {
        if let Ok(archive) = driver::local_archive(&host.path(path), &release.sha256) {
            let cached = Path::new("/var/lib/vfguard/sources").join(recipe.archive_name(release));
            return stage.write_atomic(cached, &fs::read(archive.path())?, 0o644);
        }
    }
    Ok(())
}

/// The archive of the first release for the kernel that can be downloaded, for the report of a rehearsal that built none.
fn obtain(
    stage: &Host,
    config: &Config,
    kernel: &KernelRelease,
    recipe: &Recipe,
    source: Option<&(PathBuf, Digest)>,
    progress: &dyn Progress,
) -> Result<(Digest, String)> {
    if let Some((file, sha256)) = source {
        let archive = driver::local_archive(file, sha256)?;
        return Ok((archive.sha256(), archive.origin().to_string()));
    }
    let unanswered = Unanswered::default();
    let mut failure = anyhow::anyhow!("no release of {} is known for {kernel}", recipe.name);
    for release in recipe.candidates(&Numbers::of(stage, kernel)) {
        match driver::fetch(stage, &config.fetch, recipe, release, &unanswered, progress) {
            Ok(archive) => return Ok((archive.sha256(), archive.origin().to_string())),
            Err(e) => failure = e,
        }
    }
    Err(failure)
}

/// Sets up K's build tree: the downloaded headers, or a copy of this machine's.
fn lay_headers(host: &Host, stage: &Host, config: &Config, chosen: &Chosen) -> Result<&'static str> {
    let kernel = &chosen.kernel;
    let Some(headers) = &chosen.headers else {
        let tree = tree::build_tree(host, kernel).map_err(|finding| advise(finding.detail, finding.remedy))?;
        for dir in tree.directories() {
            copy_tree(dir, &stage.path(host.name(dir)))?;
        }
        for link in ["build", "source"] {
            let name = installed::modules_dir(kernel).join(link);
            if host.exists(&name) {
                let to = host.name(&fs::canonicalize(host.path(&name))?);
                make_link(&to, &stage.path_of_link(&name))?;
            }
        }
        return Ok("this machine's");
    };
    driver::packages::unpack(stage, &config.build, headers)?;
    // The directory may be a symbolic link.
    let build = stage.path_of_link(installed::modules_dir(kernel).join("build"));
    let tree = stage.path(format!("/usr/src/kernels/{kernel}"));
    if build.symlink_metadata().is_err() && tree.is_dir() {
        make_link(Path::new("/usr/src/kernels").join(kernel).as_path(), &build)?;
    }
    Ok("the package manager's")
}

fn make_link(to: &Path, at: &Path) -> Result<()> {
    files::create_dirs(at.parent().unwrap_or(Path::new("/")), 0o755)?;
    files::remove(at)?;
    symlink(to, at).with_context(|| format!("linking {}", at.display()))
}

/// Sets up K's lists of its own modules, and K's own copies of the recipe's modules, so that depmod has to choose as on the machine.
fn lay_modules(host: &Host, stage: &Host, kernel: &KernelRelease, recipe: &Recipe) -> Result<()> {
    let dir = installed::modules_dir(kernel);
    files::create_dirs(&stage.path(&dir), 0o755)?;
    for name in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        let content = host.read(dir.join(name)).unwrap_or_default();
        stage.write_atomic(dir.join(name), &content, 0o644)?;
    }
    for name in recipe.all_modules() {
        for path in crate::module::on_disk(host, kernel, name) {
            stage.write_atomic(&path, &host.read(&path)?, 0o644)?;
        }
    }
    for config in [PathBuf::from(format!("/boot/config-{kernel}")), dir.join("config")] {
        if let Ok(content) = host.read(&config) {
            stage.write_atomic(&config, &content, 0o644)?;
        }
    }
    Ok(())
}

/// Sets up this machine's devices that the recipe claims, or one of the recipe's. Returns whether they are this machine's.
fn lay_devices(host: &Host, stage: &Host, recipe: &Recipe) -> Result<bool> {
    let mut own: Vec<Device> = pci::devices_if_any(host).context("looking at the devices of /sys/bus/pci")?;
    own.retain(|d| recipe.claims(&d.modalias));
    let made_up = |pattern: &String| pattern.replace('*', "00000000");
    let devices: Vec<(String, String)> = if own.is_empty() {
        recipe.devices.first().map(|p| ("0000:00:03.0".to_owned(), made_up(p))).into_iter().collect()
    } else {
        own.iter().map(|d| (d.address.clone(), d.modalias.clone())).collect()
    };
    files::create_dirs(&stage.path("/sys/bus/pci/devices"), 0o755)?;
    for (address, modalias) in devices {
        let dir = Path::new("/sys/bus/pci/devices").join(address);
        stage.write_atomic(dir.join("modalias"), format!("{modalias}\n").as_bytes(), 0o644)?;
        stage.write_atomic(dir.join("class"), b"0x020000\n", 0o644)?;
    }
    Ok(!own.is_empty())
}

/// Copies the regular files of one directory, if it exists and is readable.
fn copy_files(host: &Host, stage: &Host, dir: &Path) -> Result<()> {
    for name in host.read_dir(dir).unwrap_or_default() {
        let path = dir.join(name);
        if let (true, Ok(content)) = (host.is_file(&path), host.read(&path)) {
            stage.write_atomic(&path, &content, 0o644)?;
        }
    }
    Ok(())
}

/// Copies a tree with its symbolic links as links.
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    files::create_dirs(to, 0o755)?;
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let (source, target, kind) = (entry.path(), to.join(entry.file_name()), entry.file_type()?);
        if kind.is_dir() {
            copy_tree(&source, &target)?;
        } else if kind.is_symlink() {
            make_link(&fs::read_link(&source)?, &target)?;
        } else if kind.is_file() {
            fs::copy(&source, &target).with_context(|| format!("copying {}", source.display()))?;
        }
    }
    Ok(())
}

/// The first line of the report: whether the driver is a release of the recipe, and the digest and origin of its archive.
pub fn provenance(recipe: &Recipe, archive: &Result<(Digest, String)>, reason: Option<&str>) -> String {
    let (digest, origin) = match archive {
        Ok(archive) => archive,
        Err(e) => return format!("NOT FETCHED: {}: {e:#}", recipe.name),
    };
    match recipe.releases.iter().find(|r| r.sha256 == *digest) {
        Some(release) => format!("REAL: {} {}, sha256 {digest}, from {origin}", recipe.name, release.version),
        None => format!(
            "SUBSTITUTE: {} from {origin}, sha256 {digest}, because {}",
            recipe.name,
            reason.unwrap_or("--source named another archive than the recipe's")
        ),
    }
}
