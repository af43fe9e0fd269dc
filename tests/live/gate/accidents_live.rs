//! Accidents around vfguard on a live root: a full /tmp, a full /run, a full disk, a systemd that does not do what it is told. Gate and
//! hold fail independently, and what could not be confirmed is reported as such. (With a real systemd: the vm tier.)

#[path = "../../machine/mod.rs"]
mod machine;

use machine::live::{enter, SYSTEMCTL};
use machine::{Machine, Run};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;

const OLD: &str = "6.1.0-53-amd64";
const NEW: &str = "6.1.0-54-amd64";
const NIC: &str = "pci:v00001234d0000BEEFsv00001234sd0000BEEFbc02sc00i00";
const DRIVER: &str = "ena.alias=pci:v00001234d0000BEEFsv*sd*bc*sc*i*\0ena.file=drivers/net/ena\0";

/// OLD runs and drives the card. NEW was installed, is the boot default, and does not. No run has decided yet.
fn machine() -> Machine {
    let machine = Machine::new()
        .grub()
        .kernel(OLD)
        .kernel(NEW)
        .boot_entry(OLD)
        .boot_entry(NEW)
        .boot_default(NEW)
        .device("0000:00:05.0", NIC, Some("ena"))
        .file(&format!("lib/modules/{OLD}/modules.builtin.modinfo"), DRIVER)
        .file("etc/os-release", "ID=rhel\nVERSION_ID=9.4\nID_LIKE=fedora\n")
        .file("osrelease", &format!("{OLD}\n"))
        .file("cmdline", "ro\n")
        .file("run/systemd/system/x", "")
        .file("usr/local/sbin/systemctl", SYSTEMCTL)
        .file("usr/lib/vfguard/fail-closed", include_str!("../../../packaging/systemd/fail-closed"));
    for program in ["usr/local/sbin/systemctl", "usr/lib/vfguard/fail-closed"] {
        fs::set_permissions(machine.path(program), fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::create_dir_all(machine.path("usr/bin")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_vfguard"), machine.path("usr/bin/vfguard")).unwrap();
    machine
}

/// Whether systemd, with the files that it has loaded, refuses a reboot.
fn refused(machine: &Machine) -> bool {
    let known = machine.path("srv/known");
    fs::read_to_string(known.join("reboot.target.d/50-vfguard.conf")).is_ok_and(|t| t.contains("\nRequires=VFGUARD_"))
        && fs::read_link(known.join("VFGUARD_blocks_reboot__run_vfguard_status.service")).is_ok()
}

/// The last line of a script's output as JSON.
fn last_json(run: &Run) -> Value {
    let line = run.stdout.lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {}{}", run.stdout, run.stderr))
}

const SHOW: &str = "vfguard --format json gate show | tr -d '\\n'; echo";

#[test]
fn a_tmp_that_any_user_has_filled_affects_neither_gate_nor_hold() {
    for full in ["size=4k", "size=1m,nr_inodes=1"] {
        let machine = machine();
        let run = enter(
            &machine,
            &format!(
                "mount -t tmpfs -o mode=1777,{full} full /tmp; setpriv --reuid 1234 --clear-groups head -c 9000 /dev/zero >/tmp/x; \
                 ! mktemp -d 2>/dev/null; ! head -c 5000 /dev/zero 2>/dev/null >/tmp/y || exit 9; \
                 vfguard reconcile; echo \"code $?\"; {SHOW}"
            ),
        );
        assert!(run.stdout.contains("code 3\n"), "{full}: {}{}", run.stdout, run.stderr);
        assert!(refused(&machine), "{full}: {}{}", run.stdout, run.stderr);
        assert_eq!(machine.saved_entry(), OLD, "{full}");
        let shown = last_json(&run);
        assert_eq!((&shown["gate"], &shown["not_confirmed"]), (&Value::from("closed"), &Value::Null), "{full}");
    }
}

#[test]
fn a_full_run_leaves_the_default_held_and_the_gate_not_confirmed() {
    for full in ["size=16k", "nr_inodes=12"] {
        let machine = machine();
        let run = enter(
            &machine,
            &format!(
                "mount -t tmpfs -o {full} full /run; mkdir -p /run/systemd/system; head -c 99999 /dev/zero >/run/x; \
                 for i in $(seq 99); do mkdir /run/$i; done 2>/dev/null; \
                 vfguard reconcile; echo \"code $?\"; vfguard gate show; {SHOW}"
            ),
        );
        assert!(run.stdout.contains("code 1\n"), "{full}: {}{}", run.stdout, run.stderr);
        let said = format!("{}{}", run.stdout, run.stderr);
        assert!(said.contains("gate not confirmed: ") && said.contains("the boot default is held on"), "{full}: {said}");
        assert_eq!(machine.saved_entry(), OLD, "{full}: {}{}", run.stdout, run.stderr);
        let shown = last_json(&run);
        assert_ne!(shown["gate"], "closed", "{full}: {shown}");
    }
}

#[test]
fn on_a_full_disk_gate_and_hold_work_and_the_wanted_kernel_is_known() {
    let machine = machine();
    let run = enter(
        &machine,
        "mkdir -p /var/lib; mount -t tmpfs -o size=4k full /var/lib; head -c 9999 /dev/zero >/var/lib/x; \
         vfguard reconcile; echo \"code $?\"; umount /var/lib",
    );
    assert!(run.stdout.contains("code 3\n"), "{}{}", run.stdout, run.stderr);
    assert!(refused(&machine) && machine.saved_entry() == OLD, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("not recorded: "), "{}", run.stdout);
    // The disk has space again: the mark in the loader's own file names the wanted kernel.
    let machine = machine.file(&format!("lib/modules/{NEW}/modules.builtin.modinfo"), DRIVER);
    let run = enter(&machine, "vfguard reconcile; echo \"code $?\"");
    assert!(run.stdout.contains("code 0\n"), "{}{}", run.stdout, run.stderr);
    assert!(!refused(&machine) && machine.saved_entry() == NEW, "{}{}", run.stdout, run.stderr);
}

#[test]
fn a_failed_reload_holds_the_default_is_reported_and_tried_again() {
    let machine = machine().file("srv/reload", "fails\n");
    let run = enter(&machine, &format!("vfguard reconcile; echo \"code $?\"; vfguard gate show; vfguard check; {SHOW}"));
    assert!(run.stdout.contains("code 1\n"), "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("gate: not confirmed; ") && run.stdout.contains("Refusing to reload"), "{}", run.stdout);
    assert!(run.stdout.contains("(gate open)"), "check says what systemd would do: {}", run.stdout);
    let shown = last_json(&run);
    assert!(shown["gate"] == "open" && shown["not_confirmed"].as_str().unwrap().contains("Refusing to reload"), "{shown}");
    assert!(machine.saved_entry() == OLD && !refused(&machine));
    fs::remove_file(machine.path("srv/reload")).unwrap();
    let run = enter(&machine, &format!("vfguard reconcile --no-build; echo \"code $?\"; {SHOW}"));
    assert!(run.stdout.contains("code 3\n") && refused(&machine), "{}{}", run.stdout, run.stderr);
    assert_eq!((&last_json(&run)["gate"], &last_json(&run)["not_confirmed"]), (&Value::from("closed"), &Value::Null));
}

#[test]
fn a_reload_that_hangs_does_not_keep_the_default_from_being_held() {
    let machine = machine().file("srv/reload", "hangs\n");
    // As the time limit of vfguard-boot.service would kill it.
    let run = enter(&machine, &format!("timeout -s KILL 15 vfguard reconcile --no-build; echo \"code $?\"; {SHOW}"));
    assert!(run.stdout.contains("code 137\n"), "{}{}", run.stdout, run.stderr);
    assert_eq!(machine.saved_entry(), OLD);
    assert_eq!(last_json(&run)["gate"], "open", "systemd has not read it: {}", run.stdout);
}

#[test]
fn an_incomplete_answer_of_systemd_and_no_answer_are_neither_open_nor_closed() {
    for bad in ["half", "silent"] {
        let machine = machine();
        let run = enter(
            &machine,
            &format!(
                "vfguard reconcile >/srv/first; echo {bad} >/srv/show; {SHOW}; rm -r /run/vfguard; vfguard gate show; \
                 vfguard reconcile; echo \"code $?\""
            ),
        );
        let first = run.stdout.lines().next().unwrap();
        let shown: Value = serde_json::from_str(first).unwrap();
        assert_eq!(shown["gate"], "unknown", "{bad}: {first}");
        assert!(shown["not_confirmed"].as_str().unwrap().contains("systemd could not be asked"), "{bad}: {first}");
        assert!(run.stdout.contains("gate: not confirmed"), "{bad}: {}", run.stdout);
        assert!(run.stdout.contains("code 1\n"), "{bad}: not closed as far as can be seen: {}", run.stdout);
    }
}

/// A run that decided has left a hold ready. Then NEW was installed, and vfguard itself does not run any more.
fn broken(ends: &str) -> Machine {
    let machine = machine().boot_default(OLD);
    let run = enter(
        &machine,
        "vfguard reconcile; echo \"code $?\"; stat -c '%a %u' /var/lib/vfguard/ready /var/lib/vfguard/ready/hold",
    );
    assert!(run.stdout.contains("code 0\n") && run.stdout.ends_with("700 0\n600 0\n"), "{}{}", run.stdout, run.stderr);
    let machine = machine.boot_default(NEW).file("usr/bin/vfguard", &format!("#!/bin/sh\n{ends}\n"));
    fs::set_permissions(machine.path("usr/bin/vfguard"), fs::Permissions::from_mode(0o755)).unwrap();
    machine
}

#[test]
fn however_vfguard_ends_the_shell_holds_the_default_and_refuses() {
    for ends in ["exit 1", "exit 3", "exit 127", "kill -9 $$", "kill -SEGV $$", "kill -ABRT $$"] {
        let machine = broken(ends);
        let run = enter(&machine, "/usr/lib/vfguard/fail-closed");
        assert!(run.code == 0 && refused(&machine), "{ends}: {}{}", run.stdout, run.stderr);
        assert_eq!(machine.saved_entry(), OLD, "{ends}: {}{}", run.stdout, run.stderr);
    }
}

/// Adds lines between the signature and the padding of GRUB's environment.
fn environment(machine: Machine, lines: &str) -> Machine {
    let mut block = format!("# GRUB Environment Block\n{lines}");
    block.extend(std::iter::repeat_n('#', 1024 - block.len()));
    machine.file("boot/grub2/grubenv", &block)
}

#[test]
fn the_shell_writes_its_own_lines_and_keeps_those_that_are_newer_than_the_ready_hold() {
    let comment = "# WARNING: Do not edit this file by tools other than grub-editenv!!!\n";
    let other = "kernelopts=root=UUID=new ro vfguard=off\ntuned_params=\nboot_success=1\n";
    for shell in ["/usr/bin/bash", "/usr/bin/dash", "/usr/bin/busybox sh"] {
        let machine = broken("exit 1");
        let lines =
            format!("{comment}{other}next_entry={}-{NEW}\nsaved_entry={}-{NEW}\n", machine::MACHINE_ID, machine::MACHINE_ID);
        let machine = environment(machine, &lines);
        let run = enter(&machine, &format!("{shell} /usr/lib/vfguard/fail-closed"));
        assert_eq!(machine.saved_entry(), OLD, "{shell}: {}{}", run.stdout, run.stderr);
        let block = fs::read_to_string(machine.path("boot/grub2/grubenv")).unwrap();
        assert!(block.contains(&format!("Block\n{comment}{other}saved_entry=")), "{shell}: {block}");
        assert!(!block.contains("next_entry") && block.len() == 1024 && block.ends_with('#'), "{shell}: {block}");
        // GRUB's own tool can read it.
        let list = enter(&machine, "grub-editenv /boot/grub2/grubenv list");
        assert_eq!((list.code, list.stdout.lines().count()), (0, 6), "{shell}: {}{}", list.stdout, list.stderr);
        // A block that no tool could read is replaced by the ready hold.
        let machine = machine.file("boot/grub2/grubenv", "");
        enter(&machine, &format!("{shell} /usr/lib/vfguard/fail-closed"));
        assert_eq!(machine.saved_entry(), OLD, "{shell}");
    }
}

#[test]
fn systemd_executes_no_file_of_ours_that_selinux_would_not_allow() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/systemd");
    for entry in fs::read_dir(dir).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        for line in text.lines().filter(|l| l.starts_with("Exec")) {
            let program = line.split_once('=').unwrap().1.trim_start_matches('-').split(' ').next().unwrap();
            let (place, _) = program.rsplit_once('/').unwrap();
            assert!(["/bin", "/usr/bin", "/usr/sbin", "/sbin", "/usr/libexec/vfguard"].contains(&place), "{line}");
        }
    }
}

#[test]
fn on_full_file_systems_the_shell_holds_and_reports_what_it_could_not_confirm() {
    for full in ["size=16k", "nr_inodes=4"] {
        let machine = broken("exit 1");
        let run = enter(
            &machine,
            &format!(
                "mount -t tmpfs -o {full} full /run; mkdir -p /run/systemd/system; head -c 99999 /dev/zero >/run/x; \
                 mount -t tmpfs -o size=4k,mode=1777 full /tmp; head -c 9999 /dev/zero >/tmp/x; /usr/lib/vfguard/fail-closed"
            ),
        );
        let said = format!("{full}: {}{}", run.stdout, run.stderr);
        assert_eq!(machine.saved_entry(), OLD, "{said}");
        assert!(run.stdout.contains(&format!("the boot default is held on {OLD}")), "{said}");
        assert_eq!(
            (refused(&machine), run.code == 0),
            (run.stdout.contains("reboots are refused\n"), refused(&machine)),
            "{said}"
        );
    }
}

#[test]
fn a_kernel_that_the_shell_held_off_is_promoted_once_vfguard_works_and_the_kernel_is_safe() {
    let machine = broken("exit 1");
    enter(&machine, "/usr/lib/vfguard/fail-closed");
    assert_eq!(machine.saved_entry(), OLD);
    fs::copy(env!("CARGO_BIN_EXE_vfguard"), machine.path("usr/bin/vfguard")).unwrap();
    let run = enter(&machine, &format!("vfguard reconcile; echo \"code $?\"; {SHOW}"));
    assert!(run.stdout.contains("code 3\n") && machine.saved_entry() == OLD, "{}{}", run.stdout, run.stderr);
    assert_eq!(last_json(&run)["hold"]["wanted"], NEW, "{}", run.stdout);
    let machine = machine.file(&format!("lib/modules/{NEW}/modules.builtin.modinfo"), DRIVER);
    let run = enter(&machine, "vfguard reconcile; echo \"code $?\"");
    assert!(run.stdout.contains("code 0\n") && machine.saved_entry() == NEW, "{}{}", run.stdout, run.stderr);
    let block = fs::read_to_string(machine.path("boot/grub2/grubenv")).unwrap();
    assert!(!block.contains("vfguard_"), "{block}");
}

#[test]
fn the_shell_does_not_claim_a_hold_where_there_is_none() {
    let cases = [
        (
            "what was left ready is cut",
            "head -n 1 /var/lib/vfguard/ready/hold >/srv/x; cat /srv/x >/var/lib/vfguard/ready/hold".to_owned(),
        ),
        ("its kernel's image is gone", format!("rm /boot/vmlinuz-{OLD}")),
        ("nothing was left", "rm /var/lib/vfguard/ready/hold".to_owned()),
    ];
    for (what, before) in cases {
        let machine = broken("exit 1");
        let run = enter(&machine, &format!("{before}; /usr/lib/vfguard/fail-closed"));
        assert!(
            refused(&machine) && run.stdout.contains("the boot default is not held"),
            "{what}: {}{}",
            run.stdout,
            run.stderr
        );
        assert_eq!(machine.saved_entry(), NEW, "{what}");
    }
}

#[test]
fn a_gate_that_the_shell_could_not_confirm_is_not_reported_as_closed() {
    let machine = machine();
    let way_out = "rm -f /run/systemd/system/VFGUARD* /run/systemd/system/*.d/50-vfguard.conf && systemctl daemon-reload";
    let run = enter(
        &machine,
        &format!(
            "vfguard reconcile >&2; {way_out}; cp /usr/bin/vfguard /srv/real; printf '#!/bin/sh\nexit 1\n' >/usr/bin/vfguard; \
             echo fails >/srv/reload; /usr/lib/vfguard/fail-closed; echo \"shell $?\"; cat /srv/real >/usr/bin/vfguard; \
             vfguard check; rm /srv/reload; vfguard reconcile --no-build >&2; {SHOW}"
        ),
    );
    let said = format!("{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("shell 1\n") && run.stdout.contains("is not confirmed\n"), "{said}");
    assert!(run.stdout.contains("(gate open)"), "check says what systemd would do: {said}");
    assert!(last_json(&run)["gate"] == "closed" && refused(&machine), "{said}");
}

#[test]
fn a_frozen_boot_file_system_keeps_neither_vfguard_nor_the_shell_from_closing_the_gate() {
    if !std::path::Path::new("/dev/loop-control").exists() {
        println!("skipped accidents_live/frozen: no loop devices here");
        return;
    }
    let frozen = "mkfs.ext4 -q /srv/disk 16m >&2 && cp -a /boot /srv/boot && mount -o loop /srv/disk /boot && cp -a /srv/boot/. /boot && \
                  fsfreeze -f /boot || exit 9; ";
    for command in
        ["vfguard reconcile --no-build", "printf '#!/bin/sh\nexit 1\n' >/usr/bin/vfguard; /usr/lib/vfguard/fail-closed"]
    {
        let machine = machine().boot_default(OLD);
        let run = enter(
            &machine,
            &format!(
                "vfguard reconcile >&2; cat /boot/grub2/grubenv | sed s/-53-/-54-/ >/srv/env; cp /srv/env /boot/grub2/grubenv; {frozen} \
                 ({command}) >/srv/said 2>&1 & for i in $(seq 200); do [ -e /srv/known/reboot.target.d/50-vfguard.conf ] && break; \
                 sleep 0.1; done; [ -e /srv/known/reboot.target.d/50-vfguard.conf ] && echo closed; fsfreeze -u /boot; wait; cat /srv/said; \
                 grep saved_entry /boot/grub2/grubenv; umount /boot"
            ),
        );
        let said = format!("{command}: {}{}", run.stdout, run.stderr);
        assert!(run.stdout.starts_with("closed\n"), "{said}");
        assert!(run.stdout.contains(&format!("saved_entry={}-{OLD}", machine::MACHINE_ID)), "{said}");
    }
}

#[test]
fn a_failed_closing_is_forgotten_once_the_gate_is_open() {
    let machine = machine().file("srv/reload", "fails\n");
    // The driver is installed while the first closing fails.
    let run = enter(
        &machine,
        &format!(
            "printf '#!/bin/bash\n[ $1 != daemon-reload ] || [ -e /srv/once ] || {{ touch /srv/once; printf \"{}\" \
             >/lib/modules/{NEW}/modules.builtin.modinfo; rm /srv/reload; exit 1; }}\nexec /srv/systemctl \"$@\"\n' >/srv/first; \
             cp /usr/local/sbin/systemctl /srv/systemctl; cat /srv/first >/usr/local/sbin/systemctl; \
             vfguard reconcile; echo \"code $?\"",
            DRIVER.replace('\0', "\\\\0")
        ),
    );
    assert!(run.stdout.contains("code 0\n") && machine.saved_entry() == NEW, "{}{}", run.stdout, run.stderr);
}

#[test]
fn the_shell_respects_an_override_and_the_policy() {
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let over = |until: &str, uptime: &str, boot: &str| {
        format!("mkdir -p /run/vfguard; printf '{{\\n  \"reason\": \"x\",\\n  \"until\": %s,\\n  \"until_uptime\": %s,\\n  \"boot_id\": \"%s\"\\n}}\\n' {until} {uptime} {} >/run/vfguard/override.json", boot.trim())
    };
    let cases = [
        (over("$(($(date +%s) + 60))", "9999999999", &boot_id), false, NEW),
        (over("$(($(date +%s) + 60))", "1", &boot_id), true, OLD),
        (over("$(($(date +%s) - 1))", "9999999999", &boot_id), true, OLD),
        (over("$(($(date +%s) + 60))", "9999999999", "another"), true, OLD),
        ("echo observe >/var/lib/vfguard/ready/mode".into(), false, NEW),
        // A setting that no run has read yet decides nothing.
        ("mkdir -p /etc/vfguard; echo 'mode = \"observe\"' >/etc/vfguard/config.toml".into(), true, OLD),
        ("mkdir -p /run/systemd/generator.early; ln -s /x/system-update.target /run/systemd/generator.early/default.target".into(), true, OLD),
        ("mkdir -p /sys/fs/cgroup/system.slice/rescue.service".into(), false, OLD),
    ];
    for (before, closed, default) in cases {
        let machine = broken("exit 1");
        let run = enter(&machine, &format!("{before}; /usr/lib/vfguard/fail-closed"));
        let said = format!("{before}: {}{}", run.stdout, run.stderr);
        assert_eq!((run.code, refused(&machine), machine.saved_entry().as_str()), (0, closed, default), "{said}");
    }
}

#[test]
fn the_real_vfguard_in_the_same_unit_holds_and_closes_too() {
    let machine = machine();
    let run = enter(&machine, &format!("/usr/lib/vfguard/fail-closed; {SHOW}"));
    assert!(refused(&machine) && machine.saved_entry() == OLD, "{}{}", run.stdout, run.stderr);
    assert!(last_json(&run)["reasons"][0].as_str().unwrap().contains("without a decision"), "{}", run.stdout);
}

/// The shell understands an override that the program writes.
#[test]
fn the_shell_reads_an_override_as_the_program_writes_it() {
    let machine = broken("exit 1");
    fs::copy(env!("CARGO_BIN_EXE_vfguard"), machine.path("usr/bin/real")).unwrap();
    let run = enter(
        &machine,
        "ln -sf /bin/true /usr/local/sbin/systemd-run; real gate open --reason because >&2; /usr/lib/vfguard/fail-closed",
    );
    assert!(run.code == 0 && !refused(&machine), "{}{}", run.stdout, run.stderr);
    assert_eq!(machine.saved_entry(), NEW, "{}{}", run.stdout, run.stderr);
}
