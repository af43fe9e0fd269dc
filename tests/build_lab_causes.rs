//! Why a build failed: each cause told apart in what real makefiles, compilers and kbuild print, with its remedy.

mod machine;

use machine::lab::{self, Lab};
use machine::Machine;
use std::fs;
use std::process::Command;

/// A machine with one kernel, and what `prepare` made of a source there.
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

    /// The detail and the remedy of the finding that is left in the record.
    fn told(&self) -> (String, String) {
        let record =
            fs::read_to_string(self.machine.path(&format!("var/lib/vfguard/records/{}.json", self.kernel))).unwrap();
        let record: serde_json::Value = serde_json::from_str(&record).unwrap();
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

/// A script that has kbuild make `x.ko` of a C file, with further flags.
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
fn each_cause_is_told_apart_in_what_real_builds_print() {
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
            "does not know a flag",
            "unrecognized command-line option",
            "install the compiler that the kernel was built with",
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
            "a full disk",
            "for i in 1 2; do head -c 200M /dev/zero >/tmp/$i || exit 1; done\n".into(),
            EMPTY,
            "the disk is full",
            "No space left on device",
            "free disk space",
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
            "build-essential",
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
fn a_pahole_that_fails_is_told_from_a_source_that_does_not_fit() {
    let stage = Stage::new("K_612");
    // Headers that come with a vmlinux, as EL's do, and one that pahole cannot read.
    let objects = stage.machine.path(&format!("usr/src/linux-headers-{}", stage.kernel));
    // Removed first: it is a hard link into the lab, which every other test builds against.
    fs::remove_file(objects.join("vmlinux")).unwrap();
    fs::write(objects.join("vmlinux"), "no ELF file").unwrap();
    let lab = Lab::open();
    let (file, digest) = (lab.file("IXGBEVF_612"), lab.get("IXGBEVF_612_SHA256"));
    let run = stage.machine.run(&["prepare", &stage.kernel, "--source", file.to_str().unwrap(), "--sha256", digest]);
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    let (detail, remedy) = stage.told();
    println!("{detail}");
    assert!(detail.contains("pahole, which this kernel's headers demand, is missing or failed"), "{detail}");
    assert!(remedy.contains("dwarves"), "{remedy}");
    // And one that is not there at all, which is said before anything is built.
    let script =
        "mount -t tmpfs none /mnt && touch /mnt/pahole && mount --bind /mnt/pahole $(command -v pahole) && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_vfguard"), "--root"])
        .arg(stage.machine.root())
        .args(["prepare", &stage.kernel, "--sha256", digest, "--source"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(!output.status.success());
    let (detail, remedy) = stage.told();
    assert!(detail.contains("pahole is not installed, and the build needs it") && remedy.contains("dwarves"), "{detail}");
}
