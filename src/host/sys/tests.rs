//! The capabilities that the kernel tells, and where `unsafe` may be used.

use nix::libc;
use std::fs;
use std::path::Path;

#[test]
fn the_kernel_tells_the_same_capabilities_as_proc() {
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

#[test]
fn no_other_file_lifts_the_ban_on_unsafe_code_and_each_use_here_says_why_it_is_sound() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert!(fs::read_to_string(top.join("Cargo.toml")).unwrap().contains("\nunsafe_code = \"deny\"\n"));
    let mut all = Vec::new();
    sources(&top.join("src"), &mut all);
    sources(&top.join("tests"), &mut all);
    let lifted = ["allow(unsafe", "_code)"].concat();
    let lifting: Vec<&String> = all.iter().filter(|(_, text)| text.contains(&lifted)).map(|(path, _)| path).collect();
    assert!(lifting.len() == 1 && lifting[0].ends_with("src/host/sys/mod.rs"), "{lifting:?}");
    let here = include_str!("mod.rs").split("mod tests").next().unwrap();
    let uses = here.matches("unsafe {").count();
    assert!(uses > 5 && uses == here.matches("// SAFETY: ").count(), "{uses} uses");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(4000))]

    /// It takes a `[` without an end literally, which `fits` does not.
    #[test]
    fn patterns_fit_as_fnmatch_of_the_c_library_says(
        pattern in r"([abc*?-]|\\[abc*?\\\[]|\[[!^]?\]?[abc-]{1,4}\]){0,6}", text in r"[abc\]\\-]{0,6}"
    ) {
        let c = |s: &str| std::ffi::CString::new(s).unwrap();
        let (p, t) = (c(&pattern), c(&text));
        // SAFETY: both are strings with an end, and fnmatch keeps neither.
        let want = unsafe { libc::fnmatch(p.as_ptr(), t.as_ptr(), 0) } == 0;
        proptest::prop_assert_eq!(crate::glob::fits(&pattern, &text), want, "{} {}", pattern, text);
    }
}
