use super::{Fact, Finding, Severity};
use std::fs;
use std::path::Path;

/// The files that may set or print a severity. All others take the severity of a finding from the table.
const MAY_NAME_A_SEVERITY: [&str; 3] = ["src/finding/mod.rs", "src/finding/policy.rs", "src/report/human.rs"];

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The sources below a directory, with their paths from the top.
fn sources(dir: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() && !matches!(name.as_str(), "cases" | "fuzz" | "vm") {
            sources(&path, found);
        } else if name.ends_with(".rs") && !path.starts_with(top().join("src/finding/tests.rs")) {
            let shown = path.strip_prefix(top()).unwrap().to_string_lossy().into_owned();
            found.push((shown, fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The part of a file of `src` before its tests, and its tests.
fn parts<'t>(path: &str, text: &'t str) -> (&'t str, &'t str) {
    if path.ends_with("tests.rs") || path.contains("/tests/") {
        return ("", text);
    }
    text.split_once("mod tests {").unwrap_or((text, ""))
}

/// The variants of an enum.
fn variants<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
    let body = text.split_once(&format!("pub enum {name} {{")).and_then(|(_, rest)| rest.split_once("\n}")).unwrap().0;
    body.lines().map(str::trim).filter_map(|l| l.strip_suffix(',').filter(|l| !l.starts_with("///"))).collect()
}

/// Whether a text contains a word, and not only as the beginning of a longer one.
fn has(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| !text[at + word.len()..].starts_with(|c: char| c.is_alphanumeric()))
}

#[test]
fn every_code_has_a_line_in_the_manual_and_a_test_that_expects_it() {
    let manual = fs::read_to_string(top().join("packaging/man/chapters.roff")).unwrap();
    let mut files = Vec::new();
    sources(&top().join("src"), &mut files);
    let mut tests: String = files.iter().map(|(path, text)| parts(path, text).1).collect();
    files.clear();
    sources(&top().join("tests"), &mut files);
    tests.extend(files.iter().map(|(_, text)| text.as_str()));
    let variants = variants(include_str!("code.rs"), "Code");
    assert!(variants.len() > 30, "{variants:?}");
    let mut untold = Vec::new();
    for variant in variants {
        let kebab: String = variant
            .char_indices()
            .map(|(at, c)| {
                let dash = if c.is_uppercase() && at > 0 { "-" } else { "" };
                format!("{dash}{}", c.to_lowercase())
            })
            .collect();
        assert!(manual.contains(&format!("\n.B {kebab}\n")), "the manual has no line for {kebab}");
        let told = [format!("Code::{variant}"), format!("\"{kebab}\""), format!(" {kebab}\"")];
        if !told.iter().any(|t| tests.contains(t)) {
            untold.push(kebab);
        }
    }
    assert!(untold.is_empty(), "no test expects {untold:?}");
}

#[test]
fn every_code_has_a_fact_and_every_fact_is_used_outside_the_table() {
    let mut files = Vec::new();
    sources(&top().join("src"), &mut files);
    let table = include_str!("policy.rs");
    for code in variants(include_str!("code.rs"), "Code") {
        assert!(has(table, &format!("Code::{code}")), "the table has no line for {code}");
    }
    let seers: String = files.iter().filter(|(path, _)| !path.contains("finding/")).map(|(p, t)| parts(p, t).0).collect();
    let facts = variants(table, "Fact");
    assert!(facts.len() > 60, "{facts:?}");
    let unseen: Vec<&str> = facts.into_iter().filter(|fact| !has(&seers, &format!("Fact::{fact}"))).collect();
    assert!(unseen.is_empty(), "nobody sees {unseen:?}");
}

#[test]
fn only_the_table_sets_a_severity() {
    let mut files = Vec::new();
    sources(&top().join("src"), &mut files);
    assert!(files.len() > 200);
    let names = |(path, text): &&(String, String)| parts(path, text).0.contains("Severity::");
    let mut found: Vec<&str> = files.iter().filter(names).map(|(path, _)| path.as_str()).collect();
    found.sort_unstable();
    assert_eq!(found, MAY_NAME_A_SEVERITY);
}

#[test]
fn a_finding_read_from_a_record_keeps_its_severity_and_is_never_excused() {
    let made = Finding::new(Fact::SymbolCrc, "90 of 160", "vfguard prepare 6.1");
    assert!(made.refuses() && made.is_excused_by_use() && made.is_excused_by_master() && made.is_of_the_build());
    let written = serde_json::to_string(&made).unwrap();
    assert_eq!(written, r#"{"code":"symbol-crc","severity":"unsafe","detail":"90 of 160","remedy":"vfguard prepare 6.1"}"#);
    let read: Finding = serde_json::from_str(&written).unwrap();
    assert!(read.refuses() && read.is_told() && !read.is(Fact::SymbolCrc));
    assert!(!read.is_excused_by_use() && !read.is_excused_by_master() && !read.is_of_the_build());
}

#[test]
fn an_excused_finding_is_a_warning_and_a_bypassed_one_an_info() {
    let mut finding = Finding::new(Fact::SymbolCrc, "x", "y");
    finding.excuse();
    assert_eq!((finding.severity(), finding.is_told(), finding.is_excused_by_use()), (Severity::Warning, true, false));
    let mut finding = Finding::new(Fact::InTree, "x", "");
    finding.excuse();
    assert_eq!((finding.severity(), finding.is_told()), (Severity::Info, false), "it never weighs more than before");
    let finding = Finding::new(Fact::BuildFailed, "x", "y").into_info();
    assert_eq!((finding.severity(), finding.is_told(), finding.remedy.as_str()), (Severity::Info, false, ""));
    assert!(Finding::new(Fact::NewestNotBooting, "x", "").is_told());
}
