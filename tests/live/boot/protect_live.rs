//! The machine's own apt-mark keeps the held kernel's packages from autoremove, on a live root, and they are released when the hold ends.
//! In rescue mode, so that the default is held and no systemd is needed to refuse a reboot.

#[path = "../../machine/mod.rs"]
mod machine;

use machine::live::enter;
use machine::{Machine, Run};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Once;

const OLD: &str = "6.1.0-53-amd64";
const NEW: &str = "6.1.0-54-amd64";
const NIC: &str = "pci:v00001D0Fd0000EC20sv00001D0Fsd0000EC20bc02sc00i00";
const DRIVER: &str = "ena.alias=pci:v00001D0Fd0000EC20sv*sd*bc*sc*i*\0ena.file=drivers/net/ena\0";
const STATES: &str = "var/lib/apt/extended_states";
const RECORD: &str = "var/lib/vfguard/records/kept.json";
/// A wrapper of the real apt-mark that logs a line for each call.
const COUNT: &str = "#!/bin/sh\necho \"$*\" >>/var/calls\n[ ! -e /var/broken ] || { echo 'E: no space' >&2; exit 100; }\nexec /usr/bin/apt-mark \"$@\"\n";

/// Whether the requirements of these tests are there.
fn able() -> bool {
    let root = nix::unistd::geteuid().is_root();
    let apt = Path::new("/usr/bin/apt-mark").exists();
    if !root || !apt {
        let why = if root { "apt is not here" } else { "a mount namespace of its own wants root" };
        // Written directly, because libtest hides the output of a test that passes; tests/run.sh lists it.
        static ONCE: Once = Once::new();
        #[allow(clippy::disallowed_methods)]
        ONCE.call_once(|| {
            let _ = writeln!(std::io::stderr(), "\nskipped build/protect_live: {why}");
        });
    }
    root && apt
}

/// A Debian machine whose kernels were installed automatically. OLD runs and drives the card, NEW boots next and does not.
fn machine() -> Machine {
    let package = |name: &str| {
        format!(
            "Package: {name}\nStatus: install ok installed\nPriority: optional\nSection: kernel\nMaintainer: x <x@example.org>\n\
             Architecture: amd64\nVersion: 6.1.1-1\nDescription: a kernel\n\n"
        )
    };
    let auto = |name: &str| format!("Package: {name}\nArchitecture: amd64\nAuto-Installed: 1\n\n");
    let names = [OLD, NEW].map(|k| format!("linux-image-{k}"));
    let entry = |k: &str| format!("menuentry 'Linux {k}' --id gnulinux-{k} {{\n  linux /vmlinuz-{k} root=/dev/vda1\n}}\n");
    let env = format!("# GRUB Environment Block\nsaved_entry=gnulinux-{NEW}\n");
    let menu = format!("load_env\nset default=\"${{saved_entry}}\"\n{}{}", entry(NEW), entry(OLD));
    let mut machine = Machine::new().kernel(OLD).kernel(NEW);
    machine = machine
        .file("boot/grub2/grub.cfg", &menu)
        .file("boot/grub2/grubenv", &format!("{env}{}", "#".repeat(1024 - env.len())))
        .file("etc/os-release", "ID=debian\nVERSION_ID=12\n")
        .device("0000:00:05.0", NIC, Some("ena"))
        .file(&format!("lib/modules/{OLD}/modules.builtin.modinfo"), DRIVER)
        .file("osrelease", &format!("{OLD}\n"))
        .file("cmdline", "ro single\n")
        .file("run/systemd/system/x", "")
        .file("run/nologin", "")
        .file("etc/passwd", "root:x:0:0::/root:/bin/sh\n")
        .file("etc/group", "root:x:0:\n")
        .file("var/lib/dpkg/info/dpkg.list", "/usr/bin/dpkg\n")
        .file("var/lib/dpkg/status", &names.iter().map(|n| package(n)).collect::<String>())
        .file(STATES, &names.iter().map(|n| auto(n)).collect::<String>())
        .file("usr/local/sbin/apt-mark", COUNT);
    for name in &names {
        machine = machine.file(&format!("var/lib/dpkg/info/{name}.list"), "");
    }
    for dir in ["var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "etc/apt/apt.conf.d", "etc/apt/preferences.d"]
    {
        fs::create_dir_all(machine.path(dir)).unwrap();
    }
    fs::set_permissions(machine.path("usr/local/sbin/apt-mark"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(machine.path("usr/bin")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_vfguard"), machine.path("usr/bin/vfguard")).unwrap();
    machine
}

fn reconcile(machine: &Machine) -> Run {
    enter(machine, "vfguard reconcile --no-build")
}

/// The kernel that is the saved default.
fn saved(machine: &Machine) -> String {
    machine.saved_entry().trim_start_matches("gnulinux-").to_owned()
}

/// The kernels whose packages apt lists as automatic.
fn autos(machine: &Machine) -> Vec<String> {
    let run = enter(machine, "/usr/bin/apt-mark showauto");
    let kernels = run.stdout.lines().filter_map(|l| l.strip_prefix("linux-image-").map(str::to_owned));
    kernels.collect()
}

fn calls(machine: &Machine) -> Vec<String> {
    fs::read_to_string(machine.path("var/calls")).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn the_held_kernels_package_is_kept_while_the_hold_is_on_and_released_after_promotion() {
    if !able() {
        return;
    }
    let machine = machine();
    assert_eq!(autos(&machine), [OLD, NEW], "apt of this machine reads the tree");
    let run = reconcile(&machine);
    assert_eq!(saved(&machine), OLD, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains(&format!("linux-image-{OLD} kept from autoremove")), "{}{}", run.stdout, run.stderr);
    assert_eq!(autos(&machine), [NEW]);
    let run = reconcile(&machine);
    assert!(!run.stdout.contains("autoremove"), "told once: {}", run.stdout);
    assert_eq!(calls(&machine), [format!("-q manual linux-image-{OLD}")], "no process for what is so already");
    // The wanted kernel is safe now.
    machine.put(&format!("lib/modules/{NEW}/modules.builtin.modinfo"), DRIVER);
    let run = reconcile(&machine);
    assert_eq!(saved(&machine), NEW, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("given back to autoremove"), "{}{}", run.stdout, run.stderr);
    assert_eq!(autos(&machine), [OLD, NEW]);
    assert!(!machine.path(RECORD).exists());
    assert_eq!(reconcile(&machine).code, 0);
    assert_eq!(calls(&machine).len(), 2, "{:?}", calls(&machine));
}

#[test]
fn it_is_released_when_the_hold_ends_by_decline_or_by_the_removal_of_vfguard() {
    if !able() {
        return;
    }
    for verb in [format!("decline {NEW}"), "gate remove".to_owned()] {
        let machine = machine();
        reconcile(&machine);
        assert_eq!(autos(&machine), [NEW]);
        let run = enter(&machine, &format!("vfguard {verb}"));
        assert_eq!(autos(&machine), [OLD, NEW], "{verb}: {}{}", run.stdout, run.stderr);
        assert_eq!(saved(&machine), OLD, "{verb}");
        assert!(!machine.path(RECORD).exists(), "{verb}");
    }
}

#[test]
fn a_package_that_was_installed_by_hand_stays_so() {
    if !able() {
        return;
    }
    let machine = machine().file(STATES, "");
    reconcile(&machine);
    enter(&machine, &format!("vfguard decline {NEW}"));
    assert!(autos(&machine).is_empty() && calls(&machine).is_empty(), "{:?}", calls(&machine));
}

#[test]
fn a_failing_apt_mark_or_a_running_dpkg_is_a_line_and_the_next_run_tries_again() {
    if !able() {
        return;
    }
    let machine = machine().file("var/broken", "").file("var/lib/dpkg/lock-frontend", "");
    let run = reconcile(&machine);
    assert!(
        run.stdout.contains("no space") && run.stdout.contains("the next run tries again"),
        "{}{}",
        run.stdout,
        run.stderr
    );
    assert_eq!((run.code, saved(&machine).as_str()), (3, OLD), "the hold is on");
    fs::remove_file(machine.path("var/broken")).unwrap();
    // Locked in the way of dpkg.
    let lock = "python3 -c 'import fcntl,subprocess,sys; f=open(\"/var/lib/dpkg/lock-frontend\",\"w\"); fcntl.lockf(f,fcntl.LOCK_EX); \
                sys.exit(subprocess.call([\"vfguard\",\"reconcile\",\"--no-build\"]))'";
    let run = enter(&machine, lock);
    assert!(run.stdout.contains("lock-frontend is locked; the next run tries again"), "{}{}", run.stdout, run.stderr);
    assert_eq!(autos(&machine), [OLD, NEW]);
    reconcile(&machine);
    assert_eq!(autos(&machine), [NEW]);
    // Somebody else restored the marks.
    enter(&machine, &format!("/usr/bin/apt-mark auto linux-image-{OLD}"));
    reconcile(&machine);
    assert_eq!(autos(&machine), [NEW]);
}
