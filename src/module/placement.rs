//! Whether modprobe would load a module file: depmod's tables, other copies, blacklists, dependencies.

use super::file::Module;
use super::name_of;
use super::target::Target;
use super::verify::{providers, verify};
use crate::finding::{Fact, Finding};
use crate::host::{locks, Host};
use crate::kernel::installed::modules_dir;
use crate::kernel::KernelRelease;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The suffixes of module files.
const MODULES: [&str; 4] = [".ko", ".ko.gz", ".ko.xz", ".ko.zst"];

/// Modules are a few directories deep (`kernel/drivers/net/ethernet/intel/ixgbevf`).
const MAX_DEPTH: u32 = 12;
/// The directory of K's in-tree modules; `modules.order` lists them.
const OWN: &str = "kernel";
/// The directory below it into which makefiles of network drivers install before there was `updates`: directly, in `ethernet/VENDOR`, or in
/// a directory with the driver's name in one of those.
const OWN_NET: &str = "kernel/drivers/net";

/// Every copy of a module in K's module directory, below the root.
pub fn on_disk(host: &Host, release: &KernelRelease, name: &str) -> Vec<PathBuf> {
    Files::find(host, release).of(host, name)
}

/// The module files of a kernel. Directories outside the in-tree modules, and those into which makefiles install network drivers, are
/// walked. For the rest `modules.order` is read: thousands of lines, but no walk.
pub(super) struct Files {
    seen: Seen,
    /// The directory of the kernel's modules, with `modules.order`.
    dir: PathBuf,
    order: Vec<u8>,
}

/// The results of a walk.
#[derive(Default)]
struct Seen {
    modules: Vec<PathBuf>,
    /// Directories that could not be entered.
    closed: Vec<PathBuf>,
}

impl Files {
    /// Walks the directories.
    pub(super) fn find(host: &Host, release: &KernelRelease) -> Files {
        let dir = modules_dir(release);
        let mut seen = Seen::default();
        walk_beside(host, &dir, &mut seen);
        let order = host.read(dir.join("modules.order")).unwrap_or_default();
        Files { seen, dir, order }
    }

    /// Whether the kernel's build made a file with this path below its module directory; unknown without `modules.order`.
    pub(super) fn lists(&self, inside: &Path) -> Option<bool> {
        let name = inside.as_os_str().as_encoded_bytes();
        let end = [".xz", ".gz", ".zst"].iter().find_map(|e| name.strip_suffix(e.as_bytes())).unwrap_or(name);
        let mut own = self.order.split(|&b| b == b'\n').filter(|l| l.starts_with(b"kernel/")).peekable();
        own.peek()?;
        Some(own.any(|line| line == end))
    }

    /// All copies of one module.
    pub(super) fn of(&self, host: &Host, name: &str) -> Vec<PathBuf> {
        let name = name.replace('-', "_");
        let mut beneath = Seen::default();
        for own in self.seen.closed.iter().filter(|d| d.file_name().is_some_and(|d| named(d.as_encoded_bytes(), &name))) {
            walk(host, own, &host.path(own), MAX_DEPTH, &mut beneath);
        }
        let is = |p: &&PathBuf| p.file_name().is_some_and(|f| names(f.as_encoded_bytes(), &name));
        let mut found: Vec<PathBuf> = self.seen.modules.iter().chain(&beneath.modules).filter(is).cloned().collect();
        for file in self.order.split(|&b| b == b'\n').filter(|l| names(l, &name)) {
            let plain = self.dir.join(String::from_utf8_lossy(file).as_ref());
            let packed = ["", ".xz", ".gz", ".zst"].map(|ext| PathBuf::from(format!("{}{ext}", plain.display())));
            found.extend(packed.into_iter().filter(|p| host.is_file(p)));
        }
        let mut seen = std::collections::HashSet::new();
        found.retain(|p| seen.insert(p.clone()));
        found
    }
}

/// Whether this is the path of a module's file, compressed or not: [`name_of`] for thousands of paths.
fn names(path: &[u8], name: &str) -> bool {
    let is = |stem: &[u8]| {
        let Some((dir, stem)) = stem.len().checked_sub(name.len()).map(|at| stem.split_at(at)) else { return false };
        named(stem, name) && dir.last().is_none_or(|&b| b == b'/')
    };
    MODULES.iter().any(|ending| path.strip_suffix(ending.as_bytes()).is_some_and(is))
}

fn named(stem: &[u8], name: &str) -> bool {
    stem.iter().map(|&b| if b == b'-' { b'_' } else { b }).eq(name.bytes())
}

fn walk_beside(host: &Host, dir: &Path, seen: &mut Seen) {
    let ordered = host.is_file(dir.join("modules.order"));
    for entry in host.read_dir(dir).unwrap_or_default() {
        let path = dir.join(&entry);
        if entry == "build" || entry == "source" || (entry == OWN && ordered) {
            continue;
        }
        if is_module(&entry) && host.is_file(&path) {
            seen.modules.push(path);
        } else if !entry.to_string_lossy().contains('.') {
            walk(host, &path, &host.path(&path), MAX_DEPTH, seen);
        }
    }
    let net = dir.join(OWN_NET);
    let ethernet = net.join("ethernet");
    walk(host, &net, &host.path(&net), 0, seen);
    walk(host, &ethernet, &host.path(&ethernet), 1, seen);
}

fn is_module(file: &OsStr) -> bool {
    MODULES.iter().any(|ending| file.as_encoded_bytes().ends_with(ending.as_bytes()))
}

/// `real` is the resolved path of `dir`: below a root only links have to be resolved again.
fn walk(host: &Host, dir: &Path, real: &Path, depth: u32, seen: &mut Seen) {
    let Ok(entries) = std::fs::read_dir(real) else { return };
    let mut names: Vec<_> = entries.flatten().map(|e| (e.file_name(), e.file_type())).collect();
    names.sort_by(|a, b| a.0.cmp(&b.0));
    for (entry, kind) in names {
        let path = dir.join(&entry);
        let Ok(kind) = kind else { continue };
        let beneath = if kind.is_symlink() { host.path(&path) } else { real.join(&entry) };
        if kind.is_dir() || (kind.is_symlink() && beneath.is_dir()) {
            match depth {
                0 => seen.closed.push(path),
                _ => walk(host, &path, &beneath, depth - 1, seen),
            }
        } else if is_module(&entry) && (kind.is_file() || beneath.is_file()) {
            seen.modules.push(path);
        }
    }
}

/// Checks what keeps a module file from being loaded for a device. `module` is the content of the file, if it can be read; `cmdline` is
/// K's.
pub fn check_placement(
    host: &Host,
    target: &Target,
    name: &str,
    path: &Path,
    module: Option<&Module>,
    cmdline: &str,
) -> Vec<Finding> {
    let name = name.replace('-', "_");
    let k = &target.release;
    let depmod = format!("depmod {k}");
    let mut findings = Vec::new();
    for problem in target.index.problems() {
        findings.push(Finding::new(Fact::DepmodStale, format!("{problem}, so modprobe loads nothing by it"), &depmod));
    }
    findings.extend(chosen(host, target, &name, path));
    if let Some(why) = target.index.modprobe().refuses(&name, cmdline) {
        let detail = format!("{name} will not be loaded: {why}");
        findings.push(Finding::new(Fact::Blacklisted, detail, "take that line or word away"));
    }
    for what in &target.index.modprobe().unreadable {
        let detail = format!("{name} may be blacklisted: {what}");
        findings.push(Finding::new(Fact::BlacklistUnreadable, detail, "make it readable, or remove it"));
    }
    if let Some(word) = early_blacklist(&name, cmdline) {
        let detail = format!("{name} is not loaded before the root is mounted: `{word}` on the kernel command line");
        findings.push(Finding::new(Fact::BlacklistedEarly, detail, "take that word away"));
    }
    if let Some(module) = module {
        findings.extend(stale(target, module, &depmod));
        findings.extend(dependencies(host, target, module, cmdline));
        findings.extend(soft(host, target, module, cmdline));
    }
    findings
}

/// Compares the copy that the tables name with the one that depmod would choose.
fn chosen(host: &Host, target: &Target, name: &str, path: &Path) -> Option<Finding> {
    let k = &target.release;
    let copies = target.files().of(host, name);
    let best = target.order().choose(&modules_dir(k), &copies);
    let same = |a: &Path, b: &Path| a == b || host.path(a) == host.path(b);
    let Some(listed) = target.module_file(name) else {
        let detail = format!("modules.dep does not know {}", path.display());
        return Some(Finding::new(Fact::DepmodStale, detail, format!("depmod {k}")));
    };
    if same(&listed, path) {
        let other = best.filter(|b| !same(b, path))?;
        let detail = format!("modules.dep names {}; the next depmod will take {}", path.display(), other.display());
        let remedy = format!("remove the copy that is not wanted, then depmod {k}");
        return Some(Finding::new(Fact::ShadowedAfterDepmod, detail, remedy));
    }
    Some(if best.is_some_and(|b| same(b, path)) {
        let detail = format!("modules.dep names {} and not {}, which depmod would take", listed.display(), path.display());
        Finding::new(Fact::DepmodStale, detail, format!("depmod {k}"))
    } else {
        let detail = format!("modprobe would load {} instead of {}", listed.display(), path.display());
        let remedy = format!(
            "give its directory the first place in a search line of /etc/depmod.d, or remove {}; then depmod {k}",
            listed.display()
        );
        Finding::new(Fact::Shadowed, detail, remedy)
    })
}

/// dracut's parameter; it has no effect after the root is mounted.
fn early_blacklist<'c>(name: &str, cmdline: &'c str) -> Option<&'c str> {
    let listed = |word: &&str| {
        word.strip_prefix("rd.driver.blacklist=").is_some_and(|l| l.split(',').any(|m| m.replace('-', "_") == name))
    };
    cmdline.split_whitespace().find(listed)
}

/// Checks whether the tables describe this file or an earlier one of its name.
fn stale(target: &Target, module: &Module, depmod: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let unknown: Vec<&String> =
        module.aliases.iter().filter(|a| a.contains(':') && !target.index.knows_alias(a, &module.name)).collect();
    if let Some(first) = unknown.first() {
        let (n, all) = (unknown.len(), module.aliases.len());
        let detail = format!("modules.alias does not know {n} of the {all} aliases of {}, first: {first}", module.name);
        findings.push(Finding::new(Fact::DepmodStale, detail, depmod));
    }
    let listed: Vec<String> =
        target.index.dependencies(&module.name).iter().map(|p| name_of(&p.to_string_lossy())).collect();
    if let Some(first) = providers(module, target).into_iter().find(|p| !listed.contains(p)) {
        let detail = format!("{} takes symbols from {first}, and modules.dep does not say so", module.name);
        findings.push(Finding::new(Fact::DepmodStale, detail, depmod));
    }
    findings
}

/// Checks that each module that must be loaded first would load, and that its symbol versions are those that this module imports.
fn dependencies(host: &Host, target: &Target, module: &Module, cmdline: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let all = target.index.dependencies(&module.name);
    let listed: Vec<String> = all.iter().map(|p| name_of(&p.to_string_lossy())).collect();
    for path in all {
        if let Some(why) = hindered(host, target, module, &path, &listed, cmdline) {
            findings.push(Finding::new(
                Fact::DependencyMissing,
                format!("{} needs {}: {why}", module.name, path.display()),
                format!("install the package of {} that holds it, then depmod {0}", target.release),
            ));
        }
    }
    findings
}

/// Checks the soft dependencies. modprobe continues without them, so none of them makes the module unsafe.
fn soft(host: &Host, target: &Target, module: &Module, cmdline: &str) -> Vec<Finding> {
    let configured = target.index.modprobe().softdeps(&module.name);
    let mut names: Vec<&str> = Vec::new();
    for word in module.softdeps.iter().chain(configured).flat_map(|l| l.split_whitespace()) {
        if !word.ends_with(':') && !names.contains(&word) {
            names.push(word);
        }
    }
    let mut findings = Vec::new();
    for name in names.into_iter().filter(|n| !target.is_builtin(n)) {
        let detail = format!("{} is to be loaded together with {name} (softdep)", module.name);
        match target.module_file(name) {
            Some(path) => {
                let needs = target.index.dependencies(name);
                let listed: Vec<String> = needs.iter().map(|p| name_of(&p.to_string_lossy())).collect();
                if let Some(why) = hindered(host, target, module, &path, &listed, cmdline) {
                    let detail = format!("{detail}, which would not load: {why}");
                    let remedy =
                        format!("install it again, then depmod {}; or take it out of the softdep line", target.release);
                    findings.push(Finding::new(Fact::SoftDependencyBroken, detail, remedy));
                }
            }
            // The name may be an alias, such as that of an algorithm.
            None if target.resolve_alias(name).is_empty() => {
                let detail = format!("{detail}, which {} does not have; it is loaded without", target.release);
                findings.push(Finding::new(Fact::SoftDependencyMissing, detail, ""));
            }
            None => {}
        }
    }
    findings
}

/// Why the file of a dependency would not load. `listed`: the modules that modprobe loads for it, by modules.dep.
fn hindered(host: &Host, target: &Target, module: &Module, path: &Path, listed: &[String], cmdline: &str) -> Option<String> {
    let bytes = match host.read(path) {
        Ok(bytes) => bytes,
        Err(e) => return Some(e.to_string()),
    };
    let dependency = match Module::read(bytes) {
        Ok(dependency) => dependency,
        Err(finding) => return Some(finding.detail),
    };
    if let Some(finding) = verify(&dependency, target, &[]).into_iter().find(|f| f.refuses()) {
        return Some(finding.detail);
    }
    let wanted = |offer: &super::Offer| module.versions.iter().find(|(n, crc)| *n == offer.name && Some(*crc) != offer.crc);
    if let Some((symbol, _)) = dependency.offers.iter().filter(|_| target.modversions() != Some(false)).find_map(wanted) {
        return Some(format!("its version of {symbol} is another"));
    }
    if let Some(first) = providers(&dependency, target).into_iter().find(|p| !listed.contains(p)) {
        return Some(format!("it takes symbols from {first}, and modules.dep does not say so"));
    }
    target.index.modprobe().refuses_as_dependency(&name_of(&path.to_string_lossy()), cmdline)
}

/// Checks that the initramfs of K's boot entry exists.
pub fn initramfs_findings(host: &Host, release: &KernelRelease, initrds: &[PathBuf]) -> Vec<Finding> {
    let missing = initrds.iter().filter(|p| !host.is_file(p));
    let say = |path: &PathBuf| {
        if let Some(lock) = locks::held(host) {
            let detail = format!("{} is not there yet: a package manager is at work ({lock} is locked)", path.display());
            return Finding::new(Fact::PackageManagerAtWork, detail, "wait until it is done, then: vfguard reconcile");
        }
        Finding::new(
            Fact::InitramfsMissing,
            format!("the boot entry of {release} names {} and it is not there", path.display()),
            format!("vfguard reconcile, or dracut --kver {release} (EL, Fedora), update-initramfs -c -k {release} (Debian)"),
        )
    };
    missing.map(say).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_found_where_makefiles_and_packages_put_them() {
        let dir = tempfile::tempdir().unwrap();
        let release: KernelRelease = "6.1.0-56-amd64".parse().unwrap();
        let mut wanted = vec![
            "updates/a/b/my-nic.ko",
            "weak-updates/my_nic.ko.gz",
            "kernel/drivers/net/my_nic.ko",
            "kernel/drivers/net/my-nic/my_nic.ko",
            "kernel/drivers/net/ethernet/intel/my_nic.ko.zst",
            "kernel/drivers/net/ethernet/intel/my_nic/src/my-nic.ko.xz",
            "kernel/net/my-nic.ko.xz",
        ];
        let others = ["updates/my_nic2.ko", "updates/not_my_nic.ko", "kernel/drivers/net/ethernet/intel/my_nic/other.ko"];
        for file in wanted.iter().chain(&others) {
            let path = dir.path().join("lib/modules").join(&release).join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let order = dir.path().join("lib/modules").join(&release).join("modules.order");
        std::fs::write(order, "kernel/net/not-my-nic.ko\nkernel/net/my-nic.ko\nkernel/gone/my-nic.ko\n").unwrap();
        let modules = modules_dir(&release);
        let found = on_disk(&Host::new(dir.path()).unwrap(), &release, "my-nic");
        let mut found: Vec<&str> = found.iter().filter_map(|p| p.strip_prefix(&modules).ok()?.to_str()).collect();
        found.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(found, wanted);
    }
}
