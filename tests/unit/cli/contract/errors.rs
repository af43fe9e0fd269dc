//! Bad input and what cannot be read: one line with a remedy, an exit code, one JSON object.

use super::*;
use std::os::unix::fs::{symlink, PermissionsExt};

#[test]
fn invalid_kernel_releases_are_usage_errors() {
    let machine = Machine::new();
    let long = "6".repeat(10_000);
    for name in ["", "a/b", "../../etc", "6.1 x", "6.1\u{1b}[31m", "-6.1", ".", &long] {
        let run = machine.run(&["check", "--", name]);
        assert_eq!(run.code, 2, "{name:?}: {}", run.stderr);
        assert!(!run.stderr.contains('\u{1b}'), "an escape reached the terminal");
    }
}

#[test]
fn a_kernel_that_is_not_installed_is_one_line_with_a_remedy() {
    let machine = Machine::new().kernel(K);
    for verb in [&["check", "9.9.9"][..], &["status", "9.9.9"], &["prepare", "9.9.9"]] {
        let run = machine.run(verb);
        assert_eq!(run.code, 1, "{}", run.stderr);
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
        assert!(run.stderr.contains("9.9.9 is not installed") && run.stderr.contains(K), "{}", run.stderr);
    }
}

#[test]
fn errors_are_one_json_object_on_stdout_and_a_line_on_stderr() {
    let machine = Machine::new();
    let run = machine.run(&["--format", "json", "check", "9.9.9"]);
    let value = run.json();
    assert_eq!(value["schema"], 1);
    assert!(value["error"]["message"].as_str().unwrap().contains("9.9.9"));
    assert!(!value["error"]["remedy"].as_str().unwrap().is_empty());
    assert_eq!(run.stderr.lines().count(), 1);
    let usage = machine.run(&["--format=json", "chek"]);
    assert_eq!((usage.code, usage.json()["schema"].clone()), (2, Value::from(1)));
}

#[test]
fn a_bad_configuration_names_the_file_and_refuses() {
    for (text, word) in
        [("mod = 1\n", "mod"), ("mode = 3\n", "mode"), ("[[[", "config.toml"), ("[drivers]\nrequired = ['none']\n", "none")]
    {
        let machine = Machine::new().kernel(K).file("etc/vfguard/config.toml", text);
        let run = machine.run(&["check"]);
        assert_eq!(run.code, 1, "{text}");
        assert!(run.stderr.contains(word), "{}", run.stderr);
    }
}

#[test]
fn a_recipe_without_a_digest_is_refused() {
    let text =
        "name = 'ixgbevf'\nmodules = ['ixgbevf']\n[[releases]]\nversion = '1'\nurls = ['https://example.org/x.tar.gz']\n";
    let machine = Machine::new().kernel(K).file("etc/vfguard/drivers.d/ixgbevf.toml", text);
    let run = machine.run(&["check"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("ixgbevf.toml"), "{}", run.stderr);
}

#[test]
fn dangling_and_unreadable_files_end_in_a_refusal() {
    let machine = Machine::new().kernel(K).vf("ixgbevf");
    fs::create_dir_all(machine.path(&format!("lib/modules/{K}/updates/vfguard"))).unwrap();
    symlink("gone.ko", machine.path(&format!("lib/modules/{K}/updates/vfguard/ixgbevf.ko"))).unwrap();
    assert_eq!(machine.run(&["check", K]).code, 3);
    symlink("gone.toml", machine.path("etc/vfguard/config.toml")).unwrap();
    assert_eq!(machine.run(&["check", K]).code, 1);
}

#[test]
fn gate_open_needs_a_reason_and_does_not_change_what_check_says() {
    let machine = Machine::new().kernel(K).vf("ixgbevf");
    assert_eq!(machine.run(&["gate", "open"]).code, 2);
    assert_eq!(machine.run(&["gate", "close"]).code, 0);
    assert!(machine.path("run/systemd/system/reboot.target.d/50-vfguard.conf").is_file());
    assert_eq!(machine.run(&["--format", "json", "check", K]).json()["gate"], "closed");
    assert_eq!(machine.run(&["gate", "open", "--reason", "console at hand"]).code, 0);
    assert!(!machine.path("run/systemd/system/reboot.target.d/50-vfguard.conf").exists());
    let run = machine.run(&["--format", "json", "check", K]);
    assert_eq!((run.code, run.json()["gate"].clone()), (3, Value::from("overridden")));
}

#[test]
fn a_second_run_is_turned_away_while_one_holds_the_lock() {
    let machine = Machine::new().kernel(K).vf("ixgbevf").file("etc/vfguard/config.toml", "[hook]\nlock_timeout = 0\n");
    fs::create_dir_all(machine.path("run/vfguard")).unwrap();
    let file = fs::File::create(machine.path("run/vfguard/lock")).unwrap();
    let _held = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock).unwrap();
    let run = machine.run(&["--format", "json", "reconcile"]);
    assert_eq!(run.code, 4, "{}", run.stderr);
    assert!(run.json()["error"]["remedy"].is_string());
    assert_eq!(machine.run(&["check", K]).code, 3, "check never waits");
}

#[test]
fn a_config_that_others_may_write_is_refused() {
    let machine = Machine::new().file("etc/vfguard/config.toml", "mode = 'observe'\n");
    fs::set_permissions(machine.path("etc/vfguard/config.toml"), fs::Permissions::from_mode(0o666)).unwrap();
    let run = machine.run(&["check"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("written by others"), "{}", run.stderr);
}

#[test]
fn a_setting_that_is_out_of_range_causes_no_panic_and_closes_the_gate() {
    for (section, setting) in [("fetch", "timeout"), ("build", "timeout"), ("hook", "lock_timeout")] {
        let machine = Machine::new().grub().kernel(K).boot_entry(K).boot_default(K).running(K);
        let machine = machine.file("etc/vfguard/config.toml", &format!("[{section}]\n{setting} = {}\n", u64::MAX));
        for verb in [&["reconcile"][..], &["check"], &["prepare", K], &["doctor"], &["status"]] {
            let run = machine.run(verb);
            assert!(run.code == 1 && !run.stderr.contains("panicked"), "{verb:?}: {} {}", run.code, run.stderr);
            assert!(
                format!("{}{}", run.stdout, run.stderr).contains(&format!("{section}.{setting}")),
                "{verb:?}: {}",
                run.stderr
            );
        }
        assert_eq!(machine.run(&["--format", "json", "gate", "show"]).json()["gate"], "closed", "{section}.{setting}");
    }
}
