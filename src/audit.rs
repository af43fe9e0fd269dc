//! The audit log: who overrode or declined what, why and until when, and when the gate closed or opened by itself. JSON lines, only ever appended, for root's eyes.
//!
//! It has no bound of its own: a line is some 300 bytes and somebody's act, and what an auditor asks for is that none is lost. How
//! long lines are kept is the site's to say; `doctor` warns where the file is [`LARGE`]. It may be moved away at any time.

use crate::error::Remedy;
use crate::host::Host;
use crate::release::KernelRelease;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

/// Where it is, below the root.
pub const FILE: &str = "/var/lib/vfguard/audit.log";
/// Fifty thousand lines: somebody should look at who writes them, and put them away.
pub const LARGE: u64 = 16 << 20;
/// What login(1) leaves in `loginuid` while nobody logged in: `(uid_t) -1`.
const NO_LOGIN: u32 = u32::MAX;

/// Who runs this process, as far as the kernel knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The real user id; 0 after sudo.
    pub uid: u32,
    /// Who logged in, whatever they became since (`/proc/self/loginuid`, proc(5)); none for a service.
    pub login_uid: Option<u32>,
    /// The terminal, if there is one.
    pub tty: Option<String>,
}

impl Who {
    /// As people are told.
    pub fn told(&self) -> String {
        match self.login_uid {
            Some(login) if login != self.uid => format!("uid {} (logged in as {login})", self.uid),
            _ => format!("uid {}", self.uid),
        }
    }

    /// This process. Of another root's `/proc` there is no `self`, so only the user id is known there.
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
    /// The gate was closed without a person's order, or for other reasons than before.
    Closed,
    /// The gate was opened without a person's order.
    Opened,
    /// The gate was removed for good, as by a package's removal.
    Remove,
    /// A kernel was declined.
    Decline,
    /// That was taken back.
    Accept,
    /// A reboot was asked for through vfguard.
    Reboot,
    /// The boot default was moved.
    BootDefault,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When (RFC 3339, UTC).
    pub time: String,
    /// What.
    pub event: What,
    /// Who.
    #[serde(flatten)]
    pub who: Who,
    /// Why, in the person's words.
    pub reason: String,
    /// The kernel that it names.
    pub kernel: Option<KernelRelease>,
    /// When it ends (RFC 3339, UTC).
    pub until: Option<String>,
}

impl Event {
    /// An event of this process, now.
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

/// Unix seconds now.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// A reason is a sentence, kept in the journal and in this log.
const MAX_REASON: usize = 1000;

/// A person's reason, as it is kept.
///
/// # Errors
/// What is wrong with it: empty, longer than a line may be, or not a line.
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
/// When the log cannot be written: then what it would tell of must not be done.
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
    // A line that a full disk cut short stays as it is; the next one starts anew.
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
    fn lines_are_only_ever_appended_and_are_roots() {
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
    fn a_line_that_was_cut_short_spoils_no_later_one() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        host.write_atomic(FILE, b"{\"time\":\"cut sho", 0o600).unwrap();
        append(&host, &event(&host, "after")).unwrap();
        let text = host.read_text(FILE).unwrap();
        assert_eq!(serde_json::from_str::<Event>(text.lines().last().unwrap()).unwrap().reason, "after");
    }

    #[test]
    fn a_link_in_the_logs_place_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        fs::create_dir_all(host.path("/var/lib/vfguard/audit.log")).unwrap();
        assert!(append(&host, &event(&host, "x")).is_err());
    }
}
