//! The machine's own package manager, asked for the headers of a kernel: which are offered, a copy of them unpacked into a
//! directory, or the command that installs them.

use super::command::{self, Spec};
use super::{files, os_release, Host};
use crate::error::{advise, Remedy};
use crate::kernel::KernelRelease;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// Looking into the package lists; they may have to be refreshed first.
const LOOK: Duration = Duration::from_secs(120);
/// Downloading 10 to 100 MB of headers.
const DOWNLOAD: Duration = Duration::from_secs(900);
/// Installing them; a transaction is never cut short before that.
const INSTALL: Duration = Duration::from_secs(1800);
/// Unpacking them.
const UNPACK: Duration = Duration::from_secs(300);
/// Headers need headers-common and kbuild; a chain longer than this is a mistake.
const MAX_PACKAGES: usize = 16;

/// rpm's databases, whichever backend.
pub const RPMDB: [&str; 6] = [
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/var/lib/rpm/rpmdb.sqlite",
    "/usr/lib/sysimage/rpm/Packages.db",
    "/var/lib/rpm/Packages.db",
    "/usr/lib/sysimage/rpm/Packages",
    "/var/lib/rpm/Packages",
];

/// A family of package managers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packages {
    /// apt and dpkg.
    Apt,
    /// dnf (4 and 5) and rpm.
    Dnf,
    /// yum 3 and rpm.
    Yum,
}

/// What a system's packages are.
#[derive(Clone, Copy)]
enum Family {
    Deb,
    Rpm,
}

impl Family {
    /// By os-release(5).
    fn named(host: &Host) -> Option<Family> {
        let text = os_release::text(host)?;
        let like = format!("{} {}", os_release::value(&text, "ID"), os_release::value(&text, "ID_LIKE"));
        like.split_whitespace().find_map(|word| match word {
            "debian" | "ubuntu" => Some(Family::Deb),
            "rhel" | "fedora" | "centos" | "rocky" | "almalinux" | "ol" | "amzn" | "redhat" => Some(Family::Rpm),
            _ => None,
        })
    }

    /// dpkg is a package of the system that it keeps, and of no other; of rpm it is enough to have a database then.
    fn of_database(host: &Host) -> Option<Family> {
        if host.exists("/var/lib/dpkg/info/dpkg.list") {
            return Some(Family::Deb);
        }
        RPMDB.iter().any(|db| host.metadata(db).is_ok_and(|m| m.len() > 0)).then_some(Family::Rpm)
    }
}

impl Packages {
    /// The one whose packages a machine is made of. Which programs are installed says little: Fedora offers apt, Debian dnf and rpm.
    /// The distribution's own word counts first, then which package database knows its own manager or the system's files, and only
    /// where neither is there, the programs.
    pub fn of(host: &Host) -> Option<Packages> {
        let has = |program: &str| {
            let live = host.is_live() && command::find(program).is_some();
            live || ["/usr/bin", "/bin"].iter().any(|dir| host.exists(format!("{dir}/{program}")))
        };
        let rpm = || [("dnf", Packages::Dnf), ("yum", Packages::Yum)].into_iter().find(|(p, _)| has(p)).map(|(_, m)| m);
        match Family::named(host).or_else(|| Family::of_database(host)) {
            Some(Family::Deb) => Some(Packages::Apt),
            Some(Family::Rpm) => rpm(),
            None if has("apt-get") => Some(Packages::Apt),
            None => rpm(),
        }
    }

    /// The one of the machine that vfguard runs on, whatever root it looks at.
    ///
    /// # Errors
    /// When there is none that is known.
    pub fn here() -> Result<Packages> {
        Packages::of(&Host::new(Path::new("/"))?).ok_or_else(|| {
            advise(
                "no package manager that is known (apt, dnf, yum) is in charge here, so headers cannot be looked up",
                "name a kernel whose headers are installed: `vfguard rehearse KERNEL`",
            )
        })
    }

    /// What a person types to install packages, by the names that each family has for them.
    pub fn line(self, deb: &str, rpm: &str) -> String {
        match self {
            Packages::Apt => format!("apt-get install {deb}"),
            Packages::Dnf => format!("dnf install {rpm}"),
            Packages::Yum => format!("yum install {rpm}"),
        }
    }

    /// The command that installs the headers of a kernel. Each kernel-devel, whatever its name (kernel6.12-devel, kernel-rt-devel,
    /// kernel-uek-devel), provides `kernel-devel-uname-r = K`.
    pub fn install_headers(self, kernel: &KernelRelease) -> Spec {
        let provided = format!("kernel-devel-uname-r = {kernel}");
        match self {
            Packages::Apt => {
                let package = format!("linux-headers-{kernel}");
                let wait = "DPkg::Lock::Timeout=600";
                let mut spec =
                    Spec::new("apt-get", ["-q", "-y", "--no-install-recommends", "-o", wait, "install", &package], INSTALL);
                spec.env.push(("DEBIAN_FRONTEND".into(), "noninteractive".into()));
                spec
            }
            // The lists that dnf keeps for two days may be older than the kernel.
            Packages::Dnf => Spec::new("dnf", ["-y", "--refresh", "install", &provided], INSTALL),
            Packages::Yum => Spec::new("yum", ["-y", "install", &provided], INSTALL),
        }
    }

    /// The command that brings the package lists up to date, where [`Packages::install_headers`] does not do so itself: they may be
    /// older than the kernel, or name what the mirror has no more.
    pub fn refresh(self) -> Option<Spec> {
        match self {
            Packages::Apt => Some(Spec::new("apt-get", ["-q", "-o", "DPkg::Lock::Timeout=600", "update"], DOWNLOAD)),
            Packages::Dnf | Packages::Yum => None,
        }
    }

    /// Whether what [`Packages::install_headers`] printed says that no repository has them: another try would be in vain.
    pub fn says_absent(self, output: &str) -> bool {
        let words: &[&str] = match self {
            Packages::Apt => &["Unable to locate package", "has no installation candidate", "Couldn't find any package"],
            Packages::Dnf => &["Unable to find a match", "No match for argument"],
            Packages::Yum => &["No package kernel-devel-uname-r"],
        };
        words.iter().any(|w| output.contains(w))
    }

    /// The newest kernel whose headers are offered.
    ///
    /// # Errors
    /// When the package lists name none.
    pub fn newest(self) -> Result<KernelRelease> {
        let releases: BTreeSet<KernelRelease> = match self {
            // The metapackage depends on the headers of the newest kernel of the distribution.
            Packages::Apt => depends("linux-headers-amd64")?
                .iter()
                .filter_map(|p| p.strip_prefix("linux-headers-")?.parse().ok())
                .collect(),
            Packages::Yum => return Err(no_download()),
            Packages::Dnf => {
                let format = "%{VERSION}-%{RELEASE}.%{ARCH}\\n";
                let spec = Spec::new("dnf", ["-q", "repoquery", "--latest-limit=1", "--qf", format, "kernel-devel"], LOOK);
                command::run_ok(&spec)?.tail.lines().filter_map(|l| l.trim().parse().ok()).collect()
            }
        };
        releases.into_iter().next_back().ok_or_else(|| {
            advise(
                "the package manager offers no kernel headers",
                "refresh its lists (`apt-get update`, `dnf makecache`) and see that a repository with kernels is enabled",
            )
        })
    }

    /// Downloads the headers of a kernel and unpacks them below `root`.
    ///
    /// # Errors
    /// When they are not offered, cannot be downloaded or unpacked.
    pub fn unpack_headers(self, kernel: &KernelRelease, root: &Path) -> Result<()> {
        let downloads =
            tempfile::Builder::new().prefix("vfguard-headers-").tempdir().context("making a directory for headers")?;
        let names = match self {
            Packages::Apt => closure(&format!("linux-headers-{kernel}"))?,
            Packages::Dnf => vec![format!("kernel-devel-{kernel}")],
            Packages::Yum => return Err(no_download()),
        };
        let mut download = match self {
            Packages::Apt => Spec::new("apt-get", ["-q", "download"], DOWNLOAD),
            Packages::Dnf | Packages::Yum => Spec::new("dnf", ["-q", "download"], DOWNLOAD),
        };
        download.args.extend(names.iter().map(Into::into));
        download.dir = downloads.path().to_owned();
        command::run_ok(&download).remedy(
            format!("downloading {}", names.join(", ")),
            "refresh the package lists (`apt-get update`, `dnf makecache`); `vfguard rehearse --available` takes a kernel that is offered",
        )?;
        let packages: Vec<PathBuf> =
            fs::read_dir(downloads.path())?.map(|e| e.map(|e| e.path())).collect::<std::io::Result<_>>()?;
        for package in packages {
            match self {
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

/// yum 3 downloads only with a plugin that may not be there.
fn no_download() -> anyhow::Error {
    advise(
        "yum 3 does not download packages without installing them",
        "name a kernel whose headers are installed: `vfguard rehearse KERNEL`",
    )
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

/// A package and those of its dependencies that belong to the headers.
fn closure(package: &str) -> Result<Vec<String>> {
    let mut packages = vec![package.to_owned()];
    let mut at = 0;
    while at < packages.len() && packages.len() <= MAX_PACKAGES {
        for name in depends(&packages[at])? {
            let ours = name.starts_with("linux-headers-") || name.starts_with("linux-kbuild-");
            if ours && !packages.contains(&name) {
                packages.push(name);
            }
        }
        at += 1;
    }
    Ok(packages)
}

/// The names that `apt-cache depends` gives for a package (lines `  Depends: NAME`).
fn depends(package: &str) -> Result<Vec<String>> {
    let spec = Spec::new("apt-cache", ["depends", "--no-recommends", "--no-suggests", package], LOOK);
    let out =
        command::run_ok(&spec).remedy(format!("looking up {package}"), "refresh the package lists: `apt-get update`")?.tail;
    Ok(out.lines().filter_map(|l| l.trim().strip_prefix("Depends: ")).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each machine has the files that are named, and by its own word it is what the first column says.
    #[test]
    fn the_one_whose_packages_the_system_is_made_of_is_taken_whatever_else_is_installed() {
        let (apt, dnf, yum) = ("usr/bin/apt-get", "usr/bin/dnf", "usr/bin/yum");
        let (dpkg, rpmdb) = ("var/lib/dpkg/info/dpkg.list", "var/lib/rpm/rpmdb.sqlite");
        let old = "var/lib/rpm/Packages";
        for (what, os_release, files, expected) in [
            ("Fedora with apt and dpkg to build with", "ID=fedora\n", vec![apt, dnf, rpmdb], Some(Packages::Dnf)),
            (
                "the same in other words",
                "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n",
                vec![apt, dnf, yum, rpmdb],
                Some(Packages::Dnf),
            ),
            ("Amazon Linux 2", "ID=\"amzn\"\nID_LIKE=\"centos rhel fedora\"\n", vec![apt, yum, old], Some(Packages::Yum)),
            ("Debian with rpm and dnf to build with", "ID=debian\n", vec![apt, dnf, dpkg, rpmdb], Some(Packages::Apt)),
            ("a child of Ubuntu", "ID=pop\nID_LIKE=\"ubuntu debian\"\n", vec![apt, dnf, rpmdb], Some(Packages::Apt)),
            ("EL6, which has no os-release", "", vec![apt, yum, old], Some(Packages::Yum)),
            ("a name that is not known, rpm's database and an apt", "ID=own\n", vec![apt, dnf, rpmdb], Some(Packages::Dnf)),
            (
                "the same with dpkg's own package in dpkg's database",
                "ID=own\n",
                vec![apt, dnf, dpkg, rpmdb],
                Some(Packages::Apt),
            ),
            ("Fedora whose dnf is gone: no apt in its place", "ID=fedora\n", vec![apt, rpmdb], None),
            ("nothing but a program", "", vec![apt], Some(Packages::Apt)),
            ("nothing at all", "", vec![], None),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let host = Host::new(dir.path()).unwrap();
            if !os_release.is_empty() {
                host.write_atomic("/etc/os-release", os_release.as_bytes(), 0o644).unwrap();
            }
            for file in files {
                host.write_atomic(Path::new("/").join(file), b"x", 0o755).unwrap();
            }
            assert_eq!(Packages::of(&host), expected, "{what}");
        }
        // An empty database is no one's.
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        host.write_atomic("/var/lib/rpm/rpmdb.sqlite", b"", 0o644).unwrap();
        host.write_atomic("/usr/bin/apt-get", b"x", 0o755).unwrap();
        assert_eq!(Packages::of(&host), Some(Packages::Apt));
    }

    #[test]
    fn headers_are_asked_for_by_what_they_provide_and_their_absence_is_understood() {
        let kernel: KernelRelease = "6.12.20-23.97.amzn2023.x86_64".parse().unwrap();
        let provided = "kernel-devel-uname-r = 6.12.20-23.97.amzn2023.x86_64";
        for packages in [Packages::Dnf, Packages::Yum] {
            let spec = packages.install_headers(&kernel);
            assert!(spec.args.iter().any(|a| a == provided) && spec.args.iter().any(|a| a == "-y"), "{}", spec.line());
        }
        assert!(Packages::Apt
            .install_headers(&kernel)
            .line()
            .ends_with(" install linux-headers-6.12.20-23.97.amzn2023.x86_64"));
        // As dnf 4.14 prints it.
        assert!(
            Packages::Dnf.says_absent("No match for argument: kernel-devel-uname-r = 9\nError: Unable to find a match: …\n")
        );
        assert!(!Packages::Dnf.says_absent("Error: Failed to download metadata for repo 'baseos'\n"));
        assert!(Packages::Yum.says_absent("No package kernel-devel-uname-r = 9 available.\nError: Nothing to do\n"));
        assert!(Packages::Apt.says_absent("E: Unable to locate package linux-headers-9\n"));
    }
}
