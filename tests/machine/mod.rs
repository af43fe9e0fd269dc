//! A small machine below a temporary root, and runs of the binary on it.
#![allow(dead_code)] // each test file uses its part of it

pub mod arena;
pub mod kernels;
pub mod ko;
pub mod lab;
pub mod levels;
pub mod live;
pub mod points;
pub mod terminal;
pub mod turn;

use std::fs;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The modalias of an 82599 virtual function, which the ixgbevf recipe claims.
pub const VF: &str = "pci:v00008086d000010EDsv00008086sd00000000bc02sc00i00";

pub const MACHINE_ID: &str = "0123456789abcdef0123456789abcdef";

/// A directory tree that stands for a whole host with systemd.
pub struct Machine {
    dir: tempfile::TempDir,
}

/// The result of a run of the binary.
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// The one JSON object on stdout.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}{}", self.stdout, self.stderr))
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Run {
        Run {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Machine {
    /// An empty tree.
    pub fn bare() -> Machine {
        Machine { dir: tempfile::tempdir().unwrap() }
    }

    /// A tree with an empty sysfs.
    pub fn new() -> Machine {
        let machine = Machine::bare();
        fs::create_dir_all(machine.path("sys/bus/pci/devices")).unwrap();
        fs::create_dir_all(machine.path("etc/vfguard")).unwrap();
        machine
    }

    /// A machine of tests/cases/next-boot. Its images and ramdisks are empty files there, so they get some content.
    pub fn of_case(name: &str) -> Machine {
        let machine = Machine::new();
        let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/next-boot").join(name).join("in/.");
        assert!(Command::new("cp").arg("-a").arg(case).arg(machine.root()).status().unwrap().success());
        fill(&machine.path("boot"));
        fill(&machine.path("efi"));
        machine
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Adds a file.
    pub fn file(self, name: &str, text: &str) -> Machine {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        self
    }

    /// Adds an installed kernel: an image, and a module directory that depmod has indexed as empty.
    pub fn kernel(self, release: &str) -> Machine {
        let modules = format!("lib/modules/{release}");
        let mut machine = self.file(&format!("boot/vmlinuz-{release}"), "an image");
        for name in ["modules.alias", "modules.dep", "modules.builtin", "modules.builtin.modinfo", "modules.order"] {
            machine = machine.file(&format!("{modules}/{name}"), "");
        }
        machine
    }

    /// Adds GRUB 2 as on EL8 and later: `grub.cfg` with `blscfg`, and an environment block.
    pub fn grub(self) -> Machine {
        let config = "if [ -s $prefix/grubenv ]; then\n  load_env\nfi\nif [ \"${next_entry}\" ] ; then\n  set default=\"${next_entry}\"\n  \
                      set next_entry=\n  save_env next_entry\n  set boot_once=true\nelse\n  set default=\"${saved_entry}\"\nfi\n\
                      insmod blscfg\nblscfg\n";
        self.file("etc/os-release", "ID=rhel\nVERSION_ID=9.4\n").file("boot/grub2/grub.cfg", config)
    }

    /// Adds a boot entry for a kernel.
    pub fn boot_entry(self, release: &str) -> Machine {
        let entry =
            format!("title Linux {release}\nversion {release}\nlinux /vmlinuz-{release}\noptions root=/dev/vda1 ro\n");
        self.file(&format!("boot/loader/entries/{MACHINE_ID}-{release}.conf"), &entry)
    }

    /// Sets the boot default to a kernel, as a kernel package's scriptlet does.
    pub fn boot_default(self, release: &str) -> Machine {
        let mut block = format!("# GRUB Environment Block\nsaved_entry={MACHINE_ID}-{release}\n");
        block.extend(std::iter::repeat_n('#', 1024 - block.len()));
        self.file("boot/grub2/grubenv", &block)
    }

    /// The kernel that `grubenv` names.
    pub fn saved_entry(&self) -> String {
        let block = fs::read(self.path("boot/grub2/grubenv")).unwrap();
        assert_eq!(block.len(), 1024, "the environment block changed its size");
        let text = String::from_utf8(block).unwrap();
        let entry = text.lines().find_map(|l| l.strip_prefix("saved_entry=")).unwrap_or_default();
        entry.trim_start_matches(MACHINE_ID).trim_start_matches('-').to_owned()
    }

    /// Makes a kernel the running one; its VF driver is an out-of-tree module.
    pub fn running(self, release: &str) -> Machine {
        self.file("proc/sys/kernel/osrelease", &format!("{release}\n")).file("sys/module/ixgbevf/taint", "OE\n")
    }

    /// Adds the head of an ixgbevf recipe that replaces the built-in one, and these releases.
    pub fn recipe(self, releases: &str) -> Machine {
        let head = "name = 'ixgbevf'\ndevices = ['pci:v00008086d000010EDsv*sd*bc*sc*i*']\n";
        self.file("etc/vfguard/drivers.d/ixgbevf.toml", &format!("{head}{releases}"))
    }

    /// Adds the demo driver of the lab as the recipe, and its device; it builds in two seconds.
    pub fn demo(self, lab: &lab::Lab) -> Machine {
        let release = lab.release(&self, "DEMO", "");
        let head = "name = 'demo'\ndevices = ['pci:v00001234d0000D0F0sv*sd*bc*sc*i*']\n";
        self.file("etc/vfguard/drivers.d/demo.toml", &format!("{head}{release}")).device(
            "0000:00:09.0",
            "pci:v00001234d0000D0F0sv00000000sd00000000bc02sc00i00",
            None,
        )
    }

    /// Adds the usual virtual function, bound to a driver.
    pub fn vf(self, driver: &str) -> Machine {
        self.device("0000:00:03.0", VF, Some(driver))
    }

    /// Adds a network device.
    pub fn device(self, address: &str, modalias: &str, driver: Option<&str>) -> Machine {
        let dir = format!("sys/bus/pci/devices/{address}");
        let machine = self
            .file(&format!("{dir}/modalias"), &format!("{modalias}\n"))
            .file(&format!("{dir}/class"), "0x020000\n")
            .file(&format!("{dir}/net/eth0/operstate"), "up\n");
        if let Some(driver) = driver {
            symlink(format!("../../../../bus/pci/drivers/{driver}"), machine.path(&dir).join("driver")).unwrap();
        }
        machine
    }

    /// Sets a mirror that does not exist, so that nothing is downloaded.
    pub fn offline(self) -> Machine {
        self.file("etc/vfguard/config.d/offline.toml", "[fetch]\nattempts = 1\ntimeout = 1\n")
    }

    /// The binary on this root, not started yet. Nothing is downloaded: the proxy is a closed port.
    pub fn command(&self, args: &[&str]) -> Command {
        // tests/release/run.sh runs the shipped binary instead, on an older Linux.
        let binary = std::env::var_os("VFGUARD_UNDER_TEST").unwrap_or_else(|| env!("CARGO_BIN_EXE_vfguard").into());
        let mut command = Command::new(binary);
        command.arg("--root").arg(self.root()).args(args).env("https_proxy", "http://127.0.0.1:9");
        command
    }

    /// Runs the binary on this root.
    pub fn run(&self, args: &[&str]) -> Run {
        self.command(args).output().unwrap().into()
    }
}

/// Gives each empty file below a directory content as of a kernel image or a ramdisk.
fn fill(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            fill(&path);
        } else if entry.metadata().is_ok_and(|m| m.is_file() && m.len() == 0) {
            let content = if name.starts_with("initr") { ramdisk() } else { "an image".into() };
            fs::write(path, content).unwrap();
        }
    }
}

/// An empty archive in cpio's new format.
pub fn ramdisk() -> String {
    let numbers = [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 11, 0].map(|n| format!("{n:08X}")).concat();
    format!("070701{numbers}TRAILER!!!\0\0\0\0")
}
