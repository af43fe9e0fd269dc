//! Connections between a build and the machine around it, with and without namespaces: its limits, root's keys and terminal, mounts in the
//! directories that it sees, processes and files that it leaves. Each attack is shown to succeed without the protection.

use crate::machine::lab::{self, Lab};
use crate::machine::{turn, Machine};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::resource::{getrlimit, Resource};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// The build user where no account is configured (BUILD_UID).
const BUILDER: u32 = 61147;
/// What an attack prints when it has succeeded; put together at run time, so that an echoed script does not look like a success.
const OK: &str = "ATTACK-OK";
const SAY: &str = "printf 'ATTACK-%s\\n' OK";
/// Landlock's three system calls return ENOSYS, as on a kernel before 5.13.
const NO_LANDLOCK: [&str; 3] = ["444", "446", "38"];

/// A machine with one kernel, which every user may enter. No other test runs at the same time.
struct Stage {
    machine: Machine,
    kernel: String,
    filter: PathBuf,
}

impl Stage {
    fn new() -> Stage {
        turn::alone();
        let lab = Lab::open();
        let kernel = lab.get("K_NEW").to_owned();
        let machine = lab.install(lab.machine(), &kernel);
        fs::set_permissions(machine.root(), PermissionsExt::from_mode(0o755)).unwrap();
        let filter = lab::filter(&machine);
        Stage { machine, kernel, filter }
    }

    /// The command line of vfguard on a kernel without Landlock, with or without the ability to make namespaces, for a source whose
    /// makefile runs a script. It is run directly or by another program.
    fn words(&self, namespaces: bool, script: &str) -> Vec<String> {
        let (file, digest) = lab::archive(self.machine.root(), script, &[]);
        let mut words = vec![self.filter.display().to_string()];
        words.extend(NO_LANDLOCK.map(str::to_owned));
        if !namespaces {
            words.extend(["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"].map(str::to_owned));
        }
        words.extend([env!("CARGO_BIN_EXE_vfguard"), "--root"].map(str::to_owned));
        words.push(self.machine.root().display().to_string());
        words.extend(["prepare", &self.kernel, "--jobs", "2", "--source"].map(str::to_owned));
        words.extend([file.display().to_string(), "--sha256".into(), digest]);
        words
    }

    /// Runs the script in a build that another program starts. Returns the build's output.
    fn below(&self, program: &[&str], namespaces: bool, script: &str) -> String {
        let words = self.words(namespaces, script);
        let all: Vec<&str> = program.iter().copied().chain(words.iter().map(String::as_str)).collect();
        let output = Command::new(all[0]).args(&all[1..]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let log = self.machine.path(&format!("var/lib/vfguard/log/{}-ixgbevf-1.0.log", self.kernel));
        let log = fs::read(&log).unwrap_or_else(|e| panic!("{e}: {text}"));
        let log = String::from_utf8_lossy(&log).into_owned();
        assert!(log.contains(lab::BEGUN), "its script was not even started: {log}{text}");
        log + &text
    }

    fn inside(&self, namespaces: bool, script: &str) -> String {
        self.below(&["env"], namespaces, script)
    }
}

/// Runs a script as the build user without a sandbox, started by another program. Returns its output.
fn plainly(program: &[&str], script: &str) -> String {
    let id = BUILDER.to_string();
    let user = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "bash", "-c", script];
    let all = [program, &user[..]].concat();
    let output = Command::new(all[0]).args(&all[1..]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A file that an attack locks before it hides. All its descendants hold the lock (flock(2)), however short-lived they are.
struct Trace(PathBuf);

impl Trace {
    fn new(stage: &Stage) -> Trace {
        let trace = Trace(stage.machine.path("trace"));
        fs::write(&trace.0, "").unwrap();
        fs::set_permissions(&trace.0, PermissionsExt::from_mode(0o666)).unwrap();
        trace
    }

    /// A script that leaves a Perl program behind, in a session of its own.
    fn script(&self, perl: &str) -> String {
        let lock = format!("open(F, \"+<\", \"{}\") and flock(F, 6) and syswrite(F, \"ran\") or die", self.0.display());
        format!("perl -MPOSIX -e 'setsid; {lock}; {perl}' >/dev/null 2>&1 </dev/null & sleep 0.5; exit 1")
    }

    /// Whether any process that holds the lock is still running.
    fn is_held(&self) -> bool {
        assert_eq!(fs::read_to_string(&self.0).unwrap(), "ran", "the attack was not even begun");
        Flock::lock(fs::File::open(&self.0).unwrap(), FlockArg::LockExclusiveNonblock).is_err()
    }

    /// Asserts that the processes that the script leaves go on without the sandbox, and are ended in a sandbox without namespaces.
    fn ends(&self, stage: &Stage, script: &str) {
        plainly(&["env"], script);
        let survives = self.is_held();
        end_builder();
        assert!(survives, "it does not survive without the sandbox either, so it proves nothing");
        fs::write(&self.0, "").unwrap();
        stage.inside(false, script);
        // A killed process may take a moment to disappear.
        let gone = within(Duration::from_secs(5), || !self.is_held());
        end_builder();
        assert!(gone, "it outlived its build");
    }
}

/// Ends all processes of the build user. Zombies count against its limit of processes until init has reaped them.
fn end_builder() {
    let gone = within(Duration::from_secs(60), || {
        plainly(&["env"], "kill -9 -1");
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let builders = entries.filter(|e| e.metadata().is_ok_and(|m| m.uid() == BUILDER));
        let pids: Vec<i32> = builders.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
        for pid in &pids {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        pids.is_empty()
    });
    assert!(gone, "processes of the build user cannot be ended");
}

/// Waits until a condition is true; false after the time limit.
fn within(limit: Duration, mut comes: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < limit {
        if comes() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

#[test]
fn every_limit_is_in_force_and_cannot_be_raised() {
    let stage = Stage::new();
    let script = "prlimit --pid $$ --raw --noheadings --output RESOURCE,SOFT,HARD | sed 's/^/LIMIT /'; \
                  for l in c f v t u; do (ulimit -$l unlimited) 2>/dev/null && printf 'RAISED-%s\\n' $l; done; \
                  (ulimit -n 5000) 2>/dev/null && printf 'RAISED-%s\\n' n; exit 1";
    let limits = [
        // Less than a page: nothing is written, and no program of root is started for a core either (core(5)).
        ("CORE", Resource::RLIMIT_CORE, 1),
        ("FSIZE", Resource::RLIMIT_FSIZE, 256 << 20),
        ("AS", Resource::RLIMIT_AS, 4 << 30),
        ("CPU", Resource::RLIMIT_CPU, 3600),
        ("NOFILE", Resource::RLIMIT_NOFILE, 4096),
        ("NPROC", Resource::RLIMIT_NPROC, 128 + 8 * 2),
    ];
    for namespaces in [true, false] {
        let log = stage.inside(namespaces, script);
        for (name, resource, limit) in limits {
            let limit = getrlimit(resource).unwrap().1.min(limit);
            let line = format!("LIMIT {name} {limit} {limit}");
            assert!(log.lines().any(|l| l == line), "namespaces: {namespaces}: no line {line:?}: {log}");
        }
        assert!(!log.contains("RAISED-"), "namespaces: {namespaces}: {log}");
    }
}

/// Joins a new session keyring with a key in it, and then runs a program, as a login shell does.
const WITH_KEY: [&str; 3] = [
    "python3",
    "-c",
    "import ctypes, os, sys; c = ctypes.CDLL(None); ok = c.syscall(250, 1, None) > 0 and \
     c.syscall(248, b'user', b'vfguard-test', b'top secret', 10, -3) > 0; ok or sys.exit('no keys'); os.execvp(sys.argv[1], sys.argv[1:])",
];

#[test]
fn keys_of_the_session_that_runs_vfguard_are_unreachable() {
    let stage = Stage::new();
    // keyctl(2): KEYCTL_SEARCH in the session keyring, then KEYCTL_READ.
    let perl = "($t, $d, $b) = (\"user\", \"vfguard-test\", \"x\" x 64); $id = syscall(250, 10, -3, $t, $d, 0); \
                exit 1 if $id <= 0; $n = syscall(250, 11, $id, $b, 64); exit(substr($b, 0, $n) eq \"top secret\" ? 0 : 1)";
    let script = format!("perl -e '{perl}' && {SAY}; exit 1");
    let plain = plainly(&WITH_KEY, &script);
    assert!(plain.contains(OK), "the build user cannot read it without the sandbox either, so it proves nothing: {plain}");
    for namespaces in [true, false] {
        let log = stage.below(&WITH_KEY, namespaces, &script);
        assert!(!log.contains(OK), "namespaces: {namespaces}: {log}");
    }
}

#[test]
fn the_terminal_of_the_caller_is_unreachable() {
    let stage = Stage::new();
    // Input that it injects (TIOCSTI) would be typed into root's shell when vfguard has ended.
    let script = format!("exec 3<>/dev/tty && {SAY}; exit 1");
    let log = stage.machine.path("typed");
    let on_a_terminal = |words: &[String]| {
        let quoted: Vec<String> = words.iter().map(|w| format!("'{}'", w.replace('\'', "'\\''"))).collect();
        let status = Command::new("script").args(["-qec", &quoted.join(" ")]).arg(&log).output().unwrap();
        drop(status);
        fs::read_to_string(&log).unwrap()
    };
    let id = BUILDER.to_string();
    let user = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "bash", "-c", &script].map(str::to_owned);
    let plain = on_a_terminal(&user);
    assert!(plain.contains(OK), "it is out of reach without the sandbox too, so it proves nothing: {plain}");
    for namespaces in [true, false] {
        on_a_terminal(&stage.words(namespaces, &script));
        let log = stage.machine.path(&format!("var/lib/vfguard/log/{}-ixgbevf-1.0.log", stage.kernel));
        let log = fs::read_to_string(log).unwrap();
        assert!(log.contains(lab::BEGUN) && !log.contains(OK), "namespaces: {namespaces}: {log}");
    }
}

#[test]
fn a_file_system_mounted_inside_a_visible_directory_is_read_only_too() {
    let stage = Stage::new();
    let at = stage.machine.path(&format!("usr/src/linux-headers-{}/mounted here", stage.kernel));
    fs::create_dir(&at).unwrap();
    let script = format!("echo evil >'{}/file' && {SAY}; exit 1", at.display());
    let mount = format!("mount -t tmpfs -o mode=1777 none '{}' && exec \"$@\"", at.display());
    let mounted = ["unshare", "-m", "sh", "-c", &mount, "sh"];
    let plain = plainly(&mounted, &script);
    assert!(plain.contains(OK), "it fails without the sandbox too, so it proves nothing: {plain}");
    let log = stage.below(&mounted, true, &script);
    assert!(!log.contains(OK) && log.contains("Read-only file system"), "{log}");
}

#[test]
fn a_process_that_forks_all_the_time_does_not_survive_without_a_namespace() {
    let stage = Stage::new();
    let trace = Trace::new(&stage);
    let hare = trace.script("for (1..2000000) { my $p = fork; next unless defined $p; exit if $p }");
    trace.ends(&stage, &hare);
}

#[test]
fn a_process_that_kills_all_others_of_its_user_does_not_survive_either() {
    let stage = Stage::new();
    let trace = Trace::new(&stage);
    let killer = trace.script("for (1..10000000) { kill 9, -1 }");
    trace.ends(&stage, &killer);
}

#[test]
fn a_build_user_with_too_many_processes_is_distinguished_from_a_missing_program() {
    let stage = Stage::new();
    plainly(&["env"], "for i in {1..200}; do sleep 300 >/dev/null 2>&1 & done");
    let said = [true, false].map(|namespaces| {
        let words = stage.words(namespaces, "exit 1");
        let output = Command::new(&words[0]).args(&words[1..]).output().unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    });
    end_builder();
    for said in said {
        assert!(said.contains(&format!("(`ps -u {BUILDER}`)")) && !said.contains("install"), "{said}");
    }
}

#[test]
fn directories_nested_beyond_every_limit_are_counted_and_removed() {
    let stage = Stage::new();
    // Longer than a path may be, and deeper than the number of files that a process may have open.
    let nest = "for (1..5000) { mkdir \"d\" or die; chdir \"d\" or die }";
    let fill = "for (1..7) { system(\"fallocate\", \"-l\", \"200M\", \"f$_\") == 0 or die }";
    let work = stage.machine.path("var/cache/vfguard/build");
    let log = stage.inside(true, &format!("perl -e '{nest} {fill} sleep 4' && {SAY}; exit 1"));
    assert!(!log.contains(OK) && log.contains("too much of the disk"), "{log}");
    assert_eq!(fs::read_dir(&work).unwrap().count(), 0, "the build directory was left behind");
    // The same for the directory of a killed run.
    let left = work.join("run-killed/0/build");
    fs::create_dir_all(&left).unwrap();
    assert!(Command::new("perl").args(["-e", nest]).current_dir(&left).status().unwrap().success());
    stage.inside(true, "exit 1");
    assert_eq!(fs::read_dir(&work).unwrap().count(), 0, "what a killed run left is still there");
}

#[test]
fn for_any_umask_of_the_caller_nobody_else_may_write_the_created_files() {
    let stage = Stage::new();
    let bare = ["sh", "-c", "umask 0; exec \"$@\"", "sh"];
    let log = stage.below(&bare, true, "stat -c 'MODE %a' /build . .. ../..; umask; exit 1");
    assert!(log.contains("MODE 755") && !log.contains("MODE 777"), "{log}");
    let made = ["var", "run", "boot"].map(|dir| stage.machine.path(dir));
    let found = Command::new("find").args(&made).args(["-perm", "/022", "!", "-type", "l"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "", "others may write these");
}

#[test]
fn a_build_ends_when_vfguard_is_killed() {
    for namespaces in [true, false] {
        let stage = Stage::new();
        let trace = Trace::new(&stage);
        // A shell of make, the program that it waits for and one that it left in the background all hold the lock. A build in namespaces
        // sees the file at another path, so it locks one of its own.
        let file = if namespaces { "trace".to_owned() } else { trace.0.display().to_string() };
        let script = format!("exec 9<>{file}; flock 9; printf ran >&9; sleep 1000 & bash -c 'sleep 1000; true'; true");
        let words = stage.words(namespaces, &script);
        let mut child = Command::new(&words[0]).args(&words[1..]).spawn().unwrap();
        let builders = || {
            let entries = fs::read_dir("/proc").unwrap().flatten();
            entries.filter(|e| e.metadata().is_ok_and(|m| m.uid() == BUILDER)).count()
        };
        // make, its shell, and three programs that the shell has started.
        assert!(within(Duration::from_secs(60), || builders() >= 5), "namespaces: {namespaces}: {} processes", builders());
        child.kill().unwrap();
        child.wait().unwrap();
        let gone = within(Duration::from_secs(5), || builders() == 0);
        let left = builders();
        end_builder();
        assert!(gone, "namespaces: {namespaces}: {left} processes outlived vfguard");
        assert!(namespaces || !trace.is_held());
    }
}
