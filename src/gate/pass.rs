//! A pass: `vfguard reboot` allows its own reboot although a kernel that does not boot next is unsafe. It is used instead of
//! just opening the gate, because another run could close the gate again before the request, and the reboot would be refused
//! half-way.
//!
//! Unlike an override it affects the gate only: the boot default stays held, so the reboot starts the right kernel.

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

/// The file, below the root; a boot removes it.
pub const FILE: &str = "/run/vfguard/pass.json";
/// The request takes 30 s at most, and logind waits for delay inhibitors before it reboots (5 s by default).
const LASTS: Duration = Duration::from_secs(120);

/// A pass as it is stored and reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// The refused kernels that do not prevent this reboot. Any other one closes the gate and ends the pass.
    pub kernels: Vec<KernelRelease>,
    /// How long.
    #[serde(flatten)]
    pub term: Term,
}

impl Pass {
    /// Whether each of these unsafe kernels was known when the pass was created.
    pub fn covers<'a>(&self, unsafe_kernels: impl IntoIterator<Item = &'a KernelRelease>) -> bool {
        unsafe_kernels.into_iter().all(|k| self.kernels.contains(k))
    }
}

/// The pass in effect, if any. One that cannot be read, or that others could have written, does not count.
pub fn active(host: &Host) -> Option<Pass> {
    let text = trust::read_text(&host.path(FILE), FILE.as_ref()).ok()?;
    serde_json::from_str::<Pass>(&text).ok().filter(|p| p.term.runs(host, audit::now()))
}

/// Opens the gate for one reboot although these kernels are refused. First the timer that closes it again is armed, then the
/// pass is written, so the gate is never open without a pass that explains it.
///
/// # Errors
/// When the timer cannot be armed, and errors of opening; [`super::end_pass`] closes again.
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

    /// A gate that was closed because of 6.1.0-9 and opened for one reboot.
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
    fn a_pass_covers_its_kernels_and_another_kernel_closes_the_gate_and_ends_it() {
        let (_dir, host) = given();
        assert_eq!(close(&host, "6.1.0-9"), State::Overridden);
        let undecided = close_undecided(&host, &Settings::default(), because("6.1.0-9")[0].clone()).unwrap();
        assert_eq!((undecided.state, state(&host).state), (State::Overridden, State::Overridden));
        assert_eq!(close(&host, "6.1.0-10"), State::Closed);
        assert_eq!(active(&host), None);
        assert_eq!(close(&host, "6.1.0-9"), State::Closed);
    }

    #[test]
    fn it_ends_by_uptime_by_the_clock_and_at_the_next_boot() {
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
    fn closing_by_hand_ends_it_and_a_failed_request_ends_it_and_closes_for_the_reasons() {
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
    fn a_pass_that_others_could_have_written_does_not_count() {
        use std::os::unix::fs::PermissionsExt;
        let (_dir, host) = given();
        std::fs::set_permissions(host.path(FILE), std::fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(active(&host), None);
        assert_eq!(close(&host, "6.1.0-9"), State::Closed);
    }
}
