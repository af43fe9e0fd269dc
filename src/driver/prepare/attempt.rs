//! One attempt: one release, or the archive that a person named, up to verified modules.

use super::Run;
use crate::driver::build::log::Log;
use crate::driver::build::remedy::Subject;
use crate::driver::build::{self, BuiltModule, Failure, Made};
use crate::driver::fetch::NotFetched;
use crate::driver::install::sign;
use crate::driver::install::verified::{verified, VerifiedSet};
use crate::driver::sandbox::{self, Apart, Sandbox};
use crate::driver::unpack::{self, unpack};
use crate::driver::{fetch, local_archive, Release, VerifiedArchive};
use crate::error::Remedy;
use crate::finding::{Fact, Finding};
use crate::host::files;
use crate::kernel::tree::BuildTree;
use anyhow::Result;
use std::path::Path;
use std::time::{Duration, Instant};

/// The result for one release.
pub(super) enum Tried {
    Verified(Verified),
    Failed(Failed),
}

/// Why a release does not work.
pub(super) struct Failed {
    /// At least one of them refuses.
    pub findings: Vec<Finding>,
    /// Whether another release may work.
    pub try_another: bool,
    /// Whether the same attempt would fail again.
    pub lasts: bool,
}

impl Failed {
    fn because(finding: Finding, try_another: bool, lasts: bool) -> Failed {
        Failed { findings: vec![finding], try_another, lasts }
    }
}

/// The result of building one release.
enum Built {
    /// Modules as make left them, with their version.
    Modules(String, Vec<BuiltModule>),
    /// No module, and the reason.
    Not(Failed),
}

/// Verified modules, with their version.
pub(super) struct Verified {
    pub version: String,
    pub set: VerifiedSet,
}

impl Run<'_> {
    /// Tries one release, up to verified modules.
    pub(super) fn one(&mut self, tree: &BuildTree, release: Option<&Release>, work: &Path) -> Result<Tried> {
        let (host, config, request) = (self.host, self.config, self.request);
        let recipe = request.recipe;
        let archive = self.stage("fetch", || match (release, &request.source) {
            (Some(release), _) => fetch(host, &config.fetch, recipe, release, &self.unanswered, self.progress),
            (None, Some((file, sha256))) => local_archive(file, sha256),
            (None, None) => anyhow::bail!("neither a release nor an archive"),
        });
        let archive = match self.timed(archive) {
            Ok(archive) => archive,
            Err(e) => match (release, e.downcast_ref::<NotFetched>()) {
                (Some(release), Some(_)) => {
                    return Ok(Tried::Failed(Failed::because(self.not_fetched(release, &e), true, false)));
                }
                (_, _) => return Err(e),
            },
        };
        self.archive = Some((archive.sha256(), archive.origin().to_string()));
        let built = sandbox::apart(|apart| self.build(tree, release, &archive, work, apart));
        let built = built.remedy(
            "starting a thread for a build, most often for want of memory",
            format!(
                "end what takes the memory or the processes of this machine; then: vfguard prepare {}",
                request.kernel()
            ),
        );
        match built?? {
            Built::Modules(version, modules) => self.verify(tree, work, version, modules),
            Built::Not(failed) => Ok(Tried::Failed(failed)),
        }
    }

    /// From an archive to modules. Runs in a thread of its own, because the build directory may exist only in that thread's
    /// mount namespace.
    fn build(
        &mut self,
        tree: &BuildTree,
        release: Option<&Release>,
        archive: &VerifiedArchive,
        work: &Path,
        apart: Result<Apart, String>,
    ) -> Result<Built> {
        let (host, config, request) = (self.host, self.config, self.request);
        let (kernel, recipe) = (request.kernel(), request.recipe);
        let jobs = build::jobs(request.jobs, config.build.jobs);
        let mut sandbox = Sandbox::new(host, &config.build, work, tree, jobs)?;
        sandbox.bound_disk(apart);
        self.contained = Some(sandbox.containment());
        let source = self.stage("unpack", || unpack(archive, &sandbox.build_dir(), recipe));
        let source = match self.timed(source) {
            Ok(source) => source,
            Err(e) if unpack::is_local(&e) => return Err(e),
            Err(e) => {
                let remedy = crate::error::remedy(&e).unwrap_or_default().replace("KERNEL", kernel.as_str());
                let finding = Finding::new(Fact::BuildFailed, format!("{e:#}"), remedy);
                return Ok(Built::Not(Failed::because(finding, true, true)));
            }
        };
        let symvers = match build::take_symvers(&sandbox, recipe, kernel) {
            Ok(symvers) => symvers,
            Err(finding) => return Ok(Built::Not(Failed::because(finding, false, false))),
        };
        sandbox.hand_over()?;
        // If the archive that a person named is a release of the recipe, it is built as that release.
        let pinned = || recipe.releases.iter().find(|r| r.sha256 == archive.sha256());
        let release = release.or_else(pinned).or_else(|| recipe.release(source.version()?));
        let version = release.map(|release| release.version.as_str()).or(source.version()).unwrap_or("unknown").to_owned();
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
        let limit = Duration::from_secs(config.build.timeout);
        let spec = build::make(tree, recipe, release, &symvers, jobs, limit);
        let before = build::before_make(tree, recipe, limit);
        let promised = sandbox.containment();
        let on = Subject { host, recipe, tree };
        let built = self.stage("build", || build::build(&mut sandbox, on, &source, before.as_ref(), &spec, &mut log));
        self.progress.end();
        let contained = sandbox.containment();
        self.contained = Some(contained);
        if contained != promised {
            self.progress.note(&format!("{kernel}: the build ran with weaker isolation than expected: {contained}"));
        }
        Ok(match self.timed(built)? {
            Made::Modules(modules) => Built::Modules(version, modules),
            Made::Not(Failure { finding, try_another, lasts }) => Built::Not(Failed::because(finding, try_another, lasts)),
        })
    }

    /// No place had the archive. The remedy names the kernel and the release.
    fn not_fetched(&self, release: &Release, error: &anyhow::Error) -> Finding {
        let (kernel, name) = (self.request.kernel(), &self.request.recipe.name);
        let remedy = crate::error::remedy(error).unwrap_or_default();
        let remedy = format!(
            "{remedy}; then: vfguard prepare {kernel}; or bring the archive: \
             vfguard prepare {kernel} --driver {name} --source FILE --sha256 {}",
            release.sha256
        );
        Finding::new(Fact::FetchFailed, format!("{error:#}"), remedy)
    }

    /// Signs and verifies. After this no byte changes of what is installed later.
    fn verify(&mut self, tree: &BuildTree, work: &Path, version: String, built: Vec<BuiltModule>) -> Result<Tried> {
        let (host, request) = (self.host, self.request);
        let private = work.join("sign");
        files::create_dirs(&private, 0o700)?;
        let start = Instant::now();
        let mut modules = Vec::new();
        for BuiltModule { name, bytes } in built {
            let bytes = sign::sign(host, &self.config.sign, tree, &private, &name, bytes)?;
            modules.push((name, bytes));
        }
        let verified = verified(host, request.kernel(), modules, request.recipe.module(), request.devices);
        self.stages.push(("verify", start.elapsed()));
        Ok(match verified {
            Ok(set) => Tried::Verified(Verified { version, set }),
            Err(findings) => {
                // Keys, modprobe.d and required modules can be fixed without a change of source, tree or compiler.
                let lasts = findings.iter().any(Finding::is_of_the_build);
                Tried::Failed(Failed { findings, try_another: true, lasts })
            }
        })
    }

    pub(super) fn stage<T>(
        &self,
        name: &'static str,
        act: impl FnOnce() -> Result<T>,
    ) -> (&'static str, Duration, Result<T>) {
        let start = Instant::now();
        let result = act();
        (name, start.elapsed(), result)
    }

    pub(super) fn timed<T>(&mut self, (name, time, result): (&'static str, Duration, Result<T>)) -> Result<T> {
        self.stages.push((name, time));
        result
    }
}
