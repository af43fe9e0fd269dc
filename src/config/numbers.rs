//! The numbers in the configuration, each with its range. A number out of its range is refused when the configuration is
//! read, so that nothing computed from it overflows or never ends. The manual gives the same ranges (a test compares them).

use serde::de::{Deserializer, Error, Unexpected, Visitor};
use std::fmt;
use std::ops::RangeInclusive;

/// A number's key and its valid range.
pub(super) type Number = (&'static str, RangeInclusive<u64>);

/// A driver's archive has 0.6 MB. Above this limit there may be no room to unpack it.
const MAX_BYTES: Number = ("fetch.max_bytes", 1..=1 << 30);
/// In seconds. A mirror that needs more than an hour for 0.6 MB is of no use.
const FETCH_TIMEOUT: Number = ("fetch.timeout", 1..=3600);
/// Up to 30 seconds pass between two attempts.
const ATTEMPTS: Number = ("fetch.attempts", 1..=20);
/// The same range as `prepare --jobs`; the sandbox's limits grow with it.
const JOBS: Number = ("build.jobs", 1..=1024);
/// In seconds. Well below the four hours of vfguard.service.
const BUILD_TIMEOUT: Number = ("build.timeout", 1..=7200);
/// In seconds. Most of the time limit of vfguard.service.
const LOCK_TIMEOUT: Number = ("hook.lock_timeout", 0..=10800);
/// In seconds. A package manager should not be blocked for longer.
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

/// A number whose range fits into 32 bits.
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
