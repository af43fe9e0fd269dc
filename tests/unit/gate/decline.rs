//! `decline` is about one kernel: it stays off and refuses nothing, a later one is treated as ever, and `accept` takes it back.

#[path = "../../machine/mod.rs"]
mod machine;

use machine::{Machine, Run, MACHINE_ID};
use serde_json::Value;
use std::fs;

const OLD: &str = "6.1.0-53-amd64";
const NEW: &str = "6.1.0-54-amd64";
const LATER: &str = "6.1.0-55-amd64";
const NIC: &str = "pci:v00001D0Fd0000EC20sv00001D0Fsd0000EC20bc02sc00i00";
const DRIVER: &str = "ena.alias=pci:v00001D0Fd0000EC20sv*sd*bc*sc*i*\0ena.file=drivers/net/ena\0";
const RECORD: &str = "var/lib/vfguard/records/declined.json";
const HOLD: &str = "var/lib/vfguard/records/hold.json";
const GRUB: &str = "boot/grub2/grub.cfg";
const LEGACY: &str = "boot/grub/grub.conf";

/// What the boot default is moved by.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Loader {
    Saved,
    Literal,
    Legacy,
    SystemdBoot,
}

const ALL: [Loader; 4] = [Loader::Saved, Loader::Literal, Loader::Legacy, Loader::SystemdBoot];

fn good(machine: Machine, kernel: &str) -> Machine {
    machine.kernel(kernel).boot_entry(kernel).file(&format!("lib/modules/{kernel}/modules.builtin.modinfo"), DRIVER)
}

fn bad(machine: Machine, kernel: &str) -> Machine {
    machine.kernel(kernel).boot_entry(kernel)
}

fn settled() -> Machine {
    let machine = Machine::new().grub().file("etc/os-release", "ID=rhel\nVERSION_ID=9.4\nID_LIKE=fedora\n");
    let machine = machine.device("0000:00:05.0", NIC, Some("ena"));
    good(machine, OLD).boot_default(OLD).file("proc/sys/kernel/osrelease", &format!("{OLD}\n"))
}

/// OLD runs; NEW came, is the boot default, and cannot drive the device; a hook ran.
fn refused() -> Machine {
    let machine = bad(settled(), NEW).boot_default(NEW);
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 3, "{}", said(&run));
    machine
}

fn title(kernel: &str) -> String {
    format!("title Linux ({kernel})\n\troot (hd0,0)\n\tkernel /vmlinuz-{kernel} ro root=/dev/vda1\n")
}

fn entry(machine: Machine, kernel: &str) -> Machine {
    let text = format!("title Linux\nversion {kernel}\nsort-key linux\nlinux /vmlinuz-{kernel}\n");
    machine.file(&format!("boot/loader/entries/{kernel}.conf"), &text)
}

/// The same with each loader.
fn refused_by(loader: Loader) -> Machine {
    let machine = match loader {
        Loader::Saved => return refused(),
        Loader::Literal => {
            let machine = bad(settled(), NEW).boot_default(NEW);
            let config = fs::read_to_string(machine.path(GRUB)).unwrap();
            let config = config.replace("set default=\"${saved_entry}\"", "set default=\"0\"");
            machine.file(
                GRUB,
                &(config + "if [ -f ${config_directory}/custom.cfg ]; then\n  source ${config_directory}/custom.cfg\nfi\n"),
            )
        }
        Loader::Legacy | Loader::SystemdBoot => {
            let machine = Machine::new().device("0000:00:05.0", NIC, Some("ena")).kernel(OLD).kernel(NEW);
            let machine = machine
                .file(&format!("lib/modules/{OLD}/modules.builtin.modinfo"), DRIVER)
                .file("proc/sys/kernel/osrelease", &format!("{OLD}\n"));
            if loader == Loader::Legacy {
                machine.file(LEGACY, &format!("default=0\ntimeout=5\n{}{}", title(NEW), title(OLD)))
            } else {
                let machine =
                    machine.file("sys/firmware/efi/fw_platform_size", "64").file("boot/loader/loader.conf", "timeout 3\n");
                entry(entry(machine.file("boot/EFI/systemd/systemd-bootx64.efi", ""), OLD), NEW)
            }
        }
    };
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 3, "{loader:?}: {}", said(&run));
    machine
}

/// A later kernel comes, by a package that moves no default.
fn later(machine: Machine, loader: Loader) -> Machine {
    let machine = machine.kernel(LATER);
    match loader {
        Loader::Saved | Loader::Literal => machine.boot_entry(LATER),
        Loader::Legacy => {
            let menu = fs::read_to_string(machine.path(LEGACY)).unwrap();
            let menu = menu.replacen("title", &format!("{}title", title(LATER)), 1).replacen("default=1", "default=2", 1);
            machine.file(LEGACY, &menu)
        }
        Loader::SystemdBoot => entry(machine, LATER),
    }
}

fn said(run: &Run) -> String {
    format!("{}{}", run.stdout, run.stderr)
}

fn json(machine: &Machine, args: &[&str]) -> Value {
    machine.run(&[&["--format", "json"], args].concat()).json()
}

fn gate(machine: &Machine) -> String {
    json(machine, &["gate", "show"])["gate"].as_str().unwrap().to_owned()
}

fn next(machine: &Machine) -> String {
    json(machine, &["next-boot"])["kernels"][0]["kernel"].as_str().unwrap().to_owned()
}

fn audit(machine: &Machine) -> String {
    fs::read_to_string(machine.path("var/lib/vfguard/audit.log")).unwrap()
}

/// Every file of the boot loader.
fn loaders(machine: &Machine) -> Vec<(String, Vec<u8>)> {
    let names = ["boot/grub2/grubenv", "boot/grub2/custom.cfg", LEGACY, "boot/loader/loader.conf"];
    let read = |name: &str| Some((name.to_owned(), fs::read(machine.path(name)).ok()?));
    names.into_iter().filter_map(read).collect()
}

/// Each report says that NEW is declined and how to take that back, and none that it is wanted.
fn told(machine: &Machine, loader: Loader) {
    for args in [&["status"][..], &["check"], &["gate", "show"], &["reconcile"]] {
        let text = machine.run(args).stdout;
        assert!(
            !text.contains(&format!("{NEW} is wanted")) && !text.contains(&format!("instead of {NEW}")),
            "{loader:?}: {args:?}: {text}"
        );
        assert!(!text.contains(&format!("wanted: {NEW}")), "{loader:?}: {args:?}: {text}");
        if args[0] != "reconcile" {
            assert!(text.contains(&format!("{NEW} is declined since 2")), "{loader:?}: {args:?}: {text}");
            assert!(text.contains(&format!("vfguard accept {NEW}")), "{loader:?}: {args:?}: {text}");
            assert_eq!(json(machine, args)["declined"][0]["kernel"], NEW, "{loader:?}: {args:?}");
        }
    }
}

#[test]
fn a_kernel_that_is_declined_pins_nothing_and_comes_back_when_it_is_accepted() {
    for loader in ALL {
        let machine = refused_by(loader);
        let run = machine.run(&["decline", NEW, "--reason", "no driver yet"]);
        assert_eq!(
            (run.code, next(&machine).as_str(), gate(&machine).as_str()),
            (0, OLD, "open"),
            "{loader:?}: {}",
            said(&run)
        );
        assert_eq!(machine.run(&["check"]).code, 0, "{loader:?}");
        told(&machine, loader);
        let hold = &json(&machine, &["status"])["held"];
        let kernels = (hold["held"].as_str(), hold["wanted"].as_str(), hold["declined"].as_str());
        assert_eq!(kernels, (Some(OLD), Some(OLD), Some(NEW)), "{loader:?}: {hold}");
        // The hold stays, and nothing is written or said.
        let before = loaders(&machine);
        let run = machine.run(&["reconcile"]);
        assert!(run.code == 0 && !said(&run).contains("hold"), "{loader:?}: {}", said(&run));
        assert_eq!(loaders(&machine), before, "{loader:?}");
        // Back, and declined once more.
        let run = machine.run(&["accept", NEW]);
        assert_eq!(
            (run.code, next(&machine).as_str(), gate(&machine).as_str()),
            (0, OLD, "closed"),
            "{loader:?}: {}",
            said(&run)
        );
        assert!(
            run.stdout.contains("what may boot now is not safe") && audit(&machine).contains("\"accept\""),
            "{}",
            said(&run)
        );
        assert_eq!(json(&machine, &["check"])["kernels"][1]["kernel"], NEW, "{loader:?}");
        assert_eq!(machine.run(&["decline", NEW]).code, 0, "{loader:?}");
        // A later kernel is wanted, refused while it does not drive the device, and promoted once it does.
        let machine = later(machine, loader);
        let run = machine.run(&["reconcile"]);
        assert_eq!(
            (run.code, next(&machine).as_str(), gate(&machine).as_str()),
            (3, OLD, "closed"),
            "{loader:?}: {}",
            said(&run)
        );
        let kernels = json(&machine, &["check"])["kernels"].clone();
        let wanted: Vec<_> =
            kernels.as_array().unwrap().iter().filter(|k| k["role"] == "wanted").map(|k| &k["kernel"]).collect();
        assert_eq!(wanted, [LATER], "{loader:?}");
        told(&machine, loader);
        assert!(machine.run(&["status"]).stdout.contains(&format!("held on {OLD} instead of {LATER}")), "{loader:?}");
        let machine = machine.file(&format!("lib/modules/{LATER}/modules.builtin.modinfo"), DRIVER);
        let run = machine.run(&["reconcile"]);
        assert_eq!(
            (run.code, next(&machine).as_str(), gate(&machine).as_str()),
            (0, LATER, "open"),
            "{loader:?}: {}",
            said(&run)
        );
        assert!(
            !machine.path(HOLD).exists()
                && loaders(&machine).iter().all(|(_, text)| !text.windows(7).any(|w| w == b"vfguard"))
        );
        assert!(machine.run(&["status"]).stdout.contains(&format!("{NEW} is declined")), "{loader:?}");
    }
}

#[test]
fn a_declined_kernel_that_drives_the_device_is_not_promoted() {
    for loader in ALL {
        let machine = refused_by(loader);
        assert_eq!(machine.run(&["decline", NEW]).code, 0);
        let machine = machine.file(&format!("lib/modules/{NEW}/modules.builtin.modinfo"), DRIVER);
        let run = machine.run(&["reconcile"]);
        assert_eq!((run.code, next(&machine).as_str()), (0, OLD), "{loader:?}: {}", said(&run));
        let run = machine.run(&["accept", NEW]);
        assert_eq!((run.code, next(&machine).as_str()), (0, NEW), "{loader:?}: {}", said(&run));
        assert!(!machine.path(RECORD).exists() && !machine.path(HOLD).exists(), "{loader:?}");
    }
}

#[test]
fn a_declined_kernel_that_somebody_makes_the_default_is_judged_as_what_boots_next() {
    let machine = refused();
    assert_eq!(machine.run(&["decline", NEW]).code, 0);
    let machine = machine.boot_default(NEW);
    let run = machine.run(&["check"]);
    assert!(run.code == 3 && run.stdout.contains(&format!("next: {NEW}")), "{}", said(&run));
    assert_eq!(machine.run(&["reboot"]).code, 3);
    let run = machine.run(&["reconcile"]);
    assert_eq!((run.code, machine.saved_entry().as_str(), gate(&machine).as_str()), (0, OLD, "open"), "{}", said(&run));
    assert!(run.stdout.contains(&format!("held on {OLD} ({NEW} is declined)")), "{}", said(&run));
}

#[test]
fn a_declined_kernel_that_is_safe_and_made_the_default_by_hand_is_declined_no_more_whoever_looks_first() {
    let set = || {
        let machine = refused();
        assert_eq!(machine.run(&["decline", NEW]).code, 0);
        machine.boot_default(NEW).file(&format!("lib/modules/{NEW}/modules.builtin.modinfo"), DRIVER)
    };
    for args in [&["reconcile"][..], &["reconcile", "--no-build", "--from", "watch"], &["reconcile", "--from", "service"]] {
        let machine = set();
        let run = machine.run(args);
        assert!(said(&run).contains(&format!("{NEW} was made the boot default")), "{args:?}: {}", said(&run));
        assert_eq!(machine.run(&["reconcile", "--from", "timer"]).code, 0);
        assert_eq!((machine.saved_entry().as_str(), gate(&machine).as_str()), (NEW, "open"), "{args:?}: {}", said(&run));
        assert!(!machine.path(RECORD).exists() && !machine.path(HOLD).exists(), "{args:?}");
    }
    // A package did that where its hook looks first.
    let machine = set();
    machine.run(&["reconcile", "--from", "dnf"]);
    assert_eq!(machine.run(&["reconcile", "--from", "timer"]).code, 0);
    assert!(machine.saved_entry() == OLD && machine.path(RECORD).exists());
}

#[test]
fn a_declined_kernel_that_is_safe_stays_off_when_the_one_that_was_promoted_in_its_place_is_removed() {
    for loader in [Loader::Literal, Loader::SystemdBoot] {
        let machine = refused_by(loader);
        assert_eq!(machine.run(&["decline", NEW]).code, 0);
        let driven =
            |machine: Machine, kernel: &str| machine.file(&format!("lib/modules/{kernel}/modules.builtin.modinfo"), DRIVER);
        let machine = driven(driven(later(machine, loader), LATER), NEW);
        let run = machine.run(&["reconcile"]);
        assert_eq!((run.code, next(&machine).as_str()), (0, LATER), "{loader:?}: {}", said(&run));
        let gone = if loader == Loader::Literal {
            format!("boot/loader/entries/{MACHINE_ID}-{LATER}.conf")
        } else {
            format!("boot/loader/entries/{LATER}.conf")
        };
        for file in [gone, format!("boot/vmlinuz-{LATER}")] {
            fs::remove_file(machine.path(&file)).unwrap();
        }
        fs::remove_dir_all(machine.path(&format!("lib/modules/{LATER}"))).unwrap();
        assert_eq!(next(&machine), NEW, "{loader:?}");
        let run = machine.run(&["reconcile"]);
        assert_eq!(
            (run.code, next(&machine).as_str(), gate(&machine).as_str()),
            (0, OLD, "open"),
            "{loader:?}: {}",
            said(&run)
        );
        assert!(run.stdout.contains(&format!("held on {OLD} ({NEW} is declined)")), "{loader:?}: {}", said(&run));
        let again = machine.run(&["reconcile"]);
        assert_eq!((again.code, next(&machine).as_str()), (0, OLD), "{loader:?}: {}", said(&again));
        told(&machine, loader);
        let run = machine.run(&["accept", NEW]);
        assert_eq!((run.code, next(&machine).as_str()), (0, NEW), "{loader:?}: {}", said(&run));
    }
}

#[test]
fn what_is_not_declined_cannot_be_accepted_and_what_is_declined_is_listed() {
    let machine = refused();
    let run = machine.run(&["accept", NEW]);
    assert!(run.code == 1 && run.stderr.contains("declined: none"), "{}", said(&run));
    // Also one that is not about to boot is declined beforehand.
    let machine = bad(machine, LATER);
    assert_eq!(machine.run(&["decline", LATER]).code, 0);
    let run = machine.run(&["accept", OLD]);
    assert!(run.code == 1 && run.stderr.contains(&format!("{OLD} is not declined (declined: {LATER})")), "{}", said(&run));
    assert_eq!(gate(&machine), "closed");
    assert!(!audit(&machine).contains("\"accept\""));
}

#[test]
fn a_kernel_that_is_removed_is_not_declined_any_more() {
    let machine = refused();
    assert_eq!(machine.run(&["decline", NEW]).code, 0);
    fs::remove_file(machine.path(&format!("boot/loader/entries/{MACHINE_ID}-{NEW}.conf"))).unwrap();
    fs::remove_file(machine.path(&format!("boot/vmlinuz-{NEW}"))).unwrap();
    fs::remove_dir_all(machine.path(&format!("lib/modules/{NEW}"))).unwrap();
    assert_eq!(json(&machine, &["status"])["declined"], serde_json::json!([]));
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert!(!machine.path(RECORD).exists());
    let machine = bad(machine, NEW);
    assert_eq!(machine.run(&["accept", NEW]).code, 1);
}

#[test]
fn an_override_that_names_a_declined_kernel_moves_no_default_and_says_why() {
    let machine = refused();
    assert_eq!(machine.run(&["decline", NEW]).code, 0);
    let run = machine.run(&["gate", "open", "--kernel", NEW, "--reason", "x"]);
    assert_eq!((run.code, machine.saved_entry().as_str()), (0, OLD), "{}", said(&run));
    assert!(run.stdout.contains("stays held") && run.stdout.contains(&format!("vfguard accept {NEW}")), "{}", said(&run));
    // Nor does one that names the held kernel end the hold.
    assert_eq!(machine.run(&["gate", "open", "--kernel", OLD, "--reason", "x"]).code, 0);
    assert!(machine.path(HOLD).exists());
}

#[test]
fn the_removal_of_vfguard_keeps_the_default_where_a_saved_one_holds_and_else_gives_it_back() {
    for loader in [Loader::Saved, Loader::Literal] {
        let machine = refused_by(loader);
        assert_eq!(machine.run(&["decline", NEW]).code, 0);
        let run = machine.run(&["gate", "remove"]);
        let given_back = said(&run).contains(&format!("THE BOOT DEFAULT IS GIVEN BACK: {NEW} BOOTS NEXT"));
        assert_eq!((run.code, given_back), (0, loader == Loader::Literal), "{loader:?}: {}", said(&run));
        assert_eq!(next(&machine), if given_back { NEW } else { OLD }, "{loader:?}");
        assert!(
            given_back
                || said(&run).contains(&format!("stays on {OLD}")) && said(&run).contains(&format!("for {NEW} set it"))
        );
        let ours = |text: &[u8]| text.windows(7).any(|w| w == b"vfguard");
        assert!(loaders(&machine).iter().all(|(_, text)| !ours(text)), "{loader:?}");
    }
}

#[test]
fn declining_leaves_the_default_where_it_is_held_and_opens() {
    let machine = refused();
    let run = machine.run(&["decline", NEW, "--reason", "waits for the next driver"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!((gate(&machine).as_str(), machine.saved_entry().as_str()), ("open", OLD));
    assert_eq!(machine.run(&["check"]).code, 0);
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    let log = audit(&machine);
    assert!(log.contains("\"decline\"") && log.contains(NEW) && log.contains("waits for the next driver"), "{log}");
}

#[test]
fn what_runs_or_is_not_there_cannot_be_declined() {
    let machine = refused();
    for kernel in [OLD, "9.9.9"] {
        assert_eq!(machine.run(&["decline", kernel]).code, 1, "{kernel}");
    }
    assert_eq!(gate(&machine), "closed");
    assert!(!audit(&machine).contains("\"decline\"") && !machine.path(RECORD).exists());
}

#[test]
fn declining_what_boots_next_moves_the_default_first() {
    let machine = bad(settled(), NEW).boot_default(NEW);
    assert_eq!(machine.run(&["decline", NEW]).code, 0);
    assert_eq!((gate(&machine).as_str(), machine.saved_entry().as_str()), ("open", OLD));
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert_eq!(machine.saved_entry(), OLD);
}

#[test]
fn declining_what_is_set_for_one_boot_and_is_the_default_too_does_both() {
    let machine = bad(settled(), NEW).boot_default(NEW);
    let env = machine.path("boot/grub2/grubenv");
    let block = fs::read_to_string(&env).unwrap();
    let saved = block.lines().find(|l| l.starts_with("saved_entry=")).unwrap();
    let once = saved.replace("saved_entry", "next_entry");
    fs::write(&env, format!("# GRUB Environment Block\n{saved}\n{once}\n{:#<1$}", "", 1024 - 27 - saved.len() - once.len()))
        .unwrap();
    assert_eq!(machine.run(&["decline", NEW]).code, 0);
    assert_eq!((gate(&machine).as_str(), machine.saved_entry().as_str()), ("open", OLD));
    assert_eq!(machine.run(&["check"]).code, 0);
}

#[test]
fn declining_a_safe_kernel_for_one_that_is_not_closes_the_gate() {
    let machine = good(settled(), NEW).boot_default(NEW).file(&format!("lib/modules/{OLD}/modules.builtin.modinfo"), "");
    let run = machine.run(&["decline", NEW]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!((gate(&machine).as_str(), machine.saved_entry().as_str()), ("closed", OLD));
    assert!(run.stdout.contains("what may boot now is not safe"), "{}", run.stdout);
}
