//! Releases: for some kernels, with versions of their own, and such that cannot be downloaded.

use super::*;

#[test]
fn a_module_with_its_own_version_belongs_to_the_release_if_the_recipe_says_so() {
    let stage = Stage::new("K_NEW");
    let release = alone(&stage, "1.0", Some("1.0g"), "");
    let stage = stage.with("version_of_module = '{version}g'", std::slice::from_ref(&release));
    succeeds(&stage.prepare(&[]));
    assert!(!stage.check().1.contains(&"wrong-version".to_owned()));
    assert!(succeeds(&stage.machine.run(&["prepare", &stage.kernel, "--driver", "demo"])).contains("demo 1.0 was in place"));
    // Without that key it counts as another version.
    let stage = stage.with("", &[release]);
    assert!(stage.check().1.contains(&"wrong-version".to_owned()));
}

#[test]
fn a_release_that_cannot_be_downloaded_counts_as_one_that_does_not_work_and_is_reported() {
    let stage = Stage::new("K_NEW");
    let first = alone(&stage, "1.0", None, "kernels = { from = '6' }");
    let second = alone(&stage, "2.0", Some("2.0"), "kernels = { below = '6' }\nfallback = true");
    fs::rename(stage.archive("1.0"), stage.machine.path("srv/elsewhere")).unwrap();
    let stage = stage.with("", &[first.clone(), second.clone()]);
    let told = succeeds(&stage.prepare(&[]));
    assert!(told.contains("demo 2.0 built, verified and installed"), "{told}");
    assert!(told.contains("1.0: demo-1.0.tar.gz could not be downloaded"), "{told}");
    assert_eq!(stage.check().0, "safe");
    // Neither can be downloaded: each is named, with a command that can be typed.
    fs::remove_file(stage.archive("2.0")).unwrap();
    fs::remove_dir_all(stage.machine.path("var/lib/vfguard/sources")).unwrap();
    fs::remove_file(stage.module("demo")).unwrap();
    let run = stage.prepare(&[]);
    assert_eq!(run.code, 1);
    for words in [
        "demo-1.0.tar.gz could not be",
        "demo-2.0.tar.gz could not be",
        &format!("vfguard prepare {} --driver demo --source FILE --sha256 ", stage.kernel),
    ] {
        assert!(run.stderr.contains(words) && !run.stderr.contains("KERNEL"), "{words}: {}", run.stderr);
    }
    let codes = stage.check().1;
    assert!(codes.contains(&"fetch-failed".to_owned()) && !codes.contains(&"build-failed".to_owned()), "{codes:?}");
    // The failure belongs to that recipe, so a changed recipe does not show it.
    let stage = stage.with("make = ['A=b']", &[first, second]);
    assert!(!stage.check().1.contains(&"fetch-failed".to_owned()));
}

#[test]
fn the_minor_release_of_enterprise_linux_is_read_from_the_kernels_headers() {
    let stage = Stage::new("K_NEW");
    let older = alone(&stage, "1.0", None, "kernels = [{ from = '6' }, { from = 'el9_0', below = 'el9_4' }]");
    let newer = alone(&stage, "2.0", None, "kernels = { from = 'el9_4' }");
    let stage = stage.with("", &[older, newer]);
    assert!(succeeds(&stage.prepare(&["--rebuild"])).contains("demo 1.0 built"));
    let build = fs::read_link(stage.machine.path(&format!("lib/modules/{}/build", stage.kernel))).unwrap();
    let header =
        stage.machine.path(build.to_str().unwrap().trim_start_matches('/')).join("include/generated/uapi/linux/version.h");
    let text = fs::read_to_string(&header).unwrap();
    for (code, version) in [(9 * 256 + 3, "1.0"), (9 * 256 + 4, "2.0")] {
        // The lab's file must not change, and links to it lead here.
        fs::remove_file(&header).unwrap();
        fs::write(&header, format!("{text}#define RHEL_RELEASE_CODE {code}\n")).unwrap();
        assert!(succeeds(&stage.prepare(&["--rebuild"])).contains(&format!("demo {version} built")), "{code}");
    }
}

#[test]
fn several_devices_with_one_driver_are_one_attempt() {
    let stage = Stage::new("K_NEW");
    let release = alone(&stage, "1.0", None, "");
    let stage = stage.with("", &[release]);
    let machine = stage.machine.device("0000:00:0a.0", DEVICE, None).device("0000:00:0b.0", DEVICE, None);
    fs::remove_file(machine.path("srv/demo-1.0.tar.gz")).unwrap();
    let run = machine.run(&["reconcile"]);
    let told = format!("{}{}", run.stdout, run.stderr);
    assert_eq!(told.matches(": preparing demo\n").count(), 1, "{told}");
}

#[test]
fn a_rehearsal_reads_a_file_of_the_machine_and_names_the_release_that_was_built() {
    let stage = Stage::new("K_NEW");
    let fails = stage.release("1.0", &[("src/Makefile", "default:\n\tfalse\n")], "kernels = { from = '6' }");
    let builds = alone(&stage, "2.0", Some("2.0"), "kernels = { below = '6' }\nfallback = true");
    let stage = stage.with("", &[fails, builds]);
    let run = stage.machine.run(&["rehearse", &stage.kernel, "--driver", "demo"]);
    assert!(run.stdout.starts_with("REAL: demo 2.0, sha256 "), "{}{}", run.stdout, run.stderr);
}
