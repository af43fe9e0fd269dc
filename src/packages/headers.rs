//! The headers of a kernel, downloaded and verified, not installed.
//!
//! apt verifies what it downloads against the signed index of a repository. dnf does not, so the signatures are checked here.

use super::lists::{reason, Lists, DNF_LENIENT};
use super::offer::Dependency;
use super::signature::Keyring;
use super::Packages;
use crate::host::files::trust;
use crate::release::KernelRelease;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// Headers need headers-common and kbuild; a chain longer than this is a mistake.
const MAX_PACKAGES: usize = 16;

/// The packages with a kernel's headers, downloaded and verified.
pub struct Headers {
    packages: Packages,
    // Only the caller can write this directory, so the verified files are the ones that are unpacked.
    dir: TempDir,
    signed: bool,
}

/// A package with those of its dependencies that belong to the headers.
enum Closure {
    /// The packages, the requested one first.
    Complete(Vec<String>),
    /// What is not available, and why.
    Missing(String),
}

/// The result of a download.
pub enum Download {
    /// Everything is there.
    Complete(Headers),
    /// Something is missing, and why.
    Missing(String),
}

impl Lists {
    /// Downloads the headers of a kernel with their dependencies, within a time limit, and verifies them. With `allow_unsigned`, a package
    /// may be unsigned if dnf would not check its signature either.
    ///
    /// # Errors
    /// If nothing can be run or written, or a package is refused. A package that is not available is a [`Download`], not an error.
    pub fn download(&self, kernel: &KernelRelease, within: Duration, allow_unsigned: bool) -> Result<Download> {
        let names = match self.packages() {
            Packages::Apt => match self.closure(&format!("linux-headers-{kernel}"))? {
                Closure::Complete(names) => names,
                Closure::Missing(missing) => return Ok(Download::Missing(missing)),
            },
            Packages::Dnf => vec![format!("kernel-devel-{kernel}")],
            Packages::Yum => return Err(super::no_download()),
        };
        let dir = trust::temporary("vfguard-headers-")?;
        let words = std::iter::once("download").chain(names.iter().map(String::as_str));
        let mut spec = match self.packages() {
            Packages::Apt => self.apt("apt-get", words),
            // Any repository that has the package will do, so others that do not answer do not matter.
            Packages::Dnf | Packages::Yum => self.dnf(std::iter::once(DNF_LENIENT).chain(words)),
        };
        spec.dir = dir.path().to_owned();
        spec.limit = within;
        let said = self.ask(spec)?;
        let there: Vec<String> =
            files_of(dir.path())?.iter().filter_map(|p| Some(p.file_name()?.to_str()?.into())).collect();
        let missing = match self.packages() {
            Packages::Apt => absent(&names, &there),
            // The repository chooses the file's name, and some leave out the architecture.
            Packages::Dnf | Packages::Yum if there.iter().any(|file| file.ends_with(".rpm")) => Vec::new(),
            Packages::Dnf | Packages::Yum => names.clone(),
        };
        if said.ok && missing.is_empty() {
            let signed = match self.packages() {
                Packages::Apt => true,
                Packages::Dnf | Packages::Yum => self.verify(&names[0], dir.path(), allow_unsigned)?,
            };
            return Ok(Download::Complete(Headers { packages: self.packages(), dir, signed }));
        }
        Ok(Download::Missing(why(if missing.is_empty() { &names } else { &missing }, &said.text)))
    }

    /// Checks the signatures of all files that were downloaded for an RPM, and renames them: names that a repository chose are not passed
    /// to other programs. Returns whether all are signed.
    fn verify(&self, package: &str, dir: &Path, allow_unsigned: bool) -> Result<bool> {
        let repositories = self.repositories(package)?;
        let private = trust::temporary("vfguard-keys-")?;
        let keyring = Keyring::new(self, &repositories, private.path())?;
        let mut signed = true;
        for (n, downloaded) in files_of(dir)?.into_iter().enumerate() {
            let file = dir.join(format!("package-{n}"));
            fs::rename(&downloaded, &file).with_context(|| format!("renaming {}", downloaded.display()))?;
            signed &= keyring.check(self, &file, package, &repositories, allow_unsigned)?;
        }
        Ok(signed)
    }

    /// Finds those dependencies of a package, direct or not, that belong to the headers.
    fn closure(&self, package: &str) -> Result<Closure> {
        let mut packages = vec![package.to_owned()];
        let mut at = 0;
        while at < packages.len() {
            let Some(groups) = self.depends(&packages[at])? else {
                return Ok(Closure::Missing(format!("{} is not on offer", packages[at])));
            };
            for group in &groups {
                match choose(group) {
                    Ok(Some(name)) if !packages.contains(name) => packages.push(name.clone()),
                    Ok(_) => {}
                    Err(name) => return Ok(Closure::Missing(format!("{name} is not on offer"))),
                }
            }
            if packages.len() > MAX_PACKAGES {
                return Ok(Closure::Missing(format!("{package} needs more than {MAX_PACKAGES} packages of headers")));
            }
            at += 1;
        }
        Ok(Closure::Complete(packages))
    }
}

impl Headers {
    /// The package manager they are for.
    pub fn packages(&self) -> Packages {
        self.packages
    }

    /// The package files.
    ///
    /// # Errors
    /// If their directory cannot be read.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        files_of(self.dir.path())
    }

    /// Whether all are signed by a key that is trusted here; otherwise the settings allowed unsigned ones.
    pub fn are_signed(&self) -> bool {
        self.signed
    }
}

fn files_of(dir: &Path) -> Result<Vec<PathBuf>> {
    let act = || format!("reading {}", dir.display());
    fs::read_dir(dir).with_context(act)?.map(|e| Ok(e.with_context(act)?.path())).collect()
}

/// The first alternative that is in a list and belongs to the headers. None if none belongs to the headers, or some other package satisfies
/// the dependency; the name of the first as error if no list has any.
fn choose(group: &[Dependency]) -> std::result::Result<Option<&String>, &String> {
    let belongs = |d: &&Dependency| d.name.starts_with("linux-headers-") || d.name.starts_with("linux-kbuild-");
    let listed = group.iter().filter(belongs).find(|d| d.listed);
    match (listed, group.iter().find(belongs)) {
        (Some(one), _) => Ok(Some(&one.name)),
        (None, Some(one)) if group.iter().all(|d| belongs(&d)) => Err(&one.name),
        (None, _) => Ok(None),
    }
}

/// The packages for which there is no file `NAME_VERSION_ARCH.deb`.
fn absent(names: &[String], files: &[String]) -> Vec<String> {
    let is = |name: &str, file: &str| file.strip_prefix(name).is_some_and(|rest| rest.starts_with('_'));
    names.iter().filter(|name| !files.iter().any(|file| is(name, file))).cloned().collect()
}

/// Why packages could not be downloaded, in the package manager's words: `E: Failed to fetch http://host/NAME_VERSION_ARCH.deb  404  Not
/// Found [IP: …]`.
fn why(missing: &[String], text: &str) -> String {
    // apt writes a plus sign in a URL as %2b.
    let is = |l: &&str| {
        let plain = l.replace("%2b", "+");
        l.starts_with("E: Failed to fetch ") && missing.iter().any(|name| plain.contains(&format!("/{name}_")))
    };
    let line = text.lines().find(is);
    let said = line.and_then(|l| l.trim_start_matches("E: Failed to fetch ").split_once(' ')).map(|(_, said)| reason(said));
    format!("{} could not be downloaded: {}", missing.join(", "), said.unwrap_or_else(|| reason(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(names: &[(&str, bool)]) -> Vec<Dependency> {
        names.iter().map(|(name, listed)| Dependency { name: (*name).to_owned(), listed: *listed }).collect()
    }

    #[test]
    fn the_first_available_alternative_is_taken() {
        let name = |s: &str| s.to_owned();
        assert_eq!(
            choose(&group(&[("linux-headers-a", false), ("linux-headers-b", true)])),
            Ok(Some(&name("linux-headers-b")))
        );
        assert_eq!(choose(&group(&[("linux-kbuild-6.1", true)])), Ok(Some(&name("linux-kbuild-6.1"))));
        assert_eq!(choose(&group(&[("linux-image-a", true), ("linux-image-a-unsigned", true)])), Ok(None));
        assert_eq!(choose(&group(&[("linux-image-a", true), ("linux-headers-a", false)])), Ok(None));
        assert_eq!(choose(&group(&[("linux-headers-a", false)])), Err(&name("linux-headers-a")));
    }

    #[test]
    fn a_failed_download_is_named_with_the_mirrors_answer() {
        let names = ["linux-headers-6.1.0-57-amd64", "linux-headers-6.1.0-57-common", "linux-kbuild-6.1"].map(str::to_owned);
        let files = ["linux-headers-6.1.0-57-amd64_6.1.192-3_amd64.deb", "linux-kbuild-6.1_6.1.192-3_amd64.deb"];
        let missing = absent(&names, &files.map(str::to_owned));
        assert_eq!(missing, ["linux-headers-6.1.0-57-common"]);
        // Output of apt 2.6.
        let said = "Err:2 http://h bookworm-security/main amd64 linux-headers-6.1.0-57-common amd64 6.1.192-3\n  404  Not Found\n\
                    E: Failed to fetch http://h/pool/linux-headers-6.1.0-57-common_6.1.192-3_all.deb  404  Not Found [IP: ::1 80]\n";
        assert_eq!(why(&missing, said), "linux-headers-6.1.0-57-common could not be downloaded: 404 Not Found");
        let plus = ["linux-kbuild-6.12.117+deb12".to_owned()];
        let said = "E: Failed to fetch http://h/pool/linux-kbuild-6.12.117%2bdeb12_6.12.117-1%7edeb12u1_amd64.deb  404  Not Found\n";
        assert!(why(&plus, said).ends_with("downloaded: 404 Not Found"));
        let other = "E: Can't find a source to download version '6.1.192-3' of 'linux-kbuild-6.1:amd64'\n";
        assert!(why(&names[2..], other)
            .ends_with("downloaded: Can't find a source to download version '6.1.192-3' of 'linux-kbuild-6.1:amd64'"));
    }
}
