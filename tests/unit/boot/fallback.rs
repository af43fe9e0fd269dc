//! `accept_in_tree = "fallback"`: where no release of the recipe builds for a kernel, its in-tree driver is accepted with a warning. A
//! record allows that driver to be judged, but does not make it safe.

#[path = "../../machine/mod.rs"]
mod machine;

use machine::{ko, Machine, Run};
use serde_json::Value;
use std::fs;
use std::process::Command;

const OLD: &str = "6.1.0-53-amd64";
const NEW: &str = "6.1.0-54-amd64";
const DROP_IN: &str = "run/systemd/system/reboot.target.d/50-vfguard.conf";
const RECORD: &str = "var/lib/vfguard/records/6.1.0-54-amd64.json";
const ALIAS: &str = "pci:v00008086d000010EDsv*sd*bc*sc*i*";
const CONFIG: &str = "accept_in_tree = \"fallback\"\n";
/// No release fits NEW, so that an attempt fails at once, and would fail again.
const NONE_FITS: &str = "kernels = { below = '3.10' }\nfallback = false\n";

/// OLD runs with an out-of-tree driver. NEW is the boot default, and has its headers and an in-tree driver.
fn machine(config: &str, release: &str) -> Machine {
    let machine = Machine::new().grub().boot_entry(OLD).boot_entry(NEW).boot_default(NEW);
    let machine = machine.vf("ixgbevf").running(OLD).offline().file("etc/vfguard/config.toml", config);
    let machine = machine.recipe(&format!(
        "[[releases]]\nversion = '5.3.36'\nurls = ['file:///srv/ixgbevf-5.3.36.tar.gz']\nsha256 = '{}'\n{release}",
        "a".repeat(64)
    ));
    let machine =
        driver(headers(machine.kernel(OLD), OLD), OLD, "updates/ixgbevf.ko", &[("version", "5.3.36"), ("alias", ALIAS)]);
    own_driver(headers(machine.kernel(NEW), NEW), ALIAS)
}

fn headers(machine: Machine, kernel: &str) -> Machine {
    let tree = format!("usr/src/kernels/{kernel}");
    let files = [
        ("include/generated/utsrelease.h", &*format!("#define UTS_RELEASE \"{kernel}\"\n")),
        ("include/linux/module.h", ""),
        ("include/config/auto.conf", "CONFIG_SMP=y\nCONFIG_MODULES=y\nCONFIG_MODULE_UNLOAD=y\n"),
        ("Module.symvers", "0x00000000\tmodule_layout\tvmlinux\tEXPORT_SYMBOL\t\n"),
        ("Makefile", ""),
        ("scripts/basic/fixdep", ""),
        ("scripts/mod/modpost", ""),
    ];
    files.iter().fold(machine, |machine, (name, text)| machine.file(&format!("{tree}/{name}"), text))
}

fn driver(machine: Machine, kernel: &str, path: &str, info: &[(&str, &str)]) -> Machine {
    let vermagic = format!("{kernel} SMP mod_unload ");
    let info = [&[("vermagic", vermagic.as_str()), ("license", "GPL")], info].concat();
    let machine = machine.file(&format!("lib/modules/{kernel}/{path}"), "");
    fs::write(machine.path(&format!("lib/modules/{kernel}/{path}")), ko::module("ixgbevf", &info)).unwrap();
    assert!(Command::new("depmod").arg("-b").arg(machine.root()).arg(kernel).status().unwrap().success());
    machine
}

/// NEW's in-tree driver.
fn own_driver(machine: Machine, alias: &str) -> Machine {
    let path = "kernel/drivers/net/ethernet/intel/ixgbevf/ixgbevf.ko";
    let machine = machine.file(&format!("lib/modules/{NEW}/modules.order"), &format!("{path}\n"));
    driver(machine, NEW, path, &[("intree", "Y"), ("version", "4.1.0-k"), ("alias", alias)])
}

fn said(run: &Run) -> String {
    format!("{}{}", run.stdout, run.stderr)
}

fn findings(machine: &Machine) -> (i32, Vec<(String, String, String)>) {
    let run = machine.run(&["--format", "json", "check", NEW]);
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let json = run.json();
    let all = json["kernels"][0]["findings"].as_array().unwrap().iter();
    (run.code, all.map(|f| (text(&f["code"]), text(&f["severity"]), text(&f["detail"]))).collect())
}

fn assert_refused(what: &str, machine: &Machine, args: &[&str]) {
    let run = machine.run(args);
    assert_eq!((run.code, machine.saved_entry().as_str()), (3, OLD), "{what}: {}", said(&run));
    assert!(machine.path(DROP_IN).exists(), "{what}: {}", said(&run));
    let (code, findings) = findings(machine);
    assert_eq!(code, 3, "{what}: {findings:?}");
    assert!(findings.iter().all(|f| f.0 != "in-tree-fallback"), "{what}: {findings:?}");
}

fn assert_falls_back(what: &str, machine: &Machine, args: &[&str]) {
    let run = machine.run(args);
    assert_eq!((run.code, machine.saved_entry().as_str()), (0, NEW), "{what}: {}", said(&run));
    assert!(!machine.path(DROP_IN).exists(), "{what}: {}", said(&run));
    let (code, findings) = findings(machine);
    assert_eq!(code, 0, "{what}: {findings:?}");
    let one =
        |code: &str| findings.iter().find(|f| f.0 == code).unwrap_or_else(|| panic!("{what}: no {code}: {findings:?}"));
    let (own, why) = (one("in-tree-fallback"), one("build-failed"));
    assert_eq!((own.1.as_str(), why.1.as_str()), ("warning", "warning"), "{what}: {findings:?}");
    let told = format!("no release of ixgbevf builds for {NEW}, whose own ixgbevf 4.1.0-k is taken");
    assert!(own.2.contains(&told), "{what}: {findings:?}");
}

#[test]
fn an_in_tree_driver_is_accepted_once_a_build_failed_and_would_fail_again() {
    let machine = machine(CONFIG, NONE_FITS);
    assert_refused("nothing was tried", &machine, &["reconcile", "--no-build"]);
    assert_falls_back("it was tried", &machine, &["reconcile"]);
    // A failure that is permanent is not tried again.
    let record = fs::read_to_string(machine.path(RECORD)).unwrap();
    assert_falls_back("it is known", &machine, &["reconcile"]);
    assert_eq!(fs::read_to_string(machine.path(RECORD)).unwrap(), record);
    // The in-tree driver drives the device then, and nothing is left to report.
    let machine = machine.running(NEW).file("sys/module/ixgbevf/taint", "\n");
    let (code, findings) = findings(&machine);
    assert!(code == 0 && findings.iter().all(|f| f.1 == "info"), "{findings:?}");
}

#[test]
fn without_the_record_or_with_another_recipe_a_build_is_tried_again_before_anything_opens() {
    let machine = machine(CONFIG, NONE_FITS);
    assert_falls_back("it was tried", &machine, &["reconcile"]);
    let machine = machine.boot_default(OLD);
    fs::remove_file(machine.path(RECORD)).unwrap();
    assert_eq!(findings(&machine).0, 3, "the record is lost");
    let machine = machine.boot_default(NEW);
    assert_falls_back("it was tried again", &machine, &["reconcile"]);
    let recipe = "etc/vfguard/drivers.d/ixgbevf.toml";
    let text = fs::read_to_string(machine.path(recipe)).unwrap();
    let machine = machine.file(recipe, &text.replace("'3.10'", "'3.11'"));
    assert_refused("the recipe is another one", &machine, &["reconcile", "--no-build"]);
    assert_falls_back("that was tried as well", &machine, &["reconcile"]);
}

#[test]
fn a_failed_build_refuses_under_auto_and_a_required_driver_under_fallback() {
    assert_refused("auto", &machine("", NONE_FITS), &["reconcile"]);
    assert_refused("never", &machine("accept_in_tree = \"never\"\n", NONE_FITS), &["reconcile"]);
    let required = format!("{CONFIG}[drivers]\nrequired = [\"ixgbevf\"]\n");
    assert_refused("required", &machine(&required, NONE_FITS), &["reconcile"]);
}

#[test]
fn a_release_that_could_not_be_fetched_is_not_one_that_does_not_build() {
    let machine = machine(CONFIG, "");
    assert_refused("not fetched", &machine, &["reconcile"]);
    let run = machine.run(&["check", NEW]);
    assert!(run.stdout.contains("to mend it: ") && run.stdout.contains("ixgbevf-5.3.36.tar.gz"), "{}", said(&run));
}

#[test]
fn an_in_tree_driver_that_is_not_proven_is_no_fallback() {
    let machine = own_driver(machine(CONFIG, NONE_FITS), "pci:v00008086d00001515sv*sd*bc*sc*i*");
    assert_refused("it does not claim the device", &machine, &["reconcile"]);
    let machine = self::machine(CONFIG, NONE_FITS).file("etc/modprobe.d/x.conf", "blacklist ixgbevf\n");
    assert_refused("it is blacklisted", &machine, &["reconcile"]);
}
