//! Nested readers that bound the cost of an archive: verify → meter → decompress → limit.

use crate::driver::digest::Hasher;
use crate::driver::Digest;
use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Bounds on an archive. Intel's largest has 60 entries, 4 MB and expands 7 times; ena's has 700 entries and 20 MB.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Headers, including those that only describe the next one.
    pub entries: u64,
    /// Bytes after decompression.
    pub total: u64,
    /// Bytes of one file.
    pub file: u64,
    /// Bytes of a header that only describes the next one: a name, or pax records (which may contain ACLs).
    pub metadata: u64,
    /// Pax records of all headers together. Honest archives have about five per entry.
    pub records: usize,
    /// Components of a path.
    pub depth: usize,
    /// Bytes of a path.
    pub path: usize,
    /// How many times larger than the compressed size the content may be (source text: up to 15; gzip can do 1032, xz 7000)…
    pub ratio: u64,
    /// …after this many bytes, so that a small archive of mostly padding is accepted.
    pub slack: u64,
    /// The time limit. Intel's largest takes half a second; an archive at the other limits takes half a minute on a slow
    /// disk.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            entries: 20_000,
            total: 256 << 20,
            file: 64 << 20,
            metadata: 64 << 10,
            records: 200_000,
            depth: 32,
            path: 1024,
            ratio: 100,
            slack: 1 << 20,
            time: Duration::from_secs(300),
        }
    }
}

/// The time at which unpacking must be done.
#[derive(Clone, Copy)]
pub(super) struct Deadline {
    end: Instant,
    time: Duration,
}

impl Deadline {
    pub(super) fn after(time: Duration) -> Deadline {
        Deadline { end: Instant::now() + time, time }
    }

    /// # Errors
    /// `TimedOut` after that time.
    pub(super) fn check(self) -> io::Result<()> {
        if Instant::now() < self.end {
            return Ok(());
        }
        let why = format!("it takes longer than {} seconds", self.time.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, why))
    }
}

/// Number of compressed bytes read, shared between the reader that counts them and the one that compares.
pub(super) type Meter = Rc<Cell<u64>>;

/// Counts and hashes the bytes that are read.
pub(super) struct Metered<R> {
    inner: R,
    meter: Meter,
    hasher: Hasher,
    deadline: Deadline,
}

impl<R> Metered<R> {
    pub(super) fn new(inner: R, meter: Meter, deadline: Deadline) -> Self {
        Metered { inner, meter, hasher: Hasher::default(), deadline }
    }

    /// The digest of all bytes that were read.
    pub(super) fn digest(self) -> Digest {
        self.hasher.finish()
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // A decoder may keep reading without producing output.
        self.deadline.check()?;
        let n = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        self.meter.set(self.meter.get() + n as u64);
        Ok(n)
    }
}

/// Stops reading when the total or the ratio is exceeded.
pub(super) struct Bounded<R> {
    inner: R,
    meter: Meter,
    total: u64,
    max: u64,
    ratio: u64,
    slack: u64,
    deadline: Deadline,
}

impl<R> Bounded<R> {
    pub(super) fn new(inner: R, meter: Meter, limits: &Limits, deadline: Deadline) -> Self {
        Bounded { inner, meter, total: 0, max: limits.total, ratio: limits.ratio, slack: limits.slack, deadline }
    }

    /// Bytes read so far.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn into_inner(self) -> R {
        self.inner
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.deadline.check()?;
        let n = self.inner.read(buffer)?;
        self.total += n as u64;
        if self.total > self.max {
            return Err(io::Error::other(format!("it expands to more than {} bytes", self.max)));
        }
        if self.total > self.slack + self.meter.get().saturating_mul(self.ratio) {
            return Err(io::Error::other(format!("it expands more than {} times", self.ratio)));
        }
        Ok(n)
    }
}
