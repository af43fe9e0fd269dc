/* Takes 1600 MB of the disk in files that have no name, and keeps them: `open` by descriptors, `mapped` in memory alone, `sent` on their
 * way through a socket. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define EACH (100L << 20)

static int send_away(int through, int fd) {
    char byte = 0, space[CMSG_SPACE(sizeof fd)];
    struct iovec one = {&byte, 1};
    struct msghdr message = {.msg_iov = &one, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    *head = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(head), &fd, sizeof fd);
    return sendmsg(through, &message, 0) != 1;
}

int main(int argc, char **argv) {
    int pair[2];
    if (argc != 2 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) return 2;
    if (strcmp(argv[1], "sent")) close(pair[0]), close(pair[1]);
    puts("TAKES");
    fflush(stdout);
    for (int i = 0; i < 16; i++) {
        int fd = open("taken", O_RDWR | O_CREAT | O_EXCL, 0600);
        if (fd < 0 || unlink("taken") || fallocate(fd, 0, 0, EACH)) return 3;
        if (!strcmp(argv[1], "mapped") && mmap(0, EACH, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED) return 4;
        if (!strcmp(argv[1], "sent") && send_away(pair[0], fd)) return 5;
        if (strcmp(argv[1], "open")) close(fd);
    }
    sleep(8);
    puts("KEPT");
    return 0;
}
