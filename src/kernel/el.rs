//! The Enterprise Linux minor release of a kernel, e.g. 8.9. These kernels backport interfaces of later ones under an unchanged base
//! version, so the base version alone does not tell which driver compiles.

use super::installed::modules_dir;
use super::KernelRelease;
use crate::host::Host;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// The headers that define `RHEL_RELEASE_CODE`: since EL 7, and in EL 6.
const HEADERS: [&str; 2] = ["include/generated/uapi/linux/version.h", "include/linux/version.h"];
/// A larger major release is a mistake: 10 is the newest in 2026.
const MAX_MAJOR: u32 = 99;

/// An Enterprise Linux release, `el8_9` in recipes and in kernel names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ElRelease {
    /// 8 of 8.9.
    pub major: u32,
    /// 9 of 8.9.
    pub minor: u32,
}

impl ElRelease {
    /// From the number that `RHEL_RELEASE_VERSION(a, b)` makes: `a * 256 + b`.
    fn of_code(code: u32) -> Option<ElRelease> {
        let release = ElRelease { major: code >> 8, minor: code & 0xff };
        (1..=MAX_MAJOR).contains(&release.major).then_some(release)
    }

    /// The release according to K's headers, found where build trees are. None if K is not of Enterprise Linux, or no headers are here. The
    /// name of the kernel is not used: rebuilt kernels have any name.
    pub fn of(host: &Host, kernel: &KernelRelease) -> Option<ElRelease> {
        let trees = [modules_dir(kernel).join("build"), Path::new("/usr/src/kernels").join(kernel)];
        trees.iter().find_map(|tree| ElRelease::in_tree(host, tree))
    }

    fn in_tree(host: &Host, tree: &Path) -> Option<ElRelease> {
        let texts = HEADERS.iter().filter_map(|header| host.read_text(tree.join(header)).ok());
        texts.into_iter().find_map(|text| ElRelease::in_header(&text))
    }

    /// From `#define RHEL_RELEASE_CODE 2057`.
    fn in_header(text: &str) -> Option<ElRelease> {
        let code = text.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("#define") && words.next() == Some("RHEL_RELEASE_CODE")).then(|| words.next())
        });
        ElRelease::of_code(code??.parse().ok()?)
    }
}

impl TryFrom<String> for ElRelease {
    type Error = String;
    fn try_from(s: String) -> Result<Self, Self::Error> {
        let number = |p: &str| p.parse::<u8>().ok().filter(|_| p.bytes().all(|b| b.is_ascii_digit())).map(u32::from);
        let parse = || {
            let (major, minor) = s.strip_prefix("el")?.split_once('_')?;
            Some(ElRelease { major: number(major)?, minor: number(minor)? })
        };
        parse().filter(|r| (1..=MAX_MAJOR).contains(&r.major)).ok_or_else(|| {
            format!(
                "`{s}` is not a valid Enterprise Linux release, such as el8_9: el, the major number, _, the minor number"
            )
        })
    }
}

impl From<ElRelease> for String {
    fn from(r: ElRelease) -> String {
        r.to_string()
    }
}

impl fmt::Display for ElRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "el{}_{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_of_a_kernel_name_its_minor_release_and_its_name_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        let kernel: KernelRelease = "4.18.0-513.el8_8.x86_64".parse().unwrap();
        assert_eq!(ElRelease::of(&host, &kernel), None);
        for (header, code, want) in [
            // EL 6 defines it beside the interface's headers, later releases in the generated ones.
            (HEADERS[1], "#define RHEL_MAJOR 6\n#define RHEL_MINOR 8\n#define RHEL_RELEASE_CODE 1544\n", Some("el6_8")),
            (HEADERS[0], "#define LINUX_VERSION_CODE 266752\n#define RHEL_RELEASE_CODE 2057\n", Some("el8_9")),
            (HEADERS[0], "#define LINUX_VERSION_CODE 266752\n", Some("el6_8")),
            (HEADERS[1], "#define RHEL_RELEASE_CODE RHEL_RELEASE_VERSION(6,8)\n", None),
        ] {
            host.write_atomic(modules_dir(&kernel).join("build").join(header), code.as_bytes(), 0o644).unwrap();
            assert_eq!(ElRelease::of(&host, &kernel).map(|r| r.to_string()).as_deref(), want, "{code}");
        }
    }

    #[test]
    fn an_invalid_release_is_refused_with_the_right_form() {
        for good in ["el6_8", "el10_0", "el8_10"] {
            assert_eq!(ElRelease::try_from(good.to_owned()).unwrap().to_string(), good);
        }
        for bad in ["el8", "8.9", "el8.9", "el_9", "el8_", "el0_1", "el8_+9", "el300_1", "el8_256", "EL8_9", "rhel8_9"] {
            assert!(ElRelease::try_from(bad.to_owned()).unwrap_err().contains("such as el8_9"), "{bad}");
        }
    }
}
