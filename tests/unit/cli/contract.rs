//! The contract from outside: exit codes, one-line errors, JSON, bad input. Runs the binary on small roots.

#[path = "../../machine/mod.rs"]
mod machine;

use machine::{Machine, VF};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{symlink, PermissionsExt};

const K: &str = "6.1.0-56-amd64";

#[test]
fn names_that_are_no_kernel_releases_are_usage_errors() {
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
fn a_machine_whose_devices_cannot_be_seen_is_not_judged() {
    let machine = Machine::bare();
    assert_eq!(machine.run(&["check"]).code, 1);
}

#[test]
fn that_another_run_is_at_work_is_said_of_a_kernel_that_is_not_safe() {
    use nix::fcntl::{Flock, FlockArg};
    let machine = Machine::new().kernel(K).vf("ixgbevf").file("run/vfguard/lock", "");
    let pending = |machine: &Machine| machine.run(&["--format", "json", "check", K]).stdout.contains("build-pending");
    assert!(!pending(&machine));
    let lock = fs::File::open(machine.path("run/vfguard/lock")).unwrap();
    let held = Flock::lock(lock, FlockArg::LockExclusiveNonblock).unwrap();
    assert!(pending(&machine));
    assert!(machine.run(&["status"]).stdout.contains("build-pending"));
    drop(held);
    assert!(!pending(&machine));
}

#[test]
fn a_kernel_without_a_driver_for_the_nic_is_unsafe() {
    let machine = Machine::new().kernel(K).vf("ixgbevf");
    let run = machine.run(&["--format", "json", "check", K]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    let value = run.json();
    assert_eq!(value["verdict"], "unsafe");
    assert_eq!(value["gate"], "open");
    let kernel = &value["kernels"][0];
    assert_eq!((&kernel["kernel"], &kernel["devices"][0]["modalias"]), (&Value::from(K), &Value::from(VF)));
    assert_eq!(kernel["findings"][0]["code"], "module-missing");
    assert_eq!(kernel["findings"][0]["remedy"], format!("vfguard prepare {K}"));
}

#[test]
fn a_machine_without_a_network_device_has_nothing_to_lose() {
    let machine = Machine::new().kernel(K);
    assert_eq!(machine.run(&["check", K]).code, 0);
}

#[test]
fn a_nic_of_another_vendor_in_use_must_be_claimed_too() {
    let machine =
        Machine::new().kernel(K).device("0000:00:05.0", "pci:v000015B3d00001018sv0sd0bc02sc00i00", Some("mlx5_core"));
    let run = machine.run(&["--format", "json", "check", K]);
    assert_eq!(run.code, 3);
    assert_eq!(run.json()["kernels"][0]["findings"][0]["code"], "device-unclaimed");
}

#[test]
fn an_unknown_boot_loader_makes_every_installed_kernel_a_candidate() {
    let machine = Machine::new().kernel(K).kernel("6.1.0-55-amd64").vf("ixgbevf");
    let value = machine.run(&["--format", "json", "check"]).json();
    assert_eq!(value["kernels"].as_array().unwrap().len(), 2);
    let codes: Vec<&Value> = value["kernels"][0]["findings"].as_array().unwrap().iter().map(|f| &f["code"]).collect();
    assert!(codes.contains(&&Value::from("boot-unknown")), "{codes:?}");
}

#[test]
fn verify_of_what_is_no_module_is_a_finding_and_of_what_is_not_there_an_error() {
    let machine = Machine::new().kernel(K).file("junk.ko", "no module");
    let junk = machine.path("junk.ko");
    let run = machine.run(&["--format", "json", "verify", junk.to_str().unwrap(), "--kernel", K]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    let value = run.json();
    assert_eq!((&value["verdict"], &value["kernel"]), (&Value::from("unsafe"), &Value::from(K)));
    assert!(value["module"].is_object());
    assert_eq!(value["findings"][0]["code"], "not-elf");
    // Several are judged together, each in the order given, under the worst verdict.
    let both = [junk.to_str().unwrap(), junk.to_str().unwrap()];
    let value = machine.run(&[&["--format", "json", "verify"], &both[..], &["--kernel", K]].concat()).json();
    assert_eq!((&value["verdict"], value["modules"].as_array().unwrap().len()), (&"unsafe".into(), 2));
    assert_eq!(value["modules"][1]["findings"][0]["code"], "not-elf");
    assert_eq!(machine.run(&["verify", "--kernel", K]).code, 2);
    assert_eq!(machine.run(&["verify", "/nowhere/x.ko", "--kernel", K]).code, 1);
    assert_eq!(machine.run(&["verify", junk.to_str().unwrap(), "--kernel", "9.9.9"]).code, 1);
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
fn gate_open_needs_a_reason_and_check_stays_blind_to_it() {
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
fn observe_mode_reports_and_touches_nothing() {
    let machine = Machine::new().kernel(K).vf("ixgbevf").offline().file("etc/vfguard/config.toml", "mode = 'observe'\n");
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 3, "{}{}", run.stdout, run.stderr);
    assert!(!machine.path("run/systemd/system").exists());
}

#[test]
fn status_warns_before_an_update_removes_the_last_safe_kernel() {
    let old = "6.1.0-54-amd64";
    let warned = |limit: u32| {
        let machine = Machine::new().kernel(old).kernel(K).device(
            "0000:00:05.0",
            "pci:v00001AF4d00001041sv0sd0bc02sc00i00",
            Some("x"),
        );
        // Only the old kernel has a driver for the device, built in.
        let machine = machine.file(&format!("lib/modules/{old}/modules.builtin"), "kernel/drivers/net/x.ko\n");
        let machine =
            machine.file(&format!("lib/modules/{old}/modules.builtin.modinfo"), "x.alias=pci:v00001AF4d*\0x.license=GPL\0");
        let machine = machine.file("etc/dnf/dnf.conf", &format!("[main]\ninstallonly_limit={limit}\n"));
        assert_eq!((machine.run(&["check", old]).code, machine.run(&["check", K]).code), (0, 3));
        machine.run(&["--format", "json", "status"]).stdout.contains("last-safe-kernel")
    };
    assert!(warned(2), "the next update removes the old kernel, the only safe one");
    assert!(!warned(3), "with room for three it stays");
}

#[test]
fn a_move_of_the_boot_default_is_in_the_audit_log() {
    let machine = Machine::new().grub().kernel("6.1.0-55-amd64").boot_entry("6.1.0-55-amd64").kernel(K).boot_entry(K);
    let machine = machine.boot_default(K).vf("ixgbevf").running("6.1.0-55-amd64").offline();
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert_eq!(machine.saved_entry(), "6.1.0-55-amd64");
    let log = fs::read_to_string(machine.path("var/lib/vfguard/audit.log")).unwrap();
    assert!(log.contains("boot-default") && log.contains("6.1.0-55-amd64"), "{log}");
}

#[test]
fn observe_mode_opens_a_gate_that_was_closed_before() {
    let machine = Machine::new().kernel(K).vf("ixgbevf").offline();
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert!(machine.path("run/systemd/system/reboot.target.d/50-vfguard.conf").is_file());
    let machine = machine.file("etc/vfguard/config.toml", "mode = 'observe'\n");
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert!(!machine.path("run/systemd/system/reboot.target.d/50-vfguard.conf").exists());
}

#[test]
fn a_kernel_that_ran_is_remembered_once() {
    let machine = Machine::new().kernel(K).running(K);
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert_eq!(fs::read_to_string(machine.path("var/lib/vfguard/records/booted")).unwrap(), format!("{K}\n"));
}

#[test]
fn reconcile_with_no_headers_closes_the_gate_and_says_what_is_missing() {
    let machine = Machine::new().kernel(K).vf("ixgbevf").offline();
    let run = machine.run(&["--format", "json", "reconcile", "--from", "test"]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    assert_eq!(run.json()["gate"], "closed");
    assert!(machine.path("run/systemd/system/reboot.target.d/50-vfguard.conf").is_file());
    let value = machine.run(&["--format", "json", "check", K]).json();
    let findings = value["kernels"][0]["findings"].as_array().unwrap();
    assert!(findings.iter().any(|f| f["code"] == "headers-missing"), "{findings:?}");
}

#[test]
fn reconcile_of_a_safe_machine_does_nothing() {
    let machine = Machine::new().kernel(K);
    let run = machine.run(&["--format", "json", "reconcile"]);
    assert_eq!((run.code, run.json()["gate"].clone()), (0, Value::from("open")), "{}", run.stderr);
    assert!(!machine.path("run/systemd/system").exists());
}

#[test]
fn vfguard_off_on_the_command_line_keeps_hands_off() {
    let machine = Machine::new().kernel(K).vf("ixgbevf").file("proc/cmdline", "ro quiet vfguard=off\n");
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("vfguard=off"));
    assert!(!machine.path("run/systemd/system/reboot.target.d").exists());
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
fn the_manual_lists_every_finding_code_and_every_setting() {
    let page = Machine::new().run(&["man"]).stdout.replace('\\', "");
    let codes = include_str!("../../../src/finding/code.rs");
    let codes = codes.split("pub enum Code {").nth(1).unwrap().split('}').next().unwrap();
    for variant in codes.lines().map(str::trim).filter(|l| l.ends_with(',')) {
        let kebab: String = variant
            .trim_end_matches(',')
            .chars()
            .flat_map(|c| if c.is_uppercase() { vec!['-', c.to_ascii_lowercase()] } else { vec![c] })
            .collect();
        assert!(page.contains(kebab.trim_start_matches('-')), "the manual does not know {kebab}");
    }
    for setting in ["accept_in_tree", "drivers.required", "fetch.mirrors", "build.user", "boot.loader", "gate.poweroff"] {
        assert!(page.contains(setting), "the manual does not know {setting}");
    }
}

#[test]
fn the_manual_lists_every_recipe_of_the_packages() {
    let page = Machine::new().run(&["man"]).stdout;
    let section = page.split("\n.SH RECIPES\n").nth(1).unwrap().split("\n.SH ").next().unwrap();
    let listed: Vec<&str> = section.split("\n.TP\n").skip(1).map(|entry| entry.lines().next().unwrap()).collect();
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/drivers.d");
    let names =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned());
    let mut want: Vec<String> = names.map(|name| format!("\\fB{name}\\fR")).collect();
    want.sort();
    assert_eq!(listed, want);
}

/// A machine whose two network devices need two drivers, and an archive with its digest.
fn two_drivers() -> (Machine, String, String) {
    let digest = "a".repeat(64);
    let release = format!("[[releases]]\nversion = '1'\nurls = ['file:///none']\nsha256 = '{digest}'\n");
    let demo = format!("name = 'demo'\ndevices = ['pci:v00001234d0000D0F0sv*sd*bc*sc*i*']\n{release}");
    let spare = format!("name = 'spare'\ndevices = ['pci:v00001234d0000FFFFsv*sd*bc*sc*i*']\n{release}");
    let machine = Machine::new().grub().kernel(K).boot_entry(K).boot_default(K).running(K).offline().vf("ixgbevf");
    let machine = machine
        .device("0000:00:09.0", "pci:v00001234d0000D0F0sv00000000sd00000000bc02sc00i00", None)
        .file("etc/vfguard/drivers.d/demo.toml", &demo)
        .file("etc/vfguard/drivers.d/spare.toml", &spare)
        .recipe(&release)
        .file("source.tar.gz", "an archive");
    let source = machine.path("source.tar.gz").to_str().unwrap().to_owned();
    let digest = vfguard::driver::Digest::of("an archive".as_bytes()).unwrap().to_string();
    (machine, source, digest)
}

/// The command of a remedy, without the program's name.
fn command_of(stderr: &str) -> Vec<String> {
    let (_, command) = stderr.trim().rsplit_once("vfguard ").unwrap();
    command.split(' ').map(str::to_owned).collect()
}

#[test]
fn an_option_that_would_be_ignored_or_taken_for_too_much_is_a_usage_error_whose_remedy_works() {
    let (machine, file, hex) = two_drivers();
    let source = ["--source", &file, "--sha256", &hex];
    let list = "more than one is to be built: demo, ixgbevf";
    for (what, args, words) in [
        ("an archive for two drivers", [&["prepare"], &source[..]].concat(), list),
        ("the same for a kernel", [&["prepare", K], &source[..]].concat(), list),
        ("the same for all kernels", [&["prepare", "--all"], &source[..]].concat(), list),
        ("the same anew", [&["prepare", "--rebuild"], &source[..]].concat(), list),
        ("a driver that nothing needs", vec!["prepare", "--driver", "spare"], "does not need spare"),
        ("an archive of it", [&["prepare", "--driver", "spare"], &source[..]].concat(), "would not be used"),
        (
            "a rehearsal of two drivers",
            vec!["rehearse", K],
            "more than one driver, and a rehearsal is for one: demo, ixgbevf",
        ),
        ("the same of an archive", [&["rehearse", K], &source[..]].concat(), "a rehearsal is for one: demo, ixgbevf"),
    ] {
        let run = machine.run(&args);
        assert_eq!(run.code, 2, "{what}: {}{}", run.stdout, run.stderr);
        assert!(run.stderr.contains(words), "{what}: {}", run.stderr);
        assert!(!machine.path("run/vfguard/lock").exists(), "{what}: work began");
        let json = machine.run(&[&["--format", "json"], &args[..]].concat());
        assert!(json.code == 2 && json.json()["error"]["message"].as_str().unwrap().contains(words), "{what}");
        // What it says to type is taken: the kernel has no headers here, and that is as far as it gets.
        let mut again = command_of(&run.stderr);
        if again[0] == "rehearse" {
            assert_eq!(again[1..4], [K, "--driver", "demo"], "{what}: it would rehearse something else");
            // A directory that is not empty is as far as that gets.
            again.extend(["--scratch".to_owned(), machine.root().display().to_string()]);
        }
        let again = machine.run(&again.iter().map(String::as_str).collect::<Vec<_>>());
        let far = ["build tree", "headers", "not empty"].iter().any(|words| again.stderr.contains(words));
        assert!(again.code != 2 && far, "{what}: {}", again.stderr);
        let _ = fs::remove_dir_all(machine.path("run/vfguard"));
    }
    for (what, args) in [
        ("a digest without an archive", &["prepare", K, "--sha256", &hex][..]),
        ("an archive without a digest", &["prepare", K, "--source", &file]),
        ("a digest that is none", &["prepare", K, "--source", &file, "--sha256", "12"]),
        ("a kernel and all", &["prepare", K, "--all"]),
        ("no jobs", &["prepare", K, "--jobs", "0"]),
        ("too many jobs", &["prepare", K, "--jobs", "1025"]),
        ("a kernel and what is on offer", &["rehearse", K, "--available"]),
        ("a reason without an archive", &["rehearse", K, "--driver", "demo", "--reason", "x"]),
        ("a rehearsal's digest without an archive", &["rehearse", K, "--driver", "demo", "--sha256", &hex]),
    ] {
        let run = machine.run(args);
        assert_eq!(run.code, 2, "{what}: {}{}", run.stdout, run.stderr);
    }
}

#[test]
fn numbers_on_the_command_line_that_are_out_of_range_are_usage_errors_that_name_the_option() {
    let machine = Machine::new().kernel(K);
    let most = u64::MAX.to_string();
    let more = format!("{most}0");
    for jobs in ["0", "1025", "-1", "1.5", "four", "", &most, &more] {
        let run = machine.run(&["prepare", K, &format!("--jobs={jobs}")]);
        assert_eq!(run.code, 2, "--jobs={jobs}: {}", run.stderr);
        assert!(run.stderr.contains("--jobs") && !run.stderr.contains("panicked"), "{}", run.stderr);
    }
    for jobs in ["1", "1024"] {
        assert_ne!(machine.run(&["prepare", K, "--jobs", jobs]).code, 2, "--jobs {jobs}");
    }
    let times = [
        "0s",
        "999ms",
        "24h 1s",
        "-5m",
        "1.5",
        "5",
        "",
        "soon",
        &format!("{most}s"),
        &format!("{most}y"),
        &format!("{more}s"),
    ];
    for time in times {
        let run = machine.run(&["gate", "open", "--reason", "test", &format!("--for={time}")]);
        assert_eq!(run.code, 2, "--for={time}: {}", run.stderr);
        assert!(run.stderr.contains("--for") && !run.stderr.contains("panicked"), "{time}: {}", run.stderr);
    }
    for time in ["1s", "24h", "86400s"] {
        assert_eq!(machine.run(&["gate", "open", "--reason", "test", "--for", time]).code, 0, "--for {time}");
    }
}

#[test]
fn a_driver_that_is_named_is_the_only_one_that_is_prepared_and_nothing_to_do_is_said() {
    let (machine, file, hex) = two_drivers();
    let record = machine.path(&format!("var/lib/vfguard/records/{K}.json"));
    for args in [
        &["prepare", "--driver", "demo"][..],
        &["prepare", K, "--driver", "demo"],
        &["prepare", "--driver", "demo", "--source", &file, "--sha256", &hex],
    ] {
        assert_eq!(machine.run(args).code, 1);
        let text = fs::read_to_string(&record).unwrap();
        assert!(text.contains("\"demo\"") && !text.contains("\"ixgbevf\""), "{args:?}: {text}");
        fs::remove_file(&record).unwrap();
    }
    // Nothing that may boot needs anything.
    let machine = Machine::new().grub().kernel(K).boot_entry(K).boot_default(K).running(K);
    let run = machine.run(&["prepare"]);
    assert!(run.code == 0 && run.stdout.contains("no kernel that may boot next needs a driver built"), "{}", run.stdout);
    let run = machine.run(&["prepare", "--source", &file, "--sha256", &hex]);
    assert!(run.code == 2 && run.stderr.contains("would not be used") && run.stderr.contains(K), "{}", run.stderr);
    assert_eq!(machine.run(&["prepare", "--all", "--driver", "ixgbevf"]).code, 1);
    let run = Machine::new().run(&["prepare", "--all", "--driver", "ixgbevf"]);
    assert!(run.code == 0 && run.stdout.contains("no kernel is installed"), "{}{}", run.stdout, run.stderr);
}

#[test]
fn a_setting_that_is_out_of_range_ends_no_run_by_a_panic_and_closes_the_gate() {
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
