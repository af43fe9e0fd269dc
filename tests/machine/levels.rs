//! The levels of containment, each set up for a build.

use super::lab::{self, Lab};
use super::{turn, Machine};
use std::fs;
use std::os::unix::fs::{chown, PermissionsExt};
use std::process::Command;

/// The caller of vfguard where that is not root.
const CALLER: u32 = 1000;

/// The arguments of lab::filter: first and last system call, errno.
pub type Filter = [&'static str; 3];

/// How a build is contained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Contained {
    Full,
    /// The build user and Landlock, as in many containers.
    NoNamespaces,
    /// Only the build user, as on EL6.
    UserOnly,
    /// Namespaces, and the caller's own user.
    OwnUser,
    /// The caller's own user and Landlock.
    NoNamespacesOwnUser,
}

impl Contained {
    pub const ALL: [Contained; 5] =
        [Contained::Full, Contained::NoNamespaces, Contained::UserOnly, Contained::OwnUser, Contained::NoNamespacesOwnUser];

    pub fn has_namespaces(self) -> bool {
        matches!(self, Contained::Full | Contained::OwnUser)
    }

    /// Filters that make system calls fail: unshare(2), and Landlock's three.
    pub fn filters(self) -> &'static [Filter] {
        const NO_UNSHARE: Filter = ["272", "272", "1"];
        match self {
            Contained::Full | Contained::OwnUser => &[],
            Contained::NoNamespaces | Contained::NoNamespacesOwnUser => &[NO_UNSHARE],
            Contained::UserOnly => &[NO_UNSHARE, ["444", "446", "38"]],
        }
    }
}

/// A machine with a kernel and a small driver, on which builds run at any level of containment. No other test runs at the same time.
pub struct Stage {
    pub machine: Machine,
    pub kernel: String,
}

impl Stage {
    pub fn new() -> Stage {
        turn::alone();
        let lab = Lab::open();
        let kernel = lab.get("K_NEW").to_owned();
        let machine = lab.install(lab.machine().demo(&lab).offline(), &kernel);
        let machine = machine.file("etc/os-release", "ID=made-up\n").file("etc/made-up-release", "Made up 1\n");
        fs::set_permissions(machine.root(), PermissionsExt::from_mode(0o755)).unwrap();
        lab::filter(&machine);
        fs::copy(env!("CARGO_BIN_EXE_vfguard"), machine.path("vfguard")).unwrap();
        Stage { machine, kernel }
    }

    /// The log of a build that runs a script.
    pub fn script(&self, contained: Contained, script: &str) -> String {
        self.behind(contained, &[], script, &[])
    }

    /// The same behind further filters, with further files in the source.
    pub fn behind(&self, contained: Contained, filters: &[Filter], script: &str, files: &[(&str, &[u8])]) -> String {
        let (file, digest) = lab::archive(self.machine.root(), script, files);
        let own = matches!(contained, Contained::OwnUser | Contained::NoNamespacesOwnUser);
        let owner = if own { CALLER } else { 0 };
        for dir in ["", "var", "run", "lib/modules", &format!("lib/modules/{}", self.kernel)] {
            let dir = self.machine.path(dir);
            fs::create_dir_all(&dir).unwrap();
            chown(&dir, Some(owner), Some(owner)).unwrap();
        }
        let mut give = Command::new("chown");
        give.args(["-R", &format!("{owner}:{owner}")]).args(["var", "run"].map(|dir| self.machine.path(dir)));
        assert!(give.status().unwrap().success());
        // Descriptors that the caller has open, and that the build must not get.
        let mut words = ["sh", "-c", "exec 7<\"$0\" 8>&2; exec \"$@\"", "/etc/shadow"].map(str::to_owned).to_vec();
        for filter in contained.filters().iter().chain(filters) {
            words.push(self.machine.path("filter").display().to_string());
            words.extend(filter.map(str::to_owned));
        }
        if own {
            let ids = ["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups"];
            words.extend(ids.map(str::to_owned));
        }
        words.extend([self.machine.path("vfguard").display().to_string(), "--root".into()]);
        words.push(self.machine.root().display().to_string());
        let prepare = ["prepare", &self.kernel, "--driver", "demo", "--source", file.to_str().unwrap(), "--sha256", &digest];
        let output = Command::new(&words[0]).args(&words[1..]).args(prepare).args(["--jobs", "1"]).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{contained:?}: {told}");
        let log = self.machine.path(&format!("var/lib/vfguard/log/{}-demo-unknown.log", self.kernel));
        let text = fs::read_to_string(&log).unwrap_or_else(|e| panic!("{contained:?}: {e}: {told}"));
        fs::remove_file(log).unwrap();
        text
    }
}
