//! The log of a build: everything that the build printed, bounded in size and without terminal control characters.

use super::cause::Diagnosis;
use super::reading::Reading;
use crate::host::{files, Host};
use anyhow::{Context, Result};
use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Where logs are, below the root.
const DIR: &str = "/var/lib/vfguard/log";
/// Number of logs kept: enough for a dozen kernels with two drivers.
const MAX_LOGS: usize = 24;
/// Bytes kept from the beginning of a log. A verbose build of a driver prints 0.3 MB.
const MAX_HEAD: u64 = 2 << 20;
/// Bytes kept from the end of a log that is too long.
const MAX_TAIL: usize = 256 << 10;
/// Longer lines are cut. No compiler message is that long.
const MAX_LINE: usize = 4 << 10;

/// A log that is being written.
#[derive(Debug)]
pub struct Log {
    name: PathBuf,
    /// None if the file could not be created; the build goes on without a log.
    file: Option<File>,
    written: u64,
    tail: VecDeque<u8>,
    dropped: u64,
    line: Vec<u8>,
    reading: Reading,
}

impl Log {
    /// A new log, readable by root only. The oldest logs are removed if there are too many. `stem` is a safe file name. A
    /// log only informs, so a failure to create it is returned beside a log that is not written anywhere.
    pub fn create(host: &Host, stem: &str) -> (Log, Option<anyhow::Error>) {
        let name = Path::new(DIR).join(format!("{stem}.log"));
        let (file, error) = match open(host, &name) {
            Ok(file) => (Some(file), None),
            Err(e) => (None, Some(e)),
        };
        let log =
            Log { name, file, written: 0, tail: VecDeque::new(), dropped: 0, line: Vec::new(), reading: Reading::default() };
        (log, error)
    }

    /// Its path below the root, if it is on the disk.
    pub fn name(&self) -> Option<&Path> {
        self.file.as_ref().map(|_| self.name.as_path())
    }

    /// Names the log at the end of a message.
    pub fn mention(&self) -> String {
        self.name().map_or_else(|| "no log could be written".to_owned(), |name| format!("log: {}", name.display()))
    }

    /// Takes output of the build. A log that cannot be written does not stop the build; the free space is watched elsewhere.
    pub fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&b| b == b'\n') {
            let room = MAX_LINE.saturating_sub(self.line.len());
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = harmless(&String::from_utf8_lossy(&self.line));
        self.line.clear();
        let line = line.trim_end();
        self.reading.take(line);
        self.store(line.as_bytes());
        self.store(b"\n");
    }

    fn store(&mut self, bytes: &[u8]) {
        if self.written + bytes.len() as u64 <= MAX_HEAD && self.tail.is_empty() {
            if self.file.as_mut().is_some_and(|file| file.write_all(bytes).is_ok()) {
                self.written += bytes.len() as u64;
            }
            return;
        }
        self.tail.extend(bytes);
        if let Some(over) = self.tail.len().checked_sub(MAX_TAIL).filter(|&n| n > 0) {
            self.tail.drain(..over);
            self.dropped += over as u64;
        }
    }

    /// Writes the bytes that were held back, once the build is over.
    pub fn finish(&mut self) {
        if !self.line.is_empty() {
            self.end_line();
        }
        if let Some(file) = &mut self.file {
            if self.dropped > 0 {
                let _ = writeln!(file, "vfguard: {} bytes of output are left out here", self.dropped);
            }
            let (a, b) = self.tail.as_slices();
            let _ = file.write_all(a).and_then(|()| file.write_all(b));
        }
        self.tail.clear();
    }

    /// A new program starts. The output so far does not explain its failure.
    pub fn next_program(&mut self) {
        self.reading = Reading::default();
    }

    /// Finds the cause in the output. `split`: the kernel's headers are two trees, not one.
    pub fn diagnose(&self, split: bool) -> Diagnosis {
        self.reading.diagnose(split)
    }
}

fn open(host: &Host, path: &Path) -> Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let name = path.file_name().context("a log without a name")?;
    let dir = host.make_dirs(path.parent().unwrap_or(path), 0o750)?;
    host.remove(path)?;
    prune(&dir.path());
    let file = File::options().write(true).create_new(true).mode(0o640).open(dir.at(name));
    file.with_context(|| format!("making the log {}", path.display()))
}

/// Removes the oldest logs, so that a new one has room.
pub(in crate::driver) fn prune(dir: &Path) {
    files::keep_newest(dir, MAX_LOGS - 1, |name| name.ends_with(".log"));
}

/// The newest build log, below the root.
pub fn last_log(host: &Host) -> Option<PathBuf> {
    let names = host.read_dir(DIR).ok()?;
    let logs = names.into_iter().filter(|n| n.to_string_lossy().ends_with(".log")).map(|n| Path::new(DIR).join(n));
    logs.filter_map(|p| Some((host.metadata(&p).ok()?.modified().ok()?, p))).max().map(|(_, p)| p)
}

/// Removes control characters, because terminals would act on them.
pub(super) fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' && c != '\n' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::cause::Cause;
    use super::*;
    use std::fs;

    #[test]
    fn an_unknown_failure_shows_makes_own_line_and_the_output_before_an_exit_code() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        for (printed, line) in [
            (
                "/sys/x not found\nmake[1]: *** No rule to make target 'x.o'.  Stop.\nmake: *** [Makefile:9: all] Error 2\n",
                "make[1]: *** No rule to make target 'x.o'.  Stop.",
            ),
            (
                "Makefile:60: *** Kernel header files not in any of the expected locations.  Stop.\n",
                "Makefile:60: *** Kernel header files not in any of the expected locations.  Stop.",
            ),
            (
                "common.mk:7: *** No headers here.\ncommon.mk:8: *** Install them\ncommon.mk:9: *** and try again.  Stop.\n",
                "common.mk:7: *** No headers here. Install them and try again.  Stop.",
            ),
            (
                "a\nno licence\n\nmake: *** [Makefile:2: default] Error 3\n",
                "no licence (make: *** [Makefile:2: default] Error 3)",
            ),
            ("only this\n", "only this"),
            ("", "it printed nothing"),
        ] {
            let mut log = Log::create(&host, "x").0;
            log.take(printed.as_bytes());
            log.finish();
            assert_eq!(
                log.diagnose(false),
                Diagnosis { cause: Cause::Other, line: line.into(), certain: false },
                "{printed}"
            );
        }
    }

    #[test]
    fn a_flood_is_bounded_and_its_beginning_and_end_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        let mut log = Log::create(&host, "x").0;
        log.take(b"first line\n");
        for _ in 0..100 {
            log.take(&[b'x'; 100_000]);
            log.take(b"\n");
        }
        for _ in 0..2000 {
            log.take(&[b'y'; 4000]);
            log.take(b"\n");
        }
        log.take(b"\x1b]0;owned\x07 last\x9b31m");
        log.finish();
        let text = fs::read_to_string(host.path(log.name().unwrap())).unwrap();
        assert!((text.len() as u64) < MAX_HEAD + MAX_TAIL as u64 + 200);
        assert!(text.starts_with("first line\n"), "the beginning is gone");
        assert!(text.contains("bytes of output are left out here"));
        assert!(text.contains("last") && !text.contains('\x1b') && !text.contains('\x07'));
    }

    #[test]
    fn logs_are_bounded_in_number() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        for n in 0..MAX_LOGS + 10 {
            Log::create(&host, &format!("{n}"));
        }
        assert_eq!(host.read_dir(DIR).unwrap().len(), MAX_LOGS);
        assert!(last_log(&host).is_some());
    }
}
