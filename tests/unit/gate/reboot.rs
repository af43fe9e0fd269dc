//! `vfguard reboot` while something else is running: a package manager, another run, a closing at the same time.

#[path = "../../machine/mod.rs"]
mod machine;

use machine::Machine;
use nix::fcntl::{Flock, FlockArg};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const OLD: &str = "6.1.0-53-amd64";
const NEW: &str = "6.1.0-54-amd64";
const NIC: &str = "pci:v00001D0Fd0000EC20sv00001D0Fsd0000EC20bc02sc00i00";
const DRIVER: &str = "ena.alias=pci:v00001D0Fd0000EC20sv*sd*bc*sc*i*\0ena.file=drivers/net/ena\0";
const DROP_IN: &str = "run/systemd/system/reboot.target.d/50-vfguard.conf";

/// OLD runs, boots next, and is safe.
fn settled() -> Machine {
    let machine = Machine::new().grub().file("etc/os-release", "ID=rhel\nVERSION_ID=9.4\nID_LIKE=fedora\n");
    let machine = machine.device("0000:00:05.0", NIC, Some("ena")).kernel(OLD).boot_entry(OLD).boot_default(OLD);
    machine
        .file("proc/sys/kernel/osrelease", &format!("{OLD}\n"))
        .file(&format!("lib/modules/{OLD}/modules.builtin.modinfo"), DRIVER)
}

/// NEW was installed, is wanted, and cannot drive the card; the gate is closed and the default held on OLD.
fn refused() -> Machine {
    let machine = settled().kernel(NEW).boot_entry(NEW).boot_default(NEW);
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    machine
}

/// Holds a lock file as rpm and dpkg do (fcntl(2)), until it is dropped.
struct Transaction(Child);

impl Transaction {
    fn start(lock: &Path) -> Transaction {
        let script = "import fcntl,sys\nf=open(sys.argv[1],'r+')\nfcntl.lockf(f,fcntl.LOCK_EX)\nprint('x',flush=True)\nsys.stdin.read()";
        let mut python = Command::new("python3");
        python.args(["-c", script]).arg(lock).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = python.spawn().unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        Transaction(child)
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn a_running_package_transaction_refuses_a_reboot_with_the_exit_code_for_locks_and_is_named() {
    for (machine, args) in [(settled(), &["reboot"][..]), (refused(), &["reboot", "--held"])] {
        let machine = machine.file("var/lib/dpkg/lock-frontend", "");
        let transaction = Transaction::start(&machine.path("var/lib/dpkg/lock-frontend"));
        let run = machine.run(args);
        assert_eq!(run.code, 4, "{args:?}: {}{}", run.stdout, run.stderr);
        assert!(run.stderr.contains("/var/lib/dpkg/lock-frontend"), "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains("vfguard reboot --wait"), "{args:?}: {}", run.stderr);
        assert!(!machine.path("run/vfguard/pass.json").exists(), "{args:?}");
        drop(transaction);
        assert_eq!(machine.run(args).code, 0, "{args:?}");
    }
}

#[test]
fn a_reboot_that_waits_for_a_transaction_does_not_keep_its_hooks_from_the_locks() {
    let machine = settled().file("var/lib/rpm/.rpm.lock", "");
    let transaction = Transaction::start(&machine.path("var/lib/rpm/.rpm.lock"));
    let mut waiting = machine.command(&["reboot", "--wait"]).stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    assert!(waiting.try_wait().unwrap().is_none(), "it did not wait");
    // A hook of the transaction reports a kernel that is not safe.
    let machine = machine.kernel(NEW).boot_entry(NEW).boot_default(NEW);
    let start = Instant::now();
    let hook = machine.run(&["reconcile"]);
    assert_eq!(hook.code, 3, "{}{}", hook.stdout, hook.stderr);
    assert!(start.elapsed() < Duration::from_secs(60), "the hook waited for the reboot");
    drop(transaction);
    assert_eq!(waiting.wait().unwrap().code(), Some(3), "judged before the transaction was over");
    assert!(machine.path(DROP_IN).exists());
}

#[test]
fn waiting_for_a_transaction_has_the_same_limit_as_waiting_for_a_build() {
    let machine = settled().file("var/lib/rpm/.rpm.lock", "").file("etc/vfguard/config.toml", "[hook]\nlock_timeout = 2\n");
    let _transaction = Transaction::start(&machine.path("var/lib/rpm/.rpm.lock"));
    let run = machine.run(&["reboot", "--wait"]);
    assert!(run.code == 4 && run.stderr.contains("(waited 2 s)"), "{}{}", run.stdout, run.stderr);
}

#[test]
fn a_safe_verdict_does_not_open_a_gate_that_was_closed_since_the_survey() {
    use nix::fcntl::{Flock, FlockArg};
    let machine = settled();
    assert_eq!(machine.run(&["gate", "close"]).code, 0);
    // The gate is being closed: its lock is held, and the generation raised.
    let file = fs::File::options().write(true).open(machine.path("run/vfguard/gate.lock")).unwrap();
    let closing = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e).unwrap();
    let mut reboot = machine.command(&["reboot"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    assert!(reboot.try_wait().unwrap().is_none(), "it did not come to the gate's lock");
    let counter = machine.path("run/vfguard/generation");
    fs::write(&counter, [fs::read(&counter).unwrap(), b".".to_vec()].concat()).unwrap();
    drop(closing);
    let output = reboot.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(machine.path(DROP_IN).exists(), "it opened what was closed meanwhile");
    assert_eq!(machine.run(&["reboot"]).code, 0);
    assert!(!machine.path(DROP_IN).exists());
}

#[test]
fn a_pass_is_shown_and_a_hook_meanwhile_holds_the_default_and_does_not_close() {
    let machine = refused().file("proc/uptime", "100.00 1.00\n");
    assert_eq!(machine.run(&["reboot", "--held"]).code, 0);
    let shown = || machine.run(&["--format", "json", "gate", "show"]).json();
    assert_eq!((&shown()["gate"], &shown()["pass"]["kernels"][0]), (&"overridden".into(), &NEW.into()));
    let text = machine.run(&["gate", "show"]).stdout;
    assert!(text.contains("a reboot was asked for and goes through until ") && text.contains(NEW), "{text}");
    // A package sets its kernel as the default at the last moment.
    let machine = machine.boot_default(NEW);
    assert_eq!(machine.run(&["reconcile", "--no-build"]).code, 3);
    assert_eq!(machine.saved_entry(), OLD, "the reboot leads into the kernel that is refused");
    assert!(!machine.path(DROP_IN).exists(), "the reboot is refused half-way");
    let machine = machine.file("proc/uptime", "221.00 1.00\n");
    assert_eq!(machine.run(&["reconcile", "--from", "override-end"]).code, 3);
    assert!(machine.path(DROP_IN).exists() && !machine.path("run/vfguard/pass.json").exists());
}

#[test]
fn an_order_to_keep_the_gate_closed_during_a_waiting_reboot_is_obeyed() {
    for (machine, args) in [(settled(), &["reboot", "--wait"][..]), (refused(), &["reboot", "--held", "--wait"])] {
        fs::create_dir_all(machine.path("run/vfguard")).unwrap();
        let file = fs::File::options().create(true).append(true).open(machine.path("run/vfguard/lock")).unwrap();
        let held = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| e).unwrap();
        let mut waiting = machine.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(500));
        assert!(waiting.try_wait().unwrap().is_none(), "{args:?} does not wait");
        assert_eq!(machine.run(&["gate", "close", "--reason", "change freeze"]).code, 0);
        drop(held);
        let output = waiting.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(3) && told.contains("change freeze"), "{args:?}: {:?} {told}", output.status);
        assert!(machine.path(DROP_IN).exists(), "{args:?}");
    }
}
