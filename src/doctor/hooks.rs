//! Whether vfguard is called after a kernel update: checks the hooks of each installed package manager, and the units.
//!
//! Where the plugins look for hooks, and which settings they follow: yum-plugin-post-transaction-actions and yum.conf(5);
//! dnf-plugins-core (post-transaction-actions) and dnf.conf(5); libdnf5-actions(8); kernel-install(8); rpm's file triggers.

use super::{Check, Status};
use crate::host::command::{self, Spec};
use crate::host::upstart;
use crate::host::{systemd, Host};
use crate::packages::{ini, yum, RPMDB};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The remedy for any missing hook.
const REINSTALL: &str = "reinstall the package vfguard";
/// The hook's call in rpm's database, which stores scripts as plain text.
const TRIGGER: &str = "reconcile --from rpm-trigger";
/// Time limit for rpm, which answers from its database at once.
const ASK: Duration = Duration::from_secs(30);
/// Units that must be enabled: the decision at boot, the watch for kernels that came without a hook, the periodic check.
const UNITS: [&str; 3] = ["vfguard-boot.service", "vfguard-watch.path", "vfguard.timer"];
/// Units that those units and the hooks start.
const WORKERS: [&str; 4] =
    [crate::flow::hook::WORKER, crate::flow::hook::HEADERS, "vfguard-watch.service", "vfguard-fail-closed.service"];

/// Checks the hooks of every installed package manager, and the units.
pub fn examine(host: &Host) -> Vec<Check> {
    let there = |path: &str| host.exists(path);
    let mut checks = Vec::new();
    if (there("/etc/yum.conf") || there("/etc/yum/yum.conf"))
        && (there("/usr/lib/yum-plugins") || !there("/etc/dnf/dnf.conf"))
    {
        checks.push(yum3(host));
    }
    if there("/etc/dnf/dnf.conf") && plugin_dirs(host).next().is_some() {
        checks.push(dnf4(host));
    }
    if there("/etc/dnf/libdnf5-plugins") {
        checks.push(dnf5(host));
    }
    // EL7 has the directory, but neither rpm's trigger nor kernels that call kernel-install.
    let modern = host.is_dir("/usr/lib/kernel/install.d") && there("/etc/dnf");
    if RPMDB.iter().any(|db| there(db)) && modern {
        checks.push(rpm_trigger(host));
    }
    if modern {
        checks.push(scripts(host, "hook-kernel-install", "/usr/lib/kernel/install.d", ".install"));
    }
    if host.is_dir("/etc/kernel/postinst.d") {
        checks.push(scripts(host, "hook-postinst", "/etc/kernel/postinst.d", ""));
    }
    if checks.is_empty() {
        checks.push(Check::failed("hooks", "no package manager that is known calls vfguard", "install the package vfguard"));
    }
    checks.extend(units(host));
    checks
}

/// vfguard's files in a directory of hooks. The package's file names may have a number for the order.
fn ours(host: &Host, dir: &str, suffix: &str) -> Vec<PathBuf> {
    let names = host.read_dir(dir).unwrap_or_default();
    let named = names.iter().filter(|n| n.to_str().is_some_and(|n| n.contains("vfguard") && n.ends_with(suffix)));
    named.map(|n| Path::new(dir).join(n)).collect()
}

fn noscripts(host: &Host, file: &str) -> bool {
    ini::setting(host, file, "main", "tsflags").is_some_and(|v| v.contains("noscripts"))
}

/// One action file that a plugin reads, with lines that call vfguard; else what is wrong with it.
fn action(
    host: &Host,
    name: &'static str,
    dir: &str,
    suffix: &str,
    good: impl Fn(&str) -> bool,
    rule: &str,
) -> Result<String, Check> {
    let files = ours(host, dir, suffix);
    let Some(file) = files.first() else {
        return Err(Check::failed(name, format!("there is no vfguard*{suffix} in {dir}"), REINSTALL));
    };
    let text = host.read_text(file).map_err(|e| {
        Check::failed(name, format!("{} cannot be read: {e}", file.display()), format!("chmod 644 {}", file.display()))
    })?;
    let calls: Vec<&str> =
        text.lines().filter(|l| !l.trim_start().starts_with('#') && l.contains("vfguard reconcile")).collect();
    if calls.is_empty() {
        return Err(Check::failed(name, format!("{} does not call vfguard reconcile", file.display()), REINSTALL));
    }
    match calls.iter().find(|l| !good(l)) {
        Some(bad) => Err(Check::failed(name, format!("{}: {bad}: {rule}", file.display()), REINSTALL)),
        None => Ok(file.display().to_string()),
    }
}

fn yum3(host: &Host) -> Check {
    let name = "hook-yum";
    let (plugin, conf, settings) = (yum::PLUGIN, yum::PLUGIN_CONF, yum::conf(host));
    if !ini::is_on(host, settings, "main", "plugins", false) {
        return Check::failed(
            name,
            format!("yum loads no plugins (plugins in {settings})"),
            format!("set plugins=1 in [main] of {settings}"),
        );
    }
    if !host.is_file(plugin) {
        return Check::failed(name, format!("{plugin} is missing"), "yum install yum-plugin-post-transaction-actions");
    }
    if !ini::is_on(host, conf, "main", "enabled", false) {
        return Check::failed(
            name,
            format!("{conf} does not enable the plugin"),
            format!("set enabled=1 in [main] of {conf}"),
        );
    }
    // key:state:command. EL6's plugin cuts the command at its own colons, and a kernel never has the state `update`.
    let good = |line: &str| {
        let parts: Vec<&str> = line.trim().split(':').collect();
        parts.len() == 3 && matches!(parts[1], "install" | "any" | "remove") && !parts[2].contains('$')
    };
    let rule = "yum wants key:install:command, the command without colon or variable";
    match action(host, name, yum::ACTIONS, ".action", good, rule) {
        Ok(file) => Check::ok(name, file),
        Err(check) => check,
    }
}

/// Where dnf4's Python plugins may be.
fn plugin_dirs(host: &Host) -> impl Iterator<Item = PathBuf> + '_ {
    let names = host.read_dir("/usr/lib").unwrap_or_default();
    let pythons = names.into_iter().filter(|n| n.to_string_lossy().starts_with("python3"));
    pythons
        .flat_map(|n| ["site-packages", "dist-packages"].map(|d| Path::new("/usr/lib").join(&n).join(d).join("dnf-plugins")))
        .filter(|d| host.is_dir(d))
}

/// It is only an addition to rpm's trigger, so problems are warnings.
fn dnf4(host: &Host) -> Check {
    let name = "hook-dnf";
    if !ini::is_on(host, "/etc/dnf/dnf.conf", "main", "plugins", true) {
        return Check::warning(name, "dnf loads no plugins (plugins=0)", "take plugins=0 out of /etc/dnf/dnf.conf");
    }
    let plugin = plugin_dirs(host).map(|d| d.join("post-transaction-actions.py")).find(|p| host.is_file(p));
    let Some(plugin) = plugin else {
        let install = "dnf install python3-dnf-plugin-post-transaction-actions";
        return Check::warning(
            name,
            "the plugin post-transaction-actions is not installed; rpm's trigger does without",
            install,
        );
    };
    let conf = "/etc/dnf/plugins/post-transaction-actions.conf";
    if !ini::is_on(host, conf, "main", "enabled", true) {
        return Check::warning(
            name,
            format!("{conf} switches the plugin off"),
            format!("set enabled = 1 in [main] of {conf}"),
        );
    }
    if host.read_text(&plugin).is_ok_and(|t| t.contains("ConfigParser.substitute")) {
        let update = "dnf upgrade dnf-plugins-core (4.4.1 or newer); rpm's trigger does without";
        return Check::warning(name, format!("{} is of a version that runs no action", plugin.display()), update);
    }
    let good = |line: &str| matches!(line.split(':').nth(1), Some("in" | "any" | "out"));
    match action(host, name, "/etc/dnf/plugins/post-transaction-actions.d", ".action", good, "dnf wants key:in:command") {
        Ok(file) => Check::ok(name, file),
        Err(check) => Check { status: Status::Warning, ..check },
    }
}

fn dnf5(host: &Host) -> Check {
    let name = "hook-dnf5";
    let conf = "/etc/dnf/libdnf5-plugins/actions.conf";
    let library = ["/usr/lib64", "/usr/lib", "/usr/lib/x86_64-linux-gnu"]
        .iter()
        .any(|d| host.is_file(format!("{d}/libdnf5/plugins/actions.so")));
    if !library {
        return Check::warning(
            name,
            "the actions plugin is not installed; rpm's trigger does without",
            "dnf install libdnf5-plugin-actions",
        );
    }
    if !ini::is_on(host, conf, "main", "enabled", true) {
        return Check::warning(
            name,
            format!("{conf} switches the plugin off"),
            format!("set enabled = 1 in [main] of {conf}"),
        );
    }
    let good = |line: &str| line.starts_with("post_transaction:") && line.splitn(5, ':').count() == 5;
    match action(
        host,
        name,
        "/etc/dnf/libdnf5-plugins/actions.d",
        ".actions",
        good,
        "dnf5 wants post_transaction:filter:direction:options:command",
    ) {
        Ok(file) => Check::ok(name, file),
        Err(check) => Check { status: Status::Warning, ..check },
    }
}

/// The trigger that runs with every package manager on rpm >= 4.13. On a live machine rpm is asked: in the database file a
/// page boundary may split the text, and removed text may still be there. For another root only the file is available.
fn rpm_trigger(host: &Host) -> Check {
    let name = "hook-rpm-trigger";
    for conf in ["/etc/dnf/dnf.conf", yum::conf(host)] {
        if noscripts(host, conf) {
            let detail =
                format!("tsflags in {conf} switches every trigger and scriptlet off; only the watch notices a kernel");
            return Check::failed(name, detail, format!("take noscripts out of tsflags in {conf}"));
        }
    }
    let asked = host.is_live().then(|| command::run(&Spec::new("rpm", ["-q", "--filetriggers", "vfguard"], ASK)));
    let known = match asked {
        Some(Ok(outcome)) => (outcome.success() && outcome.output.contains(TRIGGER)).then(|| "rpm knows it".to_owned()),
        // Without rpm, only the file is left.
        Some(Err(_)) | None => {
            let holds = |db: &str| host.read(db).is_ok_and(|b| memchr::memmem::find(&b, TRIGGER.as_bytes()).is_some());
            RPMDB.iter().find(|db| holds(db)).map(|db| format!("in {db}"))
        }
    };
    match known {
        Some(detail) => Check::ok(name, detail),
        None => Check::failed(name, "rpm's database has no file trigger of vfguard", REINSTALL),
    }
}

/// vfguard's scripts in a directory whose programs are executed.
fn scripts(host: &Host, name: &'static str, dir: &str, suffix: &str) -> Check {
    use std::os::unix::fs::PermissionsExt;
    let files = ours(host, dir, suffix);
    let Some(file) = files.first() else {
        return Check::failed(name, format!("there is no *vfguard*{suffix} in {dir}"), REINSTALL);
    };
    for file in &files {
        if !host.metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0) {
            return Check::failed(
                name,
                format!("{} cannot be run", file.display()),
                format!("chmod 755 {}", file.display()),
            );
        }
    }
    Check::ok(name, file.display().to_string())
}

/// The units: installed, enabled, and on a live machine the watch is active.
fn units(host: &Host) -> Vec<Check> {
    if upstart::is_upstart(host) {
        let bare = upstart::unwrapped(host);
        return vec![if bare.is_empty() {
            Check::ok("upstart-wrappers", "reboot, shutdown and telinit are wrapped")
        } else {
            Check::failed("upstart-wrappers", format!("not wrapped: {}", bare.join(", ")), "vfguard-upstart install")
        }];
    }
    let mut checks = Vec::new();
    let absent: Vec<&str> = UNITS.iter().chain(&WORKERS).copied().filter(|unit| !systemd::has_unit(host, unit)).collect();
    checks.push(if absent.is_empty() {
        Check::ok("units", "all are installed")
    } else {
        Check::failed("units", format!("not installed: {}", absent.join(", ")), REINSTALL)
    });
    for unit in UNITS.iter().filter(|u| !absent.contains(u)) {
        checks.push(enabled(host, unit));
    }
    if host.is_live() && host.is_dir(systemd::BOOTED) {
        checks.extend(idle(&checks));
    }
    checks
}

/// Units that should be waiting and are enabled, but that systemd reports as not waiting.
fn idle(checks: &[Check]) -> Vec<Check> {
    let name = "unit-active";
    let enabled = |unit: &&str| checks.iter().any(|c| c.status == Status::Ok && c.detail == *unit);
    let waiting: Vec<&str> =
        UNITS.into_iter().filter(enabled).filter(|u| u.ends_with(".path") || u.ends_with(".timer")).collect();
    if waiting.is_empty() {
        return Vec::new();
    }
    let said = match systemd::show(&waiting, &["Id", "ActiveState"]) {
        Ok(said) => said,
        Err(e) => return vec![Check::failed(name, format!("{}: not known: {e:#}", waiting.join(", ")), "systemctl status")],
    };
    let is = |p: &systemd::Properties, key: &str, value: &str| p.get(key).is_some_and(|v| v == value);
    let active = |unit: &str| said.iter().any(|p| is(p, "Id", unit) && is(p, "ActiveState", "active"));
    waiting
        .into_iter()
        .map(|unit| match active(unit) {
            true => Check::ok(name, unit),
            false => Check::failed(name, format!("{unit} is enabled and not active"), format!("systemctl start {unit}")),
        })
        .collect()
}

fn enabled(host: &Host, unit: &str) -> Check {
    let name = "unit-enabled";
    let masked = ["/etc/systemd/system", "/run/systemd/system"]
        .iter()
        .any(|d| host.read_link(Path::new(d).join(unit)).is_ok_and(|t| t == Path::new("/dev/null")));
    if masked {
        return Check::failed(
            name,
            format!("{unit} is masked"),
            format!("systemctl unmask {unit}; systemctl enable --now {unit}"),
        );
    }
    let wants = ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
    let targets = ["multi-user.target.wants", "timers.target.wants", "paths.target.wants", "sysinit.target.wants"];
    let linked = wants
        .iter()
        .any(|d| targets.iter().any(|t| host.path_of_link(Path::new(d).join(t).join(unit)).symlink_metadata().is_ok()));
    if !linked {
        return Check::failed(name, format!("{unit} is not enabled"), format!("systemctl enable --now {unit}"));
    }
    Check::ok(name, unit)
}
