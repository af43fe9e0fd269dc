//! The machine's own package manager as a source of kernel headers: which are offered, a verified copy of them ([`Lists`]), or the command
//! that installs them.

mod headers;
pub mod ini;
mod lists;
mod offer;
mod repository;
mod signature;
pub mod yum;

pub use headers::{Download, Headers};
pub use lists::{Freshness, Lists};
pub use offer::Offer;

use crate::error::advise;
use crate::host::command::{self, Spec};
use crate::host::{os_release, Host};
use crate::release::KernelRelease;
use anyhow::Result;
use std::path::Path;
use std::time::Duration;

/// Time for refreshing the machine's own lists, with everything else that its `apt-get update` does.
const REFRESH: Duration = Duration::from_secs(900);
/// How long the installation is waited for. It is not aborted after that, nor when vfguard is killed.
const INSTALL: Duration = Duration::from_secs(1800);

/// rpm's databases, for every backend.
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

/// The package format of a system.
#[derive(Clone, Copy)]
enum Family {
    Deb,
    Rpm,
}

impl Family {
    /// From os-release(5).
    fn named(host: &Host) -> Option<Family> {
        let text = os_release::text(host)?;
        let like = format!("{} {}", os_release::value(&text, "ID"), os_release::value(&text, "ID_LIKE"));
        like.split_whitespace().find_map(|word| match word {
            "debian" | "ubuntu" => Some(Family::Deb),
            "rhel" | "fedora" | "centos" | "rocky" | "almalinux" | "ol" | "amzn" | "redhat" => Some(Family::Rpm),
            _ => None,
        })
    }

    /// A dpkg database that lists dpkg itself belongs to a Debian system, and no other does. For rpm it is then enough that a database
    /// exists.
    fn of_database(host: &Host) -> Option<Family> {
        if host.exists("/var/lib/dpkg/info/dpkg.list") {
            return Some(Family::Deb);
        }
        RPMDB.iter().any(|db| host.metadata(db).is_ok_and(|m| m.len() > 0)).then_some(Family::Rpm)
    }
}

impl Packages {
    /// The package manager of a machine's own packages. The installed programs say little: Fedora offers apt, Debian offers dnf and rpm. So
    /// os-release counts first, then the package database, and only if neither decides, the programs.
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

    /// The package manager of the machine that vfguard runs on, even if it examines another root.
    ///
    /// # Errors
    /// If there is no known one.
    pub fn here() -> Result<Packages> {
        Packages::of(&Host::new(Path::new("/"))?).ok_or_else(|| {
            advise(
                "no package manager that is known (apt, dnf, yum) is in charge here, so headers cannot be looked up",
                "name a kernel whose headers are installed: `vfguard rehearse KERNEL`",
            )
        })
    }

    /// The command by which a person installs packages, with each family's package names.
    pub fn line(self, deb: &str, rpm: &str) -> String {
        match self {
            Packages::Apt => format!("apt-get install {deb}"),
            Packages::Dnf => format!("dnf install {rpm}"),
            Packages::Yum => format!("yum install {rpm}"),
        }
    }

    /// The command that installs the headers of a kernel. Every kernel-devel package, whatever its name (kernel6.12-devel, kernel-rt-devel,
    /// kernel-uek-devel), provides `kernel-devel-uname-r = K`.
    pub fn install_headers(self, kernel: &KernelRelease) -> Spec {
        let provided = format!("kernel-devel-uname-r = {kernel}");
        let mut spec = match self {
            Packages::Apt => {
                let package = format!("linux-headers-{kernel}");
                let wait = "DPkg::Lock::Timeout=600";
                let mut spec =
                    Spec::new("apt-get", ["-q", "-y", "--no-install-recommends", "-o", wait, "install", &package], INSTALL);
                spec.env.push(("DEBIAN_FRONTEND".into(), "noninteractive".into()));
                spec
            }
            // The lists, which dnf keeps for two days, may be older than the kernel.
            Packages::Dnf => Spec::new("dnf", ["-y", "--refresh", "install", &provided], INSTALL),
            Packages::Yum => Spec::new("yum", ["-y", "install", &provided], INSTALL),
        };
        // An aborted transaction leaves a half-installed package, and a package manager that refuses to work.
        spec.outlives = true;
        spec
    }

    /// The command that refreshes the package lists, if [`Packages::install_headers`] does not do so itself: they may be older than the
    /// kernel, or name packages that the mirror no longer has.
    pub fn refresh(self) -> Option<Spec> {
        match self {
            Packages::Apt => Some(Spec::new("apt-get", ["-q", "-o", "DPkg::Lock::Timeout=600", "update"], REFRESH)),
            Packages::Dnf | Packages::Yum => None,
        }
    }

    /// Whether the output of [`Packages::install_headers`] says that no repository has the headers, so that another try would be useless.
    pub fn says_absent(self, output: &str) -> bool {
        let words: &[&str] = match self {
            Packages::Apt => &["Unable to locate package", "has no installation candidate", "Couldn't find any package"],
            Packages::Dnf => &["Unable to find a match", "No match for argument"],
            Packages::Yum => &["No package kernel-devel-uname-r"],
        };
        words.iter().any(|w| output.contains(w))
    }
}

/// yum 3 can only download with a plugin that may not be installed.
fn no_download() -> anyhow::Error {
    advise(
        "yum 3 does not download packages without installing them",
        "name a kernel whose headers are installed: `vfguard rehearse KERNEL`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each machine has the files that are named; its os-release has the ID in the first column.
    #[test]
    fn the_package_manager_of_the_systems_own_packages_is_chosen_whatever_else_is_installed() {
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
        // An empty database belongs to no system.
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        host.write_atomic("/var/lib/rpm/rpmdb.sqlite", b"", 0o644).unwrap();
        host.write_atomic("/usr/bin/apt-get", b"x", 0o755).unwrap();
        assert_eq!(Packages::of(&host), Some(Packages::Apt));
    }

    #[test]
    fn headers_are_requested_by_what_they_provide_and_their_absence_is_recognised() {
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
        // Output of dnf 4.14.
        assert!(
            Packages::Dnf.says_absent("No match for argument: kernel-devel-uname-r = 9\nError: Unable to find a match: …\n")
        );
        assert!(!Packages::Dnf.says_absent("Error: Failed to download metadata for repo 'baseos'\n"));
        assert!(Packages::Yum.says_absent("No package kernel-devel-uname-r = 9 available.\nError: Nothing to do\n"));
        assert!(Packages::Apt.says_absent("E: Unable to locate package linux-headers-9\n"));
    }
}
