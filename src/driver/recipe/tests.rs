use super::load::BUILT_IN;
use super::*;
use crate::host::Host;
use crate::kernel::ElRelease;
use std::fs;
use std::os::unix::fs::PermissionsExt;

const SHA: &str = "54d38e23d4d7dd3e8a058ea36250f10fe6865f399d28e6213fa2f74c3e2f19d5";

fn kernel(release: &str) -> KernelRelease {
    release.parse().unwrap()
}

/// The recipe of a name that the binary carries.
fn carried(name: &str) -> Recipe {
    let (file, text) = BUILT_IN.iter().find(|(file, _)| *file == format!("{name}.toml")).unwrap();
    Recipe::parse(text, Path::new(file)).unwrap()
}

fn built_in() -> Recipe {
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

/// The candidates for a kernel whose headers say this release of Enterprise Linux.
fn versions_on(recipe: &Recipe, release: &str, el: Option<&str>) -> Vec<String> {
    let el = el.map(|el| ElRelease::try_from(el.to_owned()).unwrap());
    recipe.candidates(&Numbers::new(&kernel(release), el)).iter().map(|r| r.version.clone()).collect()
}

#[test]
fn the_users_own_kernel_selects_2_14_2() {
    assert_eq!(versions(&built_in(), "2.6.32-431.20.3.el6.x86_64")[0], "2.14.2");
}

#[test]
fn a_modern_kernel_selects_5_3_36_and_nothing_older() {
    for release in ["5.10.0-30-amd64", "5.14.0-503.el9.x86_64", "6.1.0-9-amd64", "6.12.117+deb13-amd64", "7.3.0-1", "99.0"] {
        assert_eq!(versions(&built_in(), release), ["5.3.36"], "{release}");
    }
}

#[test]
fn every_kernel_has_a_first_choice_and_later_releases_follow_in_order() {
    let recipe = built_in();
    for release in
        ["2.6.18-398.el5", "2.6.32-754.el6", "3.10.0-1160.el7", "3.13.0-24-generic", "4.4.0", "4.18.0-553.el8", "5.4.0"]
    {
        let found = versions(&recipe, release);
        assert_eq!(found.last().map(String::as_str), Some("5.3.36"), "{release}");
        assert!(found.windows(2).all(|w| rpmvercmp(&w[0], &w[1]).is_lt()), "{release}: {found:?}");
        let first = recipe.release(&found[0]).unwrap();
        assert!(first.kernels.hold(&Numbers::new(&kernel(release), None)), "{release}: {found:?}");
    }
}

#[test]
fn enterprise_and_older_kernels_get_the_release_of_their_time() {
    for (release, want) in [
        ("2.6.32-754.35.1.el6.x86_64", "2.14.2"),
        ("3.2.0-4-amd64", "2.16.4"),
        ("3.10.0-1160.119.1.el7.x86_64", "4.6.3"),
        ("3.13.0-170-generic", "3.1.2"),
        ("4.4.0-1128-aws", "3.2.2"),
        ("4.9.0-19-amd64", "3.3.2"),
        ("4.14.355-275.572.amzn2.x86_64", "4.3.4"),
        ("4.18.0-553.el8_10.x86_64", "4.18.7"),
        ("5.4.0-1103-aws", "4.18.7"),
    ] {
        assert_eq!(versions(&built_in(), release)[0], want, "{release}");
    }
}

#[test]
fn the_built_in_recipe_pins_eleven_releases_over_https_only() {
    let recipe = built_in();
    assert_eq!(recipe.releases.len(), 11);
    assert!(recipe.releases.iter().flat_map(|r| &r.urls).all(|u| u.starts_with("https://")));
    assert!(recipe.releases[1..].iter().all(|r| r.fallback != Fallback::Never));
    let mut pins: Vec<_> = recipe.releases.iter().map(|r| r.sha256.to_string()).collect();
    pins.sort();
    pins.dedup();
    assert_eq!(pins.len(), 11);
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
        // Of another one, or of none: by the base version.
        (Some("el9_0"), vec!["2", "3"]),
        (None, vec!["2", "3"]),
    ] {
        assert_eq!(versions_on(&r, "4.18.0-553.el8_10.x86_64", el), want, "{el:?}");
    }
}

#[test]
fn a_fallback_with_ranges_is_tried_for_these_kernels_alone() {
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
        // Where ranges name Enterprise Linux, they alone count for its kernels.
        ("[{ from = '4.14' }, { from = 'el8_0' }]", "4.18.0-80.el8.x86_64", Some("el8_0"), vec!["1", "2"]),
        ("[{ from = '4.14' }, { from = 'el8_2' }]", "4.18.0-80.el8.x86_64", Some("el8_0"), vec!["1"]),
        ("{ from = '4.14' }", "4.18.0-80.el8.x86_64", Some("el8_0"), vec!["1", "2"]),
        ("false", "4.18.0", None, vec!["1"]),
    ] {
        let r = Recipe::parse(&text(fallback), Path::new("x.toml")).unwrap();
        assert_eq!(versions_on(&r, release, el), want, "{fallback} {release} {el:?}");
    }
}

#[test]
fn the_modules_own_version_and_an_archives_top_directory_lead_to_the_release() {
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
fn the_recipe_claims_intels_virtual_functions_and_nothing_else() {
    let r = built_in();
    let alias = |id: &str| format!("pci:v00008086d0000{id}sv00008086sd00000001bc02sc00i00");
    for id in ["10ED", "152E", "1515", "1530", "1564", "1565", "15A8", "15A9", "15C5", "15B4", "57AD"] {
        assert!(r.claims(&alias(id)), "{id}");
    }
    assert!(!r.claims(&alias("10FB")) && !r.claims("pci:v00001D0Fd0000EC20sv*") && !r.claims(""));
}

#[test]
fn star_and_question_mark_match_as_in_a_shell() {
    for (pattern, text, want) in [
        ("a*c", "abbc", true),
        ("a*c", "abbd", false),
        ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("*", "", true),
        ("a*b*c", "aXbXbc", true),
        ("", "a", false),
    ] {
        assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), want, "{pattern} {text}");
    }
    assert!(!matches("*a".repeat(60).as_bytes(), "b".repeat(4000).as_bytes()), "and without exploding");
}

#[test]
fn make_variables_are_filled_in_and_a_releases_own_follow() {
    let mut r = built_in();
    assert!(r.releases.iter().all(|r| r.make.is_empty() || r.make == ["CFLAGS_EXTRA=-fno-pie"]));
    r.releases[0].make = vec!["X=1".into()];
    let kernel = kernel("6.1.0-9");
    let tree = Filling { kernel: &kernel, source: Path::new("/s"), build: Path::new("/b") };
    let args = r.make_args(r.releases.first(), &tree);
    assert_eq!(args, ["BUILD_KERNEL=6.1.0-9", "KSRC=/s", "KOBJ=/b", "X=1"]);
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
            "only {kernel}, {source}, {build} are filled in",
        ),
        (good.replace("[[releases]]", "prepare = ['/bin/sh']\n[[releases]]"), "prepare"),
        (good.replace("[[releases]]", "prepare = ['../x']\n[[releases]]"), "prepare"),
        (good.replace("[[releases]]", "prepare = ['./x', '{kernal}']\n[[releases]]"), "{kernel}"),
        (good.replace("[[releases]]", "optional = ['a b']\n[[releases]]"), "optional"),
        (good.replace("[[releases]]", "optional = ['x']\n[[releases]]"), "twice"),
        (good.replace("[[releases]]", "symvers = ['Module.symvers']\n[[releases]]"), "absolute"),
        (good.replace("[[releases]]", "symvers = ['/a/{source}/x']\n[[releases]]"), "{kernel}"),
        (good.replace("[[releases]]", "version_of_module = '{v}'\n[[releases]]"), "version_of_module"),
        (format!("{good}kernels = []"), "kernels"),
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
    // Numbers of two kinds never overlap.
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
    assert_eq!(names(recipes(&none).unwrap()), ["ena", "iavf", "igbvf", "ixgbevf"]);
    let (_dir, host) = host(&[
        ("usr/lib/vfguard/drivers.d/any.toml", &one("ixgbevf", "usr")),
        ("usr/lib/vfguard/drivers.d/igbvf.toml", &one("igbvf", "usr")),
        ("etc/vfguard/drivers.d/other.toml", &one("ixgbevf", "etc")),
        ("etc/vfguard/drivers.d/other.toml.rpmsave", "not read"),
    ]);
    let found = recipes(&host).unwrap();
    let found: Vec<_> = found.iter().map(|r| (r.name.as_str(), r.releases[0].version.as_str(), r.module())).collect();
    assert_eq!(found[2..], [("igbvf", "usr", "igbvf"), ("ixgbevf", "etc", "ixgbevf")]);
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
fn numbers_of_a_kernel_range_are_bounded_and_what_is_out_of_them_is_refused_with_the_bounds_and_a_remedy() {
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

/// What is shown as an example in the manual page, in its order.
fn examples() -> Vec<String> {
    let page = include_str!("../../../packaging/man/vfguard-recipes.5");
    page.split("\n.nf\n").skip(1).map(|after| after.split("\n.fi").next().unwrap().to_owned()).collect()
}

#[test]
fn each_example_of_the_manual_page_is_taken() {
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
    let page = include_str!("../../../packaging/man/vfguard-recipes.5");
    let recipe = toml::Value::try_from(built_in()).unwrap();
    let release = &recipe["releases"][0];
    for key in recipe.as_table().unwrap().keys().chain(release.as_table().unwrap().keys()) {
        assert!(page.contains(&format!("\n.B {key}\n")), "{key} is not described");
    }
}

#[test]
fn the_example_that_is_packaged_is_a_recipe() {
    let recipe = Recipe::parse(include_str!("../../../packaging/examples/gve.toml"), Path::new("gve.toml")).unwrap();
    assert_eq!((recipe.prepare.len(), recipe.directory.as_str()), (2, "build"));
}

#[test]
fn every_recipe_of_the_packages_is_in_the_binary() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/drivers.d");
    let mut files: Vec<String> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    let carried: Vec<&str> = BUILT_IN.iter().map(|(file, _)| *file).collect();
    assert_eq!(files, carried);
    for (file, text) in BUILT_IN {
        let recipe = Recipe::parse(text, Path::new(file)).unwrap();
        assert_eq!(format!("{}.toml", recipe.name), file);
        assert!(recipe.releases.iter().flat_map(|r| &r.urls).all(|u| u.starts_with("https://")), "{file}");
    }
}
