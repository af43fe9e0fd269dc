#!/usr/bin/env python3
"""Takes the tables for unwinding a stack out of a program, a ninth of it: without-unwinding.py FILE

Nothing reads them where a panic aborts; they come with the standard library, which is built already. objcopy (binutils) cuts them out, and
with them, since the sections move, the program header by which what is relocated becomes read-only (RELRO). It goes back into the
place of the header of the tables. The format: elf(5).
"""

import struct
import subprocess
import sys

HEADER = struct.Struct("<IIQQQQQQ")     # type, flags, offset, vaddr, paddr, filesz, memsz, align
LOAD, TABLES, RELRO = 1, 0x6474E550, 0x6474E552


def headers(data):
    """Each program header with its place in the file."""
    start, = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    return [(start + n * size, HEADER.unpack_from(data, start + n * size)) for n in range(count)]


def only(found, kind):
    """The one header of this type."""
    one, = [(place, header) for place, header in found if header[0] == kind]
    return one


def main(file):
    with open(file, "rb") as program:
        _, relro = only(headers(program.read()), RELRO)
    subprocess.run(["objcopy", "-R", ".eh_frame", "-R", ".eh_frame_hdr", "-R", ".gcc_except_table", file], check=True)
    with open(file, "r+b") as program:
        found = headers(program.read())
        if any(header[0] == RELRO for _, header in found):
            return
        place, _ = only(found, TABLES)
        _, flags, _, address, physical, size, memory, align = relro
        load, = [h for _, h in found if h[0] == LOAD and h[3] <= address and address + memory <= h[3] + h[6]]
        program.seek(place)
        program.write(HEADER.pack(RELRO, flags, load[2] + address - load[3], address, physical, size, memory, align))


main(sys.argv[1])
