//! Real drivers build all the same, and how a build is contained is said.

use super::*;

#[test]
fn real_drivers_build_confined_with_landlock_and_without_it() {
    let lab = Lab::open();
    for (kernel, archive) in [("K_NEW", "IXGBEVF_61"), ("K_612", "IXGBEVF_612")] {
        let kernel = lab.get(kernel).to_owned();
        let machine = lab.install(lab.machine(), &kernel);
        let release = lab.release(&machine, archive, "");
        let stage = Stage::with(machine.recipe(&release), kernel);
        let (done, text) = stage.confined(&["-v", "prepare", &stage.kernel, "--driver", "ixgbevf"]);
        let said = if is_here() { "own user, other files out of reach" } else { "own user only" };
        assert!(done && text.contains(said), "{text}");
        stage.is_good("ixgbevf");
    }
    let stage = Stage::new();
    for landlock in [Landlock::NotBuilt, Landlock::NotEnabled, Landlock::Refused] {
        let (done, text) = stage.run(false, landlock, &["-v", "prepare", &stage.kernel, "--driver", "demo", "--rebuild"]);
        assert!(done && text.contains("own user only: this system allows no namespaces"), "{landlock:?}: {text}");
        stage.is_good("demo");
        let log =
            fs::read_to_string(stage.machine.path(&format!("var/lib/vfguard/log/{}-demo-1.0.0-demo.log", stage.kernel)));
        let refused = log.unwrap().contains("Landlock is refused here");
        assert_eq!(refused, landlock == Landlock::Refused && is_here(), "{landlock:?}");
    }
}

#[test]
fn status_and_doctor_report_how_a_build_is_contained() {
    let stage = Stage::new();
    let said = |namespaces, landlock| {
        let (_, status) = stage.run(namespaces, landlock, &["status"]);
        let (_, doctor) = stage.run(namespaces, landlock, &["doctor"]);
        let line = status.lines().find(|l| l.starts_with("builds run: ")).unwrap()["builds run: ".len()..].to_owned();
        assert!(doctor.contains(&line), "{line}: {doctor}");
        line
    };
    assert_eq!(said(true, Landlock::NotBuilt), "full: own user, no network, private file system; seccomp");
    assert_eq!(
        said(false, Landlock::NotEnabled),
        "own user only: this system allows no namespaces, so the network and other files are in reach; seccomp"
    );
    if is_here() {
        let version = version(&stage, true).unwrap();
        assert_eq!(
            said(true, Landlock::There),
            format!("full: own user, no network, private file system; Landlock {version}; seccomp")
        );
        let line = said(false, Landlock::There);
        assert!(
            line.starts_with("own user, other files out of reach: ")
                && line.ends_with(&format!("; Landlock {version}; seccomp"))
        );
    }
}

#[test]
fn if_namespaces_fail_although_proc_promises_them_the_build_runs_without_and_that_is_reported() {
    let stage = Stage::new();
    let prepare = ["-v", "prepare", &stage.kernel, "--driver", "demo"];
    let output = Command::new(&stage.filter)
        .args(NO_UNSHARE)
        .args([env!("CARGO_BIN_EXE_vfguard"), "--root"])
        .arg(stage.machine.root())
        .args(prepare)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let said = if is_here() { "own user, other files out of reach" } else { "own user only" };
    assert!(output.status.success() && text.contains(said), "{text}");
    assert!(text.contains("the build ran with weaker isolation than expected: own user"), "{text}");
    let log = stage.machine.path(&format!("var/lib/vfguard/log/{}-demo-1.0.0-demo.log", stage.kernel));
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("namespaces are refused here (EPERM") && log.contains("contained less"), "{log}");
    stage.is_good("demo");
}

#[test]
fn without_namespaces_a_directory_that_the_build_user_cannot_enter_is_named() {
    let stage = Stage::new();
    let closed = stage.machine.path("usr/src");
    fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).unwrap();
    let prepare = ["prepare", &stage.kernel, "--driver", "demo"];
    let (done, text) = stage.confined(&prepare);
    let line = format!("may not enter {}, and without namespaces it must", closed.display());
    assert!(!done && text.contains(&line) && text.contains("chmod o+x"), "{text}");
    fs::set_permissions(&closed, PermissionsExt::from_mode(0o755)).unwrap();
    assert!(stage.confined(&prepare).0);
}
