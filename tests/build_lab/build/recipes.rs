//! What a recipe can say, on real headers: modules that need each other, modules for some kernels, a step before make, symbol
//! tables from elsewhere, releases for minor releases of Enterprise Linux, releases that cannot be downloaded.

use crate::machine::lab::Lab;
use crate::machine::{Machine, Run};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const DEVICE: &str = "pci:v00001234d0000D0F0sv00000000sd00000000bc02sc00i00";

/// A driver for the lab's device; `{use}` is called when it is probed.
const DRIVER: &str = "#include <linux/module.h>\n#include <linux/pci.h>\n{declare}\n\
    static int demo_probe(struct pci_dev *d, const struct pci_device_id *i) { {use} return pci_enable_device(d); }\n\
    static const struct pci_device_id demo_ids[] = { { PCI_DEVICE(0x1234, 0xd0f0) }, { } };\nMODULE_DEVICE_TABLE(pci, demo_ids);\n\
    static struct pci_driver demo_pci = { .name = KBUILD_MODNAME, .id_table = demo_ids, .probe = demo_probe };\n\
    module_pci_driver(demo_pci);\nMODULE_LICENSE(\"Dual MIT/GPL\");\n#ifdef SAYS\nMODULE_VERSION(SAYS);\n#endif\n";
/// What another module exports for it.
const BESIDE: &str = "#include <linux/module.h>\nint demo_beside(void);\nint demo_beside(void) { return 7; }\n\
    EXPORT_SYMBOL_GPL(demo_beside);\nMODULE_LICENSE(\"Dual MIT/GPL\");\n";

fn driver(uses_beside: bool) -> String {
    let (declare, call) =
        if uses_beside { ("int demo_beside(void);", "if (demo_beside() != 7) return -19;") } else { ("", "") };
    DRIVER.replace("{declare}", declare).replace("{use}", call)
}

/// A makefile as vendors write them, which has kbuild make what `Kbuild` says.
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

    /// An archive of these files below `demo-VERSION/`, and the release for the recipe.
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

    /// Writes the recipe: further keys, then releases.
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

    /// What `check` says of the kernel: verdict, codes.
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

#[test]
fn modules_that_need_each_other_are_verified_and_installed_together_and_apart_they_are_refused() {
    let stage = Stage::new("K_NEW");
    let both = [
        ("src/Makefile", MAKEFILE),
        ("src/Kbuild", "ccflags-y := -DSAYS='\"1.0\"'\nobj-m := demo.o demo_core.o\n"),
        ("src/demo.c", &driver(true)),
        ("src/demo_core.c", BESIDE),
    ];
    let release = stage.release("1.0", &both, "");
    let stage = stage.with("modules = ['demo', 'demo_core']", &[release]);
    succeeds(&stage.prepare(&[]));
    let (demo, core) = (stage.module("demo"), stage.module("demo_core"));
    assert!(demo.is_file() && core.is_file());
    assert_eq!(stage.check().0, "safe");
    // In place and good: nothing is built again.
    assert!(succeeds(&stage.machine.run(&["prepare", &stage.kernel, "--driver", "demo"])).contains("was in place"));
    // Elsewhere: together in either order, and not alone.
    let apart = stage.machine.path("apart");
    fs::create_dir(&apart).unwrap();
    let moved = [&demo, &core].map(|file| {
        let to = apart.join(file.file_name().unwrap());
        fs::rename(file, &to).unwrap();
        to.to_str().unwrap().to_owned()
    });
    stage.depmod();
    let verify = |files: &[&String]| {
        let files = files.iter().map(|f| f.as_str());
        let args: Vec<&str> =
            ["--format", "json", "verify"].into_iter().chain(files).chain(["--kernel", &stage.kernel]).collect();
        stage.machine.run(&args)
    };
    for order in [[&moved[0], &moved[1]], [&moved[1], &moved[0]]] {
        let run = verify(&order);
        assert_eq!((run.code, run.json()["verdict"].as_str()), (0, Some("safe")), "{}", run.stdout);
    }
    let alone = verify(&[&moved[0]]);
    assert_eq!(alone.code, 3, "{}", alone.stdout);
    assert!(alone.stdout.contains("symbol-missing"), "{}", alone.stdout);
    assert_eq!(verify(&[&moved[1]]).code, 0);
    // Two of one name are not one set.
    let twin = crate::machine::lab::kbuild(
        &Lab::open(),
        &stage.kernel,
        &[("demo_core", &BESIDE.replace("demo_beside", "demo_twin"))],
    );
    let other = twin.path().join("demo_core.ko");
    let pair = verify(&[&moved[0], &other.to_str().unwrap().to_owned(), &moved[1]]);
    assert!(pair.code == 1 && pair.stdout.contains("two modules of one name"), "{}", pair.stdout);
}

#[test]
fn modules_that_the_kernel_would_not_load_together_are_refused_together() {
    let stage = Stage::new("K_NEW");
    let second = "#include <linux/module.h>\nint demo_beside(void);\nint demo_beside(void) { return 7; }\nEXPORT_SYMBOL_GPL(demo_beside);\n\
                  int demo_second(void);\nint demo_second(void) { return 7; }\nEXPORT_SYMBOL_GPL(demo_second);\nMODULE_LICENSE(\"GPL\");\n";
    let uses_both = driver(true).replace("int demo_beside(void);", "int demo_beside(void); int demo_second(void);");
    let uses_both = uses_both.replace("demo_beside() != 7", "demo_beside() + demo_second() != 14");
    // Built apart, since modpost sees it too.
    let lab = Lab::open();
    let built = crate::machine::lab::kbuild(
        &lab,
        &stage.kernel,
        &[("demo_core", BESIDE), ("demo_third", &second.replace("demo_beside", "demo_third"))],
    );
    let twin = crate::machine::lab::kbuild(&lab, &stage.kernel, &[("demo_second", second)]);
    let both = stage.machine.path("both");
    fs::create_dir(&both).unwrap();
    fs::write(both.join("Kbuild"), "obj-m := demo.o\n").unwrap();
    fs::write(both.join("demo.c"), uses_both).unwrap();
    let symvers = [built.path(), twin.path()].map(|dir| fs::read_to_string(dir.join("Module.symvers")).unwrap());
    let second_only: String =
        symvers[1].lines().filter(|line| line.contains("demo_second\t")).map(|line| format!("{line}\n")).collect();
    fs::write(both.join("extra"), format!("{}{second_only}", symvers[0])).unwrap();
    let headers = lab.file("ROOT_DEB").join("usr/src");
    let common = headers.join(format!("linux-headers-{}-common", stage.kernel.trim_end_matches("-amd64")));
    let output = Command::new("make")
        .arg("-C")
        .arg(common)
        .arg(format!("O={}", headers.join(format!("linux-headers-{}", stage.kernel)).display()))
        .arg(format!("M={}", both.display()))
        .arg(format!("KBUILD_EXTRA_SYMBOLS={}", both.join("extra").display()))
        .arg("modules")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let files = [both.join("demo.ko"), built.path().join("demo_core.ko"), twin.path().join("demo_second.ko")];
    let files = files.each_ref().map(|file| file.to_str().unwrap());
    let verify = |files: &[&str]| stage.machine.run(&[&["verify"], files, &["--kernel", &stage.kernel]].concat());
    let run = verify(&files);
    assert!(run.code == 3 && run.stdout.contains("both export demo_beside"), "{}{}", run.stdout, run.stderr);
    assert_eq!(verify(&files[1..2]).code, 0);
}

#[test]
fn a_run_that_died_before_depmod_is_ended_by_the_next() {
    let stage = Stage::new("K_NEW");
    let text = driver(true);
    let kbuild = "ccflags-y := -DSAYS='\"1.0\"'\nobj-m := demo.o demo_core.o\n";
    let both = stage.release(
        "1.0",
        &[("src/Makefile", MAKEFILE), ("src/Kbuild", kbuild), ("src/demo.c", &text), ("src/demo_core.c", BESIDE)],
        "",
    );
    let one = alone(&stage, "2.0", Some("2.0"), "");
    let stage = stage.with("optional = ['demo_core']", &[both]);
    succeeds(&stage.prepare(&[]));
    let tables = stage.machine.path(&format!("lib/modules/{}", stage.kernel));
    let kept = tempfile::tempdir().unwrap();
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        for entry in
            fs::read_dir(from).unwrap().flatten().filter(|e| e.file_name().to_string_lossy().starts_with("modules."))
        {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    };
    copy(&tables, kept.path());
    let stage = stage.with("optional = ['demo_core']", &[one]);
    succeeds(&stage.prepare(&["--rebuild"]));
    assert_eq!(stage.check().0, "safe");
    // The tables as they were before: the driver still has the module before it that is gone.
    copy(kept.path(), &tables);
    assert_eq!(stage.check().0, "unsafe");
    succeeds(&stage.prepare(&[]));
    assert_eq!(stage.check().0, "safe");
}

#[test]
fn a_module_for_some_kernels_is_installed_where_it_is_made_and_goes_with_the_build_that_does_not_make_it() {
    let stage = Stage::new("K_NEW");
    let makes = |version: &str, both: bool| {
        let kbuild = if both { "obj-m := demo.o demo_core.o\n" } else { "obj-m := demo.o\n" };
        let text = driver(both);
        let files = [("src/Makefile", MAKEFILE), ("src/Kbuild", kbuild), ("src/demo.c", &text), ("src/demo_core.c", BESIDE)];
        stage.release(version, &files, "")
    };
    let (first, second) = (makes("1.0", true), makes("2.0", false));
    let stage = stage.with("optional = ['demo_core']", &[first]);
    succeeds(&stage.prepare(&[]));
    assert!(stage.module("demo_core").is_file());
    assert_eq!(stage.check().0, "safe");
    let stage = stage.with("optional = ['demo_core']", &[second]);
    succeeds(&stage.prepare(&["--rebuild"]));
    assert!(
        stage.module("demo").is_file() && !stage.module("demo_core").exists(),
        "the module of the earlier build is left"
    );
    assert_eq!(stage.check().0, "safe");
    // Unless another driver makes a module of that name too.
    fs::copy(stage.module("demo"), stage.module("demo_core")).unwrap();
    let other = fs::read_to_string(stage.machine.path("etc/vfguard/drivers.d/demo.toml")).unwrap();
    let other = other.replace("name = 'demo'", "name = 'other'").replace("D0F0", "D0F1");
    fs::write(stage.machine.path("etc/vfguard/drivers.d/other.toml"), other).unwrap();
    succeeds(&stage.prepare(&["--rebuild"]));
    assert!(stage.module("demo_core").exists(), "another driver's module was taken away");
}

#[test]
fn a_step_before_make_makes_its_directory_and_one_that_does_not_is_told() {
    let stage = Stage::new("K_NEW");
    let step = "#!/bin/sh -eu\ntest \"$1\" = \"--kernel=$2\"\nmkdir build\nsed 's/NAME/demo/' driver.in >build/demo.c\n\
                printf 'obj-m := demo.o\\n' >build/Kbuild\ncp Makefile.in build/Makefile\n";
    let text = driver(false).replace("KBUILD_MODNAME", "\"NAME\"");
    let release = stage.release("1.0", &[("make.sh", step), ("driver.in", &text), ("Makefile.in", MAKEFILE)], "");
    let kernel = stage.kernel.clone();
    let step = format!("directory = 'build'\nprepare = ['./make.sh', '--kernel={{kernel}}', '{kernel}']");
    let stage = stage.with(&step, std::slice::from_ref(&release));
    succeeds(&stage.prepare(&[]));
    assert_eq!(stage.check().0, "safe");
    for (keys, words) in [
        (
            "directory = 'build'\nprepare = ['./make.sh', 'x', 'y']",
            "`./make.sh x y`, which `prepare` names, ended with an error",
        ),
        ("directory = 'build'\nprepare = ['./no-such', 'x']", "`prepare` names ./no-such, which cannot be started"),
        (
            "directory = 'build'\nprepare = ['no-such-program']",
            "install no-such-program, or correct `prepare` in /etc/vfguard",
        ),
        ("directory = 'build'\nprepare = ['true']", "left no directory build"),
        ("directory = 'build'\nprepare = ['ln', '-s', '/', 'build']", "left no directory build"),
        ("directory = 'build'", "holds no directory demo-1.0/build"),
    ] {
        let recipe = format!("{}{keys}\n{release}", stage.recipe);
        fs::write(stage.machine.path("etc/vfguard/drivers.d/demo.toml"), recipe).unwrap();
        let run = stage.prepare(&["--rebuild"]);
        assert!(
            run.code == 1 && format!("{}{}", run.stdout, run.stderr).contains(words),
            "{keys}: {}{}",
            run.stdout,
            run.stderr
        );
    }
}

#[test]
fn a_symbol_table_from_elsewhere_reaches_make_and_one_that_is_missing_is_named() {
    let stage = Stage::new("K_NEW");
    let core = crate::machine::lab::kbuild(&Lab::open(), &stage.kernel, &[("demo_core", BESIDE)]);
    let extra = stage.machine.path("lib/modules").join(&stage.kernel).join("extra");
    fs::create_dir_all(&extra).unwrap();
    fs::copy(core.path().join("demo_core.ko"), extra.join("demo_core.ko")).unwrap();
    stage.depmod();
    let text = driver(true);
    let files = [("src/Makefile", MAKEFILE), ("src/Kbuild", "obj-m := demo.o\n"), ("src/demo.c", text.as_str())];
    let release = stage.release("1.0", &files, "");
    let stage = stage.with("symvers = ['/usr/src/other/{kernel}/Module.symvers']", &[release]);
    let run = stage.prepare(&[]);
    let place = format!("/usr/src/other/{}/Module.symvers", stage.kernel);
    assert!(run.code == 1 && run.stderr.contains(&place), "{}{}", run.stdout, run.stderr);
    let table = stage.machine.path(&place[1..]);
    fs::create_dir_all(table.parent().unwrap()).unwrap();
    fs::copy(core.path().join("Module.symvers"), table).unwrap();
    succeeds(&stage.prepare(&[]));
    assert_eq!(stage.check().0, "safe");
}

/// The demo driver alone, with a version if one is told.
fn alone(stage: &Stage, version: &str, says: Option<&str>, keys: &str) -> String {
    let kbuild = says.map(|says| format!("ccflags-y := -DSAYS='\"{says}\"'\n")).unwrap_or_default();
    let kbuild = format!("{kbuild}obj-m := demo.o\n");
    stage.release(version, &[("src/Makefile", MAKEFILE), ("src/Kbuild", &kbuild), ("src/demo.c", &driver(false))], keys)
}

#[test]
fn a_module_with_a_version_of_its_own_is_the_releases_where_the_recipe_says_so() {
    let stage = Stage::new("K_NEW");
    let release = alone(&stage, "1.0", Some("1.0g"), "");
    let stage = stage.with("version_of_module = '{version}g'", std::slice::from_ref(&release));
    succeeds(&stage.prepare(&[]));
    assert!(!stage.check().1.contains(&"wrong-version".to_owned()));
    assert!(succeeds(&stage.machine.run(&["prepare", &stage.kernel, "--driver", "demo"])).contains("demo 1.0 was in place"));
    // Without that word it is another's.
    let stage = stage.with("", &[release]);
    assert!(stage.check().1.contains(&"wrong-version".to_owned()));
}

#[test]
fn a_release_that_cannot_be_downloaded_counts_as_one_that_does_not_work_and_is_told() {
    let stage = Stage::new("K_NEW");
    let first = alone(&stage, "1.0", None, "kernels = { from = '6' }");
    let second = alone(&stage, "2.0", Some("2.0"), "kernels = { below = '6' }\nfallback = true");
    fs::rename(stage.archive("1.0"), stage.machine.path("srv/elsewhere")).unwrap();
    let stage = stage.with("", &[first.clone(), second.clone()]);
    let told = succeeds(&stage.prepare(&[]));
    assert!(told.contains("demo 2.0 built, verified and installed"), "{told}");
    assert!(told.contains("1.0: demo-1.0.tar.gz could not be downloaded"), "{told}");
    assert_eq!(stage.check().0, "safe");
    // Neither can be had: each is named, with a command that can be typed.
    fs::remove_file(stage.archive("2.0")).unwrap();
    fs::remove_dir_all(stage.machine.path("var/lib/vfguard/sources")).unwrap();
    fs::remove_file(stage.module("demo")).unwrap();
    let run = stage.prepare(&[]);
    assert_eq!(run.code, 1);
    for words in [
        "demo-1.0.tar.gz could not be",
        "demo-2.0.tar.gz could not be",
        &format!("vfguard prepare {} --driver demo --source FILE --sha256 ", stage.kernel),
    ] {
        assert!(run.stderr.contains(words) && !run.stderr.contains("KERNEL"), "{words}: {}", run.stderr);
    }
    let codes = stage.check().1;
    assert!(codes.contains(&"fetch-failed".to_owned()) && !codes.contains(&"build-failed".to_owned()), "{codes:?}");
    // The failure is of that recipe; what is told of another is not it.
    let stage = stage.with("make = ['A=b']", &[first, second]);
    assert!(!stage.check().1.contains(&"fetch-failed".to_owned()));
}

#[test]
fn the_headers_of_the_kernel_say_which_minor_release_of_enterprise_linux_it_is_of() {
    let stage = Stage::new("K_NEW");
    let older = alone(&stage, "1.0", None, "kernels = [{ from = '6' }, { from = 'el9_0', below = 'el9_4' }]");
    let newer = alone(&stage, "2.0", None, "kernels = { from = 'el9_4' }");
    let stage = stage.with("", &[older, newer]);
    assert!(succeeds(&stage.prepare(&["--rebuild"])).contains("demo 1.0 built"));
    let build = fs::read_link(stage.machine.path(&format!("lib/modules/{}/build", stage.kernel))).unwrap();
    let header =
        stage.machine.path(build.to_str().unwrap().trim_start_matches('/')).join("include/generated/uapi/linux/version.h");
    let text = fs::read_to_string(&header).unwrap();
    for (code, version) in [(9 * 256 + 3, "1.0"), (9 * 256 + 4, "2.0")] {
        // The lab's own file stays as it is: links to it lead here.
        fs::remove_file(&header).unwrap();
        fs::write(&header, format!("{text}#define RHEL_RELEASE_CODE {code}\n")).unwrap();
        assert!(succeeds(&stage.prepare(&["--rebuild"])).contains(&format!("demo {version} built")), "{code}");
    }
}

#[test]
fn several_devices_of_one_driver_are_one_attempt() {
    let stage = Stage::new("K_NEW");
    let release = alone(&stage, "1.0", None, "");
    let stage = stage.with("", &[release]);
    let machine = stage.machine.device("0000:00:0a.0", DEVICE, None).device("0000:00:0b.0", DEVICE, None);
    fs::remove_file(machine.path("srv/demo-1.0.tar.gz")).unwrap();
    let run = machine.run(&["reconcile"]);
    let told = format!("{}{}", run.stdout, run.stderr);
    assert_eq!(told.matches(": preparing demo\n").count(), 1, "{told}");
}

#[test]
fn a_mistake_that_shows_at_build_time_names_the_key_and_the_file() {
    let stage = Stage::new("K_NEW");
    let own = "KDIR ?= /lib/modules/4.19.0-1-amd64/build\ndefault:\n\t$(MAKE) -C $(KDIR) M=$(CURDIR) modules\n";
    let looks_elsewhere = stage.release(
        "1.0",
        &[("src/Makefile", own), ("src/Kbuild", "obj-m := demo.o\n"), ("src/demo.c", &driver(false))],
        "",
    );
    // Made once: the archive's bytes are pinned.
    let good = alone(&stage, "2.0", None, "");
    let ranges = alone(&stage, "3.0", None, "kernels = { below = '3' }");
    let kernel = stage.kernel.clone();
    for (keys, release, words) in [
        ("", &looks_elsewhere, "the makefile looked for the tree of 4.19.0-1-amd64, not of"),
        ("modules = ['other']", &good, "make built demo.ko and no other.ko"),
        ("directory = 'src/none'", &good, "correct `directory` in the recipe"),
        ("", &ranges, "add 6.1"),
    ] {
        let recipe = format!("{}{keys}\n{release}", stage.recipe);
        let machine = &stage.machine;
        fs::create_dir_all(machine.path("etc/vfguard/drivers.d")).unwrap();
        fs::write(machine.path("etc/vfguard/drivers.d/demo.toml"), recipe).unwrap();
        let run = machine.run(&["prepare", &kernel, "--driver", "demo"]);
        let told = format!("{}{}", run.stdout, run.stderr);
        assert!(run.code == 1 && told.contains(words), "{keys}: {told}");
        assert!(!told.contains("name a release of the driver that fits"), "{keys}: {told}");
    }
    // With the variable that the makefile knows it builds.
    let stage = stage.with("make = ['KDIR={build}']", &[looks_elsewhere]);
    succeeds(&stage.prepare(&[]));
}

#[test]
fn a_rehearsal_reads_a_file_of_the_machine_and_names_the_release_that_was_built() {
    let stage = Stage::new("K_NEW");
    let fails = stage.release("1.0", &[("src/Makefile", "default:\n\tfalse\n")], "kernels = { from = '6' }");
    let builds = alone(&stage, "2.0", Some("2.0"), "kernels = { below = '6' }\nfallback = true");
    let stage = stage.with("", &[fails, builds]);
    let run = stage.machine.run(&["rehearse", &stage.kernel, "--driver", "demo"]);
    assert!(run.stdout.starts_with("REAL: demo 2.0, sha256 "), "{}{}", run.stdout, run.stderr);
}
