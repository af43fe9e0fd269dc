//! The numbers among the settings, each with its range: what is out of it is refused at the door, so that nothing that is computed
//! from it overflows or never ends. The manual names the same ranges (a test compares them).

use serde::de::{Deserializer, Error, Unexpected, Visitor};
use std::fmt;
use std::ops::RangeInclusive;

/// A number's key and the range that it must be in.
pub(super) type Number = (&'static str, RangeInclusive<u64>);

/// A driver's archive has 0.6 MB; past this the room to unpack it is at stake.
const MAX_BYTES: Number = ("fetch.max_bytes", 1..=1 << 30);
/// In seconds. Slower than an hour for 0.6 MB is no mirror.
const FETCH_TIMEOUT: Number = ("fetch.timeout", 1..=3600);
/// Between two of them are up to 30 seconds.
const ATTEMPTS: Number = ("fetch.attempts", 1..=20);
/// As `prepare --jobs`; the sandbox's limits grow with it.
const JOBS: Number = ("build.jobs", 1..=1024);
/// In seconds. Well below the four hours that vfguard.service gets.
const BUILD_TIMEOUT: Number = ("build.timeout", 1..=7200);
/// In seconds. Most of what vfguard.service gets.
const LOCK_TIMEOUT: Number = ("hook.lock_timeout", 0..=10800);
/// In seconds. Nobody wants a package manager to stand still for longer.
const BUDGET: Number = ("hook.budget", 1..=10800);

/// All of them.
#[cfg(test)]
pub(super) const ALL: [Number; 7] = [MAX_BYTES, FETCH_TIMEOUT, ATTEMPTS, JOBS, BUILD_TIMEOUT, LOCK_TIMEOUT, BUDGET];

pub(super) fn max_bytes<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    from.deserialize_any(Within(MAX_BYTES))
}

pub(super) fn fetch_timeout<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    from.deserialize_any(Within(FETCH_TIMEOUT))
}

pub(super) fn attempts<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    from.deserialize_any(Within(ATTEMPTS)).map(small)
}

pub(super) fn jobs<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    from.deserialize_any(Within(JOBS)).map(small).map(Some)
}

pub(super) fn build_timeout<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    from.deserialize_any(Within(BUILD_TIMEOUT))
}

pub(super) fn lock_timeout<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    from.deserialize_any(Within(LOCK_TIMEOUT))
}

pub(super) fn budget<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    from.deserialize_any(Within(BUDGET))
}

/// Its range fits.
fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

struct Within(Number);

impl Visitor<'_> for Within {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Within((key, range)) = self;
        write!(f, "{key} to be a whole number from {} to {}", range.start(), range.end())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
        if self.0 .1.contains(&number) {
            Ok(number)
        } else {
            Err(E::invalid_value(Unexpected::Unsigned(number), &self))
        }
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<u64, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
        }
    }

    fn visit_u128<E: Error>(self, number: u128) -> Result<u64, E> {
        Err(E::invalid_value(Unexpected::Other(&format!("integer `{number}`")), &self))
    }

    fn visit_i128<E: Error>(self, number: i128) -> Result<u64, E> {
        Err(E::invalid_value(Unexpected::Other(&format!("integer `{number}`")), &self))
    }
}
