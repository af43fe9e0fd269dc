//! The keys of a recipe on real headers: modules that need each other, modules for some kernels, a step before make, symbol tables from
//! elsewhere, releases for minor releases of Enterprise Linux, releases that cannot be downloaded.

mod modules;
mod releases;
mod steps;

use crate::machine::lab::Lab;
use crate::machine::{Machine, Run};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const DEVICE: &str = "pci:v00001234d0000D0F0sv00000000sd00000000bc02sc00i00";
/// A driver for the lab's device; its probe calls `{use}`.
const DRIVER: &str = "#include <linux/module.h>\n#include <linux/pci.h>\n{declare}\n\
    static int demo_probe(struct pci_dev *d, const struct pci_device_id *i) { {use} return pci_enable_device(d); }\n\
    static const struct pci_device_id demo_ids[] = { { PCI_DEVICE(0x1234, 0xd0f0) }, { } };\nMODULE_DEVICE_TABLE(pci, demo_ids);\n\
    static struct pci_driver demo_pci = { .name = KBUILD_MODNAME, .id_table = demo_ids, .probe = demo_probe };\n\
    module_pci_driver(demo_pci);\nMODULE_LICENSE(\"Dual MIT/GPL\");\n#ifdef SAYS\nMODULE_VERSION(SAYS);\n#endif\n";
/// The symbol that another module exports for it.
const BESIDE: &str = "#include <linux/module.h>\nint demo_beside(void);\nint demo_beside(void) { return 7; }\n\
    EXPORT_SYMBOL_GPL(demo_beside);\nMODULE_LICENSE(\"Dual MIT/GPL\");\n";

fn driver(uses_beside: bool) -> String {
    let (declare, call) =
        if uses_beside { ("int demo_beside(void);", "if (demo_beside() != 7) return -19;") } else { ("", "") };
    DRIVER.replace("{declare}", declare).replace("{use}", call)
}

/// A makefile as vendors write them: kbuild makes the modules that `Kbuild` names.
const MAKEFILE: &str =
    "default:\n\t$(MAKE) -C $(KSRC) $(if $(KOBJ),O=$(KOBJ)) M=$(CURDIR) $(if $(KBUILD_EXTRA_SYMBOLS),KBUILD_EXTRA_SYMBOLS=$(KBUILD_EXTRA_SYMBOLS)) modules\n";

/// A machine with one kernel of the lab and a recipe `demo`.
struct Stage {
    machine: Machine,
    kernel: String,
    recipe: String,
}

impl Stage {
    fn new(key: &str) -> Stage {
        let lab = Lab::open();
        let kernel = lab.get(key).to_owned();
        let machine = lab.install(lab.machine(), &kernel).offline().device("0000:00:09.0", DEVICE, None);
        Stage { machine, kernel, recipe: "name = 'demo'\ndevices = ['pci:v00001234d0000D0F0sv*sd*bc*sc*i*']\n".into() }
    }

    /// Makes an archive of these files below `demo-VERSION/`, and returns the release for the recipe.
    fn release(&self, version: &str, files: &[(&str, &str)], keys: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join(format!("demo-{version}"));
        for (name, text) in files {
            let path = top.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            if text.starts_with("#!") {
                use std::os::unix::fs::PermissionsExt;
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        let archive = self.archive(version);
        fs::create_dir_all(archive.parent().unwrap()).unwrap();
        let mut tar = Command::new("tar");
        tar.arg("-czf").arg(&archive).arg("-C").arg(dir.path()).arg(format!("demo-{version}"));
        assert!(tar.status().unwrap().success());
        let digest = vfguard::driver::Digest::of(fs::File::open(&archive).unwrap()).unwrap();
        format!("[[releases]]\nversion = '{version}'\nurls = ['file:///srv/demo-{version}.tar.gz']\nsha256 = '{digest}'\n{keys}\n")
    }

    fn archive(&self, version: &str) -> PathBuf {
        self.machine.path(&format!("srv/demo-{version}.tar.gz"))
    }

    /// Writes the recipe: these keys, then the releases.
    fn with(self, keys: &str, releases: &[String]) -> Stage {
        let text = format!("{}{keys}\n{}", self.recipe, releases.concat());
        Stage { machine: self.machine.file("etc/vfguard/drivers.d/demo.toml", &text), ..self }
    }

    fn prepare(&self, args: &[&str]) -> Run {
        let first = ["prepare", &self.kernel, "--driver", "demo", "-v"];
        self.machine.run(&[&first, args].concat())
    }

    fn depmod(&self) {
        let status = Command::new("depmod").arg("-b").arg(self.machine.root()).arg(&self.kernel).status().unwrap();
        assert!(status.success());
    }

    fn module(&self, name: &str) -> PathBuf {
        self.machine.path(&format!("lib/modules/{}/updates/vfguard/{name}.ko", self.kernel))
    }

    /// The result of `check` for the kernel: verdict and codes.
    fn check(&self) -> (String, Vec<String>) {
        let report = self.machine.run(&["--format", "json", "check", &self.kernel]).json();
        let findings = report["kernels"][0]["findings"].as_array().unwrap();
        let codes = findings.iter().map(|f| f["code"].as_str().unwrap().to_owned()).collect();
        (report["verdict"].as_str().unwrap().to_owned(), codes)
    }
}

fn succeeds(run: &Run) -> String {
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    format!("{}{}", run.stdout, run.stderr)
}

/// The demo driver alone, with a version if `says` is given.
fn alone(stage: &Stage, version: &str, says: Option<&str>, keys: &str) -> String {
    let kbuild = says.map(|says| format!("ccflags-y := -DSAYS='\"{says}\"'\n")).unwrap_or_default();
    let kbuild = format!("{kbuild}obj-m := demo.o\n");
    stage.release(version, &[("src/Makefile", MAKEFILE), ("src/Kbuild", &kbuild), ("src/demo.c", &driver(false))], keys)
}
