#!/usr/bin/env python3
"""Runs a program as if on Linux 2.6.32 (EL6), as far as system calls go.

    linux-2.6.32.py [--but NUMBER]... PROGRAM [ARGUMENT]...

A seccomp filter answers ENOSYS to each x86-64 system call that came later: numbers 299 (recvmmsg, 2.6.33) and up. It is inherited,
so make and gcc below PROGRAM run so too. --but lets one call through.
"""
import ctypes
import errno
import os
import struct
import sys

FIRST_NEWER = 299
AUDIT_ARCH_X86_64 = 0xC000003E
# linux/seccomp.h, linux/prctl.h, linux/filter.h
SECCOMP_MODE_FILTER, ALLOW, ERRNO, KILL = 2, 0x7FFF0000, 0x00050000, 0x80000000
PR_SET_SECCOMP = 22
LOAD, JEQ, JGE, RETURN = 0x20, 0x15, 0x35, 0x06
NUMBER_AT, ARCH_AT = 0, 4


def program(but):
    """BPF: (code, jump if true, jump if false, k)."""
    yield LOAD, 0, 0, ARCH_AT
    yield JEQ, 1, 0, AUDIT_ARCH_X86_64
    yield RETURN, 0, 0, KILL
    yield LOAD, 0, 0, NUMBER_AT
    for number in but:
        yield JEQ, 0, 1, number
        yield RETURN, 0, 0, ALLOW
    yield JGE, 1, 0, FIRST_NEWER
    yield RETURN, 0, 0, ALLOW
    yield RETURN, 0, 0, ERRNO | errno.ENOSYS


def install(but):
    steps = [struct.pack("HBBI", *step) for step in program(but)]
    code = ctypes.create_string_buffer(b"".join(steps))
    head = struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    # Without no_new_privs, which 2.6.32 does not have: root may.
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_char_p(head), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_SECCOMP)")


def main(argv):
    but = []
    while argv[:1] == ["--but"]:
        but.append(int(argv[1]))
        argv = argv[2:]
    if not argv:
        sys.exit(__doc__)
    install(but)
    os.execv(argv[0], argv)


main(sys.argv[1:])
