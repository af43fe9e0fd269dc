//! With each boot loader: a declined kernel pins nothing, and does not become the boot default.

use super::*;

const LEGACY: &str = "boot/grub/grub.conf";

/// The boot loader that holds the default.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Loader {
    Saved,
    Literal,
    Legacy,
    SystemdBoot,
}

const ALL: [Loader; 4] = [Loader::Saved, Loader::Literal, Loader::Legacy, Loader::SystemdBoot];

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

/// Installs a later kernel from a package that does not move the default.
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

/// The content of every file of the boot loader.
fn loaders(machine: &Machine) -> Vec<(String, Vec<u8>)> {
    let names = ["boot/grub2/grubenv", "boot/grub2/custom.cfg", LEGACY, "boot/loader/loader.conf"];
    let read = |name: &str| Some((name.to_owned(), fs::read(machine.path(name)).ok()?));
    names.into_iter().filter_map(read).collect()
}

/// Asserts that each report says that NEW is declined and how to reverse that, and none that it is wanted.
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
fn a_declined_kernel_blocks_no_later_one_and_is_wanted_again_when_accepted() {
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
        // The hold stays; nothing is written or printed.
        let before = loaders(&machine);
        let run = machine.run(&["reconcile"]);
        assert!(run.code == 0 && !said(&run).contains("hold"), "{loader:?}: {}", said(&run));
        assert_eq!(loaders(&machine), before, "{loader:?}");
        // Accepted, and declined once more.
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
        // A later kernel is wanted; it is refused while it does not drive the device, and promoted once it does.
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
fn a_safe_declined_kernel_stays_off_when_the_kernel_promoted_instead_is_removed() {
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
fn removing_vfguard_keeps_the_default_where_a_saved_one_is_used_and_else_restores_it() {
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
