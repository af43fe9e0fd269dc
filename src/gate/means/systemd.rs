//! The gate's files below `/run/systemd/system`, and how systemd applies them.
//!
//! A reboot fails because its units require a masked unit. The name of that unit is the message that systemctl prints (`Call
//! to Reboot failed: Unit VFGUARD_blocks_reboot__run_vfguard_status.service is masked.`). Tested with 25 ways to reboot on
//! systemd 252 and 257. Do not use an Assert, a Condition or a check service instead: with those, services stop and the
//! machine reboots anyway, or hangs (see tests/vm).

use crate::host::{command, failpoint, systemd, Host};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The masked unit, whose name is the message.
pub const UNIT: &str = "VFGUARD_blocks_reboot__run_vfguard_status.service";
/// The command with which root can open a stuck gate. vfguard closes the gate again at its next run (see `vfguard=off`).
pub const WAY_OUT: &str = "rm -f /run/systemd/system/*.d/50-vfguard.conf && systemctl daemon-reload";
/// Holds a logind block inhibitor; the unit is in packaging/systemd.
pub const INHIBIT: &str = "vfguard-inhibit.service";
/// Since this version of systemd a block inhibitor stops root too.
const INHIBIT_SINCE: u32 = 257;

/// Time limit for stopping units: sockets and a sleeping shell stop at once.
const STOP_LIMIT: Duration = Duration::from_secs(25);

const DIR: &str = "/run/systemd/system";
const DROP_IN: &str = "50-vfguard.conf";
/// Units that are always refused. Names that a systemd version does not know do no harm.
const REBOOT: [&str; 6] = [
    "reboot.target",
    "kexec.target",
    "soft-reboot.target",
    "systemd-reboot.service",
    "systemd-kexec.service",
    "systemd-soft-reboot.service",
];
/// Units that are refused with `gate.poweroff`.
const POWEROFF: [&str; 4] = ["poweroff.target", "halt.target", "systemd-poweroff.service", "systemd-halt.service"];
/// `reboot`, `shutdown` and `telinit` ask initctl if systemd refuses, and then exit 0. With initctl masked they exit 1.
const INITCTL: [&str; 2] = ["systemd-initctl.socket", "systemd-initctl.service"];

/// What was changed for initctl, so that opening restores exactly that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Initctl {
    /// Units that vfguard masked. Units that the administrator masked are not listed.
    pub masked: Vec<String>,
    /// Whether its socket was listening.
    pub listened: bool,
}

fn refused(poweroff: bool) -> impl Iterator<Item = &'static str> {
    REBOOT.into_iter().chain(POWEROFF.into_iter().take(if poweroff { POWEROFF.len() } else { 0 }))
}

fn unit_path(unit: &str) -> PathBuf {
    Path::new(DIR).join(unit)
}

fn drop_in(unit: &str) -> PathBuf {
    Path::new(DIR).join(format!("{unit}.d")).join(DROP_IN)
}

/// Which of the gate's files exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// All that refuse a reboot.
    All,
    /// Some are missing: whether a reboot is refused depends on how it is requested.
    Some,
    /// None.
    None,
}

/// Checks which files exist; with `poweroff`, those for poweroff count too.
pub fn look(host: &Host, poweroff: bool) -> Files {
    let masked = is_masked(host, UNIT);
    let there = |unit: &str| host.read_text(drop_in(unit)).is_ok_and(|t| t == text());
    if masked && refused(poweroff).all(there) {
        return Files::All;
    }
    let any = |unit: &str| host.path_of_link(drop_in(unit)).symlink_metadata().is_ok();
    let link = host.path_of_link(unit_path(UNIT)).symlink_metadata().is_ok();
    if link || refused(true).any(any) {
        Files::Some
    } else {
        Files::None
    }
}

fn is_masked(host: &Host, unit: &str) -> bool {
    host.read_link(unit_path(unit)).is_ok_and(|target| target == Path::new("/dev/null"))
}

fn text() -> String {
    format!(
        "# vfguard refuses the reboot: the kernel that would boot next is not proven to come up with its network.\n\
         # Why, and what mends it: vfguard status\n\
         # To reboot all the same: vfguard gate open --reason TEXT\n\
         # When all else fails: {WAY_OUT}\n\
         # For good: vfguard=off on the kernel command line, or apt/yum remove vfguard\n\
         [Unit]\nRequires={UNIT}\n"
    )
}

/// Writes the files that refuse. The drop-ins come after the unit that they require, reboot.target's first. Each file is
/// tried whether or not the others could be written.
/// the others.
pub fn write(host: &Host, poweroff: bool) -> Result<()> {
    let masked = mask(host, UNIT);
    let written = refused(poweroff).map(|unit| host.write_atomic(drop_in(unit), text().as_bytes(), 0o644));
    let written = written.fold(masked, Result::and);
    let passed = POWEROFF.into_iter().filter(|_| !poweroff).map(|unit| remove_drop_in(host, unit));
    passed.fold(written, Result::and)
}

fn mask(host: &Host, unit: &str) -> Result<()> {
    if is_masked(host, unit) {
        return Ok(());
    }
    let dir = host.make_dirs(DIR, 0o755)?;
    host.remove(unit_path(unit))?;
    symlink("/dev/null", dir.at(unit)).with_context(|| format!("masking {unit} in {}", dir.shown().display()))
}

fn remove_drop_in(host: &Host, unit: &str) -> Result<()> {
    host.remove(drop_in(unit))?;
    if host.is_dir(DIR) {
        // If it is not empty, it contains somebody else's drop-ins.
        let _ = fs::remove_dir(host.dir(DIR)?.at(format!("{unit}.d")));
    }
    Ok(())
}

/// Removes all files that refuse, also those of an interrupted run.
pub fn remove(host: &Host, initctl: &Initctl) -> Result<()> {
    for unit in refused(true) {
        remove_drop_in(host, unit)?;
        failpoint::hit("gate-removed-in-part");
    }
    host.remove(unit_path(UNIT))?;
    for unit in INITCTL.iter().filter(|u| initctl.masked.iter().any(|m| m == *u) && is_masked(host, u)) {
        host.remove(unit_path(unit))?;
    }
    Ok(())
}

/// Which units of initctl vfguard may mask, and whether its socket listens. Units that an earlier run masked are included.
pub fn initctl_before(host: &Host, ours: &Initctl) -> Initctl {
    let free = |unit: &&str| host.path_of_link(unit_path(unit)).symlink_metadata().is_err();
    let masked: Vec<String> =
        INITCTL.iter().filter(|u| free(u) || ours.masked.iter().any(|m| m == *u)).map(|u| (*u).to_owned()).collect();
    let listens = || {
        let asked = host.is_live().then(|| systemd::show(&[INITCTL[0]], &["ActiveState"]));
        matches!(asked, Some(Ok(units)) if units.first().is_some_and(|u| u.get("ActiveState").is_some_and(|s| s == "active")))
    };
    Initctl { listened: ours.listened || listens(), masked }
}

/// Masks initctl. It is stopped after the reload (systemd 219 has no `mask --now`).
pub fn mask_initctl(host: &Host, initctl: &Initctl) -> Result<()> {
    initctl.masked.iter().try_for_each(|unit| mask(host, unit))
}

/// Makes a live system apply what [`write()`] wrote.
pub fn apply_closed(host: &Host, poweroff: bool) -> Result<()> {
    systemd::daemon_reload()?;
    // The inhibitor for poweroff may still be held although the setting was removed.
    let ended = INITCTL.into_iter().chain((!poweroff).then_some(INHIBIT)).filter(|unit| systemd::has_unit(host, unit));
    command::run(&systemd::spec(["stop"].into_iter().chain(ended), STOP_LIMIT))?;
    // logind's block covers poweroff too, so it is used only if poweroff is refused as well.
    if poweroff && systemd::version(host).is_some_and(|v| v >= INHIBIT_SINCE) && systemd::has_unit(host, INHIBIT) {
        systemd::order("start", &[INHIBIT])?;
    }
    Ok(())
}

/// Makes a live system apply what [`remove`] removed.
pub fn apply_open(host: &Host, initctl: &Initctl) -> Result<()> {
    systemd::daemon_reload()?;
    if initctl.listened {
        systemd::order("start", &[INITCTL[0]])?;
    }
    if systemd::has_unit(host, INHIBIT) {
        // Wait until it has stopped: an inhibitor that is still held would refuse the next reboot.
        command::run(&systemd::spec(["stop", INHIBIT], STOP_LIMIT))?;
    }
    Ok(())
}

/// Asks systemd whether it refuses: each unit that it knows must require vfguard's unit, and vfguard's unit must be masked.
pub fn ask(poweroff: bool) -> Result<Files> {
    let units: Vec<&str> = refused(poweroff).chain([UNIT]).collect();
    let answers = systemd::show(&units, &["Id", "LoadState", "Requires"])?;
    let of = |answer: &systemd::Properties, key: &str| answer.get(key).cloned().unwrap_or_default();
    let masked = answers.iter().any(|a| of(a, "Id") == UNIT && of(a, "LoadState") == "masked");
    let known: Vec<_> = answers.iter().filter(|a| of(a, "Id") != UNIT && of(a, "LoadState") == "loaded").collect();
    let requires = |a: &&&systemd::Properties| of(a, "Requires").split(' ').any(|r| r == UNIT);
    let refusing = known.iter().filter(requires).count();
    let reboot = known.iter().filter(requires).any(|a| of(a, "Id") == "reboot.target");
    Ok(match (masked && reboot && refusing == known.len(), refusing) {
        (true, _) => Files::All,
        (false, 0) => Files::None,
        (false, _) => Files::Some,
    })
}

/// A scheduled shutdown that the closed gate will refuse: its kind, and its time in unix seconds
/// (`/run/systemd/shutdown/scheduled`, systemd-logind).
pub fn scheduled(host: &Host, poweroff: bool) -> Option<(String, i64)> {
    let text = host.read_text("/run/systemd/shutdown/scheduled").ok()?;
    let of = |key: &str| text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
    let mode = of("MODE")?;
    let refused = match mode {
        "reboot" | "kexec" | "soft-reboot" => true,
        "poweroff" | "halt" => poweroff,
        _ => false,
    };
    let at = of("USEC")?.parse::<i64>().ok()? / 1_000_000;
    refused.then(|| (mode.to_owned(), at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        (dir, host)
    }

    #[test]
    fn the_files_are_those_that_were_tested_in_virtual_machines() {
        let (dir, host) = host();
        assert_eq!(look(&host, false), Files::None);
        write(&host, false).unwrap();
        assert_eq!((look(&host, false), look(&host, true)), (Files::All, Files::Some));
        let run = dir.path().join("run/systemd/system");
        assert_eq!(fs::read_link(run.join(UNIT)).unwrap(), Path::new("/dev/null"));
        for unit in REBOOT {
            let text = fs::read_to_string(run.join(format!("{unit}.d/50-vfguard.conf"))).unwrap();
            assert!(text.ends_with(&format!("\n[Unit]\nRequires={UNIT}\n")) && text.contains(WAY_OUT), "{text}");
        }
        assert!(!run.join("poweroff.target.d").exists());
        remove(&host, &Initctl::default()).unwrap();
        assert_eq!(fs::read_dir(&run).unwrap().count(), 0);
    }

    #[test]
    fn the_shell_script_that_fails_closed_refuses_the_same_units_with_the_same_text() {
        let script = include_str!("../../../packaging/systemd/fail-closed");
        let quoted = |name: &str| {
            let rest = script.split(&format!("\n{name}=")).nth(1).unwrap();
            rest[1..].split(&rest[..1]).next().unwrap().to_owned()
        };
        assert_eq!(quoted("refused").split(' ').collect::<Vec<_>>(), REBOOT);
        assert!(script.contains(&format!("\nmessage={UNIT}\n")));
        let drop_in = quoted("drop_in").replacen("\\\n", "", 1).replace("$message", UNIT);
        assert_eq!(format!("{drop_in}\n"), text());
    }

    #[test]
    fn a_gate_with_a_missing_file_does_not_count_as_closed() {
        let (_dir, host) = host();
        write(&host, true).unwrap();
        assert_eq!(look(&host, true), Files::All);
        host.remove(drop_in("systemd-reboot.service")).unwrap();
        assert_eq!(look(&host, false), Files::Some);
        write(&host, true).unwrap();
        host.remove(unit_path(UNIT)).unwrap();
        assert_eq!(look(&host, false), Files::Some);
    }

    #[test]
    fn masks_and_drop_ins_of_the_administrator_stay() {
        let (dir, host) = host();
        let run = dir.path().join("run/systemd/system");
        fs::create_dir_all(run.join("reboot.target.d")).unwrap();
        fs::write(run.join("reboot.target.d/10-admin.conf"), "[Unit]\n").unwrap();
        symlink("/dev/null", run.join("systemd-initctl.service")).unwrap();
        let before = initctl_before(&host, &Initctl::default());
        assert_eq!(before.masked, ["systemd-initctl.socket"]);
        write(&host, false).unwrap();
        mask_initctl(&host, &before).unwrap();
        assert_eq!(initctl_before(&host, &before), before, "a second run forgot what is ours");
        remove(&host, &before).unwrap();
        assert!(run.join("reboot.target.d/10-admin.conf").exists());
        assert!(run.join("systemd-initctl.service").symlink_metadata().is_ok());
        assert!(run.join("systemd-initctl.socket").symlink_metadata().is_err());
    }

    #[test]
    fn a_scheduled_reboot_is_reported_and_a_poweroff_only_where_it_is_refused() {
        let (_dir, host) = host();
        let file = "/run/systemd/shutdown/scheduled";
        assert_eq!(scheduled(&host, true), None);
        host.write_atomic(file, b"USEC=1700000000000000\nWARN_WALL=1\nMODE=reboot\n", 0o644).unwrap();
        assert_eq!(scheduled(&host, false), Some(("reboot".into(), 1_700_000_000)));
        host.write_atomic(file, b"USEC=1700000000000000\nMODE=poweroff\n", 0o644).unwrap();
        assert_eq!(scheduled(&host, false), None);
        assert!(scheduled(&host, true).is_some());
        host.write_atomic(file, b"MODE=\xff\nUSEC=9999999999999999999999", 0o644).unwrap();
        assert_eq!(scheduled(&host, true), None);
    }
}
