//! Versions: of releases, of symbols, of compilers.

use super::*;

#[test]
fn a_release_that_the_recipe_does_not_name_is_reported() {
    let lab = Lab::open();
    let k = lab.get("K_NEW");
    let machine = lab.install(lab.machine().running(k).demo(&lab), k);
    let to = machine.path(&format!("lib/modules/{k}/updates/demo.ko"));
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(lab.file("MODULE_IXGBEVF").parent().unwrap().join("demo.ko"), to).unwrap();
    assert!(Command::new("depmod").arg("-b").arg(machine.root()).arg(k).status().unwrap().success());
    let says = |machine: &Machine| machine.run(&["check", k]).stdout.contains("wrong-version");
    assert!(!says(&machine), "it is the release that the recipe names");
    let recipe = machine.path("etc/vfguard/drivers.d/demo.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    fs::write(&recipe, text.replace(&format!("version = '{}'", lab.get("DEMO_VERSION")), "version = '9.9'")).unwrap();
    assert!(says(&machine));
    assert_eq!(machine.run(&["check", k]).code, 0, "what loads is not refused for its version");
}

/// Every 6.1 kernel whose headers had arrived when the run's kernels were chosen (tests/archive), with its Module.symvers and the other
/// files that vfguard needs.
fn abis(lab: &Lab, root: &Path) -> Vec<String> {
    let chosen = fs::read_to_string(lab.get("CHOSEN")).unwrap();
    let rows = |word: &'static str| chosen.lines().filter(move |l| l.starts_with(word)).map(|l| l.splitn(5, ' '));
    let deb = |package: &str| rows("package ").find(|row| row.clone().nth(1) == Some(package)).unwrap().nth(4).unwrap();
    let mut kernels = Vec::new();
    for mut row in rows("symvers ") {
        let (k, deb) = (row.nth(1).unwrap(), deb(row.next().unwrap()));
        let from = format!("./usr/src/linux-headers-{k}");
        let tar = Command::new("sh")
            .args(["-ec", "dpkg-deb --fsys-tarfile \"$1\" | tar -x -C \"$2\" \"$3/Module.symvers\" \"$3/.config\" \"$3/include/generated/utsrelease.h\"", "sh"])
            .arg(deb)
            .arg(root)
            .arg(&from)
            .output()
            .unwrap();
        assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
        kernels.push(k.to_owned());
    }
    kernels.sort();
    kernels
}

#[test]
fn differing_crcs_are_counted_as_modprobe_and_module_symvers_show_on_every_abi() {
    let lab = Lab::open();
    let root = tempfile::tempdir().unwrap();
    let kernels = abis(&lab, root.path());
    assert!(kernels.len() >= 3, "{kernels:?}");
    let module = lab.file("MODULE_IXGBEVF");
    let dump = Command::new("modprobe").arg("--dump-modversions").arg(&module).output().unwrap();
    let dump = String::from_utf8(dump.stdout).unwrap();
    let records: Vec<(u64, &str)> = dump
        .lines()
        .map(|l| l.split_once('\t').unwrap())
        .map(|(crc, name)| (u64::from_str_radix(crc.trim_start_matches("0x"), 16).unwrap(), name.trim()))
        .collect();
    let mut some_differ = 0;
    for k in &kernels {
        let symvers = fs::read_to_string(root.path().join(format!("usr/src/linux-headers-{k}/Module.symvers"))).unwrap();
        let theirs: std::collections::HashMap<&str, u64> = symvers
            .lines()
            .map(|l| l.split('\t').collect::<Vec<_>>())
            .map(|f| (f[1], u64::from_str_radix(f[0].trim_start_matches("0x"), 16).unwrap()))
            .collect();
        let differ = records.iter().filter(|(crc, name)| theirs.get(name).is_some_and(|t| t != crc)).count();
        let gone = records.iter().filter(|(_, name)| !theirs.contains_key(name)).count();
        let output = Command::new(env!("CARGO_BIN_EXE_vfguard"))
            .arg("--root")
            .arg(root.path())
            .args(["--format", "json", "verify", module.to_str().unwrap(), "--kernel", k])
            .output()
            .unwrap();
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let detail = |code: &str| {
            let all = value["findings"].as_array().unwrap();
            all.iter().find(|f| f["code"] == code).map_or(String::new(), |f| f["detail"].as_str().unwrap().to_owned())
        };
        println!("{k}: {differ} of {} CRCs differ, {gone} symbols are gone; {}", records.len(), value["verdict"]);
        let expected = format!("{differ} of {} symbol CRCs differ", records.len());
        assert_eq!(detail("symbol-crc").starts_with(&expected), differ > 0, "{k}: {}", detail("symbol-crc"));
        assert_eq!(detail("symbol-missing").starts_with(&format!("{gone} imported symbols")), gone > 0, "{k}");
        assert_eq!(value["verdict"] == "safe", differ + gone == 0, "{k}: {value}");
        some_differ += usize::from(differ > 0);
    }
    assert!(some_differ > 0 && some_differ < kernels.len(), "all alike: this proves little");
}

#[test]
fn a_module_built_with_another_compiler_than_the_kernel_is_used_with_a_warning() {
    let lab = Lab::open();
    let kernel = lab.get("K_NEW");
    let machine = lab.install(lab.machine().demo(&lab).running(kernel), kernel);
    let config = machine.path(&format!("boot/config-{kernel}"));
    let text = fs::read_to_string(&config).unwrap();
    let prepare = ["-v", "prepare", kernel, "--driver", "demo", "--rebuild"];
    let like = machine.run(&prepare);
    assert!(like.code == 0 && !like.stdout.contains("built with"), "{}{}", like.stdout, like.stderr);
    let line = text.lines().find(|l| l.starts_with("CONFIG_CC_VERSION_TEXT=")).unwrap();
    let other = "CONFIG_CC_VERSION_TEXT=\"gcc (GCC) 8.5.0 20210514 (Red Hat 8.5.0-22)\"";
    fs::write(&config, text.replace(line, other)).unwrap();
    let unlike = machine.run(&prepare);
    let detail = format!("built with gcc 12, {kernel} with gcc 8");
    assert!(unlike.code == 0 && unlike.stdout.contains(&detail), "{}{}", unlike.stdout, unlike.stderr);
    let check = machine.run(&["--format", "json", "check", kernel]);
    let findings = check.json()["kernels"][0]["findings"].clone();
    let codes: Vec<_> = findings.as_array().unwrap().iter().map(|f| (&f["severity"], &f["code"])).collect();
    assert!(check.code == 0 && codes == [(&"warning".into(), &"compiler-mismatch".into())], "{findings}");
    assert!(findings[0]["remedy"].as_str().unwrap().starts_with("install gcc 8 as the compiler, then: vfguard prepare"));
}
