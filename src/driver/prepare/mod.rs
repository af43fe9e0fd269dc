//! From a kernel to an installed and proven module: fetch → unpack → build → sign → verify → install, or a refusal with its
//! reason.

mod attempt;
pub mod leftovers;
pub mod outcome;
pub mod record;

use self::attempt::{Failed, Tried, Verified};
use self::outcome::{PrepareError, Prepared};
use self::record::RecordEntry;
use super::build::mistake;
use super::build::preflight;
use super::fetch::Unanswered;
use super::install::verified::check;
use super::install::{self, initramfs};
use super::sandbox::Containment;
use super::{Digest, Numbers, Recipe, Release};
use crate::config::Config;
use crate::error::{Advice, Exit};
use crate::finding::{Code, Fact, Finding};
use crate::host::devices::pci::Device;
use crate::host::files::remove;
use crate::host::lock::WriteLock;
use crate::host::{failpoint, Host};
use crate::kernel::tree::{BuildTree, Tree};
use crate::kernel::KernelRelease;
use crate::module::{Module, Target};
use crate::progress::Progress;
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The directory of builds, below the root. Each run has a private directory in it; those of dead runs are removed.
pub(super) const WORK: &str = "/var/cache/vfguard/build";

/// What to prepare.
#[derive(Debug)]
pub struct Request<'a> {
    /// The kernel's build tree.
    pub tree: &'a Tree<'a>,
    /// The driver.
    pub recipe: &'a Recipe,
    /// The devices that the module must claim.
    pub devices: &'a [&'a Device],
    /// Build even if a good module is installed.
    pub rebuild: bool,
    /// This archive instead of the recipe's releases.
    pub source: Option<(PathBuf, Digest)>,
    /// Parallel jobs of make.
    pub jobs: Option<u32>,
    /// The initramfs files that the kernel's boot entry names; if empty, those with the usual names.
    pub initrds: &'a [PathBuf],
}

impl<'a> Request<'a> {
    /// The kernel.
    pub fn kernel(&self) -> &'a KernelRelease {
        self.tree.release
    }
}

/// Prepares one driver for one kernel. If the first release does not compile, or its module does not work, the later
/// releases that the recipe names as fallbacks are tried.
///
/// # Errors
/// A [`PrepareError`] below an [`Advice`], or another error; either is kept in the kernel's record.
pub fn prepare(
    host: &Host,
    config: &Config,
    lock: &WriteLock,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<Prepared> {
    leftovers::sweep(host, lock);
    let mut run = Run {
        host,
        config,
        request,
        progress,
        unanswered: Unanswered::default(),
        stages: Vec::new(),
        log: None,
        contained: None,
        archive: None,
        inputs: None,
    };
    let result = run.all(lock);
    progress.end();
    // If the lock was lost, another run may be writing the record.
    lock.still_ours()?;
    let entry = match &result {
        Ok(prepared) if prepared.reused => return result,
        Ok(prepared) => RecordEntry {
            version: Some(prepared.version.clone()),
            findings: prepared.findings.clone(),
            ..RecordEntry::default()
        },
        Err(e) => RecordEntry { findings: findings_of(e), inputs: run.inputs.take(), ..RecordEntry::default() },
    };
    let sandbox = run.contained.map_or(String::new(), |l| l.to_string());
    let entry = RecordEntry { log: run.log.clone(), sandbox, ..entry };
    // The record only explains. Failing to write it changes neither a good result nor an error.
    let written = match request.source {
        Some(_) => record::write_beside(host, request.kernel(), request.recipe, entry),
        None => record::write(host, request.kernel(), request.recipe, entry),
    };
    if let Err(e) = written {
        progress.note(&format!("no record was written: {e:#}"));
    }
    result
}

/// The findings that an error contains; else one made from its text.
fn findings_of(error: &anyhow::Error) -> Vec<Finding> {
    match error.downcast_ref::<PrepareError>() {
        Some(e) => e.findings.clone(),
        None => {
            let remedy = crate::error::remedy(error).unwrap_or("run `vfguard prepare -v`");
            vec![Finding::new(Fact::BuildFailed, format!("{error:#}"), remedy)]
        }
    }
}

/// The state of one run.
struct Run<'a> {
    host: &'a Host,
    config: &'a Config,
    request: &'a Request<'a>,
    progress: &'a dyn Progress,
    unanswered: Unanswered,
    stages: Vec<(&'static str, Duration)>,
    log: Option<PathBuf>,
    contained: Option<Containment>,
    archive: Option<(Digest, String)>,
    inputs: Option<String>,
}

/// The directory of a run. It is removed with everything that a build left in it.
pub(super) struct Work(pub(super) PathBuf);

impl Work {
    /// Creates a private directory for this run.
    pub(super) fn new(host: &Host) -> Result<Work> {
        // Without namespaces the build user must be able to pass through it.
        let dir = host.make_dirs(WORK, 0o711)?.shown().to_owned();
        let work = tempfile::Builder::new()
            .prefix("run-")
            .tempdir_in(&dir)
            .with_context(|| format!("making a directory in {}", dir.display()))?;
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(work.path(), fs::Permissions::from_mode(0o711))?;
        Ok(Work(work.keep()))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next run.
        let _ = remove::tree(&self.0);
    }
}

impl Run<'_> {
    /// Tries each candidate release until one works.
    fn all(&mut self, lock: &WriteLock) -> Result<Prepared> {
        let (host, request) = (self.host, self.request);
        let kernel = request.kernel();
        let tree = match request.tree.get() {
            Ok(tree) => tree,
            Err(finding) => return Err(self.refuse(vec![finding.clone()])),
        };
        if !request.rebuild && request.source.is_none() {
            if let Some(prepared) = self.reuse(lock)? {
                return Ok(prepared);
            }
        }
        let work = Work::new(host)?;
        if let Err(finding) = preflight::preflight(host, tree, request.recipe, &work.0) {
            return Err(self.refuse(vec![finding]));
        }
        let candidates: Vec<Option<&Release>> = match &request.source {
            Some(_) => vec![None],
            None => request.recipe.candidates(&Numbers::of(host, kernel)).into_iter().map(Some).collect(),
        };
        let mut failures = Vec::new();
        let mut all_last = true;
        for (n, candidate) in candidates.iter().enumerate() {
            let dir = work.0.join(n.to_string());
            fs::create_dir(&dir).with_context(|| format!("making {}", dir.display()))?;
            match self.one(tree, *candidate, &dir)? {
                Tried::Verified(verified) => return self.install(lock, tree, verified, failures),
                Tried::Failed(Failed { findings, try_another, lasts }) => {
                    all_last &= lasts;
                    let name = candidate.map_or("the archive", |r| r.version.as_str());
                    failures.extend(findings.into_iter().map(|mut f| {
                        f.detail = format!("{name}: {}", f.detail);
                        f
                    }));
                    if !try_another {
                        return Err(self.refuse(failures));
                    }
                    if n + 1 < candidates.len() {
                        let driver = &request.recipe.name;
                        let what = match failures.last().map(|f| f.code) {
                            Some(Code::FetchFailed) => "could not be downloaded".to_owned(),
                            Some(_) | None => format!("does not work on {kernel}"),
                        };
                        self.progress.note(&format!("{driver} {name} {what}; trying the next release"));
                    }
                }
            }
        }
        if failures.is_empty() {
            failures.push(Finding::new(
                Fact::BuildFailed,
                format!("no release of {} is known for {kernel}", request.recipe.name),
                mistake::correct(
                    host,
                    &request.recipe.name,
                    &format!("add {kernel} to the `kernels` or `fallback` of a release"),
                ),
            ));
        }
        // Every release was tried and failed for reasons that the digest of inputs covers. Until one of them changes,
        // another attempt would only take time.
        if request.source.is_none() && all_last {
            self.inputs = Some(record::inputs(host, request.recipe, tree, request.devices));
        }
        Err(self.refuse(failures))
    }

    fn refuse(&self, findings: Vec<Finding>) -> anyhow::Error {
        let remedy = findings.iter().find(|f| f.refuses()).map_or(String::new(), |f| f.remedy.clone());
        let message = format!("preparing {} for {}", self.request.recipe.name, self.request.kernel());
        anyhow::Error::new(PrepareError { findings, log: self.log.clone() }).context(Advice {
            message,
            remedy,
            exit: Exit::Undecided,
        })
    }

    /// vfguard's installed module, if nothing is wrong with it.
    fn reuse(&mut self, lock: &WriteLock) -> Result<Option<Prepared>> {
        let (host, request) = (self.host, self.request);
        let (kernel, recipe) = (request.kernel(), request.recipe);
        let start = Instant::now();
        let mut modules = Vec::new();
        let mut findings = Vec::new();
        let mut version = None;
        let mut names: Vec<&str> = Vec::new();
        let mut files = Vec::new();
        for name in recipe.all_modules() {
            match install::installed_module(host, kernel, name) {
                Some(path) => {
                    let Ok(bytes) = host.read(&path) else { return Ok(None) };
                    files.push(bytes);
                    modules.push(path);
                    names.push(name);
                }
                None if recipe.optional.contains(name) => {}
                None => return Ok(None),
            }
        }
        let read: Vec<Module> = files.iter().filter_map(|bytes| Module::read(bytes).ok()).collect();
        let mut now = Target::load(host, kernel);
        let target = now.clone().with_beside(&read);
        for (name, bytes) in names.iter().zip(&files) {
            let devices = if *name == recipe.module() { request.devices } else { &[] };
            let checked = check(&target, bytes, devices);
            if checked.findings.iter().any(Finding::refuses) {
                return Ok(None);
            }
            if *name == recipe.module() {
                version = checked.version;
            }
            findings.extend(checked.findings);
        }
        let candidates = recipe.candidates(&Numbers::of(host, kernel));
        let of = |said: String| candidates.iter().find(|release| recipe.module_version(release) == said);
        let Some(version) = version.and_then(of).map(|release| release.version.clone()) else { return Ok(None) };
        let resolves = || {
            names.iter().all(|name| {
                let devices = if *name == recipe.module() { request.devices } else { &[] };
                install::resolves(host, kernel, name, devices).is_ok()
            })
        };
        if !resolves() {
            // A run that was killed between rename and depmod leaves this state.
            install::depmod(host, kernel)?;
            now = Target::load(host, kernel);
            if !resolves() {
                return Ok(None);
            }
        }
        initramfs::refresh(host, lock, &now, request.initrds, &names)?;
        let stages = vec![("verify", start.elapsed())];
        Ok(Some(Prepared { version, modules, findings, stages, log: None, sandbox: None, reused: true, archive: None }))
    }

    fn install(
        &mut self,
        lock: &WriteLock,
        tree: &BuildTree,
        Verified { version, set }: Verified,
        failures: Vec<Finding>,
    ) -> Result<Prepared> {
        let Request { devices, initrds, .. } = *self.request;
        failpoint::hit("verified-before-install");
        let recipe = self.request.recipe;
        let is_made = |name: &String| set.modules.iter().any(|module| module.name() == name);
        // Another driver of the same vendor may have installed it.
        let others = super::recipes(self.host).unwrap_or_default();
        let is_others =
            |name: &String| others.iter().any(|r| r.name != recipe.name && r.all_modules().any(|own| own == name));
        let obsolete = recipe.optional.iter().filter(|name| !is_made(name) && !is_others(name));
        let obsolete: Vec<&str> = obsolete.map(String::as_str).collect();
        let installed =
            self.stage("install", || install::install(self.host, lock, tree, &set.modules, &obsolete, devices, initrds));
        let modules = self.timed(installed)?;
        let mut findings = set.findings;
        // Reported to explain why the first choice was not used.
        findings.extend(failures.into_iter().map(Finding::into_info));
        Ok(Prepared {
            version,
            modules,
            findings,
            stages: self.stages.clone(),
            log: self.log.clone(),
            sandbox: self.contained,
            reused: false,
            archive: self.archive.take(),
        })
    }
}
