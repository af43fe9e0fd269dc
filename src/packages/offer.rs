//! For which kernels a package manager offers headers, newest first. The formats are those of apt-cache(8), apt-get(8) and dnf(8).

use super::lists::{reason, Lists};
use super::Packages;
use crate::error::advise;
use crate::release::KernelRelease;
use anyhow::Result;
use std::collections::BTreeSet;

/// The metapackages that depend on the headers of the distribution's own kernel: Debian's, Ubuntu's.
const METAPACKAGES: [&str; 2] = ["linux-headers-amd64", "linux-headers-generic"];
/// The most kernels of one series; Debian keeps some ten.
const MAX_KERNELS: usize = 64;
const PREFIX: &str = "linux-headers-";

/// The kernels whose headers are offered.
pub struct Offer {
    /// Newest first.
    pub kernels: Vec<KernelRelease>,
    /// The kernel that an update installs, if a metapackage names it.
    pub update_installs: Option<KernelRelease>,
}

impl Lists {
    /// The offered kernels; with apt those of the series and flavour of the distribution's own kernel. Its metapackage names that kernel,
    /// but lags behind an upload by hours or days.
    ///
    /// # Errors
    /// If the lists name no kernel.
    pub fn offer(&self) -> Result<Offer> {
        let offer = match self.packages() {
            Packages::Apt => self.apt_offer()?,
            Packages::Dnf | Packages::Yum => Offer { kernels: self.dnf_kernels().to_vec(), update_installs: None },
        };
        if offer.kernels.is_empty() {
            return Err(advise(
                format!("the package manager offers no kernel headers (package lists: {})", self.freshness()),
                "see that a repository with kernels is enabled; then refresh the lists (`apt-get update`, `dnf makecache`)",
            ));
        }
        Ok(offer)
    }

    fn apt_offer(&self) -> Result<Offer> {
        let mut own = None;
        for metapackage in METAPACKAGES {
            if own.is_none() {
                own = self.depends(metapackage)?.and_then(|groups| groups.iter().flatten().find_map(Dependency::kernel));
            }
        }
        let Some(own) = own else {
            return Ok(Offer { kernels: Vec::new(), update_installs: None });
        };
        let listed = self.lookup("apt-cache", ["pkgnames", PREFIX])?.unwrap_or_default();
        let kernels = of_the_series(&own, &listed);
        let packages: Vec<String> = kernels.iter().map(|k| format!("{PREFIX}{k}")).collect();
        let policy = std::iter::once("policy").chain(packages.iter().map(String::as_str));
        let offered = on_offer(&self.lookup("apt-cache", policy)?.unwrap_or_default());
        let kernels = kernels.into_iter().zip(&packages).filter(|(_, p)| offered.contains(p.as_str())).map(|(k, _)| k);
        Ok(Offer { kernels: kernels.collect(), update_installs: Some(own) })
    }

    /// The dependencies of a package, each with its alternatives; none if no list has the package.
    pub(super) fn depends(&self, package: &str) -> Result<Option<Vec<Vec<Dependency>>>> {
        let said = self.lookup("apt-cache", ["depends", "--no-recommends", "--no-suggests", package])?;
        Ok(said.map(|text| dependencies(&text)))
    }

    /// The answer of apt-cache; none if it does not know the package.
    fn lookup<'a>(&self, program: &str, args: impl IntoIterator<Item = &'a str>) -> Result<Option<String>> {
        let said = self.ask(self.apt(program, args))?;
        if said.ok {
            Ok(Some(said.text))
        } else if ["No packages found", "Unable to locate package"].iter().any(|w| said.text.contains(w)) {
            Ok(None)
        } else {
            Err(advise(format!("looking into the package lists: {}", reason(&said.text)), "apt-get update"))
        }
    }
}

/// A package that another one depends on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dependency {
    pub(super) name: String,
    /// Whether a list has a package of that name.
    pub(super) listed: bool,
}

impl Dependency {
    /// The kernel to which these headers belong.
    fn kernel(&self) -> Option<KernelRelease> {
        kernel(&self.name)
    }
}

fn kernel(package: &str) -> Option<KernelRelease> {
    release(package.strip_prefix(PREFIX)?)
}

fn release(text: &str) -> Option<KernelRelease> {
    text.starts_with(|c: char| c.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Parses `apt-cache depends`: `  Depends: A`, ` |Depends: A` if the next line is an alternative, `<A>` for a name without a package.
fn dependencies(text: &str) -> Vec<Vec<Dependency>> {
    let mut groups = Vec::new();
    let mut group = Vec::new();
    for line in text.lines() {
        let line = line.trim_start();
        let (rest, more) = line.strip_prefix('|').map_or((line, false), |rest| (rest, true));
        let Some(name) = rest.strip_prefix("Depends: ") else { continue };
        let listed = !name.starts_with('<');
        group.push(Dependency { name: name.trim_matches(['<', '>', ' ']).to_owned(), listed });
        if !more {
            groups.push(std::mem::take(&mut group));
        }
    }
    groups.extend((!group.is_empty()).then_some(group));
    groups
}

/// The kernels among package names that are of the same series and flavour as `own`, newest first.
fn of_the_series(own: &KernelRelease, names: &str) -> Vec<KernelRelease> {
    let series = series(own.as_str());
    let same = names.lines().filter_map(|name| kernel(name.trim())).filter(|k| self::series(k.as_str()) == series);
    same.collect::<BTreeSet<_>>().into_iter().rev().take(MAX_KERNELS).collect()
}

/// A release without its numbers after the first two: `6.1.#-#-amd64`, `6.12.#+deb12-amd64`. A number at the end of a word belongs to the
/// word.
fn series(release: &str) -> String {
    let (mut out, mut numbers, mut rest) = (String::new(), 0, release);
    while let Some(c) = rest.chars().next() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if digits == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let word = out.ends_with(|c: char| c.is_ascii_alphabetic());
        numbers += usize::from(!word);
        out.push_str(if word || numbers <= 2 { &rest[..digits] } else { "#" });
        rest = &rest[digits..];
    }
    out
}

/// The packages in the output of `apt-cache policy` whose candidate is in a repository; a version that is only installed cannot be
/// downloaded.
fn on_offer(policy: &str) -> BTreeSet<String> {
    let mut offered = BTreeSet::new();
    let (mut package, mut candidate, mut at_candidate) = ("", "", false);
    for line in policy.lines() {
        let indent = line.len() - line.trim_start().len();
        let words: Vec<&str> = line.trim_start_matches([' ', '*']).split_whitespace().collect();
        match (indent, words.as_slice()) {
            (0, [name]) => (package, candidate, at_candidate) = (name.trim_end_matches(':'), "", false),
            (_, ["Candidate:", version]) => candidate = version,
            // `        500 http://host suite/component arch Packages`, or the status file for an installed version.
            (7.., [_, place, ..]) if at_candidate && !place.starts_with('/') => {
                offered.insert(package.to_owned());
            }
            (7.., _) => {}
            // `     VERSION PRIORITY`, or ` *** VERSION PRIORITY` if it is installed.
            (1..=6, [version, _, ..]) => at_candidate = *version == candidate,
            _ => {}
        }
    }
    offered
}

/// The kernels in the answer to a dnf query, newest first.
pub(super) fn dnf_kernels(text: &str) -> Vec<KernelRelease> {
    text.lines().filter_map(|l| release(l.trim())).collect::<BTreeSet<_>>().into_iter().rev().collect()
}

/// Whether `apt-get update`, which older versions end with success anyway, reports that something could not be downloaded.
pub(super) fn update_complains(text: &str) -> bool {
    let marks = ["Err:", "W: Failed to fetch", "W: Some index files failed"];
    text.lines().any(|l| marks.iter().any(|m| l.starts_with(m)))
}

/// Whether some repository is up to date after an `apt-get update` that failed: its Release file was downloaded or unchanged (`Hit:`,
/// `Get:`), and none of its files failed (`Err:`). The lines are `Hit:1 URL SUITE InRelease` and `Err:2 URL SUITE/main amd64 Packages`.
pub(super) fn updated_in_part(text: &str) -> bool {
    let lines = |marks: &'static [&'static str]| {
        text.lines().filter(move |l| marks.iter().any(|m| l.starts_with(m))).filter_map(|l| {
            let mut words = l.split_whitespace().skip(1);
            Some((words.next()?, words.next()?.split('/').next()?, words.next()?))
        })
    };
    let failed: BTreeSet<_> = lines(&["Err:"]).map(|(url, suite, _)| (url, suite)).collect();
    lines(&["Hit:", "Get:"]).any(|(url, suite, file)| file.ends_with("Release") && !failed.contains(&(url, suite)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_a_release_without_the_numbers_after_the_first_two() {
        for (a, b, same) in [
            ("6.1.0-56-amd64", "6.1.0-57-amd64", true),
            ("6.12.117+deb12-amd64", "6.12.118+deb12-amd64", true),
            ("6.8.0-60-generic", "6.8.0-101-generic", true),
            ("6.1.0-56-amd64", "6.12.118+deb12-amd64", false),
            ("6.1.0-56-amd64", "6.10.0-56-amd64", false),
            ("6.1.0-56-amd64", "6.1.0-57-cloud-amd64", false),
            ("6.1.0-56-amd64", "6.1.0-57-rt-amd64", false),
            ("6.1.0-56-amd64", "6.1.0-57-arm64", false),
            ("6.1.0-56-amd64", "6.1.0-57-686", false),
            ("6.12.117+deb12-amd64", "6.12.118+bpo-amd64", false),
            ("6.12.117+deb12-amd64", "6.12.118+deb13-amd64", false),
            ("6.12.117+deb12-amd64", "6.12-amd64", false),
            ("6.8.0-60-generic", "6.8.0-61", false),
        ] {
            assert_eq!(series(a) == series(b), same, "{a} {b}: {} {}", series(a), series(b));
        }
    }

    #[test]
    fn the_newest_of_the_series_comes_first_by_number() {
        let names = "linux-headers-6.1.0-99-amd64\nlinux-headers-6.1.0-100-common\nlinux-headers-6.1.0-100-amd64\n\
                     linux-headers-amd64\nlinux-headers-6.1.0-9-amd64\nlinux-headers-6.1.0-101-rt-amd64\nlinux-headers-..\n";
        let own = "6.1.0-9-amd64".parse().unwrap();
        let releases: Vec<String> = of_the_series(&own, names).iter().map(ToString::to_string).collect();
        assert_eq!(releases, ["6.1.0-100-amd64", "6.1.0-99-amd64", "6.1.0-9-amd64"]);
        let many: String = (0..1000).map(|n| format!("linux-headers-6.1.0-{n}-amd64\n")).collect();
        let bounded = of_the_series(&own, &many);
        assert_eq!((bounded.len(), bounded[0].as_str()), (MAX_KERNELS, "6.1.0-999-amd64"));
    }

    #[test]
    fn only_packages_in_a_repository_are_offered() {
        // Output of apt 2.6.
        let policy = "\
linux-headers-6.1.0-57-amd64:
  Installed: (none)
  Candidate: 6.1.192-3
  Version table:
     6.1.192-3 500
        500 http://deb.debian.org/debian-security bookworm-security/main amd64 Packages
linux-headers-6.1.0-58-amd64:
  Installed: 6.1.200-1
  Candidate: 6.1.200-1
  Version table:
 *** 6.1.200-1 100
        100 /var/lib/dpkg/status
linux-headers-6.1.0-56-amd64:
  Installed: 6.1.192-2
  Candidate: 6.1.192-2
  Version table:
 *** 6.1.192-2 1001
       1001 file:/srv/repository ./ Packages
        100 /var/lib/dpkg/status
linux-headers-6.1.0-55-amd64:
  Installed: (none)
  Candidate: (none)
  Version table:
     6.1.190-1 -1
         -1 http://deb.debian.org/debian bookworm/main amd64 Packages
linux-headers-6.1.0-54-amd64:
  Installed: 6.1.189-2
  Candidate: 6.1.189-2
  Version table:
 *** 6.1.189-2 100
        100 /var/lib/dpkg/status
     6.1.189-1 500 (phased 10%)
        500 http://deb.debian.org/debian bookworm/main amd64 Packages
";
        let offered: Vec<String> = on_offer(policy).into_iter().collect();
        assert_eq!(offered, ["linux-headers-6.1.0-56-amd64", "linux-headers-6.1.0-57-amd64"]);
    }

    #[test]
    fn alternatives_are_distinguished_from_further_dependencies() {
        let text =
            "linux-headers-6.12.117+deb12-amd64\n  Depends: linux-base\n  Depends: <linux-headers-6.12.117+deb12-common>\n\
                    \x20|Depends: linux-image-6.12.117+deb12-amd64\n  Depends: linux-image-6.12.117+deb12-amd64-unsigned\n\
                    \x20   linux-image-of-a-provider\n";
        let groups = dependencies(text);
        let names: Vec<Vec<&str>> = groups.iter().map(|g| g.iter().map(|d| d.name.as_str()).collect()).collect();
        assert_eq!(
            names,
            [
                vec!["linux-base"],
                vec!["linux-headers-6.12.117+deb12-common"],
                vec!["linux-image-6.12.117+deb12-amd64", "linux-image-6.12.117+deb12-amd64-unsigned"],
            ]
        );
        assert!(groups[0][0].listed && !groups[1][0].listed);
        // The kernel that the metapackage names counts, whether or not it is available.
        let own = dependencies("linux-headers-amd64\n  Depends: <linux-headers-6.1.0-56-amd64>\n");
        assert_eq!(own[0][0].kernel().unwrap().as_str(), "6.1.0-56-amd64");
    }

    #[test]
    fn other_output_of_dnf_is_not_a_kernel() {
        let text = "Updating\nRepository x is listed more than once\n5.14.0-80.el9.x86_64\n\n5.14.0-553.el9.x86_64\n";
        let kernels: Vec<String> = dnf_kernels(text).iter().map(ToString::to_string).collect();
        assert_eq!(kernels, ["5.14.0-553.el9.x86_64", "5.14.0-80.el9.x86_64"]);
    }

    #[test]
    fn a_repository_is_up_to_date_only_if_none_of_its_files_failed() {
        let good = "Hit:1 http://a/debian bookworm InRelease\n";
        let other =
            "Get:2 http://b bookworm InRelease [3 kB]\nErr:3 http://b bookworm/main amd64 Packages\n  404  Not Found\n";
        assert!(!update_complains(good) && update_complains(other));
        assert!(update_complains("W: Failed to fetch http://a/debian/dists/x/InRelease  Something\n"));
        assert!(!updated_in_part(other) && updated_in_part(&format!("{good}{other}")));
        // Another suite of the same URL is another repository.
        assert!(updated_in_part("Hit:1 http://a bookworm InRelease\nErr:2 http://a bookworm-updates InRelease\n"));
        assert!(!updated_in_part("Ign:1 http://a ./ InRelease\nErr:2 http://a ./ Release\n"));
    }
}
