//! Whether vfguard could work now: build for each kernel, close the gate, hold the boot default.

use super::Check;
use crate::audit;
use crate::boot;
use crate::config::{Config, Mode};
use crate::driver::{self, sandbox, Numbers};
use crate::finding::Finding;
use crate::host::{command, place, Host};
use crate::kernel::tree::{build_tree, install_headers};
use crate::packages::Packages;
use crate::verdict::survey::{room, Survey};
use nix::unistd::{access, AccessFlags};
use std::collections::BTreeSet;
use std::path::Path;

/// Free space needed for builds, modules and records: a build was measured at 40 MB.
const ROOM: [(&str, u64); 3] =
    [("/var/cache/vfguard", 128 << 20), ("/lib/modules", 32 << 20), ("/var/lib/vfguard", 32 << 20)];

/// Checks everything that the work needs.
pub fn examine(host: &Host, config: &Config) -> Vec<Check> {
    let mut checks = vec![recipes(host)];
    match Survey::new(host, config) {
        Ok(survey) => {
            checks.extend(compilers(host, &survey));
            checks.extend(headers(host, &survey));
            checks.extend(sources(host, config, &survey));
        }
        Err(e) => {
            let remedy = crate::error::remedy(&e).unwrap_or("vfguard check").to_owned();
            checks.push(compiler());
            checks.push(Check::failed("survey", format!("this machine cannot be judged: {e:#}"), remedy));
        }
    }
    checks.push(gate(host, config));
    checks.extend(boot_default(host, config));
    checks.extend(ROOM.iter().map(|(dir, room)| space(host, dir, *room)));
    checks.extend(boot_room(host));
    checks.push(audit_log(host));
    checks.push(contained(host));
    checks.extend(signing_key(host, config));
    checks.push(bounded(host));
    checks
}

/// The key that modules are signed with, if one is configured.
fn signing_key(host: &Host, config: &Config) -> Option<Check> {
    let name = "sign";
    Some(match driver::signing_key(host, &config.sign) {
        Ok(None) => return None,
        Ok(Some(key)) if key.by_others => {
            let file = key.file.display();
            Check::warning(name, format!("others than root can read the private key {file}"), format!("chmod 600 {file}"))
        }
        Ok(Some(key)) => Check::ok(name, format!("modules are signed with {}", key.file.display())),
        Err(e) => {
            let remedy = crate::error::remedy(&e).unwrap_or("check sign.key and sign.certificate").to_owned();
            Check::failed(name, format!("no module can be signed: {e:#}"), remedy)
        }
    })
}

fn recipes(host: &Host) -> Check {
    match driver::recipes(host) {
        Ok(recipes) => {
            let names: Vec<&str> = recipes.iter().map(|r| r.name.as_str()).collect();
            Check::ok("recipes", names.join(", "))
        }
        Err(e) => {
            let remedy = crate::error::remedy(&e).unwrap_or("mend the file in /etc/vfguard/drivers.d").to_owned();
            Check::failed("recipes", format!("{e:#}"), remedy)
        }
    }
}

/// The programs that make will call for each kernel whose headers are installed; `prepare` does the same check before it
/// builds.
fn compilers(host: &Host, survey: &Survey<'_>) -> Vec<Check> {
    let name = "compiler";
    let counts: Vec<_> = survey.roles().into_iter().map(|(k, _)| k).collect();
    let mut checks = Vec::new();
    for (kernel, tree) in survey.kernels.iter().filter_map(|k| Some((&k.release, build_tree(host, &k.release).ok()?))) {
        for recipe in survey.may_build() {
            let missing = driver::missing(host, &tree, recipe);
            let told = |text: fn(&Finding) -> &String| {
                let texts: BTreeSet<&str> = missing.iter().map(|f| text(f).as_str()).collect();
                texts.into_iter().collect::<Vec<_>>().join("; ")
            };
            let (detail, remedy) = (format!("{kernel}, {}: {}", recipe.name, told(|f| &f.detail)), told(|f| &f.remedy));
            let hinders = missing.iter().any(Finding::refuses);
            checks.push(if missing.is_empty() {
                let programs: Vec<String> = driver::programs(&tree, recipe).into_iter().map(|(p, _)| p).collect();
                Check::ok(name, format!("{kernel}, {}: {}", recipe.name, programs.join(", ")))
            } else if hinders && counts.contains(kernel) {
                Check::failed(name, detail, remedy)
            } else {
                Check::warning(name, detail, remedy)
            });
        }
    }
    if checks.is_empty() {
        checks.push(compiler());
    }
    checks
}

/// The programs that any build needs, if no kernel's headers name others. The compiler is the running machine's, even with
/// another root.
fn compiler() -> Check {
    let missing: Vec<&str> = driver::ALWAYS.into_iter().filter(|p| command::find(p).is_none()).collect();
    if missing.is_empty() {
        return Check::ok("compiler", format!("installed: {}", driver::ALWAYS.join(", ")));
    }
    let rpms = "gcc make binutils kmod gawk sed grep";
    let debs = "build-essential kmod gawk sed grep";
    let remedy = Packages::here().map_or_else(|_| format!("install {rpms}"), |p| p.line(debs, rpms));
    Check::failed("compiler", format!("not installed: {}", missing.join(", ")), remedy)
}

/// Headers are needed for kernels that may start. For others, missing headers are only a warning.
fn headers(host: &Host, survey: &Survey<'_>) -> Vec<Check> {
    if survey.may_build().is_empty() {
        return vec![Check::ok("headers", "no driver needs to be built here")];
    }
    let counts: Vec<_> = survey.roles().into_iter().map(|(k, _)| k).collect();
    let mut checks = Vec::new();
    for kernel in survey.kernels.iter().map(|k| &k.release) {
        checks.push(match build_tree(host, kernel) {
            Ok(tree) => Check::ok("headers", format!("{kernel}: {}", host.name(&tree.ksrc).display())),
            Err(f) if counts.contains(kernel) => {
                Check::failed("headers", format!("{kernel}: {}", f.detail), install_headers(host, kernel))
            }
            Err(f) => Check::warning("headers", format!("{kernel}: {}", f.detail), install_headers(host, kernel)),
        });
    }
    checks
}

/// One release of each needed driver, for the newest kernel: its archive must be available before a build can start.
fn sources(host: &Host, config: &Config, survey: &Survey<'_>) -> Vec<Check> {
    let Some(kernel) = survey.kernels.first().map(|k| k.release.clone()) else {
        return vec![Check::warning("source", "no kernel is installed, so no release was looked for", "vfguard status")];
    };
    let mut checks = Vec::new();
    for recipe in survey.may_build() {
        let Some(release) = recipe.candidates(&Numbers::of(host, &kernel)).into_iter().next() else {
            let remedy = format!("add a release to /etc/vfguard/drivers.d/{}.toml", recipe.name);
            checks.push(Check::failed("source", format!("no release of {} is known for {kernel}", recipe.name), remedy));
            continue;
        };
        let remedy = format!(
            "see to the network or name a mirror in fetch.mirrors; or bring the archive: vfguard prepare {kernel} \
             --driver {} --source FILE --sha256 {}",
            recipe.name, release.sha256
        );
        checks.push(match driver::fetch::reachable(host, &config.fetch, recipe, release) {
            Ok(place) => Check::ok("source", place),
            Err(e) if host.is_live() => Check::failed("source", format!("{e:#}"), remedy),
            Err(e) => Check::warning("source", format!("{e:#}"), remedy),
        });
    }
    checks
}

/// A dry run: nothing is written.
fn gate(host: &Host, config: &Config) -> Check {
    if config.mode == Mode::Observe {
        let remedy = "take mode = \"observe\" out of the settings once its reports are trusted";
        return Check::warning("gate", "mode = \"observe\": no reboot is refused", remedy);
    }
    if let Some(why) = place::place(host).hands_off() {
        return Check::warning("gate", why, "nothing, where this is as it should be");
    }
    if !writable(host, Path::new("/run/vfguard")) {
        return Check::failed("gate", "/run cannot be written", "run this as root, with a tmpfs at /run");
    }
    if host.is_live() && !crate::host::upstart::is_upstart(host) {
        if let Err(e) = crate::host::systemd::show(&["reboot.target"], &["LoadState"]) {
            return Check::failed("gate", format!("{e:#}"), "systemctl status");
        }
    }
    Check::ok("gate", "can be closed")
}

fn boot_default(host: &Host, config: &Config) -> Vec<Check> {
    let name = "boot-default";
    if config.boot.loader == crate::config::Loader::None {
        return vec![Check::ok(name, "boot.loader = \"none\": the kernel comes from outside")];
    }
    let next = boot::next_boot(host, &config.boot);
    if !next.certain {
        let problem = next.problems.first();
        let why = problem.map_or("no boot loader configuration was found".to_owned(), |p| p.message.clone());
        let remedy = problem.map(|p| p.remedy.clone()).filter(|r| !r.is_empty()).unwrap_or("vfguard next-boot".into());
        return vec![Check::failed(name, format!("what boots next is not certain: {why}"), remedy)];
    }
    let settable = match boot::settable(host) {
        Ok(file) => Check::ok(name, format!("{file} can be told")),
        Err(problem) => match problem.remedy.strip_suffix(boot::OR_EDIT) {
            Some(remedy) if config.boot.edit_grub_defaults && host.is_live() => Check::warning(
                name,
                format!("{}, but for what boot.edit_grub_defaults allows, which a hold tries once", problem.message),
                remedy,
            ),
            _ => Check::failed(name, problem.message, problem.remedy),
        },
    };
    let opinion = boot::second_opinion(host, &next).map(|p| Check::warning("grubby", p.message, p.remedy));
    std::iter::once(settable).chain(opinion).collect()
}

fn space(host: &Host, dir: &str, room: u64) -> Check {
    let path = nearest(host, Path::new(dir));
    if !writable(host, Path::new(dir)) {
        return Check::failed(
            "space",
            format!("{dir} cannot be written"),
            format!("mount it read-write; run this as root ({dir})"),
        );
    }
    match driver::free(&path) {
        Some((bytes, _)) if bytes < room => Check::failed(
            "space",
            format!("{dir} has {} MB of free disk, {} are wanted", bytes >> 20, room >> 20),
            format!("free disk space (df -h {dir})"),
        ),
        Some((bytes, _)) => Check::ok("space", format!("{dir}: {} MB free", bytes >> 20)),
        None => {
            Check::warning("space", format!("{dir}: its file system does not say how full it is"), format!("df -h {dir}"))
        }
    }
}

/// Free space for the boot files of one more kernel.
fn boot_room(host: &Host) -> Option<Check> {
    let (name, room) = ("boot-space", room::look(host)?);
    Some(match room.finding() {
        Some(finding) => Check::failed(name, finding.detail, finding.remedy),
        None => Check::ok(name, format!("{}: room for one more kernel ({} MB free)", room.dir.display(), room.free >> 20)),
    })
}

/// The audit log, the only file of vfguard that is never shortened.
fn audit_log(host: &Host) -> Check {
    let (name, file) = ("audit-log", audit::FILE);
    let length = host.metadata(file).map_or(0, |m| m.len());
    if length <= audit::LARGE {
        return Check::ok(name, format!("{file}: {} KB", length.div_ceil(1024)));
    }
    let detail = format!("{file} has {} MB, and vfguard takes nothing out of it", length >> 20);
    Check::warning(name, detail, format!("see who writes it, then put it away: mv -n {file} {file}-$(date +%F)"))
}

fn contained(host: &Host) -> Check {
    let contained = sandbox::containment(host);
    match contained.level {
        sandbox::Level::Full => Check::ok("sandbox", contained.to_string()),
        sandbox::Level::OwnUser | sandbox::Level::NoNamespaces => {
            Check::warning("sandbox", contained.to_string(), "run it as root on a kernel with namespaces")
        }
        sandbox::Level::None => Check::failed("sandbox", contained.to_string(), "run it as root"),
    }
}

/// The bounds on a build. Missing ones depend on the system and cannot be fixed for vfguard alone, so this is no failure.
fn bounded(host: &Host) -> Check {
    Check::ok("bounds", format!("a build gets at most {}", sandbox::promised_bounds(host)))
}

/// The directory, or its nearest existing parent.
fn nearest(host: &Host, dir: &Path) -> std::path::PathBuf {
    dir.ancestors().map(|d| host.path(d)).find(|d| d.is_dir()).unwrap_or_else(|| host.root().to_owned())
}

/// Whether something could be created there, by mode and file system (access(2)). Nothing is created.
fn writable(host: &Host, dir: &Path) -> bool {
    access(&nearest(host, dir), AccessFlags::W_OK).is_ok()
}
