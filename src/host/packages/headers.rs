//! The headers of a kernel, downloaded and not installed, and unpacked into a directory.

use super::lists::{reason, Lists, DNF_LENIENT};
use super::offer::Dependency;
use super::Packages;
use crate::error::Remedy;
use crate::host::command::{self, Spec};
use crate::host::files;
use crate::kernel::KernelRelease;
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;

/// Unpacking them.
const UNPACK: Duration = Duration::from_secs(300);
/// Headers need headers-common and kbuild; a chain longer than this is a mistake.
const MAX_PACKAGES: usize = 16;

/// The packages that hold a kernel's headers, downloaded.
pub struct Headers {
    packages: Packages,
    dir: TempDir,
}

/// What became of a download.
pub enum Download {
    /// Everything is there.
    Complete(Headers),
    /// Something is not, and why.
    Missing(String),
}

impl Lists {
    /// Downloads the headers of a kernel with what they need, within a time.
    ///
    /// # Errors
    /// When nothing can be run or written; that a package cannot be had is a [`Download`].
    pub fn download(&self, kernel: &KernelRelease, within: Duration) -> Result<Download> {
        let names = match self.packages() {
            Packages::Apt => match self.closure(&format!("linux-headers-{kernel}"))? {
                Ok(names) => names,
                Err(missing) => return Ok(Download::Missing(missing)),
            },
            Packages::Dnf => vec![format!("kernel-devel-{kernel}")],
            Packages::Yum => return Err(super::no_download()),
        };
        let dir = tempfile::Builder::new()
            .prefix("vfguard-headers-")
            .tempdir()
            .remedy("making a directory for headers", "point TMPDIR at a writable directory")?;
        let words = std::iter::once("download").chain(names.iter().map(String::as_str));
        let mut spec = match self.packages() {
            Packages::Apt => self.apt("apt-get", words),
            // Whatever repository has it: another that is gone does not matter.
            Packages::Dnf | Packages::Yum => self.dnf(std::iter::once(DNF_LENIENT).chain(words)),
        };
        spec.dir = dir.path().to_owned();
        spec.limit = within;
        let said = self.ask(spec)?;
        let there: Vec<String> =
            files_of(dir.path())?.iter().filter_map(|p| Some(p.file_name()?.to_str()?.into())).collect();
        let missing = match self.packages() {
            Packages::Apt => absent(&names, &there),
            // The repository names the file, and some leave the architecture out.
            Packages::Dnf | Packages::Yum if there.iter().any(|file| file.ends_with(".rpm")) => Vec::new(),
            Packages::Dnf | Packages::Yum => names.clone(),
        };
        if said.ok && missing.is_empty() {
            return Ok(Download::Complete(Headers { packages: self.packages(), dir }));
        }
        Ok(Download::Missing(why(if missing.is_empty() { &names } else { &missing }, &said.text)))
    }

    /// A package and those of its dependencies that belong to the headers; or which of them no list has.
    fn closure(&self, package: &str) -> Result<std::result::Result<Vec<String>, String>> {
        let mut packages = vec![package.to_owned()];
        let mut at = 0;
        while at < packages.len() {
            let Some(groups) = self.depends(&packages[at])? else {
                return Ok(Err(format!("{} is not on offer", packages[at])));
            };
            for group in &groups {
                match choose(group) {
                    Ok(Some(name)) if !packages.contains(name) => packages.push(name.clone()),
                    Ok(_) => {}
                    Err(name) => return Ok(Err(format!("{name} is not on offer"))),
                }
            }
            if packages.len() > MAX_PACKAGES {
                return Ok(Err(format!("{package} needs more than {MAX_PACKAGES} packages of headers")));
            }
            at += 1;
        }
        Ok(Ok(packages))
    }
}

impl Headers {
    /// Unpacks them below `root`.
    ///
    /// # Errors
    /// When that fails.
    pub fn unpack(&self, root: &Path) -> Result<()> {
        for package in files_of(self.dir.path())? {
            match self.packages {
                Packages::Apt => {
                    let args = ["-x".as_ref(), package.as_os_str(), root.as_os_str()];
                    command::run_ok(&Spec::new("dpkg-deb", args, UNPACK))?;
                }
                Packages::Dnf | Packages::Yum => unpack_rpm(&package, root)?,
            }
        }
        Ok(())
    }
}

fn files_of(dir: &Path) -> Result<Vec<PathBuf>> {
    let act = || format!("reading {}", dir.display());
    fs::read_dir(dir).with_context(act)?.map(|e| Ok(e.with_context(act)?.path())).collect()
}

/// Of alternatives the first that a list has and that belongs to the headers; nothing where none does, or another package will do;
/// the first of them where no list has any.
fn choose(group: &[Dependency]) -> std::result::Result<Option<&String>, &String> {
    let belongs = |d: &&Dependency| d.name.starts_with("linux-headers-") || d.name.starts_with("linux-kbuild-");
    let listed = group.iter().filter(belongs).find(|d| d.listed);
    match (listed, group.iter().find(belongs)) {
        (Some(one), _) => Ok(Some(&one.name)),
        (None, Some(one)) if group.iter().all(|d| belongs(&d)) => Err(&one.name),
        (None, _) => Ok(None),
    }
}

/// The packages that are not among the files: `NAME_VERSION_ARCH.deb`.
fn absent(names: &[String], files: &[String]) -> Vec<String> {
    let is = |name: &str, file: &str| file.strip_prefix(name).is_some_and(|rest| rest.starts_with('_'));
    names.iter().filter(|name| !files.iter().any(|file| is(name, file))).cloned().collect()
}

/// Why packages could not be downloaded, in the package manager's own words:
/// `E: Failed to fetch http://host/NAME_VERSION_ARCH.deb  404  Not Found [IP: …]`.
fn why(missing: &[String], text: &str) -> String {
    // apt writes a plus in an address as its code.
    let is = |l: &&str| {
        let plain = l.replace("%2b", "+");
        l.starts_with("E: Failed to fetch ") && missing.iter().any(|name| plain.contains(&format!("/{name}_")))
    };
    let line = text.lines().find(is);
    let said = line.and_then(|l| l.trim_start_matches("E: Failed to fetch ").split_once(' ')).map(|(_, said)| reason(said));
    format!("{} could not be downloaded: {}", missing.join(", "), said.unwrap_or_else(|| reason(text)))
}

/// `rpm2cpio PACKAGE` into a file, then `cpio -idm` from it: no shell, no pipe that one end could leave.
fn unpack_rpm(package: &Path, root: &Path) -> Result<()> {
    files::create_dirs(root, 0o755)?;
    let act = || format!("unpacking {}", package.display());
    let archive = tempfile::NamedTempFile::new()?;
    let mut rpm2cpio = Spec::new("rpm2cpio", [package], UNPACK).command();
    let mut child = rpm2cpio.stdout(archive.reopen()?).stderr(Stdio::null()).spawn().with_context(act)?;
    anyhow::ensure!(command::wait(&mut child, UNPACK)?.0.success(), "{}: rpm2cpio failed", act());
    let mut spec = Spec::new("cpio", ["-idm", "--quiet"], UNPACK);
    spec.dir = root.to_owned();
    let mut child = spec
        .command()
        .stdin(File::open(archive.path())?)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(act)?;
    anyhow::ensure!(command::wait(&mut child, UNPACK)?.0.success(), "{}: cpio failed", act());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(names: &[(&str, bool)]) -> Vec<Dependency> {
        names.iter().map(|(name, listed)| Dependency { name: (*name).to_owned(), listed: *listed }).collect()
    }

    #[test]
    fn of_alternatives_the_first_that_is_there_is_taken() {
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
    fn what_could_not_be_downloaded_is_named_with_the_mirrors_answer() {
        let names = ["linux-headers-6.1.0-57-amd64", "linux-headers-6.1.0-57-common", "linux-kbuild-6.1"].map(str::to_owned);
        let files = ["linux-headers-6.1.0-57-amd64_6.1.192-3_amd64.deb", "linux-kbuild-6.1_6.1.192-3_amd64.deb"];
        let missing = absent(&names, &files.map(str::to_owned));
        assert_eq!(missing, ["linux-headers-6.1.0-57-common"]);
        // As apt 2.6 prints it.
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
