//! All verbs agree: on every machine of tests/cases/next-boot, `check`, `status`, `next-boot`, `reconcile`, `reboot` and `doctor` report
//! the same kernels, the same certainty and the same verdict.

#[path = "../../machine/mod.rs"]
mod machine;

use machine::{Machine, Run};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

const NIC: &str = "pci:v00001D0Fd0000EC20sv00001D0Fsd0000EC20bc02sc00i00";
const DRIVER: &str = "ena.alias=pci:v00001D0Fd0000EC20sv*sd*bc*sc*i*\0ena.file=drivers/net/ena\0";

/// A case as a machine with a card, for which every second kernel has a driver. Nothing is held or refused on it, so each verb finds the
/// same state.
fn machine(case: &Path, number: usize) -> Machine {
    let machine = Machine::of_case(case.file_name().unwrap().to_str().unwrap());
    let machine = machine.device("0000:00:05.0", NIC, Some("ena")).file("etc/vfguard/config.toml", "mode = 'observe'\n");
    let kernels = fs::read_dir(machine.path("lib/modules")).into_iter().flatten();
    let mut kernels: Vec<String> = kernels.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    kernels.sort();
    kernels.iter().enumerate().fold(machine, |machine, (n, kernel)| {
        let text = if (n + number).is_multiple_of(2) { DRIVER } else { "" };
        let machine = ["modules.alias", "modules.dep", "modules.builtin"]
            .into_iter()
            .fold(machine, |machine, name| machine.file(&format!("lib/modules/{kernel}/{name}"), ""));
        machine.file(&format!("lib/modules/{kernel}/modules.builtin.modinfo"), text)
    })
}

fn json(machine: &Machine, args: &[&str]) -> (i32, Value) {
    let run = machine.run(&[&["--format", "json"], args].concat());
    (run.code, run.json())
}

/// Each kernel with its role and verdict.
fn kernels(value: &Value) -> BTreeMap<String, (String, String)> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let all = value["kernels"].as_array().into_iter().flatten();
    all.map(|k| (text(&k["kernel"]), (text(&k["role"]), text(&k["verdict"])))).collect()
}

/// The differences between the verbs.
fn differences(machine: &Machine) -> Vec<String> {
    let mut differ = Vec::new();
    let mut same = |what: &str, a: String, b: String| {
        if a != b {
            differ.push(format!("{what}: {a} and {b}"));
        }
    };
    let (code, check) = json(machine, &["check"]);
    let (_, status) = json(machine, &["status"]);
    let (next_code, next) = json(machine, &["next-boot"]);
    let (_, doctor) = json(machine, &["doctor"]);
    let (reconcile_code, reconcile) = json(machine, &["reconcile", "--no-build"]);
    let reboot: Run = machine.run(&["reboot"]);
    let verdict = check["verdict"].to_string();
    same("verdict of check and status", verdict.clone(), status["verdict"].to_string());
    same("verdict of check and reconcile", verdict, reconcile["verdict"].to_string());
    same("exit codes of check and reconcile", code.to_string(), reconcile_code.to_string());
    same("exit codes of check and reboot", code.to_string(), reboot.code.to_string());
    let judged = kernels(&check);
    same("kernels of check and reconcile", format!("{judged:?}"), format!("{:?}", kernels(&reconcile)));
    let mut told = kernels(&status);
    told.retain(|kernel, _| judged.contains_key(kernel));
    same("kernels of check and status", format!("{judged:?}"), format!("{told:?}"));
    for (kernel, (role, _)) in kernels(&next).into_iter().filter(|(_, (role, _))| role != "once") {
        let known = judged.get(&kernel).map(|(role, _)| role.clone()).unwrap_or_default();
        if known != "once" {
            same(&format!("role of {kernel} by next-boot and check"), role, known);
        }
    }
    let certain = &next["certain"];
    same("certainty of next-boot and status", certain.to_string(), status["next_boot_certain"].to_string());
    same("exit code of next-boot", i32::from(!certain.as_bool().unwrap()).to_string(), next_code.to_string());
    let checks = doctor["checks"].as_array().unwrap();
    let uncertain = checks.iter().any(|c| c["detail"].as_str().unwrap().starts_with("what boots next is not certain"));
    same("certainty of next-boot and doctor", certain.to_string(), (!uncertain).to_string());
    differ
}

#[test]
fn every_verb_gives_the_same_verdict_on_every_machine() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/next-boot");
    let mut all: Vec<PathBuf> = fs::read_dir(&cases).unwrap().map(|e| e.unwrap().path()).collect();
    all.sort();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut failed = Vec::new();
        while let Some((n, case)) = Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|n| Some((n, all.get(n)?))) {
            let differ = differences(&machine(case, n));
            if !differ.is_empty() {
                failed.push(format!("{}\n  {}", case.display(), differ.join("\n  ")));
            }
        }
        failed
    };
    let failed: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    assert!(all.len() >= 180, "only {} cases", all.len());
    assert!(failed.is_empty(), "{} machines on which verbs disagree:\n{}", failed.len(), failed.join("\n"));
}
