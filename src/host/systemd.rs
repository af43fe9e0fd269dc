//! Commands for systemd: systemctl(1) and systemd-run(1), described and run. Not used for another root than `/`.

use super::command::{self, Ended, Spec};
use super::{files, Host};
use crate::error::{advise, Remedy};
use anyhow::Result;
use jiff::{tz::TimeZone, Timestamp};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

/// A reload runs every generator, which takes long on a machine that is swapping. After this time systemd counts as not
/// answering.
const RELOAD_LIMIT: Duration = Duration::from_secs(90);
/// A query is answered at once or not at all.
const ASK_LIMIT: Duration = Duration::from_secs(25);
/// The limit for a command whose end is not waited for; systemd completes it once it has received it.
const GIVEN_UP: Duration = Duration::from_secs(5);

/// The size limit of a time zone file; the largest has some 4 KiB (tzfile(5)).
const MAX_ZONE: u64 = 1 << 16;

/// The directory exists if systemd is the init system (sd_booted(3)).
pub const BOOTED: &str = "/run/systemd/system";

/// The output of `systemctl show` for one unit, by property.
pub type Properties = BTreeMap<String, String>;

/// `systemctl ARGS…`
pub fn spec<'a>(args: impl IntoIterator<Item = &'a str>, limit: Duration) -> Spec {
    Spec::new("systemctl", args, limit)
}

/// Makes systemd read its units again.
///
/// # Errors
/// When it does not.
pub fn daemon_reload() -> Result<()> {
    command::run_ok(&spec(["daemon-reload"], RELOAD_LIMIT))
        .remedy("asking systemd to read its units", "systemctl daemon-reload; `journalctl -b -p err` says why it does not")
        .map(drop)
}

/// Properties of units as systemd itself reports them, in the order of the units.
///
/// # Errors
/// When it does not answer, or answers for fewer units than asked for: a partial answer is not used.
pub fn show(units: &[&str], properties: &[&str]) -> Result<Vec<Properties>> {
    let wanted = format!("--property={}", properties.join(","));
    let args = ["show", wanted.as_str()].into_iter().chain(units.iter().copied());
    let outcome = command::run_ok(&spec(args, ASK_LIMIT))
        .remedy("asking systemd about its units", "systemctl status; `journalctl -b -p err` says why it does not answer")?;
    let answers = parse(&outcome.output);
    if outcome.cut || answers.len() != units.len() {
        return Err(advise(
            format!("systemctl answered for {} of {} units", answers.len(), units.len()),
            format!("{} says what is wrong", spec(["show"].into_iter().chain(units.iter().copied()), ASK_LIMIT).line()),
        ));
    }
    Ok(answers)
}

/// The output of `systemctl show`: `key=value` lines, a blank line between units.
fn parse(text: &str) -> Vec<Properties> {
    let mut units = vec![Properties::new()];
    for line in text.lines() {
        match (line.split_once('='), units.last_mut()) {
            (Some((key, value)), Some(unit)) => {
                unit.insert(key.to_owned(), value.to_owned());
            }
            (None, Some(unit)) if line.is_empty() && !unit.is_empty() => units.push(Properties::new()),
            _ => {}
        }
    }
    units.retain(|u| !u.is_empty());
    units
}

/// Starts or stops units without waiting for the job, which may be waiting for vfguard.
///
/// # Errors
/// When systemctl cannot be run.
pub fn order(verb: &str, units: &[&str]) -> Result<Ended> {
    command::run(&spec([verb, "--no-block"].into_iter().chain(units.iter().copied()), ASK_LIMIT))
}

/// Starts a oneshot unit, or joins its current run, and waits for its end. If it cannot run (masked, unknown) or fails, that
/// is an [`Ended`] too.
///
/// # Errors
/// When systemctl cannot be run.
pub fn run_unit(unit: &str, limit: Duration) -> Result<Ended> {
    command::run(&spec(["start", unit], limit))
}

/// Cancels the job of a unit if systemd has not started it yet because it waits for other units. A running unit is not
/// stopped. Returns whether there was such a job.
pub fn cancel_if_waiting(unit: &str) -> bool {
    let Ok(units) = show(&[unit], &["ActiveState", "Job"]) else { return false };
    let of = |key: &str| units.first().and_then(|u| u.get(key)).map_or("", String::as_str);
    // The property is 0 or missing if there is no job.
    let job = of("Job").parse::<u32>().ok().filter(|&job| job != 0);
    match job.filter(|_| matches!(of("ActiveState"), "inactive" | "failed")) {
        Some(job) => command::run(&spec(["cancel", &job.to_string()], ASK_LIMIT)).is_ok_and(|o| o.success()),
        None => false,
    }
}

/// Whether a unit with this name is in a directory of units, as a file or a symbolic link (also if it is masked).
pub fn has_unit(host: &Host, unit: &str) -> bool {
    [
        "/etc/systemd/system",
        "/run/systemd/system",
        "/usr/local/lib/systemd/system",
        "/usr/lib/systemd/system",
        "/lib/systemd/system",
    ]
    .iter()
    .any(|dir| host.path_of_link(Path::new(dir).join(unit)).symlink_metadata().is_ok())
}

/// Whether systemd is the init system and has a unit with this name. A package may install its units on a machine that
/// upstart boots.
pub fn serves(host: &Host, unit: &str) -> bool {
    host.is_dir(BOOTED) && has_unit(host, unit)
}

/// Runs a command line once, after a delay, with a transient timer (systemd-run(1), systemd >= 218). The delay does not
/// count time in suspend: see [`at_clock`].
pub fn later(unit: &str, delay: Duration, line: &[OsString]) -> Spec {
    timer(unit, format!("--on-active={}", delay.as_secs()), line, ASK_LIMIT)
}

/// The same at a wall-clock time, `at` in unix seconds. It is a separate timer, and nothing may depend on it: a timer with a
/// calendar time waits for time-sync.target, which is never reached on a machine without a network. The request stays queued
/// even if systemd-run is killed.
pub fn at_clock(host: &Host, unit: &str, at: i64, line: &[OsString]) -> Spec {
    timer(unit, format!("--on-calendar={}", calendar(host, at)), line, GIVEN_UP)
}

fn timer(unit: &str, when: String, line: &[OsString], limit: Duration) -> Spec {
    let all = [format!("--unit={unit}"), when, "--timer-property=AccuracySec=1s".into()];
    Spec::new("systemd-run", all.into_iter().map(OsString::from).chain(line.iter().cloned()), limit)
}

/// Creates a transient scope and moves a process into it, with the manager's `StartTransientUnit`
/// (org.freedesktop.systemd1(5)): systemctl(1) cannot do that, and systemd-run(1) would execute the program itself. A
/// property has a name, a type and a value. The answer comes when the job is queued.
pub fn start_scope(unit: &str, what: &str, process: Pid, properties: &[(&str, &str, String)], limit: Duration) -> Spec {
    const MANAGER: [&str; 6] = [
        "call",
        "org.freedesktop.systemd1",
        "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager",
        "StartTransientUnit",
        "ssa(sv)a(sa(sv))",
    ];
    let mut args: Vec<String> = MANAGER.into_iter().chain([unit, "fail"]).map(str::to_owned).collect();
    args.push((properties.len() + 2).to_string());
    args.extend(["PIDs", "au", "1"].map(str::to_owned));
    args.push(process.to_string());
    args.extend(["Description", "s", what].map(str::to_owned));
    for (name, kind, value) in properties {
        args.extend([(*name).to_owned(), (*kind).to_owned(), value.clone()]);
    }
    args.push("0".to_owned());
    Spec::new("busctl", args, limit)
}

/// Unix seconds as a calendar event (systemd.time(7)) in the machine's own time zone, not the caller's. systemd 219 supports
/// no other zone.
fn calendar(host: &Host, at: i64) -> String {
    let zone = files::read_bounded(&host.path("/etc/localtime"), MAX_ZONE).ok();
    let zone = zone.and_then(|data| TimeZone::tzif("localtime", &data).ok()).unwrap_or(TimeZone::UTC);
    let at = Timestamp::from_second(at).unwrap_or(Timestamp::MAX);
    at.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// systemd's version, from the name of its shared library (`libsystemd-shared-257.so`, since 232); none if it is unknown. No
/// process is started.
pub fn version(host: &Host) -> Option<u32> {
    let dirs = ["/usr/lib/systemd", "/lib/systemd", "/usr/lib64/systemd", "/usr/lib/x86_64-linux-gnu/systemd"];
    dirs.iter()
        .flat_map(|dir| host.read_dir(dir).unwrap_or_default())
        .filter_map(|name| {
            let rest = name.to_str()?.strip_prefix("libsystemd-shared-")?;
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        })
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_assigned_to_their_unit() {
        let units =
            parse("Id=reboot.target\nRequires=a.service b.service\n\nId=x.service\nRequires=\nExec={ path=/a ; x=y }\n");
        assert_eq!(units.len(), 2);
        assert_eq!(units[0]["Requires"], "a.service b.service");
        assert_eq!(units[1]["Requires"], "");
        assert_eq!(units[1]["Exec"], "{ path=/a ; x=y }");
        assert!(parse("").is_empty());
    }

    #[test]
    fn a_scope_is_one_call_with_the_stated_number_of_properties() {
        let properties = [("MemoryMax", "t", "7".to_owned())];
        let spec = start_scope("a.scope", "a build", Pid::from_raw(5), &properties, ASK_LIMIT);
        assert!(
            spec.line().ends_with(" a.scope fail 3 PIDs au 1 5 Description s a build MemoryMax t 7 0"),
            "{}",
            spec.line()
        );
    }

    #[test]
    fn the_version_is_read_from_the_librarys_name() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        assert_eq!(version(&host), None);
        host.write_atomic("/usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-252.so", b"", 0o644).unwrap();
        host.write_atomic("/lib/systemd/libsystemd-shared-257.13-1.so", b"", 0o644).unwrap();
        assert_eq!(version(&host), Some(257));
    }

    #[test]
    fn a_timer_is_one_command_without_a_shell_and_one_by_the_clock_is_a_unit_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        let line = ["/usr/bin/vfguard".into(), "reconcile".into()];
        let expected = |when: &str| {
            format!("systemd-run --unit=vfguard-override-end-7 {when} --timer-property=AccuracySec=1s /usr/bin/vfguard reconcile")
        };
        let by_delay = later("vfguard-override-end-7", Duration::from_secs(61), &line);
        // A timer with a calendar time would wait for time-sync.target.
        assert_eq!(by_delay.line(), expected("--on-active=61"));
        let later = || at_clock(&host, "vfguard-override-end-7", 1_700_000_000, &line).line();
        let expected = |time: &str| expected(&format!("--on-calendar={time}"));
        assert_eq!(later(), expected("2023-11-14 22:13:20"));
        // UTC+9 in the format `TZif` version 1.
        let mut zone = b"TZif".to_vec();
        zone.extend([0; 16]);
        for count in [0_u32, 0, 0, 0, 1, 4] {
            zone.extend(count.to_be_bytes());
        }
        zone.extend(32_400_i32.to_be_bytes());
        zone.extend(b"\0\0JST\0");
        host.write_atomic("/etc/localtime", &zone, 0o644).unwrap();
        assert_eq!(later(), expected("2023-11-15 07:13:20"));
        host.write_atomic("/etc/localtime", b"no zone", 0o644).unwrap();
        assert_eq!(later(), expected("2023-11-14 22:13:20"));
    }
}
