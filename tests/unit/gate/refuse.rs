//! Gate and hold fail independently: if the gate cannot be closed, the boot default is still held, and the other way round.

#[path = "../../machine/mod.rs"]
mod machine;

use machine::{Machine, Run};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const OLD: &str = "6.1.0-53-amd64";
const NEW: &str = "6.1.0-54-amd64";
const LATER: &str = "6.1.0-55-amd64";
const NIC: &str = "pci:v00001D0Fd0000EC20sv00001D0Fsd0000EC20bc02sc00i00";
const DRIVER: &str = "ena.alias=pci:v00001D0Fd0000EC20sv*sd*bc*sc*i*\0ena.file=drivers/net/ena\0";
const DROP_IN: &str = "run/systemd/system/reboot.target.d/50-vfguard.conf";

/// OLD runs and drives the card. NEW is the boot default and LATER is first in the menu; neither drives it.
fn machine() -> Machine {
    Machine::new()
        .grub()
        .file("etc/os-release", "ID=rhel\nVERSION_ID=9.4\nID_LIKE=fedora\n")
        .device("0000:00:05.0", NIC, Some("ena"))
        .kernel(OLD)
        .kernel(NEW)
        .kernel(LATER)
        .boot_entry(OLD)
        .boot_entry(NEW)
        .boot_entry(LATER)
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
fn an_unwritable_gate_leaves_the_default_held_and_both_are_reported() {
    // A file where systemd's directory should be.
    let machine = machine().file("run/systemd/system", "");
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 1, "{}", said(&run));
    assert_eq!(machine.saved_entry(), OLD);
    let text = said(&run);
    assert!(text.contains("gate not confirmed: ") && text.contains(&format!("held on {OLD}")), "{text}");
    fs::remove_file(machine.path("run/systemd/system")).unwrap();
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert!(machine.path(DROP_IN).exists(), "it is not tried again");
}

#[test]
fn a_default_that_cannot_be_held_leaves_the_gate_closed_and_both_are_reported() {
    let machine = machine();
    fs::remove_file(machine.path(&format!("boot/loader/entries/{}-{OLD}.conf", machine::MACHINE_ID))).unwrap();
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 3, "{}", said(&run));
    let text = said(&run);
    assert!(text.contains("gate closed") && text.contains("boot default not held: "), "{text}");
    assert!(machine.path(DROP_IN).exists());
}

#[test]
fn gate_and_hold_work_without_a_place_for_locks_counter_and_records() {
    // Files where vfguard's directories should be.
    let machine = machine().file("run/vfguard", "").file("var/lib/vfguard", "");
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 1, "{}", said(&run));
    assert_eq!(machine.saved_entry(), OLD, "{}", said(&run));
    let machine = self::machine().file("var/lib/vfguard", "");
    let run = machine.run(&["reconcile"]);
    assert_eq!((run.code, machine.saved_entry().as_str()), (3, OLD), "{}", said(&run));
    assert!(machine.path(DROP_IN).exists());
}

#[test]
fn a_hold_without_a_written_record_still_promotes_the_wanted_kernel() {
    let machine = machine().file("var/lib/vfguard", "");
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    fs::remove_file(machine.path("var/lib/vfguard")).unwrap();
    // The wanted kernel is not lost either if a run died meanwhile and its ready hold was written.
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    let _ = fs::remove_file(machine.path("var/lib/vfguard/records/hold.json"));
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    let ready = fs::read_to_string(machine.path("var/lib/vfguard/ready/hold")).unwrap();
    assert!(ready.contains(&format!("vfguard_wanted={NEW}\n")), "{ready}");
    // And not LATER, which is first in the menu.
    let machine = mended(machine);
    let run = machine.run(&["reconcile"]);
    assert_eq!((run.code, machine.saved_entry().as_str()), (0, NEW), "{}", said(&run));
    let block = fs::read_to_string(machine.path("boot/grub2/grubenv")).unwrap();
    assert!(!block.contains("vfguard"), "something of ours is left: {block}");
}

#[test]
fn a_run_that_cannot_decide_holds_the_running_kernel_and_closes() {
    let machine = machine().file("etc/vfguard/drivers.d/x.toml", "no recipe\n");
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 1, "{}", said(&run));
    assert!(run.stderr.contains(&format!("held on {OLD}")) && run.stderr.contains("gate closed"), "{}", run.stderr);
    assert!(machine.path(DROP_IN).exists() && machine.saved_entry() == OLD);
    fs::remove_file(machine.path("etc/vfguard/drivers.d/x.toml")).unwrap();
    let machine = mended(machine);
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert_eq!(machine.saved_entry(), NEW, "the wanted kernel is lost");
}

#[test]
fn no_hold_is_left_ready_where_the_boot_loader_would_ignore_it() {
    let machine = machine().boot_default(OLD);
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    let ready = machine.path("var/lib/vfguard/ready/hold");
    assert!(ready.exists());
    // As on stock Debian and Amazon Linux 2: the configuration sets a default itself.
    let config = fs::read_to_string(machine.path("boot/grub2/grub.cfg")).unwrap();
    let machine =
        machine.file("boot/grub2/grub.cfg", &config.replace("set default=\"${saved_entry}\"", "set default=\"0\""));
    machine.run(&["reconcile"]);
    let left = fs::read_to_string(ready).unwrap();
    assert!(left.starts_with("none "), "the shell would say that it holds: {left}");
}

/// Holds a lock of vfguard's until it is dropped.
struct Build(Child);

impl Build {
    fn start(machine: &Machine) -> Build {
        Build::holding(machine, "lock")
    }

    fn holding(machine: &Machine, lock: &str) -> Build {
        fs::create_dir_all(machine.path("run/vfguard")).unwrap();
        let mut flock = Command::new("flock");
        flock.arg(machine.path("run/vfguard").join(lock)).args(["sh", "-c", "echo; read wait"]);
        let mut child = flock.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        Build(child)
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn a_running_build_delays_neither_gate_nor_hold() {
    let machine = machine();
    let build = Build::start(&machine);
    let start = Instant::now();
    let run = machine.run(&["reconcile", "--no-build"]);
    assert_eq!(run.code, 3, "{}", said(&run));
    assert!(run.stdout.contains("another run is at work"), "{}", said(&run));
    assert!(machine.path(DROP_IN).exists() && machine.saved_entry() == OLD, "{}", said(&run));
    assert!(start.elapsed() < Duration::from_secs(60));
    assert_eq!(machine.run(&["decline", NEW]).code, 0, "a person waits for the build");
    drop(build);
    assert_eq!(machine.saved_entry(), OLD);
}

#[test]
fn a_failed_prepare_by_hand_refuses_unsafe_kernels() {
    let recipe = "[[releases]]\nversion = '1.0'\nurls = ['http://127.0.0.1:9/x.tar.gz']\n\
                  sha256 = '0000000000000000000000000000000000000000000000000000000000000000'\n";
    let machine = machine().vf("ixgbevf").recipe(recipe);
    let run = machine.run(&["prepare", NEW, "--driver", "ixgbevf"]);
    assert_ne!(run.code, 0, "{}", said(&run));
    assert!(machine.path(DROP_IN).exists() && machine.saved_entry() == OLD, "{}", said(&run));
}

#[test]
fn each_run_that_decides_leaves_a_hold_ready_unless_it_cannot_hold() {
    let machine = machine().boot_default(OLD);
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    let ready = machine.path("var/lib/vfguard/ready/hold");
    let left = fs::read(&ready).unwrap();
    let line = String::from_utf8_lossy(&left).lines().next().unwrap().to_owned();
    let env = fs::canonicalize(machine.path("boot/grub2/grubenv")).unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!((&words[..2], words[3]), (&["in-place", OLD][..], env.to_str().unwrap()), "{line}");
    // With another default the same kernel is held, and the mark names the wanted one.
    let machine = machine.boot_default(NEW);
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    let (left, now) = (fs::read(&ready).unwrap(), fs::read(&env).unwrap());
    assert!(left.ends_with(&now) && String::from_utf8_lossy(&now).contains(&format!("vfguard_wanted={NEW}\n")));
    // A one-shot default is not part of it.
    let text = String::from_utf8(now).unwrap().replacen("saved_entry=", &format!("next_entry={LATER}\nsaved_entry="), 1);
    let machine = machine.file("boot/grub2/grubenv", &text[..1024]);
    machine.run(&["reconcile"]);
    assert!(!String::from_utf8_lossy(&fs::read(&ready).unwrap()).contains("next_entry"));
    // Nothing is written if nothing is new, and no hold is left ready if OLD cannot boot.
    let before = fs::metadata(&ready).unwrap().modified().unwrap();
    machine.run(&["reconcile"]);
    assert_eq!(fs::metadata(&ready).unwrap().modified().unwrap(), before);
    fs::remove_file(machine.path(&format!("boot/loader/entries/{}-{OLD}.conf", machine::MACHINE_ID))).unwrap();
    machine.run(&["reconcile"]);
    assert!(fs::read_to_string(&ready).unwrap().starts_with("none "));
}

#[test]
fn only_the_judged_kernel_is_promoted_even_if_another_is_wanted_at_that_time() {
    for verb in [&["reconcile"][..], &["prepare"]] {
        let machine = machine();
        assert_eq!(machine.run(&["reconcile"]).code, 3);
        let machine = mended(machine);
        // Another program moves the default and holds it off LATER.
        let moving = Build::holding(&machine, "boot.lock");
        let run = std::thread::scope(|scope| {
            let run = scope.spawn(|| machine.run(verb));
            std::thread::sleep(Duration::from_secs(2));
            for file in ["var/lib/vfguard/records/hold.json", "boot/grub2/grubenv"] {
                let text = fs::read_to_string(machine.path(file)).unwrap().replace(NEW, LATER);
                fs::write(machine.path(file), text).unwrap();
            }
            let counter = machine.path("run/vfguard/generation");
            fs::write(&counter, [fs::read(&counter).unwrap(), b".".to_vec()].concat()).unwrap();
            drop(moving);
            run.join().unwrap()
        });
        let text = said(&run);
        assert_eq!(machine.saved_entry(), OLD, "{verb:?}: {text}");
        assert!(machine.path(DROP_IN).exists(), "{verb:?}: the gate is open, and LATER may boot: {text}");
    }
}

#[test]
fn the_default_of_an_uncertain_next_boot_is_not_moved_and_that_is_reported() {
    let machine =
        machine().file("boot/grub2/grub.cfg", "insmod blscfg\nset default=\"${saved_entry}\"\nunheard_of x\nblscfg\n");
    let run = machine.run(&["reconcile"]);
    assert_eq!((run.code, machine.saved_entry().as_str()), (3, NEW), "{}", said(&run));
    assert!(said(&run).contains("boot default not held: what boots next is not certain"), "{}", said(&run));
    let run = machine.run(&["gate", "close", "--undecided"]);
    assert_eq!(run.code, 1, "vfguard-fail-closed.service would not try: {}", said(&run));
    assert!(said(&run).contains("boot default not held: "), "{}", said(&run));
}

#[test]
fn where_no_thread_can_be_made_gate_and_hold_run_one_after_the_other() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped refuse/threads: a limit on processes needs a user of its own");
        return;
    }
    let machine = machine();
    fs::copy(env!("CARGO_BIN_EXE_vfguard"), machine.path("vfguard")).unwrap();
    assert!(Command::new("chown").args(["-R", "43210:43210"]).arg(machine.root()).status().unwrap().success());
    let limited = |processes: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=43210", "--regid=43210", "--clear-groups", "prlimit", &format!("--nproc={processes}")]);
        command.arg(machine.path("vfguard")).arg("--root").arg(machine.root()).args(["reconcile", "--no-build"]);
        Run::from(command.output().unwrap())
    };
    let run = limited("1");
    assert_eq!((run.code, machine.saved_entry().as_str()), (3, OLD), "{}", said(&run));
    assert!(machine.path(DROP_IN).exists(), "{}", said(&run));
}

#[test]
fn closing_the_gate_by_hand_holds_the_default_that_an_override_had_released() {
    let machine = machine();
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert_eq!(machine.run(&["gate", "open", "--kernel", NEW, "--reason", "x"]).code, 0);
    assert_eq!(machine.saved_entry(), NEW);
    let run = machine.run(&["gate", "close"]);
    assert_eq!((run.code, machine.saved_entry().as_str()), (0, OLD), "{}", said(&run));
    assert!(run.stdout.contains(&format!("held on {OLD}")), "{}", said(&run));
}

#[test]
fn an_incomplete_gate_is_not_confirmed() {
    let machine = machine();
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    fs::remove_dir_all(machine.path("run/systemd/system/reboot.target.d")).unwrap();
    let shown = machine.run(&["--format", "json", "gate", "show"]).json();
    assert_eq!(shown["gate"], "open", "{shown}");
    assert!(shown["not_confirmed"].as_str().unwrap().contains("some ways to reboot are refused"), "{shown}");
    assert!(machine.run(&["gate", "show"]).stdout.starts_with("gate: not confirmed; "));
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert_eq!(machine.run(&["--format", "json", "gate", "show"]).json()["not_confirmed"], serde_json::Value::Null);
}
