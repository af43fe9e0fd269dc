"""Just enough ELF64 to break a module on purpose (System V ABI, chapter 4; little endian only)."""

import struct
from dataclasses import dataclass

SECTION = struct.Struct("<IIQQQQIIQQ")
VERSION_ENTRY = 64      # struct modversion_info: an unsigned long and 56 bytes of name
# Where a field lies in the header, and how wide it is.
HEADER = {"class": (4, "B"), "data": (5, "B"), "ident_version": (6, "B"), "osabi": (7, "B"), "type": (16, "<H"),
          "machine": (18, "<H"), "version": (20, "<I"), "shoff": (40, "<Q"), "ehsize": (52, "<H"), "shentsize": (58, "<H"),
          "shnum": (60, "<H"), "shstrndx": (62, "<H")}
SECTION_FIELDS = {"name": (0, "<I"), "type": (4, "<I"), "flags": (8, "<Q"), "offset": (24, "<Q"), "size": (32, "<Q"),
                  "link": (40, "<I"), "info": (44, "<I"), "align": (48, "<Q"), "entsize": (56, "<Q")}


@dataclass
class Section:
    """One section header, and where it lies in the file."""

    name: str
    header: int
    offset: int
    size: int


class Module:
    """A module's bytes, to be changed in place."""

    def __init__(self, data):
        self.data = bytearray(data)

    def copy(self):
        """Another one with the same bytes."""
        return Module(self.data)

    def sections(self):
        """All section headers, in order."""
        table, = struct.unpack_from("<Q", self.data, 40)
        size, count, names = struct.unpack_from("<HHH", self.data, 58)
        raw = [SECTION.unpack_from(self.data, table + i * size) for i in range(count)]
        base = raw[names][4]
        result = []
        for i, fields in enumerate(raw):
            end = self.data.index(0, base + fields[0])
            result.append(Section(self.data[base + fields[0]:end].decode(), table + i * size, fields[4], fields[5]))
        return result

    def section(self, name):
        """A section by its name."""
        return next(section for section in self.sections() if section.name == name)

    def set_header(self, name, value):
        """Writes a field of the ELF header."""
        offset, kind = HEADER[name]
        struct.pack_into(kind, self.data, offset, value)

    def set_section(self, section, name, value):
        """Writes a field of a section header."""
        offset, kind = SECTION_FIELDS[name]
        struct.pack_into(kind, self.data, section.header + offset, value)

    def get_section(self, section, name):
        """Reads a field of a section header."""
        offset, kind = SECTION_FIELDS[name]
        return struct.unpack_from(kind, self.data, section.header + offset)[0]

    def rename_section(self, old, new):
        """Gives a section another name of the same length (and the one that shares its tail, as .relaX does with X)."""
        if len(old) != len(new):
            raise ValueError(f"{new} is not as long as {old}")
        names = self.sections()[struct.unpack_from("<H", self.data, 62)[0]]
        start = names.offset + self.get_section(self.section(old), "name")
        self.data[start:start + len(new)] = new.encode()

    def replace(self, old, new):
        """Replaces every occurrence by as many bytes."""
        if len(old) != len(new) or old not in self.data:
            raise ValueError(f"cannot replace {old!r} by {new!r}")
        self.data = bytearray(bytes(self.data).replace(old, new))

    def versions(self):
        """Where each symbol's version record lies: `{name: offset}`."""
        section = self.section("__versions")
        found = {}
        for offset in range(section.offset, section.offset + section.size, VERSION_ENTRY):
            name = bytes(self.data[offset + 8:offset + VERSION_ENTRY]).split(b"\0")[0]
            found[name.decode()] = offset
        return found

    def modinfo(self, tag):
        """A value of .modinfo."""
        section = self.section(".modinfo")
        for entry in bytes(self.data[section.offset:section.offset + section.size]).split(b"\0"):
            key, _, value = entry.partition(b"=")
            if key == tag.encode():
                return value.decode()
        return None

    def set_modinfo(self, tag, value):
        """Changes a value of .modinfo; a shorter one is padded, since the section cannot grow in place."""
        old = f"{tag}={self.modinfo(tag)}".encode()
        new = f"{tag}={value}".encode()
        if len(new) > len(old):
            raise ValueError(f"{new!r} is longer than {old!r}")
        self.replace(old + b"\0", new.ljust(len(old), b"\0") + b"\0")
