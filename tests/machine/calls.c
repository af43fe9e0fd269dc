/* System calls that a build has no use for. Without an argument each is tried in a process of its own, and a line says what came of it:
 * GOT, HELD (refused with the errno that
 * vfguard's filter has for it; outside: this kernel has no such call), or OTHER, with the errno. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <linux/vm_sockets.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static long vsock(void) {
    struct sockaddr_vm any = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = VMADDR_PORT_ANY};
    int s = socket(AF_VSOCK, SOCK_STREAM, 0);
    if (s < 0 || bind(s, (void *)&any, sizeof any)) return -1;
    return listen(s, 1);
}
static long packet(void) { return socket(AF_PACKET, SOCK_RAW, 0); }
static long io_uring(void) {
    char parameters[120] = {0};
    return syscall(SYS_io_uring_setup, 1, parameters);
}
static long aio(void) {
    unsigned long context = 0;
    return syscall(SYS_io_setup, 1, &context);
}
static long unshare_user(void) { return unshare(CLONE_NEWUSER); }
static long clone_user(void) {
    long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (!pid) _exit(0);
    return pid;
}
static long clone3_user(void) {
    uint64_t arguments[8] = {CLONE_NEWUSER, 0, 0, 0, SIGCHLD};
    long pid = syscall(SYS_clone3, arguments, sizeof arguments);
    if (!pid) _exit(0);
    return pid;
}
static long enter(void) { return setns(open("/proc/self/ns/uts", O_RDONLY), 0); }
static long new_root(void) { return chroot("."); }
static long detached_tree(void) { return syscall(SYS_open_tree, AT_FDCWD, ".", 0); }
static long file_system(void) { return syscall(SYS_fsopen, "tmpfs", 0); }
static long key(void) { return syscall(SYS_add_key, "user", "vfguard-test", "x", 1, -2); }
static long ask_for_key(void) {
    if (syscall(SYS_request_key, "user", "vfguard-test-none", 0, 0) >= 0) return 0;
    return errno == ENOKEY ? 0 : -1;
}
static long keyring(void) { return syscall(SYS_keyctl, 0, -3, 1); }
/* More memory than the address space of the process. */
static long hoard(void) {
    struct rlimit little = {200 << 20, 200 << 20};
    if (setrlimit(RLIMIT_AS, &little)) return -1;
    for (int i = 0; i < 3; i++) {
        int fd = syscall(SYS_memfd_create, "hoard", 0);
        if (fd < 0 || fallocate(fd, 0, 0, 100 << 20)) return -1;
    }
    return 0;
}
static long secret(void) { return syscall(SYS_memfd_secret, 0); }
static long faults(void) { return syscall(SYS_userfaultfd, 0); }
static long watch_files(void) { return syscall(SYS_fanotify_init, 0, 0); }
static long count(void) {
    struct perf_event_attr attr = {.type = PERF_TYPE_SOFTWARE, .size = sizeof attr, .config = PERF_COUNT_SW_TASK_CLOCK};
    return syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
}
static long map(void) {
    union bpf_attr attr = {.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};
    return syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof attr);
}
/* Removed again at once: what is left on the machine itself stays there. */
static long shared_memory(void) {
    int id = shmget(IPC_PRIVATE, 1, 0600);
    return id < 0 ? -1 : shmctl(id, IPC_RMID, 0);
}
static long queue(void) {
    int id = msgget(IPC_PRIVATE, 0600);
    return id < 0 ? -1 : msgctl(id, IPC_RMID, 0);
}
static long semaphores(void) {
    int id = semget(IPC_PRIVATE, 1, 0600);
    return id < 0 ? -1 : semctl(id, 0, IPC_RMID);
}
static long posix_queue(void) {
    const char *name = "vfguard-test";
    return syscall(SYS_mq_open, name, O_RDWR | O_CREAT, 0600, 0) < 0 ? -1 : syscall(SYS_mq_unlink, name);
}
static long trace(void) { return syscall(SYS_ptrace, 0, 0, 0, 0); }
static long read_memory(void) {
    char from[1] = {0}, to[1];
    struct iovec there = {from, 1}, here = {to, 1};
    return process_vm_readv(getpid(), &here, 1, &there, 1, 0);
}
static long compare(void) { return syscall(SYS_kcmp, getpid(), getpid(), 1, 0, 0); }
static long take_descriptor(void) { return syscall(SYS_pidfd_getfd, syscall(SYS_pidfd_open, getpid(), 0), 1, 0); }
static long handle(void) {
    struct { struct file_handle head; char rest[128]; } to = {{.handle_bytes = 128}};
    int mount;
    if (name_to_handle_at(AT_FDCWD, ".", &to.head, &mount, 0) == 0) return 0;
    /* The file system of this directory has none. */
    return errno == EOPNOTSUPP ? 0 : -1;
}
static long kernel_log(void) { return syscall(SYS_syslog, 10, 0, 0); }
static long executable_memory(void) { return syscall(SYS_personality, 0x400000); }
static long set_time(void) { return syscall(SYS_settimeofday, 0, 0); }
static long place_memory(void) { return syscall(SYS_move_pages, 0, 0, 0, 0, 0, 0); }
static long segments(void) {
    char buffer[16];
    return syscall(SYS_modify_ldt, 0, buffer, sizeof buffer);
}
/* Whether the request comes as far as the device, which is no terminal. */
static long device(unsigned long request) {
    char c = 'x';
    return syscall(SYS_ioctl, 0, request, &c) && errno == ENOTTY ? 0 : -1;
}
static long type_input(void) { return device(0x5412); }
static long type_input_by_upper_bits(void) { return device(0x100005412); }
static long paste(void) { return device(0x541c); }
static long i386(long number, long argument) {
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(argument), "c"(0), "d"(0), "S"(0), "D"(0)
                     : "memory", "r8", "r9", "r10", "r11");
    if (result >= 0) return result;
    errno = -result;
    return -1;
}
static long i386_getpid(void) { return i386(20, 0); }
static long i386_unshare_user(void) { return i386(310, CLONE_NEWUSER); }
static long i386_keyring(void) { return i386(288, 1); }
static long x32_getpid(void) { return syscall(0x40000000 | SYS_getpid); }

static const struct { const char *name; long (*call)(void); int refusal; } calls[] = {
    {"vsock", vsock, EAFNOSUPPORT},
    {"packet", packet, EAFNOSUPPORT},
    {"io_uring", io_uring, ENOSYS},
    {"aio", aio, ENOSYS},
    {"unshare", unshare_user, EPERM},
    {"clone", clone_user, EPERM},
    {"clone3", clone3_user, ENOSYS},
    {"setns", enter, EPERM},
    {"chroot", new_root, EPERM},
    {"open_tree", detached_tree, ENOSYS},
    {"fsopen", file_system, ENOSYS},
    {"add_key", key, EPERM},
    {"request_key", ask_for_key, EPERM},
    {"keyctl", keyring, EPERM},
    {"memfd_create", hoard, ENOSYS},
    {"memfd_secret", secret, ENOSYS},
    {"userfaultfd", faults, ENOSYS},
    {"fanotify", watch_files, ENOSYS},
    {"perf_event_open", count, ENOSYS},
    {"bpf", map, ENOSYS},
    {"shmget", shared_memory, ENOSYS},
    {"msgget", queue, ENOSYS},
    {"semget", semaphores, ENOSYS},
    {"mq_open", posix_queue, ENOSYS},
    {"ptrace", trace, EPERM},
    {"process_vm_readv", read_memory, ENOSYS},
    {"kcmp", compare, ENOSYS},
    {"pidfd_getfd", take_descriptor, ENOSYS},
    {"name_to_handle_at", handle, ENOSYS},
    {"syslog", kernel_log, EPERM},
    {"personality", executable_memory, EPERM},
    {"settimeofday", set_time, EPERM},
    {"move_pages", place_memory, EPERM},
    {"modify_ldt", segments, ENOSYS},
    {"TIOCSTI", type_input, EPERM},
    {"TIOCSTI-by-upper-bits", type_input_by_upper_bits, EPERM},
    {"TIOCLINUX", paste, EPERM},
    {"i386-getpid", i386_getpid, ENOSYS},
    {"i386-unshare", i386_unshare_user, ENOSYS},
    {"i386-keyctl", i386_keyring, ENOSYS},
    {"x32-getpid", x32_getpid, ENOSYS},
};

/* What is here is none of the above: keys that one process leaves in the keyrings of its user (-4, -5, the persistent one). */
static int leave_keys(void) {
    long rings[3] = {-4, -5, syscall(SYS_keyctl, 22, -1, -2)};
    for (int i = 0; i < 3; i++)
        if (syscall(SYS_add_key, "user", "vfguard-test-left", "x", 1, rings[i]) < 0 && rings[i] != -1) return 1;
    return puts("LEFT keys") < 0;
}
static int find_keys(int remove) {
    long rings[3] = {-4, -5, syscall(SYS_keyctl, 22, -1, -2)};
    for (int i = 0; i < 3; i++) {
        long found = syscall(SYS_keyctl, 10, rings[i], "user", "vfguard-test-left", 0);
        if (found >= 0) printf("FOUND key %d\n", i);
        if (found >= 0 && remove) syscall(SYS_keyctl, 9, found, rings[i]);
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "leave")) return leave_keys();
    if (argc > 1) return find_keys(!strcmp(argv[1], "remove"));
    setbuf(stdout, NULL);
    for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++) {
        int status;
        pid_t pid = fork();
        if (!pid) {
            errno = 0;
            _exit(calls[i].call() >= 0 ? 0 : errno);
        }
        waitpid(pid, &status, 0);
        int error = WIFEXITED(status) ? WEXITSTATUS(status) : 255;
        const char *what = !error ? "GOT" : error == calls[i].refusal ? "HELD" : "OTHER";
        printf("%s %s %d\n", what, calls[i].name, error);
    }
    return 0;
}
