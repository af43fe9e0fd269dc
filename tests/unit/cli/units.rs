//! The shipped units: their time limits allow for every wait of their programs, no unit waits for itself in a circle, and their shell
//! commands do what they are meant to.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use vfguard::config::Config;

fn project(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn unit(name: &str) -> String {
    project(&format!("packaging/systemd/{name}"))
}

/// The values of a setting in a unit.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|l| l.split_once('=')).filter(|(k, _)| *k == key).map(|(_, value)| value).collect()
}

/// A unit's limit in seconds.
fn limit(name: &str, key: &str) -> u64 {
    let text = unit(name);
    let value = values(&text, key).pop().unwrap_or_else(|| panic!("{name} has no {key}"));
    let digits = value.trim_end_matches(char::is_alphabetic);
    let factor = match &value[digits.len()..] {
        "s" => 1,
        "min" => 60,
        "h" => 3600,
        other => panic!("{name}: {key} in {other:?}"),
    };
    digits.parse::<u64>().unwrap() * factor
}

/// The seconds of a constant in a source.
fn constant(file: &str, name: &str) -> u64 {
    let text = project(file);
    let value = text.split(&format!("const {name}: Duration = Duration::from_secs(")).nth(1);
    let value = value.and_then(|rest| rest.split(')').next()).unwrap_or_else(|| panic!("{file} has no {name}"));
    value.split(" * ").map(|n| n.parse::<u64>().unwrap()).product()
}

/// The longest time that closing the gate takes once its lock is held: the table in src/gate/lock.rs. Four queries and orders, a reload, a
/// stop, and 2 s more for each that has to be killed.
fn closing() -> u64 {
    let (ask, reload) = (constant("src/host/systemd.rs", "ASK_LIMIT"), constant("src/host/systemd.rs", "RELOAD_LIMIT"));
    4 * ask + reload + constant("src/gate/means/systemd.rs", "STOP_LIMIT") + 6 * constant("src/host/command/mod.rs", "GRACE")
}

/// The gate's time if others close or open it as well.
fn gate() -> u64 {
    constant("src/gate/lock.rs", "PATIENCE") + closing()
}

/// The time of a run that only decides: it asks systemd, refuses, waits for the lock of a build, and then moves the default and the gate
/// under that lock. Refusing holds and closes at the same time, and closing takes longer.
fn deciding() -> u64 {
    let moving = constant("src/host/lock.rs", "MOVING");
    assert!(
        gate() > moving + constant("src/boot/efi.rs", "BOOTCTL_LIMIT") + constant("src/host/files/freeze.rs", "PATIENCE")
    );
    constant("src/host/systemd.rs", "ASK_LIMIT")
        + gate()
        + constant("src/flow/reconcile/mod.rs", "DECIDING")
        + moving
        + gate()
}

/// The time of one driver for one kernel with the default settings: three download places, the build, and the steps after it.
fn preparing() -> u64 {
    let config = Config::default();
    let longest_wait = 30;
    3 * u64::from(config.fetch.attempts) * (config.fetch.timeout + longest_wait)
        + config.build.timeout
        + constant("src/driver/build/mod.rs", "STRIP_LIMIT")
        + constant("src/driver/install/sign.rs", "LIMIT")
        + 2 * constant("src/driver/install/mod.rs", "DEPMOD_LIMIT")
        + constant("src/driver/install/initramfs.rs", "LIMIT")
}

#[test]
fn no_unit_is_killed_before_its_program_has_waited_as_long_as_it_may() {
    let ask = constant("src/host/systemd.rs", "ASK_LIMIT");
    let holds = |name: &str, key: &str, wanted: u64| {
        let limit = limit(name, key);
        assert!(limit > wanted, "{name}: {key} is {limit} s, and its program may wait {wanted} s");
    };
    holds(
        "vfguard-watch.service",
        "TimeoutStartSec",
        deciding().max(ask + limit("vfguard-fail-closed.service", "TimeoutStartSec")),
    );
    // Logins wait for it, so its limit contains only its own needs.
    holds("vfguard-boot.service", "TimeoutStartSec", constant("src/cli/act/reconcile.rs", "DRIVERS") + closing());
    holds("vfguard.service", "TimeoutStopSec", closing());
    let worker = deciding() + Config::default().hook.lock_timeout + constant("src/driver/fetch/network.rs", "PATIENCE");
    holds("vfguard.service", "TimeoutStartSec", worker + 2 * preparing());
    // Three tries for one kernel.
    let headers = "src/driver/headers.rs";
    let packages = constant("src/packages/mod.rs", "REFRESH") + constant("src/packages/mod.rs", "INSTALL");
    let one_try = constant(headers, "PATIENCE") + packages + constant(headers, "PAUSE");
    holds("vfguard-headers.service", "TimeoutStartSec", deciding() + 3 * one_try);
    // The time for vfguard, and for each of the shell's own steps.
    let script = unit("fail-closed");
    let patience = script.split("while [ $waited -lt ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let waits = script.split("timeout ").skip(1).chain(script.split("flock -w ").skip(1));
    let steps: Vec<u64> = waits.filter_map(|rest| rest.split([' ', '\n']).next()?.parse::<u64>().ok()).collect();
    assert!(steps.len() >= 5, "{steps:?}");
    holds("vfguard-fail-closed.service", "TimeoutStartSec", patience.parse::<u64>().unwrap() + steps.iter().sum::<u64>());
}

/// cloud-init's bootcmd installs packages before sysinit.target and network-online.target. If one of them is a kernel, its hook waits for
/// the worker. If the worker waited for one of these targets, neither would ever end.
#[test]
fn units_that_a_hook_waits_for_wait_for_nothing_that_may_wait_for_a_hook() {
    let text = unit("vfguard.service");
    assert_eq!(values(&text, "DefaultDependencies"), ["no"], "by default it is after sysinit.target and basic.target");
    assert_eq!((values(&text, "Conflicts"), values(&text, "Before")), (vec!["shutdown.target"], vec!["shutdown.target"]));
    let after: Vec<&str> = values(&text, "After").iter().flat_map(|v| v.split(' ')).collect();
    assert!(!after.is_empty() && after.iter().all(|unit| unit.ends_with(".mount")), "{after:?}");
    for key in ["Wants", "Requires", "Requisite", "BindsTo", "RequiresMountsFor", "PrivateTmp", "Type"] {
        assert!(values(&text, key).iter().all(|value| *value == "oneshot"), "{key} brings an order with it");
    }
    // A unit with conditions is quick. Units that its own steps start are not waited for.
    let steps = text.lines().filter(|l| l.starts_with("Exec")).collect::<Vec<_>>();
    assert!(steps.iter().all(|step| !step.contains("systemctl start")), "{steps:?}");
}

#[test]
fn a_look_that_ends_without_a_decision_starts_the_unit_that_fails_closed() {
    let text = unit("vfguard-watch.service");
    assert_eq!(values(&text, "OnFailure"), ["vfguard-fail-closed.service"]);
}

/// Runs the command line of a unit by the shell, with stand-ins for systemctl and vfguard. Returns their arguments, a line for each call.
fn step(line: &str, systemctl: &str, vfguard: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let calls = dir.path().join("calls");
    for (name, script) in [("systemctl", systemctl), ("vfguard", vfguard), ("sleep", "")] {
        let path = dir.path().join(name);
        fs::write(&path, format!("#!/bin/bash\necho {name} \"$@\" >>{}\n{script}\n", calls.display())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let line = line.replace("$$", "$").replace("/usr/bin/vfguard", &dir.path().join("vfguard").display().to_string());
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    assert!(Command::new("bash").args(["-c", &line]).env("PATH", path).status().is_ok());
    fs::read_to_string(calls).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn after_a_killed_look_the_gate_closes_before_the_worker_is_started() {
    let text = unit("vfguard-watch.service");
    let steps: Vec<&str> = values(&text, "ExecStart").into_iter().map(|l| l.trim_start_matches('-')).collect();
    let decides = steps.iter().position(|l| l.contains("reconcile --no-build --from watch")).unwrap();
    let worker = steps.iter().position(|l| l.contains("start vfguard.service")).unwrap();
    assert!(decides < worker);
    for (ends, refused) in [
        ("kill -KILL $$", true),
        ("kill -ABRT $$", true),
        ("rm \"$0\"; exit 127", true),
        ("exit 0", false),
        ("exit 1", false),
        ("exit 3", false),
        ("exit 4", false),
    ] {
        let calls = step(steps[decides], "", ends);
        let refuses = calls.iter().any(|call| call == "systemctl start vfguard-fail-closed.service");
        assert_eq!(refuses, refused, "{ends}: {calls:?}");
    }
    // Even if an earlier step fails.
    assert!(values(&text, "ExecStart")[1..].iter().all(|l| l.starts_with('-')), "a step hinders the last one");
}

#[test]
fn the_worker_waits_for_a_running_watch_and_wakes_path_units_that_missed_events() {
    let text = unit("vfguard.service");
    let [line] = values(&text, "ExecStartPre")[..] else { panic!("not one ExecStartPre") };
    let line = line.strip_prefix('-').expect("it must not hinder the worker");
    let script = r#"case $* in
        *ActiveState*) n=$(grep -c ActiveState "${0%/*}/calls"); [ $n -gt TIMES ] && echo ActiveState=inactive || echo ActiveState=activating ;;
        list-units*) printf 'LIST' ;;
    esac"#;
    let run = |times: &str, list: &str| step(line, &script.replace("TIMES", times).replace("LIST", list), "");
    let count = |calls: &[String], word: &str| calls.iter().filter(|call| call.contains(word)).count();
    let calls = run("0", "");
    assert_eq!((count(&calls, "sleep"), count(&calls, "restart")), (0, 0), "{calls:?}");
    let calls = run("3", "");
    assert_eq!((count(&calls, "sleep"), count(&calls, "list-units")), (3, 1), "{calls:?}");
    // A watch that does not end is waited for only for a limited time.
    assert_eq!(count(&run("99", ""), "sleep"), 10);
    let list = "vfguard-watch.path loaded active running vfguard: watch for kernels (way out: vfguard=off)\\n\
                * vfguard-kernel@6.1.0\\\\x2d56.path loaded failed failed vfguard: watch the modules\\n";
    let calls = run("0", list);
    assert!(calls.contains(&"systemctl restart vfguard-watch.path".to_owned()), "{calls:?}");
    assert!(calls.contains(&r"systemctl restart vfguard-kernel@6.1.0\x2d56.path".to_owned()), "{calls:?}");
    assert_eq!(count(&calls, "restart"), 2, "{calls:?}");
    assert!(calls.iter().any(|c| c.contains("--state=running,failed")), "those that listen are left alone: {calls:?}");
}

/// For a missing path systemd watches the nearest directory that exists. Anything that appears there makes systemd set up all watches of
/// the unit again, which loses events of its other paths.
#[test]
fn no_two_paths_share_a_path_unit() {
    for name in ["vfguard-watch.path", "vfguard-path@.path", "vfguard-kernel@.path"] {
        let text = unit(name);
        assert_eq!(values(&text, "PathChanged").len(), 1, "{name}");
        assert_eq!(values(&text, "Unit"), ["vfguard-watch.service"], "{name}");
    }
    let text = unit("vfguard-watch.path");
    let watched: Vec<&str> = values(&text, "Wants").into_iter().flat_map(str::split_whitespace).collect();
    for path in ["lib-modules", "boot-grub-grubenv", "boot-grub2-grubenv", "boot-loader-entries", r"etc-grub2\x2defi.cfg"] {
        assert!(watched.contains(&format!("vfguard-path@{path}.path").as_str()), "{path}: {watched:?}");
    }
}

/// The names of a unit's settings.
fn keys(unit: &str) -> Vec<&str> {
    unit.lines().filter(|l| !l.starts_with('#')).filter_map(|l| Some(l.split_once('=')?.0)).collect()
}

/// Whether a directive needs a mount, a directory or a network namespace of its own to start the unit.
fn wants_a_place(key: &str) -> bool {
    key.starts_with("Private")
        || key.starts_with("Protect")
        || key.starts_with("Root")
        || ["Paths", "Directory", "Subset", "FileSystem"].iter().any(|end| key.ends_with(end))
}

/// The directives below the comment about hardening, up to the next section.
fn hardening(unit: &str) -> Vec<&str> {
    let rest = unit.split("# Hardened with").nth(1).unwrap_or_default();
    rest.lines().skip(1).take_while(|l| !l.is_empty()).collect()
}

#[test]
fn the_units_that_refuse_need_no_mount_directory_or_inode_to_start() {
    for name in ["vfguard-boot.service", "vfguard-watch.service", "vfguard-fail-closed.service"] {
        let text = unit(name);
        let keys = keys(&text);
        assert!(keys.iter().all(|key| !wants_a_place(key)), "{name}: {keys:?}");
        // The vm tier tries one of them.
        assert_eq!(hardening(&text), hardening(&unit("vfguard-boot.service")), "{name}");
        assert!(keys.contains(&"SystemCallFilter") && keys.contains(&"CapabilityBoundingSet"), "{name} is not hardened");
    }
    assert!(["PrivateTmp", "ReadOnlyPaths", "StateDirectory", "TemporaryFileSystem"].into_iter().all(wants_a_place));
    assert!(["RestrictNamespaces", "ExecStart", "ExecStopPost", "MemoryMax"].into_iter().all(|key| !wants_a_place(key)));
}

/// Before systemd 235 a second line that begins with `~` restores everything that the first one removes.
#[test]
fn no_unit_removes_capabilities_in_two_lines() {
    let mut hardened = 0;
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/systemd")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let lines = values(&unit(&name), "CapabilityBoundingSet").len();
        assert!(lines <= 1, "{name}: {lines} lines");
        hardened += lines;
    }
    assert_eq!(hardened, 5);
}

/// The capabilities that dracut, grub-probe, the sandbox and the hold need (the vm tier shows that the other restrictions do not affect
/// them). With a mount namespace systemd would look at every mount below /home, and a dead one there would keep the worker from starting.
#[test]
fn the_worker_keeps_what_its_programs_need() {
    let text = unit("vfguard.service");
    assert!(keys(&text).iter().all(|key| !wants_a_place(key)), "{:?}", keys(&text));
    assert!(["ProtectHome", "ProtectClock", "PrivateDevices", "ReadWritePaths"].into_iter().all(wants_a_place));
    for key in ["DevicePolicy", "RestrictNamespaces", "RestrictSUIDSGID", "NoNewPrivileges"] {
        assert_eq!(values(&text, key), [] as [&str; 0], "{key}");
    }
    let families = values(&text, "RestrictAddressFamilies").join(" ");
    assert!(["AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"].iter().all(|family| families.contains(family)), "{families}");
    let lost = values(&text, "CapabilityBoundingSet").join(" ");
    for capability in ["SYS_ADMIN", "SYS_PTRACE", "SETUID", "SETPCAP", "MKNOD", "LINUX_IMMUTABLE", "SYS_RESOURCE", "DAC_"] {
        assert!(!lost.contains(capability), "{lost}");
    }
    // Scriptlets of packages may need anything.
    let headers = unit("vfguard-headers.service");
    assert!(["SystemCallFilter", "CapabilityBoundingSet", "ProtectHome"].iter().all(|key| values(&headers, key).is_empty()));
}
