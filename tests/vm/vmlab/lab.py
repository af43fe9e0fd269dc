"""The lab as the stories see it: which guests there are, and how to start one."""

import hashlib
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

from . import host
from .apt import RELEASES, chosen
from .efi import Efi
from .errors import LabError, Skip
from .image import BUILD, HEADERS, Disk, Images, run
from .lock import FileLock
from .machine import Machine

KEPT_RUNS = 40                  # console logs kept for a look back
PROJECT = Path(__file__).resolve().parents[3]


class Lab:
    """Paths, packages, images and machines of one run."""

    def __init__(self, report, full):
        self.report = report
        self.full = full
        base = os.environ.get("VFGUARD_CACHE") or f"{os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'}/vfguard-tests"
        self.cache = Path(base) / "vm"
        self.runs = self.cache / "runs"
        self.runs.mkdir(parents=True, exist_ok=True)
        self.lock = threading.RLock()
        self.chosen = None              # the kernels of this run
        self.images = Images(self)
        self.disks = {}
        self.binary = None
        self.project = PROJECT

    def prepare(self):
        """The run's kernels, QEMU and the list of guests; raises Skip with the reason where the tier cannot run."""
        release = self._host_release()
        self.chosen = chosen()
        with self.exclusive():
            host.ensure_qemu(self.cache.parent, release)
        self._forget_old_runs()
        self.disks = self._disks()
        for path in self.images.directory.glob("*.raw"):
            if path.stem not in self.disks:
                self.images.forget(path.stem)

    def make_images(self):
        """Makes every disk, so that the stories find them."""
        for disk in self.disks.values():
            with FileLock(self.cache / f"lock-{disk.name}"):
                self.images.disk(disk, self.report.say)

    def _host_release(self):
        codename = ""
        for line in Path("/etc/os-release").read_text().splitlines():
            if line.startswith("VERSION_CODENAME="):
                codename = line.partition("=")[2].strip('"')
        if codename not in RELEASES:
            raise Skip(f"the VM tier runs on Debian {' or '.join(RELEASES)}, not on {codename or 'this system'}")
        return codename

    def _forget_old_runs(self):
        """Clears away what runs left that were killed (names carry their process), and all but the last console logs."""
        for path in self.runs.iterdir():
            owner = re.search(r"-(\d+)(?=[-.]|$)", path.name)
            if owner and not Path("/proc", owner.group(1)).exists():
                if path.name.startswith("vm-"):
                    for disk in path.glob("*.qcow2"):
                        disk.unlink()
                elif path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
        for path in sorted(self.runs.glob("vm-*"), key=lambda path: path.stat().st_mtime)[:-KEPT_RUNS]:
            shutil.rmtree(path, ignore_errors=True)

    def _disks(self):
        old, new = self.kernels()
        # The guest that builds has the headers of both kernels before the newer one is there.
        headers = list(dict.fromkeys(name for kernel in (old, new) for name in self.chosen.headers(kernel)))
        return {
            "debian12": Disk("debian12", "bookworm", [old], [*BUILD, "rpm", "dnf"], headers),
            "two-kernels": Disk("two-kernels", "bookworm", [old, new], [*HEADERS, "systemd-boot"], headers),
            "debian13": Disk("debian13", "trixie", [new], megabytes=2000),
        }

    def kernels(self):
        """The releases of the two 6.1 kernels, the older first; a module of one does not load on the other."""
        return [self.chosen.kernel(role) for role in ("OLD", "NEW")]

    def image_packages(self, release):
        """The files of the packages that hold a kernel's image and modules, the image's first."""
        return [self.chosen.deb(name) for name in self.chosen.image(release)]

    def build(self):
        """Finds the vfguard under test: $VFGUARD_BIN, else a release build of this clone."""
        given = os.environ.get("VFGUARD_BIN")
        if given:
            self.binary = Path(given).resolve()
            return
        self.report.say("building vfguard (set VFGUARD_BIN to use another binary)")
        done = subprocess.run(["cargo", "build", "--release", "--locked", "--quiet", "--message-format=short"], cwd=PROJECT,
                              capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=1800)
        if done.returncode:
            raise LabError(f"cargo build: {done.stderr.strip()[-600:]}")
        target = Path(os.environ.get("CARGO_TARGET_DIR") or PROJECT / "target")
        self.binary = target / "release" / "vfguard"

    def accelerator(self, kernel):
        """KVM or TCG, tried once for each boot of the host."""
        with self.lock:
            return host.accelerator(self.cache, kernel)

    def kept(self, name, inputs, make):
        """A directory in the cache that `make(directory)` fills once for each state of `inputs`: files, and texts. Not to be written to."""
        digest = hashlib.sha256()
        for item in inputs:
            digest.update(item.read_bytes() if isinstance(item, Path) else str(item).encode())
        place = self.cache / "kept" / f"{name}-{digest.hexdigest()[:16]}"
        place.parent.mkdir(exist_ok=True)
        with FileLock(self.cache / f"lock-kept-{name}"):
            if not place.exists():
                for old in place.parent.glob(f"{name}-*"):
                    shutil.rmtree(old)
                part = place.with_name(f".{place.name}")
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir()
                make(part)
                part.rename(place)
        return place

    def exclusive(self):
        """Keeps other runs on this host out of the cache while something in it is made."""
        return FileLock(self.cache / "lock")

    def disk(self, name):
        """The raw disk of a guest, made if it is not there."""
        with FileLock(self.cache / f"lock-{name}"):
            return self.images.disk(self.disks[name], self.report.say)

    def machine(self, name, *, direct=True, payload=None, network=(), memory=640, append="", efi=False):
        """A machine on a fresh overlay of a disk; `direct` starts the disk's first kernel without its boot loader, `efi` systemd-boot."""
        raw = self.disk(name)
        boot = self.images.boot_files(self.disks[name])
        return Machine(self.runs, raw, self.accelerator(boot.image), kernel=boot if direct and not efi else None, payload=payload,
                       network=network, memory=memory, append=append, efi=Efi(self, name) if efi else None)

    def guest_files(self):
        """What a guest needs for vfguard: `{path on the payload disk: path here}`."""
        return {"vfguard": self.binary, "packaging": PROJECT / "packaging"}

    def stage(self, name):
        """An empty directory of this run, for what a payload is made of."""
        place = self.runs / f"stage-{name}-{os.getpid()}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        return place

    def payload(self, name, files):
        """A read-only disk that carries files into a guest: `{path in the guest: path here}`."""
        tree = self.runs / f"payload-{name}-{os.getpid()}"
        shutil.rmtree(tree, ignore_errors=True)
        size = 0
        for inside, outside in files.items():
            target = tree / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            if Path(outside).is_dir():
                shutil.copytree(outside, target, symlinks=True)
            else:
                shutil.copy(outside, target)
        for path in tree.rglob("*"):
            size += (path.lstat().st_size >> 10) + 4
        image = tree.with_suffix(".img")
        image.unlink(missing_ok=True)
        run(["mke2fs", "-q", "-t", "ext4", "-d", str(tree), str(image), f"{size * 5 // 4 + 8192}k"])
        shutil.rmtree(tree)
        return image
