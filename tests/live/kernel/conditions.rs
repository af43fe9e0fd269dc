//! A host in a bad condition: read-only, full, without permission. Each case ends in one line with a remedy, and leaves nothing half-done.

#[path = "../../machine/mod.rs"]
mod machine;

use machine::lab::Lab;
use machine::{Machine, Run};
use std::fs;
use std::process::Command;

/// Runs the binary in a mount namespace, after `setup` (a shell line; `$R` is the root).
fn run_after(machine: &Machine, setup: &str, args: &[&str]) -> Run {
    let script = format!("set -e; {setup}; exec \"$0\" --root \"$R\" \"$@\"");
    Command::new("unshare")
        .args(["-m", "sh", "-c", &script, env!("CARGO_BIN_EXE_vfguard")])
        .args(args)
        .env("R", machine.root())
        .output()
        .unwrap()
        .into()
}

fn demo(lab: &Lab) -> (Machine, String) {
    let kernel = lab.get("K_NEW").to_owned();
    (lab.install(lab.machine().grub(), &kernel).demo(lab), kernel)
}

/// The files below a directory, to compare before and after.
fn listing(machine: &Machine, dir: &str) -> Vec<String> {
    let output = Command::new("find").arg(machine.path(dir)).output().unwrap();
    let mut lines: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn the_same_machine_in_good_condition_is_prepared() {
    let lab = Lab::open();
    let (machine, kernel) = demo(&lab);
    let run = machine.run(&["prepare", &kernel, "--driver", "demo"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let run = machine.run(&["prepare", &kernel, "--driver", "demo", "--rebuild"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let table = fs::read_to_string(machine.path(&format!("lib/modules/{kernel}/modules.dep"))).unwrap();
    assert_eq!(table, "updates/vfguard/demo.ko:\n", "depmod saw the file that was replaced");
}

#[test]
fn an_unwritable_log_and_record_stop_no_build_and_hide_no_failure() {
    let lab = Lab::open();
    let (machine, kernel) = demo(&lab);
    let machine = machine.file("var/lib/vfguard/log", "no directory").file("var/lib/vfguard/records", "no directory");
    let run = machine.run(&["prepare", &kernel, "--driver", "demo"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(run.stderr.contains("no log is written: ") && run.stderr.contains("no record was written: "), "{}", run.stderr);
    assert!(machine.path(&format!("lib/modules/{kernel}/updates/vfguard/demo.ko")).exists());
    let (file, digest) = machine::lab::archive(machine.root(), "echo 'x.c:1:1: error: why'; exit 1\n", &[]);
    let source = ["--source", file.to_str().unwrap(), "--sha256", &digest];
    let run = machine.run(&[&["prepare", &kernel, "--driver", "demo"], &source[..]].concat());
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    assert!(run.stderr.contains("x.c:1:1: error: why (no log could be written)"), "{}", run.stderr);
    assert!(run.stderr.contains("no record was written: "), "{}", run.stderr);
}

#[test]
fn read_only_modules_are_one_line_and_nothing_is_left() {
    let lab = Lab::open();
    let (machine, kernel) = demo(&lab);
    let before = listing(&machine, "lib/modules");
    let setup = "mount --bind \"$R/lib/modules\" \"$R/lib/modules\"; mount -o remount,ro,bind \"$R/lib/modules\"";
    let run = run_after(&machine, setup, &["-q", "prepare", &kernel, "--driver", "demo"]);
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    assert!(run.stderr.contains("ead-only"), "{}", run.stderr);
    assert_eq!(listing(&machine, "lib/modules"), before);
    assert_eq!(run_after(&machine, setup, &["-q", "check", &kernel]).code, 3, "check works where nothing can be written");
}

#[test]
fn a_full_disk_is_recognised_and_nothing_is_left() {
    let lab = Lab::open();
    let (machine, kernel) = demo(&lab);
    fs::create_dir_all(machine.path("var")).unwrap();
    let before = listing(&machine, "lib/modules");
    let run =
        run_after(&machine, "mount -t tmpfs -o size=64k none \"$R/var\"", &["-q", "prepare", &kernel, "--driver", "demo"]);
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    let told = run.stderr.to_lowercase();
    assert!(told.contains("space"), "{}", run.stderr);
    assert_eq!(listing(&machine, "lib/modules"), before);
}

#[test]
fn in_a_full_module_directory_the_previous_module_is_restored() {
    let lab = Lab::open();
    let (machine, kernel) = demo(&lab);
    let setup = "cp -a \"$R/lib/modules\" \"$R/keep\"; mount -t tmpfs -o size=200k none \"$R/lib/modules\"; cp -a \"$R/keep/.\" \"$R/lib/modules\"; \
                 mkdir -p \"$R/lib/modules/$K/updates/vfguard\"; echo old >\"$R/lib/modules/$K/updates/vfguard/demo.ko\"; \
                 dd if=/dev/zero of=\"$R/lib/modules/fill\" bs=1k 2>/dev/null || :";
    let setup = setup.replace("$K", &kernel);
    let after = format!(
        "{setup}; \"$0\" --root \"$R\" -q prepare {kernel} --driver demo && exit 90; cat \"$R/lib/modules/{kernel}/updates/vfguard/demo.ko\" >&2"
    );
    let run = run_after(&machine, &after, &["--version"]);
    assert_eq!(run.code, 0, "it installed on a full disk: {}{}", run.stdout, run.stderr);
    assert!(run.stderr.ends_with("old\n"), "the previous module is gone: {}", run.stderr);
}

#[test]
fn a_user_who_is_not_root_may_look_and_is_told_what_needs_root() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let lab = Lab::open();
    let (machine, kernel) = demo(&lab);
    fs::set_permissions(machine.root(), fs::Permissions::from_mode(0o755)).unwrap();
    let binary = machine.path("vfguard");
    fs::copy(env!("CARGO_BIN_EXE_vfguard"), &binary).unwrap();
    let run = |args: &[&str]| {
        let output =
            Command::new(&binary).arg("--root").arg(machine.root()).args(args).uid(65534).gid(65534).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(run(&["-q", "check", &kernel]).0, Some(3));
    assert_eq!(run(&["status"]).0, Some(0));
    let module = lab.file("MODULE_IXGBEVF");
    let copy = machine.path("module.ko");
    fs::copy(module, &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(run(&["-q", "verify", "/module.ko", "--kernel", &kernel]).0, Some(0));
    for verb in [&["reconcile"][..], &["prepare", &kernel]] {
        let (code, stderr) = run(verb);
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains("ermission"), "{stderr}");
    }
}

/// The SELinux label of a file, with `setfattr` and `getfattr` (the package attr). A kernel without SELinux keeps it too.
fn label(machine: &Machine, path: &str, new: Option<&str>) -> String {
    let path = machine.path(path);
    let mut command = Command::new(if new.is_some() { "setfattr" } else { "getfattr" });
    command.args(["-n", "security.selinux"]);
    match new {
        Some(new) => command.args(["-v", new]),
        None => command.arg("--only-values"),
    };
    let output = command.arg(&path).output().unwrap();
    assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end_matches('\0').to_owned()
}

#[test]
fn an_installed_module_gets_the_label_and_the_compression_of_the_in_tree_one() {
    let lab = Lab::open();
    let (machine, kernel) = demo(&lab);
    let own = format!("lib/modules/{kernel}/kernel/drivers/net/other.ko");
    fs::create_dir_all(machine.path(&own).parent().unwrap()).unwrap();
    fs::copy(lab.file("MODULE_IXGBEVF"), machine.path(&own)).unwrap();
    assert!(Command::new("xz").arg(machine.path(&own)).status().unwrap().success());
    let value = "system_u:object_r:modules_object_t:s0";
    label(&machine, &format!("{own}.xz"), Some(value));
    let run = machine.run(&["prepare", &kernel, "--driver", "demo"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert_eq!(label(&machine, &format!("lib/modules/{kernel}/updates/vfguard/demo.ko.xz"), None), value);
}

/// The demo driver with a source whose `make` runs this script. Returns the output of the first `reconcile`, and whether the second one
/// built again.
fn fails_twice(script: &str) -> (String, bool) {
    let lab = Lab::open();
    let (machine, kernel) = demo(&lab);
    let (_, digest) = machine::lab::archive(machine.root(), script, &[]);
    let machine = machine.file(
        "etc/vfguard/drivers.d/demo.toml",
        &format!(
            "name = 'demo'\ndevices = ['pci:v00001234d0000D0F0sv*sd*bc*sc*i*']\n\
             [[releases]]\nversion = '1.0'\nurls = ['file:///source.tar.gz']\nsha256 = '{digest}'\n"
        ),
    );
    let machine = machine.running(&kernel);
    let first = machine.run(&["reconcile"]);
    let log = machine.path(&format!("var/lib/vfguard/log/{kernel}-demo-1.0.log"));
    let built = || fs::metadata(&log).unwrap().modified().unwrap();
    let before = built();
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    (first.stdout + &first.stderr, built() != before)
}

#[test]
fn a_failure_that_a_person_can_fix_is_tried_again_and_one_that_needs_another_source_is_not() {
    for (script, words, again) in [
        ("echo 'a.c:1:1: fatal error: linux/foo.h: No such file or directory'; exit 1", "a header that", false),
        ("echo 'a.c:1:1: error: implicit declaration of function x'; exit 1", "written for other kernels", false),
        ("echo 'cc1: error: code model kernel does not support PIC mode'; exit 1", "position-independent", false),
        ("gcc --no-such-flag-of-k -c nothing.c; exit 1", "own compiler a flag that it does not know", false),
        ("echo 'cc1: error: incompatible gcc/plugin versions'; exit 1", "a compiler plugin", true),
        ("echo 'all is well'", "make ended well and built no module", false),
        ("sh -c 'no-such-program-of-the-build'", "a program that the build calls is missing", true),
        ("echo 'sh: 1: pahole: not found'; exit 1", "pahole", true),
        ("echo 'ld: final link failed: No space left on device'; exit 1", "filled its private /tmp", true),
        ("kill -9 $$", "was killed", true),
        ("echo 'the moon is full'; exit 1", "the build failed", true),
    ] {
        let (told, built) = fails_twice(script);
        assert!(told.contains(words), "{script}: {told}");
        assert_eq!(built, again, "{script}: {told}");
    }
}
