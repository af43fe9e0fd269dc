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


@functools.lru_cache(maxsize=None)
def needed(image):
    """The names of the symbols that the driver in an image package imports; kept beside it, since unpacking takes ten seconds."""
    kept = Path(f"{image}.needed")
    if not kept.exists():
        kept.write_text("\n".join(sorted(_needed(image))), encoding="ascii")
    return frozenset(kept.read_text(encoding="ascii").split())


def _needed(image):
    data = member(image, f"*/{DRIVER}.ko*")
    if data[:6] == b"\xfd7zXZ\x00":
        data = subprocess.run(["xz", "-dc"], input=data, capture_output=True, check=True, timeout=SECONDS).stdout
    with tempfile.TemporaryDirectory() as place:
        module = Path(place) / f"{DRIVER}.ko"
        module.write_bytes(data)
        shown = subprocess.run(["modprobe", "--dump-modversions", str(module)], capture_output=True, text=True, timeout=SECONDS, check=False)
    names = re.findall(r"^0x[0-9a-f]+\s+(\S+)$", shown.stdout, re.MULTILINE)
    if not names:
        raise ValueError(f"{image} has no {DRIVER} with symbol versions: {shown.stderr.strip()}")
    return names


@functools.lru_cache(maxsize=None)
def crcs(image, headers):
    """A digest of the CRCs that a kernel with these headers (package) has for the symbols that the image's driver imports."""
    table = member(headers, "*/Module.symvers").decode("ascii", "replace")
    wanted = needed(image)
    rows = sorted(tuple(line.split("\t")[:2]) for line in table.splitlines() if "\t" in line and line.split("\t")[1] in wanted)
    return hashlib.sha256(repr(rows).encode()).hexdigest()
