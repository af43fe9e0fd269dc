//! A pass: `vfguard reboot` lets its own reboot through against the verdict on a kernel that does not boot next. It takes the place of a
//! bare opening, after which a closing would fit in before the request: that one would be refused half-way.
//!
//! Unlike an override it is about the gate alone: the boot default is held all the while, so the reboot leads where it should.

use super::lock::Lock;
use super::open::{close_later, open_locked};
use super::term::Term;
use crate::audit;
use crate::host::files::trust;
use crate::host::{failpoint, Host};
use crate::kernel::KernelRelease;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Where it is, below the root; gone after a boot.
pub const FILE: &str = "/run/vfguard/pass.json";
/// The request takes 30 s at most, and logind waits for others before it reboots (5 s, unless the admin says more).
const LASTS: Duration = Duration::from_secs(120);

/// A pass as it is stored and reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// The kernels that are refused and do not keep this reboot from going through. Another one closes the gate and ends the pass.
    pub kernels: Vec<KernelRelease>,
    /// How long.
    #[serde(flatten)]
    pub term: Term,
}

impl Pass {
    /// Whether each of these unsafe kernels was known when it was given.
    pub fn covers<'a>(&self, unsafe_kernels: impl IntoIterator<Item = &'a KernelRelease>) -> bool {
        unsafe_kernels.into_iter().all(|k| self.kernels.contains(k))
    }
}

/// The pass that runs now, if any. One that cannot be read, or that others could have written, is none.
pub fn active(host: &Host) -> Option<Pass> {
    let text = trust::read_text(&host.path(FILE), FILE.as_ref()).ok()?;
    serde_json::from_str::<Pass>(&text).ok().filter(|p| p.term.runs(host, audit::now()))
}

/// Opens the gate for one reboot although these kernels are refused. The timer that closes it again comes first, then the pass, so that
/// at no instant the gate is open and neither refuses nor knows why not.
///
/// # Errors
/// When the timer cannot be had, and those of opening; [`super::end_pass`] closes again.
pub fn open_for_reboot(host: &Host, refused: Vec<KernelRelease>) -> Result<Pass> {
    let lock = Lock::take(host)?;
    let pass = Pass { kernels: refused, term: Term::new(host, LASTS) };
    close_later(host, &pass.term, LASTS)?;
    host.write_atomic(FILE, &serde_json::to_vec_pretty(&pass)?, 0o644)?;
    failpoint::hit("pass-given-before-opening");
    open_locked(host, &lock)?;
    Ok(pass)
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;
    use crate::config::Gate as Settings;

    fn machine() -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        host.write_atomic("/proc/uptime", b"100.25 90.0\n", 0o644).unwrap();
        host.write_atomic("/proc/sys/kernel/random/boot_id", b"one\n", 0o644).unwrap();
        (dir, host)
    }

    fn because(kernel: &str) -> Vec<Reason> {
        vec![Reason { kernel: Some(kernel.parse().unwrap()), summary: "x".into(), remedy: "y".into() }]
    }

    /// Closed because of 6.1.0-9, and opened for one reboot.
    fn given() -> (tempfile::TempDir, Host) {
        let (dir, host) = machine();
        super::super::close(&host, &Settings::default(), &because("6.1.0-9")).unwrap();
        let pass = open_for_reboot(&host, vec!["6.1.0-9".parse().unwrap()]).unwrap();
        let gate = state(&host);
        assert_eq!((gate.state, gate.over, gate.pass), (State::Overridden, None, Some(pass)));
        (dir, host)
    }

    fn close(host: &Host, kernel: &str) -> State {
        super::super::close(host, &Settings::default(), &because(kernel)).unwrap().state
    }

    #[test]
    fn while_it_runs_what_it_is_about_does_not_close_and_another_kernel_does_and_ends_it() {
        let (_dir, host) = given();
        assert_eq!(close(&host, "6.1.0-9"), State::Overridden);
        let undecided = close_undecided(&host, &Settings::default(), because("6.1.0-9")[0].clone()).unwrap();
        assert_eq!((undecided.state, state(&host).state), (State::Overridden, State::Overridden));
        assert_eq!(close(&host, "6.1.0-10"), State::Closed);
        assert_eq!(active(&host), None);
        assert_eq!(close(&host, "6.1.0-9"), State::Closed);
    }

    #[test]
    fn it_ends_by_the_time_since_boot_and_by_the_clock_and_at_the_next_boot() {
        let (_dir, host) = given();
        let pass = active(&host).unwrap();
        assert!(!pass.term.runs(&host, pass.term.until) && pass.term.until - pass.term.since == 120);
        for (file, text) in [("/proc/uptime", "221.0 90.0\n"), ("/proc/sys/kernel/random/boot_id", "two\n")] {
            let (_dir, host) = given();
            host.write_atomic(file, text.as_bytes(), 0o644).unwrap();
            assert_eq!((state(&host).state, active(&host)), (State::Open, None), "{file}");
            assert_eq!(close(&host, "6.1.0-9"), State::Closed, "{file}");
        }
    }

    #[test]
    fn closing_by_hand_ends_it_and_so_does_a_request_that_failed_which_closes_for_the_reasons_from_before() {
        let (_dir, host) = given();
        close_by_hand(&host, &Settings::default(), &because("6.1.0-9"), None).unwrap();
        assert_eq!((state(&host).state, active(&host)), (State::Closed, None));
        let (_dir, host) = given();
        assert_eq!(end_pass(&host, &Settings::default(), &because("6.1.0-9")).unwrap().state, State::Closed);
        assert_eq!((state(&host).reason, active(&host)), (vec!["6.1.0-9: x".to_owned()], None));
        let (_dir, host) = given();
        remove(&host).unwrap();
        assert_eq!((state(&host).state, active(&host)), (State::Open, None));
    }

    #[test]
    fn what_others_could_have_written_is_no_pass() {
        use std::os::unix::fs::PermissionsExt;
        let (_dir, host) = given();
        std::fs::set_permissions(host.path(FILE), std::fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(active(&host), None);
        assert_eq!(close(&host, "6.1.0-9"), State::Closed);
    }
}
