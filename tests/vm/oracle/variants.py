"""More than two hundred ways to break a module, made from modules that were really built.

The choice of the random ones is seeded: the same modules give the same variants.
"""

import gzip
import lzma
import random
import struct
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from .elf import Module

FLAGS = ["SMP", "preempt", "mod_unload", "modversions"]
SECTIONS = ["__versions", ".modinfo", ".gnu.linkonce.this_module", ".symtab", ".strtab", ".shstrtab", ".text"]
SIGNATURE_MAGIC = b"~Module signature appended~\n"


@dataclass
class Variant:
    """A file to load; `before` are modules that have to be loaded first."""

    name: str
    data: bytes
    before: list = field(default_factory=list)


# What kills a 6.1 kernel, not only makes it refuse: each costs a boot, so one module stands for all unless time is no matter.
FATAL = ("-name-40000000", "this-module-small")
STAND_INS = ("lab_hello", "lab_user", "lab_ns", "ixgbevf")


def all_variants(built, context, full):
    """Every variant of the modules in `built` (`{name: bytes}`), or of those that stand in for all unless `full`; `context` has what
    signing and stripping need."""
    made = []
    for name in sorted(built if full else STAND_INS):
        before = ["lab_prov.ko"] if name in ("lab_user", "lab_ns") else []
        rng = random.Random(f"vfguard {name}")
        for generate in (plain, vermagic, versions, symbols, headers, section_headers, cut, modinfo, flips):
            for variant, data in generate(Module(built[name]), rng):
                if full or name == "lab_hello" or not any(fatal in variant for fatal in FATAL):
                    made.append(Variant(f"{name}-{variant}.ko", bytes(data), before))
    made += dependencies(built)
    made += packed(built["lab_hello"])
    made += context.stripped(built)
    made += context.signed(built)
    made += context.foreign
    return made


def plain(module, _):
    """As it was built."""
    yield "as-built", module.data


def vermagic(module, _):
    """The release word and each flag, wrong, missing, or more than there should be."""
    value = module.modinfo("vermagic")
    release, _, flags = value.partition(" ")
    wrong = release[:-1] + ("x" if release[-1] != "x" else "y")
    texts = {"release": f"{wrong} {flags}", "empty": "", "only-release": release, "lower": value.lower(), "no-space": value.rstrip()}
    for flag in FLAGS:
        if flag in value:
            texts[f"without-{flag}"] = value.replace(f"{flag} ", "", 1)
            texts[f"wrong-{flag}"] = value.replace(flag, flag[:-1] + "z", 1)
    for name, text in texts.items():
        if text != value:
            changed = module.copy()
            changed.set_modinfo("vermagic", text)
            yield f"vermagic-{name}", changed.data
    changed = module.copy()
    changed.replace(b"vermagic=", b"vermaxic=")
    yield "vermagic-missing", changed.data


def versions(module, rng):
    """Records with a wrong CRC, under another name, gone, doubled, and sections of odd size."""
    where = module.versions()
    names = sorted(where)
    for name in {"module_layout", *rng.sample(names, min(6, len(names)))}:
        changed = module.copy()
        changed.data[where[name]] ^= 1 << rng.randrange(8)
        yield f"crc-of-{name}", changed.data
    for name in {"module_layout", *rng.sample(names, min(4, len(names)))}:
        changed = module.copy()
        changed.data[where[name] + 8] ^= 0x20
        yield f"record-renamed-{name}", changed.data
    changed = module.copy()
    changed.data[where[names[0]] + 4] ^= 1
    yield "crc-high-half", changed.data
    section = module.section("__versions")
    for name, size in (("size-0", 0), ("size-odd", section.size - 1), ("one-less", section.size - 64), ("half", section.size // 128 * 64)):
        changed = module.copy()
        changed.set_section(section, "size", size)
        yield f"versions-{name}", changed.data
    changed = module.copy()
    changed.rename_section("__versions", "__verxions")
    yield "versions-renamed", changed.data
    changed = module.copy()
    changed.data[section.offset:section.offset + section.size] = bytes(section.size)
    yield "versions-zeroed", changed.data


def symbols(module, rng):
    """An import that nobody provides, with and without its version record."""
    names = sorted(name for name in module.versions() if name != "module_layout")
    for name in rng.sample(names, min(4, len(names))):
        other = name[:-1] + ("9" if name[-1] != "9" else "8")
        old, new = b"\0" + name.encode() + b"\0", b"\0" + other.encode() + b"\0"
        changed = module.copy()
        table = module.section(".strtab")
        text = bytes(changed.data[table.offset:table.offset + table.size])
        if old in text:
            changed.data[table.offset:table.offset + table.size] = text.replace(old, new)
            yield f"unknown-{name}", changed.data
            both = Module(changed.data)
            offset = module.versions()[name] + 8
            both.data[offset:offset + len(other)] = other.encode()
            yield f"unknown-versioned-{name}", both.data


def headers(module, _):
    """Each field of the ELF header."""
    for name, value in (("class", 1), ("class", 0), ("data", 2), ("ident_version", 0), ("osabi", 3), ("type", 2), ("type", 3), ("type", 0),
                        ("machine", 183), ("machine", 3), ("machine", 0), ("version", 0), ("shoff", 0), ("shoff", 1 << 40),
                        ("shoff", len(module.data) - 8), ("shentsize", 0), ("shentsize", 40), ("shnum", 0), ("shnum", 1),
                        ("shnum", 0xffff), ("shstrndx", 0), ("shstrndx", 0xfff0), ("ehsize", 0)):
        changed = module.copy()
        changed.set_header(name, value)
        yield f"header-{name}-{value:x}", changed.data
    changed = module.copy()
    changed.data[0] = 0
    yield "header-magic", changed.data


def section_headers(module, rng):
    """Offsets, sizes and links that lead outside, and sections renamed or turned into another type."""
    for section in module.sections():
        if section.name not in SECTIONS:
            continue
        tag = section.name.strip("._")
        for field_name, value in (("offset", len(module.data) + 64), ("size", len(module.data) * 2), ("size", 1 << 62), ("name", 1 << 30)):
            changed = module.copy()
            changed.set_section(section, field_name, value)
            yield f"section-{tag}-{field_name}-{value:x}", changed.data
        if section.name not in (".shstrtab", ".text"):
            changed = module.copy()
            changed.rename_section(section.name, section.name[:-1] + "Q")
            yield f"section-{tag}-renamed", changed.data
    symbol_table = module.section(".symtab")
    for field_name, value in (("link", 0xffff), ("link", 0), ("type", 0), ("entsize", 8), ("size", 25)):
        changed = module.copy()
        changed.set_section(symbol_table, field_name, value)
        yield f"section-symtab-{field_name}-{value:x}", changed.data
    loaded = [s for s in module.sections() if s.name and s.size]
    for section in rng.sample(loaded, min(4, len(loaded))):
        changed = module.copy()
        changed.set_section(section, "offset", section.offset ^ (1 << 33))
        yield f"section-{section.name.strip('._')}-far", changed.data


def cut(module, rng):
    """Truncations: what a full disk or a killed copy leaves."""
    size = len(module.data)
    points = {0, 1, 16, 63, 64, 100, size // 4, size // 2, size * 3 // 4, size - 4096, size - 64, size - 1}
    points |= {rng.randrange(size) for _ in range(6)}
    for point in sorted(point for point in points if 0 <= point < size):
        yield f"cut-at-{point}", module.data[:point]
    yield "zeros", bytes(size)
    yield "half-zeros", bytes(module.data[:size // 2]) + bytes(size - size // 2)
    yield "tail-added", bytes(module.data) + b"\0" * 64


def modinfo(module, _):
    """Tags that are gone or say something else."""
    section = module.section(".modinfo")
    changed = module.copy()
    changed.data[section.offset:section.offset + section.size] = bytes(section.size)
    yield "modinfo-zeroed", changed.data
    for tag, value in (("license", "XPL"), ("name", "x"), ("depends", ""), ("retpoline", "N")):
        if module.modinfo(tag) is not None and len(value) <= len(module.modinfo(tag)):
            changed = module.copy()
            changed.set_modinfo(tag, value)
            yield f"modinfo-{tag}-{value or 'empty'}", changed.data
    changed = module.copy()
    changed.rename_section(".gnu.linkonce.this_module", ".gnu.linkonce.thiX_module")
    yield "no-this-module", changed.data
    this = module.section(".gnu.linkonce.this_module")
    for name, size in (("small", 64), ("one-less", this.size - 1), ("one-more", this.size + 1)):
        changed = module.copy()
        changed.set_section(this, "size", size)
        yield f"this-module-{name}", changed.data


def flips(module, rng):
    """Single bits, in the places whose meaning is judged: header, section headers, versions, modinfo."""
    table, = struct.unpack_from("<Q", module.data, 40)
    places = [(0, 64), (table, len(module.data))]
    places += [(s.offset, s.offset + s.size) for s in module.sections() if s.name in ("__versions", ".modinfo")]
    for number in range(12):
        first, last = places[number % len(places)]
        offset, bit = rng.randrange(first, last), rng.randrange(8)
        changed = module.copy()
        changed.data[offset] ^= 1 << bit
        yield f"flip-{offset:x}-{bit}", changed.data


def dependencies(built):
    """Providers that are missing or other than expected, GPL-only symbols without the licence, namespaces not imported."""
    user, spaced = Module(built["lab_user"]), Module(built["lab_ns"])
    made = [Variant("dependency-not-loaded.ko", bytes(user.data))]
    for symbol in ("lab_plain", "lab_gpl"):
        changed = user.copy()
        changed.data[changed.versions()[symbol]] ^= 1
        made.append(Variant(f"dependency-crc-{symbol}.ko", bytes(changed.data), ["lab_prov.ko"]))
    changed = user.copy()
    changed.set_modinfo("license", "XPL")
    made.append(Variant("dependency-gpl-only.ko", bytes(changed.data), ["lab_prov.ko"]))
    changed = spaced.copy()
    changed.set_modinfo("import_ns", "LABSPACX")
    made.append(Variant("dependency-namespace-other.ko", bytes(changed.data), ["lab_prov.ko"]))
    changed = spaced.copy()
    changed.replace(b"import_ns=", b"import_nx=")
    made.append(Variant("dependency-namespace-missing.ko", bytes(changed.data), ["lab_prov.ko"]))
    return made


def packed(plain_module):
    """Compressed, in each way that a distribution uses; by content and by name; cut and damaged."""
    squeezed = {"gz": gzip.compress(plain_module, mtime=0),
                "xz": lzma.compress(plain_module, check=lzma.CHECK_CRC32),
                "xz-crc64": lzma.compress(plain_module),
                "zst": subprocess.run(["zstd", "-q", "-c"], input=plain_module, capture_output=True, check=True).stdout}
    made = []
    for name, data in squeezed.items():
        ending = name.partition("-")[0]
        made.append(Variant(f"packed-{name}.ko.{ending}", data))
        made.append(Variant(f"packed-{name}-as-ko.ko", data))
        made.append(Variant(f"packed-{name}-cut.ko.{ending}", data[:len(data) // 2]))
        made.append(Variant(f"packed-{name}-last-byte-gone.ko.{ending}", data[:-1]))
        damaged = bytearray(data)
        damaged[len(data) // 2] ^= 0xff
        made.append(Variant(f"packed-{name}-damaged.ko.{ending}", bytes(damaged)))
    made.append(Variant("packed-gz-as-xz.ko.xz", squeezed["gz"]))
    made.append(Variant("packed-twice.ko.gz", gzip.compress(squeezed["gz"], mtime=0)))
    made.append(Variant("packed-empty.ko.gz", gzip.compress(b"", mtime=0)))
    made.append(Variant("packed-not.ko.gz", plain_module))
    return made


class Context:
    """Tools for the variants that need one: strip, objcopy, the kernel's sign-file with a key of ours, other kernels."""

    def __init__(self, work, sign_file, intree, foreign):
        self.work = Path(work)
        self.sign_file = sign_file
        self.intree = intree
        self.foreign = [Variant(f"foreign-{name}", data) for name, data in sorted(foreign.items())]
        self.key = self.work / "key.pem"
        subprocess.run(["openssl", "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-subj", "/CN=nobody knows this key/",
                        "-keyout", self.key, "-out", self.work / "key.x509", "-outform", "PEM"], check=True, capture_output=True)

    def _tool(self, data, *command):
        before, after = self.work / "before.ko", self.work / "after.ko"
        before.write_bytes(data)
        after.unlink(missing_ok=True)
        subprocess.run([*command, str(before), str(after)], check=True, capture_output=True)
        return after.read_bytes()

    def stripped(self, built):
        """What strip and objcopy leave."""
        made = []
        for name in ("lab_hello", "ixgbevf"):
            for ending, command in {"all": ["objcopy", "--strip-all"], "debug": ["objcopy", "--strip-debug"],
                                    "unneeded": ["objcopy", "--strip-unneeded"]}.items():
                made.append(Variant(f"{name}-strip-{ending}.ko", self._tool(built[name], *command)))
            for section in (".modinfo", "__versions", ".note.gnu.build-id", ".comment"):
                made.append(Variant(f"{name}-without-{section.strip('._')}.ko", self._tool(built[name], "objcopy", "-R", section)))
        return made

    def sign(self, data, digest="sha256"):
        """A signature of our key, which no kernel knows, appended as the kernel's build does."""
        return self._tool(data, str(self.sign_file), digest, str(self.key), str(self.work / "key.x509"))

    def signed(self, built):
        """Signed by the distribution or by nobody it knows, and tampered with afterwards."""
        made = []
        for name, data in sorted(self.intree.items()):
            made.append(Variant(f"intree-{name}-as-shipped.ko", data))
            for place, offset in (("content", len(data) // 3), ("signature", len(data) - 300), ("last-byte", len(data) - 1)):
                changed = bytearray(data)
                changed[offset] ^= 0x10
                made.append(Variant(f"intree-{name}-tampered-{place}.ko", bytes(changed)))
            made.append(Variant(f"intree-{name}-signature-cut.ko", data[:-len(SIGNATURE_MAGIC)]))
            made.append(Variant(f"intree-{name}-magic-only.ko", data[:-600] + SIGNATURE_MAGIC))
            made.append(Variant(f"intree-{name}-signed-again.ko", self.sign(data)))
        hello = built["lab_hello"]
        ours = self.sign(hello)
        made.append(Variant("signed-unknown-key.ko", ours))
        made.append(Variant("signed-unknown-key-sha512.ko", self.sign(hello, "sha512")))
        changed = bytearray(ours)
        changed[changed.index(b"license=GPL") + 8] ^= 0x01
        made.append(Variant("signed-unknown-key-tampered.ko", bytes(changed)))
        made.append(Variant("signed-magic-only.ko", hello + SIGNATURE_MAGIC))
        made.append(Variant("signed-length-absurd.ko", hello + struct.pack(">BBBBBxxxI", 0, 0, 2, 0, 0, 0x7fffffff) + SIGNATURE_MAGIC))
        made.append(Variant("signed-empty-signature.ko", hello + struct.pack(">BBBBBxxxI", 0, 0, 2, 0, 0, 0) + SIGNATURE_MAGIC))
        made.append(Variant("signed-unknown-type.ko", hello + bytes(16) + struct.pack(">BBBBBxxxI", 0, 0, 9, 0, 0, 16) + SIGNATURE_MAGIC))
        return made
