//! Disturbances around a reconcile: the clock jumps, a rename fails, the name server does not answer, a hundred hooks call at once. The
//! gate is never left open on an unsafe kernel, the good module stays unchanged to the byte, and the next run succeeds.

use crate::machine::lab::{self, Lab};
use crate::machine::Machine;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const GATE: &str = "run/systemd/system/reboot.target.d/50-vfguard.conf";

/// A machine that runs K1 on a good module, on which K2 has just been installed.
struct Update {
    machine: Machine,
    k1: String,
    k2: String,
    good: Vec<u8>,
}

impl Update {
    fn new() -> Update {
        let lab = Lab::open();
        let (k1, k2) = (lab.get("K_PREV").to_owned(), lab.get("K_NEW").to_owned());
        let machine = lab.install(lab.machine().grub().running(&k1).demo(&lab), &k1);
        assert_eq!(machine.run(&["prepare", &k1]).code, 0);
        let good = fs::read(module(&machine, &k1)).unwrap();
        Update { machine: lab.install(machine, &k2), k1, k2, good }
    }

    /// The state when K2 had just been installed.
    fn again(self) -> Update {
        let Update { machine, k1, k2, good } = self;
        let _ = fs::remove_dir_all(machine.path(&format!("lib/modules/{k2}/updates")));
        assert!(Command::new("depmod").arg("-b").arg(machine.root()).arg(&k2).status().unwrap().success());
        let machine = machine.boot_default(&k2);
        assert_eq!(machine.run(&["check"]).code, 3, "K2 is to be unsafe again");
        Update { machine, k1, k2, good }
    }

    /// `reconcile` as the child of another program.
    fn below(&self, program: &str, args: &[&str]) -> Command {
        let reconcile = self.machine.command(&["reconcile", "--from", "test"]);
        let mut command = Command::new(program);
        command
            .args(args)
            .arg(reconcile.get_program())
            .args(reconcile.get_args())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn is_done(&self, when: &str) {
        assert!(!self.machine.path(GATE).exists(), "{when}: the gate stayed closed");
        assert_eq!(self.machine.saved_entry(), self.k2, "{when}");
        assert_eq!(self.machine.run(&["check"]).code, 0, "{when}");
        assert!(fs::read(module(&self.machine, &self.k1)).unwrap() == self.good, "{when}: K1's module is another");
    }
}

fn module(machine: &Machine, kernel: &str) -> PathBuf {
    machine.path(&format!("lib/modules/{kernel}/updates/vfguard/demo.ko"))
}

/// A clock that is wrong by the number of seconds in a file.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    long offset = 0;
    FILE *file = clock == CLOCK_REALTIME ? fopen(getenv("CLOCK_OFFSET"), "r") : NULL;
    if (file) { if (fscanf(file, "%ld", &offset) != 1) offset = 0; fclose(file); }
    now->tv_sec += offset;
    return result;
}
"#;

#[test]
fn a_clock_that_jumps_during_a_run_changes_nothing_and_an_override_still_ends() {
    let mut stage = Update::new();
    let shim = lab::preload(&stage.machine, CLOCK);
    let clock = stage.machine.path("clock");
    const YEAR: i64 = 31_556_952;
    // An empty battery, a clock that is set by the network during the run, and back.
    for (first, then) in [(-30 * YEAR, 0), (0, 10 * YEAR), (10 * YEAR, -10 * YEAR), (0, -86_400)] {
        stage = stage.again();
        fs::write(&clock, first.to_string()).unwrap();
        let mut command = stage.below("env", &[]);
        let mut child = command.env("LD_PRELOAD", &shim).env("CLOCK_OFFSET", &clock).spawn().unwrap();
        // During the build; the times in its record are then those of the other clock.
        while fs::read_dir(stage.machine.path("var/cache/vfguard/build")).map_or(0, Iterator::count) == 0 {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it built");
            std::thread::sleep(Duration::from_millis(5));
        }
        fs::write(&clock, then.to_string()).unwrap();
        let output = child.wait_with_output().unwrap();
        let when = format!("wrong by {first} s, then by {then} s");
        assert!(output.status.success(), "{when}: {}", String::from_utf8_lossy(&output.stderr));
        stage.is_done(&when);
        let again = stage.machine.run(&["reconcile"]);
        assert!(again.code == 0 && !again.stdout.contains("built, verified"), "{when}: {}", again.stdout);
    }
    let record = fs::read_to_string(stage.machine.path(&format!("var/lib/vfguard/records/{}.json", stage.k2))).unwrap();
    let yesterday = jiff::Timestamp::now().as_second() - 86_400;
    let day = jiff::Timestamp::from_second(yesterday).unwrap().strftime("%Y-%m-%d").to_string();
    assert!(record.contains(&day), "the clock was not wrong: {record}");

    let Update { machine, .. } = stage.again();
    let machine = machine.file("proc/uptime", "100.00 1.00\n").file("proc/sys/kernel/random/boot_id", "one\n");
    assert_eq!(machine.run(&["gate", "open", "--reason", "the clock is tried", "--for", "30m"]).code, 0);
    let gate = |machine: &Machine, offset: i64| {
        fs::write(&clock, offset.to_string()).unwrap();
        let mut command = machine.command(&["--format", "json", "gate", "show"]);
        command.env("LD_PRELOAD", &shim).env("CLOCK_OFFSET", &clock);
        let value: serde_json::Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
        value["gate"].as_str().unwrap().to_owned()
    };
    assert_eq!(gate(&machine, 0), "overridden");
    assert_eq!(gate(&machine, -10 * YEAR), "overridden", "its half hour since boot is not over");
    assert_ne!(gate(&machine, 3600), "overridden");
    let machine = machine.file("proc/uptime", "1901.00 1.00\n");
    assert_ne!(gate(&machine, -10 * YEAR), "overridden", "a clock set back prolongs it");
}

#[test]
fn a_rename_that_fails_at_any_place_opens_no_gate_and_does_not_damage_a_good_module() {
    let mut stage = Update::new();
    let trace = stage.machine.path("trace");
    let (mut places, mut refused) = (0, 0);
    for nth in 1.. {
        stage = stage.again();
        // Alternately the error of a bad disk and of a full one.
        let errno = ["EIO", "ENOSPC"][nth % 2];
        let calls = "rename,renameat,renameat2";
        let inject = format!("inject={calls}:error={errno}:when={nth}");
        let filter = format!("trace={calls}");
        let args = ["-qq", "-o", trace.to_str().unwrap(), "-e", &filter, "-e", &inject];
        let output = stage.below("strace", &args).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let hit = fs::read_to_string(&trace).unwrap().contains("(INJECTED)");
        let when = format!("{errno} in rename {nth}");
        assert!(!told.contains("panicked"), "{when}: {told}");
        let check = stage.machine.run(&["--format", "json", "check"]);
        let closed = check.json()["gate"] == "closed";
        let code = output.status.code();
        // If the run fails (without a verdict), systemd closes the gate; after any other end it must be as the verdict says.
        assert!(closed || check.code == 0 || code == Some(1), "{when}: ended with {code:?}, open and unsafe: {told}");
        assert!(code != Some(0) || check.code == 0, "{when}: done, and {}", check.stdout);
        assert!(fs::read(module(&stage.machine, &stage.k1)).unwrap() == stage.good, "{when}: K1's module is gone: {told}");
        assert_eq!(stage.machine.run(&["check", &stage.k1]).code, 0, "{when}");
        refused += u32::from(code != Some(0));
        let run = stage.machine.run(&["reconcile"]);
        assert_eq!(run.code, 0, "after {when}: {}{}", run.stdout, run.stderr);
        stage.is_done(&when);
        if !hit {
            break;
        }
        places += 1;
    }
    println!("a rename that fails in a reconcile: {places} places, {refused} runs failed; no gate open on an unsafe kernel");
    assert!(places >= 6 && refused > 0, "{places} renames, {refused} failures: strace hit nothing");
}

#[test]
fn a_silent_name_server_is_given_up_in_time_and_the_next_place_is_tried() {
    let lab = Lab::open();
    let kernel = lab.get("K_NEW");
    let machine = lab.install(lab.machine().grub().running(kernel).demo(&lab).offline(), kernel);
    let recipe = machine.path("etc/vfguard/drivers.d/demo.toml");
    let text =
        fs::read_to_string(&recipe).unwrap().replace("urls = [", "urls = ['https://drivers.example.com/demo.tar.gz', ");
    fs::write(&recipe, text).unwrap();
    // In a network namespace in which 127.0.0.1:53 receives every query and never answers.
    let script = "ip link set lo up; mount --bind \"$R/resolv.conf\" /etc/resolv.conf; mount --bind \"$R/nsswitch.conf\" /etc/nsswitch.conf; \
                  python3 -c 'import socket, sys, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((\"127.0.0.1\", 53)); \
                  print(flush=True); data = s.recv(999); open(sys.argv[1], \"wb\").write(data); time.sleep(600)' \"$R/asked\" | { read -r _; \
                  \"$0\" --root \"$R\" \"$@\"; code=$?; kill -9 -1; exit $code; }";
    let machine = machine.file("resolv.conf", "nameserver 127.0.0.1\n").file("nsswitch.conf", "hosts: files dns\n");
    let start = Instant::now();
    let output = Command::new("unshare")
        .args(["-n", "-m", "-p", "-f", "--mount-proc", "sh", "-c", script, env!("CARGO_BIN_EXE_vfguard")])
        .args(["-v", "prepare", kernel, "--driver", "demo"])
        .env("R", machine.root())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(machine.path("asked").exists(), "nobody was asked: {told}");
    assert!(told.contains("built, verified and installed"), "{told}");
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

#[test]
fn during_a_build_the_gate_and_every_query_answer_at_once() {
    let stage = Update::new();
    let (file, digest) = lab::archive(stage.machine.root(), "sleep 120", &[]);
    let prepare = ["prepare", &stage.k2, "--driver", "demo", "--source", file.to_str().unwrap(), "--sha256", &digest];
    let mut build = stage.machine.command(&prepare).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let log = stage.machine.path(&format!("var/lib/vfguard/log/{}-demo-unknown.log", stage.k2));
    let start = Instant::now();
    while !log.exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "the build does not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    for (args, code) in [
        (&["check"][..], 3),
        (&["gate", "close"], 0),
        (&["gate", "show"], 0),
        (&["gate", "open", "--reason", "the build takes long"], 0),
        (&["gate", "close"], 0),
        (&["status"], 0),
        (&["next-boot"], 0),
    ] {
        let asked = Instant::now();
        let run = stage.machine.run(args);
        assert_eq!(run.code, code, "{args:?}: {}{}", run.stdout, run.stderr);
        assert!(asked.elapsed() < Duration::from_secs(20), "{args:?} waited {:?}", asked.elapsed());
        assert!(build.try_wait().unwrap().is_none(), "the build is over, so this proves nothing");
    }
    // When terminated, it ends the sleeping makefile too.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(build.id() as i32), nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(!build.wait().unwrap().success());
}

#[test]
fn a_hundred_hooks_at_once_cause_one_build_and_no_wrong_verdict() {
    let lab = Lab::open();
    let (k1, k2) = (lab.get("K_PREV"), lab.get("K_NEW"));
    let machine = lab.install(lab.machine().grub().running(k1).demo(&lab), k1);
    assert_eq!(machine.run(&["prepare", k1]).code, 0);
    let machine = lab.install(machine, k2);
    let start = Instant::now();
    let hooks: Vec<_> = (0..100)
        .map(|_| {
            let mut command = machine.command(&["reconcile", "--from", "test"]);
            command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let (mut safe, mut refused) = (0, 0);
    for n in 0..20 {
        let asked = Instant::now();
        let before = module(&machine, k2).exists();
        let check = machine.run(&["check"]);
        let after = module(&machine, k2).exists();
        match check.code {
            0 => safe += 1,
            3 => refused += 1,
            code => panic!("check {n} ended with {code}: {}{}", check.stdout, check.stderr),
        }
        // Without a module of K2 only a boot of K1 may be safe.
        let value = machine.run(&["--format", "json", "check", k2]);
        assert!(before || after || module(&machine, k2).exists() || value.code == 3, "K2 is called safe without a module");
        assert!(asked.elapsed() < Duration::from_secs(60), "a check waited for the build");
    }
    let (mut built, mut codes) = (0, std::collections::BTreeMap::new());
    for hook in hooks {
        let output = hook.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        built += text.matches("built, verified and installed").count();
        *codes.entry(output.status.code()).or_insert(0) += 1;
    }
    println!(
        "100 hooks, 20 checks ({safe} safe, {refused} refused): {built} build, exit codes {codes:?}, {} s",
        start.elapsed().as_secs()
    );
    assert_eq!(built, 1, "{codes:?}");
    assert!(codes.keys().all(|c| matches!(c, Some(0 | 3 | 4))), "{codes:?}");
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert!(!machine.path(GATE).exists());
    assert_eq!(machine.saved_entry(), k2);
}
