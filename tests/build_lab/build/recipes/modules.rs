//! Modules that need each other, and modules for some kernels.

use super::*;

#[test]
fn modules_that_need_each_other_are_verified_together_and_refused_alone() {
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
    // They are installed and verified, so nothing is built again.
    assert!(succeeds(&stage.machine.run(&["prepare", &stage.kernel, "--driver", "demo"])).contains("was in place"));
    // In another directory: accepted together in either order, and refused alone.
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
    // Two modules with the same name are not a set.
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
    // Built separately, since modpost would notice it too.
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
fn the_next_run_finishes_a_run_that_died_before_depmod() {
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
    // The old tables: they still name the previous module, which is gone.
    copy(kept.path(), &tables);
    assert_eq!(stage.check().0, "unsafe");
    succeeds(&stage.prepare(&[]));
    assert_eq!(stage.check().0, "safe");
}

#[test]
fn a_module_for_some_kernels_is_installed_where_it_is_built_and_removed_by_a_build_without_it() {
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
    // Unless another driver builds a module with that name too.
    fs::copy(stage.module("demo"), stage.module("demo_core")).unwrap();
    let other = fs::read_to_string(stage.machine.path("etc/vfguard/drivers.d/demo.toml")).unwrap();
    let other = other.replace("name = 'demo'", "name = 'other'").replace("D0F0", "D0F1");
    fs::write(stage.machine.path("etc/vfguard/drivers.d/other.toml"), other).unwrap();
    succeeds(&stage.prepare(&["--rebuild"]));
    assert!(stage.module("demo_core").exists(), "another driver's module was taken away");
}
