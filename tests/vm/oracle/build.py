"""Real modules to break, and roots to judge them in: built from the lab's headers and archives (tests/lab/fetch.sh)."""

import functools
import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from vmlab.errors import LabError, Skip
from vmlab.image import run

HERE = Path(__file__).resolve().parent
FETCH = HERE.parents[1] / "lab" / "fetch.sh"
UNAVAILABLE = 69        # sysexits.h, as tests/lib/common.sh uses it
FETCH_SECONDS = 1800
BUILD_SECONDS = 600
SHIPPED = ("modules.order", "modules.builtin", "modules.builtin.modinfo")       # the rest is depmod's


@dataclass
class Target:
    """A kernel to ask, and the archives that build for it."""

    kernel: str
    tree: Path          # where its image and modules lie, beside those of other kernels
    archives: list


@functools.cache
def headers_lab():
    """The directory of tests/lab and its manifest; looked at once a run, under the lab's lock."""
    done = subprocess.run([str(FETCH), "--images"], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=FETCH_SECONDS)
    last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    if done.returncode == UNAVAILABLE:
        raise Skip(f"tests/lab/fetch.sh: {last}")
    if done.returncode:
        raise LabError(f"tests/lab/fetch.sh: {last}")
    directory = Path(done.stdout.strip().splitlines()[-1])
    lines = (directory / "manifest.env").read_text().splitlines()
    return directory, dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def make(headers, kernel, source):
    """Runs kbuild on a directory with Debian's split headers, wherever those lie."""
    common = headers / "usr/src" / f"linux-headers-{kernel.removesuffix('-amd64')}-common"
    objects = headers / "usr/src" / f"linux-headers-{kernel}"
    run(["make", "-C", str(common), f"O={objects}", f"M={source}", f"-j{os.cpu_count()}", "modules"])


def build(headers, target, work):
    """Builds this directory's little modules and the archives' drivers: `{name: bytes}`, without debug information."""
    built = {}
    small = work / "small"
    shutil.copytree(HERE / "src", small)
    make(headers, target.kernel, small)
    sources = [small]
    for archive in target.archives:
        place = work / archive.name
        with tarfile.open(archive) as tar:
            tar.extractall(place, filter="data")
        source = next(place.glob("*/src"))
        make(headers, target.kernel, source)
        sources.append(source)
    for source in sources:
        for module in source.glob("*.ko"):
            run(["objcopy", "--strip-debug", str(module)])
            built[module.stem] = module.read_bytes()
    return built


def intree(target, names):
    """Modules as the distribution ships them, unpacked: `{name: bytes}`."""
    found = {}
    for name in names:
        files = list((target.tree / "lib/modules" / target.kernel).rglob(f"{name}.ko*"))
        if files:
            data = files[0].read_bytes()
            if files[0].suffix == ".xz":
                data = subprocess.run(["xz", "-dc"], input=data, capture_output=True, check=True).stdout
            found[name] = data
    return found


def lay(target, place):
    """Puts a kernel's own image and modules below a root: links to the lab's files, which nothing writes to, and depmod's tables anew."""
    (place / "lib/modules").mkdir(parents=True, exist_ok=True)
    (place / "boot").mkdir(exist_ok=True)
    run(["cp", "-al", str(target.tree / "lib/modules" / target.kernel), str(place / "lib/modules")])
    run(["cp", "-al", *map(str, (target.tree / "boot").glob(f"*-{target.kernel}")), str(place / "boot")])
    for table in (place / "lib/modules" / target.kernel).glob("modules.*"):
        if table.name not in SHIPPED:
            table.unlink()


def root(headers, target, place, provider=None):
    """A root for `vfguard verify`: the kernel's own modules and headers, and one more module where a test wants it."""
    release = target.kernel
    place.mkdir(parents=True)
    lay(target, place)
    modules = place / "lib/modules" / release
    for link in ("build", "source"):
        (modules / link).unlink(missing_ok=True)
    # Copies, where hard links would let a slip change the cache: what tells whose headers they are, and what they say.
    source = headers / "usr/src" / f"linux-headers-{release}"
    target_headers = place / "usr/src" / f"linux-headers-{release}"
    for name in (".config", "Module.symvers", "include/generated/utsrelease.h", "include/config/kernel.release"):
        (target_headers / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / name, target_headers / name)
    (modules / "build").symlink_to(f"/usr/src/linux-headers-{release}")
    if provider:
        (modules / "updates").mkdir()
        (modules / "updates/lab_prov.ko").write_bytes(provider)
    run(["depmod", "-b", str(place), release])
    (place / "proc/sys/kernel").mkdir(parents=True)
    (place / "proc/sys/kernel/osrelease").write_text(release + "\n")
    return place


def own(binary, headers, manifest, number, target, place):
    """ixgbevf as vfguard itself builds it for the kernel: fetched, built in its sandbox, verified and installed; its file."""
    release = target.kernel
    for name in ("proc/sys/kernel", "sys/bus/pci/devices", "etc/vfguard/drivers.d", "srv"):
        (place / name).mkdir(parents=True)
    lay(target, place)
    run(["cp", "-al", str(headers / "usr"), str(place)])
    modules = place / "lib/modules" / release
    for link in ("build", "source"):
        (modules / link).unlink(missing_ok=True)
        (modules / link).symlink_to(os.readlink(headers / "lib/modules" / release / link))
    run(["depmod", "-b", str(place), release])
    (place / "proc/sys/kernel/osrelease").write_text(release + "\n")
    archive = target.archives[0]
    shutil.copy(archive, place / "srv")
    (place / "etc/vfguard/drivers.d/ixgbevf.toml").write_text("\n".join([
        'name = "ixgbevf"', 'devices = ["pci:v00008086d000010EDsv*sd*bc*sc*i*"]', "[[releases]]",
        f'version = "{manifest[f"IXGBEVF_{number}_VERSION"]}"', f'urls = ["file:///srv/{archive.name}"]',
        f'sha256 = "{manifest[f"IXGBEVF_{number}_SHA256"]}"', ""]))
    done = subprocess.run([str(binary), "--root", str(place), "--no-progress", "prepare", release, "--driver", "ixgbevf"],
                          capture_output=True, text=True, timeout=BUILD_SECONDS, stdin=subprocess.DEVNULL)
    # Packed as the kernel's own modules are.
    found = list((modules / "updates/vfguard").glob("ixgbevf.ko*"))
    if len(found) != 1:
        raise LabError(f"vfguard prepare gave {done.returncode} and {len(found)} modules: {(done.stderr or done.stdout).strip()[-600:]}")
    return found[0]
