//! Attacks that Landlock keeps a build from, and that succeed without it.

use super::*;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::chown;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Child, Stdio};

/// The build user where no account is configured (BUILD_UID).
const BUILDER: &str = "61147";

/// `NAME if COMMAND succeeds` for each. The output is put together at run time, so that an echoed script does not look like a success.
fn attempts(attacks: &[(&str, String)]) -> String {
    let lines = attacks.iter().map(|(name, attack)| format!("( {attack} ) </dev/null && printf 'GOT-%s\\n' {name}\n"));
    lines.collect::<String>() + "exit 1\n"
}

fn got(log: &str) -> Vec<&str> {
    log.lines().filter_map(|l| l.strip_prefix("GOT-")).collect()
}

/// A process of the build user that does not belong to the build.
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

#[test]
fn without_namespaces_landlock_denies_a_build_the_files_and_processes_that_every_user_may_reach() {
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
    // A new bystander each time: the build user's processes are ended after a build.
    let run = |landlock| {
        let bystander = Bystander::new();
        stage.script(false, landlock, &attempts(&attacks(bystander.0.id())))
    };
    if is_here() {
        let log = run(Landlock::There);
        let version = version(&stage, false).unwrap();
        // What each version restricts: src/driver/sandbox/landlock.rs.
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

#[test]
fn with_every_older_landlock_a_driver_builds_and_its_restrictions_hold() {
    if !is_here() {
        return;
    }
    let stage = Stage::new();
    let open = stage.machine.path("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, PermissionsExt::from_mode(0o777)).unwrap();
    let setpriv = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"];
    for (version, linux) in [(1, "5.13"), (2, "6.1"), (3, "6.2"), (4, "6.7"), (5, "6.10"), (6, "6.12")] {
        // The first call of each process asks for the version. It gets an older one, and uses no newer features.
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
        // A filter that answers both: unshare(2) and, where it should be missing, Landlock.
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
fn without_namespaces_a_daemon_does_not_survive_and_no_file_of_root_is_readable() {
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
