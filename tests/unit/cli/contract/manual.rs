//! The manual page lists what there is.

use super::*;

#[test]
fn the_manual_lists_every_finding_code_and_every_setting() {
    let page = Machine::new().run(&["man"]).stdout.replace('\\', "");
    let codes = include_str!("../../../../src/finding/code.rs");
    let codes = codes.split("pub enum Code {").nth(1).unwrap().split('}').next().unwrap();
    for variant in codes.lines().map(str::trim).filter(|l| l.ends_with(',')) {
        let kebab: String = variant
            .trim_end_matches(',')
            .chars()
            .flat_map(|c| if c.is_uppercase() { vec!['-', c.to_ascii_lowercase()] } else { vec![c] })
            .collect();
        assert!(page.contains(kebab.trim_start_matches('-')), "the manual does not know {kebab}");
    }
    for setting in ["accept_in_tree", "drivers.required", "fetch.mirrors", "build.user", "boot.loader", "gate.poweroff"] {
        assert!(page.contains(setting), "the manual does not know {setting}");
    }
}

#[test]
fn the_manual_lists_every_recipe_of_the_packages() {
    let page = Machine::new().run(&["man"]).stdout;
    let section = page.split("\n.SH RECIPES\n").nth(1).unwrap().split("\n.SH ").next().unwrap();
    let listed: Vec<&str> = section.split("\n.TP\n").skip(1).map(|entry| entry.lines().next().unwrap()).collect();
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/drivers.d");
    let names =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned());
    let mut want: Vec<String> = names.map(|name| format!("\\fB{name}\\fR")).collect();
    want.sort();
    assert_eq!(listed, want);
}
