//! K's own build tree, and proof that it is K's: a build against another kernel's headers succeeds without an error, and the resulting
//! module does not load.
//!
//! Layouts: one tree (EL's `/usr/src/kernels/K`), sources and generated files apart (Debian's `linux-headers-*-common` beside
//! `linux-headers-K`), one tree of links into another (Ubuntu).

use super::installed::modules_dir;
use super::KernelRelease;
use crate::finding::{Fact, Finding};
use crate::host::Host;
use crate::packages::Packages;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The header with the release of a tree; the first that exists decides, since vermagic comes from it. (Debian 6.1's `kernel.release` has
/// the bare version, and its makefile overrides it.) Before 2.6.33 the header was in `include/linux`.
const UTS_HEADERS: [&str; 2] = ["include/generated/utsrelease.h", "include/linux/utsrelease.h"];
/// The release of a tree whose headers were not generated yet.
const RELEASE_FILE: &str = "include/config/kernel.release";

/// The build tree of one kernel; every path has its links resolved and is below the root.
#[derive(Clone, Debug)]
pub struct BuildTree {
    /// The kernel to which it is proven to belong.
    pub release: KernelRelease,
    /// `KSRC`: where the makefiles and most headers are.
    pub ksrc: PathBuf,
    /// `KOBJ`: configuration and generated files, if they are in a separate tree.
    pub kobj: Option<PathBuf>,
    /// `Module.symvers`, which exists.
    pub symvers: PathBuf,
    // Both trees and every directory to which their links lead.
    directories: Vec<PathBuf>,
    config: String,
}

impl BuildTree {
    /// Every directory that a build of this kernel reads: the trees, and the targets of their links.
    pub fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    /// The directory of the configuration and the generated files.
    pub fn objects(&self) -> &Path {
        self.kobj.as_deref().unwrap_or(&self.ksrc)
    }

    /// A setting of `include/config/auto.conf`, without quotes.
    pub fn config(&self, name: &str) -> Option<&str> {
        let value = self.config.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('='))?;
        Some(value.trim().trim_matches('"'))
    }

    /// Whether a setting is `y`.
    pub fn is_set(&self, name: &str) -> bool {
        self.config(name) == Some("y")
    }

    /// The compiler that K was built with, by its own description: `gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0`; for kernels before 4.18 from
    /// their generated headers.
    pub fn compiler(&self) -> Option<String> {
        let header = || super::compiler::named_in(|header| fs::read_to_string(self.objects().join(header)).ok());
        self.config("CONFIG_CC_VERSION_TEXT").map(str::to_owned).or_else(header)
    }

    /// Whether the makefile quotes the compiler's name although the configuration has quotes already: then makefile and configuration
    /// belong to different kernels (`auto.conf` has quotes until 5.16).
    pub fn quotes_twice(&self) -> bool {
        let name = "CONFIG_CC_VERSION_TEXT";
        let quoted = self.config.lines().any(|l| l.strip_prefix(name).is_some_and(|rest| rest.starts_with("=\"")));
        let makefiles = [self.objects(), &self.ksrc].map(|dir| fs::read_to_string(dir.join("Makefile")).unwrap_or_default());
        let asked = format!("\"$({name})\"");
        makefiles.iter().any(|m| quoted && m.contains(&asked) || m.contains("\"\"gcc") || m.contains("\"\"clang"))
    }

    /// Whether the build generates type information from `vmlinux`, for which it needs pahole; without pahole make deletes the module that
    /// it has just linked.
    pub fn needs_pahole(&self) -> bool {
        self.is_set("CONFIG_DEBUG_INFO_BTF_MODULES") && self.objects().join("vmlinux").is_file()
    }

    /// A program of the tree, such as `scripts/sign-file`.
    pub fn script(&self, host: &Host, path: &str) -> Option<PathBuf> {
        [self.objects(), &self.ksrc].iter().map(|d| host.path(host.name(d).join(path))).find(|p| p.is_file())
    }
}

/// The build tree of a kernel, looked for once, when it is first needed. Each build uses a new one.
#[derive(Debug)]
pub struct Tree<'a> {
    /// The machine on which it is looked for.
    pub host: &'a Host,
    /// The kernel.
    pub release: &'a KernelRelease,
    found: OnceLock<Result<BuildTree, Finding>>,
}

impl<'a> Tree<'a> {
    /// A tree that was not looked for yet.
    pub fn of(host: &'a Host, release: &'a KernelRelease) -> Tree<'a> {
        Tree { host, release, found: OnceLock::new() }
    }

    /// The result of [`build_tree`].
    ///
    /// # Errors
    /// Those of [`build_tree`].
    pub fn get(&self) -> Result<&BuildTree, &Finding> {
        self.found.get_or_init(|| build_tree(self.host, self.release)).as_ref()
    }
}

/// Finds the build tree of a kernel: `lib/modules/K/build` below the root, else `usr/src/kernels/K`, else `usr/src/linux-headers-K`. Never
/// another kernel's.
///
/// # Errors
/// A finding `headers-missing` if there is none, or it belongs to another kernel; `symvers-missing` if it could only build a module without
/// symbol versions.
pub fn build_tree(host: &Host, release: &KernelRelease) -> Result<BuildTree, Finding> {
    let link = modules_dir(release).join("build");
    let places =
        [link, PathBuf::from("/usr/src/kernels").join(release), PathBuf::from(format!("/usr/src/linux-headers-{release}"))];
    let Some(top) = places.iter().find(|p| host.is_dir(p)) else {
        return Err(missing(host, release, &format!("there is no build tree at {}", shown(&places))));
    };
    let top = real(host, top);
    let name = host.name(&top);
    match tree_release(&top) {
        None => {
            return Err(missing(host, release, &format!("{} does not say which kernel it is of", name.display())));
        }
        Some(other) if other != release.as_str() => {
            return Err(missing(
                host,
                release,
                &format!("{} is the build tree of {other}, not of {release}", name.display()),
            ));
        }
        Some(_) => {}
    }
    let (ksrc, kobj) = match source(host, release, &top) {
        Some(ksrc) if ksrc == top => (top.clone(), None),
        Some(ksrc) => (ksrc, Some(top.clone())),
        None => return Err(missing(host, release, &format!("{} holds no kernel headers", name.display()))),
    };
    let symvers = top.join("Module.symvers");
    if !fs::metadata(&symvers).is_ok_and(|m| m.is_file() && m.len() > 0) {
        return Err(Finding::new(
            Fact::SymversMissing,
            format!("{}/Module.symvers is missing: what is built without it has no symbol versions", name.display()),
            reinstall_headers(host, release),
        ));
    }
    let mut directories = BTreeSet::from([ksrc.clone()]);
    directories.extend(kobj.clone());
    for tree in [Some(&ksrc), kobj.as_ref()].into_iter().flatten() {
        linked(host, tree, 2, &mut directories);
    }
    let directories = directories.into_iter().collect();
    let config = fs::read_to_string(top.join("include/config/auto.conf")).unwrap_or_default();
    Ok(BuildTree { release: release.clone(), ksrc, kobj, symvers, directories, config })
}

/// The path with all links resolved; on the live machine [`Host::path`] leaves that to the kernel.
fn real(host: &Host, path: &Path) -> PathBuf {
    let path = host.path(path);
    if host.is_live() {
        fs::canonicalize(&path).unwrap_or(path)
    } else {
        path
    }
}

/// The release that a tree names as its own.
fn tree_release(tree: &Path) -> Option<String> {
    for header in UTS_HEADERS {
        if let Ok(text) = fs::read_to_string(tree.join(header)) {
            let line = text.lines().find_map(|l| l.trim().strip_prefix("#define UTS_RELEASE"))?;
            return Some(line.trim().trim_matches('"').to_owned());
        }
    }
    Some(fs::read_to_string(tree.join(RELEASE_FILE)).ok()?.trim().to_owned())
}

/// The sources of a tree: the tree itself, the target of `lib/modules/K/source`, or the tree that its makefile includes.
fn source(host: &Host, release: &KernelRelease, top: &Path) -> Option<PathBuf> {
    let holds_headers = |dir: &Path| dir.join("include/linux/module.h").is_file() && dir.join("Makefile").is_file();
    // A link of the tree may be absolute: below a root only the host resolves it.
    let inside = |dir: &Path| holds_headers(dir) || host.is_file(host.name(dir).join("include/linux/module.h"));
    if inside(top) {
        return Some(top.to_owned());
    }
    let makefile = fs::read_to_string(top.join("Makefile")).unwrap_or_default();
    let included = makefile.lines().find_map(|l| l.strip_prefix("include ")?.trim().strip_suffix("/Makefile"));
    let candidates = [included.map(PathBuf::from), Some(modules_dir(release).join("source"))];
    candidates.into_iter().flatten().map(|p| real(host, &p)).find(|p| holds_headers(p))
}

/// Collects the directories to which links in the upper levels of a tree lead: Debian's `scripts` and `tools`, all of Ubuntu's.
fn linked(host: &Host, dir: &Path, depth: u32, found: &mut BTreeSet<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_symlink() {
            if let Some(package) = package_dir(host, &real(host, &host.name(&entry.path()))) {
                found.insert(package);
            }
        } else if kind.is_dir() && depth > 1 {
            linked(host, &entry.path(), depth - 1, found);
        }
    }
}

/// `/usr/src/X`, `/usr/src/kernels/X` or `/usr/lib/X`: the package directory of a file of a build tree.
fn package_dir(host: &Host, file: &Path) -> Option<PathBuf> {
    let name = host.name(file);
    ["/usr/src/kernels", "/usr/src", "/usr/lib", "/lib"].iter().find_map(|parent| {
        let first = name.strip_prefix(parent).ok()?.components().next()?;
        let dir = real(host, &Path::new(parent).join(first));
        dir.is_dir().then_some(dir)
    })
}

fn shown(places: &[PathBuf]) -> String {
    let places: Vec<String> = places.iter().map(|p| p.display().to_string()).collect();
    places.join(", ")
}

fn missing(host: &Host, release: &KernelRelease, detail: &str) -> Finding {
    Finding::new(Fact::HeadersMissing, detail, install_headers(host, release))
}

/// The command that installs K's headers with this machine's package manager.
pub fn install_headers(host: &Host, release: &KernelRelease) -> String {
    let (deb, rpm) = (format!("linux-headers-{release}"), format!("kernel-devel-{release}"));
    Packages::of(host).map_or_else(|| format!("install the headers of {release} ({deb}, {rpm})"), |p| p.line(&deb, &rpm))
}

/// The command that restores missing files of K's headers.
pub fn reinstall_headers(host: &Host, release: &KernelRelease) -> String {
    install_headers(host, release).replace("apt-get install", "apt-get install --reinstall").replacen(
        " install kernel",
        " reinstall kernel",
        1,
    )
}
