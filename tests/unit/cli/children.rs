//! Programs that vfguard starts end with it, even if it is killed. The tests run real programs as vfguard runs them, from a process that is
//! killed. (`failpoints` of `build_lab` tests the programs of a whole run.)

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use vfguard::host::command::{self, run, Spec};

/// The words of a command line for [`helper`], one a line.
const WORDS: &str = "VFGUARD_TEST_WORDS";
/// Whether the program should outlive the helper.
const OUTLIVES: &str = "VFGUARD_TEST_OUTLIVES";
const LIMIT: Duration = Duration::from_secs(60);
/// How long the programs of a killed run may take to end.
const ORPHANS: Duration = Duration::from_secs(2);

/// Not a test: a stand-in for vfguard, in a process of its own that a test kills.
#[test]
fn helper() {
    let Ok(words) = std::env::var(WORDS) else { return };
    let words: Vec<&str> = words.lines().collect();
    let mut spec = Spec::new(words[0], &words[1..], LIMIT);
    spec.outlives = std::env::var_os(OUTLIVES).is_some();
    run(&spec).unwrap();
}

/// A directory whose name marks the processes to look for.
struct Stage(tempfile::TempDir);

impl Stage {
    fn new() -> Stage {
        Stage(tempfile::Builder::new().prefix("vfguard-children-").tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self) -> String {
        self.0.path().display().to_string()
    }

    /// Starts the helper, which runs a program. (Its last argument names no test; it marks the helper and its forks.)
    fn start(&self, words: &[&str], outlives: bool) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "helper", "--nocapture", &self.text()]).env(WORDS, words.join("\n"));
        if outlives {
            command.env(OUTLIVES, "1");
        }
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Command lines of running processes that name the directory.
    fn living(&self) -> Vec<String> {
        let name = self.text();
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let lines = processes.filter_map(|e| fs::read(e.path().join("cmdline")).ok());
        lines.map(|l| String::from_utf8_lossy(&l).replace('\0', " ")).filter(|l| l.contains(&name)).collect()
    }

    fn nothing_lives_on(&self, what: &str) {
        within(ORPHANS, || self.living().is_empty())
            .unwrap_or_else(|()| panic!("{what}: {:?} outlived vfguard", self.living()));
    }
}

fn within(limit: Duration, is_so: impl Fn() -> bool) -> Result<(), ()> {
    let start = Instant::now();
    while !is_so() {
        if start.elapsed() > limit {
            return Err(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn everything_that_a_program_has_started_ends_with_vfguard() {
    let stage = Stage::new();
    let (dir, started) = (stage.text(), stage.path("started"));
    let loops = format!("while :; do sleep 0.05; done # {dir}");
    for (what, script) in [
        ("a program", format!("touch {dir}/started; {loops}")),
        ("what it waits for", format!("bash -c 'touch {dir}/started; {loops}'; true")),
        ("what it left in the background", format!("bash -c 'bash -c \"{loops}\" & touch {dir}/started'; {loops}")),
        ("what ignores signals", format!("trap '' TERM HUP INT USR1 USR2; touch {dir}/started; {loops}")),
    ] {
        let child = stage.start(&["bash", "-c", &script], false);
        within(LIMIT, || started.exists()).unwrap();
        assert!(!stage.living().is_empty());
        kill(child);
        stage.nothing_lives_on(what);
        fs::remove_file(&started).unwrap();
    }
}

#[test]
fn a_package_manager_is_not_interrupted() {
    let stage = Stage::new();
    let script = format!("touch {0}/started; sleep 1; touch {0}/done", stage.text());
    let child = stage.start(&["bash", "-c", &script], true);
    within(LIMIT, || stage.path("started").exists()).unwrap();
    kill(child);
    within(LIMIT, || stage.path("done").exists()).unwrap();
    // Its limit does not end it either.
    let mut spec = Spec::new("bash", ["-c", &format!("sleep 1; touch {}/later", stage.text())], Duration::from_millis(100));
    spec.outlives = true;
    let outcome = run(&spec).unwrap();
    assert!(outcome.timed_out && !outcome.success());
    within(LIMIT, || stage.path("later").exists()).unwrap();
}

#[test]
fn depmod_and_make_end_with_vfguard() {
    let stage = Stage::new();
    let dir = stage.text();
    // depmod blocks on opening modules.order, which nothing writes.
    let modules = stage.path("lib/modules/6.1.0-1");
    fs::create_dir_all(&modules).unwrap();
    nix::unistd::mkfifo(&modules.join("modules.order"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::write(stage.path("Makefile"), "all: ; @touch $(D)/made; while :; do sleep 0.05; done\n").unwrap();
    let (makefile, made) = (format!("{dir}/Makefile"), format!("D={dir}"));
    for words in [&["depmod", "-b", &dir, "6.1.0-1"][..], &["make", "-j4", "-f", &makefile, &made]] {
        if command::find(words[0]).is_none() {
            println!("skipped children/{}: it is not installed", words[0]);
            continue;
        }
        let child = stage.start(words, false);
        let runs = |program: &str| stage.living().iter().any(|l| l.split(' ').next().unwrap().ends_with(program));
        within(LIMIT, || runs(words[0]) && (words[0] != "make" || stage.path("made").exists())).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert!(runs(words[0]), "{} ended by itself", words[0]);
        kill(child);
        stage.nothing_lives_on(words[0]);
    }
}

#[test]
fn the_end_of_a_program_is_reported_as_if_vfguard_had_started_it_directly() {
    let end = |script: &str| run(&Spec::new("sh", ["-c", script], LIMIT)).unwrap();
    for code in [0, 1, 3, 77, 127, 255] {
        assert_eq!(end(&format!("exit {code}")).status.code(), Some(code));
    }
    for (name, signal) in [("KILL", 9), ("TERM", 15), ("SEGV", 11), ("USR2", 12), ("ALRM", 14)] {
        assert_eq!(end(&format!("kill -{name} $$")).status.signal(), Some(signal), "SIG{name}");
    }
    assert!(end("echo said").output.contains("said"));
    let absent = run(&Spec::new("/nonexistent/program", [""; 0], LIMIT)).unwrap_err();
    assert!(format!("{absent:#}").contains("No such file"), "{absent:#}");
    // A reader of its output waits only for the program.
    let start = Instant::now();
    let output = Spec::new("echo", ["said"], LIMIT).command().output().unwrap();
    assert!(output.stdout == b"said\n" && start.elapsed() < Duration::from_secs(10));
    // Its signals are those of a freshly started program.
    let masks = end("grep -E '^Sig(Blk|Ign)' /proc/self/status").output;
    assert!(masks.contains("SigBlk:\t0000000000000000"), "{masks}");
}

#[test]
fn the_end_of_the_thread_that_started_a_program_is_not_the_end_of_the_program() {
    let spec = Spec::new("sh", ["-c", "sleep 0.5; exit 5"], LIMIT);
    let mut child = std::thread::spawn(move || spec.command().spawn().unwrap()).join().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5));
}

#[test]
fn a_limit_ends_a_program_gently_first() {
    let stage = Stage::new();
    let script = format!("trap 'touch {0}/asked; exit 0' TERM; while :; do sleep 0.05; done # {0}", stage.text());
    let outcome = run(&Spec::new("bash", ["-c", &script], Duration::from_secs(2))).unwrap();
    assert!(outcome.timed_out && stage.path("asked").exists());
    stage.nothing_lives_on("what is past its limit");
}
