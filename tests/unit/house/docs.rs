//! The pages for contributors name files, functions and words of the code. All of them must exist.

use std::fs;
use std::path::{Path, PathBuf};

const PAGES: [&str; 12] = [
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "docs/configuration.md",
    "docs/glossary.md",
    "docs/install.md",
    "docs/operations.md",
    "docs/releasing.md",
    "docs/states.md",
    "tests/README.md",
    "tests/cases/README.md",
];

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(top().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The words between backticks on one line, without those in code blocks.
fn code_words(page: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut in_block = false;
    for line in page.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            words.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    words
}

/// The file of the longest beginning of `path` that is a module, and the rest of the path.
fn module_of<'p>(path: &'p [&'p str]) -> Option<(PathBuf, &'p [&'p str])> {
    (1..path.len()).rev().find_map(|end| {
        let place = top().join("src").join(path[..end].join("/"));
        let files = [place.with_extension("rs"), place.join("mod.rs")];
        files.into_iter().find(|file| file.is_file()).map(|file| (file, &path[end..]))
    })
}

#[test]
fn each_file_that_a_page_names_exists() {
    let mut missing = Vec::new();
    for page in PAGES {
        for word in code_words(&read(page)) {
            let name = word.split([' ', '*', '[']).next().unwrap();
            let is_path = ["src/", "tests/", "packaging/", "docs/"].iter().any(|dir| name.starts_with(dir));
            let is_template = name.contains(['…', '<']) || name.split(['/', '.']).any(|part| part == "NAME");
            if is_path && !is_template && !top().join(name).exists() {
                missing.push(format!("{page}: {word}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn each_source_file_that_any_file_names_exists() {
    let listed = std::process::Command::new("git").arg("-C").arg(top()).args(["ls-files", "-z"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let mut missing = Vec::new();
    let mut found = 0;
    // That page names files of other projects.
    let is_ours = |file: &&str| *file != "docs/comparison.md" && top().join(file).is_file();
    for file in listed.split_terminator('\0').filter(is_ours) {
        let text = fs::read(top().join(file)).unwrap();
        let text = String::from_utf8_lossy(&text);
        for (at, _) in text.match_indices("src/") {
            let end =
                text[at..].find(|c: char| !(c.is_ascii_alphanumeric() || "/_.".contains(c))).map_or(text.len(), |n| at + n);
            let name = text[at..end].trim_end_matches('.');
            let is_ours = !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || "/_-.{}$".contains(c));
            if is_ours && name.ends_with(".rs") && !name.contains("NAME") {
                found += 1;
                if !top().join(name).exists() {
                    missing.push(format!("{file}: {name}"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(found > 50, "only {found} names");
}

#[test]
fn each_item_of_a_type_that_a_page_names_exists() {
    let mut source = String::new();
    sources(&top().join("src"), &mut source);
    let has = |before: &str, name: &str| {
        source
            .match_indices(&format!("{before}{name}"))
            .any(|(at, m)| !source[at + m.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    };
    let mut missing = Vec::new();
    for page in PAGES {
        for word in code_words(&read(page)) {
            let Some((kind, item)) = word.split_once("::") else { continue };
            let item = item.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
            let is_type = kind.starts_with(char::is_uppercase) && kind.chars().all(char::is_alphanumeric);
            if is_type && item != "NAME" {
                let declared = ["struct ", "enum ", "trait "].iter().any(|decl| has(decl, kind));
                if !declared || !["fn ", "const ", "    "].iter().any(|decl| has(decl, item)) {
                    missing.push(format!("{page}: {word}"));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn each_function_and_type_that_a_page_names_exists() {
    let mut missing = Vec::new();
    let mut found = 0;
    for page in PAGES {
        for word in code_words(&read(page)) {
            let path: Vec<&str> = word.split("::").collect();
            if path.len() < 2 || !top().join("src").join(path[0]).exists() {
                continue;
            }
            found += 1;
            let name = path.last().unwrap();
            let is_defined = |file: &Path| {
                let text = fs::read_to_string(file).unwrap();
                ["fn", "struct", "enum", "trait", "const", "mod"].iter().any(|kind| {
                    text.match_indices(&format!("{kind} {name}"))
                        .any(|(at, m)| !text[at + m.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_'))
                })
            };
            if !module_of(&path).is_some_and(|(file, _)| is_defined(&file)) {
                missing.push(format!("{page}: {word}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(found > 20, "only {found} names");
}

fn sources(dir: &Path, text: &mut String) {
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            sources(&entry, text);
        } else if entry.extension().is_some_and(|ending| ending == "rs") {
            *text += &fs::read_to_string(&entry).unwrap();
        }
    }
}

/// The last column of the glossary's tables has the word that the code uses.
#[test]
fn each_code_word_of_the_glossary_occurs_in_the_code() {
    let mut code = String::new();
    sources(&top().join("src"), &mut code);
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let occurs = |word: &str| {
        code.match_indices(word)
            .any(|(at, _)| !code[..at].ends_with(is_word) && !code[at + word.len()..].starts_with(is_word))
    };
    let glossary = read("docs/glossary.md");
    let rows = glossary.lines().filter(|line| line.starts_with('|') && !line.starts_with("|---"));
    let words: Vec<String> =
        rows.flat_map(|row| code_words(row.trim_end_matches('|').rsplit('|').next().unwrap())).collect();
    let unknown: Vec<&String> = words.iter().filter(|word| !occurs(word)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    assert!(words.len() > 20, "only {} words", words.len());
}

/// The keys of the tables in src/config/mod.rs, each as `table.key`.
fn settings() -> Vec<String> {
    let mut keys = Vec::new();
    let mut table = None;
    for line in read("src/config/mod.rs").lines() {
        if let Some(name) = line.strip_prefix("/// `[").and_then(|rest| rest.strip_suffix("]`")) {
            table = Some(name.to_owned());
        } else if line == "}" {
            table = None;
        } else if let (Some(table), Some(field)) = (&table, line.strip_prefix("    pub ")) {
            keys.extend(field.split_once(": ").map(|(key, _)| format!("{table}.{key}")));
        }
    }
    keys
}

#[test]
fn each_setting_is_on_the_page_about_the_configuration() {
    let page = read("docs/configuration.md");
    let keys = settings();
    assert!(keys.len() > 15, "only {keys:?}");
    let tables: Vec<&str> = keys.iter().filter_map(|key| key.split_once('.').map(|(table, _)| table)).collect();
    // The packaged file names keys in its comments.
    let packaged = read("packaging/config.toml");
    let named = packaged
        .split(|c: char| !(c.is_ascii_lowercase() || c == '_' || c == '.'))
        .filter(|word| word.split_once('.').is_some_and(|(table, key)| tables.contains(&table) && !key.is_empty()))
        .map(str::to_owned);
    let missing: Vec<String> = ["mode".to_owned(), "accept_in_tree".to_owned()]
        .into_iter()
        .chain(keys.iter().cloned())
        .chain(named)
        .filter(|key| !page.contains(&format!("| `{key}` |")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
