//! What a failed build says about the recipe: the key to correct, and the file that it is in.

use super::log::Log;
use super::remedy::Subject;
use super::{Failure, MAX_DEPTH};
use crate::driver::recipe;
use crate::finding::{Fact, Finding};
use crate::host::command::Spec;
use std::fs;
use std::path::Path;

/// What to do about a wrong key of a recipe, with the file to write it into.
pub(in crate::driver) fn correct(host: &crate::host::Host, name: &str, what: &str) -> String {
    let own = format!("/etc/vfguard/drivers.d/{name}.toml");
    match recipe::file_of(host, name) {
        Some(file) if file.starts_with("/etc") => format!("{what} in {}", file.display()),
        Some(file) => format!("cp {} {own}; {what} in the copy", file.display()),
        None => format!("{what} in a recipe of your own, {own}"),
    }
}

fn failure(on: Subject<'_>, detail: &str, what: &str, lasts: bool, log: &Log) -> Failure {
    let remedy = correct(on.host, &on.recipe.name, what);
    let finding = Finding::new(Fact::BuildFailed, format!("{detail} ({})", log.mention()), remedy);
    Failure { finding, try_another: true, lasts }
}

/// The recipe's step before make names something that cannot be started as a program.
pub(super) fn not_started(on: Subject<'_>, step: &Spec, error: &anyhow::Error, log: &Log) -> Failure {
    let program = step.program.to_string_lossy();
    let why = error.root_cause();
    if program.contains('/') {
        let detail = format!("`prepare` names {program}, which cannot be started ({why}): it is not in the archive, not executable, or its interpreter is missing");
        return failure(on, &detail, "correct `prepare`", true, log);
    }
    let detail = format!("`prepare` names {program}, which cannot be started ({why})");
    failure(on, &detail, &format!("install {program}, or correct `prepare`"), false, log)
}

/// The step before make ended with an error.
pub(super) fn step_failed(on: Subject<'_>, step: &Spec, line: &str, log: &Log) -> Failure {
    let said = if line.starts_with("vfguard: ") { String::new() } else { format!(": {line}") };
    let detail = format!("`{}`, which `prepare` names, ended with an error{said}", step.line());
    failure(on, &detail, "correct `prepare`", true, log)
}

/// The step before make did not create the directory that make runs in.
pub(super) fn no_directory(on: Subject<'_>, log: &Log) -> Failure {
    let detail = format!("`prepare` left no directory {}, where make is to run", on.recipe.directory);
    failure(on, &detail, "correct `prepare` or `directory`", true, log)
}

/// The makefile looks for another kernel's tree than the one given to it, or it is not where make runs. `line` shows which.
pub(super) fn of_make(on: Subject<'_>, line: &str, log: &Log) -> Option<Failure> {
    if line.contains("no makefile found") {
        let detail = format!("there is no makefile in `directory`, {}", on.recipe.directory);
        return Some(failure(on, &detail, "correct `directory`", true, log));
    }
    let of_another = |dir: &str| {
        let (_, rest) = line.split_once(dir)?;
        let release = rest.split(['/', ' ', ':', '\'', '"']).next().filter(|r| !r.is_empty())?;
        (release != on.tree.release.as_str() && release.starts_with(|c: char| c.is_ascii_digit()))
            .then(|| release.to_owned())
    };
    let other = of_another("/lib/modules/")?;
    let detail = format!("the makefile looked for the tree of {other}, not of {}: {line}", on.tree.release);
    let what = "set `make` to the variable that this makefile knows, such as make = [\"KDIR={build}\"],";
    Some(failure(on, &detail, what, true, log))
}

/// Modules that make built but the recipe does not name.
pub(super) fn unlisted(on: Subject<'_>, dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut todo = vec![(dir.to_owned(), 0)];
    while let Some((dir, depth)) = todo.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth < MAX_DEPTH => todo.push((entry.path(), depth + 1)),
                Ok(kind) if kind.is_file() => {
                    found.extend(entry.file_name().to_string_lossy().strip_suffix(".ko").map(str::to_owned));
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
    let plain = |name: &str| name.replace('-', "_");
    found.retain(|name| !on.recipe.all_modules().any(|own| plain(own) == plain(name)));
    found.sort();
    found.dedup();
    found
}

/// Make built modules, but not the one that the recipe names.
pub(super) fn other_modules(on: Subject<'_>, missing: &str, built: &[String], log: &Log) -> Failure {
    let built: Vec<String> = built.iter().map(|name| format!("{name}.ko")).collect();
    let detail = format!("make built {} and no {missing}.ko", built.join(", "));
    failure(on, &detail, "correct `modules` (the driver's first)", true, log)
}
