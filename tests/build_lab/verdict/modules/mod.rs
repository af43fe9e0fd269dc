//! Real modules in the directories that modprobe searches, judged by the binary: their dependencies, how a device was bound to its driver,
//! who signed them, and how their symbol versions differ between kernels.

mod signed;
mod versions;

use crate::machine::lab::{self, Lab};
use crate::machine::Machine;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const BASE: &str = r#"#include <linux/module.h>
void vg_base_f(void); void vg_base_f(void) {} EXPORT_SYMBOL_GPL(vg_base_f); MODULE_LICENSE("GPL");"#;
const MID: &str = r#"#include <linux/module.h>
void vg_mid_f(void); void vg_mid_f(void) {} EXPORT_SYMBOL_GPL(vg_mid_f); MODULE_LICENSE("GPL");"#;
/// The same exports, but it needs another module itself.
const NEW_MID: &str = r#"#include <linux/module.h>
void vg_base_f(void);
void vg_mid_f(void); void vg_mid_f(void) { vg_base_f(); } EXPORT_SYMBOL_GPL(vg_mid_f); MODULE_LICENSE("GPL");"#;
const SOFT: &str = r#"#include <linux/module.h>
MODULE_LICENSE("GPL");"#;
const TOP: &str = r#"#include <linux/module.h>
#include <linux/pci.h>
void vg_mid_f(void);
static int probe(struct pci_dev *d, const struct pci_device_id *id) { vg_mid_f(); return 0; }
static const struct pci_device_id ids[] = { { PCI_DEVICE(0x1234, 0xd0f1) }, { } };
MODULE_DEVICE_TABLE(pci, ids);
static struct pci_driver vg_driver = { .name = "vg_top", .id_table = ids, .probe = probe };
module_pci_driver(vg_driver);
MODULE_SOFTDEP("pre: vg_soft post: vg_nowhere");
MODULE_LICENSE("GPL");"#;
const CLAIMED: &str = "pci:v00001234d0000D0F1sv00000000sd00000000bc02sc00i00";

/// A machine whose NIC is driven by the topmost of the small modules.
struct Stage {
    machine: Machine,
    kernel: String,
    built: [tempfile::TempDir; 2],
}

impl Stage {
    fn new(modalias: &str) -> Stage {
        let lab = Lab::open();
        let kernel = lab.get("K_NEW").to_owned();
        let machine = lab.install(lab.machine().running(&kernel), &kernel).device("0000:00:09.0", modalias, Some("vg_top"));
        let rest = [("vg_base", BASE), ("vg_soft", SOFT), ("vg_top", TOP)];
        let built =
            [("vg_mid", MID), ("vg_mid", NEW_MID)].map(|mid| lab::kbuild(&lab, &kernel, &[&rest[..], &[mid]].concat()));
        let stage = Stage { machine, kernel, built };
        fs::create_dir_all(stage.file("vg_top").parent().unwrap()).unwrap();
        for name in ["vg_base", "vg_mid", "vg_soft", "vg_top"] {
            fs::copy(stage.built[0].path().join(format!("{name}.ko")), stage.file(name)).unwrap();
        }
        stage.depmod();
        stage
    }

    fn file(&self, name: &str) -> PathBuf {
        self.machine.path(&format!("lib/modules/{}/extra/{name}.ko", self.kernel))
    }

    fn depmod(&self) {
        assert!(Command::new("depmod").arg("-b").arg(self.machine.root()).arg(&self.kernel).status().unwrap().success());
    }

    /// Exit code, and each finding as `severity code detail`.
    fn check(&self) -> (i32, Vec<String>) {
        let run = self.machine.run(&["--format", "json", "check", &self.kernel]);
        let value = run.json();
        let all = value["kernels"][0]["findings"].as_array().unwrap();
        let text =
            |f: &serde_json::Value| ["severity", "code", "detail"].map(|k| f[k].as_str().unwrap().to_owned()).join(" ");
        (run.code, all.iter().map(text).collect())
    }

    /// Asserts whether it is refused, with a finding that begins with this text and contains this word.
    #[track_caller]
    fn says(&self, code: i32, begins: &str, word: &str) {
        let (got, findings) = self.check();
        assert_eq!(got, code, "{findings:?}");
        assert!(findings.iter().any(|f| f.starts_with(begins) && f.contains(word)), "{begins}, {word}: {findings:?}");
    }
}

#[test]
fn dependencies_are_followed_to_the_end_and_soft_ones_refuse_nothing() {
    let stage = Stage::new(CLAIMED);
    stage.says(0, "info dependency-missing", "vg_nowhere");
    assert_eq!(stage.check().1.len(), 1);

    // A dependency that has a dependency that modules.dep does not know: modprobe would not load it first.
    fs::copy(stage.built[1].path().join("vg_mid.ko"), stage.file("vg_mid")).unwrap();
    let shown = Command::new("modprobe")
        .arg("-d")
        .arg(stage.machine.root())
        .args(["-S", &stage.kernel, "--show-depends", "vg_top"])
        .output()
        .unwrap();
    assert!(!String::from_utf8_lossy(&shown.stdout).contains("vg_base"), "this was meant to be a stale table");
    stage.says(3, "unsafe dependency-missing", "vg_base");
    stage.depmod();
    assert_eq!(stage.check().0, 0);
    let base = fs::read(stage.file("vg_base")).unwrap();
    fs::write(stage.file("vg_base"), &base[..base.len() / 2]).unwrap();
    stage.says(3, "unsafe dependency-missing", "vg_base.ko");
    fs::write(stage.file("vg_base"), &base).unwrap();
    let conf = stage.machine.path("etc/modprobe.d/x.conf");
    fs::create_dir_all(conf.parent().unwrap()).unwrap();
    for (text, code, begins, word) in [
        ("install vg_base /bin/false\n", 3, "unsafe dependency-missing", "install vg_base"),
        ("blacklist vg_mid\n", 0, "info dependency-missing", "vg_nowhere"),
        ("blacklist vg_top\n", 3, "unsafe blacklisted", "blacklist vg_top"),
        ("softdep vg_top pre: vg_elsewhere\n", 0, "info dependency-missing", "vg_elsewhere"),
    ] {
        fs::write(&conf, text).unwrap();
        stage.says(code, begins, word);
    }
    fs::remove_file(&conf).unwrap();

    // modprobe continues if a soft dependency does not load.
    fs::write(stage.file("vg_soft"), &base[..100]).unwrap();
    stage.says(0, "warning dependency-missing", "vg_soft");
    fs::remove_file(stage.file("vg_mid")).unwrap();
    stage.says(3, "unsafe dependency-missing", "vg_mid");
}

#[test]
fn a_binding_that_a_reboot_forgets_is_reported() {
    let stage = Stage::new(CLAIMED);
    assert!(!stage.check().1.iter().any(|f| f.contains("bound-by-hand")));
    fs::write(stage.machine.path("sys/bus/pci/devices/0000:00:09.0/driver_override"), "vg_top\n").unwrap();
    stage.says(0, "warning bound-by-hand", "driver_override");
    let stage = Stage::new(&CLAIMED.replace("D0F1", "D0F2"));
    stage.says(3, "warning bound-by-hand", "new_id");
    stage.says(3, "unsafe device-unclaimed", "D0F2");
}

#[test]
fn a_damaged_real_module_is_refused_with_the_reason_of_its_damage() {
    let lab = Lab::open();
    let k = lab.get("K_NEW");
    let machine = lab.install(lab.machine().running(k), k);
    let good = lab.file("MODULE_IXGBEVF").parent().unwrap().join("demo.ko");
    let bytes = fs::read(&good).unwrap();
    let spoiled = machine.path("demo.ko");
    let codes = |machine: &Machine| -> Vec<String> {
        let run = machine.run(&["--format", "json", "verify", machine.path("demo.ko").to_str().unwrap(), "--kernel", k]);
        run.json()["findings"].as_array().unwrap().iter().map(|f| f["code"].as_str().unwrap().to_owned()).collect()
    };
    fs::write(&spoiled, &bytes).unwrap();
    assert_eq!(codes(&machine), [] as [&str; 0]);
    // Half of a compressed file; e_machine of AArch64; a section that the kernel needs, renamed by objcopy.
    let packed = Command::new("xz").args(["--check=crc32", "-c"]).arg(&good).output().unwrap().stdout;
    fs::write(&spoiled, &packed[..packed.len() / 2]).unwrap();
    assert_eq!(codes(&machine), ["module-unreadable"]);
    let mut other = bytes.clone();
    other[18..20].copy_from_slice(&183u16.to_le_bytes());
    fs::write(&spoiled, &other).unwrap();
    assert_eq!(codes(&machine), ["wrong-arch"]);
    let objcopy =
        Command::new("objcopy").arg("--rename-section=.gnu.linkonce.this_module=.other").arg(&good).arg(&spoiled).status();
    assert!(objcopy.unwrap().success());
    assert_eq!(codes(&machine), ["stripped"]);
    // A kernel that does not check symbol versions.
    fs::write(&spoiled, &bytes).unwrap();
    let config = machine.path(&format!("boot/config-{k}"));
    let text = fs::read_to_string(&config).unwrap().replace("CONFIG_MODVERSIONS=y\n", "");
    fs::write(&config, text).unwrap();
    assert!(codes(&machine).contains(&"modversions-off".to_owned()));
    // A file that depmod has not read.
    let stage = Stage::new(CLAIMED);
    fs::write(stage.machine.path(&format!("lib/modules/{}/modules.alias.bin", stage.kernel)), "damaged").unwrap();
    assert!(stage.check().1.iter().any(|f| f.contains("device-unclaimed") || f.contains("depmod-stale")));
    stage.depmod();
    let aside = stage.file("vg_top").with_extension("aside");
    fs::rename(stage.file("vg_top"), &aside).unwrap();
    let aliased = fs::read(&aside).unwrap();
    // The same driver for another device, while the table still has the first one.
    let at = aliased.windows(20).position(|w| w == b"alias=pci:v00001234d").unwrap() + 20;
    let mut moved = aliased.clone();
    moved[at..at + 8].copy_from_slice(b"0000D0F7");
    fs::write(stage.file("vg_top"), &moved).unwrap();
    stage.says(3, "unsafe depmod-stale", "aliases");
}
