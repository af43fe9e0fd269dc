//! Why a build failed: each cause is recognised in the output of real makefiles, compilers and kbuild, and reported with its remedy.

mod makefiles;
mod surroundings;

use crate::machine::lab::{self, Lab};
use crate::machine::Machine;
use std::fs;
use std::process::Command;

/// A machine with one kernel, and the result of `prepare` with a source there.
struct Stage {
    machine: Machine,
    kernel: String,
}

impl Stage {
    fn new(kernel: &str) -> Stage {
        let lab = Lab::open();
        let kernel = lab.get(kernel).to_owned();
        Stage { machine: lab.install(lab.machine(), &kernel), kernel }
    }

    fn record(&self) -> serde_json::Value {
        let record = self.machine.path(&format!("var/lib/vfguard/records/{}.json", self.kernel));
        serde_json::from_str(&fs::read_to_string(record).unwrap()).unwrap()
    }

    /// The detail and the remedy of the finding in the record.
    fn told(&self) -> (String, String) {
        let record = self.record();
        let finding = &record["drivers"]["ixgbevf"]["findings"][0];
        assert_eq!(finding["code"], "build-failed", "{record}");
        ["detail", "remedy"].map(|key| finding[key].as_str().unwrap().to_owned()).into()
    }

    fn prepare(&self, script: &str, files: &[(&str, &[u8])]) -> (String, String) {
        let (file, digest) = lab::archive(self.machine.root(), script, files);
        let run = self.machine.run(&[
            "prepare",
            &self.kernel,
            "--source",
            file.to_str().unwrap(),
            "--sha256",
            &digest,
            "--jobs",
            "1",
        ]);
        assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
        self.told()
    }
}

/// A script with which kbuild makes `x.ko` from a C file, with these extra flags.
fn kbuild(stage: &Stage, flags: &str) -> String {
    let headers = stage.machine.path("usr/src");
    let common = format!("linux-headers-{}-common", stage.kernel.trim_end_matches("-amd64"));
    format!(
        "printf 'obj-m := x.o\\nccflags-y := {flags}\\n' >Kbuild\n\
         make -C {0}/{common} O={0}/linux-headers-{1} M=$PWD modules\n",
        headers.display(),
        stage.kernel
    )
}

const EMPTY: &str = "#include <linux/module.h>\nMODULE_LICENSE(\"GPL\");\n";

#[test]
fn each_cause_is_recognised_in_the_output_of_real_builds() {
    let stage = Stage::new("K_NEW");
    let c = |text: &str| text.as_bytes().to_vec();
    let fits = "name a release of the driver that fits: vfguard prepare";
    let missing = "#include <linux/module.h>\n#include <linux/pci-aspm-not.h>\n";
    let api = "#include <linux/module.h>\nint init_module(void) { return no_such_function_any_more(1); }\nMODULE_LICENSE(\"GPL\");\n";
    let linked = "#include <linux/module.h>\nextern int gone(void);\nint init_module(void) { return gone(); }\nMODULE_LICENSE(\"GPL\");\n";
    for (what, script, text, words, shown, remedy) in [
        (
            "a missing header",
            kbuild(&stage, ""),
            missing,
            "is not in the kernel's tree",
            "x.c:2:10: fatal error: linux/pci-aspm-not.h: No such file or directory",
            fits,
        ),
        (
            "a function that is gone",
            kbuild(&stage, ""),
            api,
            "written for other kernels",
            "error: implicit declaration of function",
            fits,
        ),
        ("a symbol that is gone", kbuild(&stage, ""), linked, "written for other kernels", "\"gone\" [", fits),
        (
            "a flag",
            kbuild(&stage, "-mharden-everything"),
            EMPTY,
            "this release of the driver gives the kernel's own compiler a flag that it does not know",
            "'-mharden-everything'",
            fits,
        ),
        (
            "position-independent programs",
            "echo 'int x;' >p.c; gcc -fPIE -mcmodel=kernel -c p.c\n".into(),
            EMPTY,
            "position-independent",
            "code model kernel does not support PIC mode",
            fits,
        ),
        (
            "a full /tmp of the build's own",
            "for i in 1 2; do head -c 200M /dev/zero >/tmp/$i || exit 1; done\n".into(),
            EMPTY,
            "filled its private /tmp; the disk is not full",
            "No space left on device",
            "--jobs 1",
        ),
        ("a kill", "kill -9 $PPID\n".into(), EMPTY, "was killed", "", "--jobs 1"),
        (
            "a compiler that is killed",
            "printf '#!/bin/sh\\nkill -9 $$\\n' >cc1; chmod +x cc1; gcc -B$PWD -c x.c\n".into(),
            EMPTY,
            "was killed",
            "signal terminated program cc1",
            "--jobs 1",
        ),
        (
            "a tool",
            "no-such-tool-of-anyone --version\n".into(),
            EMPTY,
            "a program that the build calls is missing",
            "no-such-tool-of-anyone: command not found",
            "install the package that holds no-such-tool-of-anyone",
        ),
        (
            "a tool whose package is known",
            "env PATH=/nowhere /bin/sh -c bc\n".into(),
            EMPTY,
            "a program that the build calls is missing",
            "bc: not found",
            "apt-get install bc",
        ),
        (
            "a function that is gone, with what harmless builds print before it",
            format!(
                "which no-such-initrd-tool; no-such-tool-of-anyone; touch \"$KSRC/x\"\n\
                 echo '#include <linux/gone.h>' >conftest.c; gcc -E conftest.c >conftest.i\n{}",
                kbuild(&stage, "")
            ),
            api,
            "written for other kernels",
            "x.c:2:32: error: implicit declaration of function",
            fits,
        ),
        (
            "nothing at all, by its own decision",
            "echo all is well\n".into(),
            EMPTY,
            "make ended well and built no module: ixgbevf.ko is not there, so its makefile decided",
            "",
            fits,
        ),
        (
            "something else",
            "echo 'this driver wants a licence'; exit 3\n".into(),
            EMPTY,
            "the build failed: this driver wants a licence (make: *** [Makefile:3: default] Error 3)",
            "",
            fits,
        ),
    ] {
        let (detail, told) = stage.prepare(&script, &[("x.c", &c(text))]);
        println!("{what}: {detail}");
        assert!(detail.contains(words) && detail.contains(shown), "{what}: {detail}");
        assert!(told.contains(remedy), "{what}: {told}");
    }
}

#[test]
fn where_no_release_compiles_the_in_tree_driver_is_accepted_if_the_settings_say_so() {
    let (lab, stage) = (Lab::open(), Stage::new("K_NEW"));
    let kernel = &stage.kernel;
    // The in-tree driver as the kernel's build makes it.
    let own = format!("lib/modules/{kernel}/kernel/drivers/net/ethernet/intel/ixgbevf/ixgbevf.ko");
    let machine = stage.machine.grub().boot_default(kernel).vf("ixgbevf").running("6.1.0-1-amd64").file(&own, "");
    let script = "objcopy --dump-section .modinfo=$R/i $M $R/m.ko; printf 'intree=Y\\0' >>$R/i; \
                  objcopy --update-section .modinfo=$R/i $R/m.ko; cp $R/m.ko $R/$O; depmod -b $R $K";
    let module = lab.file("MODULE_IXGBEVF");
    let run = |script: &str| {
        let mut command = Command::new("sh");
        let command = command.args(["-euc", script]).env("R", machine.root()).env("O", &own).env("K", kernel);
        assert!(command.env("M", &module).status().unwrap().success(), "{script}");
    };
    run(script);
    let source = "echo 'int f(void) { return no_such_function_any_more(1); }' >x.c\n\
                  gcc -Werror=implicit-function-declaration -c x.c\n";
    let (_, digest) = lab::archive(machine.root(), source, &[]);
    let release = format!("[[releases]]\nversion = '1.0'\nurls = ['file:///source.tar.gz']\nsha256 = '{digest}'\n");
    let machine = machine.recipe(&release);
    assert_eq!(machine.run(&["reconcile"]).code, 3, "auto");
    let check = |machine: &Machine| {
        let run = machine.run(&["check", kernel]);
        (run.code, run.stdout)
    };
    let (code, said) = check(&machine);
    assert!(code == 3 && said.contains("unsafe: ") && said.contains("[build-failed]"), "{code} {said}");
    // The failed attempt need not be repeated.
    let machine = machine.file("etc/vfguard/config.toml", "accept_in_tree = 'fallback'\n");
    let (code, said) = check(&machine);
    assert_eq!(code, 0, "{said}");
    let own = format!("warning: eth0 (0000:00:03.0): no release of ixgbevf builds for {kernel}, whose own ixgbevf");
    assert!(said.contains(&own) && said.contains("warning: 1.0: ") && said.contains("[build-failed]"), "{said}");
}
