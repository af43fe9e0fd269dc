//! Killed and failing preparations: a good module stays good, no process is left, and the next run succeeds.

use crate::machine::lab::Lab;
use crate::machine::Machine;
use std::fs;
use std::os::unix::fs::{chown, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How often the quick suite kills; a build of the small driver takes a few seconds.
const KILLS: u32 = 10;

/// A machine with one kernel and a recipe for a driver of one small file.
fn small(lab: &Lab) -> (Machine, String) {
    let kernel = lab.get("K_NEW").to_owned();
    let machine = lab.install(lab.machine(), &kernel);
    let release = lab.release(&machine, "DEMO", "");
    let head = "name = 'demo'\ndevices = ['pci:v00001234d0000D0F0sv*sd*bc*sc*i*']\n";
    (machine.file("etc/vfguard/drivers.d/demo.toml", &format!("{head}{release}")), kernel)
}

fn module(machine: &Machine, kernel: &str) -> PathBuf {
    machine.path(&format!("lib/modules/{kernel}/updates/vfguard/demo.ko"))
}

fn rebuild(machine: &Machine, kernel: &str) -> Command {
    let mut command = machine.command(&["prepare", kernel, "--driver", "demo", "--rebuild"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Asserts that the installed module is complete and right, and that modprobe would load it.
fn is_good(machine: &Machine, kernel: &str) {
    let file = module(machine, kernel);
    let verify = machine.run(&["verify", file.to_str().unwrap(), "--kernel", kernel]);
    assert_eq!(verify.code, 0, "{}{}", verify.stdout, verify.stderr);
    let dep = fs::read_to_string(machine.path(&format!("lib/modules/{kernel}/modules.dep"))).unwrap();
    assert!(dep.contains("updates/vfguard/demo.ko:"), "{dep}");
}

/// Processes that name the machine's root, as every make and compiler of its builds does.
fn builders(root: &Path) -> usize {
    let word = format!("KSRC={}", root.display());
    let lines = fs::read_dir("/proc").unwrap().flatten().filter_map(|e| fs::read_to_string(e.path().join("cmdline")).ok());
    lines.filter(|l| l.contains(&word) && l.starts_with("make")).count()
}

#[test]
fn killed_at_any_moment_the_good_module_stays_no_process_is_left_and_the_next_run_succeeds() {
    let (machine, kernel) = small(&Lab::open());
    let start = Instant::now();
    assert!(rebuild(&machine, &kernel).status().unwrap().success());
    let whole = start.elapsed();
    for n in 0..KILLS {
        let mut child = rebuild(&machine, &kernel).spawn().unwrap();
        std::thread::sleep(whole * (2 * n + 1) / (2 * KILLS));
        let _ = child.kill();
        child.wait().unwrap();
        is_good(&machine, &kernel);
        let patience = Instant::now();
        while builders(machine.root()) > 0 {
            assert!(patience.elapsed() < Duration::from_secs(2), "a build outlived vfguard");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    assert!(rebuild(&machine, &kernel).status().unwrap().success());
    is_good(&machine, &kernel);
    let dir = module(&machine, &kernel).parent().unwrap().to_owned();
    assert_eq!(fs::read_dir(dir).unwrap().count(), 1, "temporaries or former files are left");
    assert_eq!(fs::read_dir(machine.path("var/cache/vfguard/build")).unwrap().count(), 0);
}

#[test]
fn an_installation_that_depmod_does_not_prefer_is_undone() {
    let (machine, kernel) = small(&Lab::open());
    assert!(rebuild(&machine, &kernel).status().unwrap().success());
    let before = fs::metadata(module(&machine, &kernel)).unwrap();
    // Somebody's other copy, and a search order that prefers it.
    let extra = machine.path(&format!("lib/modules/{kernel}/extra"));
    fs::create_dir_all(&extra).unwrap();
    fs::copy(module(&machine, &kernel), extra.join("demo.ko")).unwrap();
    let machine = machine.file("etc/depmod.d/local.conf", "search extra updates built-in\n");
    let run = machine.run(&["prepare", &kernel, "--driver", "demo", "--rebuild"]);
    assert_eq!(run.code, 1, "{}{}", run.stdout, run.stderr);
    assert!(run.stderr.contains("extra/demo.ko") && run.stderr.contains("depmod.d"), "{}", run.stderr);
    let after = fs::metadata(module(&machine, &kernel)).unwrap();
    assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()), "the former file is not back");
    assert_eq!(fs::read_dir(module(&machine, &kernel).parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn a_first_installation_that_fails_leaves_no_module() {
    let (machine, kernel) = small(&Lab::open());
    let extra = machine.path(&format!("lib/modules/{kernel}/extra"));
    fs::create_dir_all(&extra).unwrap();
    let built = Lab::open().file("MODULE_IXGBEVF").parent().unwrap().join("demo.ko");
    fs::copy(built, extra.join("demo.ko")).unwrap();
    let machine = machine.file("etc/depmod.d/local.conf", "search extra updates built-in\n");
    assert_eq!(machine.run(&["prepare", &kernel, "--driver", "demo"]).code, 1);
    assert!(!module(&machine, &kernel).exists());
    let dep = fs::read_to_string(machine.path(&format!("lib/modules/{kernel}/modules.dep"))).unwrap();
    assert!(
        dep.contains("extra/demo.ko") && !dep.contains("updates"),
        "depmod's tables still name what was taken back: {dep}"
    );
}

#[test]
fn a_good_module_is_reused_and_a_damaged_one_is_rebuilt() {
    let (machine, kernel) = small(&Lab::open());
    let prepare = ["prepare", &kernel, "--driver", "demo"];
    assert_eq!(machine.run(&prepare).code, 0);
    let ino = || fs::metadata(module(&machine, &kernel)).unwrap().ino();
    let first = ino();
    let again = machine.run(&prepare);
    assert!(again.code == 0 && again.stdout.contains("was in place"), "{}", again.stdout);
    assert_eq!(ino(), first);
    let mut bytes = fs::read(module(&machine, &kernel)).unwrap();
    bytes.truncate(bytes.len() / 2);
    fs::write(module(&machine, &kernel), bytes).unwrap();
    let run = machine.run(&prepare);
    assert!(run.code == 0 && run.stdout.contains("built, verified and installed"), "{}{}", run.stdout, run.stderr);
    is_good(&machine, &kernel);
}

#[test]
fn an_ordinary_user_builds_in_a_namespace_of_their_own() {
    let (machine, kernel) = small(&Lab::open());
    let user = 1000;
    for dir in ["", "var", "run", "lib/modules", &format!("lib/modules/{kernel}")] {
        let dir = machine.path(dir);
        fs::create_dir_all(&dir).unwrap();
        chown(&dir, Some(user), Some(user)).unwrap();
    }
    let binary = machine.path("vfguard");
    fs::copy(env!("CARGO_BIN_EXE_vfguard"), &binary).unwrap();
    let ids = ["--reuid", "1000", "--regid", "1000", "--clear-groups"];
    let mut command = Command::new("setpriv");
    command.args(ids).arg(&binary).arg("--root").arg(machine.root()).args(["-v", "prepare", &kernel, "--driver", "demo"]);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("no network, private file system, but your own user"), "{text}");
    is_good(&machine, &kernel);
}
