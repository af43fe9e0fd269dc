//! The audit log: who overrode or declined what, why and until when, and when the gate closed or opened by itself. JSON lines that are only
//! ever appended, readable by root alone.
//!
//! It has no size limit of its own: a line has some 300 bytes and records a person's act, and an auditor expects that none is lost. How
//! long lines are kept is the site's decision; `doctor` warns when the file reaches [`LARGE`]. It may be moved away at any time.

use crate::error::Remedy;
use crate::host::Host;
use crate::release::KernelRelease;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

/// Its path, below the root.
pub const FILE: &str = "/var/lib/vfguard/audit.log";
/// Fifty thousand lines: somebody should check what writes them, and archive them.
pub const LARGE: u64 = 16 << 20;
/// The value of `loginuid` if nobody logged in with login(1): `(uid_t) -1`.
const NO_LOGIN: u32 = u32::MAX;

/// The user of this process, as far as the kernel knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The real user id; 0 after sudo.
    pub uid: u32,
    /// The user who logged in, whatever uid they switched to since (`/proc/self/loginuid`, proc(5)); none for a service.
    pub login_uid: Option<u32>,
    /// The terminal, if there is one.
    pub tty: Option<String>,
}

impl Who {
    /// A description for people.
    pub fn told(&self) -> String {
        match self.login_uid {
            Some(login) if login != self.uid => format!("uid {} (logged in as {login})", self.uid),
            _ => format!("uid {}", self.uid),
        }
    }

    /// The user of this process. The `/proc` of another root has no `self`, so only the user id is known there.
    pub fn current(host: &Host) -> Who {
        let login = host.read_text("/proc/self/loginuid").ok().and_then(|t| t.trim().parse().ok());
        let tty = (0..3)
            .filter_map(|fd| host.read_link(format!("/proc/self/fd/{fd}")).ok())
            .map(|p| p.to_string_lossy().into_owned())
            .find(|p| p.starts_with("/dev/pts/") || p.starts_with("/dev/tty") || p == "/dev/console");
        Who { uid: nix::unistd::getuid().as_raw(), login_uid: login.filter(|&u| u != NO_LOGIN), tty }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The gate was opened against a verdict.
    Override,
    /// The gate was closed by hand; an override ended with it.
    Close,
    /// The gate was closed without a person's order, or its reasons changed.
    Closed,
    /// The gate was opened without a person's order.
    Opened,
    /// The gate was removed for good, for example when the package was removed.
    Remove,
    /// A kernel was declined.
    Decline,
    /// A declined kernel was accepted.
    Accept,
    /// A reboot was requested through vfguard.
    Reboot,
    /// The boot default was moved.
    BootDefault,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The time (RFC 3339, UTC).
    pub time: String,
    /// The event.
    pub event: What,
    /// The user.
    #[serde(flatten)]
    pub who: Who,
    /// The reason, in the person's words.
    pub reason: String,
    /// The kernel concerned.
    pub kernel: Option<KernelRelease>,
    /// The end of the override (RFC 3339, UTC).
    pub until: Option<String>,
}

impl Event {
    /// An event of this process, with the present time.
    pub fn now(host: &Host, event: What, reason: &str, kernel: Option<&KernelRelease>) -> Event {
        Event {
            time: stamp(now()),
            event,
            who: Who::current(host),
            reason: reason.to_owned(),
            kernel: kernel.cloned(),
            until: None,
        }
    }
}

/// The present time in Unix seconds.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// A reason is a sentence, and goes to the journal and this log.
const MAX_REASON: usize = 1000;

/// Checks and trims a person's reason.
///
/// # Errors
/// What is wrong with it: empty, too long, or more than one line.
pub(super) fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("a reason is needed".into());
    }
    if text.len() > MAX_REASON || text.chars().any(char::is_control) {
        return Err(format!("a reason is one line of at most {MAX_REASON} bytes"));
    }
    Ok(text.to_owned())
}

/// Unix seconds as RFC 3339 in UTC.
pub fn stamp(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |t| t.to_string())
}

/// Appends an event and makes it durable.
///
/// # Errors
/// If the log cannot be written: then the recorded act must not be done.
pub fn append(host: &Host, event: &Event) -> Result<()> {
    let act = format!("appending to the audit log {FILE}");
    let cure = "run this as root, with free space in /var/lib/vfguard";
    let place = host.place(FILE).remedy(act.clone(), cure)?;
    let file = File::options()
        .create(true)
        .append(true)
        .read(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC)
        .open(place.path());
    let mut file = file.remedy(act.clone(), cure)?;
    let length = file.metadata().remedy(act.clone(), cure)?.len();
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    // A line that was truncated by a full disk stays as it is; the next event starts on a new line.
    let mut last = [b'\n'];
    if length > 0 && file.read_exact_at(&mut last, length - 1).is_ok() && last != [b'\n'] {
        line.insert(0, b'\n');
    }
    file.write_all(&line).and_then(|()| file.sync_all()).remedy(act.clone(), cure)?;
    if length == 0 {
        place.sync().remedy(act, cure)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn event(host: &Host, reason: &str) -> Event {
        Event::now(host, What::Override, reason, Some(&"6.1.0-9-amd64".parse().unwrap()))
    }

    #[test]
    fn lines_are_only_ever_appended_and_readable_by_root_alone() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        for reason in ["one", "two\nlines \"quoted\""] {
            append(&host, &event(&host, reason)).unwrap();
        }
        let path = dir.path().join("var/lib/vfguard/audit.log");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        let events: Vec<Event> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(events.iter().map(|e| e.reason.as_str()).collect::<Vec<_>>(), ["one", "two\nlines \"quoted\""]);
        assert_eq!(events[0].who.uid, nix::unistd::getuid().as_raw());
    }

    #[test]
    fn a_truncated_line_does_not_damage_later_ones() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        host.write_atomic(FILE, b"{\"time\":\"cut sho", 0o600).unwrap();
        append(&host, &event(&host, "after")).unwrap();
        let text = host.read_text(FILE).unwrap();
        assert_eq!(serde_json::from_str::<Event>(text.lines().last().unwrap()).unwrap().reason, "after");
    }

    #[test]
    fn a_link_in_place_of_the_log_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        fs::create_dir_all(host.path("/var/lib/vfguard/audit.log")).unwrap();
        assert!(append(&host, &event(&host, "x")).is_err());
    }
}
