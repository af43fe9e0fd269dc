//! The gate where upstart is the init system (EL6), on roots made of files: the wrappers of packaging/el6 around programs that only print
//! how they were called.

#[path = "../../machine/mod.rs"]
mod machine;

use machine::{Machine, Run};
use std::fs;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::process::Command;

const OLD: &str = "2.6.32-431.el6.x86_64";
const NEW: &str = "2.6.32-431.20.3.el6.x86_64";
const STATE: &str = "run/vfguard/reboot-refused";
const EL6: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/el6");
const DEAF: &str = "etc/init/control-alt-delete.override";

fn program(machine: Machine, name: &str, says: &str) -> Machine {
    let machine = machine.file(&format!("sbin/{name}"), &format!("#!/bin/sh\necho {says} ${{0##*/}} \"$@\"\n"));
    fs::set_permissions(machine.path(&format!("sbin/{name}")), fs::Permissions::from_mode(0o755)).unwrap();
    machine
}

/// A stock EL6: OLD runs. NEW was installed, boots next and has no driver.
fn el6() -> Machine {
    let conf = format!(
        "default=0\ntimeout=0\ntitle new\n\troot (hd0,0)\n\tkernel /vmlinuz-{NEW} ro root=/dev/xvda1\n\
         title old\n\troot (hd0,0)\n\tkernel /vmlinuz-{OLD} ro root=/dev/xvda1\n"
    );
    let mut m =
        Machine::new().vf("ixgbevf").running(OLD).offline().kernel(OLD).kernel(NEW).file("boot/grub/grub.conf", &conf);
    m = m
        .file("sbin/initctl", "")
        .file("etc/init/control-alt-delete.conf", "")
        .file("proc/sys/kernel/random/boot_id", "b-1\n");
    for name in ["reboot", "shutdown", "telinit"] {
        m = program(m, name, "REAL");
    }
    for name in ["halt", "poweroff"] {
        symlink("reboot", m.path(&format!("sbin/{name}"))).unwrap();
    }
    m
}

fn tool(machine: &Machine, verb: &str) {
    let output = Command::new(format!("{EL6}/vfguard-upstart"))
        .arg(verb)
        .arg(machine.root())
        .env("VFGUARD_WRAPPER", format!("{EL6}/wrapper"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_real_programs_stay_executable_by_everybody_for_any_umask_of_the_tool() {
    let machine = el6();
    let output = Command::new("sh")
        .args(["-c", "umask 077; exec \"$0\" install \"$1\"", &format!("{EL6}/vfguard-upstart")])
        .arg(machine.root())
        .env("VFGUARD_WRAPPER", format!("{EL6}/wrapper"))
        .status()
        .unwrap();
    assert!(output.success());
    let mode = fs::metadata(machine.path("sbin/.vfguard")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755, "{mode:o}");
}

fn wrapped() -> Machine {
    let machine = el6();
    tool(&machine, "install");
    machine
}

fn closed() -> Machine {
    let machine = wrapped();
    let run = machine.run(&["reconcile", "--no-build"]);
    assert_eq!(run.code, 3, "{}{}", run.stdout, run.stderr);
    let held = format!("the boot default is held on {OLD}");
    assert!(run.stdout.contains(&held) || run.stderr.contains(&held), "{}{}", run.stdout, run.stderr);
    machine
}

fn call(machine: &Machine, name: &str, args: &[&str]) -> Run {
    let output = Command::new(machine.path(&format!("sbin/{name}"))).args(args).env_remove("RUNLEVEL").output().unwrap();
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

const REBOOTS: [(&str, &[&str]); 7] = [
    ("reboot", &[]),
    ("reboot", &["-d"]),
    ("shutdown", &["-r", "now"]),
    ("shutdown", &["-r", "+5", "a", "message"]),
    ("shutdown", &["-qr", "now"]),
    ("telinit", &["6"]),
    ("telinit", &["-t", "3", "6"]),
];
const OTHERS: [(&str, &[&str]); 9] = [
    ("reboot", &["-f"]),
    ("reboot", &["--force"]),
    ("reboot", &["-w"]),
    ("reboot", &["--help"]),
    ("shutdown", &["-c"]),
    ("shutdown", &["-k", "-r", "now"]),
    ("shutdown", &["now"]),
    ("telinit", &["3"]),
    ("telinit", &["q"]),
];
const OFFS: [(&str, &[&str]); 6] = [
    ("halt", &[]),
    ("poweroff", &[]),
    ("reboot", &["-p"]),
    ("shutdown", &["-h", "now"]),
    ("shutdown", &["-P", "now"]),
    ("telinit", &["0"]),
];

fn passes(machine: &Machine, name: &str, args: &[&str]) {
    let run = call(machine, name, args);
    assert_eq!(
        (run.code, run.stdout.trim_end()),
        (0, format!("REAL {name} {}", args.join(" ")).trim_end()),
        "{}",
        run.stderr
    );
}

fn refuses(machine: &Machine, name: &str, args: &[&str]) {
    let run = call(machine, name, args);
    assert!(run.code == 1 && run.stdout.is_empty(), "{name} {args:?}: {}{}", run.stdout, run.stderr);
    for word in ["vfguard refuses to reboot this machine", NEW, "to mend it: ", "vfguard gate open --reason"] {
        assert!(run.stderr.contains(word), "{word} is not in {}", run.stderr);
    }
}

#[test]
fn a_closed_gate_refuses_each_way_to_reboot_and_says_why() {
    let machine = closed();
    REBOOTS.iter().for_each(|(name, args)| refuses(&machine, name, args));
    OTHERS.iter().chain(&OFFS).for_each(|(name, args)| passes(&machine, name, args));
    assert!(fs::read_to_string(machine.path(DEAF)).unwrap().contains("\nexec /usr/bin/logger"));
    assert_eq!(machine.run(&["--format", "json", "gate", "show"]).json()["gate"], "closed");
    assert!(!machine.path("run/systemd").exists(), "files for systemd on a machine without");
    let conf = fs::read_to_string(machine.path("boot/grub/grub.conf")).unwrap();
    assert!(conf.contains("default=1"), "the boot default is not held: {conf}");
}

#[test]
fn an_open_gate_lets_everything_through_with_its_arguments() {
    let machine = wrapped();
    REBOOTS.iter().chain(&OTHERS).chain(&OFFS).for_each(|(name, args)| passes(&machine, name, args));
    let run = call(&machine, "shutdown", &["-r", "now", "two words", "*"]);
    assert_eq!(run.stdout, "REAL shutdown -r now two words *\n");
}

#[test]
fn force_passes_the_gate_and_is_not_handed_to_programs_that_do_not_know_it() {
    let machine = closed();
    for (name, args, real) in [
        ("reboot", &["--force"][..], "REAL reboot --force"),
        ("shutdown", &["-r", "--force", "now"], "REAL shutdown -r now"),
        ("telinit", &["--force", "6"], "REAL telinit 6"),
    ] {
        assert_eq!(call(&machine, name, args).stdout.trim_end(), real);
    }
}

#[test]
fn poweroff_is_refused_only_if_the_settings_say_so() {
    let machine = wrapped().file("etc/vfguard/config.toml", "[gate]\npoweroff = true\n");
    assert_eq!(machine.run(&["reconcile", "--no-build"]).code, 3);
    OFFS.iter().chain(&REBOOTS).for_each(|(name, args)| refuses(&machine, name, args));
}

#[test]
fn a_shutdown_in_progress_is_not_stopped() {
    let machine = closed();
    for level in ["0", "6"] {
        let output = Command::new(machine.path("sbin/reboot")).arg("-d").env("RUNLEVEL", level).output().unwrap();
        assert!(output.status.success(), "the machine would hang in runlevel {level}");
    }
}

#[test]
fn a_state_file_of_another_boot_refuses_nothing_and_counts_as_open() {
    let machine = closed().file("proc/sys/kernel/random/boot_id", "b-2\n");
    passes(&machine, "reboot", &[]);
    assert_eq!(machine.run(&["--format", "json", "gate", "show"]).json()["gate"], "open");
    assert_eq!(machine.run(&["reconcile", "--no-build"]).code, 3);
    refuses(&machine, "reboot", &[]);
}

#[test]
fn opening_removes_all_gate_files_and_keeps_an_admins_own_override() {
    let machine = closed();
    assert_eq!(machine.run(&["gate", "open", "--reason", "console at hand"]).code, 0);
    assert!(!machine.path(STATE).exists() && !machine.path(DEAF).exists());
    passes(&machine, "reboot", &[]);
    let machine = closed();
    assert_eq!(machine.run(&["gate", "remove"]).code, 0);
    assert!(!machine.path(STATE).exists() && !machine.path(DEAF).exists());
    let machine = wrapped().file(DEAF, "exec /bin/true\n");
    assert_eq!(machine.run(&["gate", "close"]).code, 0);
    assert_eq!(machine.run(&["--format", "json", "gate", "show"]).json()["gate"], "closed");
    assert_eq!(machine.run(&["gate", "open", "--reason", "x"]).code, 0);
    assert_eq!(fs::read_to_string(machine.path(DEAF)).unwrap(), "exec /bin/true\n");
}

#[test]
fn without_wrappers_nothing_is_gated_and_that_is_reported() {
    let machine = el6();
    let run = machine.run(&["reconcile"]);
    assert!(run.code == 0 && run.stdout.contains("vfguard-upstart install"), "{}{}", run.stdout, run.stderr);
    assert!(!machine.path(STATE).exists());
    assert_eq!(machine.run(&["gate", "close"]).code, 1);
    let doctor = machine.run(&["doctor"]).stdout;
    assert!(
        doctor.contains("failed: upstart-wrappers: not wrapped: /sbin/reboot, /sbin/shutdown, /sbin/telinit"),
        "{doctor}"
    );
    assert!(wrapped().run(&["doctor"]).stdout.contains("ok: upstart-wrappers"));
}

#[test]
fn an_update_that_replaces_the_programs_is_noticed_and_they_are_wrapped_again() {
    let machine = program(closed(), "reboot", "NEWER");
    assert_eq!(call(&machine, "reboot", &[]).stdout, "NEWER reboot\n", "the update replaced the wrapper");
    assert_eq!(machine.run(&["--format", "json", "gate", "show"]).json()["gate"], "open", "a gate with a hole");
    tool(&machine, "install");
    refuses(&machine, "reboot", &[]);
    assert_eq!(call(&machine, "reboot", &["-f"]).stdout, "NEWER reboot -f\n", "the old program came back");
    assert_eq!(call(&machine, "halt", &[]).stdout, "NEWER halt\n");
}

#[test]
fn after_the_loss_of_the_wrappers_a_hold_is_reported_and_ends_once_the_wanted_kernel_is_safe() {
    let machine = closed();
    tool(&machine, "remove");
    let held = |machine: &Machine| fs::read_to_string(machine.path("boot/grub/grub.conf")).unwrap().contains("default=1");
    let run = machine.run(&["reconcile", "--no-build"]);
    assert!(run.code == 0 && run.stdout.contains(&format!("vfguard decline {NEW}")), "{}{}", run.stdout, run.stderr);
    assert!(held(&machine));
    // A missing device proves nothing. A device that is gone for good needs no driver in the new kernel.
    fs::remove_dir_all(machine.path("sys/bus/pci/devices/0000:00:03.0")).unwrap();
    assert_eq!(machine.run(&["reconcile", "--no-build"]).code, 0);
    assert!(held(&machine));
    assert_eq!(machine.run(&["decline", "--device", "0000:00:03.0"]).code, 0);
    let conf = fs::read_to_string(machine.path("boot/grub/grub.conf")).unwrap();
    assert!(!held(&machine) && !conf.contains("vfguard"), "{conf}");
    assert!(!machine.path("var/lib/vfguard/records/hold.json").exists());
}

#[test]
fn removal_restores_everything() {
    let before = el6();
    let list = |m: &Machine| {
        let mut found = Vec::new();
        for entry in fs::read_dir(m.path("sbin")).unwrap() {
            let entry = entry.unwrap();
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            found.push((entry.file_name(), entry.path().is_symlink(), text));
        }
        found.sort();
        found
    };
    let machine = closed();
    tool(&machine, "install");
    tool(&machine, "remove");
    assert_eq!(list(&machine), list(&before));
    assert!(!machine.path(STATE).exists() && !machine.path(DEAF).exists());
    tool(&machine, "remove");
    assert_eq!(list(&machine), list(&before));
    // A newer program from an update is not replaced by the older one.
    let machine = program(closed(), "reboot", "NEWER");
    tool(&machine, "remove");
    assert_eq!(call(&machine, "reboot", &[]).stdout, "NEWER reboot\n");
}
