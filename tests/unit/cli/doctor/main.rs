//! `doctor`: each check of what is in order and of what is not, on machines made of files; each failure names what mends it.

#[path = "../../../machine/mod.rs"]
mod machine;
mod secrets;

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

/// An EL9-like machine on which all is in order, with every package manager's hook.
fn good() -> Machine {
    let mut m = Machine::new().grub().kernel(K).boot_entry(K).boot_default(K).running(K);
    for (file, text) in [
        ("etc/yum.conf", "[main]\nplugins=1\n"),
        ("usr/lib/yum-plugins/post-transaction-actions.py", "x"),
        ("etc/yum/pluginconf.d/post-transaction-actions.conf", "[main]\nenabled = 1\n"),
        // Those of the package itself.
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

/// The check of that name came out so, says that word, and names what mends it.
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
fn a_machine_in_order_is_called_so_and_nothing_is_written() {
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
fn yums_plugin_must_be_there_loaded_enabled_and_its_action_one_that_yum_obeys() {
    expect(&good().file("etc/yum.conf", "[main]\nplugins=0\n"), "hook-yum", "failed", "no plugins");
    expect(&good().file("etc/yum.conf", "[main]\n[x]\nplugins=1\n"), "hook-yum", "failed", "no plugins");
    // The other file wins, if it is there.
    let other = good().file("etc/yum/yum.conf", "[main]\nplugins=0\n");
    expect(&other, "hook-yum", "failed", "no plugins (plugins in /etc/yum/yum.conf)");
    let other = good().file("etc/yum.conf", "[main]\nplugins=0\n").file("etc/yum/yum.conf", "[main]\nplugins=1\n");
    assert!(!other.run(&["doctor"]).stdout.contains("failed: hook-yum"));
    expect(&without(good(), "usr/lib/yum-plugins/post-transaction-actions.py"), "hook-yum", "failed", "missing");
    let conf = "etc/yum/pluginconf.d/post-transaction-actions.conf";
    expect(&good().file(conf, "[main]\nenabled=0\n"), "hook-yum", "failed", "does not enable");
    let action = "etc/yum/post-actions/vfguard.action";
    expect(&without(good(), action), "hook-yum", "failed", "there is no vfguard*.action");
    for bad in [
        "kernel:update:vfguard reconcile",
        "kernel*:install:vfguard reconcile --from yum:x",
        "k:install:vfguard reconcile $name",
    ] {
        expect(&good().file(action, bad), "hook-yum", "failed", "yum wants");
    }
    expect(&good().file(action, "#kernel*:install:vfguard reconcile\n"), "hook-yum", "failed", "does not call");
    // Unreadable even for root: the package's file is gone and a directory is in its place.
    let machine = without(good(), action);
    fs::create_dir(machine.path(action)).unwrap();
    expect(&machine, "hook-yum", "failed", "cannot be read");
}

#[test]
fn dnf_4_is_a_bonus_and_what_is_wrong_with_it_is_a_warning() {
    expect(&good().file("etc/dnf/dnf.conf", "[main]\nplugins=0\n"), "hook-dnf", "warning", "no plugins");
    let plugin = "usr/lib/python3.9/site-packages/dnf-plugins/post-transaction-actions.py";
    let machine = good().file("usr/lib/python3.9/site-packages/dnf-plugins/copr.py", "");
    expect(&without(machine, plugin), "hook-dnf", "warning", "not installed");
    expect(&good().file(plugin, "libdnf.conf.ConfigParser.substitute(x)"), "hook-dnf", "warning", "runs no action");
    let conf = "etc/dnf/plugins/post-transaction-actions.conf";
    expect(&good().file(conf, "[main]\nenabled = 0\n"), "hook-dnf", "warning", "switches the plugin off");
    expect(
        &without(good(), "etc/dnf/plugins/post-transaction-actions.d/vfguard.action"),
        "hook-dnf",
        "warning",
        "there is no",
    );
}

#[test]
fn dnf_5_likewise() {
    expect(&without(good(), "usr/lib64/libdnf5/plugins/actions.so"), "hook-dnf5", "warning", "not installed");
    let conf = "etc/dnf/libdnf5-plugins/actions.conf";
    expect(&good().file(conf, "[main]\nenabled = 0\n"), "hook-dnf5", "warning", "switches the plugin off");
    let actions = "etc/dnf/libdnf5-plugins/actions.d/vfguard.actions";
    expect(&without(good(), actions), "hook-dnf5", "warning", "there is no");
    expect(&good().file(actions, "pre_transaction:::: vfguard reconcile\n"), "hook-dnf5", "warning", "dnf5 wants");
}

#[test]
fn the_trigger_must_be_in_rpms_database_and_not_switched_off() {
    expect(&good().file("var/lib/rpm/rpmdb.sqlite", "nothing"), "hook-rpm-trigger", "failed", "no file trigger");
    let conf = "[main]\ntsflags=nodocs noscripts\n";
    expect(&good().file("etc/dnf/dnf.conf", conf), "hook-rpm-trigger", "failed", "tsflags");
}

#[test]
fn scripts_must_be_there_and_must_run() {
    for (name, path) in [
        ("hook-kernel-install", "usr/lib/kernel/install.d/45-vfguard.install"),
        ("hook-postinst", "etc/kernel/postinst.d/zzz-vfguard"),
    ] {
        expect(&without(good(), path), name, "failed", "there is no");
        let machine = good();
        fs::set_permissions(machine.path(path), fs::Permissions::from_mode(0o644)).unwrap();
        expect(&machine, name, "failed", "cannot be run");
    }
    expect(&Machine::new().kernel(K), "hooks", "failed", "no package manager");
}

#[test]
fn units_must_be_there_and_enabled() {
    expect(&without(good(), "usr/lib/systemd/system/vfguard-headers.service"), "units", "failed", "vfguard-headers.service");
    expect(
        &without(good(), "etc/systemd/system/timers.target.wants/vfguard.timer"),
        "unit-enabled",
        "failed",
        "not enabled",
    );
    let machine = good();
    symlink("/dev/null", machine.path("etc/systemd/system/vfguard-watch.path")).unwrap();
    expect(&machine, "unit-enabled", "failed", "vfguard-watch.path is masked");
}

#[test]
fn a_device_that_the_kernels_own_driver_serves_asks_for_no_headers_unless_the_settings_do() {
    let ena = "pci:v00001D0Fd0000EC20sv00000000sd00000000bc02sc00i00";
    let machine = || good().device("0000:00:05.0", ena, Some("ena"));
    expect(&machine().file("sys/module/ena/taint", "\n"), "headers", "ok", "no driver needs to be built here");
    expect(&machine().file("sys/module/ena/taint", "OE\n"), "headers", "failed", K);
    let required =
        machine().file("sys/module/ena/taint", "\n").file("etc/vfguard/config.toml", "[drivers]\nrequired = ['ena']\n");
    expect(&required, "headers", "failed", K);
}

#[test]
fn headers_of_a_kernel_that_may_start_must_be_there() {
    let machine = good().vf("ixgbevf");
    expect(&machine, "headers", "failed", K);
    // Of another kernel it is a warning.
    expect(&good().vf("ixgbevf").kernel("5.14.0-0.el9.x86_64"), "headers", "warning", "5.14.0-0");
    let tree = format!("usr/src/kernels/{K}");
    let machine = machine.file(&format!("{tree}/include/generated/utsrelease.h"), &format!("#define UTS_RELEASE \"{K}\"\n"));
    let machine = machine.file(&format!("{tree}/include/linux/module.h"), "").file(&format!("{tree}/Makefile"), "");
    expect(&machine.file(&format!("{tree}/Module.symvers"), "x"), "headers", "ok", K);
}

#[test]
fn a_source_is_looked_for_and_another_root_asks_no_server() {
    let release = |url: &str| {
        let digest = "a".repeat(64);
        good().vf("ixgbevf").recipe(&format!("[[releases]]\nversion = '1'\nurls = ['{url}']\nsha256 = '{digest}'\n"))
    };
    let machine = release("file:///srv/ixgbevf-1.tar.gz");
    expect(&machine, "source", "warning", "ixgbevf-1.tar.gz");
    expect(&machine.file("srv/ixgbevf-1.tar.gz", "x"), "source", "ok", "file:///srv/ixgbevf-1.tar.gz");
    // 192.0.2.0/24 is nobody's; asking it would take longer than this test may.
    let start = std::time::Instant::now();
    expect(&release("https://192.0.2.1/ixgbevf-1.tar.gz"), "source", "warning", "not asked");
    assert!(start.elapsed() < std::time::Duration::from_secs(5));
}

#[test]
fn settings_and_recipes_that_are_broken_are_named_and_the_rest_is_looked_at() {
    expect(&good().file("etc/vfguard/config.toml", "mode = 3\n"), "settings", "failed", "config.toml");
    let machine = good().file("etc/vfguard/drivers.d/ixgbevf.toml", "name = 'ixgbevf'\n");
    expect(&machine, "recipes", "failed", "ixgbevf.toml");
    expect(&machine, "boot-default", "ok", "");
}

#[test]
fn what_the_gate_cannot_do_is_said() {
    expect(&good().file("etc/vfguard/config.toml", "mode = 'observe'\n"), "gate", "warning", "observe");
    expect(&good().file("proc/cmdline", "vfguard=off\n"), "gate", "warning", "vfguard=off");
}

#[test]
fn a_run_directory_or_a_boot_directory_that_cannot_be_written_is_said() {
    let machine = good();
    fs::create_dir_all(machine.path("run")).unwrap();
    let script =
        "for d in run boot; do mount --bind \"$R/$d\" \"$R/$d\" && mount -o remount,ro,bind \"$R/$d\" || exit 9; done; \
                  exec \"$0\" --root \"$R\" doctor";
    let text = in_namespace(&machine, script);
    assert!(text.contains("failed: gate: /run cannot be written"), "{text}");
    assert!(text.contains("failed: boot-default: /boot/grub2 cannot be written"), "{text}");
    assert!(text.contains("to mend it: mount -o remount,rw"), "{text}");
}

#[test]
fn a_machine_that_cannot_be_judged_is_said() {
    let machine = good();
    fs::remove_dir_all(machine.path("sys")).unwrap();
    expect(&machine, "survey", "failed", "cannot be judged");
}

#[test]
fn what_a_build_would_run_as_is_said() {
    let machine = good();
    for (setpriv, status) in
        [("setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin", "warning: sandbox: "), ("", "ok: sandbox: ")]
    {
        let text = in_namespace(&machine, &format!("exec {setpriv} \"$0\" --root \"$R\" doctor"));
        assert!(text.contains(status), "{setpriv}: {text}");
    }
}

#[test]
fn a_boot_default_that_cannot_be_told_or_is_not_certain_is_said() {
    expect(&without(good(), "boot/grub2/grub.cfg"), "boot-default", "failed", "not certain");
    let entry = format!("set default=0\nmenuentry 'a' {{\n  linux /vmlinuz-{K} root=/dev/vda1\n}}\n");
    expect(
        &good().file("boot/grub2/grub.cfg", &entry),
        "boot-default",
        "failed",
        "starts neither a saved default nor one that custom.cfg sets",
    );
}

/// The script's output in a mount namespace of its own; `$0` is the binary, `$R` the machine's root.
fn in_namespace(machine: &Machine, script: &str) -> String {
    let output = std::process::Command::new("unshare")
        .args(["-m", "sh", "-c", script, env!("CARGO_BIN_EXE_vfguard")])
        .env("R", machine.root())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_full_or_read_only_file_system_is_said() {
    // In a mount namespace of its own: the modules' file system read-only, the cache's with 1 MB.
    let machine = good();
    fs::create_dir_all(machine.path("var/cache/vfguard")).unwrap();
    let script = "mount --bind \"$R/lib/modules\" \"$R/lib/modules\" && mount -o remount,ro,bind \"$R/lib/modules\" && \
                  mount -t tmpfs -o size=1m t \"$R/var/cache/vfguard\" && exec \"$0\" --root \"$R\" doctor";
    let output = std::process::Command::new("unshare")
        .args(["-m", "sh", "-c", script, env!("CARGO_BIN_EXE_vfguard")])
        .env("R", machine.root())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("failed: space: /lib/modules cannot be written"), "{text}");
    assert!(
        text.contains("failed: space: /var/cache/vfguard has 1 MB of free disk")
            || text.contains("/var/cache/vfguard has 0 MB"),
        "{text}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_file_system_of_the_boot_files_without_room_for_one_more_kernel_is_said_before_an_update() {
    let machine = good();
    expect(&machine, "boot-space", "ok", "/boot: room for one more kernel");
    // More than any disk has, and no byte of it is there.
    let large = |machine: &Machine, name: &str| {
        let file = fs::File::create(machine.path(name)).unwrap();
        file.set_len(8 << 40).unwrap();
    };
    large(&machine, &format!("boot/System.map-{K}"));
    expect(&machine, "boot-space", "failed", &format!("measured by {K}"));
    let machine = machine.file("usr/bin/dnf", "").kernel("5.14.0-0.el9.x86_64").kernel("5.14.0-1.el9.x86_64");
    let text = machine.run(&["doctor"]).stdout;
    assert!(text.contains("to mend it: dnf remove kernel-core-5.14.0-0.el9.x86_64"), "{text}");
    // A rehearsal says it as well, whatever else it comes to.
    let tree = format!("usr/src/kernels/{K}");
    let machine = machine
        .file(&format!("{tree}/include/generated/utsrelease.h"), &format!("#define UTS_RELEASE \"{K}\"\n"))
        .file(&format!("{tree}/include/linux/module.h"), "")
        .file(&format!("{tree}/Makefile"), "")
        .file(&format!("{tree}/Module.symvers"), "x")
        .offline()
        .recipe(&format!("[[releases]]\nversion = '1'\nurls = ['file:///none.tgz']\nsha256 = '{}'\n", "a".repeat(64)));
    let run = machine.run(&["--format", "json", "rehearse", K, "--driver", "ixgbevf"]);
    let found = run.json()["kernels"][0]["findings"].as_array().unwrap().clone();
    let told = found.iter().find(|f| f["code"] == "boot-space").unwrap_or_else(|| panic!("{found:#?}"));
    assert!(told["severity"] == "warning" && told["detail"].as_str().unwrap().starts_with("/boot has "), "{told}");
}

#[test]
fn an_audit_log_that_grew_large_is_said_and_is_begun_anew_where_it_was_put_away() {
    let machine = good();
    let path = machine.path("var/lib/vfguard/audit.log");
    assert_eq!(machine.run(&["gate", "open", "--reason", "first"]).code, 0);
    expect(&machine, "audit-log", "ok", "1 KB");
    let line = fs::read_to_string(&path).unwrap();
    fs::write(&path, line.repeat((16 << 20) / line.len() + 1)).unwrap();
    let large = fs::metadata(&path).unwrap().len();
    expect(&machine, "audit-log", "warning", "16 MB");
    // Nothing is lost by writing on, and what the remedy puts away stays.
    assert_eq!(machine.run(&["gate", "open", "--reason", "second"]).code, 0);
    assert!(fs::metadata(&path).unwrap().len() > large);
    fs::rename(&path, machine.path("var/lib/vfguard/audit.log-then")).unwrap();
    assert_eq!(machine.run(&["gate", "open", "--reason", "third"]).code, 0);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.lines().count() == 1 && text.contains("third"), "{text}");
    assert!(fs::read_to_string(machine.path("var/lib/vfguard/audit.log-then")).unwrap().ends_with('\n'));
}

#[test]
fn a_compiler_that_is_missing_is_said() {
    // Nothing is in the directories where programs are looked for.
    let script = "for d in /usr/local/sbin /usr/local/bin /usr/sbin /sbin; do [ -L $d ] || mount -t tmpfs t $d; done; \
                  cp \"$0\" \"$R/vfguard\"; \
                  mount -t tmpfs t /usr/bin; exec \"$R/vfguard\" --root \"$R\" doctor";
    let machine = good();
    let output = std::process::Command::new("unshare")
        .args(["-m", "sh", "-c", script, env!("CARGO_BIN_EXE_vfguard")])
        .env("R", machine.root())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("failed: compiler: not installed: make, gcc"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
