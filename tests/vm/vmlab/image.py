"""The guests' disks: a Debian root with real kernel packages behind a real BIOS GRUB, built once and kept in the cache.

    root tree   mmdebstrap, with guest/ laid under it before the first package is unpacked
    raw disk    MBR, GRUB's core image in the gap, one ext4 partition filled by `mke2fs -d` (no loop device, no mount)
    first boot  update-grub in the guest itself, which is the only place where grub-probe sees the disk

A disk is taken from the cache for a week, and only while its record names the same inputs: kernels, package names, guest files, this code.
"""

import hashlib
import json
import os
import shutil
import struct
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from .apt import suites
from .errors import LabError
from .machine import DirectKernel, Machine

HERE = Path(__file__).resolve().parent
GUEST = HERE.parent / "guest"       # laid under the root before the first package is unpacked
BUILD_SECONDS = 1200
KEPT_SECONDS = 7 * 24 * 3600    # then a disk is made again, of the release as it is by then
TRIES, TRY_SECONDS = 3, 20      # of making a root from a mirror that answers with what is gone
FIRST_PARTITION = 2048          # sectors; GRUB's core image lies between the MBR and it
FILESYSTEM_ID = "7666bd00-0000-4000-8000-000000000001"
BASE = ["systemd", "systemd-sysv", "dbus", "udev", "kmod", "iproute2", "iputils-ping", "procps", "pciutils", "login", "util-linux",
        "polkitd", "libpam-systemd", "kexec-tools", "initramfs-tools", "zstd", "cpio", "gzip", "ca-certificates"]
BOOT = ["grub2-common", "grub-pc-bin", "grub-pc"]
HEADERS = ["gcc-12", "libelf1", "libssl3"]      # what the headers of a bookworm kernel depend on, apart from other kernel packages
BUILD = ["gcc", "make", "xz-utils", "bubblewrap", *HEADERS]


@dataclass
class Disk:
    """What a guest's disk holds.

    `release`: Debian's, whose `packages` are installed; `kernels`: releases of the run's choice, the last one installed last;
    `headers`: packages of the run's choice.
    """

    name: str
    release: str
    kernels: list
    packages: list = field(default_factory=list)
    headers: list = field(default_factory=list)
    megabytes: int = 3000


class Images:
    """Builds and finds disks."""

    def __init__(self, lab):
        self.lab = lab
        self.directory = lab.cache / "images"
        self.directory.mkdir(parents=True, exist_ok=True)

    def inputs(self, disk):
        """A digest of everything that shapes the disk."""
        digest = hashlib.sha256()
        digest.update(f"{disk.release} {[*BASE, *BOOT, *disk.packages]}\n".encode())
        for file in self._debs(disk):
            digest.update(f"{file.name}\n".encode())
        files = [Path(__file__), *sorted(path for path in GUEST.rglob("*") if not path.is_dir() or path.is_symlink())]
        for path in files:
            digest.update(str(path.relative_to(HERE.parent)).encode())
            if path.is_symlink():
                digest.update(os.readlink(path).encode())
            elif path.is_file():
                digest.update(path.read_bytes())
        digest.update(str(disk.megabytes).encode())
        return digest.hexdigest()

    def _debs(self, disk):
        """The files that dpkg installs, in this order."""
        return [*(self.lab.chosen.deb(name) for name in disk.headers),
                *(file for kernel in disk.kernels for file in self.lab.image_packages(kernel))]

    def disk(self, disk, say=print):
        """The path of the raw disk, built if missing or made from other inputs."""
        raw = self.directory / f"{disk.name}.raw"
        record = self.directory / f"{disk.name}.json"
        wanted = {"inputs": self.inputs(disk), "bytes": disk.megabytes << 20}
        if raw.exists() and record.exists():
            try:
                young = time.time() - record.stat().st_mtime < KEPT_SECONDS
                if young and json.loads(record.read_text()) == wanted and raw.stat().st_size == wanted["bytes"]:
                    return raw
            except ValueError:
                pass
        record.unlink(missing_ok=True)
        say(f"building the image {disk.name}")
        self._build(disk, raw)
        record.write_text(json.dumps(wanted))
        return raw

    def forget(self, name):
        """Removes the files of a disk that no story wants any more."""
        for path in self.directory.glob(f"{name}[.-]*"):
            if path.is_file():
                path.unlink()

    def boot_files(self, disk):
        """Kernel and initrd of the disk's first kernel, for starting it without the boot loader."""
        return DirectKernel(self.directory / f"{disk.name}-vmlinuz", self.directory / f"{disk.name}-initrd")

    def _build(self, disk, raw):
        root = self.directory / f"{disk.name}.root"
        part = self.directory / f"{disk.name}.part"
        shutil.rmtree(root, ignore_errors=True)
        try:
            self._root(disk, root)
            first = disk.kernels[0]
            shutil.copy(root / f"boot/vmlinuz-{first}", self.directory / f"{disk.name}-vmlinuz")
            shutil.copy(root / f"boot/initrd.img-{first}", self.directory / f"{disk.name}-initrd")
            self._disk(disk, root, part)
            shutil.rmtree(root)
            self._first_boot(disk, part)
            part.rename(raw)
        finally:
            part.unlink(missing_ok=True)
            shutil.rmtree(root, ignore_errors=True)

    def _root(self, disk, root):
        include = ",".join([*BASE, *BOOT, *disk.packages])
        # In a mount namespace of its own: what it mounts is gone with it, also where somebody walks the tree meanwhile.
        command = ["unshare", "--mount", "mmdebstrap", "--mode=root", "--variant=minbase", "--quiet", f"--include={include}",
                   f"--setup-hook=cp -a {GUEST}/. \"$1\"/", disk.release, str(root), *suites(disk.release)]
        for left in reversed(range(TRIES)):
            try:
                run(command)
                break
            except LabError:
                # The mirror may be between two states: it fetches its lists anew each time.
                if not left:
                    raise
                shutil.rmtree(root, ignore_errors=True)
                time.sleep(TRY_SECONDS)
        staging = root / "var/tmp/debs"
        staging.mkdir(parents=True)
        debs = self._debs(disk)
        for file in debs:
            shutil.copy(file, staging)
        run(["chroot", str(root), "dpkg", "--install", "--force-unsafe-io", *(f"/var/tmp/debs/{file.name}" for file in dict.fromkeys(debs))])
        shutil.rmtree(staging)
        shadow = root / "etc/shadow"
        shadow.write_text("".join("root::" + line.split(":", 2)[2] if line.startswith("root:") else line
                                  for line in shadow.read_text().splitlines(keepends=True)))
        shutil.rmtree(root / "var/lib/apt/lists", ignore_errors=True)
        (root / "etc/resolv.conf").unlink(missing_ok=True)
        modules = root / "usr/lib/grub/i386-pc"
        target = root / "boot/grub/i386-pc"
        target.mkdir(parents=True)
        for pattern in ("*.mod", "*.lst"):
            for file in modules.glob(pattern):
                shutil.copy(file, target)
        run(["chroot", str(root), "grub-mkimage", "-O", "i386-pc", "-p", "(hd0,msdos1)/boot/grub", "-o", "/var/tmp/core.img",
             "biosdisk", "part_msdos", "ext2"])
        run(["chroot", str(root), "grub-editenv", "/boot/grub/grubenv", "create"])

    def _disk(self, disk, root, part):
        boot_code = (root / "usr/lib/grub/i386-pc/boot.img").read_bytes()[:440]
        core = (root / "var/tmp/core.img").read_bytes()
        (root / "var/tmp/core.img").unlink()
        sectors = disk.megabytes << 11
        if len(core) > (FIRST_PARTITION - 1) * 512:
            raise LabError("GRUB's core image does not fit before the first partition")
        part.unlink(missing_ok=True)
        with open(part, "wb") as out:
            out.truncate(disk.megabytes << 20)
            out.write(boot_code)
            out.seek(446)
            out.write(struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff",
                                  FIRST_PARTITION, sectors - FIRST_PARTITION))
            out.seek(510)
            out.write(b"\x55\xaa" + core)
        # GRUB 2.06 reads neither of these two features.
        run(["mke2fs", "-q", "-t", "ext4", "-O", "^metadata_csum_seed,^orphan_file", "-U", FILESYSTEM_ID, "-d", str(root),
             "-E", f"offset={FIRST_PARTITION * 512}", str(part), f"{(sectors - FIRST_PARTITION) // 2}k"])

    def _first_boot(self, disk, part):
        """Boots the new disk once: grub.cfg, machine-id and caches are then those of a machine that has run."""
        with Machine(self.lab.runs, part, self.lab.accelerator(self.directory / f"{disk.name}-vmlinuz"),
                     kernel=self.boot_files(disk), direct_disk=True) as machine:
            machine.settle()
            machine.shell.check("update-grub 2>&1", 180)
            machine.shell.check("grep -q menuentry /boot/grub/grub.cfg && sync")
            machine.shell.run("systemctl poweroff", 5)
            if not machine.wait_stopped(120):
                raise LabError("a new image did not power off")


def run(command):
    """Runs a command of the host that has to succeed."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS, stdin=subprocess.DEVNULL, env=environment)
    if done.returncode:
        raise LabError(f"{command[0]} {command[-1]}: {(done.stderr or done.stdout).strip()[-800:]}")
    return done.stdout
