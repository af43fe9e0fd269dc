//! seccomp: which system calls a build may make (seccomp(2), `Documentation/userspace-api/seccomp_filter.rst`; Linux 3.5).
//!
//! Namespaces and Landlock restrict what a build can reach. The filter restricts how much of the kernel it can call. A
//! refused call fails with an errno, so a program that only tries it goes on without. Refused are calls that Flatpak, Docker
//! and systemd refuse to unprivileged programs, and that no compiler needs:
//!
//! ```text
//! EAFNOSUPPORT  sockets other than UNIX, INET, INET6 and NETLINK: a network namespace does not isolate AF_VSOCK
//! EPERM         keys, further namespaces, mounts, tracing, the kernel's log and clock, NUMA policy, input to a terminal
//! ENOSYS        features that a kernel may be built without: io_uring, bpf, perf, userfaultfd, fanotify, System V IPC,
//!               message queues, memfds (RLIMIT_AS does not count their memory); clone3(2), because a filter cannot see its
//!               flags (libc then uses clone(2)); calls newer than this list; all calls of another architecture: 32-bit
//!               programs (`int 0x80`), and x32
//! ```
//!
//! A kernel without filters (EL6), or a container that refuses them, runs the build without, and vfguard reports that.

use crate::host::sys;
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::libc::{self, c_long, sock_filter};
use seccompiler::SeccompCmpArgLen::Dword;
use seccompiler::{BpfProgram, SeccompAction, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule};
use std::collections::BTreeMap;

/// Calls that are newer than libc's names. From 424 on a call has the same number on every architecture.
const OPEN_TREE_ATTR: c_long = 467;
/// The newest call that was reviewed (file_setattr, Linux 6.17). Newer calls get ENOSYS; x32's numbers are larger too.
const NEWEST: u32 = 469;

/// Calls that get ENOSYS: programs that find them missing go on without.
const ABSENT: [c_long; 49] = [
    libc::SYS_clone3,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Their number is limited for the whole machine (fs.aio-max-nr).
    libc::SYS_io_setup,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
    libc::SYS_open_tree,
    OPEN_TREE_ATTR,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    libc::SYS_kexec_load,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_acct,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    // System V IPC and message queues: without an IPC namespace they belong to the machine and outlive the build.
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
];

/// Calls that get ENOSYS and whose number is specific to this architecture.
#[cfg(target_arch = "x86_64")]
const ABSENT_HERE: [c_long; 6] =
    [libc::SYS_kexec_file_load, libc::SYS_modify_ldt, libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_uselib, libc::SYS__sysctl];
/// kexec_file_load(2), which musl's headers do not name.
#[cfg(not(target_arch = "x86_64"))]
const ABSENT_HERE: [c_long; 1] = [294];

/// Calls that are always refused.
const FORBIDDEN: [c_long; 27] = [
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_ptrace,
    libc::SYS_syslog,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_vhangup,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_mbind,
    libc::SYS_get_mempolicy,
    libc::SYS_set_mempolicy,
    libc::SYS_set_mempolicy_home_node,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_sethostname,
];

/// Flags of clone(2) that create a namespace. CLONE_NEWTIME is not one of them: in clone(2) its bit belongs to the exit
/// signal.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];
/// Requests that put input into a terminal, as if it had been typed there.
const TYPING: [u32; 2] = [libc::TIOCSTI as u32, TIOCLINUX];
const TIOCLINUX: u32 = 0x541c;
/// The allowed arguments of personality(2): Linux, 32-bit (`uname -m`), an old version number, no address randomisation, and
/// the query.
const PERSONALITIES: [u32; 9] = [0, 0x8, 0x2_0000, 0x2_0008, 0x4_0000, 0x4_0008, 0x6_0000, 0x6_0008, 0xffff_ffff];
/// Address families of sockets that a build may have.
const FAMILIES: [libc::c_int; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// The value that the kernel gives for the architecture of a call (`linux/audit.h`).
#[cfg(target_arch = "x86_64")]
const MACHINE: u32 = 0xc000_0000 | libc::EM_X86_64 as u32;
#[cfg(not(target_arch = "x86_64"))]
const MACHINE: u32 = 0xc000_0000 | libc::EM_AARCH64 as u32;

/// Offsets of the words of `struct seccomp_data` that are checked first for every call.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Whether the running kernel has filters.
pub(super) fn is_here() -> bool {
    sys::has_filters()
}

/// The program that the kernel runs at every call, made before the fork.
///
/// # Errors
/// When it cannot be compiled for this machine.
pub(super) fn program() -> Result<Vec<sock_filter>> {
    make().context("compiling the filter of system calls")
}

fn make() -> Result<Vec<sock_filter>, seccompiler::BackendError> {
    let whole = |calls: &[c_long]| calls.iter().map(|call| (*call, Vec::new())).collect::<Rules>();
    let only = |index, allowed: &[u32]| {
        let others = allowed.iter().map(|v| SeccompCondition::new(index, Dword, SeccompCmpOp::Ne, (*v).into()));
        Ok(vec![SeccompRule::new(others.collect::<Result<_, _>>()?)?])
    };
    let any = |index, values: &[u32], same: fn(u64) -> SeccompCmpOp| {
        let one = |v: &u32| SeccompRule::new(vec![SeccompCondition::new(index, Dword, same((*v).into()), (*v).into())?]);
        values.iter().map(one).collect::<Result<Vec<SeccompRule>, _>>()
    };
    let mut absent = whole(&ABSENT);
    absent.append(&mut whole(&ABSENT_HERE));
    let mut forbidden = whole(&FORBIDDEN);
    forbidden.insert(libc::SYS_clone, any(0, &NAMESPACES.map(|f| f as u32), SeccompCmpOp::MaskedEq)?);
    forbidden.insert(libc::SYS_ioctl, any(1, &TYPING, |_| SeccompCmpOp::Eq)?);
    forbidden.insert(libc::SYS_personality, only(0, &PERSONALITIES)?);
    let families = FAMILIES.map(|f| f as u32);
    let mut sockets = Rules::new();
    sockets.insert(libc::SYS_socket, only(0, &families)?);
    sockets.insert(libc::SYS_socketpair, only(0, &families)?);
    let compile = |rules, errno| refusing(rules, errno).map(|program| program.into_iter().map(instruction).collect());
    Ok(joined(vec![
        compile(forbidden, Errno::EPERM)?,
        compile(absent, Errno::ENOSYS)?,
        compile(sockets, Errno::EAFNOSUPPORT)?,
    ]))
}

fn errno(errno: Errno) -> SeccompAction {
    SeccompAction::Errno(errno as u32)
}

/// A program that refuses calls that match the rules and allows all others.
fn refusing(rules: Rules, with: Errno) -> Result<BpfProgram, seccompiler::BackendError> {
    let machine = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::Allow, errno(with), machine)?.try_into()
}

fn instruction(of: seccompiler::sock_filter) -> sock_filter {
    sock_filter { code: of.code, jt: of.jt, jf: of.jf, k: of.k }
}

/// Joins several programs: a call that one of them allows goes on to the next. The crate's programs kill a process that
/// makes a call of another architecture, ignore x32, and have one errno each. So foreign calls get ENOSYS before them.
fn joined(programs: Vec<Vec<sock_filter>>) -> Vec<sock_filter> {
    let step = |code, k, jt, jf| sock_filter { code, jt, jf, k };
    let missing = u32::from(errno(Errno::ENOSYS));
    let allow = u32::from(SeccompAction::Allow);
    let mut all = vec![
        step(LOAD, ARCH, 0, 0),
        step(IF_EQUAL, MACHINE, 1, 0),
        step(RETURN, missing, 0, 0),
        step(LOAD, NUMBER, 0, 0),
        step(IF_AT_LEAST, NEWEST + 1, 0, 1),
        step(RETURN, missing, 0, 0),
    ];
    let last = programs.len().saturating_sub(1);
    for (n, mut program) in programs.into_iter().enumerate() {
        let length = program.len();
        for (at, instruction) in program.iter_mut().enumerate().filter(|_| n != last) {
            if instruction.code == RETURN && instruction.k == allow {
                *instruction = step(JUMP, (length - at - 1) as u32, 0, 0);
            }
        }
        all.append(&mut program);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const ALLOW: u32 = 0x7fff_0000;

    /// The program's answer to a call, by interpreting its instructions as the kernel does.
    fn answer(program: &[sock_filter], arch: u32, number: u32, arguments: [u64; 6]) -> (Result<(), Errno>, usize) {
        let mut words = vec![number, arch, 0, 0];
        words.extend(arguments.iter().flat_map(|a| [*a as u32, (a >> 32) as u32]));
        let (mut at, mut accumulator, mut steps) = (0, 0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            steps += 1;
            let branch = |taken: bool| usize::from(if taken { jt } else { jf });
            match u32::from(code) {
                0x20 => accumulator = words[k as usize / 4],
                0x54 => accumulator &= k,
                0x05 => at += k as usize,
                0x15 => at += branch(accumulator == k),
                0x25 => at += branch(accumulator > k),
                0x35 => at += branch(accumulator >= k),
                0x06 if k == ALLOW => return (Ok(()), steps),
                0x06 if k & 0xffff_0000 == 0x0005_0000 => return (Err(Errno::from_raw(k as i32 & 0xffff)), steps),
                _ => panic!("instruction {code:#x} {k:#x} at {}", at - 1),
            }
        }
    }

    fn asked(call: c_long, arguments: [u64; 6]) -> Result<(), Errno> {
        answer(&program().unwrap(), MACHINE, call as u32, arguments).0
    }

    #[test]
    fn listed_calls_are_refused_and_every_other_call_is_allowed() {
        let program = program().unwrap();
        for number in 0..=NEWEST {
            let call = c_long::from(number);
            let expected = match () {
                () if ABSENT.contains(&call) || ABSENT_HERE.contains(&call) => Err(Errno::ENOSYS),
                () if FORBIDDEN.contains(&call) => Err(Errno::EPERM),
                () if [libc::SYS_socket, libc::SYS_socketpair].contains(&call) => Err(Errno::EAFNOSUPPORT),
                () => Ok(()),
            };
            assert_eq!(answer(&program, MACHINE, number, [0; 6]).0, expected, "{number}");
        }
        let names = ABSENT.len() + ABSENT_HERE.len() + FORBIDDEN.len();
        let all: std::collections::BTreeSet<_> = [&ABSENT[..], &ABSENT_HERE, &FORBIDDEN].concat().into_iter().collect();
        assert_eq!(all.len(), names, "a call is named twice");
    }

    #[test]
    fn what_a_build_needs_is_allowed() {
        let fork = u64::from(libc::SIGCHLD as u32) | libc::CLONE_CHILD_SETTID as u64 | libc::CLONE_CHILD_CLEARTID as u64;
        let vfork = libc::SIGCHLD as u64 | libc::CLONE_VM as u64 | libc::CLONE_VFORK as u64;
        // The flags for a new thread: CLONE_VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, SETTLS, PARENT_SETTID, CHILD_CLEARTID.
        for flags in [fork, vfork, 0x3d_0f00] {
            assert_eq!(asked(libc::SYS_clone, [flags, 0, 0, 0, 0, 0]), Ok(()), "{flags:#x}");
        }
        for request in [libc::TCGETS, libc::TIOCGWINSZ, libc::FIONREAD] {
            assert_eq!(asked(libc::SYS_ioctl, [0, request, 0, 0, 0, 0]), Ok(()));
        }
        for persona in PERSONALITIES {
            assert_eq!(asked(libc::SYS_personality, [persona.into(), 0, 0, 0, 0, 0]), Ok(()));
        }
        for family in FAMILIES {
            assert_eq!(asked(libc::SYS_socketpair, [family as u64, 0, 0, 0, 0, 0]), Ok(()));
        }
    }

    #[test]
    fn arguments_are_seen_as_the_kernel_sees_them() {
        for flag in NAMESPACES {
            let flags = flag as u32 as u64 | libc::SIGCHLD as u64;
            for flags in [flags, flags | libc::CLONE_FS as u64, flags | 1 << 40] {
                assert_eq!(asked(libc::SYS_clone, [flags, 0, 0, 0, 0, 0]), Err(Errno::EPERM), "{flags:#x}");
            }
        }
        for family in (0..64).chain([1 << 31, u64::from(u32::MAX)]) {
            let expected = if FAMILIES.contains(&(family as libc::c_int)) { Ok(()) } else { Err(Errno::EAFNOSUPPORT) };
            // The kernel reads only 32 bits of an address family and of a request.
            for family in [family, family | 1 << 32] {
                assert_eq!(asked(libc::SYS_socket, [family, 1, 0, 0, 0, 0]), expected, "{family:#x}");
            }
        }
        for request in TYPING.map(u64::from) {
            for request in [request, request | 1 << 32, request | 0xffff_ffff << 32] {
                assert_eq!(asked(libc::SYS_ioctl, [0, request, 0, 0, 0, 0]), Err(Errno::EPERM), "{request:#x}");
            }
        }
        // READ_IMPLIES_EXEC, MMAP_PAGE_ZERO, PER_SVR4.
        for persona in [0x40_0000, 0x10_0000, 0x1, 0x40_0000 | 0x4_0000] {
            assert_eq!(asked(libc::SYS_personality, [persona, 0, 0, 0, 0, 0]), Err(Errno::EPERM), "{persona:#x}");
        }
    }

    #[test]
    fn calls_of_another_architecture_of_x32_and_newer_ones_get_enosys() {
        let program = program().unwrap();
        // I386, ARM, the other one of X86_64 and AARCH64, big-endian, and zero.
        let machines = [0x4000_0003, 0x4000_0028, MACHINE ^ (62 ^ 183), MACHINE & !0x4000_0000, 0];
        for number in (0..=NEWEST + 100).chain([0x4000_0000, u32::MAX]) {
            for machine in machines {
                assert_eq!(answer(&program, machine, number, [0; 6]).0, Err(Errno::ENOSYS), "{machine:#x} {number}");
            }
            let x32 = 0x4000_0000 | number;
            assert_eq!(answer(&program, MACHINE, x32, [0; 6]).0, Err(Errno::ENOSYS), "{x32:#x}");
        }
        for number in NEWEST + 1..2048 {
            assert_eq!(answer(&program, MACHINE, number, [0; 6]).0, Err(Errno::ENOSYS), "{number}");
        }
    }

    #[test]
    fn the_kernel_accepts_the_program_and_other_programs_run_under_it() {
        if !is_here() {
            return;
        }
        let program = program().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "grep Seccomp: /proc/self/status | cat; exec 2>&1; unshare -U true"]);
        sys::in_child(&mut command, move |_| {
            nix::sys::prctl::set_no_new_privs()?;
            Ok(sys::filter_calls(&program)?)
        });
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.starts_with("Seccomp:\t2\n") && text.contains("not permitted"), "{text}");
    }

    #[test]
    fn a_program_that_the_kernel_rejects_is_an_error() {
        let refused = |program: Vec<sock_filter>| {
            let mut command = Command::new("true");
            sys::in_child(&mut command, move |_| {
                nix::sys::prctl::set_no_new_privs()?;
                Ok(sys::filter_calls(&program)?)
            });
            command.spawn().map(|mut child| child.wait()).unwrap_err().raw_os_error().map(Errno::from_raw)
        };
        let endless = sock_filter { code: LOAD, jt: 0, jf: 0, k: NUMBER };
        assert_eq!(refused(vec![endless]), Some(Errno::EINVAL));
        assert_eq!(refused(Vec::new()), Some(Errno::EINVAL));
    }
}
