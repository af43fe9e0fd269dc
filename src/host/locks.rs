//! Whether a package manager is running: checks its locks and never takes them.
//!
//! rpm, dnf5, dpkg and apt lock with fcntl(2); yum and dnf4 keep files with their process id.

use super::Host;
use nix::fcntl::{fcntl, FcntlArg};
use nix::libc;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Locked by fcntl(2): rpm at its three paths, dnf5, dpkg and apt.
const FCNTL: [&str; 7] = [
    "/usr/lib/sysimage/rpm/.rpm.lock",
    "/var/lib/rpm/.rpm.lock",
    "/usr/share/rpm/.rpm.lock",
    "/run/dnf/rpmtransaction.lock",
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/apt/lists/lock",
];
/// Files that contain a process id: yum 3, dnf 4.
const PIDS: [&str; 3] = ["/var/run/yum.pid", "/var/lib/dnf/rpmdb_lock.pid", "/var/cache/dnf/download_lock.pid"];
/// Those under which nothing is installed or removed: only lists and packages are downloaded.
const FETCHING: [&str; 2] = ["/var/lib/apt/lists/lock", "/var/cache/dnf/download_lock.pid"];
/// The interval between checks.
const RETRY: Duration = Duration::from_secs(1);

/// The lock of a running package manager.
pub fn held(host: &Host) -> Option<&'static str> {
    let by_fcntl = FCNTL.into_iter().find(|path| locked(&host.path(path)));
    by_fcntl.or_else(|| PIDS.into_iter().find(|path| alive(host, path)))
}

/// The lock of a running transaction, in which packages change.
pub fn transaction(host: &Host) -> Option<&'static str> {
    let changes = |path: &&str| !FETCHING.contains(path);
    let by_fcntl = FCNTL.into_iter().filter(changes).find(|path| locked(&host.path(path)));
    by_fcntl.or_else(|| PIDS.into_iter().filter(changes).find(|path| alive(host, path)))
}

/// Whether a transaction is running that began before this moment, in unix seconds. If its start is unknown, it counts.
pub fn since(host: &Host, moment: i64) -> bool {
    let Some(lock) = transaction(host) else { return false };
    let pid = if PIDS.contains(&lock) {
        host.read_text(lock).ok().and_then(|text| text.trim().parse().ok())
    } else {
        holder(&host.path(lock))
    };
    pid.and_then(|pid| began(host, pid)).is_none_or(|began| began <= moment + SLACK)
}

/// The process id of a running yum 3.
pub fn yum(host: &Host) -> Option<u32> {
    let file = "/var/run/yum.pid";
    alive(host, file).then(|| host.read_text(file).ok()?.trim().parse().ok())?
}

/// Waits until nothing is [`held`] or no [`transaction`] is running (`look`), at most `patience`. Two checks in a row must
/// find nothing, since one transaction is often followed by the next. Returns the lock that is still held at the end, if
/// any.
pub fn wait(host: &Host, patience: Duration, look: fn(&Host) -> Option<&'static str>) -> Option<&'static str> {
    let start = Instant::now();
    let mut free = 0;
    loop {
        match look(host) {
            Some(lock) if start.elapsed() >= patience => return Some(lock),
            Some(_) => free = 0,
            None if free == 1 => return None,
            None => free += 1,
        }
        std::thread::sleep(RETRY);
    }
}

/// Whether another process has a write lock on a file (a query of rpm takes a read lock). A file that cannot be opened
/// counts as unlocked.
fn locked(path: &Path) -> bool {
    asked(path).is_some()
}

/// The holder, if it is a process that is visible here.
fn holder(path: &Path) -> Option<u32> {
    asked(path)?.l_pid.try_into().ok().filter(|&pid| pid != 0)
}

fn asked(path: &Path) -> Option<libc::flock> {
    let file = File::open(path).ok()?;
    let mut question = libc::flock {
        l_type: libc::F_RDLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    let answered = fcntl(&file, FcntlArg::F_GETLK(&mut question)).is_ok();
    (answered && question.l_type == libc::F_WRLCK as libc::c_short).then_some(question)
}

/// Whether the process that wrote its id into a file is still alive. A killed process leaves the file, and another process
/// may have its id now; that one was started after the file was written.
fn alive(host: &Host, path: &str) -> bool {
    let text = host.read_text(path).unwrap_or_default();
    let Ok(pid) = text.trim().parse::<u32>() else { return false };
    if !host.is_dir(format!("/proc/{pid}")) {
        return false;
    }
    match (began(host, pid), host.metadata(path).map(|m| m.mtime())) {
        (Some(began), Ok(written)) => began <= written + SLACK,
        (None, _) | (_, Err(_)) => true,
    }
}

/// A process starts before it writes the file, but both times are in whole seconds at best.
const SLACK: i64 = 2;
/// `USER_HZ`, which is the same on every Linux that vfguard supports.
const TICKS: i64 = 100;

/// When a process started, in unix seconds: field 22 of proc_pid_stat(5), in ticks since boot, and `btime` of proc_stat(5).
fn began(host: &Host, pid: u32) -> Option<i64> {
    let stat = host.read_text(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may contain blanks.
    let ticks: i64 = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()?;
    let boot = host.read_text("/proc/stat").ok()?;
    let boot: i64 = boot.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + ticks / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::process::{Command, Stdio};

    #[test]
    fn a_lock_that_another_process_holds_is_noticed_and_its_release_too() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        assert_eq!(held(&host), None);
        host.write_atomic("/var/lib/rpm/.rpm.lock", b"", 0o644).unwrap();
        assert_eq!(held(&host), None, "a file alone is no lock");
        // Locked as rpm does: fcntl(2), in another process.
        let script = "import fcntl,sys,time\nf=open(sys.argv[1],'r+')\nfcntl.lockf(f,fcntl.LOCK_EX)\nprint('x',flush=True)\ntime.sleep(3)";
        let mut child = Command::new("python3")
            .args(["-c", script])
            .arg(dir.path().join("var/lib/rpm/.rpm.lock"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        assert_eq!(held(&host), Some("/var/lib/rpm/.rpm.lock"));
        assert_eq!(wait(&host, Duration::ZERO, held), Some("/var/lib/rpm/.rpm.lock"));
        assert_eq!(wait(&host, Duration::from_secs(30), held), None);
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn a_download_is_no_transaction() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        std::fs::create_dir_all(dir.path().join("proc/77")).unwrap();
        host.write_atomic("/var/cache/dnf/download_lock.pid", b"77\n", 0o644).unwrap();
        assert_eq!((held(&host), transaction(&host)), (Some("/var/cache/dnf/download_lock.pid"), None));
        host.write_atomic("/var/lib/dnf/rpmdb_lock.pid", b"77\n", 0o644).unwrap();
        assert_eq!(transaction(&host), Some("/var/lib/dnf/rpmdb_lock.pid"));
    }

    #[test]
    fn a_process_id_counts_while_its_process_lives() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        host.write_atomic("/var/run/yum.pid", b"77\n", 0o644).unwrap();
        assert_eq!(held(&host), None);
        std::fs::create_dir_all(dir.path().join("proc/77")).unwrap();
        assert_eq!(held(&host), Some("/var/run/yum.pid"));
        let written = host.metadata("/var/run/yum.pid").unwrap().mtime();
        let began = |seconds: i64| {
            let stat = format!("77 (a (b) c) S 1 {} {} 0\n", "0 ".repeat(17), 100 * 100 + seconds);
            host.write_atomic("/proc/77/stat", stat.as_bytes(), 0o644).unwrap();
            host.write_atomic("/proc/stat", format!("cpu 1\nbtime {}\n", written - 100).as_bytes(), 0o644).unwrap();
        };
        began(0);
        assert_eq!(held(&host), Some("/var/run/yum.pid"));
        began(100 * (SLACK + 1));
        assert_eq!(held(&host), None, "another process has the id by now");
    }
}
