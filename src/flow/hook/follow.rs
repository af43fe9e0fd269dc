//! Waits for the worker and shows its progress meanwhile.
//!
//! The wait cannot deadlock: a worker whose job systemd does not start is not waited for. As shipped, no unit that the worker is ordered
//! after waits for a hook (packaging/systemd/vfguard.service), but a drop-in of this machine may, or a mount that hangs.

use super::{PROGRESS, WORKER};
use crate::host::{systemd, Host};
use crate::progress::Progress;
use anyhow::Result;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::{Duration, Instant};

/// How long systemd may take to start the worker; a busy machine takes a second or two.
const BEGIN: Duration = Duration::from_secs(15);
/// How often the worker's progress is read.
const LOOK: Duration = Duration::from_millis(200);
/// How much progress is read at once, in bytes.
const PIECE: u64 = 64 << 10;

/// How the worker ran.
pub(super) enum Ran {
    /// It could not be started: masked, or unknown to systemd.
    Not,
    /// systemd did not start it, and its job was cancelled.
    Waits,
    /// It was already running.
    Joined,
    /// It ran from its start to its end.
    Whole,
    /// It is still running, and the time is over.
    On,
}

/// Starts the worker, or joins it, and shows its progress until its end, or until the time is over.
pub(super) fn follow(host: &Host, until: Instant, progress: &dyn Progress) -> Result<Ran> {
    let begun = systemd::show(&[WORKER], &["ActiveState"])
        .is_ok_and(|units| units.iter().any(|u| u.get("ActiveState").is_some_and(|s| s == "activating")));
    let before = identity(host);
    let mut tail = Tail { skip: before.filter(|_| !begun), ..Tail::default() };
    let start = Instant::now();
    let wait = || systemd::run_unit(WORKER, until.saturating_duration_since(start));
    let mut looked = begun;
    let mut cancelled = false;
    let outcome = thread::scope(|scope| {
        // Where no thread can be made, the progress is shown when the worker has ended.
        let Ok(waiting) = thread::Builder::new().spawn_scoped(scope, wait) else { return wait() };
        while !waiting.is_finished() {
            tail.show(host, progress);
            thread::sleep(LOOK);
            if !looked && start.elapsed() > BEGIN {
                looked = true;
                // Cancelling the job wakes everybody who waits for it, here and in other hooks.
                cancelled = systemd::cancel_if_waiting(WORKER);
            }
        }
        waiting.join().unwrap_or_else(|_| Err(anyhow::anyhow!("waiting for {WORKER}")))
    })?;
    tail.show(host, progress);
    if cancelled {
        // The worker still has to look again; it starts when systemd lets it, and nobody waits for it.
        systemd::order("start", &[WORKER])?;
        return Ok(Ran::Waits);
    }
    if outcome.timed_out {
        return Ok(Ran::On);
    }
    Ok(match (outcome.success() || identity(host) != before, begun) {
        (_, true) => Ran::Joined,
        (true, false) => Ran::Whole,
        (false, false) => Ran::Not,
    })
}

/// Identifies the progress file of one run, to tell it from another run's.
fn identity(host: &Host) -> Option<(u64, i64, i64)> {
    host.metadata(PROGRESS).ok().map(|m| (m.ino(), m.ctime(), m.ctime_nsec()))
}

/// The part of the progress that has not been shown yet.
#[derive(Default)]
struct Tail {
    /// The progress file of the previous run, which is not shown.
    skip: Option<(u64, i64, i64)>,
    file: Option<u64>,
    at: u64,
    line: Vec<u8>,
}

impl Tail {
    fn show(&mut self, host: &Host, progress: &dyn Progress) {
        let Ok(mut file) = File::open(host.path(PROGRESS)) else { return };
        let Ok(meta) = file.metadata() else { return };
        if self.skip == Some((meta.ino(), meta.ctime(), meta.ctime_nsec())) {
            return;
        }
        if self.file != Some(meta.ino()) || meta.len() < self.at {
            (self.file, self.at) = (Some(meta.ino()), 0);
            self.line.clear();
        }
        let mut piece = Vec::new();
        if file.seek(SeekFrom::Start(self.at)).and_then(|_| file.take(PIECE).read_to_end(&mut piece)).is_err() {
            return;
        }
        self.at += piece.len() as u64;
        for byte in piece {
            if byte != b'\n' {
                self.line.push(byte);
                continue;
            }
            progress.note(&crate::text::printable(&String::from_utf8_lossy(&self.line)));
            self.line.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Progress for Heard {
        fn begin(&self, _: Option<u64>, _: &str) {}
        fn advance(&self, _: u64) {}
        fn end(&self) {}
        fn note(&self, text: &str) {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }

    #[test]
    fn progress_is_shown_once_and_by_whole_lines_without_that_of_the_previous_run() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        let heard = Heard::default();
        host.write_atomic(PROGRESS, b"old\n", 0o644).unwrap();
        let mut tail = Tail { skip: identity(&host), ..Tail::default() };
        tail.show(&host, &heard);
        assert!(heard.0.lock().unwrap().is_empty());
        host.write_atomic(PROGRESS, b"one\ntw", 0o644).unwrap();
        tail.show(&host, &heard);
        let path = host.path(PROGRESS);
        std::fs::write(&path, b"one\ntwo\x1b[31m\n").unwrap();
        tail.show(&host, &heard);
        tail.show(&host, &heard);
        assert_eq!(*heard.0.lock().unwrap(), ["one", "two\u{fffd}[31m"]);
    }
}
