//! From a kernel to an installed, proven module: fetch → unpack → build → sign → verify → install, or a refusal that says why.

mod check;
pub mod leftovers;
pub mod outcome;
pub mod record;

use self::outcome::{PrepareError, Prepared};
use self::record::Entry;
use super::build::cause::{Cause, Subject};
use super::build::log::Log;
use super::build::{self, preflight, BuiltModule, Failure};
use super::install::{self, initramfs, sign, VerifiedModule};
use super::sandbox::{Containment, Sandbox};
use super::{fetch, local_archive, unpack, Digest, Progress, Recipe, Release};
use crate::config::Config;
use crate::error::{Advice, Exit};
use crate::finding::{Code, Finding, Severity};
use crate::host::lock::WriteLock;
use crate::host::pci::Device;
use crate::host::{failpoint, files, remove, Host};
use crate::kernel::tree::{build_tree, BuildTree};
use crate::kernel::KernelRelease;
use crate::module::Target;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where builds are made, below the root; each run has a private directory in it, and what dead runs left is removed.
pub(super) const WORK: &str = "/var/cache/vfguard/build";

/// What to prepare.
#[derive(Debug)]
pub struct Request<'a> {
    /// The kernel.
    pub kernel: &'a KernelRelease,
    /// The driver.
    pub recipe: &'a Recipe,
    /// The devices that the module must claim.
    pub devices: &'a [&'a Device],
    /// Build even where a good module is in place.
    pub rebuild: bool,
    /// This archive instead of the recipe's releases.
    pub source: Option<(PathBuf, Digest)>,
    /// Parallel jobs of make.
    pub jobs: Option<u32>,
    /// The initial ramdisks that the kernel's boot entry names; none: those of the usual names.
    pub initrds: &'a [PathBuf],
}

/// Prepares one driver for one kernel. Later releases that the recipe names as fallbacks are tried when the first does not
/// compile, or compiles to something that does not serve.
///
/// # Errors
/// A [`PrepareError`] below an [`Advice`], or whatever else went wrong; either is kept in the kernel's record.
pub fn prepare(
    host: &Host,
    config: &Config,
    lock: &WriteLock,
    request: &Request<'_>,
    progress: &dyn Progress,
) -> Result<Prepared> {
    leftovers::sweep(host, lock);
    let mut run = Run { host, config, request, progress, stages: Vec::new(), log: None, contained: None, inputs: None };
    let result = run.all(lock);
    progress.end();
    // The record may be another run's to write by now.
    lock.still_ours()?;
    let entry = match &result {
        Ok(prepared) if prepared.reused => return result,
        Ok(prepared) => {
            Entry { version: Some(prepared.version.clone()), findings: prepared.findings.clone(), ..Entry::default() }
        }
        Err(e) => Entry { findings: findings_of(e), inputs: run.inputs.take(), ..Entry::default() },
    };
    let sandbox = run.contained.map_or(String::new(), |l| l.to_string());
    let entry = Entry { log: run.log.clone(), sandbox, ..entry };
    // A record explains; that there is none makes no module bad, and no failure another one.
    if let Err(e) = record::write(host, request.kernel, request.recipe, entry) {
        progress.note(&format!("no record was written: {e:#}"));
    }
    result
}

/// The findings that an error carries; else one that is made of it.
fn findings_of(error: &anyhow::Error) -> Vec<Finding> {
    match error.downcast_ref::<PrepareError>() {
        Some(e) => e.findings.clone(),
        None => {
            let remedy = crate::error::remedy(error).unwrap_or("run `vfguard prepare -v`");
            vec![Finding::refuse(Code::BuildFailed, format!("{error:#}"), remedy)]
        }
    }
}

/// One run.
struct Run<'a> {
    host: &'a Host,
    config: &'a Config,
    request: &'a Request<'a>,
    progress: &'a dyn Progress,
    stages: Vec<(&'static str, Duration)>,
    log: Option<PathBuf>,
    contained: Option<Containment>,
    inputs: Option<String>,
}

/// The directory of a run, which is removed with whatever a build made of it.
struct Work(PathBuf);

impl Drop for Work {
    fn drop(&mut self) {
        // What stays is swept by the next run.
        let _ = remove::tree(&self.0);
    }
}

/// What became of one release.
enum Tried {
    Verified(Verified),
    Failed { findings: Vec<Finding>, try_another: bool, lasts: bool },
}

/// Modules that were verified, with what is known about them.
struct Verified {
    version: String,
    modules: Vec<VerifiedModule>,
    findings: Vec<Finding>,
}

impl Run<'_> {
    fn all(&mut self, lock: &WriteLock) -> Result<Prepared> {
        let (host, request) = (self.host, self.request);
        let kernel = request.kernel;
        let tree = match build_tree(host, kernel) {
            Ok(tree) => tree,
            Err(finding) => return Err(self.refuse(vec![finding])),
        };
        if !request.rebuild && request.source.is_none() {
            if let Some(prepared) = self.reuse(lock)? {
                return Ok(prepared);
            }
        }
        let work = self.work_dir()?;
        if let Err(finding) = preflight::preflight(host, &tree, request.recipe, &work.0) {
            return Err(self.refuse(vec![finding]));
        }
        let candidates: Vec<Option<&Release>> = match &request.source {
            Some(_) => vec![None],
            None => request.recipe.candidates(kernel).into_iter().map(Some).collect(),
        };
        let mut failures = Vec::new();
        let mut all_last = true;
        for (n, candidate) in candidates.iter().enumerate() {
            let dir = work.0.join(n.to_string());
            fs::create_dir(&dir).with_context(|| format!("making {}", dir.display()))?;
            match self.one(&tree, *candidate, &dir)? {
                Tried::Verified(verified) => return self.install(lock, &tree, verified, failures),
                Tried::Failed { findings, try_another, lasts } => {
                    all_last &= lasts;
                    let name = candidate.map_or("the archive", |r| r.version.as_str());
                    failures.extend(findings.into_iter().map(|f| Finding { detail: format!("{name}: {}", f.detail), ..f }));
                    if !try_another {
                        return Err(self.refuse(failures));
                    }
                    if n + 1 < candidates.len() {
                        self.progress.note(&format!("{name} does not do for {kernel}; trying the next release"));
                    }
                }
            }
        }
        if failures.is_empty() {
            failures.push(Finding::refuse(
                Code::BuildFailed,
                format!("no release of {} is known for {kernel}", request.recipe.name),
                Cause::Api.remedy(Subject { host, recipe: request.recipe, tree: &tree }, ""),
            ));
        }
        // Every release was tried and none fits, for reasons that are in the digest: until something changes, another attempt would only take the same time.
        if request.source.is_none() && all_last {
            self.inputs = Some(record::inputs(request.recipe, &tree));
        }
        Err(self.refuse(failures))
    }

    fn refuse(&self, findings: Vec<Finding>) -> anyhow::Error {
        let remedy = findings.iter().find(|f| f.severity == Severity::Unsafe).map_or(String::new(), |f| f.remedy.clone());
        let message = format!("preparing {} for {}", self.request.recipe.name, self.request.kernel);
        anyhow::Error::new(PrepareError { findings, log: self.log.clone() }).context(Advice {
            message,
            remedy,
            exit: Exit::Undecided,
        })
    }

    /// Our module that is in place, if nothing is wrong with it.
    fn reuse(&mut self, lock: &WriteLock) -> Result<Option<Prepared>> {
        let (host, request) = (self.host, self.request);
        let (kernel, recipe) = (request.kernel, request.recipe);
        let start = Instant::now();
        let mut modules = Vec::new();
        let mut findings = Vec::new();
        let mut version = None;
        let target = Target::load(host, kernel);
        for name in &recipe.modules {
            let Some(path) = install::installed_module(host, kernel, name) else { return Ok(None) };
            let Ok(bytes) = host.read(&path) else { return Ok(None) };
            let devices = if name == recipe.module() { request.devices } else { &[] };
            let checked = check::check(&target, &bytes, devices);
            if checked.findings.iter().any(|f| f.severity == Severity::Unsafe) {
                return Ok(None);
            }
            if name == recipe.module() {
                version = checked.version;
            }
            findings.extend(checked.findings);
            modules.push(path);
        }
        let known = |v: &String| recipe.candidates(kernel).iter().any(|r| r.version == *v);
        let Some(version) = version.filter(known) else { return Ok(None) };
        let resolves = || {
            recipe.modules.iter().all(|name| {
                let devices = if name == recipe.module() { request.devices } else { &[] };
                install::resolves(host, kernel, name, devices).is_ok()
            })
        };
        if !resolves() {
            // A run that died between rename and depmod left this.
            install::depmod(host, kernel)?;
            if !resolves() {
                return Ok(None);
            }
        }
        let names: Vec<&str> = recipe.modules.iter().map(String::as_str).collect();
        initramfs::refresh(host, lock, kernel, request.initrds, &names)?;
        let stages = vec![("verify", start.elapsed())];
        Ok(Some(Prepared { version, modules, findings, stages, log: None, sandbox: None, reused: true }))
    }

    /// A private directory for this run.
    fn work_dir(&self) -> Result<Work> {
        let dir = self.host.path(WORK);
        // The build user goes through it where there are no namespaces.
        files::create_dirs(&dir, 0o711)?;
        let work = tempfile::Builder::new()
            .prefix("run-")
            .tempdir_in(&dir)
            .with_context(|| format!("making a directory in {}", dir.display()))?;
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(work.path(), fs::Permissions::from_mode(0o711))?;
        Ok(Work(work.keep()))
    }

    /// One release, up to modules that were verified.
    fn one(&mut self, tree: &BuildTree, release: Option<&Release>, work: &Path) -> Result<Tried> {
        let (host, config, request) = (self.host, self.config, self.request);
        let (kernel, recipe) = (request.kernel, request.recipe);
        let archive = self.stage("fetch", || match (release, &request.source) {
            (Some(release), _) => fetch(host, &config.fetch, recipe, release, self.progress),
            (None, Some((file, sha256))) => local_archive(file, sha256),
            (None, None) => anyhow::bail!("neither a release nor an archive"),
        });
        let archive = self.timed(archive)?;
        let jobs = build::jobs(request.jobs, config.build.jobs);
        let mut sandbox = Sandbox::new(host, &config.build, work, tree, jobs)?;
        self.contained = Some(sandbox.containment());
        let source = self.stage("unpack", || {
            let source = unpack(&archive, &sandbox.build_dir(), recipe)?;
            sandbox.hand_over()?;
            Ok(source)
        });
        let source = self.timed(source)?;
        let version = match (release, source.version()) {
            (Some(release), _) => release.version.clone(),
            (None, Some(version)) => version.to_owned(),
            (None, None) => "unknown".to_owned(),
        };
        let stem = format!(
            "{kernel}-{}-{}",
            recipe.name,
            version.replace(|c: char| !c.is_ascii_alphanumeric() && !"._+~-".contains(c), "_")
        );
        let (mut log, none) = Log::create(host, &stem);
        self.log = log.name().map(Path::to_owned);
        if let Some(e) = none {
            self.progress.note(&format!("no log is written: {e:#}"));
        }
        self.progress.begin(None, &format!("building {} {version} for {kernel}", recipe.name));
        let spec = build::make(tree, recipe, release, jobs, Duration::from_secs(config.build.timeout));
        let promised = sandbox.containment();
        let on = Subject { host, recipe, tree };
        let built = self.stage("build", || build::build(&mut sandbox, on, &source, &spec, &mut log));
        self.progress.end();
        let contained = sandbox.containment();
        self.contained = Some(contained);
        if contained != promised {
            self.progress.note(&format!("{kernel}: the build was contained less than this system promised: {contained}"));
        }
        match self.timed(built)? {
            Ok(modules) => self.verify(tree, work, version, modules),
            Err(Failure { finding, try_another, lasts }) => {
                Ok(Tried::Failed { findings: vec![finding], try_another, lasts })
            }
        }
    }

    /// Signs and verifies: of what is installed later, no byte changes after this.
    fn verify(&mut self, tree: &BuildTree, work: &Path, version: String, built: Vec<BuiltModule>) -> Result<Tried> {
        let (host, request) = (self.host, self.request);
        let private = work.join("sign");
        files::create_dirs(&private, 0o700)?;
        let start = Instant::now();
        let target = Target::load(host, request.kernel);
        let mut verified = Verified { version, modules: Vec::new(), findings: Vec::new() };
        for BuiltModule { name, bytes } in built {
            let bytes = sign::sign(host, &self.config.sign, tree, &private, &name, bytes)?;
            let devices = if name == request.recipe.module() { request.devices } else { &[] };
            verified.findings.extend(check::check_built(&target, &bytes, devices).findings);
            verified.modules.push(VerifiedModule { name, bytes });
        }
        self.stages.push(("verify", start.elapsed()));
        if verified.findings.iter().any(|f| f.severity == Severity::Unsafe) {
            // Keys, modprobe.d and modules that it needs are mended without a word to source, tree or compiler.
            let lasts = verified.findings.iter().any(|f| f.severity == Severity::Unsafe && f.code.is_of_the_build());
            return Ok(Tried::Failed { findings: verified.findings, try_another: true, lasts });
        }
        Ok(Tried::Verified(verified))
    }

    fn install(
        &mut self,
        lock: &WriteLock,
        tree: &BuildTree,
        verified: Verified,
        failures: Vec<Finding>,
    ) -> Result<Prepared> {
        let Request { devices, initrds, .. } = *self.request;
        failpoint::hit("verified-before-install");
        let installed =
            self.stage("install", || install::install(self.host, lock, tree, &verified.modules, devices, initrds));
        let modules = self.timed(installed)?;
        let mut findings = verified.findings;
        // Said, so that nobody wonders why it is not the first choice.
        findings.extend(failures.into_iter().map(|f| Finding::info(f.code, f.detail)));
        Ok(Prepared {
            version: verified.version,
            modules,
            findings,
            stages: self.stages.clone(),
            log: self.log.clone(),
            sandbox: self.contained,
            reused: false,
        })
    }

    fn stage<T>(&self, name: &'static str, act: impl FnOnce() -> Result<T>) -> (&'static str, Duration, Result<T>) {
        let start = Instant::now();
        let result = act();
        (name, start.elapsed(), result)
    }

    fn timed<T>(&mut self, (name, time, result): (&'static str, Duration, Result<T>)) -> Result<T> {
        self.stages.push((name, time));
        result
    }
}
