//! `doctor`: each check, for a machine in order and for one that is not, on machines made of files. Each failure names its fix.

mod builds;
mod hooks;
#[path = "../../../machine/mod.rs"]
mod machine;
mod secrets;
mod space;

use machine::Machine;
use std::fs;
use std::os::unix::fs::{symlink, PermissionsExt};

const K: &str = "5.14.0-1.el9.x86_64";
const UNITS: [&str; 7] = [
    "vfguard-boot.service",
    "vfguard-watch.path",
    "vfguard.timer",
    "vfguard.service",
    "vfguard-headers.service",
    "vfguard-watch.service",
    "vfguard-fail-closed.service",
];

/// An EL9-like machine on which everything is in order, with the hooks of every package manager.
fn good() -> Machine {
    let mut m = Machine::new().grub().kernel(K).boot_entry(K).boot_default(K).running(K);
    for (file, text) in [
        ("etc/yum.conf", "[main]\nplugins=1\n"),
        ("usr/lib/yum-plugins/post-transaction-actions.py", "x"),
        ("etc/yum/pluginconf.d/post-transaction-actions.conf", "[main]\nenabled = 1\n"),
        // The files of the package itself.
        ("etc/yum/post-actions/vfguard.action", include_str!("../../../../packaging/hooks/yum.action")),
        ("etc/dnf/dnf.conf", "[main]\ngpgcheck=1\n"),
        ("usr/lib/python3.9/site-packages/dnf-plugins/post-transaction-actions.py", "x"),
        (
            "etc/dnf/plugins/post-transaction-actions.d/vfguard.action",
            include_str!("../../../../packaging/hooks/dnf.action"),
        ),
        ("etc/dnf/libdnf5-plugins/actions.conf", "[main]\nenabled = 1\n"),
        ("usr/lib64/libdnf5/plugins/actions.so", "x"),
        ("etc/dnf/libdnf5-plugins/actions.d/vfguard.actions", include_str!("../../../../packaging/hooks/dnf5.actions")),
        ("var/lib/rpm/rpmdb.sqlite", "…\0vfguard reconcile --from rpm-trigger\0…"),
    ] {
        m = m.file(file, text);
    }
    m = script(m, "usr/lib/kernel/install.d/45-vfguard.install");
    m = script(m, "etc/kernel/postinst.d/zzz-vfguard");
    for unit in UNITS {
        m = m.file(&format!("usr/lib/systemd/system/{unit}"), "");
    }
    for (unit, target) in UNITS.iter().take(3).zip(["multi-user", "multi-user", "timers"]) {
        let dir = m.path(&format!("etc/systemd/system/{target}.target.wants"));
        fs::create_dir_all(&dir).unwrap();
        symlink(format!("/usr/lib/systemd/system/{unit}"), dir.join(unit)).unwrap();
    }
    m
}

fn script(machine: Machine, path: &str) -> Machine {
    let machine = machine.file(path, "#!/bin/sh\n");
    fs::set_permissions(machine.path(path), fs::Permissions::from_mode(0o755)).unwrap();
    machine
}

fn checks(machine: &Machine) -> (i32, Vec<serde_json::Value>) {
    let run = machine.run(&["--format", "json", "doctor"]);
    let value = run.json();
    assert_eq!(value["schema"], 1);
    (run.code, value["checks"].as_array().unwrap().clone())
}

/// Asserts that the check with this name has this status, contains this word, and names a fix.
fn expect(machine: &Machine, name: &str, status: &str, word: &str) {
    let (code, all) = checks(machine);
    let hit =
        all.iter().find(|c| c["name"] == name && c["status"] == status && c["detail"].as_str().unwrap().contains(word));
    let hit = hit.unwrap_or_else(|| panic!("no {name} {status} with {word:?} in {all:#?}"));
    assert_eq!(status == "ok", hit["remedy"] == "", "{hit}");
    if status == "failed" {
        assert_eq!(code, 1);
        let text = machine.run(&["doctor"]);
        assert!(
            text.code == 1 && text.stdout.contains("failed: ") && text.stdout.contains("to mend it: "),
            "{}",
            text.stdout
        );
    }
}

fn without(machine: Machine, path: &str) -> Machine {
    fs::remove_file(machine.path(path)).unwrap();
    machine
}

#[test]
fn a_machine_in_order_is_reported_so_and_nothing_is_written() {
    let machine = good();
    let list = || {
        String::from_utf8(std::process::Command::new("find").arg(machine.root()).arg("-ls").output().unwrap().stdout)
            .unwrap()
    };
    let before = list();
    let (code, all) = checks(&machine);
    let bad: Vec<_> = all.iter().filter(|c| c["status"] != "ok").collect();
    assert!(code == 0 && bad.is_empty(), "{bad:#?}");
    for name in [
        "settings",
        "hook-yum",
        "hook-dnf",
        "hook-dnf5",
        "hook-rpm-trigger",
        "hook-kernel-install",
        "hook-postinst",
        "units",
        "unit-enabled",
        "recipes",
        "compiler",
        "headers",
        "gate",
        "boot-default",
        "space",
        "boot-space",
        "audit-log",
        "sandbox",
        "bounds",
        "secrets",
    ] {
        assert!(all.iter().any(|c| c["name"] == name), "{name} was not looked at");
    }
    assert_eq!(before, list(), "doctor changed something");
}

#[test]
fn limits_of_the_gate_are_reported() {
    expect(&good().file("etc/vfguard/config.toml", "mode = 'observe'\n"), "gate", "warning", "observe");
    expect(&good().file("proc/cmdline", "vfguard=off\n"), "gate", "warning", "vfguard=off");
}

#[test]
fn a_machine_that_cannot_be_judged_is_reported() {
    let machine = good();
    fs::remove_dir_all(machine.path("sys")).unwrap();
    expect(&machine, "survey", "failed", "cannot be judged");
}

#[test]
fn an_unknown_or_uncertain_boot_default_is_reported() {
    expect(&without(good(), "boot/grub2/grub.cfg"), "boot-default", "failed", "not certain");
    let entry = format!("set default=0\nmenuentry 'a' {{\n  linux /vmlinuz-{K} root=/dev/vda1\n}}\n");
    expect(
        &good().file("boot/grub2/grub.cfg", &entry),
        "boot-default",
        "failed",
        "starts neither a saved default nor one that custom.cfg sets",
    );
}

/// The script's output in a mount namespace; `$0` is the binary, `$R` the machine's root.
fn in_namespace(machine: &Machine, script: &str) -> String {
    let output = std::process::Command::new("unshare")
        .args(["-m", "sh", "-c", script, env!("CARGO_BIN_EXE_vfguard")])
        .env("R", machine.root())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
