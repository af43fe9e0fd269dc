//! Checks the manual page vfguard-recipes(5) and the packaged example with the parser.

use super::super::*;
use super::*;

/// The examples of the manual page, in order.
fn examples() -> Vec<String> {
    let page = include_str!("../../../../packaging/man/vfguard-recipes.5");
    page.split("\n.nf\n").skip(1).map(|after| after.split("\n.fi").next().unwrap().to_owned()).collect()
}

#[test]
fn each_example_of_the_manual_page_is_accepted() {
    let examples = examples();
    let whole = &examples[0];
    Recipe::parse(whole, Path::new("x.toml")).unwrap();
    for key in &examples[1..] {
        let name = key.split(' ').next().unwrap();
        let (head, release) = whole.split_once("\n[[releases]]\n").unwrap();
        let without = |text: &str| {
            let lines = text.lines().filter(|line| !line.starts_with(&format!("{name} =")));
            lines.map(|line| format!("{line}\n")).collect::<String>()
        };
        let of_a_release = ["urls", "kernels", "fallback"].contains(&name);
        let (head, release) = if of_a_release {
            (head.to_owned(), format!("{}{key}\n", without(release)))
        } else {
            (format!("{}{key}\n", without(head)), release.to_owned())
        };
        Recipe::parse(&format!("{head}[[releases]]\n{release}"), Path::new("x.toml"))
            .unwrap_or_else(|e| panic!("{key}: {e:#}"));
    }
    assert!(examples.len() > 10, "{examples:?}");
}

#[test]
fn the_manual_page_describes_every_key() {
    let page = include_str!("../../../../packaging/man/vfguard-recipes.5");
    let recipe = toml::Value::try_from(ixgbevf()).unwrap();
    let release = &recipe["releases"][0];
    for key in recipe.as_table().unwrap().keys().chain(release.as_table().unwrap().keys()) {
        assert!(page.contains(&format!("\n.B {key}\n")), "{key} is not described");
    }
}

#[test]
fn the_packaged_example_is_a_valid_recipe() {
    let recipe = Recipe::parse(include_str!("../../../../packaging/examples/gve.toml"), Path::new("gve.toml")).unwrap();
    assert_eq!((recipe.prepare.len(), recipe.directory.as_str()), (4, "build"));
}
