//! The ten silent failures of driver builds: situations in which make, dracut, DKMS or depmod report success and the machine would not come
//! back. Each ends in a refusal with its reason or in the right module, never in an unnoticed failure.

use crate::machine::lab::{self, Lab};
use crate::machine::Machine;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A machine with a VF, one kernel and its headers.
fn with(lab: &Lab, kernel: &str) -> Machine {
    lab.install(lab.machine().vf("ixgbevf").running(kernel).grub(), kernel)
}

fn prepare(machine: &Machine, kernel: &str, source: &Path, digest: &str) -> (i32, String) {
    let run = machine.run(&["prepare", kernel, "--source", source.to_str().unwrap(), "--sha256", digest]);
    (run.code, run.stdout + &run.stderr)
}

fn real(machine: &Machine, lab: &Lab, kernel: &str, key: &str) -> (i32, String) {
    prepare(machine, kernel, &lab.file(key), lab.get(&format!("{key}_SHA256")))
}

fn scripted(machine: &Machine, kernel: &str, script: &str, files: &[(&str, &[u8])]) -> (i32, String) {
    let (file, digest) = lab::archive(machine.root(), script, files);
    prepare(machine, kernel, &file, &digest)
}

fn installed(machine: &Machine, kernel: &str) -> Option<PathBuf> {
    let dir = machine.path(&format!("lib/modules/{kernel}/updates"));
    let found = Command::new("find").arg(dir).args(["-name", "*.ko*"]).output().unwrap();
    String::from_utf8_lossy(&found.stdout).lines().next().map(PathBuf::from)
}

/// The code of the finding that the last failure left in the kernel's record, and that `check` shows.
fn refused(machine: &Machine, kernel: &str, outcome: &(i32, String), code: &str) {
    assert_eq!(outcome.0, 1, "{}", outcome.1);
    assert!(!outcome.1.trim().is_empty());
    let record = fs::read_to_string(machine.path(&format!("var/lib/vfguard/records/{kernel}.json"))).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let codes: Vec<_> =
        record["drivers"]["ixgbevf"]["findings"].as_array().unwrap().iter().map(|f| f["code"].clone()).collect();
    assert!(codes.contains(&code.into()), "{codes:?} holds no {code}: {}", outcome.1);
    assert_eq!(installed(machine, kernel), None, "a module was installed all the same");
    assert_eq!(machine.run(&["check", kernel]).code, 3);
}

fn vermagic(module: &Path) -> String {
    let output = Command::new("modinfo").args(["-F", "vermagic"]).arg(module).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Replaces a link into the lab by a file of the test's own, which it may change.
fn own(path: &Path, content: &str) {
    fs::remove_file(path).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn silent_1_without_headers_no_other_kernels_tree_is_used() {
    let lab = Lab::open();
    let (kernel, other) = (lab.get("K_NEW"), lab.get("K_OLD"));
    let machine = with(&lab, kernel);
    fs::remove_dir_all(machine.path(&format!("usr/src/linux-headers-{kernel}"))).unwrap();
    symlink(format!("linux-headers-{other}"), machine.path("usr/src/linux")).unwrap();
    fs::create_dir_all(machine.path("usr/src/kernels")).unwrap();
    symlink(format!("../linux-headers-{other}"), machine.path(&format!("usr/src/kernels/{other}"))).unwrap();
    let outcome = real(&machine, &lab, kernel, "IXGBEVF_61");
    refused(&machine, kernel, &outcome, "headers-missing");
    assert!(outcome.1.contains(&format!("linux-headers-{kernel}")), "{}", outcome.1);
}

#[test]
fn silent_1_a_makefile_that_searches_finds_no_other_kernels_tree() {
    let lab = Lab::open();
    let (kernel, other) = (lab.get("K_NEW"), lab.get("K_OLD"));
    let machine = with(&lab, kernel);
    symlink(format!("linux-headers-{other}"), machine.path("usr/src/linux")).unwrap();
    let search = format!("ls -d /usr/src/linux /usr/src/*{other}* /lib/modules/{other} && cp good.ko ixgbevf.ko");
    let good = fs::read(lab.file("MODULE_IXGBEVF")).unwrap();
    let outcome = scripted(&machine, kernel, &search, &[("good.ko", &good)]);
    refused(&machine, kernel, &outcome, "build-failed");
}

#[test]
fn silent_1_a_module_with_another_release_is_refused_even_if_every_crc_matches() {
    let lab = Lab::open();
    let kernel = lab.get("K_PREV");
    let machine = with(&lab, kernel);
    let good = fs::read(lab.file("MODULE_IXGBEVF")).unwrap();
    let outcome = scripted(&machine, kernel, "cp good.ko ixgbevf.ko", &[("good.ko", &good)]);
    refused(&machine, kernel, &outcome, "vermagic-release");
}

#[test]
fn silent_2_without_module_symvers_nothing_is_built() {
    let lab = Lab::open();
    let kernel = lab.get("K_NEW");
    let machine = with(&lab, kernel);
    fs::remove_file(machine.path(&format!("usr/src/linux-headers-{kernel}/Module.symvers"))).unwrap();
    let outcome = real(&machine, &lab, kernel, "IXGBEVF_61");
    refused(&machine, kernel, &outcome, "symvers-missing");
}

#[test]
fn silent_3_a_tree_of_another_release_is_refused_and_named() {
    let lab = Lab::open();
    let kernel = lab.get("K_NEW");
    let machine = with(&lab, kernel);
    let header = machine.path(&format!("usr/src/linux-headers-{kernel}/include/generated/utsrelease.h"));
    own(&header, "#define UTS_RELEASE \"6.1.0-99-other\"\n");
    let outcome = real(&machine, &lab, kernel, "IXGBEVF_61");
    refused(&machine, kernel, &outcome, "headers-missing");
    assert!(outcome.1.contains("6.1.0-99-other"), "{}", outcome.1);
}

#[test]
fn silent_4_make_install_with_its_ignored_errors_is_never_run() {
    let lab = Lab::open();
    let kernel = lab.get("K_NEW");
    let machine = with(&lab, kernel);
    let good = fs::read(lab.file("MODULE_IXGBEVF")).unwrap();
    let script = "tr '\\0' ' ' </proc/$PPID/cmdline; cp good.ko ixgbevf.ko";
    let outcome = scripted(&machine, kernel, script, &[("good.ko", &good)]);
    assert_eq!(outcome.0, 0, "{}", outcome.1);
    let log = fs::read_to_string(machine.path(&format!("var/lib/vfguard/log/{kernel}-ixgbevf-1.0.log"))).unwrap();
    let make = log.lines().find(|l| l.starts_with("make -j")).unwrap();
    assert!(!make.contains("install") && make.contains(&format!("BUILD_KERNEL={kernel}")), "{make}");
    let file = installed(&machine, kernel).unwrap();
    assert!(file.parent().unwrap().ends_with("updates/vfguard"), "{file:?}");
    // Only vfguard's one file and depmod's tables are new.
    assert!(!machine.path("installed").exists() && !Path::new("/installed").exists());
}

#[test]
fn silent_5_wrong_symbol_versions_are_refused_though_depmod_accepts_them() {
    let lab = Lab::open();
    let (new, old) = (lab.get("K_NEW"), lab.get("K_OLD"));
    assert_eq!(new.len(), old.len(), "the forgery below wants names of one length");
    let machine = with(&lab, old);
    // A module whose vermagic names the old kernel and whose CRCs are the new one's.
    let mut forged = fs::read(lab.file("MODULE_IXGBEVF")).unwrap();
    let at = forged.windows(new.len()).position(|w| w == new.as_bytes()).unwrap();
    forged[at..at + new.len()].copy_from_slice(old.as_bytes());
    let outcome = scripted(&machine, old, "cp forged.ko ixgbevf.ko", &[("forged.ko", &forged)]);
    refused(&machine, old, &outcome, "symbol-crc");
    assert!(outcome.1.contains(lab.get("MISMATCHES_OLD")), "{}", outcome.1);
    // What other programs say about the same file.
    let modules = machine.path(&format!("lib/modules/{old}"));
    fs::create_dir_all(modules.join("updates")).unwrap();
    fs::write(modules.join("updates/ixgbevf.ko"), &forged).unwrap();
    assert!(Command::new("depmod").arg("-b").arg(machine.root()).arg(old).status().unwrap().success());
    let modprobe =
        Command::new("modprobe").arg("-d").arg(machine.root()).args(["-S", old, "-n", "ixgbevf"]).status().unwrap();
    assert!(modprobe.success());
}

#[test]
fn silent_6_a_build_link_to_other_headers_is_refused() {
    let lab = Lab::open();
    let (kernel, other) = (lab.get("K_NEW"), lab.get("K_OLD"));
    let machine = with(&lab, kernel);
    let link = machine.path(&format!("lib/modules/{kernel}/build"));
    fs::remove_file(&link).unwrap();
    symlink(format!("/usr/src/linux-headers-{other}"), &link).unwrap();
    let outcome = real(&machine, &lab, kernel, "IXGBEVF_61");
    refused(&machine, kernel, &outcome, "headers-missing");
    assert!(outcome.1.contains(other), "{}", outcome.1);
}

#[test]
fn silent_7_the_hook_does_not_report_success_without_headers() {
    let lab = Lab::open();
    let kernel = lab.get("K_NEW");
    let machine = with(&lab, kernel);
    fs::remove_dir_all(machine.path(&format!("usr/src/linux-headers-{kernel}"))).unwrap();
    let run = machine.run(&["reconcile", "--from", "hook"]);
    assert_eq!(run.code, 3, "{}{}", run.stdout, run.stderr);
    let check = machine.run(&["check", kernel]);
    assert_eq!(check.code, 3);
    assert!(check.stdout.contains(&format!("linux-headers-{kernel}")), "{}", check.stdout);
}

#[test]
fn silent_8_the_kernel_that_runs_while_building_does_not_matter() {
    let lab = Lab::open();
    let (kernel, running) = (lab.get("K_NEW"), lab.get("K_OLD"));
    let machine = lab.install(lab.machine().vf("ixgbevf").running(running).grub(), kernel);
    let outcome = real(&machine, &lab, kernel, "IXGBEVF_61");
    assert_eq!(outcome.0, 0, "{}", outcome.1);
    assert!(vermagic(&installed(&machine, kernel).unwrap()).starts_with(&format!("{kernel} ")));
}

#[test]
fn silent_9_a_pie_compiler_is_named_instead_of_the_misleading_last_line() {
    let lab = Lab::open();
    let kernel = lab.get("K_NEW");
    let machine = with(&lab, kernel);
    // As ixgbevf 2.14.2's makefile does: it preprocesses a probe with kernel flags, and misinterprets the failure.
    let script = "echo 'int x;' >x.c; gcc -mcmodel=kernel -fPIE -c x.c; echo '*** Aborting the build. *** This driver is not supported on kernel versions older than 2.4.0'; exit 1";
    let outcome = scripted(&machine, kernel, script, &[]);
    refused(&machine, kernel, &outcome, "build-failed");
    assert!(outcome.1.contains("position-independent") && !outcome.1.contains("2.4.0"), "{}", outcome.1);
}

#[test]
fn silent_10_headers_that_demand_pahole_are_refused_without_it_before_make_runs() {
    let lab = Lab::open();
    let kernel = lab.get("K_612");
    let machine = with(&lab, kernel);
    let (file, digest) = (lab.file("IXGBEVF_612"), lab.get("IXGBEVF_612_SHA256"));
    let hide = "mount --bind /dev/null /usr/bin/pahole && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", hide, "sh"]).arg(env!("CARGO_BIN_EXE_vfguard")).arg("--root").arg(machine.root());
    let output = command.args(["prepare", kernel, "--source"]).arg(file).args(["--sha256", digest]).output().unwrap();
    let outcome = (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned());
    refused(&machine, kernel, &outcome, "build-failed");
    assert!(outcome.1.contains("pahole") && outcome.1.contains("dwarves"), "{}", outcome.1);
    // With pahole the same build works.
    let outcome = real(&machine, &lab, kernel, "IXGBEVF_612");
    assert_eq!(outcome.0, 0, "{}", outcome.1);
}

#[test]
fn a_source_that_is_too_old_for_the_kernel_fails_with_its_first_error_and_line() {
    let lab = Lab::open();
    for (kernel, key) in [(lab.get("K_612"), "IXGBEVF_61"), (lab.get("K_NEW"), "IXGBEVF_612")] {
        let machine = with(&lab, kernel);
        let outcome = real(&machine, &lab, kernel, key);
        refused(&machine, kernel, &outcome, "build-failed");
        assert!(outcome.1.contains(": error: ") && outcome.1.contains("/src/"), "{}", outcome.1);
        assert!(outcome.1.contains("--source FILE --sha256 HEX"), "{}", outcome.1);
    }
}

#[test]
fn a_single_tree_of_the_el_family_builds() {
    let lab = Lab::open();
    let kernel = lab.get("K_EL");
    let machine = Machine::new().kernel(kernel).vf("ixgbevf");
    let copy = Command::new("cp").arg("-al").arg(lab.file("ROOT_EL").join("usr")).arg(machine.root()).status().unwrap();
    assert!(copy.success());
    symlink(format!("/usr/src/kernels/{kernel}"), machine.path(&format!("lib/modules/{kernel}/build"))).unwrap();
    let outcome = real(&machine, &lab, kernel, "IXGBEVF_61");
    assert_eq!(outcome.0, 0, "{}", outcome.1);
    let log = fs::read_dir(machine.path("var/lib/vfguard/log")).unwrap().next().unwrap().unwrap();
    let log = fs::read_to_string(log.path()).unwrap();
    let call = log.lines().find(|line| line.starts_with("vfguard: make ")).expect("the line that tells the call");
    assert!(call.contains("KSRC=") && !call.contains("KOBJ="), "{log}");
}
