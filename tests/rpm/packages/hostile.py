#!/usr/bin/env python3
"""Replaces the payload of an RPM by one that rpmbuild would not make, and mends digests and sizes; the package is signed after that.

    hostile.py FILE KERNEL KIND      FILE is changed in place; its payload is not compressed (w0.ufdio)
    hostile.py FILE --tamper         changes one byte of the payload and nothing else, as whoever has no key can

The format: lead (96 bytes), signature header (padded to 8), header, payload (cpio, newc).
"""

import gzip
import hashlib
import struct
import sys

LEAD = 96
SIG_SIZE, SIG_MD5, SIG_PAYLOADSIZE = 1000, 1004, 1007
LINK, FILE, CHAR, FIFO = 0o120777, 0o100644, 0o020666, 0o010666


def header(data, at):
    """Where a header ends, and where the data of each of its tags begins."""
    magic, count, size = data[at : at + 4], *struct.unpack(">II", data[at + 8 : at + 16])
    assert magic == b"\x8e\xad\xe8\x01"
    store = at + 16 + 16 * count
    tags = {}
    for n in range(count):
        tag, _, offset, _ = struct.unpack(">IIII", data[at + 16 + 16 * n : at + 32 + 16 * n])
        tags[tag] = store + offset
    return store + size, tags


def entry(number, name, mode, content=b"", device=(0, 0)):
    name = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name), 0)
    out = b"070701" + b"".join(b"%08x" % field for field in fields) + name
    out += b"\0" * (-len(out) % 4) + content
    return out + b"\0" * (-len(out) % 4)


def entries(kind, kernel):
    tree = f"./usr/src/kernels/{kernel}"
    if kind == "absolute":
        return [("/etc/cron.d/absolute", FILE, b"evil")]
    if kind == "dotdot":
        return [("./usr/../../../../../../../../etc/cron.d/dotdot", FILE, b"evil")]
    if kind == "through":
        return [(f"{tree}", LINK, b"/etc/cron.d"), (f"{tree}/through", FILE, b"evil")]
    if kind == "links":
        return [(f"{tree}", LINK, b"/etc"), (f"./lib/modules/{kernel}", LINK, b"/etc/cron.d")]
    if kind == "device":
        return [(f"{tree}/Makefile", FILE, b"all:\n"), (f"{tree}/device", CHAR, b"", (1, 3))]
    if kind == "fifo":
        return [(f"{tree}/Makefile", FILE, b"all:\n"), (f"{tree}/fifo", FIFO)]
    if kind == "setuid":
        return [(f"{tree}/Makefile", FILE, b"all:\n"), (f"{tree}/setuid", 0o106755, b"#!/bin/sh\n")]
    raise SystemExit(f"unknown kind {kind}")


def payload(kind, kernel):
    if kind != "sparse":
        return b"".join(entry(n + 1, *e) for n, e in enumerate(entries(kind, kernel))) + entry(0, "TRAILER!!!", 0)
    # Three files of zeros, 10 GB together, in members of gzip that are made once: 10 MB.
    piece = 1 << 28
    zeros, out = gzip.compress(bytes(piece), 6), b""
    for n in range(3):
        name = f"./usr/src/kernels/{kernel}/zeros-{n}".encode() + b"\0"
        start = b"070701" + b"".join(b"%08x" % f for f in (n + 1, FILE, 0, 0, 1, 0, 13 * piece, 0, 0, 0, 0, len(name), 0)) + name
        out += gzip.compress(start + b"\0" * (-len(start) % 4)) + 13 * zeros
    return out + gzip.compress(entry(0, "TRAILER!!!", 0))


def main():
    path = sys.argv[1]
    with open(path, "rb") as file:
        data = bytearray(file.read())
    signature_end, signature = header(data, LEAD)
    head = (signature_end + 7) // 8 * 8
    end, _ = header(data, head)
    if sys.argv[2] == "--tamper":
        data[data.rindex(b"all:")] ^= 1
    else:
        new = payload(sys.argv[3], sys.argv[2])
        old_head, old = bytes(data[head:end]), bytes(data[end:])
        new_head = old_head.replace(hashlib.sha256(old).hexdigest().encode(), hashlib.sha256(new).hexdigest().encode())
        assert new_head != old_head
        for digest in (hashlib.sha1, hashlib.sha256):
            was, now = digest(old_head).hexdigest().encode(), digest(new_head).hexdigest().encode()
            assert was in data[:head]
            data[:head] = data[:head].replace(was, now)
        data[head:] = new_head + new
        at = signature[SIG_MD5]
        data[at : at + 16] = hashlib.md5(new_head + new).digest()
        for tag, size in ((SIG_SIZE, len(new_head) + len(new)), (SIG_PAYLOADSIZE, len(new))):
            data[signature[tag] : signature[tag] + 4] = struct.pack(">I", size)
    with open(path, "wb") as file:
        file.write(data)


main()
