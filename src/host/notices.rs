//! Messages to people who did not ask: the journal, a wall message, the message of the day.

use crate::host::command::{self, Spec};
use crate::host::{files, Host};
use crate::text::{printable, Text};
use anyhow::Result;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;
use tempfile::NamedTempFile;

/// pam_motd(8) of Linux-PAM >= 1.3.1 (EL8, Debian 10 and later) shows every file of this directory at login. A boot removes
/// it. Older versions read no directory; there only the journal and wall inform people.
pub const MOTD: &str = "/run/motd.d/50-vfguard";
/// The directory of the file that is given to wall(1); all its versions accept a file.
const WALL: &str = "/run/vfguard";
/// journald's native protocol (systemd, docs/JOURNAL_NATIVE_PROTOCOL.md).
const JOURNAL: &str = "/run/systemd/journal/socket";
/// The socket of syslog(3), if there is no journal.
const SYSLOG: &str = "/dev/log";
/// Time limit for wall on terminals that hang; it forks for slow ones.
const WALL_LIMIT: Duration = Duration::from_secs(10);

/// What a message is about. Each has its own message id (`journalctl MESSAGE_ID=…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Reboots are refused from now on, or now for other reasons.
    GateClosed,
    /// Reboots are allowed again.
    GateOpened,
    /// It could not be confirmed that the gate is closed or open.
    GateFailed,
    /// A person opened the gate against the verdict.
    Override,
    /// A kernel was declined.
    Declined,
    /// A declined kernel was accepted again.
    Accepted,
    /// A reboot was requested through vfguard.
    Reboot,
    /// The boot default was held or promoted, or a one-shot default was cancelled.
    BootDefault,
}

impl Topic {
    /// Its message id (sd_journal_print(3)); made once with `journalctl --new-id128`, never changed.
    pub fn message_id(self) -> &'static str {
        match self {
            Topic::GateClosed => "a004f79bec994dea9583ceb1624748e3",
            Topic::GateOpened => "945dbc1485e14026a3d45b92212fbf9f",
            Topic::GateFailed => "7fda1de1990144ae971af5374fd2e745",
            Topic::Override => "dc16ee41dd1e42cfbe6258e477083fd9",
            Topic::Declined => "f41a0ed12aab4a348e085c4382c9176f",
            Topic::Accepted => "2e6e2cf408d14f22b6a971364284f38f",
            Topic::Reboot => "8f758776b74e46e5b970bcdd2dd1553e",
            Topic::BootDefault => "5b42b948daa34db491f1a9429d5a18d6",
        }
    }

    /// Its priority (syslog(3)).
    fn priority(self) -> u8 {
        match self {
            Topic::GateFailed => 3,
            Topic::GateClosed | Topic::Override => 4,
            Topic::Declined | Topic::Accepted | Topic::Reboot | Topic::BootDefault => 5,
            Topic::GateOpened => 6,
        }
    }
}

/// Writes to the journal, with fields in addition to the text (`VFGUARD_KERNEL` and others); another root has no journal. It
/// is no error if nothing listens. The text is one line, so it cannot fake another line in a syslog. The fields are
/// binary-safe, each with its length.
pub fn journal(host: &Host, topic: Topic, message: &str, fields: &[(&str, &str)]) {
    if !host.is_live() {
        return;
    }
    let sent = UnixDatagram::unbound().and_then(|socket| {
        socket.set_nonblocking(true)?;
        socket
            .send_to(&datagram(topic, message, fields), JOURNAL)
            .or_else(|_| socket.send_to(syslog(topic, message).as_bytes(), SYSLOG))
    });
    drop(sent);
}

/// A message of syslog(3); facility daemon is 3.
fn syslog(topic: Topic, message: &str) -> String {
    format!("<{}>vfguard: {}", 3 << 3 | topic.priority(), printable(message))
}

fn datagram(topic: Topic, message: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let (message, priority) = (printable(message), topic.priority().to_string());
    let fixed = [
        ("MESSAGE", message.as_str()),
        ("MESSAGE_ID", topic.message_id()),
        ("PRIORITY", priority.as_str()),
        ("SYSLOG_IDENTIFIER", "vfguard"),
    ];
    let mut bytes = Vec::new();
    for (key, value) in fixed.iter().chain(fields) {
        bytes.extend_from_slice(key.as_bytes());
        if value.contains('\n') {
            bytes.push(b'\n');
            bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            bytes.push(b'=');
        }
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(b'\n');
    }
    bytes
}

/// Reports an error that does not end the run, with its remedy.
pub fn complain(result: Result<()>) {
    if let Err(e) = result {
        let remedy = crate::error::remedy(&e).map(|r| format!("; {r}")).unwrap_or_default();
        crate::print::note(&format!("{e:#}{remedy}"));
    }
}

/// Sends a message to all logged-in users; another root has none. A failure is no error, because there are other channels.
pub fn wall(host: &Host, text: &Text) {
    if !host.is_live() || command::find("wall").is_none() {
        return;
    }
    if let Ok(file) = message(host, text) {
        let _ = command::run(&Spec::new("wall", [file.path()], WALL_LIMIT));
    }
}

/// A text in its own file, which is removed at the end; two runs at the same time would overwrite a shared one.
fn message(host: &Host, text: &Text) -> Result<NamedTempFile> {
    let dir = host.path(WALL);
    files::create_dirs(&dir, 0o755)?;
    let mut file = tempfile::Builder::new().prefix(".vfguard-wall-").tempfile_in(dir)?;
    file.write_all(text.as_str().as_bytes())?;
    Ok(file)
}

/// Writes a text to the message of the day, or removes vfguard's.
///
/// # Errors
/// When the file cannot be written or removed.
pub fn motd(host: &Host, text: Option<&Text>) -> Result<()> {
    match text {
        Some(text) => host.write_atomic(MOTD, text.as_str().as_bytes(), 0o644),
        None => host.remove(Path::new(MOTD)).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_walls_at_once_do_not_take_each_others_text() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        let (one, other) = (message(&host, &Text::of("one")).unwrap(), message(&host, &Text::of("other")).unwrap());
        assert_eq!(std::fs::read_to_string(one.path()).unwrap(), "one\n");
        drop(one);
        assert_eq!(std::fs::read_to_string(other.path()).unwrap(), "other\n");
        drop(other);
        assert_eq!(host.read_dir(WALL).unwrap().len(), 0);
    }

    #[test]
    fn a_datagram_has_the_format_that_journald_reads() {
        let fields = [("VFGUARD_KERNEL", "6.1.0-9"), ("VFGUARD_REASON", "two\nlines")];
        let bytes = datagram(Topic::GateClosed, "closed", &fields);
        let mut want = b"MESSAGE=closed\nMESSAGE_ID=".to_vec();
        want.extend_from_slice(Topic::GateClosed.message_id().as_bytes());
        want.extend_from_slice(b"\nPRIORITY=4\nSYSLOG_IDENTIFIER=vfguard\nVFGUARD_KERNEL=6.1.0-9\n");
        want.extend_from_slice(b"VFGUARD_REASON\n\x09\0\0\0\0\0\0\0two\nlines\n");
        assert_eq!(bytes, want);
    }

    #[test]
    fn a_message_is_one_line_in_the_journal_and_in_a_syslog() {
        let foreign = "closed: \u{1b}[2J\nvfguard: gate opened\r\n<3>kernel: x\u{202e}";
        let said = "closed: \u{fffd}[2J vfguard: gate opened <3>kernel: x\u{fffd}";
        assert_eq!(syslog(Topic::GateClosed, foreign), format!("<28>vfguard: {said}"));
        let bytes = datagram(Topic::GateClosed, foreign, &[]);
        assert!(bytes.starts_with(format!("MESSAGE={said}\nMESSAGE_ID=").as_bytes()));
    }

    #[test]
    fn message_ids_are_valid_and_distinct_and_are_in_the_manual() {
        let topics = [
            Topic::GateClosed,
            Topic::GateOpened,
            Topic::GateFailed,
            Topic::Override,
            Topic::Declined,
            Topic::Reboot,
            Topic::BootDefault,
        ];
        let manual = include_str!("../../packaging/man/chapters.roff");
        let mut ids: Vec<_> = topics.iter().map(|t| t.message_id()).collect();
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())));
        assert!(ids.iter().all(|id| manual.contains(id)));
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), topics.len());
    }

    #[test]
    fn control_characters_never_reach_a_login() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        motd(&host, Some(&Text::of("closed: \u{1b}]0;x\u{7}\n"))).unwrap();
        assert!(!host.read_text(MOTD).unwrap().contains('\u{1b}'));
        motd(&host, None).unwrap();
        motd(&host, None).unwrap();
        assert!(!host.exists(MOTD));
    }
}
