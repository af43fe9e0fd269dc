//! The checks of `doctor` that ask systemd and servers, on a live root. (The rpm tier asks rpm, the vm tier a real systemd.)

#[path = "../../machine/mod.rs"]
mod machine;

use machine::live::enter;
use machine::Machine;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::time::{Duration, Instant};

const K: &str = "5.14.0-1.el9.x86_64";
const WAITING: [&str; 2] = ["vfguard-watch.path", "vfguard.timer"];

/// A machine booted by systemd, with vfguard's units enabled.
fn machine() -> Machine {
    let machine = Machine::new().grub().kernel(K).boot_entry(K).boot_default(K).running(K);
    let mut machine = machine.file("osrelease", &format!("{K}\n")).file("cmdline", "ro\n").file("run/systemd/system/x", "");
    let units = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/systemd");
    for entry in fs::read_dir(units).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        machine = machine.file(&format!("usr/lib/systemd/system/{name}"), &fs::read_to_string(&path).unwrap());
    }
    let wants = machine.path("etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants).unwrap();
    for unit in ["vfguard-boot.service", WAITING[0], WAITING[1]] {
        symlink(format!("/usr/lib/systemd/system/{unit}"), wants.join(unit)).unwrap();
    }
    fs::create_dir_all(machine.path("usr/bin")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_vfguard"), machine.path("usr/bin/vfguard")).unwrap();
    machine
}

/// A stand-in for systemctl, earlier in the path than the real one.
fn systemctl(machine: Machine, script: &str) -> Machine {
    let machine = machine.file("usr/local/sbin/systemctl", script);
    fs::set_permissions(machine.path("usr/local/sbin/systemctl"), fs::Permissions::from_mode(0o755)).unwrap();
    machine
}

/// The checks with this name: status, detail, remedy.
fn checks(machine: &Machine, name: &str) -> Vec<[String; 3]> {
    let run = enter(machine, "env -i PATH=\"$PATH\" vfguard --format json doctor");
    let value = run.json();
    let word = |c: &serde_json::Value, key: &str| c[key].as_str().unwrap().to_owned();
    let all = value["checks"].as_array().unwrap().iter();
    let found: Vec<_> =
        all.filter(|c| c["name"] == name).map(|c| ["status", "detail", "remedy"].map(|k| word(c, k))).collect();
    assert!(found.iter().all(|c| c[0] != "failed") || run.code == 1, "{} {found:?}", run.code);
    found
}

#[test]
fn a_systemd_that_does_not_answer_is_reported() {
    // The real systemctl, but no systemd that it could ask.
    let machine = machine();
    let gate = checks(&machine, "gate");
    let [status, detail, remedy] = &gate[0];
    assert!(
        status == "failed" && detail.contains("asking systemd about its units") && remedy == "systemctl status",
        "{gate:?}"
    );
    let active = checks(&machine, "unit-active");
    let [status, detail, _] = &active[0];
    assert!(active.len() == 1 && status == "failed" && detail.contains("not known: asking systemd"), "{active:?}");
    assert!(WAITING.iter().all(|unit| detail.contains(unit)), "{detail}");
}

#[test]
fn a_unit_that_is_enabled_but_not_active_is_reported() {
    let answering = |timer: &str| {
        let units = format!("Id={}\nActiveState=active\n\nId={}\nActiveState={timer}\n", WAITING[0], WAITING[1]);
        let machine = systemctl(
            machine(),
            "#!/bin/sh\ncase $* in *reboot.target) echo LoadState=loaded ;; *) cat /var/units ;; esac\n",
        )
        .file("var/units", &units);
        let gate = checks(&machine, "gate");
        assert_eq!(gate[0][0], "ok", "{gate:?}");
        checks(&machine, "unit-active")
    };
    let active = answering("active");
    assert!(active.len() == 2 && active.iter().all(|c| c[0] == "ok"), "{active:?}");
    let active = answering("inactive");
    let [status, detail, remedy] = &active[1];
    assert!(active[0][0] == "ok" && status == "failed" && detail == "vfguard.timer is enabled and not active", "{active:?}");
    assert_eq!(remedy, "systemctl start vfguard.timer");
}

#[test]
fn an_unreachable_source_is_reported_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = listener.local_addr().unwrap().port();
    // The listener that had this port is closed.
    let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (port, word) in [(refusing, "refused"), (silent, "timed out")] {
        let digest = "a".repeat(64);
        let machine = machine().offline().vf("ixgbevf").recipe(&format!(
            "[[releases]]\nversion = '1'\nurls = ['https://127.0.0.1:{port}/ixgbevf-1.tar.gz']\nsha256 = '{digest}'\n"
        ));
        let start = Instant::now();
        let source = checks(&machine, "source");
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        let [status, detail, remedy] = &source[0];
        assert!(
            source.len() == 1 && status == "failed" && detail.contains(&format!("https://127.0.0.1:{port}/")),
            "{source:?}"
        );
        assert!(detail.contains(word), "{detail}");
        assert!(remedy.contains("fetch.mirrors") && remedy.contains(&digest), "{remedy}");
    }
}
