//! The boot default on a live root, where vfguard calls the machine's own programs: grubby, bootctl, grub-editenv. In rescue mode, so that
//! the default is held and no systemd is needed to refuse a reboot.

#[path = "../../machine/mod.rs"]
mod machine;

use machine::live::enter;
use machine::{Machine, Run};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;

const OLD: &str = "6.1.0-53-amd64";
const NEW: &str = "6.1.0-54-amd64";
const NIC: &str = "pci:v00001D0Fd0000EC20sv00001D0Fsd0000EC20bc02sc00i00";
const DRIVER: &str = "ena.alias=pci:v00001D0Fd0000EC20sv*sd*bc*sc*i*\0ena.file=drivers/net/ena\0";

/// OLD runs and drives the card, NEW does not.
fn machine() -> Machine {
    let machine = Machine::new().kernel(OLD).kernel(NEW).device("0000:00:05.0", NIC, Some("ena"));
    let machine = machine
        .file(&format!("lib/modules/{OLD}/modules.builtin.modinfo"), DRIVER)
        .file("osrelease", &format!("{OLD}\n"))
        .file("cmdline", "ro single\n")
        .file("run/systemd/system/x", "")
        .file("run/nologin", "");
    fs::create_dir_all(machine.path("usr/bin")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_vfguard"), machine.path("usr/bin/vfguard")).unwrap();
    machine
}

/// Replaces a program of the machine by a script.
fn program(machine: Machine, path: &str, script: &str) -> Machine {
    let machine = machine.file(path, script);
    fs::set_permissions(machine.path(path), fs::Permissions::from_mode(0o755)).unwrap();
    machine
}

/// The output of a verb.
fn told(machine: &Machine, verb: &str) -> (Value, Run) {
    let run = enter(machine, &format!("vfguard --format json {verb}"));
    (run.json(), run)
}

#[test]
fn a_grubby_that_disagrees_is_reported_and_changes_no_verdict() {
    // grubby answers NEW, which is not safe, while the environment block holds the default on OLD.
    let machine = machine().grub().file("etc/os-release", "ID=rhel\nVERSION_ID=9.4\nID_LIKE=fedora\n");
    let machine = machine.boot_entry(OLD).boot_entry(NEW).boot_default(OLD);
    let machine = program(machine, "usr/sbin/grubby", &format!("#!/bin/sh\necho /boot/vmlinuz-{NEW}\n"));
    for verb in ["check", "status", "reconcile"] {
        let (value, run) = told(&machine, verb);
        assert_eq!((&value["verdict"], run.code), (&Value::from("safe"), 0), "{verb}: {value}");
    }
    let (status, _) = told(&machine, "status");
    assert_eq!(status["next_boot_certain"], true);
    let (next, run) = told(&machine, "next-boot");
    assert_eq!((&next["certain"], run.code), (&Value::from(true), 0), "{next}");
    let problems = next["problems"].to_string();
    assert!(problems.contains("grubby") && problems.contains(NEW), "{problems}");
    let (doctor, _) = told(&machine, "doctor");
    let of = |name: &str| {
        let checks = doctor["checks"].as_array().unwrap().iter();
        checks.filter(|c| c["name"] == name).map(|c| c["status"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((of("boot-default"), of("grubby")), (vec!["ok".to_owned()], vec!["warning".to_owned()]), "{doctor}");
}

const EFIVARS: &str = "sys/firmware/efi/efivars";
const LOADER: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// A stand-in for bootctl: the files of efivarfs are immutable except for a moment, and get a value with its attributes in one write. If
/// the value is the one in /var/junk, the firmware stores junk.conf instead.
const BOOTCTL: &str = r#"#!/bin/bash
printf '%s\n' "bootctl $1 [$2]" >>/var/bootctl.log
case $1 in
set-default) name=LoaderEntryDefault ;;
set-oneshot) name=LoaderEntryOneShot ;;
*) exit 1 ;;
esac
file=/sys/firmware/efi/efivars/$name-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f
value=$2
[ ! -e /var/junk ] || [ "$value" != "$(cat /var/junk)" ] || value=junk.conf
[ ! -e "$file" ] || chattr -i "$file"
if [ -z "$value" ]; then rm -f "$file"; exit; fi
python3 -c 'import sys
open(sys.argv[1], "wb").write(bytes([7, 0, 0, 0]) + (sys.argv[2] + "\0").encode("utf-16-le"))' "$file" "$value"
chattr +i "$file"
"#;

/// A machine with systemd-boot, and variables as in efivarfs: only its own tools can write, replace or remove one.
struct SystemdBoot(Machine);

impl SystemdBoot {
    fn new(variables: &[(&str, &str)]) -> SystemdBoot {
        let entry = |k: &str| format!("title x\nversion {k}\nsort-key x\nlinux /vmlinuz-{k}\n");
        let machine = machine()
            .file("sys/firmware/efi/fw_platform_size", "64")
            .file("boot/EFI/systemd/systemd-bootx64.efi", "")
            .file("boot/loader/loader.conf", "timeout 3\n")
            .file(&format!("boot/loader/entries/{OLD}.conf"), &entry(OLD))
            .file(&format!("boot/loader/entries/{NEW}.conf"), &entry(NEW));
        let machine = SystemdBoot(program(machine, "usr/local/sbin/bootctl", BOOTCTL));
        fs::create_dir_all(machine.0.path(EFIVARS)).unwrap();
        for (name, value) in variables {
            let bytes = [7u8, 0, 0, 0].into_iter();
            let bytes: Vec<u8> = bytes.chain(format!("{value}\0").encode_utf16().flat_map(u16::to_le_bytes)).collect();
            fs::write(machine.path(name), bytes).unwrap();
        }
        machine.immutable("+i");
        machine
    }

    fn path(&self, variable: &str) -> std::path::PathBuf {
        self.0.path(&format!("{EFIVARS}/{variable}-{LOADER}"))
    }

    fn immutable(&self, flag: &str) {
        for entry in fs::read_dir(self.0.path(EFIVARS)).unwrap() {
            let status = std::process::Command::new("chattr").arg(flag).arg(entry.unwrap().path()).status();
            assert!(status.unwrap().success(), "the file system of TMPDIR knows no immutable files");
        }
    }

    fn value(&self, variable: &str) -> Option<String> {
        let bytes = fs::read(self.path(variable)).ok()?;
        let units: Vec<u16> =
            bytes[4..].chunks(2).map(|c| u16::from_le_bytes([c[0], c[1]])).take_while(|u| *u != 0).collect();
        Some(String::from_utf16(&units).unwrap())
    }

    fn calls(&self) -> Vec<String> {
        fs::read_to_string(self.0.path("var/bootctl.log")).unwrap_or_default().lines().map(str::to_owned).collect()
    }
}

impl Drop for SystemdBoot {
    fn drop(&mut self) {
        self.immutable("-i");
    }
}

#[test]
fn systemd_boot_is_held_and_promoted_by_bootctl() {
    let m =
        SystemdBoot::new(&[("LoaderEntryDefault", &format!("{NEW}.conf")), ("LoaderEntryOneShot", &format!("{NEW}.conf"))]);
    let (value, run) = told(&m.0, "reconcile");
    assert_eq!(run.code, 3, "{value} {}", run.stderr);
    assert_eq!(m.value("LoaderEntryDefault"), Some(format!("{OLD}.conf")));
    assert_eq!(m.value("LoaderEntryOneShot"), None);
    assert_eq!(m.calls(), ["bootctl set-oneshot []".to_owned(), format!("bootctl set-default [{OLD}.conf]")]);
    fs::write(m.0.path(&format!("lib/modules/{NEW}/modules.builtin.modinfo")), DRIVER).unwrap();
    let (value, run) = told(&m.0, "reconcile");
    assert_eq!((run.code, m.value("LoaderEntryDefault")), (0, Some(format!("{NEW}.conf"))), "{value} {}", run.stderr);
    assert_eq!(fs::read_to_string(m.0.path("boot/loader/loader.conf")).unwrap(), "timeout 3\n");
}

#[test]
fn a_variable_without_effect_is_restored_in_the_way_in_which_it_was_set() {
    for before in [format!("{NEW}.conf"), "@saved".to_owned(), "*-54-*".to_owned()] {
        let m = SystemdBoot::new(&[("LoaderEntryDefault", &before), ("LoaderEntryLastBooted", &format!("{NEW}.conf"))]);
        fs::create_dir_all(m.0.path("var")).unwrap();
        fs::write(m.0.path("var/junk"), format!("{OLD}.conf")).unwrap();
        let run = enter(&m.0, "vfguard reconcile");
        assert_eq!(run.code, 3, "{}{}", run.stdout, run.stderr);
        assert!(run.stdout.contains("the boot loader would still start"), "{}{}", run.stdout, run.stderr);
        assert_eq!(m.value("LoaderEntryDefault"), Some(before.clone()), "{}{}", run.stdout, run.stderr);
        // One run tries twice, before and after its build, and each later run would try too. So a change without effect is not repeated for
        // a time.
        let once = [format!("bootctl set-default [{OLD}.conf]"), format!("bootctl set-default [{before}]")];
        assert_eq!(m.calls(), once);
        let run = enter(&m.0, "vfguard reconcile");
        assert!(run.code == 3 && run.stdout.contains("boot default not held"), "{}{}", run.stdout, run.stderr);
        assert_eq!(m.calls(), once);
    }
}

#[test]
fn a_one_shot_entry_that_cannot_be_removed_is_restored_in_the_way_in_which_it_was_removed() {
    let m =
        SystemdBoot::new(&[("LoaderEntryDefault", &format!("{OLD}.conf")), ("LoaderEntryOneShot", &format!("{NEW}.conf"))]);
    // The firmware keeps a value although it should have removed it, and that value still names the kernel.
    let stub = fs::read_to_string(m.0.path("usr/local/sbin/bootctl")).unwrap();
    let kept = stub.replace("value=$2\n", &format!("value=${{2:-{NEW}*}}\n"));
    fs::write(m.0.path("usr/local/sbin/bootctl"), kept).unwrap();
    let run = enter(&m.0, "vfguard reconcile");
    assert!(
        run.stdout.contains("bootctl set-oneshot") || run.stdout.contains("it still is"),
        "{}{}",
        run.stdout,
        run.stderr
    );
    assert_eq!(m.value("LoaderEntryOneShot"), Some(format!("{NEW}.conf")), "{}{}", run.stdout, run.stderr);
    assert_eq!(m.calls()[..2], ["bootctl set-oneshot []".to_owned(), format!("bootctl set-oneshot [{NEW}.conf]")]);
}

#[test]
fn a_default_in_loader_conf_is_held_there_and_no_variable_is_created() {
    let m = SystemdBoot::new(&[]);
    let conf = m.0.path("boot/loader/loader.conf");
    fs::write(&conf, format!("timeout 3\ndefault {NEW}*\n")).unwrap();
    let (value, run) = told(&m.0, "reconcile");
    assert_eq!(run.code, 3, "{value} {}", run.stderr);
    assert!(fs::read_to_string(&conf).unwrap().contains(&format!("default {OLD}.conf")));
    assert_eq!((m.value("LoaderEntryDefault"), m.calls()), (None, vec![]));
}

/// A stand-in for systemctl that answers from the drop-ins in /run, and logs its calls.
const SYSTEMCTL: &str = r#"#!/bin/sh
echo "$*" >>/var/systemctl.log
[ "$1" = show ] || exit 0
shift 2
for unit; do
    requires=
    [ ! -e "/run/systemd/system/$unit.d/50-vfguard.conf" ] || requires=VFGUARD_blocks_reboot__run_vfguard_status.service
    state=loaded
    [ "$(readlink "/run/systemd/system/$unit")" != /dev/null ] || state=masked
    printf 'Id=%s\nLoadState=%s\nRequires=%s\n\n' "$unit" "$state" "$requires"
done
"#;

#[test]
fn the_lock_that_refuses_a_poweroff_is_released_once_the_setting_is_gone() {
    let machine = machine().grub().boot_entry(OLD).boot_entry(NEW).boot_default(NEW).file("cmdline", "ro\n");
    let machine = program(machine, "usr/local/sbin/systemctl", SYSTEMCTL)
        .file("usr/lib/systemd/system/vfguard-inhibit.service", "")
        .file("usr/lib/systemd/libsystemd-shared-257.so", "")
        .file("etc/vfguard/config.toml", "[gate]\npoweroff = true\n");
    let orders = |machine: &Machine| {
        let run = enter(machine, ": >/var/systemctl.log; vfguard reconcile --no-build >&2; cat /var/systemctl.log");
        assert!(run.stderr.contains("gate closed"), "{}", run.stderr);
        run.stdout
    };
    assert!(orders(&machine).contains("start --no-block vfguard-inhibit.service"));
    let machine = machine.file("etc/vfguard/config.toml", "");
    let told = orders(&machine);
    assert!(told.lines().any(|l| l.starts_with("stop") && l.contains("vfguard-inhibit.service")), "{told}");
}

#[test]
fn no_hold_is_lost_in_parallel_with_the_real_grub_editenv() {
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    let named = |name: &&str| Command::new(name).arg("--version").output().is_ok();
    let editor = ["grub-editenv", "grub2-editenv"].into_iter().find(named).expect("grub-editenv is not installed");
    let machine = machine().grub().boot_entry(OLD).boot_entry(NEW).boot_default(NEW).running(OLD);
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    let env = machine.path("boot/grub2/grubenv");
    let (done, writes) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let n = writes.fetch_add(1, Ordering::Relaxed);
                // Now and then a package's scriptlet sets the default, and the hold must survive the next write.
                let default = format!("saved_entry={}-{NEW}", machine::MACHINE_ID);
                let set = if n % 50 == 49 { default } else { format!("other={n}") };
                let status = Command::new(editor).arg(&env).args(["set", &set]).status();
                assert!(status.unwrap().success());
            }
        });
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut missed = 0;
            for n in 0..200 {
                let run = machine.run(&["reconcile", "--no-build"]);
                let told = run.stdout + &run.stderr;
                assert_eq!(run.code, 3, "{n}: {told}");
                let hold = fs::read_to_string(machine.path("var/lib/vfguard/records/hold.json")).unwrap_or_default();
                // A run gives up after some attempts, each of which the other writer came between; it says so, and the next one holds.
                let gave_up = told.contains("something else sets the boot default at this moment");
                let held = hold.contains(NEW) && hold.contains(OLD);
                missed = if held { 0 } else { missed + 1 };
                assert!(held || (gave_up && missed < 3), "{n}: the hold is lost, {missed} times: {told}");
            }
        }));
        done.store(true, Ordering::Relaxed);
        looked.unwrap_or_else(|e| std::panic::resume_unwind(e));
    });
    assert!(writes.load(Ordering::Relaxed) > 200, "{writes:?} writes beside 200 runs");
    assert_eq!(machine.run(&["-q", "reconcile", "--no-build"]).code, 3);
    assert_eq!(machine.saved_entry(), OLD);
    assert!(fs::read_to_string(&env).unwrap().contains(&format!("vfguard_hold={OLD}")));
}
