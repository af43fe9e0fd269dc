//! Real input from the lab (`tests/lab/fetch.sh`): kernels with their headers, and drivers as Intel packs them.

use super::{turn, Machine};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The keys of `manifest.env`, and the lab's directory.
pub struct Lab {
    dir: PathBuf,
    values: HashMap<String, String>,
}

impl Lab {
    /// The lab that `VFGUARD_LAB` names; `tests/run.sh build` makes it. A test that opens it may build in parallel with others.
    pub fn open() -> Lab {
        turn::shared();
        let dir = PathBuf::from(std::env::var_os("VFGUARD_LAB").expect("VFGUARD_LAB is not set: run tests/run.sh build"));
        let text =
            fs::read_to_string(dir.join("manifest.env")).expect("the lab has no manifest.env: run tests/lab/fetch.sh");
        let values = text.lines().filter_map(|l| l.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        Lab { dir, values }
    }

    pub fn get(&self, key: &str) -> &str {
        self.values.get(key).unwrap_or_else(|| panic!("manifest.env has no {key}"))
    }

    /// The file for a key.
    pub fn file(&self, key: &str) -> PathBuf {
        self.dir.join(self.get(key))
    }

    /// A machine with the headers of all lab kernels and no kernel installed. It has links to the lab's files, which must not be written
    /// to.
    pub fn machine(&self) -> Machine {
        let machine = Machine::new();
        let status =
            Command::new("cp").args(["-al"]).arg(self.file("ROOT_DEB").join("usr")).arg(machine.root()).status().unwrap();
        assert!(status.success(), "TMPDIR and the lab must be on one file system");
        machine
    }

    /// A release of the ixgbevf recipe with an archive of the lab, for a range of kernels. The archive is copied below the root.
    pub fn release(&self, machine: &Machine, key: &str, range: &str) -> String {
        let archive = self.file(key);
        let name = archive.file_name().unwrap().to_str().unwrap();
        fs::create_dir_all(machine.path("srv/drivers")).unwrap();
        fs::copy(&archive, machine.path("srv/drivers").join(name)).unwrap();
        format!(
            "[[releases]]\nversion = '{}'\nurls = ['file:///srv/drivers/{name}']\nsha256 = '{}'\n{range}\n",
            self.get(&format!("{key}_VERSION")),
            self.get(&format!("{key}_SHA256"))
        )
    }

    /// Installs a kernel as a package would: image, module directory with its links to the headers, boot entry, boot default.
    pub fn install(&self, machine: Machine, release: &str) -> Machine {
        let machine = machine.kernel(release).boot_entry(release);
        let modules = machine.path(&format!("lib/modules/{release}"));
        for link in ["build", "source"] {
            let from = self.file("ROOT_DEB").join("lib/modules").join(release).join(link);
            std::os::unix::fs::symlink(fs::read_link(from).unwrap(), modules.join(link)).unwrap();
        }
        fs::copy(
            self.file("ROOT_DEB").join(format!("boot/config-{release}")),
            machine.path(&format!("boot/config-{release}")),
        )
        .unwrap();
        machine.boot_default(release)
    }
}

/// What the makefile of [`write_source`] prints before its script.
pub const BEGUN: &str = "here the script begins";

/// Writes a source whose `make` runs a shell script, with further files.
pub fn write_source(top: &Path, script: &str, files: &[(&str, &[u8])]) {
    let src = top.join("src");
    fs::create_dir_all(&src).unwrap();
    fs::write(
        src.join("Makefile"),
        format!("default:\n\t@echo {BEGUN}\n\t@bash ./script.sh\ninstall:\n\ttouch /installed\n"),
    )
    .unwrap();
    fs::write(src.join("script.sh"), script).unwrap();
    for (name, content) in files {
        fs::write(src.join(name), content).unwrap();
    }
}

/// Makes an archive of such a source, below `root`. Returns its path and digest.
pub fn archive(root: &Path, script: &str, files: &[(&str, &[u8])]) -> (PathBuf, String) {
    let dir = tempfile::tempdir().unwrap();
    write_source(&dir.path().join("ixgbevf-1.0"), script, files);
    let file = root.join("source.tar.gz");
    let status = Command::new("tar").arg("-czf").arg(&file).arg("-C").arg(dir.path()).arg("ixgbevf-1.0").status().unwrap();
    assert!(status.success());
    let digest = vfguard::driver::Digest::of(fs::File::open(&file).unwrap()).unwrap().to_string();
    (file, digest)
}

/// Builds small modules from these sources (file name without `.c`, text) with K's own kbuild, in a new directory.
pub fn kbuild(lab: &Lab, release: &str, sources: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let objects: Vec<String> = sources.iter().map(|(name, _)| format!("{name}.o")).collect();
    fs::write(dir.path().join("Kbuild"), format!("obj-m := {}\n", objects.join(" "))).unwrap();
    for (name, text) in sources {
        fs::write(dir.path().join(format!("{name}.c")), text).unwrap();
    }
    let headers = lab.file("ROOT_DEB").join("usr/src");
    let output = Command::new("make")
        .arg("-C")
        .arg(headers.join(format!("linux-headers-{}-common", release.trim_end_matches("-amd64"))))
        .arg(format!("O={}", headers.join(format!("linux-headers-{release}")).display()))
        .arg(format!("M={}", dir.path().display()))
        .args(["-j2", "modules"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    dir
}

/// Compiles a library for LD_PRELOAD.
pub fn preload(machine: &Machine, text: &str) -> PathBuf {
    let (source, library) = (machine.path("shim.c"), machine.path("shim.so"));
    fs::write(&source, text).unwrap();
    let gcc = ["-shared", "-fPIC", "-O1", "-o"];
    assert!(Command::new("gcc").args(gcc).arg(&library).arg(&source).arg("-ldl").status().unwrap().success());
    library
}

/// Runs a program behind a seccomp filter that makes some system calls fail: first, last, errno, program…; with `first:ARGUMENT` only calls
/// with that first argument.
const FILTER: &str = r#"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
int main(int argc, char **argv) {
    char *only = argc > 1 ? strchr(argv[1], ':') : 0;
    struct sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, atoi(argv[1]), 0, 4),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, atoi(argv[2]), 3, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, only ? atoi(only + 1) : 0, 0, only != 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | atoi(argv[3])),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof rules / sizeof *rules, rules};
    if (argc < 5 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter)) return 99;
    execvp(argv[4], argv + 4);
    return 98;
}
"#;

/// With that program, a kernel looks as if it had no seccomp: seccomp(2), and PR_SET_SECCOMP of prctl(2), by their numbers on x86-64.
pub const NO_SECCOMP: [[&str; 3]; 2] = [["317", "317", "38"], ["157:22", "157", "22"]];

/// Compiles that program.
pub fn filter(machine: &Machine) -> PathBuf {
    let (source, filter) = (machine.path("filter.c"), machine.path("filter"));
    fs::write(&source, FILTER).unwrap();
    assert!(Command::new("gcc").arg("-o").arg(&filter).arg(&source).status().unwrap().success());
    filter
}
