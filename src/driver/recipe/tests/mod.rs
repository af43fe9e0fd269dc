use super::*;
use crate::host::Host;
use crate::kernel::ElRelease;
use std::fs;
use std::os::unix::fs::PermissionsExt;

mod carried;
mod manual;

const SHA: &str = "54d38e23d4d7dd3e8a058ea36250f10fe6865f399d28e6213fa2f74c3e2f19d5";

fn kernel(release: &str) -> KernelRelease {
    release.parse().unwrap()
}

/// A recipe that the binary contains, by name.
fn carried(name: &str) -> Recipe {
    load::built_in().unwrap().into_iter().find(|recipe| recipe.name == name).unwrap()
}

fn ixgbevf() -> Recipe {
    carried("ixgbevf")
}

/// A recipe whose releases are given as (version, range, fallback).
fn recipe(releases: &[(&str, &str, bool)]) -> Result<Recipe> {
    let mut text = String::from("name = 'x'\ndevices = ['pci:v00001234d*']\n");
    for (version, kernels, fallback) in releases {
        text += &format!(
            "[[releases]]\nversion = '{version}'\nurls = ['https://h/x']\nsha256 = '{SHA}'\nkernels = {kernels}\nfallback = {fallback}\n"
        );
    }
    Recipe::parse(&text, Path::new("/etc/vfguard/drivers.d/x.toml"))
}

fn versions(recipe: &Recipe, release: &str) -> Vec<String> {
    versions_on(recipe, release, None)
}

/// The candidates for a kernel with this release of Enterprise Linux in its headers.
fn versions_on(recipe: &Recipe, release: &str, el: Option<&str>) -> Vec<String> {
    let el = el.map(|el| ElRelease::try_from(el.to_owned()).unwrap());
    recipe.candidates(&Numbers::new(&kernel(release), el)).iter().map(|r| r.version.clone()).collect()
}

#[test]
fn the_edges_of_a_range_are_from_inclusive_and_below_exclusive_with_or_without_final_zeros() {
    let r = recipe(&[
        ("1", "{ below = '3.10' }", false),
        ("2", "{ from = '3.10', below = '4' }", true),
        ("3", "{ from = '4.0.0' }", false),
    ]);
    let r = r.unwrap();
    for (release, want) in [
        ("3.9.99", vec!["1", "2"]),
        ("3.10.0-1.el7", vec!["2"]),
        ("3.10", vec!["2"]),
        ("3.19.8", vec!["2"]),
        ("4-rc1", vec!["3"]),
        ("4.0.0", vec!["3"]),
    ] {
        assert_eq!(versions(&r, release), want, "{release}");
    }
}

#[test]
fn a_kernel_of_enterprise_linux_gets_what_its_minor_release_says_first() {
    let r = recipe(&[
        ("1", "[{ below = '4.18' }, { from = 'el8_0', below = 'el8_9' }]", false),
        ("2", "{ from = '4.18', below = '5.0' }", false),
        ("3", "[{ from = 'el8_9', below = 'el9_0' }, { from = '5.0' }]", true),
    ]);
    let r = r.unwrap();
    for (el, want) in [
        (Some("el8_0"), vec!["1", "3"]),
        (Some("el8_8"), vec!["1", "3"]),
        (Some("el8_9"), vec!["3"]),
        (Some("el8_10"), vec!["3"]),
        // Another EL release, or none: the base version counts.
        (Some("el9_0"), vec!["2", "3"]),
        (None, vec!["2", "3"]),
    ] {
        assert_eq!(versions_on(&r, "4.18.0-553.el8_10.x86_64", el), want, "{el:?}");
    }
}

#[test]
fn a_fallback_with_ranges_is_tried_for_these_kernels_only() {
    let text = |fallback: &str| {
        format!(
            "name = 'x'\ndevices = ['pci:v00001234d*']\n\
             [[releases]]\nversion = '1'\nurls = ['https://h/x']\nsha256 = '{SHA}'\nkernels = {{ below = '5' }}\n\
             [[releases]]\nversion = '2'\nurls = ['https://h/x']\nsha256 = '{SHA}'\nkernels = {{ from = '5' }}\nfallback = {fallback}\n"
        )
    };
    for (fallback, release, el, want) in [
        ("true", "2.6.32", None, vec!["1", "2"]),
        ("{ from = '4.14' }", "4.14.1", None, vec!["1", "2"]),
        ("{ from = '4.14' }", "4.13.9", None, vec!["1"]),
        // If there are EL ranges, only they count for EL kernels.
        ("[{ from = '4.14' }, { from = 'el8_0' }]", "4.18.0-80.el8.x86_64", Some("el8_0"), vec!["1", "2"]),
        ("[{ from = '4.14' }, { from = 'el8_2' }]", "4.18.0-80.el8.x86_64", Some("el8_0"), vec!["1"]),
        ("{ from = '4.14' }", "4.18.0-80.el8.x86_64", Some("el8_0"), vec!["1", "2"]),
        ("false", "4.18.0", None, vec!["1"]),
        ("true", "5.0", None, vec!["2"]),
    ] {
        let r = Recipe::parse(&text(fallback), Path::new("x.toml")).unwrap();
        assert_eq!(versions_on(&r, release, el), want, "{fallback} {release} {el:?}");
    }
}

#[test]
fn earlier_releases_follow_later_ones_where_their_fallback_names_the_kernel() {
    let release = |version: &str, kernels: &str, fallback: &str| {
        format!("[[releases]]\nversion = '{version}'\nurls = ['https://h/x']\nsha256 = '{SHA}'\nkernels = {kernels}\nfallback = {fallback}\n")
    };
    let text = [
        "name = 'x'\ndevices = ['pci:v00001234d*']\n".to_owned(),
        release("1", "{ below = '5' }", "true"),
        release("2", "[]", "{ from = '4' }"),
        release("3", "[]", "{ from = '6' }"),
        release("4", "{ from = '5' }", "false"),
        release("5", "[]", "true"),
    ];
    let r = Recipe::parse(&text.concat(), Path::new("x.toml")).unwrap();
    for (kernel, want) in [("3.9", "1 5"), ("4.9", "1 2 5"), ("5.1", "4 5 2"), ("6.1", "4 5 3 2")] {
        assert_eq!(versions(&r, kernel).join(" "), want, "{kernel}");
    }
}

#[test]
fn a_modules_version_and_an_archives_top_directory_identify_the_release() {
    let text = format!(
        "name = 'ena'\ndevices = ['pci:v00001D0Fd*']\nversion_of_module = '{{version}}g'\n\
         [[releases]]\nversion = '2.17.0'\nurls = ['https://h/x.tar.xz']\nsha256 = '{SHA}'\nkernels = {{ from = '5' }}\n\
         [[releases]]\nversion = '7.0'\nurls = ['https://h/x']\nsha256 = '{SHA}'\nkernels = {{ below = '5' }}\nversion_of_module = '7'\n"
    );
    let r = Recipe::parse(&text, Path::new("ena.toml")).unwrap();
    let said: Vec<_> = r.releases.iter().map(|release| r.module_version(release)).collect();
    assert_eq!(said, ["2.17.0g", "7"]);
    for (said, version) in [("2.17.0g", Some("2.17.0")), ("7", Some("7.0")), ("2.17.0", None), ("7.0g", None)] {
        assert_eq!(r.release_of_module(said).map(|r| r.version.as_str()), version, "{said}");
    }
    for (top, version) in [
        ("ena-2.17.0", Some("2.17.0")),
        ("amzn-drivers-ena_linux_2.17.0", Some("2.17.0")),
        ("ethernet-linux-ena-2.17.0", Some("2.17.0")),
        ("ena-v2.17.0", Some("2.17.0")),
        ("ena-12.17.0", None),
        ("2.17.0", None),
        ("ena", None),
    ] {
        assert_eq!(r.release_named(top).map(|r| r.version.as_str()), version, "{top}");
    }
    assert_eq!(
        r.releases.iter().map(|release| r.archive_name(release)).collect::<Vec<_>>(),
        ["ena-2.17.0.tar.xz", "ena-7.0.tar.gz"]
    );
}

#[test]
fn a_kernel_in_no_range_gets_the_fallbacks_of_later_kernels_only() {
    let r = recipe(&[("1", "{ below = '3.0' }", true), ("2", "{ from = '4.0', below = '5.0' }", true)]).unwrap();
    assert_eq!(versions(&r, "3.10.0"), ["2"]);
    assert!(versions(&r, "6.1.0").is_empty());
}

#[test]
fn each_mistake_in_a_recipe_names_the_file_and_the_key() {
    let good = format!(
        "name = 'x'\ndevices = ['pci:v00001234d*']\n[[releases]]\nversion = '1'\nurls = ['https://h/x']\nsha256 = '{SHA}'\n"
    );
    Recipe::parse(&good, Path::new("x.toml")).unwrap();
    let again = format!("{good}[[releases]]\nversion = '2'\nurls = ['https://h/x']\nsha256 = '{SHA}'\n");
    let cases: Vec<(String, &str)> = vec![
        (good.replace("sha256", "#"), "sha256"),
        (good.replace(SHA, "beef"), "64 hexadecimal"),
        (good.replace("name =", "nam ="), "nam"),
        (good.replace("name = 'x'", "name = '../x'"), "name"),
        (good.replace("name = 'x'", "name = '-x'"), "name"),
        (good.replace("version = '1'", "version = '1/2'"), "version"),
        (good.replace("['https://h/x']", "[]"), "urls"),
        (good.replace("https://h/x", "ftp://h/x"), "ftp"),
        (good.replace("https://h/x", "file://host/x"), "urls"),
        (good.replace("https://h/x", "no url"), "urls"),
        (good.replace("['pci:v00001234d*']", "['*']"), "devices"),
        (good.replace("['pci:v00001234d*']", "['pci:*']"), "devices"),
        (good.replace("devices", "#"), "devices"),
        (good.replace("[[releases]]", "directory = '/etc'\n[[releases]]"), "directory"),
        (good.replace("[[releases]]", "directory = 'a/../..'\n[[releases]]"), "directory"),
        (good.replace("[[releases]]", "make = ['-f/etc/shadow']\n[[releases]]"), "make"),
        (good.replace("[[releases]]", "make = ['A=$(shell id)']\n[[releases]]"), "make"),
        (good.replace("[[releases]]", "modules = ['a/b']\n[[releases]]"), "modules"),
        (format!("{good}make = ['--eval=x']"), "make"),
        (format!("{good}kernels = {{ from = '5', below = '5.0' }}"), "kernels"),
        (format!("{good}kernels = {{ from = 'five' }}"), "base version"),
        (format!("{good}kernels = {{ to = '5' }}"), "to"),
        (again.clone(), "overlaps"),
        (again.replace("version = '2'", "version = '1'"), "twice"),
        ("name = 'x'\ndevices = ['pci:v00001234d*']\nreleases = []".into(), "releases"),
        (good.replace("['pci:v00001234d*']", "[]"), "such as pci:v00008086d000010EDsv*"),
        (good.replace("['pci:v00001234d*']", "['1234:d0f0']"), "write \"pci:v00001234d0000D0F0sv*sd*bc*sc*i*\""),
        (
            good.replace("[[releases]]", "make = ['KSRC={src}']\n[[releases]]"),
            "only {kernel}, {source}, {build}, {compiler} are filled in",
        ),
        (good.replace("[[releases]]", "prepare = ['/bin/sh']\n[[releases]]"), "prepare"),
        (good.replace("[[releases]]", "prepare = ['../x']\n[[releases]]"), "prepare"),
        (good.replace("[[releases]]", "prepare = ['./x', '{kernal}']\n[[releases]]"), "{kernel}"),
        (good.replace("[[releases]]", "optional = ['a b']\n[[releases]]"), "optional"),
        (good.replace("[[releases]]", "optional = ['x']\n[[releases]]"), "twice"),
        (good.replace("[[releases]]", "symvers = ['Module.symvers']\n[[releases]]"), "absolute"),
        (good.replace("[[releases]]", "symvers = ['/a/{source}/x']\n[[releases]]"), "{kernel}"),
        (good.replace("[[releases]]", "version_of_module = '{v}'\n[[releases]]"), "version_of_module"),
        (format!("{good}kernels = []"), "set `fallback`"),
        (format!("{good}kernels = []\nfallback = []"), "set `fallback`"),
        (good.replace("[[releases]]", "modules = ['x.ko']\n[[releases]]"), "write the module's, \"x\""),
        (good.replace("https://h/x", "https://h/x-1.zip"), "vfguard reads .tar.gz, .tar.xz and .tar"),
        (format!("{good}directory = 'src'"), "directory is a key of the recipe: move it above"),
        (format!("{good}kernels = ['5']"), "a range such as"),
        (format!("{good}kernels = '5'"), "a range such as"),
        (format!("{good}kernels = {{ from = 'el8_9', below = '5' }}"), "both"),
        (format!("{good}kernels = {{ from = 'el8_9', below = 'el8_9' }}"), "below"),
        (format!("{good}kernels = {{ from = 'el8.9' }}"), "such as el8_9"),
        (format!("{good}fallback = 'yes'"), "true, false, a range"),
        ("name = ".into(), "x.toml"),
    ];
    for (text, word) in cases {
        let error = Recipe::parse(&text, Path::new("/etc/x.toml")).unwrap_err();
        let shown = format!("{error:#}");
        assert!(shown.contains("/etc/x.toml") && shown.contains(word), "{word}: {shown}\n{text}");
        assert!(crate::error::remedy(&error).is_some());
    }
}

#[test]
fn touching_ranges_are_fine_and_overlapping_ones_are_not() {
    assert!(recipe(&[("1", "{ below = '3' }", false), ("2", "{ from = '3.0' }", false)]).is_ok());
    // Base versions and EL releases never overlap.
    assert!(recipe(&[("1", "{}", false), ("2", "{ from = 'el8_9' }", false)]).is_ok());
    for (a, b) in [
        ("{}", "{}"),
        ("{ below = '3.1' }", "{ from = '3' }"),
        ("{ from = '2', below = '9' }", "{ from = '4', below = '5' }"),
        ("{ from = 'el8_1' }", "{ from = 'el9_0' }"),
        ("[{ below = '3' }, { from = '4', below = '5' }]", "[{ from = '3', below = '4' }, { from = '4.9' }]"),
    ] {
        assert!(recipe(&[("1", a, false), ("2", b, false)]).is_err(), "{a} {b}");
        assert!(recipe(&[("1", b, false), ("2", a, false)]).is_err(), "{b} {a}");
    }
}

fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }
    let host = Host::new(dir.path()).unwrap();
    (dir, host)
}

fn one(name: &str, version: &str) -> String {
    format!("name = '{name}'\ndevices = ['pci:v0000123*']\n[[releases]]\nversion = '{version}'\nurls = ['file:///x']\nsha256 = '{SHA}'\n")
}

#[test]
fn etc_wins_over_usr_and_both_over_the_built_in_recipe() {
    let (_dir, none) = host(&[]);
    let names = |recipes: Vec<Recipe>| recipes.into_iter().map(|r| r.name).collect::<Vec<_>>();
    let carried = names(recipes(&none).unwrap());
    assert!(
        carried.iter().is_sorted()
            && ["ena", "iavf", "igbvf", "ixgbevf"].iter().all(|name| carried.contains(&(*name).into()))
    );
    let (_dir, host) = host(&[
        ("usr/lib/vfguard/drivers.d/any.toml", &one("ixgbevf", "usr")),
        ("usr/lib/vfguard/drivers.d/igbvf.toml", &one("igbvf", "usr")),
        ("etc/vfguard/drivers.d/other.toml", &one("ixgbevf", "etc")),
        ("etc/vfguard/drivers.d/other.toml.rpmsave", "not read"),
    ]);
    let found = recipes(&host).unwrap();
    let found: Vec<_> = found.iter().map(|r| (r.name.as_str(), r.releases[0].version.as_str(), r.module())).collect();
    // Those of /etc come first, so they count if a built-in recipe claims the same device under another name.
    assert_eq!([found[0], found[3]], [("ixgbevf", "etc", "ixgbevf"), ("igbvf", "usr", "igbvf")]);
}

#[test]
fn one_name_twice_in_a_directory_and_a_recipe_that_others_may_write_are_refused() {
    let (_dir, twice) =
        host(&[("etc/vfguard/drivers.d/a.toml", &one("x", "1")), ("etc/vfguard/drivers.d/b.toml", &one("x", "2"))]);
    assert!(format!("{:#}", recipes(&twice).unwrap_err()).contains("b.toml"));
    let (dir, open) = host(&[("etc/vfguard/drivers.d/a.toml", &one("x", "1"))]);
    fs::set_permissions(dir.path().join("etc/vfguard/drivers.d/a.toml"), fs::Permissions::from_mode(0o646)).unwrap();
    assert!(format!("{:#}", recipes(&open).unwrap_err()).contains("written by others"));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,200}") {
        let _ = Recipe::parse(&text, Path::new("x.toml"));
    }

    #[test]
    fn no_field_makes_the_parser_panic(
        name in "\\PC{0,12}", version in "\\PC{0,12}", device in "\\PC{0,12}", from in "[0-9.]{0,12}", url in "\\PC{0,20}"
    ) {
        let q = |s: &str| toml::Value::String(s.to_owned()).to_string();
        let text = format!(
            "name = {}\ndevices = [{}]\n[[releases]]\nversion = {}\nurls = [{}]\nsha256 = '{SHA}'\nkernels = {{ from = {} }}\n",
            q(&name), q(&device), q(&version), q(&url), q(&from)
        );
        if let Ok(recipe) = Recipe::parse(&text, Path::new("x.toml")) {
            assert!(!recipe.archive_name(&recipe.releases[0]).contains('/'));
        }
    }
}

#[test]
fn numbers_of_a_kernel_range_are_bounded_and_the_error_states_the_bound() {
    for good in ["0", "1", "65535", "2.6.32.71", "65535.65535.65535.65535"] {
        for key in ["from", "below"] {
            let range =
                if good == "0" && key == "below" { "{ below = '1' }".into() } else { format!("{{ {key} = '{good}' }}") };
            recipe(&[("1", &range, false)]).unwrap_or_else(|e| panic!("{range}: {e:#}"));
        }
    }
    let most = u64::MAX.to_string();
    for wrong in [
        "'65536'",
        "'-1'",
        "'+1'",
        "''",
        "'1.'",
        "'.1'",
        "'1.5e3'",
        "'1 '",
        "'six'",
        "'1.2.3.4.5'",
        &format!("'{most}.1'"),
        "5.10",
        "5",
        "true",
    ] {
        for key in ["from", "below"] {
            let error = recipe(&[("1", &format!("{{ {key} = {wrong} }}"), false)]).err();
            let error = error.unwrap_or_else(|| panic!("{key} = {wrong} is taken"));
            let text = format!("{error:#}");
            assert!(text.contains(key) && text.contains("/etc/vfguard/drivers.d/x.toml"), "{text}");
            if wrong.starts_with('\'') {
                assert!(text.contains("1 to 4 numbers from 0 to 65535"), "{text}");
            }
            assert!(crate::error::remedy(&error).unwrap().starts_with("mend /etc/vfguard/drivers.d/x.toml"));
        }
    }
}
