//! A step before make, symbol tables from elsewhere, and mistakes that show at build time.

use super::*;

#[test]
fn a_step_before_make_must_create_its_directory() {
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
fn a_symbol_table_from_elsewhere_is_passed_to_make_and_a_missing_one_is_named() {
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

#[test]
fn a_mistake_that_shows_only_in_a_build_names_the_key_and_the_file() {
    let stage = Stage::new("K_NEW");
    let own = "KDIR ?= /lib/modules/4.19.0-1-amd64/build\ndefault:\n\t$(MAKE) -C $(KDIR) M=$(CURDIR) modules\n";
    let looks_elsewhere = stage.release(
        "1.0",
        &[("src/Makefile", own), ("src/Kbuild", "obj-m := demo.o\n"), ("src/demo.c", &driver(false))],
        "",
    );
    // Made only once, because the digest of the archive is pinned.
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
    // It builds with the variable that the makefile knows.
    let stage = stage.with("make = ['KDIR={build}']", &[looks_elsewhere]);
    succeeds(&stage.prepare(&[]));
}
