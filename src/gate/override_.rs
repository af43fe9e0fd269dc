//! An override: a person opens the gate against a verdict, with a reason. It ends by itself, at the latest at the next boot.

use super::by_hand;
use super::lock::Lock;
use super::open::{close_by_clock, close_later, open_locked};
use super::record;
use super::term::Term;
use crate::audit::{self, Who};
use crate::error::advise_exit;
use crate::error::Exit;
use crate::host::files::trust;
use crate::host::notices::{self, Topic};
use crate::host::Host;
use crate::kernel::{self, KernelRelease};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The file, below the root; a boot removes it.
pub const FILE: &str = "/run/vfguard/override.json";
/// How long it lasts by default.
pub const USUAL: Duration = Duration::from_secs(30 * 60);
/// The longest duration. For more than a day use `vfguard decline` or `mode = "observe"`.
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// An override as it is stored and reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// Why.
    pub reason: String,
    /// The kernel that it names, if any. That kernel may also become the boot default in the meantime.
    pub kernel: Option<KernelRelease>,
    /// The kernels that it covers: the named one, else all that were there. Any other unsafe kernel closes the gate again.
    pub kernels: Vec<KernelRelease>,
    /// Who.
    #[serde(flatten)]
    pub who: Who,
    /// How long.
    #[serde(flatten)]
    pub term: Term,
}

impl Override {
    /// An override by this process from now on, not stored yet.
    ///
    /// # Errors
    /// When the reason is missing, or the duration is zero or longer than [`LONGEST`].
    pub fn new(host: &Host, reason: &str, kernel: Option<KernelRelease>, lasts: Duration) -> Result<Override> {
        let usage = |message: String, remedy: &str| Err(advise_exit(Exit::Usage, message, remedy));
        let reason = match audit::reason(reason) {
            Ok(reason) => reason,
            Err(why) => return usage(why, "say why in a line: vfguard gate open --reason TEXT"),
        };
        if lasts < Duration::from_secs(1) || lasts > LONGEST {
            return usage(
                format!("an override lasts from 1 s to {}", humantime::format_duration(LONGEST)),
                "give a time such as --for 30m; to give up a kernel for good: vfguard decline KERNEL",
            );
        }
        let kernels = match &kernel {
            Some(k) => vec![k.clone()],
            // A kernel for which the gate is closed may have an image but no modules, so that it does not count as
            // installed.
            None => {
                let closed_for = record(host).unwrap_or_default().reasons.into_iter().filter_map(|r| r.kernel);
                let mut kernels: Vec<KernelRelease> = kernel::installed(host).into_iter().map(|k| k.release).collect();
                for kernel in closed_for {
                    if !kernels.contains(&kernel) {
                        kernels.push(kernel);
                    }
                }
                kernels
            }
        };
        Ok(Override { reason, kernel, kernels, who: Who::current(host), term: Term::new(host, lasts) })
    }

    /// Whether the override covers each of these unsafe kernels.
    pub fn covers<'a>(&self, unsafe_kernels: impl IntoIterator<Item = &'a KernelRelease>) -> bool {
        unsafe_kernels.into_iter().all(|k| self.kernels.contains(k))
    }
}

/// The override in effect, if any. One that cannot be read, or that others could have written, does not count.
pub fn active(host: &Host) -> Option<Override> {
    active_at(host, audit::now())
}

fn active_at(host: &Host, now: i64) -> Option<Override> {
    let text = trust::read_text(&host.path(FILE), FILE.as_ref()).ok()?;
    serde_json::from_str::<Override>(&text).ok().filter(|o| o.term.runs(host, now))
}

pub(super) fn store(host: &Host, over: &Override) -> Result<()> {
    host.write_atomic(FILE, &serde_json::to_vec_pretty(over)?, 0o644)
}

/// Opens the gate against a verdict. The steps without which it must not be open come first: the line in the audit log, then
/// the timer that closes the gate again.
///
/// # Errors
/// When the reason is missing, the duration is out of bounds, the audit log cannot be written or the timer cannot be armed,
/// and errors of opening.
pub fn open_override(host: &Host, reason: &str, kernel: Option<KernelRelease>, lasts: Duration) -> Result<Override> {
    let over = Override::new(host, reason, kernel, lasts)?;
    let mut event = audit::Event::now(host, audit::What::Override, &over.reason, over.kernel.as_ref());
    event.until = Some(audit::stamp(over.term.until));
    // Before the lock is taken: the log is synced, and on a disk that hangs every process that closes the gate would have to
    // wait.
    audit::append(host, &event)?;
    let lock = Lock::take(host)?;
    // It covers the kernels that were there when the person decided.
    let unknown = |kernel: &&KernelRelease| over.kernel.is_none() && !over.kernels.contains(kernel);
    if let Some(kernel) = record(host).unwrap_or_default().reasons.iter().filter_map(|r| r.kernel.as_ref()).find(unknown) {
        return Err(advise_exit(
            Exit::Locked,
            format!("the gate was closed for {kernel} meanwhile, so it was not opened"),
            "vfguard check; then run this again",
        ));
    }
    close_later(host, &over.term, lasts)?;
    by_hand::end(host)?;
    store(host, &over)?;
    open_locked(host, &lock)?;
    drop(lock);
    close_by_clock(host, &over.term);
    let kernels = over.kernels.iter().map(|k| k.as_str()).collect::<Vec<_>>().join(" ");
    let until = audit::stamp(over.term.until);
    let login = over.who.login_uid.map(|u| u.to_string()).unwrap_or_default();
    notices::journal(
        host,
        Topic::Override,
        &format!("gate opened against the verdict until {until}: {}", over.reason),
        &[
            ("VFGUARD_GATE", "overridden"),
            ("VFGUARD_KERNEL", kernels.as_str()),
            ("VFGUARD_REASON", over.reason.as_str()),
            ("VFGUARD_UNTIL", until.as_str()),
            ("VFGUARD_LOGIN_UID", login.as_str()),
        ],
    );
    Ok(over)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn machine(uptime: &str, boot: &str) -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        host.write_atomic("/proc/uptime", uptime.as_bytes(), 0o644).unwrap();
        host.write_atomic("/proc/sys/kernel/random/boot_id", boot.as_bytes(), 0o644).unwrap();
        (dir, host)
    }

    #[test]
    fn it_ends_by_itself_and_at_the_next_boot() {
        let (_dir, host) = machine("100.25 90.0\n", "one\n");
        let over = Override::new(&host, " kernel page says fine ", None, USUAL).unwrap();
        assert_eq!(over.reason, "kernel page says fine");
        store(&host, &over).unwrap();
        assert_eq!(active(&host), Some(over.clone()));
        assert!(active_at(&host, over.term.until - 1).is_some());
        assert!(active_at(&host, over.term.until).is_none());
        host.write_atomic("/proc/sys/kernel/random/boot_id", b"two\n", 0o644).unwrap();
        assert!(active(&host).is_none(), "it outlived its boot");
    }

    #[test]
    fn a_clock_set_back_does_not_prolong_it() {
        let (_dir, host) = machine("100.25 90.0\n", "one\n");
        let over = Override::new(&host, "x", None, USUAL).unwrap();
        store(&host, &over).unwrap();
        assert!(active_at(&host, over.term.since - 86_400).is_some(), "within its half hour since boot");
        host.write_atomic("/proc/uptime", b"1900.30 90.0\n", 0o644).unwrap();
        assert!(active_at(&host, over.term.since - 86_400).is_none());
        std::fs::remove_file(host.path("/proc/uptime")).unwrap();
        assert!(active_at(&host, over.term.since - 1).is_none(), "a clock before its start, and nothing else known");
    }

    #[test]
    fn it_needs_a_reason_and_a_bounded_time() {
        let (_dir, host) = machine("1.0 1.0", "one");
        let long = "x".repeat(2000);
        for (reason, lasts) in
            [("", 60), (" \t", 60), ("two\nlines", 60), (long.as_str(), 60), ("fine", 0), ("fine", 86_401)]
        {
            let error = Override::new(&host, reason, None, Duration::from_secs(lasts)).unwrap_err();
            assert_eq!(crate::error::exit(&error), Exit::Usage, "{error:#}");
        }
    }

    #[test]
    fn a_kernel_that_it_did_not_name_is_not_covered() {
        let (_dir, host) = machine("1.0 1.0", "one");
        let (a, b): (KernelRelease, KernelRelease) = ("6.1.0-9".parse().unwrap(), "6.1.0-10".parse().unwrap());
        host.write_atomic("/boot/vmlinuz-6.1.0-9", b"x", 0o644).unwrap();
        host.write_atomic("/lib/modules/6.1.0-9/modules.dep", b"", 0o644).unwrap();
        let named = Override::new(&host, "x", Some(b.clone()), USUAL).unwrap();
        assert!(named.covers([&b]) && named.covers([]) && !named.covers([&a]) && !named.covers([&a, &b]));
        let present = Override::new(&host, "x", None, USUAL).unwrap();
        assert!(present.covers([&a]) && !present.covers([&a, &b]), "a kernel that came later");
    }

    #[test]
    fn an_override_that_others_could_have_written_does_not_count() {
        let (dir, host) = machine("1.0 1.0", "one");
        store(&host, &Override::new(&host, "x", None, USUAL).unwrap()).unwrap();
        let path = dir.path().join("run/vfguard/override.json");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(active(&host).is_none());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(active(&host).is_some());
        std::fs::write(&path, b"{\"reason\":").unwrap();
        assert!(active(&host).is_none());
    }
}
