//! Why a build failed: each cause told apart in what real makefiles, compilers and kbuild print, with its remedy.

use crate::machine::lab::{self, Lab};
use crate::machine::Machine;
use std::fs;
use std::path::Path;
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

    fn record(&self) -> serde_json::Value {
        let record = self.machine.path(&format!("var/lib/vfguard/records/{}.json", self.kernel));
        serde_json::from_str(&fs::read_to_string(record).unwrap()).unwrap()
    }

    /// The detail and the remedy of the finding that is left in the record.
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
fn a_makefile_that_wants_a_setting_which_the_kernel_lacks_is_told_so_and_the_next_release_is_tried() {
    // As Intel's 3.2.2 asks for the physical driver's setting.
    let lab = Lab::open();
    let mut stage = Stage::new("K_NEW");
    let kbuild = "obj-$(CONFIG_OWN_SWITCH) += ixgbevf.o\nixgbevf-objs := vf.o mbx.o ethtool.o ixgbevf_main.o ipsec.o\n";
    let (first, second) = (stage.machine.path("first.tar.gz"), stage.machine.path("second.tar.gz"));
    let digest = with_file(&lab.file("IXGBEVF_61"), "Kbuild", kbuild, &first);
    fs::copy(lab.file("IXGBEVF_61"), second).unwrap();
    let recipe = |make: &str, more: &str| {
        format!(
            "name = 'ixgbevf'\ndevices = ['pci:v00008086d000010EDsv*sd*bc*sc*i*']\n{make}[[releases]]\nversion = '1'\n\
             urls = ['file:///first.tar.gz']\nsha256 = '{digest}'\n{more}"
        )
    };
    let own = "etc/vfguard/drivers.d/ixgbevf.toml";
    stage.machine = stage.machine.file(own, &recipe("", "")).vf("ixgbevf");
    let command = ["prepare", &stage.kernel, "--driver", "ixgbevf"];
    assert_eq!(stage.machine.run(&command).code, 1);
    let (detail, remedy) = stage.told();
    println!("{detail}\n  {remedy}");
    assert!(detail.contains("make ended well and built no module: ixgbevf.ko is not there"), "{detail}");
    assert!(detail.contains("asks for CONFIG_OWN_SWITCH=m, which this kernel does not have"), "{detail}");
    let line = "make = [\"BUILD_KERNEL={kernel}\", \"KSRC={source}\", \"KOBJ={build}\", \"CONFIG_OWN_SWITCH=m\"]\n";
    assert!(remedy.contains(line.trim_end()), "{remedy}");
    // It would end so again.
    assert!(stage.record()["drivers"]["ixgbevf"]["inputs"].is_string(), "{}", stage.record());
    // What is told mends it.
    stage.machine = stage.machine.file(own, &recipe(line, ""));
    let run = stage.machine.run(&command);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    // Without it, the next release does.
    let more = format!(
        "[[releases]]\nversion = '{}'\nurls = ['file:///second.tar.gz']\nsha256 = '{}'\nfallback = true\nkernels = {{ from = '9.0' }}\n",
        lab.get("IXGBEVF_61_VERSION"),
        lab.get("IXGBEVF_61_SHA256")
    );
    stage.machine = stage.machine.file(own, &recipe("", &more).replacen("sha256", "kernels = { below = '9.0' }\nsha256", 1));
    let run = stage.machine.run(&[&command[..], &["--rebuild"]].concat());
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(
        run.stdout.contains(lab.get("IXGBEVF_61_VERSION")) || run.stderr.contains("trying the next release"),
        "{}",
        run.stderr
    );
}

#[test]
fn headers_whose_programs_do_not_run_here_are_not_blamed_on_the_source() {
    let stage = Stage::new("K_NEW");
    for (what, script, words, shown, remedy) in [
        (
            "a newer C library",
            // The linker itself writes what the loader then misses.
            "mkdir -p scripts/mod lib; echo 'void own(void) {}' >l.c; echo 'GLIBC_9.99 { own; };' >l.map\n\
             gcc -shared -fPIC -Wl,--version-script=l.map -Wl,-soname,libown.so -o lib/libown.so l.c\n\
             echo 'void own(void); int main(void) { own(); return 0; }' >m.c\n\
             gcc -Wl,-rpath,$PWD/lib -o scripts/mod/modpost m.c lib/libown.so; echo 'OTHER { own; };' >l.map\n\
             gcc -shared -fPIC -Wl,--version-script=l.map -Wl,-soname,libown.so -o lib/libown.so l.c; scripts/mod/modpost\n",
            "are made for another system and do not run here",
            "version `GLIBC_9.99' not found (required by scripts/mod/modpost)",
            "repository (they need GLIBC_9.99, which is not here)",
        ),
        (
            "another architecture",
            "mkdir -p scripts/basic; printf '\\177ELF\\2\\1\\1' >scripts/basic/fixdep; chmod +x scripts/basic/fixdep; scripts/basic/fixdep\n",
            "are made for another system and do not run here",
            "Exec format error",
            "linux-headers-6.1",
        ),
        (
            "a plugin of another gcc",
            "echo 'int plugin_is_GPL_compatible; int plugin_init(void *a, void *b) { return 1; }' >p.c\n\
             gcc -shared -fPIC -o p.so p.c; gcc -fplugin=$PWD/p.so -c p.c -o /dev/null && exit 0\n\
             gcc -fplugin=$PWD/gone.so -c p.c\n",
            "a compiler plugin of the kernel's own build does not go with this compiler",
            "the kernel was built with gcc-12 (Debian",
            "linux-headers-6.1",
        ),
    ] {
        let (detail, told) = stage.prepare(script, &[]);
        println!("{what}: {detail}\n  {told}");
        assert!(detail.contains(words) && detail.contains(shown), "{what}: {detail}");
        assert!(told.contains(remedy) && !told.contains("name a release"), "{what}: {told}");
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

/// Packs a real driver's archive anew, with another text in a file of `src`; its digest.
fn with_file(archive: &Path, file: &str, text: &str, to: &Path) -> String {
    let dir = tempfile::tempdir().unwrap();
    assert!(Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(dir.path()).status().unwrap().success());
    let top = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    fs::write(top.join("src").join(file), text).unwrap();
    let name = top.file_name().unwrap().to_str().unwrap();
    let status = Command::new("tar").arg("-czf").arg(to).arg("-C").arg(dir.path()).arg(name).status().unwrap();
    assert!(status.success());
    vfguard::driver::Digest::of(fs::File::open(to).unwrap()).unwrap().to_string()
}

#[test]
fn a_makefile_that_knows_one_directory_alone_is_told_so_and_the_line_that_is_named_mends_it() {
    let makefile = "default:\n\t$(MAKE) -C $(KSRC) M=$(CURDIR) modules\n";
    for (kernel, archive) in [("K_NEW", "IXGBEVF_61"), ("K_612", "IXGBEVF_612")] {
        let lab = Lab::open();
        let mut stage = Stage::new(kernel);
        let file = stage.machine.path("ixgbevf.tar.gz");
        let digest = with_file(&lab.file(archive), "Makefile", makefile, &file);
        // The recipe as a package brings it.
        let packaged = "usr/lib/vfguard/drivers.d/ixgbevf.toml";
        let recipe = format!(
            "name = 'ixgbevf'\ndevices = ['pci:v00008086d000010EDsv*sd*bc*sc*i*']\n[[releases]]\nversion = '1'\n\
             urls = ['file:///ixgbevf.tar.gz']\nsha256 = '{digest}'\n"
        );
        stage.machine = stage.machine.file(packaged, &recipe).vf("ixgbevf");
        let command = ["prepare", &stage.kernel, "--driver", "ixgbevf"];
        let run = stage.machine.run(&command);
        assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
        let (detail, remedy) = stage.told();
        println!("{kernel}: {detail}\n  {remedy}");
        assert!(detail.contains("this makefile ignores KOBJ") && !detail.contains("make oldconfig"), "{detail}");
        let line = "make = [\"BUILD_KERNEL={kernel}\", \"KSRC={build}\"]";
        assert!(remedy.contains(line) && run.stderr.contains(&remedy), "{remedy}{}", run.stderr);
        // To the letter: the copy, the line in its place, the same command again.
        let (copy, _) = remedy.split_once(';').unwrap();
        let [cp, from, to] = copy.split(' ').collect::<Vec<_>>()[..] else { panic!("{copy}") };
        assert_eq!((cp, from), ("cp", format!("/{packaged}").as_str()));
        let own = to.trim_start_matches('/');
        assert!(remedy.contains("above its first [[releases]]") && remedy.ends_with("then the same command again"));
        let text = recipe.replacen("[[releases]]", &format!("{line}\n[[releases]]"), 1);
        stage.machine = stage.machine.file(own, &text);
        let run = stage.machine.run(&command);
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        let made = fs::read_dir(stage.machine.path(&format!("lib/modules/{}/updates/vfguard", stage.kernel))).unwrap();
        assert!(made.flatten().any(|e| e.file_name().to_string_lossy().starts_with("ixgbevf.ko")));
        // Undone, it is the file in /etc that is named.
        stage.machine = stage.machine.file(own, &recipe);
        assert_eq!(stage.machine.run(&[&command[..], &["--rebuild"]].concat()).code, 1);
        assert!(stage.told().1.starts_with(&format!("write into {to}, above")), "{}", stage.told().1);
    }
}

#[test]
fn what_is_missing_in_the_kernels_tree_or_beside_it_is_not_blamed_on_the_source() {
    let stage = Stage::new("K_NEW");
    for (what, script, words, remedy) in [
        (
            "a script of the tree",
            "sh -c ./scripts/mod/modpost\n",
            "the kernel's headers are incomplete",
            "linux-headers-6.1",
        ),
        (
            "a library",
            // A real program whose library is not there.
            "echo 'int f(void); int main() { return f(); }' >p.c; echo 'int f(void) { return 0; }' >l.c\n\
             gcc -Wl,-soname,libgone.so.1 -shared -fPIC -o libgone.so.1 l.c && gcc -o tool p.c ./libgone.so.1 && rm libgone.so.1\n\
             ./tool\n",
            "a library that the kernel's headers need is missing: ./tool: error while loading shared libraries: libgone.so.1",
            "install the library libgone.so.1",
        ),
        ("a place that is not the build's", "touch \"$KSRC/x\"\n", "writes outside of its own directory", "name a release"),
    ] {
        let (detail, told) = stage.prepare(script, &[]);
        println!("{what}: {detail}\n  {told}");
        assert!(detail.contains(words) && told.contains(remedy), "{what}: {detail}; {told}");
    }
}

#[test]
fn where_a_release_does_not_compile_the_kernels_own_driver_will_do_if_that_is_asked_for() {
    let (lab, stage) = (Lab::open(), Stage::new("K_NEW"));
    let kernel = &stage.kernel;
    // As the kernel's own build makes it.
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
    // What was tried need not be tried again.
    let machine = machine.file("etc/vfguard/config.toml", "accept_in_tree = 'fallback'\n");
    let (code, said) = check(&machine);
    assert_eq!(code, 0, "{said}");
    let own = format!("warning: eth0 (0000:00:03.0): no release of ixgbevf builds for {kernel}, whose own ixgbevf");
    assert!(said.contains(&own) && said.contains("warning: 1.0: ") && said.contains("[build-failed]"), "{said}");
}
