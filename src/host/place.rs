//! The kind of system that vfguard runs on, and where it therefore does not act: a refused reboot must not leave anybody
//! stuck.
//!
//! Sources: kernel-command-line(7) and systemd-debug-generator(8) for the requested boot target; systemd.offline-updates(7);
//! systemd's `running_in_chroot()` and the container interface (`/run/systemd/container`, `/run/.containerenv`,
//! `/.dockerenv`).

use super::systemd::{self, BOOTED};
use super::{upstart, Host};
use serde::Serialize;
use std::os::unix::fs::MetadataExt;

/// The kind of system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// A normally running machine.
    Normal,
    /// Booted into system-update.target: the update's own reboot must not be refused.
    OfflineUpdate,
    /// Booted into, or switched to, rescue.target.
    Rescue,
    /// The same for emergency.target.
    Emergency,
    /// In a chroot, where an image is being made.
    Chroot,
    /// In a container: the kernel is the host's.
    Container,
    /// No init system with a gate: neither systemd, nor upstart with the wrappers of packaging/el6.
    NoInit,
    /// `vfguard=off` is on the kernel command line.
    Off,
}

impl Place {
    /// Whether the gate may be closed here.
    pub fn may_close(self) -> bool {
        match self {
            Place::Normal => true,
            Place::OfflineUpdate | Place::Rescue | Place::Emergency => false,
            Place::Chroot | Place::Container | Place::NoInit | Place::Off => false,
        }
    }

    /// Whether the boot default may be held and promoted here.
    pub fn may_hold(self) -> bool {
        match self {
            Place::Normal | Place::OfflineUpdate | Place::Rescue | Place::Emergency => true,
            Place::Chroot | Place::Container | Place::NoInit | Place::Off => false,
        }
    }

    /// Whether a hook may build here.
    pub fn may_build(self) -> bool {
        self != Place::Off
    }

    /// One line that says why nothing is refused here; none if it is.
    pub fn hands_off(self) -> Option<&'static str> {
        match self {
            Place::Normal => None,
            Place::OfflineUpdate => Some("booted for an offline update: the boot default is held, no reboot is refused"),
            Place::Rescue => Some("in rescue mode: the boot default is held, no reboot is refused"),
            Place::Emergency => Some("in emergency mode: the boot default is held, no reboot is refused"),
            Place::Chroot => Some("in a chroot: required drivers are built, neither reboot nor boot default are touched"),
            Place::Container => {
                Some("in a container: required drivers are built, neither reboot nor boot default are touched")
            }
            Place::NoInit => {
                Some("neither systemd nor upstart with wrappers (vfguard-upstart install) here: required drivers are built, neither reboot nor boot default are touched")
            }
            Place::Off => Some("vfguard=off is on the kernel command line: nothing is built, refused or held"),
        }
    }
}

/// The kind of this system. No process is started, with one exception: systemd is asked if the files do not tell whether an
/// offline update is running or only waiting for the next boot. That never happens in an ordinary boot, when systemd is
/// busy.
///
/// Another root than `/` counts as a complete system with systemd.
pub fn place(host: &Host) -> Place {
    let cmdline = host.read_text("/proc/cmdline").unwrap_or_default();
    let words: Vec<&str> = cmdline.split_ascii_whitespace().collect();
    if words.contains(&"vfguard=off") {
        return Place::Off;
    }
    if host.is_live() {
        if in_container(host) {
            return Place::Container;
        }
        if in_chroot(host) {
            return Place::Chroot;
        }
        if !host.is_dir(BOOTED) && !upstart::is_upstart(host) {
            return Place::NoInit;
        }
    }
    if upstart::is_upstart(host) && !upstart::unwrapped(host).is_empty() {
        return Place::NoInit;
    }
    if let Some(special) = switched_to(host).or_else(|| asked_for(&words).filter(|_| !went_on(host))) {
        return special;
    }
    if offline_update(host) {
        return Place::OfflineUpdate;
    }
    Place::Normal
}

/// The target that the kernel command line requests from systemd; the last word counts.
fn asked_for(words: &[&str]) -> Option<Place> {
    let unit = |unit: &str| match unit {
        "rescue.target" | "rescue" | "runlevel1.target" => Some(Place::Rescue),
        "emergency.target" | "emergency" => Some(Place::Emergency),
        "system-update.target" => Some(Place::OfflineUpdate),
        _ => None,
    };
    words.iter().rev().find_map(|word| match *word {
        "emergency" | "-b" => Some(Some(Place::Emergency)),
        "rescue" | "single" | "-s" | "s" | "S" | "1" => Some(Some(Place::Rescue)),
        "2" | "3" | "4" | "5" => Some(None),
        word => word.strip_prefix("systemd.unit=").map(unit),
    })?
}

/// Whether the machine has left the mode that its command line requested, for example because the rescue shell was ended.
/// Then systemd-user-sessions.service has run, which permits logins; neither rescue.target nor an offline update starts it.
fn went_on(host: &Host) -> bool {
    host.is_dir(BOOTED) && !host.exists("/run/nologin")
}

/// Detects the shell of rescue.target or emergency.target by its cgroup (v1 and v2), however the target was reached.
fn switched_to(host: &Host) -> Option<Place> {
    let runs = |service: &str| {
        ["/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"]
            .iter()
            .any(|mount| host.is_dir(format!("{mount}/system.slice/{service}")))
    };
    match (runs("emergency.service"), runs("rescue.service")) {
        (true, _) => Some(Place::Emergency),
        (false, true) => Some(Place::Rescue),
        (false, false) => None,
    }
}

/// If `/system-update` exists, systemd-system-update-generator(8) redirects the default target to system-update.target. It
/// does so at a daemon-reload too, while the update only waits for the next boot. And an update removes the link first of
/// all, so the next daemon-reload undoes the redirection while the update still runs. So systemd is asked if the files
/// permit an update: logins are forbidden (`/run/nologin`) until systemd-user-sessions.service has run, which never happens
/// in an update. Early in every boot they are forbidden too, but only vfguard-boot.service runs then, and it is not part of
/// an update.
fn offline_update(host: &Host) -> bool {
    let link = |path: &str| host.path_of_link(path).symlink_metadata().is_ok();
    let turned = host
        .read_link("/run/systemd/generator.early/default.target")
        .is_ok_and(|target| target.file_name().is_some_and(|n| n == "system-update.target"));
    let announced = turned && (link("/system-update") || link("/etc/system-update"));
    if !host.is_live() {
        return announced;
    }
    if !turned && (!host.exists("/run/nologin") || in_boot_unit(host)) {
        return false;
    }
    // The target is reached after the updating service; before that it has a job. If systemd does not answer and the files
    // announce an update, assume that it is running: the boot default is held in any case, and a refusal would leave the
    // machine stuck in the update.
    systemd::show(&["system-update.target"], &["ActiveState", "Job"]).map_or(announced, |units| {
        units.first().map_or(announced, |u| {
            let is = |key: &str, value: &str| u.get(key).is_some_and(|v| v == value);
            is("ActiveState", "active")
                || is("ActiveState", "activating")
                || !(is("Job", "0") || is("Job", "") || !u.contains_key("Job"))
        })
    })
}

/// Whether this is vfguard-boot.service, by its cgroup (v1 or v2). Only multi-user.target wants this unit, and an offline
/// update never reaches that target.
fn in_boot_unit(host: &Host) -> bool {
    host.read_text("/proc/self/cgroup").is_ok_and(|text| text.lines().any(|l| l.ends_with("/vfguard-boot.service")))
}

fn in_container(host: &Host) -> bool {
    let marks = ["/run/systemd/container", "/run/.containerenv", "/.dockerenv"];
    marks.iter().any(|mark| host.exists(mark))
        || host.read("/proc/1/environ").is_ok_and(|e| e.split(|&b| b == 0).any(|word| word.starts_with(b"container=")))
}

/// Whether this process has another root directory than init. If `/proc` is not mounted, assume a chroot, since that is what
/// one looks like. Without root the comparison is not permitted; then assume that it is not a chroot.
fn in_chroot(host: &Host) -> bool {
    if !host.is_dir("/proc/1") {
        return true;
    }
    match (host.metadata("/proc/1/root/."), host.metadata("/")) {
        (Ok(init), Ok(ours)) => (init.dev(), init.ino()) != (ours.dev(), ours.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(files: &[(&str, &str)]) -> Place {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        for (path, text) in files {
            host.write_atomic(path, text.as_bytes(), 0o644).unwrap();
        }
        place(&host)
    }

    fn booted_with(words: &str) -> Place {
        with(&[("/proc/cmdline", &format!("BOOT_IMAGE=/vmlinuz-6.1 root=/dev/sda1 ro {words}\n"))])
    }

    #[test]
    fn another_root_counts_as_a_complete_system_whatever_this_machine_is() {
        assert_eq!(with(&[]), Place::Normal);
        assert_eq!(with(&[("/.dockerenv", "")]), Place::Normal);
    }

    #[test]
    fn the_command_line_decides_and_its_last_word_counts() {
        for (words, place) in [
            ("quiet", Place::Normal),
            ("vfguard=off", Place::Off),
            ("vfguard=off systemd.unit=rescue.target", Place::Off),
            ("vfguard=offline", Place::Normal),
            ("single", Place::Rescue),
            ("1", Place::Rescue),
            ("emergency", Place::Emergency),
            ("rd.emergency=reboot", Place::Normal),
            ("systemd.unit=emergency.target", Place::Emergency),
            ("systemd.unit=rescue.target systemd.unit=multi-user.target", Place::Normal),
            ("1 3", Place::Normal),
            ("systemd.unit=system-update.target", Place::OfflineUpdate),
            ("console=ttyS0,115200 acpi=1", Place::Normal),
        ] {
            assert_eq!(booted_with(words), place, "{words}");
        }
    }

    #[test]
    fn a_machine_that_left_the_rescue_shell_is_a_normal_one() {
        let line = ("/proc/cmdline", "ro single\n");
        let systemd = ("/run/systemd/system/x", "");
        assert_eq!(with(&[line, systemd, ("/run/nologin", "")]), Place::Rescue);
        assert_eq!(with(&[line, systemd]), Place::Normal);
        let shell = ("/sys/fs/cgroup/system.slice/rescue.service/cgroup.procs", "");
        assert_eq!(with(&[line, systemd, shell]), Place::Rescue);
    }

    #[test]
    fn a_rescue_or_emergency_shell_is_noticed_however_it_was_started() {
        assert_eq!(with(&[("/sys/fs/cgroup/system.slice/emergency.service/cgroup.procs", "")]), Place::Emergency);
        assert_eq!(with(&[("/sys/fs/cgroup/systemd/system.slice/rescue.service/tasks", "")]), Place::Rescue);
    }

    #[test]
    fn an_offline_update_is_recognised_by_the_link_and_the_generator_together() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        symlink("/var/lib/system-update", dir.path().join("system-update")).unwrap();
        assert_eq!(place(&host), Place::Normal, "it waits for the next boot");
        std::fs::create_dir_all(dir.path().join("run/systemd/generator.early")).unwrap();
        let default = dir.path().join("run/systemd/generator.early/default.target");
        symlink("/usr/lib/systemd/system/system-update.target", default).unwrap();
        assert_eq!(place(&host), Place::OfflineUpdate);
    }

    #[test]
    fn the_boot_unit_is_recognised_by_its_cgroup() {
        for (group, told) in [
            ("0::/system.slice/vfguard-boot.service", true),
            ("7:pids:/\n1:name=systemd:/system.slice/vfguard-boot.service", true),
            ("0::/system.slice/vfguard.service", false),
            ("0::/user.slice/user-0.slice/session-1.scope", false),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let host = Host::new(dir.path()).unwrap();
            host.write_atomic("/proc/self/cgroup", format!("{group}\n").as_bytes(), 0o644).unwrap();
            assert_eq!(in_boot_unit(&host), told, "{group}");
        }
        let unit = include_str!("../../packaging/systemd/vfguard-boot.service");
        let wanted: Vec<&str> = unit.split("[Install]").nth(1).unwrap().split_whitespace().collect();
        assert_eq!(wanted, ["WantedBy=multi-user.target"]);
    }

    #[test]
    fn only_a_normal_place_refuses() {
        for place in [
            Place::Normal,
            Place::OfflineUpdate,
            Place::Rescue,
            Place::Emergency,
            Place::Chroot,
            Place::Container,
            Place::NoInit,
            Place::Off,
        ] {
            assert_eq!(place.may_close(), place.hands_off().is_none(), "{place:?}");
            assert!(place.may_hold() || !place.may_close(), "{place:?}");
        }
    }
}
