//! Ranges of kernels: over the base version, or over the minor releases of Enterprise Linux.

use crate::host::Host;
use crate::kernel::{ElRelease, KernelRelease};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How many numbers a base version may have; 2.6.32.71 had the most.
const MAX_BASE: usize = 4;

/// What ranges compare: the numbers of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbers {
    base: Base,
    el: Option<ElRelease>,
}

impl Numbers {
    /// The base version from the kernel's name; the Enterprise Linux release from its headers, if they are installed.
    pub fn of(host: &Host, kernel: &KernelRelease) -> Numbers {
        Numbers::new(kernel, ElRelease::of(host, kernel))
    }

    /// For a kernel whose Enterprise Linux release, if any, is known.
    pub fn new(kernel: &KernelRelease, el: Option<ElRelease>) -> Numbers {
        Numbers { base: Base::new(kernel.base()), el }
    }
}

/// A base version such as `3.10`: numbers between dots. Final zeros make no difference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Base(Vec<u32>);

impl Base {
    fn new(mut numbers: Vec<u32>) -> Base {
        while numbers.last() == Some(&0) {
            numbers.pop();
        }
        Base(numbers)
    }
}

impl TryFrom<String> for Base {
    type Error = String;
    fn try_from(s: String) -> Result<Self, Self::Error> {
        let number = |p: &str| p.parse::<u16>().ok().filter(|_| !p.starts_with('+')).map(u32::from);
        let numbers: Option<Vec<u32>> = s.split('.').map(number).collect();
        numbers.filter(|n| n.len() <= MAX_BASE).map(Base::new).ok_or_else(|| {
            format!(
                "`{s}` is not a valid base version of a kernel, such as 2.6.32 or 5.10: 1 to {MAX_BASE} numbers from 0 to {}; \
                 nor an Enterprise Linux release, such as el8_9",
                u16::MAX
            )
        })
    }
}

impl From<Base> for String {
    fn from(b: Base) -> String {
        let numbers: Vec<String> = b.0.iter().map(u32::to_string).collect();
        if numbers.is_empty() {
            "0".into()
        } else {
            numbers.join(".")
        }
    }
}

/// An end of a range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
enum End {
    Base(Base),
    El(ElRelease),
}

impl TryFrom<String> for End {
    type Error = String;
    fn try_from(s: String) -> Result<Self, Self::Error> {
        if s.starts_with("el") {
            return ElRelease::try_from(s).map(End::El);
        }
        Base::try_from(s).map(End::Base)
    }
}

impl From<End> for String {
    fn from(end: End) -> String {
        match end {
            End::Base(base) => base.into(),
            End::El(el) => el.into(),
        }
    }
}

/// A range as it is written: `from` is inclusive, `below` is exclusive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a range such as { from = \"4.18\", below = \"5.8\" }")]
struct Written {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<End>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    below: Option<End>,
}

/// A range of one kind of number; a missing end is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
enum Range {
    Base(Option<Base>, Option<Base>),
    El(Option<ElRelease>, Option<ElRelease>),
}

impl TryFrom<Written> for Range {
    type Error = String;
    fn try_from(written: Written) -> Result<Range, String> {
        let range = match (written.from, written.below) {
            (Some(End::El(from)), Some(End::El(below))) => Range::El(Some(from), Some(below)),
            (Some(End::El(from)), None) => Range::El(Some(from), None),
            (None, Some(End::El(below))) => Range::El(None, Some(below)),
            (Some(End::El(_)), Some(End::Base(_))) | (Some(End::Base(_)), Some(End::El(_))) => {
                return Err("`from` and `below` must both be base versions, or both Enterprise Linux releases".into());
            }
            (Some(End::Base(from)), Some(End::Base(below))) => Range::Base(Some(from), Some(below)),
            (Some(End::Base(from)), None) => Range::Base(Some(from), None),
            (None, Some(End::Base(below))) => Range::Base(None, Some(below)),
            (None, None) => Range::Base(None, None),
        };
        if range.is_empty() {
            return Err("`below` is not above `from`, no kernel is in the range".into());
        }
        Ok(range)
    }
}

impl From<Range> for Written {
    fn from(range: Range) -> Written {
        match range {
            Range::Base(from, below) => Written { from: from.map(End::Base), below: below.map(End::Base) },
            Range::El(from, below) => Written { from: from.map(End::El), below: below.map(End::El) },
        }
    }
}

impl Range {
    fn is_empty(&self) -> bool {
        match self {
            Range::Base(Some(from), Some(below)) => from >= below,
            Range::El(Some(from), Some(below)) => from >= below,
            Range::Base(_, _) | Range::El(_, _) => false,
        }
    }

    fn overlaps(&self, other: &Range) -> bool {
        match (self, other) {
            (Range::Base(a, b), Range::Base(c, d)) => overlap((a, b), (c, d)),
            (Range::El(a, b), Range::El(c, d)) => overlap((a, b), (c, d)),
            (Range::Base(_, _), Range::El(_, _)) | (Range::El(_, _), Range::Base(_, _)) => false,
        }
    }
}

type Ends<'a, T> = (&'a Option<T>, &'a Option<T>);

fn overlap<T: PartialOrd>(a: Ends<'_, T>, b: Ends<'_, T>) -> bool {
    let starts_before_end = |from: &Option<T>, below: &Option<T>| match (from, below) {
        (Some(from), Some(below)) => from < below,
        _ => true,
    };
    starts_before_end(a.0, b.1) && starts_before_end(b.0, a.1)
}

fn holds<T: PartialOrd>(from: &Option<T>, below: &Option<T>, value: &T) -> bool {
    from.as_ref().is_none_or(|from| from <= value) && below.as_ref().is_none_or(|below| value < below)
}

/// Kernels: one range, or a list of them. `[]` contains none. `{}`, and a missing value, contain every base version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Kernels(Vec<Range>);

impl Default for Kernels {
    fn default() -> Kernels {
        Kernels(vec![Range::Base(None, None)])
    }
}

impl Kernels {
    /// Whether it contains no kernel.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the kernel is in a range of Enterprise Linux releases.
    pub(super) fn hold_el(&self, numbers: &Numbers) -> bool {
        let Some(el) = &numbers.el else { return false };
        self.0.iter().any(|range| matches!(range, Range::El(from, below) if holds(from, below, el)))
    }

    /// Whether the kernel's base version is in a range.
    pub(super) fn hold_base(&self, numbers: &Numbers) -> bool {
        self.0.iter().any(|range| matches!(range, Range::Base(from, below) if holds(from, below, &numbers.base)))
    }

    /// Whether one of the ranges contains the kernel. For a kernel of Enterprise Linux only the EL ranges count, if there
    /// are any.
    pub(super) fn hold(&self, numbers: &Numbers) -> bool {
        let names_el = self.0.iter().any(|range| matches!(range, Range::El(_, _)));
        if names_el && numbers.el.is_some() {
            self.hold_el(numbers)
        } else {
            self.hold_base(numbers)
        }
    }

    /// Whether a range begins after the kernel.
    pub(super) fn start_after(&self, numbers: &Numbers) -> bool {
        self.0.iter().any(|range| matches!(range, Range::Base(Some(from), _) if *from > numbers.base))
    }

    /// Whether a kernel can be in both.
    pub(super) fn overlap(&self, other: &Kernels) -> bool {
        self.0.iter().any(|a| other.0.iter().any(|b| a.overlaps(b)))
    }
}

impl<'de> Deserialize<'de> for Kernels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Kernels, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Kernels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a range such as { from = \"4.18\", below = \"5.8\" }, or a list of ranges")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Kernels, A::Error> {
                Range::deserialize(MapAccessDeserializer::new(map)).map(|range| Kernels(vec![range]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Kernels, A::Error> {
                Vec::<Range>::deserialize(SeqAccessDeserializer::new(seq)).map(Kernels)
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

/// For which kernels a release is tried although another release is their first choice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Fallback {
    /// For none.
    #[default]
    Never,
    /// For all.
    Always,
    /// For these.
    For(Kernels),
}

impl<'de> Deserialize<'de> for Fallback {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fallback, D::Error> {
        struct BoolOrKernels;
        impl<'de> Visitor<'de> for BoolOrKernels {
            type Value = Fallback;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, a range of kernels, or a list of ranges")
            }

            fn visit_bool<E: de::Error>(self, always: bool) -> Result<Fallback, E> {
                Ok(if always { Fallback::Always } else { Fallback::Never })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Fallback, A::Error> {
                Kernels::deserialize(MapAccessDeserializer::new(map)).map(Fallback::For)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Fallback, A::Error> {
                Kernels::deserialize(SeqAccessDeserializer::new(seq)).map(Fallback::For)
            }
        }
        deserializer.deserialize_any(BoolOrKernels)
    }
}
