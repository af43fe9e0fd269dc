//! The kernel's own headers tell which programs make calls. `doctor`, `prepare` and `rehearse` all name the same program when it is really
//! missing.

use crate::machine::lab::Lab;
use crate::machine::{Machine, Run};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Runs before the binary: this machine's programs and libraries as a layer from which the test may remove some.
const LAYER: &str = "set -e; mount -t tmpfs layer /mnt; for d in usr etc; do mkdir -p /mnt/$d /mnt/$d.work; \
    mount -t overlay $d -o lowerdir=/$d,upperdir=/mnt/$d,workdir=/mnt/$d.work /$d; done; cd /usr/bin; ";

/// Runs the binary after `setup` (a shell line) has removed something.
fn run_without(machine: &Machine, setup: &str, args: &[&str]) -> Run {
    let script = format!("{LAYER}{setup}; exec \"$0\" --root \"$R\" \"$@\"");
    Command::new("unshare")
        .args(["-m", "sh", "-c", &script, env!("CARGO_BIN_EXE_vfguard")])
        .args(args)
        .env("R", machine.root())
        .output()
        .unwrap()
        .into()
}

/// A machine that needs the demo driver for a kernel of the lab.
fn machine(kernel: &str) -> (Machine, String) {
    let lab = Lab::open();
    let kernel = lab.get(kernel).to_owned();
    (lab.install(lab.machine().grub(), &kernel).demo(&lab).offline(), kernel)
}

/// The check of `doctor` about the programs for a kernel: status, detail, remedy.
fn doctor(machine: &Machine, setup: &str) -> [String; 3] {
    let run = run_without(machine, setup, &["--format", "json", "doctor"]);
    let checks = run.json()["checks"].as_array().unwrap().clone();
    let checks: Vec<_> = checks.iter().filter(|c| c["name"] == "compiler").collect();
    assert_eq!(checks.len(), 1, "{checks:?}");
    ["status", "detail", "remedy"].map(|key| checks[0][key].as_str().unwrap().to_owned())
}

#[test]
fn a_missing_program_that_make_calls_is_reported_by_doctor_and_by_prepare_alike() {
    for (kernel, cases) in [
        (
            "K_NEW",
            &[
                // Debian's headers name their compiler, so another gcc does not help.
                ("ln -sf x86_64-linux-gnu-gcc-12 gcc; rm gcc-12", "gcc-12 is not installed", "apt-get install gcc-12"),
                ("rm ld", "ld is not installed", "apt-get install binutils"),
                ("rm strip", "strip is not installed", "apt-get install binutils"),
                ("rm awk", "awk is not installed", "apt-get install gawk"),
                ("rm make", "make is not installed", "apt-get install make"),
                ("rm /usr/sbin/depmod", "depmod is not installed", "apt-get install kmod"),
                ("rm /usr/lib/*/libelf*; ldconfig", "libelf.so.1, which tools/objtool/objtool is", "install libelf1"),
                // Removed from the machine's own headers, so also missing in the following cases.
                (
                    "rm -f \"$R\"/usr/lib/linux-kbuild-6.1/tools/objtool/objtool",
                    "has no tools/objtool/objtool",
                    "linux-headers-6.1",
                ),
                (
                    "rm -f \"$R\"/usr/lib/linux-kbuild-6.1/scripts/basic/fixdep",
                    "has no scripts/basic/fixdep",
                    "linux-headers-6.1",
                ),
            ][..],
        ),
        (
            "K_612",
            &[
                (
                    "mv x86_64-linux-gnu-gcc-12 other; ln -sf other gcc; ln -sf other gcc-12",
                    "x86_64-linux-gnu-gcc-12 is not installed",
                    "apt-get install gcc-12",
                ),
                (
                    "mv x86_64-linux-gnu-ld other; ln -sf other ld",
                    "x86_64-linux-gnu-ld is not installed",
                    "apt-get install binutils",
                ),
                ("rm pahole", "pahole is not installed", "apt-get install dwarves"),
            ],
        ),
    ] {
        let (machine, kernel) = machine(kernel);
        let [status, told, mend] = doctor(&machine, ":");
        assert!(
            status == "ok" && told.starts_with(&format!("{kernel}, demo: make, ")) && mend.is_empty(),
            "{status} {told}"
        );
        for (setup, detail, remedy) in cases {
            let [status, told, mend] = doctor(&machine, setup);
            assert!(status == "failed" && told.contains(&kernel) && told.contains(detail), "{setup}: {status} {told}");
            assert!(mend.contains(remedy), "{setup}: {mend}");
            let run = run_without(&machine, setup, &["prepare", &kernel]);
            assert_eq!(run.code, 1, "{setup}: {}{}", run.stdout, run.stderr);
            assert!(run.stderr.contains(detail) && run.stderr.contains(remedy), "{setup}: {}", run.stderr);
            assert!(!machine.path("var/lib/vfguard/log").exists(), "{setup}: a build was begun");
        }
    }
}

#[test]
fn a_missing_program_of_some_makefiles_is_a_warning_and_blocks_no_driver_that_does_not_need_it() {
    let (machine, kernel) = machine("K_NEW");
    let setup = "rm which which.*; :";
    let [status, told, mend] = doctor(&machine, setup);
    assert!(status == "warning" && told.contains("which is not installed, and makefiles of many"), "{status} {told}");
    assert!(mend.contains("apt-get install debianutils"), "{mend}");
    let run = run_without(&machine, setup, &["prepare", &kernel]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
}

#[test]
fn the_kernels_own_compiler_is_used_if_it_is_installed_beside_another() {
    let (machine, kernel) = machine("K_NEW");
    // Headers that name no compiler, as on EL, of a kernel that was built with another compiler than gcc is here.
    let objects = machine.path(&format!("usr/src/linux-headers-{kernel}"));
    let change = |file: &str, change: &dyn Fn(String) -> String| {
        let text = fs::read_to_string(objects.join(file)).unwrap();
        // Removed before it is written: it is a hard link into the lab.
        fs::remove_file(objects.join(file)).unwrap();
        fs::write(objects.join(file), change(text)).unwrap();
    };
    change(".kernelvariables", &|text| text.lines().filter(|l| !l.starts_with("CC = ")).map(|l| format!("{l}\n")).collect());
    let told = "gcc10-gcc (GCC) 10.5.0 20230707 (Red Hat 10.5.0-1)";
    change("include/config/auto.conf", &|text| {
        let other = |l: &str| {
            if l.starts_with("CONFIG_CC_VERSION_TEXT=") {
                format!("CONFIG_CC_VERSION_TEXT={told}\n")
            } else {
                format!("{l}\n")
            }
        };
        text.lines().map(other).collect()
    });
    let programs = |setup: &str| doctor(&machine, setup)[1].clone();
    assert!(programs(":").contains("make, gcc, ld"), "{}", programs(":"));
    let setup = "printf '#!/bin/sh\nexec gcc-12 \"$@\"\n' >gcc10-gcc; chmod +x gcc10-gcc";
    assert!(programs(setup).contains("make, gcc10-gcc, ld"), "{}", programs(setup));
    let built = |setup: &str| {
        let run = run_without(&machine, setup, &["prepare", &kernel, "--rebuild"]);
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        let log = fs::read_dir(machine.path("var/lib/vfguard/log")).unwrap().next().unwrap().unwrap().path();
        let log = fs::read_to_string(log).unwrap();
        log.lines().find(|line| line.starts_with("vfguard: make ")).expect("the line that tells the call").to_string()
    };
    let call = built(setup);
    assert!(call.contains(" CC=gcc10-gcc in "), "{call}");
    let call = built(":");
    assert!(!call.contains("CC="), "{call}");
    // If the compiler that is used does not know a flag, the driver is not blamed, and both compilers are named.
    let setup = "printf '#!/bin/sh\\nexec gcc-12 -mown-hardening \"$@\"\\n' >gcc10-gcc; chmod +x gcc10-gcc";
    let run = run_without(&machine, setup, &["prepare", &kernel, "--rebuild"]);
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    for text in ["does not know a flag that the kernel's makefiles give it", "'-mown-hardening'; called was gcc10-gcc", told]
    {
        assert!(run.stderr.contains(text), "{text}: {}", run.stderr);
    }
    assert!(run.stderr.contains("install the compiler that the kernel was built with"), "{}", run.stderr);
    assert!(!run.stderr.contains("name a release"), "{}", run.stderr);
    // The same compiler by its version: nothing is reported.
    let same = "printf '#!/bin/sh\necho gcc 10.2.1\n' >gcc10-gcc; chmod +x gcc10-gcc; cp gcc10-gcc other; mv other gcc";
    assert!(programs(same).contains("make, gcc, ld"), "{}", programs(same));
}

#[test]
fn a_rehearsal_reports_the_same_missing_program() {
    let (machine, kernel) = machine("K_NEW");
    let setup = "ln -sf x86_64-linux-gnu-gcc-12 gcc; rm gcc-12";
    let run = run_without(&machine, setup, &["rehearse", &kernel]);
    assert_eq!(run.code, 3, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("gcc-12 is not installed, and the build needs it"), "{}", run.stdout);
    assert!(run.stdout.contains("apt-get install gcc-12"), "{}", run.stdout);
}

#[test]
fn the_compiler_that_a_recipe_names_is_the_required_one() {
    let (machine, kernel) = machine("K_NEW");
    let recipe = "etc/vfguard/drivers.d/demo.toml";
    let text = fs::read_to_string(machine.path(recipe)).unwrap();
    let make = "make = ['BUILD_KERNEL={kernel}', 'KSRC={source}', 'KOBJ={build}', 'CC=gcc-of-our-own']\n";
    let machine = machine.file(recipe, &text.replacen("[[releases]]", &format!("{make}[[releases]]"), 1));
    let [status, told, mend] = doctor(&machine, ":");
    assert!(status == "failed" && told.contains("gcc-of-our-own is not installed"), "{status} {told}");
    assert!(mend.contains("gcc-of-our-own"), "{mend}");
    // If it is there, the kernel's own compiler is not needed.
    let setup = "mv x86_64-linux-gnu-gcc-12 gcc-of-our-own; rm gcc-12 gcc";
    assert_eq!(doctor(&machine, setup)[0], "ok");
    assert!(Path::new("/usr/bin/gcc-12").exists(), "the layer is the test's alone");
    let run = run_without(&machine, setup, &["prepare", &kernel]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
}

#[test]
fn a_compiler_of_els_software_collections_is_found_for_a_recipe_that_names_it() {
    for (place, found) in [("/opt/rh/toolset/root/usr/bin", true), ("/opt/another", false)] {
        let (machine, kernel) = machine("K_NEW");
        let recipe = "etc/vfguard/drivers.d/demo.toml";
        let text = fs::read_to_string(machine.path(recipe)).unwrap();
        let make = format!("make = ['BUILD_KERNEL={{kernel}}', 'KSRC={{source}}', 'KOBJ={{build}}', 'CC={place}/gcc']\n");
        let machine = machine.file(recipe, &text.replacen("[[releases]]", &format!("{make}[[releases]]"), 1));
        let setup = format!("mount -t tmpfs opt /opt; mkdir -p {place}; ln -s /usr/bin/gcc-12 {place}/gcc");
        let run = run_without(&machine, &setup, &["prepare", &kernel]);
        assert_eq!(run.code == 0, found, "{place}: {}{}", run.stdout, run.stderr);
    }
}
