//! The manual page: synopsis and options from the command definition, chapters from `packaging/man/chapters.roff`.

use anyhow::{Context, Result};
use clap_mangen::{roff, Man};

/// The chapters that the command definition cannot provide: findings, policy, files.
const CHAPTERS: &str = include_str!("../../packaging/man/chapters.roff");

/// The line of the chapters that the list of recipes replaces.
const RECIPES: &str = ".\\\" Here the program lists its recipes.\n";

/// The page in roff: the program, each verb, then the chapters, with a list of recipes (name and text).
///
/// # Errors
/// Never in practice: writing to memory.
pub fn page(command: &clap::Command, recipes: &[(String, String)]) -> Result<String> {
    let mut command = command.clone();
    command.build();
    let mut page = Vec::new();
    let man = Man::new(command.clone());
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    roff::Roff::new().control("SH", ["VERBS"]).to_writer(&mut page)?;
    for verb in command.get_subcommands().filter(|v| !v.is_hide_set() && v.get_name() != "help") {
        verb_section(verb, verb.get_name(), &mut page)?;
    }
    let (before, after) = CHAPTERS.split_once(RECIPES).context("chapters.roff has no place for the recipes")?;
    page.extend_from_slice(before.as_bytes());
    for (name, text) in recipes {
        let mut entry = roff::Roff::new();
        entry.control("TP", []).text([roff::bold(name)]).text([roff::roman(text)]);
        entry.to_writer(&mut page)?;
    }
    page.extend_from_slice(after.as_bytes());
    Ok(String::from_utf8(page)?)
}

fn verb_section(verb: &clap::Command, name: &str, page: &mut Vec<u8>) -> Result<()> {
    let subverbs: Vec<_> = verb.get_subcommands().filter(|v| v.get_name() != "help").collect();
    for subverb in &subverbs {
        verb_section(subverb, &format!("{name} {}", subverb.get_name()), page)?;
    }
    if !subverbs.is_empty() {
        return Ok(());
    }
    let mut text = roff::Roff::new();
    let usage: Vec<String> = verb
        .get_arguments()
        .filter(|a| !a.is_global_set() && a.get_id() != "help" && a.get_id() != "version")
        .map(|a| a.to_string())
        .map(|a| if a.starts_with('<') || a.starts_with('[') { a } else { format!("[{a}]") })
        .collect();
    text.control("SS", [format!("vfguard {name} {}", usage.join(" ")).trim_end()]);
    if let Some(about) = verb.get_long_about().or(verb.get_about()) {
        text.text([roff::roman(format!("{about}."))]);
    }
    for argument in verb.get_arguments().filter(|a| !a.is_global_set() && a.get_id() != "help") {
        if let Some(help) = argument.get_help() {
            text.control("TP", []);
            text.text([roff::bold(argument.to_string())]);
            text.text([roff::roman(help.to_string())]);
        }
    }
    text.to_writer(page)?;
    Ok(())
}
