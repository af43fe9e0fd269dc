//! Runs of the binary whose reader goes away: a terminal that is closed, a pipe that is not read.

use super::Machine;
use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

/// A run in the foreground of its own terminal, as its session's leader: it gets a hangup as SIGHUP.
pub struct Watched {
    child: Child,
    master: Option<File>,
    /// Its output so far.
    pub seen: String,
}

impl Watched {
    pub fn start(machine: &Machine, args: &[&str]) -> Watched {
        let run = machine.command(args);
        // Closed on exec: there is no hangup while another program has it open.
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname_r(&master).unwrap();
        let slave = || File::options().read(true).write(true).custom_flags(nix::libc::O_NOCTTY).open(&name).unwrap();
        // A shell ignores some signals in the programs that it starts in the background, as the tests may be.
        let mut command = Command::new("setsid");
        command
            .args(["--ctty", "env", "--default-signal=HUP,INT", "TERM=xterm"])
            .arg(run.get_program())
            .args(run.get_args())
            .envs(run.get_envs().filter_map(|(key, value)| Some((key, value?))))
            .stdin(slave())
            .stdout(slave())
            .stderr(slave());
        let child = command.spawn().unwrap();
        Watched { child, master: Some(OwnedFd::from(master).into()), seen: String::new() }
    }

    /// Reads until so many lines or a text were printed, or until its end. Returns whether it ended before.
    pub fn read_until(&mut self, enough: impl Fn(&str) -> bool) -> bool {
        let mut buffer = [0; 4096];
        while !enough(&self.seen) {
            // EIO: no process has the other side open.
            match self.master.as_mut().unwrap().read(&mut buffer) {
                Ok(n) if n > 0 => self.seen += &String::from_utf8_lossy(&buffer[..n]),
                _ => return true,
            }
        }
        false
    }

    /// Types keys on the terminal.
    pub fn type_in(&mut self, keys: &[u8]) {
        self.master.as_mut().unwrap().write_all(keys).unwrap();
    }

    /// Closes the terminal.
    pub fn hang_up(&mut self) {
        self.master = None;
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    pub fn end(mut self) -> ExitStatus {
        if self.master.is_some() {
            self.read_until(|_| false);
        }
        self.child.wait().unwrap()
    }
}

/// The exit code; a signal is an error.
pub fn code(status: ExitStatus) -> Result<i32, String> {
    status.code().ok_or_else(|| format!("ended by signal {}", status.signal().unwrap_or(0)))
}

/// Runs the binary with a shell redirection: `redirection` is in the syntax of sh(1), with `"$@"` as the program.
pub fn redirected(machine: &Machine, args: &[&str], redirection: &str) -> ExitStatus {
    let run = machine.command(args);
    let mut command = Command::new("bash");
    command.args(["-c", redirection, "sh"]).arg(run.get_program()).args(run.get_args());
    command.envs(run.get_envs().filter_map(|(key, value)| Some((key, value?))));
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap()
}

/// Everything below the root: names, modes, contents. Digits are masked in what vfguard writes for people, since they are times.
pub fn tree(machine: &Machine) -> Vec<String> {
    fn walk(machine: &Machine, dir: &Path, all: &mut Vec<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let name = path.strip_prefix(machine.root()).unwrap().display().to_string();
            if name == "usr" {
                // The lab's headers, which are never written to.
                continue;
            }
            let content = if meta.is_symlink() {
                fs::read_link(&path).unwrap().display().to_string()
            } else if meta.is_file() {
                text(machine, &name, &fs::read(&path).unwrap())
            } else {
                String::new()
            };
            assert!(!meta.file_type().is_fifo(), "{name}");
            all.push(format!("{name} {:o} {content}", meta.mode()));
            if meta.is_dir() {
                walk(machine, &path, all);
            }
        }
    }
    let mut all = Vec::new();
    walk(machine, machine.root(), &mut all);
    all.sort();
    all
}

/// Asserts that the tree is as another run left it.
pub fn is_as(machine: &Machine, state: &[String], what: &str) {
    let now = tree(machine);
    let only = |a: &[String], b: &[String]| a.iter().filter(|l| !b.contains(l)).cloned().collect::<Vec<_>>().join("\n  ");
    assert!(now == state, "{what}\nleft:\n  {}\ninstead of:\n  {}", only(&now, state), only(state, &now));
}

fn text(machine: &Machine, name: &str, content: &[u8]) -> String {
    if name.ends_with(".ko") {
        // The linker's build id depends on the path of the root, too.
        return format!("{} bytes", content.len());
    }
    let mut text = String::from_utf8_lossy(content).replace(&machine.root().display().to_string(), "ROOT");
    if name.ends_with("ready/hold") {
        // The third word is a digest that depends on paths and times, too.
        let words: Vec<&str> = text.splitn(4, ' ').collect();
        text = [words[0], words[1], words[3]].join(" ");
    }
    let times = ["var/lib/vfguard/", "run/vfguard/", "var/cache/vfguard/"].iter().any(|dir| name.starts_with(dir));
    if !times {
        return text;
    }
    let mut masked = String::new();
    for c in text.chars() {
        if !c.is_ascii_digit() {
            masked.push(c);
        } else if !masked.ends_with('#') {
            masked.push('#');
        }
    }
    if name.ends_with("audit.log") {
        // The gate closes while the default is held, so the order of the two lines is random.
        let mut lines: Vec<&str> = masked.lines().collect();
        lines.sort_unstable();
        masked = lines.join("\n");
    }
    masked
}
