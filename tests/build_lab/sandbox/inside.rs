//! What a makefile can do on a machine without a terminal, it can do in the sandbox at every level of containment. The same commands are
//! run outside, so that one that fails everywhere is noticed.
//!
//! Intended differences (the network, `/sys`, `/dev/tty`, other users' files) are in docs/campaigns.md.

use crate::machine::lab;
use crate::machine::levels::{Contained, Stage};
use crate::machine::turn;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{fchown, PermissionsExt};
use std::process::{Command, Stdio};

/// The build user where no account is configured (BUILD_UID).
const BUILDER: &str = "61147";

/// What a makefile can do at any level, each with its name.
fn everywhere() -> Vec<(&'static str, String)> {
    [
        ("dev-stderr", "echo x >/dev/stderr"),
        ("dev-stderr-duplicated", "echo x >&/dev/stderr"),
        ("dev-stderr-appended-to", "echo x >>/dev/stderr"),
        ("dev-stderr-read-and-written", "echo x 1<>/dev/stderr"),
        ("dev-stderr-by-another-shell", "dash -c 'echo x >/dev/stderr'"),
        ("dev-stderr-by-perl", "perl -e 'open(F, \">\", \"/dev/stderr\") or die; print F \"x\\n\"'"),
        ("dev-stdout", "echo x >/dev/stdout"),
        ("dev-stdout-by-tee", "echo x | tee /dev/stdout"),
        ("dev-fd", "echo x >/dev/fd/2"),
        ("proc-self-fd", "echo x >/proc/self/fd/1"),
        ("dev-stdin", "cat /dev/stdin && : </dev/fd/0"),
        ("stdin-is-at-its-end", "! read -r x"),
        ("a-pipe-of-its-own", "test \"$(cat <(echo x))\" = x && grep -q x /dev/stdin <<<x"),
        ("no-terminal", "! { : </dev/tty; } 2>/dev/null && ! tty -s"),
        ("home", "touch ~/.x && rm ~/.x && cd && test \"$PWD\" = \"$HOME\""),
        (
            "temporary-files",
            "f=$(mktemp) && rm $f && d=$(mktemp -d) && mkfifo $d/f && { echo x >$d/f & } && read -r x <$d/f && rm -r $d",
        ),
        ("which-distribution", "test -e /etc/os-release && grep -q ^ID= /etc/os-release"),
        ("which-processors", "grep -q ^processor /proc/cpuinfo && grep -q ^cpu0 /proc/stat && test $(nproc) -gt 0"),
        ("which-memory", "grep -q ^MemTotal /proc/meminfo && read -r x </proc/loadavg"),
        (
            "which-kernel-runs",
            "test \"$(cat /proc/sys/kernel/osrelease)\" = \"$(uname -r)\" && grep -q \"$(uname -r)\" /proc/version",
        ),
        (
            "a-job-for-each-processor",
            "n=$(ulimit -u); test $n = unlimited || test $n -ge $((128 + 8 * $(grep -c ^processor /proc/cpuinfo)))",
        ),
        ("file-systems", "grep -q tmpfs /proc/filesystems"),
        ("a-broken-pipe-ends-quietly", "set +o pipefail; yes | head -n 1; test ${PIPESTATUS[0]} = 141"),
        ("creation-mask", "test $(umask) = 0022"),
        ("children-are-waited-for", "(sleep 0.1 & exit 0); sleep 0.2; (exit 7) & wait $!; test $? = 7"),
        ("programs", "which awk sed perl python3 make gcc ld git >/dev/null && git --version && mktemp -u && date"),
    ]
    .map(|(name, ask)| (name, ask.to_owned()))
    .to_vec()
}

/// What it can do only in a root of its own.
fn with_namespaces() -> Vec<(&'static str, String)> {
    let lock = "python3 -c 'import multiprocessing as m; m.Lock(); assert m.Pool(2).map(abs, [-1, 2]) == [1, 2]'";
    [
        ("shared-memory", lock),
        (
            "temporary-files-of-a-fixed-name",
            "echo x >/tmp/x && echo y >/var/tmp/y && cat /tmp/x /var/tmp/y && rm /tmp/x /var/tmp/y",
        ),
        (
            "descriptors-in-a-list",
            "test $(ls /dev/fd/ | wc -l) -gt 2 && grep -q ^Sig /proc/self/status && read -r x </proc/mounts",
        ),
        ("who-builds", "test -n \"$(whoami)\" && id -un && id -gn && perl -e 'getpwuid($<) or die' && test -n ~$(whoami)"),
    ]
    .map(|(name, ask)| (name, ask.to_owned()))
    .to_vec()
}

/// Commands about K or the machine; outside they would be about the machine that runs the test.
fn of_this_machine(kernel: &str) -> Vec<(&'static str, String)> {
    vec![
        ("the-machines-distribution", "grep -qx ID=made-up /etc/os-release && grep -q up /etc/made-up-release".to_owned()),
        ("the-kernels-configuration", format!("grep -q ^CONFIG_PCI=y /boot/config-{kernel}")),
        ("a-home-of-its-own", "test \"$(getent passwd $(id -u) | cut -d: -f6)\" = \"$HOME\"".to_owned()),
    ]
}

/// Prints `CAN-name` for each command that succeeds. That is put together at run time, so that an echoed script does not look like a
/// success.
fn questions(asked: &[(&str, String)]) -> String {
    let lines = asked.iter().map(|(name, ask)| format!("( {ask} ) && printf 'CAN-%s\\n' {name}\n"));
    lines.collect::<String>() + "exit 1\n"
}

/// The names of the commands that did not succeed.
fn refused<'a>(asked: &[(&'a str, String)], log: &str) -> Vec<&'a str> {
    let can = |name: &str| log.lines().any(|l| l.strip_prefix("CAN-") == Some(name));
    asked.iter().map(|(name, _)| *name).filter(|name| !can(name)).collect()
}

/// The same outside, as root, or as another user where the pipe belongs to root.
fn outside(script: &str, user: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let words = [user, &["bash", "-c", script]].concat();
    let mut child = Command::new(words[0])
        .args(&words[1..])
        .env("HOME", dir.path())
        .env("LC_ALL", "C")
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(writer.try_clone().unwrap())
        .stderr(writer)
        .spawn()
        .unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    text
}

#[test]
fn a_makefile_can_do_the_same_inside_as_outside_at_every_level() {
    let stage = Stage::new();
    let everywhere = everywhere();
    let more = [everywhere.clone(), with_namespaces()].concat();
    let all = [more.clone(), of_this_machine(&stage.kernel)].concat();
    let log = outside(&questions(&more), &["setsid", "-w"]);
    assert_eq!(refused(&more, &log), [""; 0], "outside: {log}");
    for contained in Contained::ALL {
        let asked = if contained.has_namespaces() { &all } else { &everywhere };
        let log = stage.script(contained, &questions(asked));
        assert_eq!(refused(asked, &log), [""; 0], "{contained:?}: {log}");
    }
}

#[test]
fn the_build_user_cannot_open_roots_pipe_so_its_descriptor_is_passed() {
    turn::shared();
    let ask = [("dev-stderr", "echo x >/dev/stderr".to_owned()), ("writes", "echo x >&2".to_owned())];
    let user = ["setpriv", "--reuid", BUILDER, "--regid", BUILDER, "--clear-groups"];
    let log = outside(&questions(&ask), &user);
    assert_eq!(refused(&ask, &log), ["dev-stderr"], "{log}");
    // With the descriptor passed, it can.
    let (mut reader, writer) = std::io::pipe().unwrap();
    let id = BUILDER.parse().unwrap();
    fchown(&writer, Some(id), Some(id)).unwrap();
    let status = Command::new(user[0]).args(&user[1..]).args(["sh", "-c", "echo x >/dev/stderr"]).stderr(writer).status();
    assert!(status.unwrap().success());
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "x\n");
}

#[test]
fn a_build_has_three_descriptors_and_they_lead_only_to_its_own_output() {
    let stage = Stage::new();
    let script =
        "perl -e 'for (0..300) { my $t = readlink(\"/proc/self/fd/$_\"); print(\"FD-\", \"$_ $t\\n\") if $t }'; exit 1";
    for contained in Contained::ALL {
        let log = stage.script(contained, script);
        let found: Vec<(&str, &str)> = log.lines().filter_map(|l| l.strip_prefix("FD-")?.split_once(' ')).collect();
        let [("0", null), ("1", out), ("2", error)] = found[..] else { panic!("{contained:?}: {found:?}: {log}") };
        assert!(null == "/dev/null" && out.starts_with("pipe:[") && out == error, "{contained:?}: {found:?}");
    }
}

#[test]
fn the_output_is_read_wherever_the_callers_own_output_goes() {
    let stage = Stage::new();
    let (file, digest) = lab::archive(stage.machine.root(), "echo CAN-said >/dev/stderr; exit 1", &[]);
    for streams in ["<&- >&- 2>&-", ">\"$R/out\" 2>\"$R/out\"", ">/dev/full 2>/dev/full", "| true"] {
        let run = format!("\"$0\" --root \"$R\" prepare \"$@\" {streams}");
        let mut command = Command::new("sh");
        command.args(["-c", &run, env!("CARGO_BIN_EXE_vfguard"), &stage.kernel, "--driver", "demo", "--source"]);
        command.arg(&file).args(["--sha256", &digest]).env("R", stage.machine.root());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        let log = stage.machine.path(&format!("var/lib/vfguard/log/{}-demo-unknown.log", stage.kernel));
        let text = fs::read_to_string(&log).unwrap_or_else(|e| panic!("{streams}: {e}"));
        assert!(text.lines().any(|l| l == "CAN-said"), "{streams}: {text}");
        fs::remove_file(log).unwrap();
    }
}

#[test]
fn a_rehearsal_runs_on_the_same_distribution() {
    let stage = Stage::new();
    let script = "echo \"error: this is $(sed -n s/^ID=//p /etc/os-release)\"; exit 1";
    let (file, digest) = lab::archive(stage.machine.root(), script, &[]);
    let source = ["--driver", "demo", "--source", file.to_str().unwrap(), "--sha256", &digest];
    let run = stage.machine.run(&[&["rehearse", &stage.kernel], &source[..]].concat());
    assert!(run.code == 3 && run.stdout.contains("error: this is made-up"), "{}{}", run.stdout, run.stderr);
}
