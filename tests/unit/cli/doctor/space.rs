//! File systems that are full or read-only, and an audit log that grew large.

use super::*;

#[test]
fn an_unwritable_run_or_boot_directory_is_reported() {
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
fn a_full_or_read_only_file_system_is_reported() {
    // In a mount namespace: the modules' file system is read-only, the cache's has 1 MB.
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
fn missing_room_for_one_more_kernel_is_reported_before_an_update() {
    let machine = good();
    expect(&machine, "boot-space", "ok", "/boot: room for one more kernel");
    // A sparse file larger than any disk.
    let large = |machine: &Machine, name: &str| {
        let file = fs::File::create(machine.path(name)).unwrap();
        file.set_len(8 << 40).unwrap();
    };
    large(&machine, &format!("boot/System.map-{K}"));
    expect(&machine, "boot-space", "failed", &format!("measured by {K}"));
    let machine = machine.file("usr/bin/dnf", "").kernel("5.14.0-0.el9.x86_64").kernel("5.14.0-1.el9.x86_64");
    let text = machine.run(&["doctor"]).stdout;
    assert!(text.contains("to mend it: dnf remove kernel-core-5.14.0-0.el9.x86_64"), "{text}");
    // A rehearsal reports it as well, whatever its result is.
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
fn a_large_audit_log_is_reported_and_a_new_one_begins_where_the_old_was_moved_away() {
    let machine = good();
    let path = machine.path("var/lib/vfguard/audit.log");
    assert_eq!(machine.run(&["gate", "open", "--reason", "first"]).code, 0);
    expect(&machine, "audit-log", "ok", "1 KB");
    let line = fs::read_to_string(&path).unwrap();
    fs::write(&path, line.repeat((16 << 20) / line.len() + 1)).unwrap();
    let large = fs::metadata(&path).unwrap().len();
    expect(&machine, "audit-log", "warning", "16 MB");
    // Later entries lose nothing, and the log that the remedy moves away stays.
    assert_eq!(machine.run(&["gate", "open", "--reason", "second"]).code, 0);
    assert!(fs::metadata(&path).unwrap().len() > large);
    fs::rename(&path, machine.path("var/lib/vfguard/audit.log-then")).unwrap();
    assert_eq!(machine.run(&["gate", "open", "--reason", "third"]).code, 0);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.lines().count() == 1 && text.contains("third"), "{text}");
    assert!(fs::read_to_string(machine.path("var/lib/vfguard/audit.log-then")).unwrap().ends_with('\n'));
}
