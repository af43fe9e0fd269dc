//! The structure of the source: which room may use which, and how large a file and a folder may be.
//!
//! A room is a file or a folder directly below src/. Its arrows are the `crate::` paths in its code, without tests and fuzz entry points.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// From top to bottom: an arrow may only go down in this list.
const LAYERS: [&str; 15] = [
    "cli",
    "doctor",
    "flow",
    "report",
    "verdict",
    "retention driver gate",
    "boot",
    "module",
    "kernel",
    "audit packages",
    "config",
    "host",
    "print",
    "text",
    "decompress error finding glob progress release",
];

/// All existing arrows. A new one is a decision: add it here, with the change that needs it.
const EDGES: [(&str, &str); 23] = [
    ("audit", "error host release"),
    ("boot", "audit config error glob host kernel"),
    (
        "cli",
        "audit boot config doctor driver error finding flow gate host kernel module packages print progress report retention text \
         verdict",
    ),
    ("config", "error host text"),
    ("decompress", ""),
    ("doctor", "audit boot config driver error finding flow host kernel packages text verdict"),
    ("driver", "boot config error finding glob host kernel module packages progress release text"),
    ("error", ""),
    ("finding", ""),
    ("flow", "audit boot config driver error finding gate host kernel module packages progress retention text verdict"),
    ("gate", "audit config error host kernel text"),
    ("glob", ""),
    ("host", "error print text"),
    ("kernel", "decompress finding host packages release"),
    ("module", "decompress finding glob host kernel"),
    ("packages", "error host release"),
    ("print", "text"),
    ("progress", ""),
    ("release", ""),
    ("report", "finding host print progress text verdict"),
    ("retention", "error finding host kernel packages"),
    ("text", ""),
    ("verdict", "boot config driver error finding gate host kernel module packages retention"),
];

/// The most lines of a file, and files of a folder.
const LINES: usize = 400;
const FILES: usize = 12;

fn top() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The files below a folder.
fn below(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
        if entry.is_dir() {
            below(&entry, found);
        } else {
            found.push(entry);
        }
    }
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    below(&top().join("src"), &mut found);
    found.retain(|f| f.extension().is_some_and(|e| e == "rs"));
    assert!(found.len() > 200, "{}", found.len());
    found
}

/// A file's module path below the crate: `boot/hold/mod.rs` is boot, hold.
fn module(file: &Path) -> Vec<String> {
    let mut path: Vec<String> =
        file.strip_prefix(top().join("src")).unwrap().iter().map(|p| p.to_string_lossy().replace(".rs", "")).collect();
    if path.last().is_some_and(|last| last == "mod") {
        path.pop();
    }
    path
}

/// Whether a file has code that ships: not tests or fuzz targets.
fn ships(file: &Path) -> bool {
    let name = file.file_name().unwrap().to_string_lossy();
    !name.ends_with("tests.rs") && !file.iter().any(|p| p == "tests") && !["fuzz.rs", "lib.rs", "main.rs"].contains(&&*name)
}

/// The paths in a file's code, from the crate's root, with groups of `use` expanded.
fn paths(file: &Path) -> BTreeSet<Vec<String>> {
    let text = fs::read_to_string(file).unwrap();
    let code: String =
        text.split("#[cfg(test)]\nmod ").next().unwrap().lines().map(|l| format!("{}\n", code_of(l))).collect();
    let here = module(file);
    let mut found = BTreeSet::new();
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                spread(&code[at..], Vec::new(), &mut |path| found.extend(absolute(&here, &path)));
            }
        }
    }
    found
}

fn code_of(line: &str) -> &str {
    line.split("//").next().unwrap()
}

fn absolute(here: &[String], path: &[String]) -> Option<Vec<String>> {
    let ups = path.iter().take_while(|p| *p == "super").count();
    let base = match path.first()?.as_str() {
        "crate" => return Some(path[1..].to_vec()),
        "self" => return Some([here, &path[1..]].concat()),
        _ => here.get(..here.len().checked_sub(ups)?)?,
    };
    Some([base, &path[ups..]].concat())
}

/// Reads one path, or a group of them, from the start of a text; returns the rest of the text.
fn spread<'a>(mut text: &'a str, mut path: Vec<String>, found: &mut impl FnMut(Vec<String>)) -> &'a str {
    loop {
        text = text.trim_start();
        if let Some(mut rest) = text.strip_prefix('{') {
            while !rest.trim_start().starts_with('}') {
                rest = spread(rest, path.clone(), found).trim_start();
                rest = rest.strip_prefix(',').unwrap_or(rest);
                assert!(!rest.is_empty(), "a group without an end");
            }
            return &rest.trim_start()[1..];
        }
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        if end == 0 {
            found(path);
            return text.strip_prefix('*').unwrap_or(text);
        }
        path.push(text[..end].to_owned());
        text = &text[end..];
        match text.strip_prefix("::") {
            Some(rest) => text = rest,
            None => {
                found(path);
                let named = text.trim_start();
                return named
                    .strip_prefix("as ")
                    .map_or(text, |n| n.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_'));
            }
        }
    }
}

/// Which rooms each room uses.
fn edges() -> BTreeMap<String, BTreeSet<String>> {
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in sources().into_iter().filter(|f| ships(f)) {
        let room = module(&file)[0].clone();
        let used = paths(&file).into_iter().filter_map(|p| p.first().cloned()).filter(|r| *r != room);
        edges.entry(room.clone()).or_default().extend(used);
    }
    edges
}

#[test]
fn each_room_uses_exactly_the_rooms_in_the_list() {
    let told: BTreeMap<String, BTreeSet<String>> =
        EDGES.iter().map(|(room, used)| ((*room).into(), used.split_whitespace().map(String::from).collect())).collect();
    let found = edges();
    let rooms: BTreeSet<_> = found.keys().chain(told.keys()).collect();
    for room in rooms {
        assert_eq!(found.get(room), told.get(room), "what {room} uses, and what tests/unit/house/layers.rs says of it");
    }
}

#[test]
fn no_arrow_goes_up() {
    let layer = |room: &str| LAYERS.iter().position(|l| l.split(' ').any(|r| r == room)).expect(room);
    for (room, used) in EDGES {
        for below in used.split_whitespace() {
            assert!(layer(room) < layer(below), "{room} uses {below}, which is not below it");
        }
    }
}

#[test]
fn sibling_folders_of_a_room_do_not_use_each_other_in_a_circle() {
    // Each folder, and the sibling folders that it uses. Files in the folder above belong to all of them.
    let mut used: BTreeMap<Vec<String>, BTreeSet<Vec<String>>> = BTreeMap::new();
    let is_folder = |path: &[String]| top().join("src").join(path.join("/")).is_dir();
    for file in sources().into_iter().filter(|f| ships(f)) {
        let here = module(&file);
        for path in paths(&file) {
            let common = here.iter().zip(&path).take_while(|(a, b)| a == b).count();
            let (Some(own), Some(other)) = (here.get(..=common), path.get(..=common)) else { continue };
            if common > 0 && is_folder(own) && is_folder(other) {
                used.entry(own.to_vec()).or_default().insert(other.to_vec());
            }
        }
    }
    for start in used.keys() {
        let (mut seen, mut next) = (BTreeSet::new(), vec![start]);
        while let Some(folder) = next.pop() {
            for other in used.get(folder).into_iter().flatten() {
                assert_ne!(other, start, "{} leads back to itself by {}", start.join("/"), folder.join("/"));
                if seen.insert(other) {
                    next.push(other);
                }
            }
        }
    }
}

#[test]
fn no_file_is_too_long_and_no_folder_has_too_many_files() {
    let listed = std::process::Command::new("git").arg("-C").arg(top()).args(["ls-files"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    // What a person writes; a fuzz corpus is data.
    let is_code =
        |file: &str| [".rs", ".py", ".sh"].iter().any(|end| file.ends_with(end)) && !file.starts_with("tests/fuzz/corpus/");
    // A file that was just moved is still listed.
    let mut code: BTreeSet<PathBuf> =
        listed.lines().filter(|f| is_code(f)).map(|f| top().join(f)).filter(|f| f.is_file()).collect();
    assert!(code.iter().filter(|f| f.starts_with(top().join("tests"))).count() > 100, "git lists no tests");
    code.extend(sources());
    let long: Vec<String> = code
        .iter()
        .map(|file| (fs::read_to_string(file).unwrap().lines().count(), file))
        .filter(|(lines, _)| *lines > LINES)
        .map(|(lines, file)| format!("{}: {lines} lines", file.display()))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
    let mut folders: BTreeMap<&Path, usize> = BTreeMap::new();
    for file in listed.lines().map(Path::new) {
        *folders.entry(file.parent().unwrap()).or_default() += 1;
    }
    // Exceptions: the top has files where tools look for them, as has the folder of fuzz targets; a guest's files are where the guest has
    // them.
    let data = |dir: &Path| dir == Path::new("") || dir.starts_with("tests/fuzz") || dir.starts_with("tests/vm/guest");
    for (dir, files) in folders.into_iter().filter(|(dir, _)| !data(dir)) {
        assert!(files <= FILES, "{}: {files} files", dir.display());
    }
}

#[test]
fn the_drawing_of_the_layers_matches_the_list() {
    let text = fs::read_to_string(top().join("ARCHITECTURE.md")).unwrap();
    let drawn = text.split_once("<!-- layers -->").and_then(|(_, rest)| rest.split_once("<!-- /layers -->")).unwrap().0;
    let drawn: Vec<String> = drawn
        .lines()
        .filter(|l| !l.trim().is_empty() && !l.starts_with("```"))
        .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(drawn, LAYERS);
}
