//! The boot default is moved only where that has an effect, and the wanted kernel is never lost meanwhile.

#[path = "../../machine/mod.rs"]
mod machine;

use machine::{Machine, Run, MACHINE_ID};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

const OLD: &str = "6.1.0-53-amd64";
const NEW: &str = "6.1.0-54-amd64";
const NIC: &str = "pci:v00001234d0000BEEFsv00001234sd0000BEEFbc02sc00i00";
const GRUBENV: &str = "boot/grub2/grubenv";
const RECORDS: &str = "var/lib/vfguard/records";
const READY: &str = "var/lib/vfguard/ready/hold";
const DRIVER: &str = "ena.alias=pci:v00001234d0000BEEFsv*sd*bc*sc*i*\0ena.file=drivers/net/ena\0";

/// OLD runs and drives the card. NEW is the boot default and does not.
fn machine() -> Machine {
    Machine::new()
        .grub()
        .device("0000:00:05.0", NIC, Some("ena"))
        .kernel(OLD)
        .kernel(NEW)
        .boot_entry(OLD)
        .boot_entry(NEW)
        .boot_default(NEW)
        .file(&format!("lib/modules/{OLD}/modules.builtin.modinfo"), DRIVER)
        .file("proc/sys/kernel/osrelease", &format!("{OLD}\n"))
}

fn mended(machine: Machine) -> Machine {
    machine.file(&format!("lib/modules/{NEW}/modules.builtin.modinfo"), DRIVER)
}

fn said(run: &Run) -> String {
    format!("{}{}", run.stdout, run.stderr)
}

#[test]
fn a_kernel_loaded_for_kexec_keeps_holds_working_and_leaves_the_next_boot_uncertain() {
    let loaded = |machine: Machine| machine.file("sys/kernel/kexec_loaded", "1\n");
    let machine = loaded(machine());
    let run = machine.run(&["reconcile"]);
    assert_eq!((run.code, machine.saved_entry().as_str()), (3, OLD), "{}", said(&run));
    let next = machine.run(&["--format", "json", "next-boot"]);
    assert_eq!((next.code, &next.json()["certain"]), (1, &serde_json::json!(false)), "{}", said(&next));
    assert!(said(&machine.run(&["check"])).contains("kexec -u"));
    // The same where nothing can be decided.
    let machine = loaded(self::machine()).file("etc/vfguard/drivers.d/x.toml", "no recipe\n");
    let run = machine.run(&["reconcile"]);
    assert_eq!((run.code, machine.saved_entry().as_str()), (1, OLD), "{}", said(&run));
    // Once every kernel is safe, the wanted kernel is promoted, whichever of them a kexec would start.
    let machine = loaded(self::machine());
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    let machine = mended(machine);
    let run = machine.run(&["reconcile"]);
    assert_eq!((run.code, machine.saved_entry().as_str()), (0, NEW), "{}", said(&run));
}

/// Values that change with any write.
fn identity(path: &Path) -> (u64, i64, i64, i64, i64) {
    let meta = fs::metadata(path).unwrap();
    (meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec())
}

/// A machine whose configuration sets a literal default.
fn literal(machine: Machine) -> Machine {
    let config = fs::read_to_string(machine.path("boot/grub2/grub.cfg")).unwrap();
    machine.file("boot/grub2/grub.cfg", &config.replace("set default=\"${saved_entry}\"", "set default=\"0\""))
}

#[test]
fn a_hold_without_an_effect_is_not_tried_and_writes_nothing() {
    let ways = [
        (literal(machine()), GRUBENV, "would still start 6.1.0-54-amd64 (echo GRUB_DEFAULT=saved"),
        // The file that the hold would need is not created.
        (literal(machine()), "", "would still start 6.1.0-54-amd64 (echo GRUB_DEFAULT=saved"),
    ];
    for (machine, env, why) in ways {
        if env.is_empty() {
            fs::remove_file(machine.path(GRUBENV)).unwrap();
        }
        // The first run writes records about kernels.
        assert_eq!(machine.run(&["reconcile"]).code, 3);
        let watched = ["boot/grub2", env, RECORDS].map(|name| machine.path(name));
        let before = watched.each_ref().map(|path| identity(path));
        let run = machine.run(&["reconcile"]);
        assert_eq!(run.code, 3, "{}", said(&run));
        assert!(said(&run).contains("boot default not held: ") && said(&run).contains(why), "{}", said(&run));
        assert_eq!(watched.each_ref().map(|path| identity(path)), before, "{}", said(&run));
        assert!(machine.path(GRUBENV).exists() != env.is_empty() && !machine.path(RECORDS).join("hold.json").exists());
    }
}

/// The same with a configuration as grub-mkconfig writes it, with `41_custom` at its end.
fn stock(machine: Machine) -> Machine {
    let machine = literal(machine);
    let config = fs::read_to_string(machine.path("boot/grub2/grub.cfg")).unwrap();
    machine.file("boot/grub2/grub.cfg", &(config + READS_CUSTOM))
}

const CUSTOM: &str = "boot/grub2/custom.cfg";
const READS_CUSTOM: &str = "if [ -f ${config_directory}/custom.cfg ]; then\n  source ${config_directory}/custom.cfg\nfi\n";

fn next(machine: &Machine) -> String {
    let run = machine.run(&["--format", "json", "next-boot"]);
    run.json()["kernels"][0]["kernel"].as_str().unwrap().to_owned()
}

#[test]
fn a_literal_default_is_held_by_a_custom_cfg_that_the_promotion_removes() {
    let machine = stock(machine());
    let run = machine.run(&["reconcile"]);
    assert_eq!((run.code, next(&machine).as_str()), (3, OLD), "{}", said(&run));
    assert!(said(&run).contains(&format!("the boot default is held on {OLD}")), "{}", said(&run));
    // Nothing is written if nothing changes.
    let before = (identity(&machine.path(CUSTOM)), identity(&machine.path("boot/grub2")));
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 3, "{}", said(&run));
    assert_eq!((identity(&machine.path(CUSTOM)), identity(&machine.path("boot/grub2"))), before);
    let machine = mended(machine);
    let run = machine.run(&["reconcile"]);
    assert_eq!((run.code, next(&machine).as_str()), (0, NEW), "{}", said(&run));
    assert!(!machine.path(CUSTOM).exists() && !machine.path(RECORDS).join("hold.json").exists());
    // `gate remove` cannot keep the held kernel, and says which one boots.
    let machine = stock(self::machine());
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    let run = machine.run(&["gate", "remove"]);
    assert!(said(&run).contains(&format!("THE BOOT DEFAULT IS GIVEN BACK: {NEW} BOOTS NEXT")), "{}", said(&run));
    assert!(next(&machine) == NEW && !machine.path(CUSTOM).exists());
}

#[test]
fn a_full_or_read_only_boot_loader_directory_is_reported_and_not_written_to() {
    for (spoil, why) in [
        ("dd if=/dev/zero of=$R/boot/grub2/fill bs=4k 2>/dev/null", "is full"),
        ("mount -o remount,ro $R/boot/grub2", "cannot be written"),
    ] {
        let machine = stock(machine());
        let script = format!(
            "cp -a $R/boot/grub2 $R/keep && mount -t tmpfs -o size=64k none $R/boot/grub2 && cp -a $R/keep/. $R/boot/grub2/ || exit 99; {spoil}; \
             at=$(stat -c %y $R/boot/grub2); $V --root $R reconcile; [ \"$at\" = \"$(stat -c %y $R/boot/grub2)\" ] || echo CHANGED; ls $R/boot/grub2"
        );
        let mut unshare = Command::new("unshare");
        unshare.args(["-m", "sh", "-c", &script]).env("R", machine.root()).env("V", env!("CARGO_BIN_EXE_vfguard"));
        let run = Run::from(unshare.output().unwrap());
        if run.stdout.is_empty() {
            println!("skipped boot_default/unshare: a file system cannot be mounted");
            return;
        }
        let said = said(&run);
        assert!(said.contains("boot default not held: ") && said.contains(why), "{said}");
        assert!(said.contains("a power cycle is not covered"), "{said}");
        assert!(!said.contains("CHANGED") && !said.contains("custom.cfg\n"), "{said}");
        assert!(!machine.path(RECORDS).join("hold.json").exists());
    }
}

/// Runs what vfguard-fail-closed.service does to the default after vfguard has died.
fn fail_closed(machine: &Machine) -> bool {
    let script = fs::read_to_string("packaging/systemd/fail-closed").unwrap();
    let start = script.find("\nready=").unwrap();
    let end = script.find("\n# Each file under another name first").unwrap();
    let root = machine.root().display().to_string();
    let ours = script[start..end].replace("/var/lib/vfguard", &format!("{root}/var/lib/vfguard"));
    let ours =
        ours.replace("\"/lib/modules/", &format!("\"{root}/lib/modules/")).replace("\"/boot/", &format!("\"{root}/boot/"));
    let ours = ours.replace(" /boot/grub", &format!(" {root}/boot/grub"));
    let run = Command::new("sh").args(["-euc", &format!("export LC_ALL=C\n{ours}\nhold")]).output().unwrap();
    assert!(run.stderr.is_empty(), "{}", String::from_utf8_lossy(&run.stderr));
    run.status.success()
}

#[test]
fn fail_closed_holds_a_literal_default_and_keeps_an_administrators_lines() {
    for mine in [None, Some("set timeout=3\n")] {
        let machine = mended(stock(machine().boot_default(OLD)));
        let machine = match mine {
            Some(text) => machine.file(CUSTOM, text),
            None => machine,
        };
        assert_eq!(machine.run(&["reconcile"]).code, 0);
        assert!(fs::read_to_string(machine.path(READY)).unwrap().starts_with(&format!("replace {OLD} ")));
        // A one-shot default is removed as well, since nothing judges it.
        let block = fs::read_to_string(machine.path(GRUBENV)).unwrap();
        let once = block.replacen("saved_entry=", &format!("next_entry={MACHINE_ID}-{NEW}\nsaved_entry="), 1);
        let machine = machine.file(GRUBENV, &once[..1024]);
        assert!(fail_closed(&machine));
        assert_eq!(next(&machine), OLD);
        let before = identity(&machine.path(CUSTOM));
        assert!(fail_closed(&machine), "once more");
        assert_eq!(identity(&machine.path(CUSTOM)), before);
        // If the menu was regenerated without that name, the script writes it, but does not rely on it.
        let entry = machine.path(&format!("boot/loader/entries/{MACHINE_ID}-{OLD}.conf"));
        let renamed = machine.path(&format!("boot/loader/entries/other-{OLD}.conf"));
        fs::rename(&entry, &renamed).unwrap();
        assert!(!fail_closed(&machine));
        fs::rename(&renamed, &entry).unwrap();
        // The next run knows the wanted kernel and ends the hold.
        let run = machine.run(&["reconcile"]);
        assert_eq!((run.code, next(&machine).as_str()), (0, NEW), "{}", said(&run));
        assert_eq!(fs::read_to_string(machine.path(CUSTOM)).ok().as_deref(), mine);
        // A later change by an administrator is not overwritten.
        let machine = machine.file(CUSTOM, "set timeout=5\n");
        assert!(!fail_closed(&machine));
        assert_eq!(fs::read_to_string(machine.path(CUSTOM)).unwrap(), "set timeout=5\n");
    }
}

#[test]
fn a_one_shot_default_that_cannot_be_removed_is_left_as_it_is() {
    let machine = machine().boot_default(OLD);
    let config = fs::read_to_string(machine.path("boot/grub2/grub.cfg")).unwrap();
    let once = format!("set next_entry={MACHINE_ID}-{NEW}\n{}", config.replace("load_env\n", "load_env saved_entry\n"));
    let machine = machine.file("boot/grub2/grub.cfg", &once);
    let before = identity(&machine.path(GRUBENV));
    let run = machine.run(&["reconcile"]);
    assert!(said(&run).contains("boot default not held: ") && said(&run).contains(NEW), "{}", said(&run));
    assert_eq!(identity(&machine.path(GRUBENV)), before, "{}", said(&run));
}

#[test]
fn a_hold_creates_a_missing_environment_file() {
    let machine = machine();
    fs::remove_file(machine.path(GRUBENV)).unwrap();
    let run = machine.run(&["reconcile"]);
    assert_eq!((run.code, machine.saved_entry().as_str()), (3, OLD), "{}", said(&run));
}

/// The system calls of a run that name files, with the paths of descriptors.
fn traced(machine: &Machine, args: &[&str]) -> std::io::Result<(Run, String)> {
    let trace = machine.path("trace");
    let calls = "trace=open,openat,rename,renameat,renameat2,unlink,unlinkat,fsync,fdatasync";
    let mut strace = Command::new("strace");
    strace.args(["-f", "-y", "-qq", "-e", calls, "-o"]).arg(&trace).arg(env!("CARGO_BIN_EXE_vfguard"));
    let output = strace.arg("--root").arg(machine.root()).args(args).output()?;
    Ok((Run::from(output), fs::read_to_string(trace)?))
}

#[test]
fn a_power_cut_does_not_undo_the_end_of_a_hold_or_a_decline() {
    for (mend, args, call, record) in [
        (true, &["reconcile", "--no-build"][..], "unlink", "/hold.json\""),
        (false, &["decline", NEW], "rename", "/declined.json\""),
        (false, &["accept", NEW], "unlink", "/declined.json\""),
    ] {
        let machine = machine();
        assert_eq!(machine.run(&["reconcile"]).code, 3);
        if args[0] == "accept" {
            assert_eq!(machine.run(&["decline", NEW]).code, 0);
        }
        let machine = if mend { mended(machine) } else { machine };
        let Ok((run, trace)) = traced(&machine, args) else {
            println!("skipped boot_default/strace: strace is not installed");
            return;
        };
        assert_eq!(run.code, 0, "{}", said(&run));
        let lines: Vec<&str> = trace.lines().collect();
        let done = lines.iter().position(|line| line.contains(call) && line.contains(record));
        let done = done.unwrap_or_else(|| panic!("{args:?}: the record stays as it was: {trace}"));
        let synced = |line: &&str| line.contains("fsync(") && line.contains(&format!("/{RECORDS}>"));
        assert!(lines[done..].iter().any(synced), "{args:?}: it is not made durable");
    }
}

#[test]
fn a_quiet_run_reads_the_boot_loaders_files_once() {
    for machine in [machine().boot_default(OLD), literal(machine().boot_default(OLD))] {
        let machine = mended(machine);
        assert_eq!(machine.run(&["reconcile"]).code, 0);
        let before = fs::read(machine.path(READY)).unwrap();
        let Ok((run, trace)) = traced(&machine, &["reconcile"]) else {
            println!("skipped boot_default/strace: strace is not installed");
            return;
        };
        assert_eq!(run.code, 0, "{}", said(&run));
        let read = |name: &str| trace.lines().filter(|line| line.contains("open") && line.contains(name)).count();
        // The entries here have no initrd, so they are compared with each other, which reads once more.
        assert_eq!((read("/boot/grub2/grub.cfg\""), read(&format!("-{NEW}.conf\""))), (2, 2), "{trace}");
        assert!(!trace.contains("unlink") && fs::read(machine.path(READY)).unwrap() == before);
    }
}

#[test]
fn the_ready_hold_is_renewed_when_anything_that_it_depends_on_changes() {
    let machine = mended(machine());
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    let left = |machine: &Machine| {
        machine.run(&["reconcile"]);
        String::from_utf8_lossy(&fs::read(machine.path(READY)).unwrap()).into_owned()
    };
    let whole = left(&machine);
    assert!(whole.starts_with(&format!("in-place {OLD} ")), "{whole}");
    // Truncated, or for another kernel.
    for spoiled in [&whole[..whole.len() - 1], &whole[..20], "", &whole.replacen(OLD, NEW, 1)] {
        fs::write(machine.path(READY), spoiled).unwrap();
        assert_eq!(left(&machine), whole);
    }
    // The environment, changed by GRUB itself, which does not change the file's times.
    let modified = fs::metadata(machine.path(GRUBENV)).unwrap().modified().unwrap();
    let block = fs::read_to_string(machine.path(GRUBENV)).unwrap();
    fs::write(machine.path(GRUBENV), block.replacen("\n#######", "\nboot=1\n", 1)).unwrap();
    fs::File::options().write(true).open(machine.path(GRUBENV)).unwrap().set_modified(modified).unwrap();
    assert!(left(&machine).contains("\nboot=1\n"));
    // A file that the configuration tests for.
    let config = fs::read_to_string(machine.path("boot/grub2/grub.cfg")).unwrap();
    let machine = machine.file("boot/grub2/grub.cfg", &format!("{config}{READS_CUSTOM}"));
    assert!(left(&machine).starts_with("in-place "));
    let machine = machine.file(CUSTOM, "set default=0\n");
    let held = left(&machine);
    assert!(held.starts_with(&format!("replace {OLD} ")) && held.contains("set default=0\n\n# vfguard-hold "), "{held}");
    fs::remove_file(machine.path(CUSTOM)).unwrap();
    assert!(left(&machine).starts_with("in-place "));
    // The entry.
    let entry = machine.path(&format!("boot/loader/entries/{MACHINE_ID}-{OLD}.conf"));
    fs::rename(&entry, machine.path("entry")).unwrap();
    assert!(left(&machine).starts_with("none "));
    fs::rename(machine.path("entry"), &entry).unwrap();
    assert!(left(&machine).starts_with("in-place "));
    // In observe mode no hold is left ready.
    let machine = machine.file("etc/vfguard/config.toml", "mode = \"observe\"\n");
    machine.run(&["reconcile"]);
    assert!(!machine.path(READY).exists());
}

#[test]
fn a_grubenv_write_that_a_power_cut_interrupted_is_finished_before_anything_is_judged() {
    let block = |entry: &str, hold: &str| {
        let options = "x".repeat(600);
        let mut block = format!("# GRUB Environment Block\nsaved_entry={entry}\nkernelopts={options}\n{hold}").into_bytes();
        block.resize(1024, b'#');
        block
    };
    let before = block(&format!("{MACHINE_ID}-{NEW}"), "");
    let after = block("0", &format!("vfguard_hold={OLD}\nvfguard_wanted={NEW}\n"));
    let machine = machine();
    let torn = [&before[..512], &after[512..]].concat();
    fs::write(machine.path(GRUBENV), &torn).unwrap();
    fs::create_dir_all(machine.path(RECORDS)).unwrap();
    let note = [format!("/{GRUBENV}\n").as_bytes(), &before, &after].concat();
    fs::write(machine.path(RECORDS).join("grubenv-write"), note).unwrap();
    let run = machine.run(&["reconcile", "--no-build"]);
    assert!(run.stdout.contains("a write that was cut short is finished"), "{}", said(&run));
    let now = fs::read_to_string(machine.path(GRUBENV)).unwrap();
    assert!(now.contains(&format!("vfguard_wanted={NEW}\n")) && now.contains(&"x".repeat(600)), "{now}");
    assert!(!machine.path(RECORDS).join("grubenv-write").exists());
}
