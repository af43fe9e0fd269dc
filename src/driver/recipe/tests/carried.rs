//! The recipes that the binary carries.

use super::super::load::BUILT_IN;
use super::super::*;
use super::*;

#[path = "../../../../build.rs"]
#[allow(dead_code)] // main() of the included file
mod build;

#[test]
fn the_users_own_kernel_selects_2_14_2() {
    assert_eq!(versions(&ixgbevf(), "2.6.32-431.20.3.el6.x86_64")[0], "2.14.2");
}

#[test]
fn a_modern_kernel_selects_5_3_36_and_falls_back_to_the_release_before_it() {
    for release in ["5.10.0-30-amd64", "5.14.0-503.el9.x86_64", "6.12.117+deb13-amd64", "7.3.0-1", "99.0"] {
        assert_eq!(versions(&ixgbevf(), release)[..2], ["5.3.36", "5.2.2"], "{release}");
    }
    assert_eq!(versions(&ixgbevf(), "6.12.117+deb13-amd64").len(), 2, "4.18.9 fails on 6.12");
}

/// For each kernel, with its Enterprise Linux release if it has one: the releases that are tried, in order. These are what
/// the comments of the recipe and docs/support.md say was run.
#[test]
fn each_kernel_gets_the_release_of_its_time_first_and_never_one_known_to_fail() {
    for (release, el, want) in [
        ("2.6.32-431.20.3.el6.x86_64", Some("el6_5"), "2.14.2 2.16.4 3.1.2 3.2.2 3.3.2 4.3.4 4.6.1 4.6.3"),
        ("2.6.32-642.6.2.el6.x86_64", Some("el6_8"), "3.2.2 3.3.2 4.3.4 4.6.1 4.6.3"),
        ("2.6.32-754.35.1.el6.x86_64", Some("el6_10"), "4.6.1 4.6.3 4.3.4 3.3.2 3.2.2"),
        ("3.2.0-4-amd64", None, "2.16.4 3.1.2 3.2.2 3.3.2 4.3.4 4.6.1 4.6.3"),
        ("3.10.0-514.el7.x86_64", Some("el7_3"), "4.6.3 4.18.7 4.18.9 4.6.1"),
        ("3.10.0-1160.119.1.el7.x86_64", Some("el7_9"), "4.18.7 4.18.9 4.6.3 4.6.1"),
        ("3.13.0-170-generic", None, "3.1.2 3.2.2 3.3.2 4.3.4 4.6.1 4.6.3 4.18.7 4.18.9 2.16.4"),
        ("4.4.0-1128-aws", None, "3.2.2 3.3.2 4.3.4 4.6.1 4.6.3 4.18.7 4.18.9"),
        ("4.9.0-19-amd64", None, "3.3.2 4.3.4 4.6.1 4.6.3 4.18.7 4.18.9"),
        ("4.14.355-275.572.amzn2.x86_64", None, "4.3.4 4.6.1 4.6.3 4.18.7 4.18.9 5.2.2 5.3.36"),
        ("4.18.0-147.5.1.el8_1.x86_64", Some("el8_1"), "4.18.7 4.18.9 5.2.2 5.3.36 4.6.3"),
        ("4.18.0-477.27.2.el8_8.x86_64", Some("el8_8"), "4.18.7 4.18.9 5.2.2 5.3.36"),
        ("4.18.0-513.5.1.el8_9.x86_64", Some("el8_9"), "4.18.9 5.2.2 5.3.36 4.18.7"),
        ("4.18.0-553.el8_10.x86_64", Some("el8_10"), "4.18.9 5.2.2 5.3.36 4.18.7"),
        ("5.4.0-1103-aws", None, "4.18.7 4.18.9 5.2.2 5.3.36"),
        ("5.14.0-427.el9_4.x86_64", Some("el9_4"), "5.3.36 5.2.2"),
        ("6.12.0-55.el10_0.x86_64", Some("el10_0"), "5.3.36 5.2.2"),
    ] {
        assert_eq!(versions_on(&ixgbevf(), release, el).join(" "), want, "{release}");
    }
}

#[test]
fn without_headers_a_kernel_still_has_a_first_choice() {
    for (release, want) in [
        ("2.6.18-398.el5", "2.14.2"),
        ("2.6.32-754.el6", "2.14.2"),
        ("3.10.0-1160.el7", "4.6.3"),
        ("4.18.0-553.el8", "4.18.7"),
    ] {
        assert_eq!(versions(&ixgbevf(), release)[0], want, "{release}");
    }
}

#[test]
fn the_built_in_recipe_pins_twelve_releases() {
    let recipe = ixgbevf();
    let mut pins: Vec<_> = recipe.releases.iter().map(|r| r.sha256.to_string()).collect();
    pins.sort();
    pins.dedup();
    assert_eq!((recipe.releases.len(), pins.len()), (12, 12));
}

#[test]
fn intels_releases_that_name_the_wrong_symbol_are_built_with_the_right_one() {
    for version in ["3.2.2", "3.3.2", "4.3.4"] {
        assert_eq!(ixgbevf().release(version).unwrap().make, ["CONFIG_IXGBE=m"], "{version}");
    }
}

#[test]
fn ena_iavf_and_igbvf_have_releases_where_their_vendors_have_them() {
    for (driver, release, want) in [
        ("ena", "2.6.32-754.35.1.el6.x86_64", "2.8.9"),
        ("ena", "4.14.355-275.572.amzn2.x86_64", "2.17.0 2.16.1 2.8.9"),
        ("ena", "6.12.117+deb13-amd64", "2.17.0 2.16.1"),
        ("iavf", "3.10.0-1160.el7.x86_64", "4.12.6"),
        ("iavf", "6.1.0-57-amd64", "4.13.27 4.13.35 4.12.6"),
        ("igbvf", "2.6.32-754.35.1.el6.x86_64", "2.3.7.1"),
        ("igbvf", "6.1.0-57-amd64", ""),
    ] {
        assert_eq!(versions(&carried(driver), release).join(" "), want, "{driver} {release}");
    }
    let ena = carried("ena");
    assert_eq!(ena.release_of_module("2.17.0g").map(|r| r.version.as_str()), Some("2.17.0"));
    assert_eq!(ena.release_named("amzn-drivers-ena_linux_2.17.0").map(|r| r.version.as_str()), Some("2.17.0"));
    for (driver, id) in
        [("ena", "pci:v00001D0Fd0000EC20"), ("iavf", "pci:v00008086d00001889"), ("igbvf", "pci:v00008086d00001520")]
    {
        let claims = |name: &str| carried(name).claims(&format!("{id}sv00000000sd00000000bc02sc00i00"));
        let claiming: Vec<&str> = ["ena", "iavf", "igbvf", "ixgbevf"].into_iter().filter(|name| claims(name)).collect();
        assert_eq!(claiming, [driver]);
    }
}

#[test]
fn the_recipe_claims_intels_virtual_functions_and_nothing_else() {
    let r = ixgbevf();
    let alias = |id: &str| format!("pci:v00008086d0000{id}sv00008086sd00000001bc02sc00i00");
    for id in ["10ED", "152E", "1515", "1530", "1564", "1565", "15A8", "15A9", "15C5", "15B4", "57AD"] {
        assert!(r.claims(&alias(id)), "{id}");
    }
    assert!(!r.claims(&alias("10FB")) && !r.claims("pci:v00001D0Fd0000EC20sv*") && !r.claims(""));
}

#[test]
fn make_variables_are_filled_in_and_a_releases_own_follow() {
    let mut r = ixgbevf();
    r.releases[0].make = vec!["X=1".into(), "HOSTCC={compiler}".into()];
    let kernel = kernel("6.1.0-9");
    let tree = Filling { kernel: &kernel, source: Path::new("/s"), build: Path::new("/b"), compiler: "gcc-12" };
    let args = r.make_args(r.releases.first(), &tree);
    assert_eq!(args, ["BUILD_KERNEL=6.1.0-9", "KSRC=/s", "KOBJ=/b", "X=1", "HOSTCC=gcc-12"]);
}

#[test]
fn every_recipe_of_the_packages_is_in_the_binary() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/drivers.d");
    let mut files: Vec<String> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    let carried: Vec<&str> = BUILT_IN.iter().map(|(file, _)| *file).collect();
    assert_eq!(files, carried);
    for (file, recipe) in carried.iter().zip(load::built_in().unwrap()) {
        assert_eq!(format!("{}.toml", recipe.name), *file);
        assert!(recipe.releases.iter().flat_map(|r| &r.urls).all(|u| u.starts_with("https://")), "{file}");
    }
}

#[test]
fn build_rs_lists_recipes_by_name_in_any_order_of_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = ('a'..='p').map(|c| format!("{c}.toml")).collect();
    for name in names.iter().map(String::as_str).chain([".q.toml", "q.toml~", "README"]) {
        fs::write(dir.path().join(name), "").unwrap();
    }
    let list = build::recipes(dir.path()).unwrap();
    let listed: Vec<&str> = list.lines().filter_map(|line| line.split('"').nth(1)).collect();
    assert_eq!(listed, names);
    assert!(!list.contains(env!("CARGO_MANIFEST_DIR")), "{list}");
}

#[test]
fn the_packages_take_every_recipe_file() {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
    for script in ["vfguard.spec", "build-deb.sh"] {
        let text = fs::read_to_string(packaging.join(script)).unwrap();
        assert!(
            text.contains("for recipe in drivers.d/*.toml; do put 644 \"$recipe\" \"/usr/lib/vfguard/$recipe\"; done"),
            "{script}"
        );
    }
}
