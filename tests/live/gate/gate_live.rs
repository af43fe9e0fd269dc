//! The gate on a live root, with a stand-in for systemd: a closing between a reboot's opening and its request, the shell script that fails
//! closed, and the removal of the package.

#[path = "../../machine/mod.rs"]
mod machine;

use machine::live::{enter, SYSTEMCTL};
use machine::{Machine, Run};
use std::fs;
use std::os::unix::fs::PermissionsExt;

const OLD: &str = "6.1.0-53-amd64";
const NEW: &str = "6.1.0-54-amd64";
const LATER: &str = "6.1.0-55-amd64";
const NIC: &str = "pci:v00001D0Fd0000EC20sv00001D0Fsd0000EC20bc02sc00i00";
const DRIVER: &str = "ena.alias=pci:v00001D0Fd0000EC20sv*sd*bc*sc*i*\0ena.file=drivers/net/ena\0";
const FAIL_CLOSED: &str = include_str!("../../../packaging/systemd/fail-closed");

fn program(machine: Machine, path: &str, text: &str) -> Machine {
    let machine = machine.file(path, text);
    fs::set_permissions(machine.path(path), fs::Permissions::from_mode(0o755)).unwrap();
    machine
}

/// OLD runs and drives the card. NEW was installed, is the boot default, and does not; LATER will be installed and does not either. No run
/// has decided yet.
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
        .file("run/systemd/system/x", "");
    let machine = program(machine, "usr/local/sbin/systemctl", SYSTEMCTL);
    let machine = program(machine, "usr/local/sbin/systemd-run", "#!/bin/sh\necho \"$@\" >>/srv/timers\n");
    let machine = program(machine, "usr/lib/vfguard/fail-closed", FAIL_CLOSED);
    fs::create_dir_all(machine.path("usr/bin")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_vfguard"), machine.path("usr/bin/vfguard")).unwrap();
    machine
}

/// Whether systemd, with the files that it has loaded, refuses a reboot.
fn refused(machine: &Machine) -> bool {
    machine.path("srv/known/reboot.target.d/50-vfguard.conf").exists()
}

fn said(run: &Run) -> String {
    format!("{}{}", run.stdout, run.stderr)
}

/// The stand-in's reaction to a reboot request, after `before` has run first; it records the result.
fn reboots(before: &str) -> String {
    format!(
        "#!/bin/sh\n{before}\nif [ -e /srv/known/reboot.target.d/50-vfguard.conf ]; then echo refused >/srv/request; exit 1; fi\n\
         echo through >/srv/request\n"
    )
}

#[test]
fn a_hook_between_the_opening_and_the_request_does_not_refuse_a_reboot_that_has_begun() {
    let hook = "vfguard reconcile --no-build --from watch >/srv/hook 2>&1";
    let machine = program(machine(), "srv/on-reboot", &reboots(hook));
    let run = enter(&machine, "vfguard reconcile >/dev/null; vfguard reboot --held; echo \"code $?\"; vfguard gate show");
    assert_eq!(fs::read_to_string(machine.path("srv/request")).unwrap(), "through\n", "{}", said(&run));
    assert!(run.stdout.contains("code 0\n") && run.stdout.contains("a reboot was asked for"), "{}", said(&run));
    // If the reboot never happens, a timer that was set before the opening closes the gate again.
    let timers = fs::read_to_string(machine.path("srv/timers")).unwrap();
    assert!(
        timers.contains("--on-active=121 ") && !timers.contains("--on-calendar") && timers.contains("--from override-end"),
        "{timers}"
    );
    let ended = "sed -i 's/\"until_uptime\": .*/\"until_uptime\": 1,/' /run/vfguard/pass.json; vfguard reconcile --from override-end";
    let run = enter(&machine, ended);
    assert!(refused(&machine), "{}", said(&run));
}

#[test]
fn a_kernel_that_the_pass_does_not_cover_refuses_the_whole_reboot() {
    let entry = format!("/boot/loader/entries/{}", machine::MACHINE_ID);
    let hook = format!(
        "cp -a /lib/modules/{NEW} /lib/modules/{LATER}; cp /boot/vmlinuz-{NEW} /boot/vmlinuz-{LATER}\n\
         sed s/{NEW}/{LATER}/ {entry}-{NEW}.conf >{entry}-{LATER}.conf; sed -i s/{OLD}/{LATER}/ /boot/grub2/grubenv\n\
         vfguard reconcile --no-build --from watch >/srv/hook 2>&1 &\n\
         for i in $(seq 200); do [ ! -e /srv/known/reboot.target.d/50-vfguard.conf ] || break; sleep 0.1; done"
    );
    let machine = program(machine(), "srv/on-reboot", &reboots(&hook));
    let run = enter(&machine, "vfguard reconcile >/dev/null; vfguard reboot --held; echo \"code $?\"; ls /run/vfguard");
    let hook = fs::read_to_string(machine.path("srv/hook")).unwrap();
    assert_eq!(fs::read_to_string(machine.path("srv/request")).unwrap(), "refused\n", "{}{hook}", said(&run));
    assert!(run.stdout.contains("code 1\n") && !run.stdout.contains("pass.json"), "{}{hook}", said(&run));
    assert!(refused(&machine), "{}{hook}", said(&run));
}

#[test]
fn a_failed_request_ends_the_pass_and_closes_the_gate_again() {
    let machine = program(machine(), "srv/on-reboot", "#!/bin/sh\necho 'Connection timed out' >&2\nexit 1\n");
    let run = enter(&machine, "vfguard reconcile >/dev/null; vfguard reboot --held; echo \"code $?\"; ls /run/vfguard");
    assert!(run.stdout.contains("code 1\n") && run.stderr.contains("timed out"), "{}", said(&run));
    assert!(refused(&machine) && !run.stdout.contains("pass.json"), "{}", said(&run));
    // The gate is not closed for it if the mode is now observe.
    let machine = program(self::machine(), "srv/on-reboot", "#!/bin/sh\nexit 1\n");
    let observe = "mkdir -p /etc/vfguard; echo \"mode = 'observe'\" >/etc/vfguard/config.toml";
    let run = enter(&machine, &format!("vfguard reconcile >/dev/null; {observe}; vfguard reboot --held; echo \"code $?\""));
    assert!(run.stdout.contains("code 1\n") && !refused(&machine), "{}", said(&run));
}

/// A vfguard that cannot run. The real one ran once before, and left a hold ready.
fn broken() -> Machine {
    let machine = machine().boot_default(OLD);
    let run = enter(&machine, "vfguard reconcile --no-build >&2; rm /usr/bin/vfguard");
    assert!(!refused(&machine), "{}", said(&run));
    program(machine.boot_default(NEW), "usr/bin/vfguard", "#!/bin/sh\nexit 1\n")
}

#[test]
fn the_shell_closes_under_the_gates_lock_and_raises_the_generation_under_it() {
    for shell in ["/usr/bin/bash", "/usr/bin/dash", "/usr/bin/busybox sh"] {
        let machine = broken();
        let run = enter(
            &machine,
            &format!(
                "before=$(wc -c </run/vfguard/generation); \
                 flock /run/vfguard/gate.lock sh -c 'echo >/srv/held; sleep 2; ls /srv/known/reboot.target.d 2>/dev/null; wc -c </run/vfguard/generation' & \
                 while [ ! -e /srv/held ]; do sleep 0.1; done; {shell} /usr/lib/vfguard/fail-closed >&2; wait; \
                 echo \"from $before to $(wc -c </run/vfguard/generation)\""
            ),
        );
        assert!(refused(&machine), "{shell}: {}", said(&run));
        let lines: Vec<&str> = run.stdout.lines().collect();
        let before: u64 = lines[0].parse().unwrap_or_else(|_| panic!("{shell} did not wait: {}", said(&run)));
        assert_eq!(lines[1..], [format!("from {before} to {}", before + 1)], "{shell}: {}", said(&run));
    }
}

#[test]
fn the_shell_respects_a_pass_and_a_removal_and_holds_the_default_only_under_a_pass() {
    let stamp =
        |seconds: &str| format!("read -r up _ </proc/uptime; echo $((${{up%.*}} - {seconds})) >/run/vfguard/removing");
    let cases = [
        (stamp("5"), false, NEW),
        (stamp("600"), true, OLD),
        (stamp("-5"), true, OLD),
        ("echo 08 >/run/vfguard/removing".into(), true, OLD),
        (": >/run/vfguard/removing".into(), true, OLD),
        ("cp -p /srv/pass.json /run/vfguard".into(), false, OLD),
    ];
    for (before, closed, default) in cases {
        let machine = program(machine(), "srv/on-reboot", "#!/bin/sh\n");
        let run = enter(&machine, "vfguard reconcile >&2; vfguard reboot --held >&2 && cp -p /run/vfguard/pass.json /srv");
        assert!(!refused(&machine), "{}", said(&run));
        fs::remove_file(machine.path("run/vfguard/pass.json")).unwrap();
        let machine = program(machine.boot_default(NEW), "usr/bin/vfguard", "#!/bin/sh\nexit 1\n");
        let run = enter(&machine, &format!("{before}; /usr/lib/vfguard/fail-closed"));
        let found = (run.code, refused(&machine), machine.saved_entry());
        assert_eq!(found, (0, closed, default.to_owned()), "{before}: {}", said(&run));
    }
}

/// The scriptlets of a removal: those of the Debian package, and those of the RPM without the parts that its build fills in.
fn removals() -> [(&'static str, String, &'static str); 2] {
    let spec = include_str!("../../../packaging/vfguard.spec");
    let preun = spec.split("\n%preun\n").nth(1).unwrap().split("\n%postun\n").next().unwrap();
    let (head, tail) = (preun.split("%if").next().unwrap(), preun.split("%endif").nth(1).unwrap());
    [("deb", include_str!("../../../packaging/deb/prerm").to_owned(), "remove"), ("rpm", format!("{head}{tail}"), "0")]
}

#[test]
fn removing_the_package_leaves_the_gate_open_even_if_a_stopped_run_starts_a_unit() {
    // A unit that was stopped half-way counts as failed, which sooner or later starts the unit that fails closed.
    let stopped = "#!/bin/sh\ncase \" $* \" in *' vfguard.service '*) for delay in 0 1 2; do \
                   (sleep $delay; exec /usr/lib/vfguard/fail-closed) >>/srv/late 2>&1 </dev/null & done ;; esac\necho \"$@\" >>/srv/stopped\n";
    for (package, script, argument) in removals() {
        let machine = program(program(machine(), "srv/on-stop", stopped), "srv/removal", &script);
        let run = enter(
            &machine,
            &format!("vfguard reconcile >/dev/null; sh /srv/removal {argument}; echo \"code $?\"; sleep 4; ls /run/vfguard"),
        );
        let late = fs::read_to_string(machine.path("srv/late")).unwrap_or_default();
        assert!(run.stdout.contains("code 0\n"), "{package}: {}{late}", said(&run));
        assert!(!refused(&machine), "{package}: {}{late}", said(&run));
        assert!(!machine.path("run/systemd/system/reboot.target.d").exists(), "{package}: {}{late}", said(&run));
        let stopped = fs::read_to_string(machine.path("srv/stopped")).unwrap();
        for unit in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/systemd")).unwrap() {
            let unit = unit.unwrap().file_name().into_string().unwrap().replace('@', "@*");
            // `gate remove` stops the inhibitor; the other names are no units.
            let is_unit = [".service", ".path", ".timer"].iter().any(|kind| unit.ends_with(kind));
            let listed = stopped.split([' ', '\n']).any(|word| word == unit);
            assert!(listed || !is_unit || unit == "vfguard-inhibit.service", "{package} does not stop {unit}: {stopped}");
        }
        // The program is gone, and the unit is started once more.
        let run = enter(&machine, "rm /usr/bin/vfguard; /usr/lib/vfguard/fail-closed");
        assert!(!refused(&machine), "{package}: {}", said(&run));
    }
}

#[test]
fn everything_that_refuses_is_removed_with_the_package_even_if_the_program_cannot_run() {
    for (package, script, argument) in removals() {
        let machine = program(machine(), "srv/removal", &script);
        let broken = "rm /usr/bin/vfguard; printf '#!/bin/sh\\nexit 1\\n' >/usr/bin/vfguard; chmod 755 /usr/bin/vfguard";
        let run = enter(
            &machine,
            &format!("vfguard reconcile >/dev/null; {broken}; sh /srv/removal {argument}; echo \"code $?\""),
        );
        assert!(run.stdout.contains("code 0\n") && !refused(&machine), "{package}: {}", said(&run));
    }
}

#[test]
fn after_an_aborted_removal_or_a_new_installation_the_machine_is_guarded_again() {
    for argument in ["abort-remove", "configure", "configure 1.0"] {
        let machine = program(machine(), "srv/removal", include_str!("../../../packaging/deb/prerm"));
        let machine = program(machine, "srv/postinst", include_str!("../../../packaging/deb/postinst"));
        let machine = program(machine, "srv/on-restart", "#!/bin/sh\necho \"$@\" >>/srv/started\n");
        let run = enter(
            &machine,
            // dpkg passes the version that was removed, if its configuration was kept.
            &format!("vfguard reconcile >/dev/null; sh /srv/removal remove; sh /srv/postinst {argument}; ls /run/vfguard"),
        );
        assert!(refused(&machine) && !run.stdout.contains("removing"), "{argument}: {}", said(&run));
        let started = fs::read_to_string(machine.path("srv/started")).unwrap_or_default();
        assert_eq!(started, "vfguard-watch.path\nvfguard.timer\n", "{argument}: {started}{}", said(&run));
    }
    assert!(include_str!("../../../packaging/vfguard.spec").contains("\n%post\n# Of a removal before this, or of one that was given up (src/gate/removing.rs).\nrm -f /run/vfguard/removing\n"));
}
