//! Whether a driver in the place of the in-tree one is the in-tree one: real modules from a kernel's build and from a driver's makefile,
//! with `.modinfo` and signature changed as kernels of other times have them.

use crate::machine::lab::Lab;
use crate::machine::Machine;
use std::fs;
use std::process::Command;

const OLD: &str = "2.6.32-431.20.3.el6.x86_64";
const NEW: &str = "2.6.32-754.35.1.el6.x86_64";
const OWN: &str = "kernel/crypto/own.ko";
const PLACE: &str = "kernel/drivers/net/ixgbevf/ixgbevf.ko";

/// Makes a module whose `.modinfo` is changed by a shell line on its text (an entry is a line there), and that gets a signature in EL6's
/// form if `signed`.
fn module(kernel: &str, from: &str, change: &str, signed: bool, to: &str) {
    let sign = if signed { "echo signature >s; objcopy --add-section .note.module.sig=s m.ko" } else { ":" };
    let script = format!(
        "d=$(mktemp -d); cp '{from}' $d/m.ko; cd $d; objcopy --dump-section .modinfo=i m.ko; tr '\\0' '\\n' <i | \
         sed \"/^vermagic=/s/=[^ ]*/=$K/\" | {change} | tr '\\n' '\\0' >j; objcopy --update-section .modinfo=j m.ko; {sign}; \
         mkdir -p \"$(dirname '{to}')\"; cp m.ko '{to}'; rm -r $d"
    );
    let output = Command::new("sh").args(["-euc", &script]).env("K", kernel).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

struct Case {
    what: &'static str,
    /// The in-tree modules: whether they have the tag, and a signature.
    tagged: bool,
    signs: bool,
    order: &'static str,
    /// The driver: whether the kernel's build made it, how its `.modinfo` is changed, whether it is signed.
    shipped: bool,
    change: &'static str,
    signed: bool,
    own: bool,
}

const NO_TAG: &str = "grep -v ^intree=";
const VENDORS: &str = "sed '1iversion=2.14.2' | grep -v ^intree=";
const KERNELS: &str = "sed '1iversion=2.12.1-k' | grep -v ^intree=";
const UNKNOWN: &str = "sed '1iversion=9.9.9' | grep -v ^intree=";
const AMAZONS: &str = "sed '1iversion=2.14.2'";
const LISTED: &str = "kernel/crypto/own.ko\nkernel/drivers/net/ixgbevf/ixgbevf.ko\n";
const UNLISTED: &str = "kernel/crypto/own.ko\nkernel/drivers/net/ethernet/intel/ixgbevf/ixgbevf.ko\n";

#[rustfmt::skip]
const CASES: [Case; 12] = [
    Case { what: "EL 6, the kernel's own", tagged: false, signs: true, order: LISTED, shipped: true, change: KERNELS, signed: true, own: true },
    Case { what: "EL 6, 2.14.2 by hand over it", tagged: false, signs: true, order: LISTED, shipped: false, change: VENDORS, signed: false, own: false },
    Case { what: "EL 6, a release that no recipe has", tagged: false, signs: true, order: LISTED, shipped: false, change: UNKNOWN, signed: false, own: false },
    Case { what: "nothing signed, 2.14.2", tagged: false, signs: false, order: LISTED, shipped: false, change: VENDORS, signed: false, own: false },
    Case { what: "nothing signed, 2.14.2, no list", tagged: false, signs: false, order: "", shipped: false, change: VENDORS, signed: false, own: false },
    Case { what: "nothing signed, the kernel's own, no list", tagged: false, signs: false, order: "", shipped: true, change: KERNELS, signed: false, own: true },
    Case { what: "no version, not in the list", tagged: false, signs: false, order: UNLISTED, shipped: false, change: NO_TAG, signed: false, own: false },
    Case { what: "no version, in the list", tagged: false, signs: false, order: LISTED, shipped: true, change: NO_TAG, signed: false, own: true },
    Case { what: "EL 7, the kernel's own", tagged: true, signs: false, order: LISTED, shipped: true, change: "cat", signed: false, own: true },
    Case { what: "EL 7, any release by hand over it", tagged: true, signs: false, order: LISTED, shipped: false, change: UNKNOWN, signed: false, own: false },
    Case { what: "EL 7, signed by hand", tagged: true, signs: true, order: LISTED, shipped: false, change: UNKNOWN, signed: true, own: false },
    Case { what: "Amazon's kernel with Intel's release in it", tagged: true, signs: false, order: LISTED, shipped: true, change: AMAZONS, signed: false, own: true },
];

fn stage(case: &Case) -> Machine {
    let lab = Lab::open();
    let modules = lab.file("ROOT_IMAGES").join("lib/modules").join(lab.get("K_NEW"));
    let (of_kernel, net) = (modules.join("kernel/crypto/blowfish_common.ko"), "kernel/drivers/net/ethernet/intel/ixgbevf");
    let (shipped, built) = (modules.join(net).join("ixgbevf.ko"), lab.file("MODULE_IXGBEVF"));
    let mut machine = Machine::new().grub().vf("ixgbevf");
    for kernel in [OLD, NEW] {
        machine = machine.kernel(kernel).boot_entry(kernel);
        let alias = "alias pci:v00008086d000010EDsv*sd*bc*sc*i* ixgbevf\n";
        machine = machine
            .file(&format!("lib/modules/{kernel}/modules.dep"), &format!("{OWN}:\n{PLACE}:\n"))
            .file(&format!("lib/modules/{kernel}/modules.alias"), alias)
            .file(&format!("lib/modules/{kernel}/modules.order"), if kernel == OLD { case.order } else { LISTED });
    }
    let machine = machine.file("proc/sys/kernel/osrelease", &format!("{OLD}\n")).file("sys/module/ixgbevf/refcnt", "0\n");
    let at = |kernel: &str, name: &str| machine.path(&format!("lib/modules/{kernel}/{name}")).display().to_string();
    let own = if case.tagged { "cat" } else { NO_TAG };
    for kernel in [OLD, NEW] {
        module(kernel, &of_kernel.display().to_string(), own, case.signs, &at(kernel, OWN));
    }
    // The new kernel has its in-tree driver, however the other's was changed.
    module(NEW, &shipped.display().to_string(), own, case.signs, &at(NEW, PLACE));
    let driver = if case.shipped { shipped } else { built };
    module(OLD, &driver.display().to_string(), case.change, case.signed, &at(OLD, PLACE));
    machine.boot_default(NEW)
}

/// Whether the running driver counts as in-tree, by the reported origin and by what is required of the new kernel.
fn taken_for_own(machine: &Machine) -> bool {
    let value = machine.run(&["--format", "json", "check", OLD]).json();
    let origin = value["kernels"][0]["modules"][0]["origin"].as_str().map(str::to_owned);
    let run = machine.run(&["--format", "json", "check", NEW]);
    let wanted = run.stdout.contains("an out-of-tree driver is wanted");
    assert_eq!(wanted, run.stdout.contains("\"module-missing\""), "{}", run.stdout);
    // If an in-tree driver is not accepted there either, no module is reported.
    assert_eq!(origin.as_deref(), Some(if wanted { "prebuilt" } else { "in-tree" }), "{value:#} {}", run.stdout);
    !wanted
}

#[test]
fn a_driver_in_the_place_of_the_in_tree_one_is_distinguished_from_it() {
    for case in &CASES {
        assert_eq!(taken_for_own(&stage(case)), case.own, "{}", case.what);
    }
}

#[test]
fn a_symbolic_link_in_that_place_is_not_the_in_tree_driver() {
    let machine = stage(&CASES[0]);
    let at = format!("lib/modules/{OLD}/{PLACE}");
    fs::rename(machine.path(&at), machine.path("ixgbevf.ko")).unwrap();
    std::os::unix::fs::symlink("/ixgbevf.ko", machine.path(&at)).unwrap();
    assert!(!taken_for_own(&machine));
}

#[test]
fn the_loaded_driver_in_sysfs_counts_before_the_file() {
    let machine = stage(&CASES[0]).file("sys/module/ixgbevf/version", "2.14.2\n");
    let run = machine.run(&["--format", "json", "check", NEW]);
    assert!(run.stdout.contains("an out-of-tree driver is wanted"), "{}", run.stdout);
    // The loaded module is another build than the file.
    let note = "\u{4}\0\0\0\u{8}\0\0\0\u{3}\0\0\0GNU\0buildid!";
    let machine = stage(&CASES[0]).file("sys/module/ixgbevf/notes/.note.gnu.build-id", note);
    let run = machine.run(&["--format", "json", "check", NEW]);
    assert!(run.stdout.contains("an out-of-tree driver is wanted"), "{}", run.stdout);
}
