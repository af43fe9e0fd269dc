//! The hooks of one transaction, in the order of each generation of packages (src/flow/hook/order.rs), with the files that are on disk at
//! each: a kernel is installed, and the oldest one removed in the same transaction. If some of the hooks die, the last one still decides;
//! and none promotes a kernel whose initramfs and boot entry are not written.

#[path = "../../machine/mod.rs"]
mod machine;

use machine::{ramdisk, Machine, MACHINE_ID};
use std::fs;

const OLDEST: &str = "6.1.0-52-amd64";
const OLD: &str = "6.1.0-53-amd64";
const NEW: &str = "6.1.0-54-amd64";
const GATE: &str = "run/systemd/system/reboot.target.d/50-vfguard.conf";
const LEAVING: [&str; 2] = ["--leaving", OLDEST];

/// A step of a package manager, or a hook that it calls.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// The kernel's image and modules are written.
    Unpack,
    /// Its boot entry is written without a ramdisk, and becomes the default.
    BareEntry,
    /// The same with a ramdisk that does not exist yet.
    Entry,
    /// Its initramfs is written, and the entry names it.
    Initramfs,
    /// The oldest kernel's entry is removed.
    EntryGoes,
    /// Its files are removed.
    FilesGo,
    /// A hook with this name is called.
    Hook(&'static str),
}
use Step::*;

const EL6_AND_EL7: &[Step] = &[
    Unpack,
    BareEntry,
    Hook("package-trigger"),
    Hook("prerm"),
    EntryGoes,
    FilesGo,
    Initramfs,
    Hook("postinst"),
    Hook("yum"),
];
const EL8: &[Step] = &[
    Unpack,
    EntryGoes,
    Hook("prerm"),
    FilesGo,
    Entry,
    Hook("kernel-install-early"),
    Initramfs,
    Hook("kernel-install"),
    Hook("rpm-trigger"),
    Hook("dnf"),
];
const DEBIAN: &[Step] =
    &[FilesGo, EntryGoes, Hook("prerm"), Unpack, BareEntry, Initramfs, Hook("postinst"), Hook("dpkg-trigger")];
const ALL: [(&str, &[Step]); 3] = [("EL6 and EL7", EL6_AND_EL7), ("EL8", EL8), ("Debian", DEBIAN)];

fn entry(kernel: &str, root: &str, initrd: bool) -> String {
    let initrd = if initrd { format!("initrd /initramfs-{kernel}.img\n") } else { String::new() };
    format!("title Linux {kernel}\nversion {kernel}\nlinux /vmlinuz-{kernel}\n{initrd}options root={root} ro\n")
}

struct World {
    machine: Machine,
    good: bool,
    /// The root in the entries: grub-mkconfig writes a device or a partition if it finds no ramdisk.
    root: &'static str,
}

const ROOTS: [&str; 3] = ["UUID=1", "/dev/xvda1", "PARTUUID=1-2"];

impl World {
    /// OLD runs, OLDEST is there too, all is safe and the gate is open. The new kernel is `good` or lacks the device's driver.
    fn new(good: bool) -> World {
        World::with_root(good, ROOTS[0])
    }

    fn with_root(good: bool, root: &'static str) -> World {
        let machine = Machine::new().with_card();
        let machine = machine.file("proc/sys/kernel/osrelease", &format!("{OLD}\n"));
        let mut world = World { machine, good: true, root };
        for kernel in [OLDEST, OLD] {
            world.unpack(kernel);
            world.machine.put(&format!("boot/initramfs-{kernel}.img"), &ramdisk());
            world.machine.put(&format!("boot/loader/entries/{MACHINE_ID}-{kernel}.conf"), &entry(kernel, root, true));
        }
        world.machine = world.machine.boot_default(OLD);
        assert_eq!(world.machine.run(&["reconcile"]).code, 0);
        World { good, ..world }
    }

    fn unpack(&self, kernel: &str) {
        self.machine.put(&format!("boot/vmlinuz-{kernel}"), "an image");
        for table in ["modules.dep", "modules.alias", "modules.symbols", "modules.softdep", "modules.builtin"] {
            self.machine.put(&format!("lib/modules/{kernel}/{table}"), "");
        }
        self.machine.drives(kernel, self.good);
    }

    fn remove(&self, path: &str) {
        let path = self.machine.path(path);
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }

    fn default(&self) -> String {
        self.machine.run(&["--format", "json", "next-boot"]).json()["kernels"][0]["kernel"].as_str().unwrap().to_owned()
    }

    fn call(&self, name: &str) -> i32 {
        let leaving: &[&str] = if name == "prerm" { &LEAVING } else { &[] };
        self.machine.run(&[&["reconcile", "--from", name], leaving].concat()).code
    }

    fn step(&mut self, step: Step) {
        let conf = format!("boot/loader/entries/{MACHINE_ID}-{NEW}.conf");
        match step {
            Unpack => self.unpack(NEW),
            BareEntry | Entry => {
                self.machine.put(&conf, &entry(NEW, self.root, step == Entry));
                self.machine.set_env("saved_entry", Some(NEW));
            }
            Initramfs => {
                self.machine.put(&format!("boot/initramfs-{NEW}.img"), &ramdisk());
                self.machine.put(&conf, &entry(NEW, self.root, true));
            }
            EntryGoes => self.remove(&format!("boot/loader/entries/{MACHINE_ID}-{OLDEST}.conf")),
            FilesGo => {
                let image = format!("boot/vmlinuz-{OLDEST}");
                [image, format!("boot/initramfs-{OLDEST}.img"), format!("lib/modules/{OLDEST}")]
                    .iter()
                    .for_each(|f| self.remove(f));
            }
            Hook(name) => {
                self.call(name);
            }
        }
    }

    fn has_initramfs(&self) -> bool {
        self.machine.path(&format!("boot/initramfs-{NEW}.img")).exists()
    }

    /// The result: the default, whether the gate is closed, and whether the default is held.
    fn end(&self) -> (String, bool, bool) {
        let held = self.machine.path("var/lib/vfguard/records/hold.json").exists();
        (self.default(), self.machine.path(GATE).exists(), held)
    }
}

/// Where a hook dies: before it does anything or, in a build with failpoints, at one of these.
const DEATHS: [&str; 6] = [
    "judged-before-refused",
    "unsafe-before-held",
    "hold-recorded-before-move",
    "safe-before-promoted",
    "promoted-before-record",
    "promoted-before-open",
];

/// Plays the transaction; the hooks with these numbers die.
fn play(steps: &[Step], good: bool, dead: u32, death: usize) -> World {
    let mut world = World::new(good);
    let mut number = 0;
    for step in steps {
        let Hook(name) = step else {
            world.step(*step);
            continue;
        };
        let dies = dead & (1 << number) != 0;
        number += 1;
        if !dies {
            world.call(name);
            if !world.has_initramfs() {
                assert_ne!(world.default(), NEW, "{name} leaves the default on a kernel without initramfs");
            }
        } else if let (true, Some(point)) = (cfg!(feature = "failpoints"), DEATHS.get(death)) {
            let leaving: &[&str] = if *name == "prerm" { &LEAVING } else { &[] };
            let mut command = world.machine.command(&[&["reconcile", "--from", name], leaving].concat());
            command.env("VFGUARD_FAILPOINT", point).output().unwrap();
        }
    }
    world
}

#[test]
fn if_any_hooks_of_a_transaction_die_the_last_one_decides_as_if_it_were_alone() {
    let deaths = if cfg!(feature = "failpoints") { DEATHS.len() } else { 1 };
    let generation = |(generation, steps): (&str, &[Step])| {
        let hooks = steps.iter().filter(|step| matches!(step, Hook(_))).count() as u32;
        for good in [true, false] {
            let alone = play(steps, good, (1 << (hooks - 1)) - 1, DEATHS.len()).end();
            let want = if good { (NEW.to_owned(), false, false) } else { (OLD.to_owned(), true, true) };
            assert_eq!(alone, want, "{generation} good: {good}");
            for (dead, death) in (0..1 << (hooks - 1)).flat_map(|dead| (0..deaths).map(move |death| (dead, death))) {
                let end = play(steps, good, dead, death).end();
                assert_eq!(end, want, "{generation} good: {good}, dead: {dead:b}, at {death}");
            }
        }
    };
    std::thread::scope(|scope| ALL.map(|all| scope.spawn(move || generation(all))).map(|thread| thread.join().unwrap()));
}

#[test]
fn hooks_before_the_initramfs_is_written_promote_and_open_nothing() {
    for ((generation, steps), root) in ALL.into_iter().flat_map(|all| ROOTS.map(|root| (all, root))) {
        let mut world = World::with_root(true, root);
        for step in steps {
            world.step(*step);
            let closed = world.machine.path(GATE).exists();
            if world.default() == NEW && !world.has_initramfs() {
                assert!(!matches!(step, Hook(_)), "{generation}: {step:?} leaves it");
            }
            if matches!(step, Hook("prerm" | "kernel-install-early")) && generation == "EL6 and EL7" {
                assert!(closed, "{generation}: {step:?}");
            }
        }
    }
    // The kernel is complete now and still held: the removal's hook and the early one leave that to a later one.
    for name in ["prerm", "kernel-install-early"] {
        let mut world = World::new(true);
        [Unpack, BareEntry, Hook("postinst")].into_iter().for_each(|step| world.step(step));
        assert!(world.default() == OLD && world.machine.path(GATE).exists());
        world.step(Initramfs);
        assert_eq!(world.call(name), 0);
        assert!(world.default() == OLD && world.machine.path(GATE).exists(), "{name}");
        assert_eq!(world.call("postinst"), 0);
        assert_eq!(world.end(), (NEW.to_owned(), false, false));
    }
}

#[test]
fn callers_that_are_no_hooks_wait_for_the_end_of_a_transaction() {
    for args in [&["--from", "service"][..], &["--from", "watch", "--no-build"], &["--from", "timer"]] {
        let mut world = World::new(true);
        [Unpack, BareEntry, Hook("postinst"), Initramfs].into_iter().for_each(|step| world.step(step));
        world.machine.put("var/run/yum.pid", "7");
        world.machine.put("proc/7/x", "");
        let run = |world: &World| world.machine.run(&[&["reconcile"], args].concat());
        assert_eq!(run(&world).code, 0);
        assert!(world.default() == OLD && world.machine.path(GATE).exists(), "{args:?}");
        world.remove("var/run/yum.pid");
        let run = run(&world);
        assert_eq!(world.end(), (NEW.to_owned(), false, false), "{args:?}: {}{}", run.stdout, run.stderr);
    }
}

#[test]
fn a_kernel_that_is_being_removed_does_not_count_and_is_no_longer_the_default() {
    let mut world = World::new(true);
    [Unpack, BareEntry, Initramfs, Hook("postinst")].into_iter().for_each(|step| world.step(step));
    assert_eq!(world.default(), NEW);
    let run = world.machine.run(&["reconcile", "--from", "prerm", "--leaving", NEW]);
    assert_eq!(world.default(), OLD, "{}{}", run.stdout, run.stderr);
    let said = format!("{}{}", run.stdout, run.stderr);
    assert!(!said.contains("not proven yet") && !said.contains("preparing"), "{said}");
    // The steps of grubby and rpm, and the action after them.
    for path in
        [format!("boot/loader/entries/{MACHINE_ID}-{NEW}.conf"), format!("boot/vmlinuz-{NEW}"), format!("lib/modules/{NEW}")]
    {
        world.remove(&path);
    }
    assert_eq!(world.call("yum"), 0);
    assert!(world.end() == (OLD.to_owned(), false, false) || world.default() == OLD, "{:?}", world.end());
    let env = fs::read_to_string(world.machine.path("boot/grub2/grubenv")).unwrap();
    assert!(!env.contains("vfguard") && !env.contains(NEW), "{env}");
    // Reinstalled at once, it counts like any other.
    [Unpack, BareEntry, Initramfs, Hook("postinst")].into_iter().for_each(|step| world.step(step));
    assert_eq!(world.end(), (NEW.to_owned(), false, false));
}

#[test]
fn after_a_ctrl_c_before_the_initramfs_no_later_look_promotes_the_kernel() {
    for root in ROOTS {
        let mut world = World::with_root(true, root);
        [Unpack, BareEntry, Hook("package-trigger")].into_iter().for_each(|step| world.step(step));
        for args in [&["--from", "watch", "--no-build"][..], &["--from", "service"], &[]] {
            let run = world.machine.run(&[&["reconcile"], args].concat());
            assert_eq!(run.code, 3, "{root} {args:?}: {}{}", run.stdout, run.stderr);
            assert!(world.default() == OLD && world.machine.path(GATE).exists(), "{root} {args:?}: {}", run.stdout);
        }
        world.step(Initramfs);
        assert_eq!(world.machine.run(&["reconcile"]).code, 0);
        assert_eq!(world.end(), (NEW.to_owned(), false, false), "{root}");
    }
}

#[test]
fn an_aborted_removal_changes_nothing_and_ends_no_decline() {
    let mut world = World::new(true);
    [Unpack, BareEntry, Initramfs, Hook("postinst")].into_iter().for_each(|step| world.step(step));
    let leaving = ["reconcile", "--from", "prerm", "--leaving", NEW];
    world.machine.run(&leaving);
    for args in [&["reconcile", "--from", "watch"][..], &["reconcile", "--from", "timer"]] {
        world.machine.run(args);
        assert_eq!(world.default(), OLD, "{args:?}");
    }
    world.remove("run/vfguard/leaving");
    assert_eq!(world.call("watch"), 0);
    assert_eq!(world.end(), (NEW.to_owned(), false, false));
    // If it was declined, it stays declined.
    assert_eq!(world.machine.run(&["decline", NEW]).code, 0);
    world.machine.run(&leaving);
    world.remove("run/vfguard/leaving");
    assert_eq!(world.call("watch"), 0);
    assert_eq!(world.default(), OLD);
    assert!(world.machine.path("var/lib/vfguard/records/declined.json").exists());
}

#[test]
fn where_the_next_boot_is_uncertain_a_kernel_counts_until_it_is_gone() {
    let world = World::new(false);
    world.unpack(NEW);
    world.machine.put(&format!("boot/loader/entries/{MACHINE_ID}-{NEW}.conf"), &entry(NEW, ROOTS[0], false));
    let config = fs::read_to_string(world.machine.path("boot/grub2/grub.cfg")).unwrap();
    world.machine.put("boot/grub2/grub.cfg", &format!("unheard_of x\n{config}"));
    assert_eq!(world.machine.run(&["reconcile", "--from", "prerm", "--leaving", NEW]).code, 3);
    for args in [&["check"][..], &["reconcile", "--no-build", "--from", "watch"]] {
        let run = world.machine.run(args);
        assert_eq!(run.code, 3, "{args:?}: {}{}", run.stdout, run.stderr);
    }
    assert!(world.machine.path(GATE).exists());
}
