//! What modprobe would make of a module file: the tables, other copies, blacklists, dependencies; and K's initramfs.

use super::elf::Module;
use super::name_of;
use super::target::Target;
use super::verify::verify;
use crate::finding::{Code, Finding, Verdict};
use crate::host::Host;
use crate::kernel::installed::modules_dir;
use crate::kernel::KernelRelease;
use std::path::{Path, PathBuf};

/// Where modules beside the kernel's own are put.
const EXTRA: [&str; 4] = ["updates", "extra", "weak-updates", "override"];
/// Where modprobe reads its settings (modprobe.d(5)).
const MODPROBE_D: [&str; 4] = ["/etc/modprobe.d", "/run/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d"];
/// Modules lie a few directories deep (`kernel/drivers/net/ethernet/intel/ixgbevf`).
const MAX_DEPTH: u32 = 10;

/// Every copy of a module in K's module directory, below the root: those beside the kernel's own by a walk, the kernel's own
/// from its `modules.order`, which is thousands of lines and no walk.
pub fn on_disk(host: &Host, release: &KernelRelease, name: &str) -> Vec<PathBuf> {
    let dir = modules_dir(release);
    let mut found = Vec::new();
    for extra in EXTRA {
        walk(host, &dir.join(extra), name, MAX_DEPTH, &mut found);
    }
    let order = host.read_text(dir.join("modules.order")).unwrap_or_default();
    let listed = order.lines().filter(|l| name_of(l) == name.replace('-', "_"));
    for file in listed {
        let plain = dir.join(file);
        let compressed = ["", ".xz", ".gz", ".zst"].map(|ext| PathBuf::from(format!("{}{ext}", plain.display())));
        found.extend(compressed.into_iter().find(|p| host.is_file(p)));
    }
    found
}

fn walk(host: &Host, dir: &Path, name: &str, depth: u32, found: &mut Vec<PathBuf>) {
    for entry in host.read_dir(dir).unwrap_or_default() {
        let path = dir.join(&entry);
        if host.is_dir(&path) {
            if depth > 0 {
                walk(host, &path, name, depth - 1, found);
            }
        } else if entry.to_string_lossy().contains(".ko") && name_of(&entry.to_string_lossy()) == name.replace('-', "_") {
            found.push(path);
        }
    }
}

/// What stands between a module file and its being loaded for a device: `cmdline` is K's.
pub fn check_placement(host: &Host, target: &Target, name: &str, path: &Path, cmdline: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let k = &target.release;
    let depmod = format!("depmod {k}");
    match target.module_file(name) {
        Some(chosen) if chosen == path => {}
        Some(chosen) => {
            let newer = host.metadata(path).and_then(|m| m.modified()).ok() > target.index.written;
            findings.push(if newer {
                Finding::refuse(
                    Code::DepmodStale,
                    format!("modules.dep is older than {} and names {}", path.display(), chosen.display()),
                    depmod,
                )
            } else {
                Finding::refuse(
                    Code::Shadowed,
                    format!("modprobe would load {} instead of {}", chosen.display(), path.display()),
                    format!(
                        "give updates its place in depmod.d's search line, or remove {}; then {depmod}",
                        chosen.display()
                    ),
                )
            });
        }
        None => findings.push(Finding::refuse(
            Code::DepmodStale,
            format!("modules.dep does not know {}", path.display()),
            depmod,
        )),
    }
    if let Some(why) = blacklisted(host, name, cmdline) {
        findings.push(Finding::refuse(
            Code::Blacklisted,
            format!("{name} will not be loaded: {why}"),
            "remove that line or word",
        ));
    }
    findings.extend(dependencies(host, target, name));
    findings
}

fn dependencies(host: &Host, target: &Target, name: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for path in target.index.dependencies(name) {
        let wrong = match host.read(&path) {
            Err(e) => Some(e.to_string()),
            Ok(bytes) => match Module::read(&bytes) {
                Err(finding) => Some(finding.detail),
                Ok(module) => {
                    let inner = verify(&module, target, &[]);
                    let reason =
                        inner.iter().find(|f| f.severity == crate::finding::Severity::Unsafe).map(|f| f.detail.clone());
                    reason.filter(|_| Verdict::of(&inner) != Verdict::Safe)
                }
            },
        };
        if let Some(why) = wrong {
            findings.push(Finding::refuse(
                Code::DependencyMissing,
                format!("{name} needs {}: {why}", path.display()),
                format!("install the package of {} that holds it, then depmod {0}", target.release),
            ));
        }
    }
    findings
}

/// Why modprobe or the kernel would not load it, if so.
fn blacklisted(host: &Host, name: &str, cmdline: &str) -> Option<String> {
    for word in cmdline.split_whitespace() {
        for key in ["modprobe.blacklist=", "module_blacklist="] {
            let listed = word.strip_prefix(key).is_some_and(|list| list.split(',').any(|m| m.replace('-', "_") == name));
            if listed {
                return Some(format!("{word} on the kernel command line"));
            }
        }
    }
    for dir in MODPROBE_D {
        for file in host.read_dir(dir).unwrap_or_default() {
            let path = Path::new(dir).join(file);
            if path.extension().is_none_or(|e| e != "conf") {
                continue;
            }
            let text = host.read_text(&path).unwrap_or_default().replace("\\\n", " ");
            let hit = text.lines().find(|line| {
                let mut words = line.split_whitespace();
                let (verb, module) = (words.next(), words.next().map(|m| m.replace('-', "_")));
                module.as_deref() == Some(name)
                    && (verb == Some("blacklist") || (verb == Some("install") && !line.contains("modprobe")))
            });
            if let Some(line) = hit {
                return Some(format!("`{}` in {}", line.trim(), path.display()));
            }
        }
    }
    None
}

/// Whether the initramfs that K's boot entry names is there.
pub fn initramfs_findings(host: &Host, release: &KernelRelease, initrds: &[PathBuf]) -> Vec<Finding> {
    let missing = initrds.iter().filter(|p| !host.is_file(p));
    let say = |path: &PathBuf| {
        Finding::refuse(
            Code::InitramfsStale,
            format!("the boot entry of {release} names {} and it is not there", path.display()),
            format!("dracut --kver {release} (EL, Fedora), update-initramfs -c -k {release} (Debian)"),
        )
    };
    missing.map(say).collect()
}
