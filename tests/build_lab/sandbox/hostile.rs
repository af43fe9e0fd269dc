//! Hostile makefiles, really run through `vfguard prepare`. Each is contained; and as root under plain make, in the same place, each must
//! succeed, or the test would prove nothing.

use crate::machine::arena::{Arena, OK, SAY};
use crate::machine::lab::{self, Lab};
use crate::machine::turn;
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A process of root that an attack targets.
struct Victim(Child);

impl Victim {
    fn new() -> Victim {
        Victim(Command::new("sleep").arg("300").stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Processes whose command line contains a word.
fn running(word: &str) -> Vec<i32> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse::<i32>().ok());
    processes.filter(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c.contains(word))).collect()
}

fn end(pids: &[i32]) {
    for pid in pids {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL);
    }
}

#[test]
fn the_password_file_cannot_be_read() {
    Arena::new().contains(&format!("head -c 1 /etc/shadow >/dev/null && {SAY}"));
}

#[test]
fn keys_below_root_are_not_visible() {
    let arena = Arena::new();
    arena.contains(&format!("cat {} && {SAY}", arena.secret().display()));
    let (log, _) = arena.inside("ls -a / /root /home /var /sys /run /boot /mnt /opt; ls /etc; echo $(ls /var) $(ls /boot | grep -v -- \"-$BUILD_KERNEL$\") END");
    for word in ["shadow", "machine-id", ".ssh", "vfguard/"] {
        assert!(!log.split("ls -a").last().unwrap().lines().any(|l| l.trim() == word), "{word} is in sight: {log}");
    }
    for dir in ["/root", "/home", "/sys", "/run"] {
        assert!(log.contains(&format!("cannot access '{dir}'")), "{dir} is in sight: {log}");
    }
    // Of /var only the temporary files, of /boot only K's files.
    assert!(log.lines().any(|l| l == "tmp END"), "{log}");
}

#[test]
fn nothing_can_be_written_to_the_modules_of_the_kernel() {
    let arena = Arena::new();
    let file = arena.machine.path(&format!("lib/modules/{}/evil.ko", arena.kernel));
    arena.contains(&format!("echo x >{0} && {SAY}", file.display()));
}

#[test]
fn nothing_can_be_written_to_the_headers_of_the_kernel() {
    let arena = Arena::new();
    let file = arena.machine.path(&format!("usr/src/linux-headers-{}/include/evil.h", arena.kernel));
    arena.contains(&format!("echo x >{} && {SAY}", file.display()));
}

#[test]
fn no_program_of_the_system_can_be_written() {
    let arena = Arena::new();
    arena.contains(&format!("cp /bin/true /usr/bin/vfguard-test-evil && rm /usr/bin/vfguard-test-evil && {SAY}"));
}

#[test]
fn loopback_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    Arena::new().contains(&format!("exec 3<>/dev/tcp/127.0.0.1/{port} && {SAY}"));
}

#[test]
fn the_network_is_unreachable() {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let probe = UdpSocket::bind("0.0.0.0:0").unwrap();
    // Connecting a datagram socket sends nothing, but tells which address the machine would use.
    let own =
        probe.connect("192.0.2.1:9").and_then(|()| probe.local_addr()).map_or("127.0.0.2".into(), |a| a.ip().to_string());
    Arena::new().contains(&format!("exec 3<>/dev/tcp/{own}/{port} && {SAY}"));
}

#[test]
fn abstract_sockets_are_unreachable() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("vfguard-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    let perl =
        format!("use Socket; socket(S,AF_UNIX,SOCK_STREAM,0); exit(connect(S, pack_sockaddr_un(\"\\0{name}\")) ? 0 : 1)");
    Arena::new().contains(&format!("perl -e '{perl}' && {SAY}"));
}

#[test]
fn shared_memory_of_host_processes_is_unreachable() {
    // shmget(2), with IPC_CREAT and mode 0666 outside; the segment is removed afterwards.
    let key = 0x7666_0000 + std::process::id() % 0xffff;
    let run = |code: &str| Command::new("perl").args(["-e", code]).status().unwrap().success();
    assert!(run(&format!("exit(defined(shmget({key}, 1, 0x3b6)) ? 0 : 1)")));
    Arena::new().contains(&format!("perl -e 'exit(defined(shmget({key}, 1, 0)) ? 0 : 1)' && {SAY}"));
    assert!(run(&format!("exit(shmctl(shmget({key}, 1, 0), 0, 0) ? 0 : 1)")));
}

#[test]
fn more_memory_than_a_compiler_needs_is_not_available() {
    let c = "#include <sys/mman.h>\nint main(void) { return mmap(0, 6L << 30, 3, 0x4022, -1, 0) == MAP_FAILED; }\n";
    Arena::new().contains(&format!("printf '%s' '{c}' >m.c && gcc -o m m.c && ./m && {SAY}"));
}

#[test]
fn a_fork_bomb_hits_its_limit() {
    // All builds of the build user share this limit.
    turn::alone();
    let perl = "for (1..3000) { my $p = fork; last unless defined $p; if (!$p) { sleep 60; exit } $n++ } print \"forked $n\\n\"; exit($n == 3000 ? 0 : 1)";
    Arena::new().contains(&format!("perl -e '{perl}' && {SAY}"));
}

#[test]
fn one_huge_file_hits_its_limit() {
    Arena::new().contains(&format!("fallocate -l 400M big && {SAY}; rm -f big"));
}

#[test]
fn a_build_cannot_fill_the_disk_and_the_error_says_so() {
    let arena = Arena::new();
    let script = format!("for i in 1 2 3 4 5 6 7 8; do fallocate -l 200M f$i || exit 1; done; sleep 3; rm -f f*; {SAY}");
    arena.contains(&script);
    let record = fs::read_to_string(arena.machine.path(&format!("var/lib/vfguard/records/{}.json", arena.kernel))).unwrap();
    assert!(record.contains("too much of the disk"), "{record}");
    let left = fs::read_dir(arena.machine.path("var/cache/vfguard/build")).unwrap().count();
    assert_eq!(left, 0, "the build directory was left behind");
}

#[test]
fn a_daemon_does_not_survive() {
    let arena = Arena::new();
    let script = |word: &str| format!("setsid sh -c 'exec sleep 97{word}' >/dev/null 2>&1 </dev/null & sleep 0.3; exit 1");
    arena.inside(&script("531"));
    assert_eq!(running("97531"), [] as [i32; 0], "a daemon outlived its build");
    arena.plainly(&script("532"));
    let survivors = running("97532");
    end(&survivors);
    assert!(!survivors.is_empty(), "the daemon dies without the sandbox too, so it proves nothing");
}

#[test]
fn a_time_limit_ends_everything() {
    let arena = Arena::new();
    let config = arena.machine.path("etc/vfguard/config.toml");
    fs::write(&config, "[build]\ntimeout = 2\n").unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
    let start = Instant::now();
    let (log, code) = arena.inside("trap '' TERM; setsid sleep 86421 & sleep 86421");
    assert_eq!(code, 1);
    assert!(log.contains("did not end within 2 s"), "{log}");
    assert!(start.elapsed() < Duration::from_secs(20));
    assert_eq!(running("86421"), [] as [i32; 0]);
}

#[test]
fn no_process_of_the_host_can_be_killed() {
    let victim = Victim::new();
    Arena::new().contains(&format!("kill -0 {} && {SAY}", victim.0.id()));
}

#[test]
fn killing_every_visible_process_ends_only_the_build() {
    let mut victim = Victim::new();
    let (log, code) = Arena::new().inside("kill -9 -1; sleep 1");
    assert_eq!(code, 1, "{log}");
    assert!(victim.0.try_wait().unwrap().is_none(), "a process of the host was killed");
}

#[test]
fn no_process_of_the_host_can_be_traced() {
    let victim = Victim::new();
    // ptrace(PTRACE_ATTACH) by its number on x86-64.
    Arena::new().contains(&format!("perl -e 'exit(syscall(101, 16, {}, 0, 0) == 0 ? 0 : 1)' && {SAY}", victim.0.id()));
}

#[test]
fn the_first_process_of_the_sandbox_cannot_be_inspected() {
    // make's own parent: init inside, this test outside.
    let parent = "p=$(cut -d' ' -f4 /proc/$PPID/stat)";
    Arena::new().contains(&format!("{parent}; ls /proc/$p/root/ >/dev/null && cat /proc/$p/environ >/dev/null && {SAY}"));
}

#[test]
fn a_setuid_file_gives_no_privilege() {
    let arena = Arena::new();
    arena.contains(&format!("cp /usr/bin/id s && chown 0:0 s && chmod 4755 s && {SAY}"));
    let su = "test $(stat -c %a /usr/bin/su) = 4755 && ./s";
    let (log, _) = arena.inside(&format!("cp /usr/bin/id s && chmod 4755 s; {su}"));
    assert!(!log.contains("euid=0"), "{log}");
}

#[test]
fn no_kernel_setting_can_be_written() {
    Arena::new().contains(&format!("cat /proc/sys/kernel/domainname >old; cat old >/proc/sys/kernel/domainname && {SAY}"));
}

#[test]
fn nothing_can_be_mounted() {
    Arena::new().contains(&format!("mkdir m && mount -t tmpfs none m && umount m && {SAY}"));
}

#[test]
fn inherited_descriptors_are_closed() {
    let arena = Arena::new();
    let script = format!("head -c 3 <&9 && {SAY}");
    let (file, digest) = lab::archive(arena.machine.root(), &script, &[]);
    let line = "exec 9<\"$0\"; exec \"$@\"";
    let mut command = Command::new("sh");
    command
        .args(["-c", line])
        .arg(arena.secret())
        .arg(env!("CARGO_BIN_EXE_vfguard"))
        .arg("--root")
        .arg(arena.machine.root());
    let status =
        command.args(["prepare", &arena.kernel, "--source"]).arg(file).args(["--sha256", &digest]).status().unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(!arena.log().contains(OK), "{}", arena.log());
    let dir = tempfile::tempdir().unwrap();
    lab::write_source(dir.path(), &script, &[]);
    let output = Command::new("sh")
        .args(["-c", line])
        .arg(arena.secret())
        .args(["make", "-C"])
        .arg(dir.path().join("src"))
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains(OK), "it fails without the sandbox too");
}

#[test]
fn the_environment_of_the_caller_is_not_visible() {
    let arena = Arena { environment: &[("AWS_SECRET_ACCESS_KEY", "x")], ..Arena::new() };
    arena.contains(&format!("test -n \"$AWS_SECRET_ACCESS_KEY\" && {SAY}"));
}

#[test]
fn a_link_planted_for_the_installer_is_not_followed() {
    let arena = Arena::new();
    let script = format!("ln -s {} ixgbevf.ko", arena.secret().display());
    let (log, code) = arena.inside(&script);
    assert_eq!(code, 1, "{log}");
    assert!(!log.contains("top secret") && !arena.module().exists(), "{log}");
    let dir = tempfile::tempdir().unwrap();
    lab::write_source(dir.path(), &script, &[]);
    assert!(Command::new("make").current_dir(dir.path().join("src")).status().unwrap().success());
    assert_eq!(fs::read_to_string(dir.path().join("src/ixgbevf.ko")).unwrap(), "top secret\n");
}

#[test]
fn a_flood_of_output_with_terminal_escapes_leaves_a_small_harmless_log() {
    let arena = Arena::new();
    let flood = if std::env::var_os("VFGUARD_FULL").is_some() { "1G" } else { "256M" };
    let script = format!(
        "printf '\\033]0;owned\\007\\033[2J'; head -c {flood} /dev/zero | tr '\\0' x | fold -w 1000; printf '\\033[31m'; exit 1"
    );
    let (log, code) = arena.inside(&script);
    assert_eq!(code, 1);
    assert!(log.len() < 4 << 20, "{} bytes of log", log.len());
    assert!(!log.contains('\u{1b}') && !log.contains('\u{7}'), "a terminal would obey this log");
    assert!(log.contains("bytes of output are left out"), "the cut is not told");
}

#[test]
fn the_verified_bytes_are_installed_even_if_the_file_changes_later() {
    let lab = Lab::open();
    let arena = Arena::new();
    let good = fs::read(lab.file("MODULE_IXGBEVF")).unwrap();
    let script = "cp good.ko ixgbevf.ko; setsid sh -c 'for i in $(seq 100); do sleep 0.02; echo evil >ixgbevf.ko; done' >/dev/null 2>&1 </dev/null & exit 0";
    let archive = lab::archive(arena.machine.root(), script, &[("good.ko", &good)]);
    let (log, code) = arena.prepare(&archive);
    assert_eq!(code, 0, "{log}");
    std::thread::sleep(Duration::from_millis(300));
    let verify = arena.machine.run(&["verify", arena.module().to_str().unwrap(), "--kernel", &arena.kernel]);
    assert_eq!(verify.code, 0, "{}{}", verify.stdout, verify.stderr);
    let dir = tempfile::tempdir().unwrap();
    lab::write_source(dir.path(), script, &[("good.ko", &good)]);
    assert!(Command::new("make").current_dir(dir.path().join("src")).status().unwrap().success());
    let start = Instant::now();
    while fs::read(dir.path().join("src/ixgbevf.ko")).unwrap() != b"evil\n" {
        assert!(start.elapsed() < Duration::from_secs(30), "plain make leaves the file alone too");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn other_kernels_trees_are_not_visible() {
    let lab = Lab::open();
    let arena = Arena::new();
    let other = lab.get("K_OLD");
    assert!(arena.machine.path(&format!("usr/src/linux-headers-{other}")).is_dir());
    let (log, _) = arena.inside("ls /usr/src; exit 1");
    assert!(log.contains(&arena.kernel) && !log.contains(other), "{log}");
}
