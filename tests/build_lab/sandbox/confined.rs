//! Builds where no namespaces can be made, as in many containers and on EL6: another user, and Landlock where the kernel has it.
//!
//! Each attack is run twice, with Landlock and with a filter that makes the kernel one without it; there it succeeds, so that a
//! test which could not fail would be seen. `VFGUARD_NO_LANDLOCK` says that this kernel has none (tests/run.sh counts the skip).

use crate::machine::lab::{self, Lab};
use crate::machine::{turn, Machine};
use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{chown, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Who builds where no account is configured (BUILD_UID).
const BUILDER: &str = "61147";

/// What the kernel says of Landlock's three system calls.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Landlock {
    /// Nothing else than it would.
    There,
    /// ENOSYS, like a kernel before 5.13.
    NotBuilt,
    /// EOPNOTSUPP, like one that was booted without it.
    NotEnabled,
    /// It is there, and restricting fails, as behind the filters of some containers.
    Refused,
}

impl Landlock {
    /// The first and last system call (444 to 446 on every machine) and the errno.
    fn filter(self) -> Option<[&'static str; 3]> {
        match self {
            Landlock::There => None,
            Landlock::NotBuilt => Some(["444", "446", "38"]),
            Landlock::NotEnabled => Some(["444", "446", "95"]),
            Landlock::Refused => Some(["446", "446", "1"]),
        }
    }
}

/// Whether this kernel has Landlock; without it the tests that need it have nothing to show.
fn is_here() -> bool {
    std::env::var_os("VFGUARD_NO_LANDLOCK").is_none()
}

/// A machine with a kernel and a small driver, which every user may enter. Its test is alone.
struct Stage {
    machine: Machine,
    kernel: String,
    filter: PathBuf,
}

impl Stage {
    fn new() -> Stage {
        let lab = Lab::open();
        let kernel = lab.get("K_NEW").to_owned();
        Stage::with(lab.install(lab.machine().demo(&lab), &kernel), kernel)
    }

    fn with(machine: Machine, kernel: String) -> Stage {
        turn::alone();
        // The temporary root is 0700 otherwise, and the build user must reach the tree by its modes alone.
        fs::set_permissions(machine.root(), PermissionsExt::from_mode(0o755)).unwrap();
        let filter = lab::filter(&machine);
        Stage { machine, kernel, filter }
    }

    /// vfguard as root, with or without the right to make namespaces.
    fn run(&self, namespaces: bool, landlock: Landlock, args: &[&str]) -> (bool, String) {
        let mut words: Vec<String> = Vec::new();
        if let Some(filter) = landlock.filter() {
            words.push(self.filter.display().to_string());
            words.extend(filter.map(str::to_owned));
        }
        if !namespaces {
            words.extend(["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"].map(str::to_owned));
        }
        words.extend([env!("CARGO_BIN_EXE_vfguard"), "--root"].map(str::to_owned));
        words.push(self.machine.root().display().to_string());
        let output = Command::new(&words[0]).args(&words[1..]).args(args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    }

    fn confined(&self, args: &[&str]) -> (bool, String) {
        self.run(false, Landlock::There, args)
    }

    /// Runs a script as a makefile of a driver; what the build printed.
    fn script(&self, namespaces: bool, landlock: Landlock, script: &str) -> String {
        let (file, digest) = lab::archive(self.machine.root(), script, &[]);
        let prepare = ["prepare", &self.kernel, "--driver", "demo", "--source", file.to_str().unwrap(), "--sha256", &digest];
        let (done, text) = self.run(namespaces, landlock, &prepare);
        assert!(!done, "{text}");
        let log = self.machine.path(&format!("var/lib/vfguard/log/{}-demo-unknown.log", self.kernel));
        fs::read_to_string(log).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    fn is_good(&self, name: &str) {
        let dir = self.machine.path(&format!("lib/modules/{}/updates/vfguard", self.kernel));
        // With the kernel's own compression.
        let mut files = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
        let file = files.find(|f| f.file_name().unwrap().to_string_lossy().starts_with(&format!("{name}.ko"))).unwrap();
        let verify = self.machine.run(&["verify", file.to_str().unwrap(), "--kernel", &self.kernel]);
        assert_eq!(verify.code, 0, "{}{}", verify.stdout, verify.stderr);
    }
}

/// A process of the build user's that is none of the build's.
struct Bystander(Child);

impl Bystander {
    fn new() -> Bystander {
        let ids = ["--reuid", BUILDER, "--regid", BUILDER, "--clear-groups", "sleep", "300"];
        Bystander(Command::new("setpriv").args(ids).stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `NAME if COMMAND succeeds` for each; what is printed is put together at run time, so that an echoed script is no success.
fn attempts(attacks: &[(&str, String)]) -> String {
    let lines = attacks.iter().map(|(name, attack)| format!("( {attack} ) </dev/null && printf 'GOT-%s\\n' {name}\n"));
    lines.collect::<String>() + "exit 1\n"
}

fn got(log: &str) -> Vec<&str> {
    log.lines().filter_map(|l| l.strip_prefix("GOT-")).collect()
}

#[test]
fn without_namespaces_landlock_keeps_a_build_from_what_every_user_may_reach() {
    let stage = Stage::new();
    let (machine, lab) = (&stage.machine, Lab::open());
    let open = machine.path("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).unwrap();
    for name in ["log", "short"] {
        fs::write(open.join(name), "somebody's").unwrap();
        fs::set_permissions(open.join(name), PermissionsExt::from_mode(0o666)).unwrap();
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let name = format!("vfguard-test-{}", std::process::id());
    let _socket = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let named = machine.path("socket");
    let _named = UnixListener::bind(&named).unwrap();
    fs::set_permissions(&named, PermissionsExt::from_mode(0o777)).unwrap();
    let open = open.display();
    let other = machine.path(&format!("usr/src/linux-headers-{}/.config", lab.get("K_OLD")));
    let perl = |socket: &str, act: String| format!("perl -e 'use Socket; socket(S,{socket},0); exit({act} ? 0 : 1)'");
    let tcp = |act: String| perl("AF_INET,SOCK_STREAM", act);
    let unix = |name: &str| perl("AF_UNIX,SOCK_STREAM", format!("connect(S, pack_sockaddr_un(\"{name}\"))"));
    let datagram = format!("send(S, \"evil\", 0, sockaddr_in({port}, INADDR_LOOPBACK))");
    let attacks = |pid: u32| {
        [
            ("read-a-file", "head -c 1 /etc/passwd >/dev/null".to_owned()),
            ("list-a-directory", "ls /etc >/dev/null".to_owned()),
            ("read-anothers-headers", format!("head -c 1 {} >/dev/null", other.display())),
            ("read-anothers-memory", format!("head -c 1 /proc/{pid}/environ >/dev/null")),
            ("write-a-file", format!("echo evil >>{open}/log")),
            ("make-a-file", format!("echo evil >{open}/new")),
            ("make-a-link", format!("ln -s /etc/shadow {open}/link")),
            ("make-a-directory", format!("mkdir {open}/dir")),
            ("move-a-file-away", format!("mv {open}/short {open}/long")),
            ("use-the-machines-tmp", "mkdir /tmp/vfguard-test-evil && rmdir /tmp/vfguard-test-evil".to_owned()),
            ("connect-to-loopback", format!("exec 3<>/dev/tcp/127.0.0.1/{port}")),
            ("listen", tcp("bind(S, sockaddr_in(0, INADDR_LOOPBACK)) && listen(S, 1)".to_owned())),
            ("connect-to-a-socket", unix(&format!("\\0{name}"))),
            ("connect-to-a-named-socket", unix(&named.display().to_string())),
            ("send-a-datagram", perl("AF_INET,SOCK_DGRAM", datagram.clone())),
            ("end-anothers-process", format!("kill -0 {pid}")),
        ]
    };
    // A new one each time: what is left of the build user's is ended after a build.
    let run = |landlock| {
        let bystander = Bystander::new();
        stage.script(false, landlock, &attempts(&attacks(bystander.0.id())))
    };
    if is_here() {
        let log = run(Landlock::There);
        let version = version(&stage, false).unwrap();
        // What each version holds: src/driver/sandbox/landlock.rs.
        let held = |name: &&str| match *name {
            "connect-to-loopback" | "listen" => version >= 4,
            "connect-to-a-socket" | "end-anothers-process" => version >= 6,
            "connect-to-a-named-socket" => version >= 9,
            "send-a-datagram" => version >= 10,
            _ => true,
        };
        let succeeded: Vec<&str> = got(&log).into_iter().filter(held).collect();
        assert_eq!(succeeded, [""; 0], "under Landlock {version}: {log}");
        let left: Vec<_> = fs::read_dir(machine.path("open")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert_eq!(fs::read_to_string(machine.path("open/log")).unwrap(), "somebody's");
    }
    let log = run(Landlock::NotBuilt);
    let names: Vec<&str> = attacks(0).iter().map(|(name, _)| *name).collect();
    assert_eq!(got(&log), names, "these fail without Landlock too, so they prove nothing: {log}");
}

/// What `status` says of Landlock.
fn version(stage: &Stage, namespaces: bool) -> Option<u64> {
    let (_, json) = stage.run(namespaces, Landlock::There, &["--format", "json", "status"]);
    serde_json::from_str::<serde_json::Value>(&json).unwrap()["landlock"].as_u64()
}

#[test]
fn real_drivers_build_confined_with_landlock_and_without_it() {
    let lab = Lab::open();
    for (kernel, archive) in [("K_NEW", "IXGBEVF_61"), ("K_612", "IXGBEVF_612")] {
        let kernel = lab.get(kernel).to_owned();
        let machine = lab.install(lab.machine(), &kernel);
        let release = lab.release(&machine, archive, "");
        let stage = Stage::with(machine.recipe(&release), kernel);
        let (done, text) = stage.confined(&["-v", "prepare", &stage.kernel, "--driver", "ixgbevf"]);
        let said = if is_here() { "own user, other files out of reach" } else { "own user only" };
        assert!(done && text.contains(said), "{text}");
        stage.is_good("ixgbevf");
    }
    let stage = Stage::new();
    for landlock in [Landlock::NotBuilt, Landlock::NotEnabled, Landlock::Refused] {
        let (done, text) = stage.run(false, landlock, &["-v", "prepare", &stage.kernel, "--driver", "demo", "--rebuild"]);
        assert!(done && text.contains("own user only: this system allows no namespaces"), "{landlock:?}: {text}");
        stage.is_good("demo");
        let log =
            fs::read_to_string(stage.machine.path(&format!("var/lib/vfguard/log/{}-demo-1.0.0-demo.log", stage.kernel)));
        let refused = log.unwrap().contains("Landlock is refused here");
        assert_eq!(refused, landlock == Landlock::Refused && is_here(), "{landlock:?}");
    }
}

#[test]
fn every_older_landlock_lets_a_driver_build_and_holds_what_it_knows() {
    if !is_here() {
        return;
    }
    let stage = Stage::new();
    let open = stage.machine.path("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).unwrap();
    let setpriv = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"];
    for (version, linux) in [(1, "5.13"), (2, "6.1"), (3, "6.2"), (4, "6.7"), (5, "6.10"), (6, "6.12")] {
        // The first question of each process is for the version: whoever asks is told an older one, and asks for no more.
        let inject = format!("inject=landlock_create_ruleset:retval={version}:when=1");
        let strace = ["-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=landlock_create_ruleset", "-e", &inject];
        let script = attempts(&[
            ("read", "head -c 1 /etc/passwd >/dev/null".into()),
            ("write", format!("echo x >{}/new", open.display())),
        ]);
        let (file, digest) = lab::archive(stage.machine.root(), &script, &[]);
        let hostile = ["--source", file.to_str().unwrap(), "--sha256", &digest];
        for further in [&[][..], &hostile] {
            let output = Command::new("strace")
                .args(strace)
                .args(setpriv)
                .args([env!("CARGO_BIN_EXE_vfguard"), "--root"])
                .arg(stage.machine.root())
                .args(["-v", "prepare", &stage.kernel, "--driver", "demo", "--rebuild"])
                .args(further)
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.success(), further.is_empty(), "Linux {linux}: {text}");
            assert!(
                !further.is_empty() || text.contains(&format!("; Landlock {version}; seccomp\n")),
                "Linux {linux}: {text}"
            );
        }
        stage.is_good("demo");
        let log = stage.machine.path(&format!("var/lib/vfguard/log/{}-demo-unknown.log", stage.kernel));
        let log = fs::read_to_string(log).unwrap();
        assert_eq!(got(&log), [""; 0], "Linux {linux}: {log}");
    }
}

#[test]
fn status_and_doctor_say_how_a_build_is_contained() {
    let stage = Stage::new();
    let said = |namespaces, landlock| {
        let (_, status) = stage.run(namespaces, landlock, &["status"]);
        let (_, doctor) = stage.run(namespaces, landlock, &["doctor"]);
        let line = status.lines().find(|l| l.starts_with("builds run: ")).unwrap()["builds run: ".len()..].to_owned();
        assert!(doctor.contains(&line), "{line}: {doctor}");
        line
    };
    assert_eq!(said(true, Landlock::NotBuilt), "full: own user, no network, private file system; seccomp");
    assert_eq!(
        said(false, Landlock::NotEnabled),
        "own user only: this system allows no namespaces, so the network and other files are in reach; seccomp"
    );
    if is_here() {
        let version = version(&stage, true).unwrap();
        assert_eq!(
            said(true, Landlock::There),
            format!("full: own user, no network, private file system; Landlock {version}; seccomp")
        );
        let line = said(false, Landlock::There);
        assert!(
            line.starts_with("own user, other files out of reach: ")
                && line.ends_with(&format!("; Landlock {version}; seccomp"))
        );
    }
}

/// Behind a filter that refuses unshare(2), of which /proc shows nothing, as in many containers.
const NO_UNSHARE: [&str; 3] = ["272", "272", "1"];

#[test]
fn namespaces_that_are_promised_and_refused_are_done_without_and_that_is_said() {
    let stage = Stage::new();
    let prepare = ["-v", "prepare", &stage.kernel, "--driver", "demo"];
    let output = Command::new(&stage.filter)
        .args(NO_UNSHARE)
        .args([env!("CARGO_BIN_EXE_vfguard"), "--root"])
        .arg(stage.machine.root())
        .args(prepare)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let said = if is_here() { "own user, other files out of reach" } else { "own user only" };
    assert!(output.status.success() && text.contains(said), "{text}");
    assert!(text.contains("the build ran with weaker isolation than expected: own user"), "{text}");
    let log = stage.machine.path(&format!("var/lib/vfguard/log/{}-demo-1.0.0-demo.log", stage.kernel));
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("namespaces are refused here (EPERM") && log.contains("contained less"), "{log}");
    stage.is_good("demo");
}

#[test]
fn without_root_and_namespaces_landlock_keeps_a_build_from_the_callers_own_files() {
    let stage = Stage::new();
    let user = 1000;
    let own = stage.machine.path("key");
    fs::write(&own, "secret").unwrap();
    fs::set_permissions(&own, PermissionsExt::from_mode(0o600)).unwrap();
    chown(&own, Some(user), Some(user)).unwrap();
    for dir in ["", "var", "run", "lib/modules", &format!("lib/modules/{}", stage.kernel)] {
        let dir = stage.machine.path(dir);
        fs::create_dir_all(&dir).unwrap();
        chown(&dir, Some(user), Some(user)).unwrap();
    }
    let binary = stage.machine.path("vfguard");
    fs::copy(env!("CARGO_BIN_EXE_vfguard"), &binary).unwrap();
    let run = |landlock: Option<[&str; 3]>, args: &[&str]| {
        // A filter that answers both: unshare(2) and, where it is to be missing, Landlock.
        let mut words: Vec<String> = vec![stage.filter.display().to_string()];
        words.extend(NO_UNSHARE.map(str::to_owned));
        if let Some(filter) = landlock {
            words.push(stage.filter.display().to_string());
            words.extend(filter.map(str::to_owned));
        }
        words.extend(["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups"].map(str::to_owned));
        words.extend([binary.display().to_string(), "--root".into(), stage.machine.root().display().to_string()]);
        let output = Command::new(&words[0]).args(&words[1..]).args(args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    };
    let script = attempts(&[("read-the-key", format!("head -c 1 {} >/dev/null", own.display()))]);
    let (file, digest) = lab::archive(stage.machine.root(), &script, &[]);
    let hostile = ["prepare", &stage.kernel, "--driver", "demo", "--source", file.to_str().unwrap(), "--sha256", &digest];
    let log = || {
        fs::read_to_string(stage.machine.path(&format!("var/lib/vfguard/log/{}-demo-unknown.log", stage.kernel))).unwrap()
    };
    if is_here() {
        let (done, text) = run(None, &["-v", "prepare", &stage.kernel, "--driver", "demo"]);
        assert!(done && text.contains("other files out of reach, but your own user"), "{text}");
        stage.is_good("demo");
        assert!(!run(None, &hostile).0);
        assert_eq!(got(&log()), [""; 0], "{}", log());
    }
    assert!(!run(Landlock::NotBuilt.filter(), &hostile).0);
    assert_eq!(got(&log()), ["read-the-key"], "it fails without Landlock too, so it proves nothing: {}", log());
}

#[test]
fn without_namespaces_a_directory_that_is_closed_to_the_build_user_is_named() {
    let stage = Stage::new();
    let closed = stage.machine.path("usr/src");
    fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).unwrap();
    let prepare = ["prepare", &stage.kernel, "--driver", "demo"];
    let (done, text) = stage.confined(&prepare);
    let line = format!("may not enter {}, and without namespaces it must", closed.display());
    assert!(!done && text.contains(&line) && text.contains("chmod o+x"), "{text}");
    fs::set_permissions(&closed, PermissionsExt::from_mode(0o755)).unwrap();
    assert!(stage.confined(&prepare).0);
}

#[test]
fn without_namespaces_a_daemon_does_not_survive_and_no_file_of_root_is_read() {
    let stage = Stage::new();
    let script = "setsid sh -c 'exec sleep 64209' >/dev/null 2>&1 </dev/null & head -c 1 /etc/shadow && echo READ; id; sleep 0.3; exit 1";
    let log = stage.script(false, Landlock::NotBuilt, script);
    assert!(log.contains(&format!("uid={BUILDER}")) && !log.contains("READ"), "{log}");
    let alive = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .any(|e| fs::read_to_string(e.path().join("cmdline")).is_ok_and(|c| c.contains("sleep\u{0}64209")));
    assert!(!alive, "a daemon outlived its build");
}
