//! Options that contradict each other, are out of range or would be ignored.

use super::*;

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
fn an_option_that_would_be_ignored_or_affect_too_much_is_a_usage_error_whose_remedy_works() {
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
        // The command of the remedy is accepted. It gets no further because the kernel has no headers here.
        let mut again = command_of(&run.stderr);
        if again[0] == "rehearse" {
            assert_eq!(again[1..4], [K, "--driver", "demo"], "{what}: it would rehearse something else");
            // A directory that is not empty ends this one.
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
fn a_named_driver_is_the_only_one_that_is_prepared_and_nothing_to_do_is_reported() {
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
    // No kernel that may boot needs anything.
    let machine = Machine::new().grub().kernel(K).boot_entry(K).boot_default(K).running(K);
    let run = machine.run(&["prepare"]);
    assert!(run.code == 0 && run.stdout.contains("no kernel that may boot next needs a driver built"), "{}", run.stdout);
    let run = machine.run(&["prepare", "--source", &file, "--sha256", &hex]);
    assert!(run.code == 2 && run.stderr.contains("would not be used") && run.stderr.contains(K), "{}", run.stderr);
    assert_eq!(machine.run(&["prepare", "--all", "--driver", "ixgbevf"]).code, 1);
    let run = Machine::new().run(&["prepare", "--all", "--driver", "ixgbevf"]);
    assert!(run.code == 0 && run.stdout.contains("no kernel is installed"), "{}{}", run.stdout, run.stderr);
}
