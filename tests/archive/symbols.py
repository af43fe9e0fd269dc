"""What a module needs of a kernel: asked of real packages with dpkg-deb, tar and kmod."""

import functools
import hashlib
import re
import subprocess
import tempfile
from pathlib import Path

DRIVER = "ixgbevf"
SECONDS = 120


def member(deb, pattern):
    """The bytes of the one file in a package whose path matches a shell pattern; empty where there is none."""
    files = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE)
    done = subprocess.run(["tar", "-xO", "--wildcards", pattern], stdin=files.stdout, capture_output=True, timeout=SECONDS, check=False)
    files.stdout.close()
    files.wait(SECONDS)
    return done.stdout


def unpacked(data):
    """A module's bytes, whatever they were compressed with."""
    for magic, tool in ((b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\x00", "xz"), (b"\x1f\x8b", "gzip")):
        if data.startswith(magic):
            return subprocess.run([tool, "-dc"], input=data, capture_output=True, check=False, timeout=SECONDS).stdout
    return data


@functools.lru_cache(maxsize=None)
def needed(image):
    """The names of the symbols that the driver in an image's packages imports; kept beside the first, since unpacking takes ten seconds.

    Raises ValueError where there is no driver, or one without symbol versions.
    """
    kept = Path(f"{image[0]}.needed")
    names = kept.read_text(encoding="ascii").split() if kept.exists() else []
    if not names:
        names = sorted(_needed(image))
        part = kept.with_name(f".{kept.name}")
        part.write_text("\n".join(names), encoding="ascii")
        part.rename(kept)
    return frozenset(names)


def _needed(image):
    data = unpacked(next(filter(None, (member(deb, f"*/{DRIVER}.ko*") for deb in image)), b""))
    with tempfile.TemporaryDirectory() as place:
        module = Path(place) / f"{DRIVER}.ko"
        module.write_bytes(data)
        shown = subprocess.run(["modprobe", "--dump-modversions", str(module)], capture_output=True, text=True, timeout=SECONDS, check=False)
    names = re.findall(r"^0x[0-9a-f]+\s+(\S+)$", shown.stdout, re.MULTILINE)
    if not names:
        raise ValueError(f"{image[0].name.partition('=')[0]} has no {DRIVER} with symbol versions")
    return names


@functools.lru_cache(maxsize=None)
def crcs(image, headers):
    """A digest of the CRCs that a kernel with these headers (one package) has for the symbols that the driver of an image (packages) imports.

    Raises ValueError where the headers tell none.
    """
    table = member(headers, "*/Module.symvers").decode("ascii", "replace")
    wanted = needed(image)
    rows = sorted(tuple(line.split("\t")[:2]) for line in table.splitlines() if "\t" in line and line.split("\t")[1] in wanted)
    if not rows:
        raise ValueError(f"{headers.name.partition('=')[0]} has no Module.symvers with what {DRIVER} needs")
    return hashlib.sha256(repr(rows).encode()).hexdigest()
