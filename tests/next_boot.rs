//! Each directory of `tests/cases/next-boot` is a machine (`in/`) and what boots next on it (`expected.json`).

use std::fs;
use std::path::Path;
use vfguard::boot::next_boot;
use vfguard::config::Boot;
use vfguard::host::Host;

/// The answer with the parts that a case fixes: everything but the wording of `why`.
fn answer(root: &Path) -> (serde_json::Value, String) {
    let host = Host::new(root).unwrap();
    let next = next_boot(&host, &Boot::default());
    let mut value = serde_json::to_value(&next).unwrap();
    value.as_object_mut().unwrap().remove("problems");
    for kernel in value["kernels"].as_array_mut().unwrap() {
        kernel.as_object_mut().unwrap().remove("why");
    }
    let problems: Vec<&str> = next.problems.iter().map(|p| p.message.as_str()).collect();
    if !next.certain {
        assert!(!problems.is_empty(), "{}: uncertain without a reason", root.display());
    }
    (value, problems.join("\n"))
}

#[test]
fn every_case_boots_what_it_should() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/next-boot");
    let mut failed = Vec::new();
    let mut names: Vec<_> = fs::read_dir(&cases).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    for case in &names {
        let text = fs::read_to_string(case.join("expected.json")).unwrap();
        let mut expected: serde_json::Value = serde_json::from_str(&text).unwrap();
        // Words that the problems must name, and a sentence for the reader, are no part of the answer.
        let object = expected.as_object_mut().unwrap();
        let words = object.remove("problems").unwrap_or_default();
        object.remove("because");
        let (got, problems) = answer(&case.join("in"));
        let named = words.as_array().into_iter().flatten().all(|w| problems.contains(w.as_str().unwrap()));
        if got != expected || !named {
            failed
                .push(format!("{}\n  expected {expected} {words}\n  got      {got}\n  problems {problems}", case.display()));
        }
    }
    assert!(names.len() >= 80, "only {} cases", names.len());
    assert!(failed.is_empty(), "{} of {} cases failed:\n{}", failed.len(), names.len(), failed.join("\n"));
}
