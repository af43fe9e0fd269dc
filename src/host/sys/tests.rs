//! Tests of the capabilities, of where `unsafe` may be used, and of which code may run after a fork.

use std::fs;
use std::path::Path;

#[test]
fn the_kernel_reports_the_same_capabilities_as_proc() {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let said = status.lines().find_map(|l| l.strip_prefix("CapEff:")).unwrap();
    assert_eq!(super::capabilities(), Ok(u64::from_str_radix(said.trim(), 16).unwrap()));
}

fn sources(dir: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The sources of the program and of its tests, with their paths from the top.
fn all() -> Vec<(String, String)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for dir in ["src", "tests"] {
        sources(&top.join(dir), &mut found);
    }
    let below = |path: String| path.strip_prefix(&format!("{}/", top.display())).unwrap_or(&path).to_owned();
    let mut found: Vec<_> = found.into_iter().map(|(path, text)| (below(path), text)).collect();
    found.sort();
    found
}

#[test]
fn only_one_file_allows_unsafe_and_each_use_says_why_it_is_sound() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    // However it is allowed: by allow, warn, expect, or a group of lints that names it.
    let lint = ["unsafe", "_code"].concat();
    assert!(fs::read_to_string(top.join("Cargo.toml")).unwrap().contains(&format!("\n{lint} = \"deny\"\n")));
    let fence = ["src/host/sys/raw.rs".to_owned()];
    let all = all();
    let denied = format!("#![deny({lint})]");
    let lifts = |text: &str| text.replace(&denied, "").contains(&lint);
    let lifting: Vec<&String> = all.iter().filter(|(_, text)| lifts(text)).map(|(path, _)| path).collect();
    assert_eq!(lifting, fence.iter().collect::<Vec<_>>());
    let allowed = format!("\n#![allow({lint})]\n");
    for (path, text) in all.iter().filter(|(path, _)| fence.contains(path)) {
        assert_eq!((text.matches(&allowed).count(), text.matches(&lint).count()), (1, 1), "{path}");
        let blocks = text.matches("unsafe {").count();
        assert!(blocks > 2 && blocks == text.matches("// SAFETY: ").count(), "{path}: {blocks} uses");
        // No function that is only sound under a caller's promise leaves the file.
        assert_eq!(text.matches("unsafe ").count(), blocks, "{path}");
    }
}

/// The code that runs in a forked process. It keeps to system calls on memory that existed before, which no type can express.
const FORKS: [(&str, &str); 6] = [
    ("src/driver/sandbox/run.rs", "spawn_with("),
    ("src/driver/sandbox/seccomp.rs", "in_child("),
    ("src/driver/sandbox/seccomp.rs", "in_child("),
    ("src/driver/sandbox/strays.rs", "in_child("),
    ("src/host/command/tied.rs", "in_child("),
    ("src/host/files/freeze.rs", "fork_helper("),
];

#[test]
fn only_the_listed_callers_run_code_after_a_fork() {
    let mut found = Vec::new();
    for (path, text) in all().iter().filter(|(path, _)| !path.starts_with("src/host/sys/")) {
        for call in ["spawn_with(", "in_child(", "fork_helper("] {
            let forks = text.match_indices(call).filter(|(at, _)| !text[..*at].ends_with("fork_"));
            found.extend(forks.map(|(_, call)| (path.clone(), call.to_owned())));
        }
    }
    assert_eq!(found, FORKS.map(|(path, call)| (path.to_owned(), call.to_owned())));
}

#[test]
fn a_panic_in_a_forked_helper_ends_the_helper() {
    let child = super::fork_helper(|_| std::panic::resume_unwind(Box::new(()))).unwrap();
    let ended = nix::sys::wait::waitpid(child, None).unwrap();
    assert_eq!(ended, nix::sys::wait::WaitStatus::Exited(child, 101));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(4000))]

    /// fnmatch takes a `[` without an end literally and `fits` does not, so no pattern here has one.
    #[test]
    fn patterns_fit_as_fnmatch_of_the_c_library_says(
        pattern in r"([abc*?-]|\\[abc*?\\\[]|\[[!^]?\]?[abc-]{1,4}\]){0,6}", text in r"[abc\]\\-]{0,6}"
    ) {
        let c = |s: &str| std::ffi::CString::new(s).unwrap();
        let want = super::raw::fnmatch(&c(&pattern), &c(&text));
        proptest::prop_assert_eq!(crate::glob::fits(&pattern, &text), want, "{} {}", pattern, text);
    }
}
