//! `KernelRelease`: the `uname -r` string, parsed once when it enters the program.

use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// `struct utsname.release` has 65 bytes including its final NUL (uname(2)).
const MAX_LEN: usize = 64;

/// A kernel release such as `2.6.32-431.20.3.el6.x86_64`; safe as a file name and as an argument.
///
/// Ordered as rpm orders versions (rpmvercmp), so that `-80.el8` comes before `-553.el8`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KernelRelease(String);

impl KernelRelease {
    /// The string as `uname -r` prints it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the first `-`, `+`, `_` or `~`, `2.6.32`, as numbers; the ranges in recipes compare it.
    pub fn base(&self) -> Vec<u32> {
        let head = self.0.split(['-', '+', '_', '~']).next().unwrap_or_default();
        head.split('.').map_while(|p| p.parse().ok()).collect()
    }
}

impl fmt::Display for KernelRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<std::path::Path> for KernelRelease {
    fn as_ref(&self) -> &std::path::Path {
        self.0.as_ref()
    }
}

/// Why a string is not a kernel release.
#[derive(Debug, PartialEq, Eq)]
pub struct NotARelease(&'static str);

impl fmt::Display for NotARelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; a kernel release looks like 2.6.32-431.20.3.el6.x86_64 (see `uname -r`, `ls /lib/modules`)", self.0)
    }
}

impl std::error::Error for NotARelease {}

impl FromStr for KernelRelease {
    type Err = NotARelease;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        if s.is_empty() {
            return Err(NotARelease("it is empty"));
        }
        if s.len() > MAX_LEN {
            return Err(NotARelease("it is longer than 64 bytes"));
        }
        if !s.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(NotARelease("it does not start with a digit or a letter"));
        }
        if !s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+~-".contains(&b)) {
            return Err(NotARelease("it holds a character other than letters, digits and . _ + ~ -"));
        }
        if s.contains("..") {
            return Err(NotARelease("it holds '..'"));
        }
        Ok(KernelRelease(s.to_owned()))
    }
}

impl TryFrom<String> for KernelRelease {
    type Error = NotARelease;
    fn try_from(s: String) -> Result<Self, Self::Error> {
        s.parse()
    }
}

impl From<KernelRelease> for String {
    fn from(k: KernelRelease) -> String {
        k.0
    }
}

impl PartialOrd for KernelRelease {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for KernelRelease {
    fn cmp(&self, other: &Self) -> Ordering {
        rpmvercmp(&self.0, &other.0).then_with(|| self.0.cmp(&other.0))
    }
}

/// rpm's version comparison (`rpmvercmp` of rpm's `lib/rpmvercmp.c`): runs of digits as numbers, runs of letters as text; a run of digits
/// is newer than a run of letters, `~` sorts before anything, `^` after the end but before anything else.
pub fn rpmvercmp(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    let separator = |c: &u8| !c.is_ascii_alphanumeric() && *c != b'~' && *c != b'^';
    loop {
        while a.first().is_some_and(separator) {
            a = &a[1..];
        }
        while b.first().is_some_and(separator) {
            b = &b[1..];
        }
        match (a.first() == Some(&b'~'), b.first() == Some(&b'~')) {
            (true, true) => {
                (a, b) = (&a[1..], &b[1..]);
                continue;
            }
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            (false, false) => {}
        }
        match (a.first() == Some(&b'^'), b.first() == Some(&b'^')) {
            (true, true) => {
                (a, b) = (&a[1..], &b[1..]);
                continue;
            }
            (true, false) => return if b.is_empty() { Ordering::Greater } else { Ordering::Less },
            (false, true) => return if a.is_empty() { Ordering::Less } else { Ordering::Greater },
            (false, false) => {}
        }
        let (Some(&first_a), Some(_)) = (a.first(), b.first()) else {
            return a.len().min(1).cmp(&b.len().min(1));
        };
        let numeric = first_a.is_ascii_digit();
        let (run_a, rest_a) = run(a, numeric);
        let (run_b, rest_b) = run(b, numeric);
        if run_b.is_empty() {
            return if numeric { Ordering::Greater } else { Ordering::Less };
        }
        let order = if numeric {
            let (x, y) = (trim_zeros(run_a), trim_zeros(run_b));
            x.len().cmp(&y.len()).then_with(|| x.cmp(y))
        } else {
            run_a.cmp(run_b)
        };
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
}

fn run(s: &[u8], numeric: bool) -> (&[u8], &[u8]) {
    let kind = |c: &u8| if numeric { c.is_ascii_digit() } else { c.is_ascii_alphabetic() };
    s.split_at(s.iter().position(|c| !kind(c)).unwrap_or(s.len()))
}

fn trim_zeros(s: &[u8]) -> &[u8] {
    &s[s.iter().position(|&c| c != b'0').unwrap_or(s.len())..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_be_paths_or_options_are_refused() {
        let long = "6".repeat(10_000);
        for bad in ["", "a/b", "..", "6.1..2", "6.1 2", "-6.1", "--all", ".6", "6.1\n", "6.1\u{7}", "6.1é", &long] {
            assert!(bad.parse::<KernelRelease>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn real_names_are_accepted() {
        for good in [
            "2.6.32-431.20.3.el6.x86_64",
            "4.18.0-553.8_1.el8.x86_64+debug",
            "6.12.107+deb12-amd64",
            "6.7.0-0.rc1.20231117git7475e51b8763.19.fc40.x86_64",
            "5.4.17-2136.307.3.el8uek.x86_64",
            "6.1.0-rc7~exp1-amd64",
        ] {
            assert_eq!(good.parse::<KernelRelease>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn the_order_is_by_number_and_not_by_character() {
        let mut k: Vec<KernelRelease> =
            ["4.18.0-553.el8", "4.18.0-80.el8", "4.18.0-80.el8_1", "6.1.0-9", "6.1.0-10"].map(|s| s.parse().unwrap()).into();
        k.sort();
        let s: Vec<_> = k.iter().map(|k| k.as_str()).collect();
        assert_eq!(s, ["4.18.0-80.el8", "4.18.0-80.el8_1", "4.18.0-553.el8", "6.1.0-9", "6.1.0-10"]);
    }

    #[test]
    fn rpmvercmp_agrees_with_rpms_own_test_table() {
        // Pairs from rpm's tests/rpmvercmp.at.
        for (a, b, want) in [
            ("1.0", "1.0", 0),
            ("1.0", "2.0", -1),
            ("2.0.1a", "2.0.1", 1),
            ("5.5p1", "5.5p10", -1),
            ("10xyz", "10.1xyz", -1),
            ("xyz10", "xyz10.1", -1),
            ("xyz.4", "8", -1),
            ("5.5p2", "5.6p1", -1),
            ("6.0.rc1", "6.0", 1),
            ("10b2", "10a1", 1),
            ("1.0a", "1.0aa", -1),
            ("10.0001", "10.1", 0),
            ("4_0", "4.0", 0),
            ("1.0~rc1", "1.0", -1),
            ("1.0~rc1~git123", "1.0~rc1", -1),
            ("1.0^", "1.0", 1),
            ("1.0^git1", "1.01", -1),
            ("1.0^git1~pre", "1.0^git1", -1),
            ("1.0~rc1^git1", "1.0~rc1", 1),
        ] {
            let got = rpmvercmp(a, b) as i32;
            assert_eq!(got, want, "{a} against {b}");
            assert_eq!(rpmvercmp(b, a) as i32, -want, "{b} against {a}");
        }
    }
}
