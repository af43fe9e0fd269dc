//! Builds a module from a source tree: `make -jN BUILD_KERNEL=K KSRC=… [KOBJ=…]` in the sandbox, never `make install`.
//!
//! The result is held in memory. It is read through descriptors that were checked, so from then on no other process can
//! change it.

pub(super) mod cause;
pub(super) mod log;
pub(super) mod mistake;
mod packages;
pub(super) mod preflight;
mod reading;
pub(super) mod remedy;
mod signs;
mod toolchain;

use self::cause::{Cause, Diagnosis};
use self::log::Log;
use self::remedy::Subject;
use self::toolchain::Toolchain;
use super::recipe::Filling;
use super::sandbox::run::{Ended, Stop};
use super::sandbox::watch::free;
use super::sandbox::{self, Sandbox};
use super::{Recipe, Release, SourceTree};
use crate::finding::{Fact, Finding};
use crate::host::command::Spec;
use crate::host::MAX_FILE;
use crate::kernel::tree::BuildTree;
use crate::kernel::KernelRelease;
use anyhow::{Context, Result};
use nix::fcntl::{open, openat, OFlag};
use nix::sys::stat::Mode;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time limit for strip(1), which takes a tenth of a second.
const STRIP_LIMIT: Duration = Duration::from_secs(60);
/// The copies of extra symbol tables beside the source. No archive has a top directory that begins with a dot.
const SYMVERS: &str = ".Module.symvers.";
/// If more than this is free on the disk, the disk was not what ran out of space.
const ROOM: u64 = 64 << 20;
/// The largest makefile that is read to find the settings it asks for. Intel's longest has 100 kB.
const MAX_MAKEFILE: u64 = 1 << 20;
/// How deep below the recipe's directory vfguard looks for a module.
const MAX_DEPTH: u32 = 6;

/// A module that was built. Only its name is known so far.
#[derive(Debug)]
pub struct BuiltModule {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
}

/// A failed build.
#[derive(Debug)]
pub struct Failure {
    /// The finding to report.
    pub finding: Finding,
    /// Whether another release of the driver may build.
    pub try_another: bool,
    /// Whether source, tree and compiler alone caused it, so that the same build would fail again.
    pub lasts: bool,
}

/// Parallel jobs: the number asked for on the command line, else the configured one, else what cores and memory allow.
pub fn jobs(asked: Option<u32>, set: Option<u32>) -> u32 {
    asked.or(set).unwrap_or_else(sandbox::jobs).max(1)
}

/// The command that the recipe runs before make, if it has one.
pub fn before_make(tree: &BuildTree, recipe: &Recipe, limit: Duration) -> Option<Spec> {
    let (program, args) = recipe.prepare.split_first()?;
    let compiler = Toolchain::of(tree, recipe).compiler;
    let filling = Filling { kernel: &tree.release, source: &tree.ksrc, build: tree.objects(), compiler: &compiler };
    Some(Spec::new(program, args.iter().map(|arg| filling.fill(arg)), limit))
}

/// The make command of a build. `symvers` are the extra symbol tables, by their paths inside the sandbox.
pub fn make(
    tree: &BuildTree,
    recipe: &Recipe,
    release: Option<&Release>,
    symvers: &[PathBuf],
    jobs: u32,
    limit: Duration,
) -> Spec {
    let mut recipe = recipe.clone();
    // If the headers have no second directory, arguments with `{build}` are dropped. But if no argument has `{source}`,
    // `{build}` is the only name for the tree, so it stays.
    let names_source = recipe.make.iter().any(|a| a.contains("{source}"));
    recipe.make.retain(|a| tree.kobj.is_some() || !names_source || !a.contains("{build}"));
    let Toolchain { compiler, settings, .. } = Toolchain::of(tree, &recipe);
    let filling = Filling { kernel: &tree.release, source: &tree.ksrc, build: tree.objects(), compiler: &compiler };
    let args = recipe.make_args(release, &filling);
    let symvers: Vec<String> = symvers.iter().map(|path| path.display().to_string()).collect();
    let symvers = (!symvers.is_empty()).then(|| format!("KBUILD_EXTRA_SYMBOLS={}", symvers.join(" ")));
    Spec::new("make", std::iter::once(format!("-j{jobs}")).chain(args).chain(settings).chain(symvers), limit)
}

/// Copies the recipe's extra symbol tables to where the build may read them. Returns their paths inside the sandbox.
///
/// # Errors
/// When one cannot be read: the package that contains it is not installed for this kernel.
pub fn take_symvers(sandbox: &Sandbox<'_>, recipe: &Recipe, kernel: &KernelRelease) -> Result<Vec<PathBuf>, Finding> {
    let take = |(n, path): (usize, PathBuf)| {
        let copy = sandbox.build_dir().join(format!("{SYMVERS}{n}"));
        let bytes = sandbox.host.read(&path);
        bytes.and_then(|bytes| fs::write(&copy, bytes)).map(|()| sandbox.inside(&copy)).map_err(|e| {
            Finding::new(
                Fact::BuildFailed,
                format!("{}, which the recipe of {} names, cannot be read: {e}", path.display(), recipe.name),
                format!("install for {kernel} what brings {}, then: vfguard prepare {kernel}", path.display()),
            )
        })
    };
    recipe.symvers_of(kernel).into_iter().enumerate().map(take).collect()
}

/// The result of make.
pub(super) enum Made {
    /// The recipe's modules.
    Modules(Vec<BuiltModule>),
    /// No module, and the reason.
    Not(Failure),
}

/// Builds the modules of a recipe and strips them of debug information.
///
/// # Errors
/// When the sandbox cannot be created or files cannot be read. A driver that does not build is a [`Failure`].
pub fn build(
    sandbox: &mut Sandbox<'_>,
    on: Subject<'_>,
    source: &SourceTree,
    before: Option<&Spec>,
    spec: &Spec,
    log: &mut Log,
) -> Result<Made> {
    log.take(sandbox.bounds().as_bytes());
    if let Some(before) = before {
        log.take(format!("vfguard: {} in {}\n", before.line(), sandbox.inside(source.top()).display()).as_bytes());
        let ended = match sandbox.run(before, source.top(), &mut |bytes| log.take(bytes)) {
            Ok(ended) => ended,
            Err(e) if cannot_start(&e) => return Ok(Made::Not(mistake::not_started(on, before, &e, log))),
            Err(e) => return Err(e),
        };
        if !ended.success() {
            log.finish();
            let told = log.diagnose(on.tree.kobj.is_some());
            if ended.stopped.is_none() && !ended.killed() {
                return Ok(Made::Not(mistake::step_failed(on, before, &told.line, log)));
            }
            return Ok(Made::Not(failure(ended, before, sandbox, on, log)));
        }
        log.next_program();
    }
    let Some(dir) = source.directory() else {
        log.finish();
        return Ok(Made::Not(mistake::no_directory(on, log)));
    };
    log.take(format!("vfguard: {} in {}\n", spec.line(), sandbox.inside(&dir).display()).as_bytes());
    let ended = sandbox.run(spec, &dir, &mut |bytes| log.take(bytes))?;
    if !ended.success() {
        log.finish();
        return Ok(Made::Not(failure(ended, spec, sandbox, on, log)));
    }
    let mut modules = Vec::new();
    for name in on.recipe.all_modules() {
        let file = match find(&dir, name) {
            Ok(file) => file,
            Err(e) => {
                return Ok(Made::Not(failed(Cause::Other, false, &format!("{e:#}"), Cause::Other.remedy(on, ""), log)))
            }
        };
        let Some(file) = file else {
            if on.recipe.optional.contains(name) {
                continue;
            }
            log.finish();
            let built = mistake::unlisted(on, &dir);
            if !built.is_empty() {
                return Ok(Made::Not(mistake::other_modules(on, name, &built, log)));
            }
            let (detail, remedy) = remedy::nothing(on, &makefiles(&sandbox.build_dir(), &dir), name);
            return Ok(Made::Not(failed(Cause::Nothing, true, &detail, remedy, log)));
        };
        // strip runs as the build user, not as root: binutils parses a file that an untrusted makefile produced.
        let inside = sandbox.inside(&file);
        let strip = Spec::new("strip", ["--strip-debug".as_ref(), inside.as_os_str()], STRIP_LIMIT);
        log.next_program();
        let ended = sandbox.run(&strip, &dir, &mut |bytes| log.take(bytes))?;
        if !ended.success() {
            log.finish();
            return Ok(Made::Not(failure(ended, &strip, sandbox, on, log)));
        }
        match take(&sandbox.build_dir(), &file, MAX_FILE) {
            Ok(bytes) => modules.push(BuiltModule { name: name.clone(), bytes }),
            Err(e) => {
                let detail = format!("make left {name}.ko as something else than a file of its own ({})", e.root_cause());
                return Ok(Made::Not(failed(Cause::Other, false, &detail, Cause::Other.remedy(on, ""), log)));
            }
        }
    }
    log.finish();
    Ok(Made::Modules(modules))
}

/// Whether the program could not be started because of what it is, not because the machine ran out of something.
fn cannot_start(error: &anyhow::Error) -> bool {
    let kinds = [std::io::ErrorKind::NotFound, std::io::ErrorKind::PermissionDenied];
    let of = |e: &(dyn std::error::Error + 'static)| e.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    error.chain().filter_map(of).any(|kind| kinds.contains(&kind) || kind == std::io::ErrorKind::InvalidInput)
        || error.chain().any(|e| e.to_string().contains("Exec format error"))
}

fn failure(ended: Ended, spec: &Spec, sandbox: &Sandbox<'_>, on: Subject<'_>, log: &Log) -> Failure {
    let kernel = &on.tree.release;
    let told = log.diagnose(on.tree.kobj.is_some());
    let Diagnosis { cause, line, certain } = match ended.stopped {
        Some(Stop::Time) => {
            let detail = format!("the build did not end within {} s and was stopped", spec.limit.as_secs());
            let finding = Finding::new(
                Fact::BuildFailed,
                format!("{detail} ({})", log.mention()),
                format!(
                    "vfguard prepare {kernel}; should that take too long as well, raise build.timeout in {}",
                    crate::config::CONFIG
                ),
            );
            return Failure { finding, try_another: false, lasts: false };
        }
        Some(Stop::Disk) => {
            let detail = "the disk was nearly full and the build was stopped";
            return failed(Cause::Disk, true, detail, Cause::Disk.remedy(on, ""), log);
        }
        Some(Stop::TooLarge) => {
            return failed(Cause::TooLarge, true, &too_large(sandbox), Cause::TooLarge.remedy(on, ""), log);
        }
        Some(Stop::Memory) => {
            let bound = sandbox.memory_bound().unwrap_or_default();
            let detail = format!("a process of the build was killed for want of memory; a build may have {bound}");
            return failed(Cause::Killed, true, &detail, Cause::Killed.remedy(on, ""), log);
        }
        None if ended.killed() => {
            return failed(Cause::Killed, true, Cause::Killed.words(), Cause::Killed.remedy(on, ""), log);
        }
        None => told,
    };
    if let Some(mistake) = mistake::of_make(on, &line, log) {
        return mistake;
    }
    let cause = match cause {
        // "No space left" can mean the disk or the private /tmp, and blocks or inodes.
        Cause::Disk if sandbox.has_own_disk() => match what_is_full(free(&sandbox.build_dir())) {
            Cause::Disk | Cause::Inodes => Cause::TooLarge,
            cause => cause,
        },
        Cause::Disk if !line.contains("quota") => what_is_full(free(&sandbox.build_dir())),
        Cause::Flag if remedy::is_the_kernels(on) => Cause::OwnFlag,
        Cause::Quotes if !on.tree.quotes_twice() => Cause::Other,
        cause => cause,
    };
    let mut detail = match cause {
        Cause::TooLarge => format!("{}: {line}", too_large(sandbox)),
        cause => format!("{}: {line}", cause.words()),
    };
    if cause.is_the_compilers() {
        detail = format!("{detail}; {}", remedy::compilers(on));
    }
    failed(cause, certain, &detail, cause.remedy(on, &line), log)
}

fn too_large(sandbox: &Sandbox<'_>) -> String {
    format!("{} (it may have {})", Cause::TooLarge.words(), sandbox.disk_bound())
}

/// If the cause is only a guess, the next release is still tried and the failure is not remembered.
fn failed(cause: Cause, certain: bool, detail: &str, remedy: String, log: &Log) -> Failure {
    Failure {
        finding: Finding::new(Fact::BuildFailed, format!("{detail} ({})", log.mention()), remedy),
        try_another: cause.is_the_sources() || !certain,
        lasts: cause.lasts() && certain,
    }
}

/// Which resource a build used up when it reported "no space left". Its files still exist, so the free bytes and inodes of
/// the disk tell.
fn what_is_full(free: Option<(u64, u64)>) -> Cause {
    match free {
        Some((_, 0)) => Cause::Inodes,
        Some((bytes, _)) if bytes > ROOM => Cause::Temporary,
        Some(_) | None => Cause::Disk,
    }
}

/// The makefiles of a directory in the sandbox, concatenated.
fn makefiles(top: &Path, dir: &Path) -> String {
    let text = |name: &str| take(top, &dir.join(name), MAX_MAKEFILE).ok();
    let found = ["Kbuild", "Makefile", "makefile", "GNUmakefile"].into_iter().filter_map(text);
    found.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect::<Vec<_>>().join("\n")
}

/// Where make put a module: in its own directory or in one below it.
fn find(dir: &Path, name: &str) -> Result<Option<PathBuf>> {
    let file = format!("{name}.ko");
    // Kbuild names files by the object, the kernel names modules with `_`.
    let same = |n: &std::ffi::OsStr| n.to_string_lossy().replace('-', "_") == file.replace('-', "_");
    let mut found = Vec::new();
    let mut todo = vec![(dir.to_owned(), 0)];
    while let Some((dir, depth)) = todo.pop() {
        let entries = fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))?;
        for entry in entries.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth < MAX_DEPTH => todo.push((entry.path(), depth + 1)),
                // A symbolic link is returned as well; reading it is refused later.
                Ok(kind) if same(&entry.file_name()) => found.push((!kind.is_file(), depth, entry.path())),
                Ok(_) | Err(_) => {}
            }
        }
    }
    found.sort();
    Ok(found.into_iter().next().map(|(_, _, path)| path))
}

/// Reads a file that the build user made. Each directory on the way is opened without following symbolic links. The checks
/// are made on the open descriptor: a regular file of bounded size without a second hard link.
///
/// # Errors
/// When the file is not of that kind.
fn take(top: &Path, file: &Path, limit: u64) -> Result<Vec<u8>> {
    let act = || format!("taking {} out of the sandbox", file.display());
    let directory = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut at: OwnedFd = open(top, directory, Mode::empty()).with_context(act)?;
    let relative = file.strip_prefix(top).with_context(act)?;
    for part in relative.parent().into_iter().flat_map(Path::components) {
        at = openat(&at, part.as_os_str(), directory, Mode::empty()).with_context(act)?;
    }
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = File::from(openat(&at, relative.file_name().with_context(act)?, flags, Mode::empty()).with_context(act)?);
    let meta = file.metadata().with_context(act)?;
    anyhow::ensure!(meta.is_file(), "{}: not a regular file", act());
    anyhow::ensure!(meta.nlink() == 1, "{}: the file has another name elsewhere", act());
    anyhow::ensure!(meta.len() <= limit, "{}: larger than {limit} bytes", act());
    let mut bytes = Vec::with_capacity(meta.len() as usize);
    file.take(limit).read_to_end(&mut bytes).with_context(act)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_planted_for_the_installer_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path();
        fs::create_dir_all(top.join("src/real")).unwrap();
        fs::write(top.join("secret"), "root's").unwrap();
        symlink(top.join("secret"), top.join("src/a.ko")).unwrap();
        fs::hard_link(top.join("secret"), top.join("src/b.ko")).unwrap();
        fs::write(top.join("src/real/c.ko"), "module").unwrap();
        symlink("real", top.join("src/link")).unwrap();
        nix::unistd::mkfifo(&top.join("src/d.ko"), Mode::S_IRWXU).unwrap();
        for bad in ["src/a.ko", "src/b.ko", "src/link/c.ko", "src/d.ko", "src/real"] {
            assert!(take(top, &top.join(bad), MAX_FILE).is_err(), "{bad} was taken");
        }
        assert_eq!(take(top, &top.join("src/real/c.ko"), MAX_FILE).unwrap(), b"module");
        assert_eq!(find(&top.join("src"), "c").unwrap(), Some(top.join("src/real/c.ko")));
    }

    #[test]
    fn no_space_left_means_the_disk_its_inodes_or_the_private_tmp() {
        assert_eq!(what_is_full(Some((1 << 20, 1000))), Cause::Disk);
        assert_eq!(what_is_full(Some((1 << 40, 0))), Cause::Inodes);
        assert_eq!(what_is_full(Some((1 << 40, 1000))), Cause::Temporary);
        assert_eq!(what_is_full(None), Cause::Disk);
    }

    #[test]
    fn jobs_are_as_asked_then_as_set_then_at_least_one() {
        assert_eq!(jobs(Some(3), Some(5)), 3);
        assert_eq!(jobs(None, Some(5)), 5);
        assert!(jobs(None, None) >= 1);
    }
}
