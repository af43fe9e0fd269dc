"""UEFI for a guest: OVMF with variables of the machine's own, and an EFI system partition on a disk of its own.

The guests' disks are made for a BIOS, so the partition comes as another disk. On it is systemd-boot from the guest's own packages, at the
place where a firmware looks that knows no boot entry, and one entry that starts the disk's first kernel.
"""

import shutil
import subprocess
from pathlib import Path

from .errors import LabError
from .image import FILESYSTEM_ID, FIRST_PARTITION, run

# Of Debian's ovmf, without secure boot.
FIRMWARE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
LOADER = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi"
MEGABYTES = 256                 # three kernels with their initrds
LABEL = "LABESP"
START = 2048                    # the partition's first sector
SEED = ("title seed\nlinux /seed/linux\ninitrd /seed/initrd\n"
        f"options root=UUID={FILESYSTEM_ID} ro console=ttyS0 net.ifnames=0 panic=-1\n")


class Efi:
    """The firmware and the partition of one machine."""

    def __init__(self, lab, name):
        self.lab = lab
        self.name = name

    def arguments(self, directory):
        """Makes what is the machine's own in its directory; how QEMU is told of it. All of it goes back with a kept state."""
        own, partition = directory / "variables.qcow2", directory / "esp.qcow2"
        run(["qemu-img", "convert", "-O", "qcow2", str(VARIABLES), str(own)])
        self._partition(partition)
        return ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={FIRMWARE}",
                "-drive", f"if=pflash,unit=1,format=qcow2,file={own}",
                # A high slot, so that it comes after the payload.
                "-drive", f"file={partition},if=none,id=esp,format=qcow2,cache=unsafe", "-device", "virtio-blk-pci,drive=esp,addr=0x1c"]

    def _partition(self, path):
        stage = self.lab.stage(f"esp-{self.name}")
        loader, seed, disk = stage / "loader", stage / "seed.conf", stage / "disk"
        raw = self.lab.disk(self.name)
        boot = self.lab.images.boot_files(self.lab.disks[self.name])
        run(["debugfs", "-R", f"dump {LOADER} {loader}", f"{raw}?offset={FIRST_PARTITION * 512}"])
        if not loader.exists() or not loader.stat().st_size:
            raise LabError(f"the guest {self.name} has no {LOADER}")
        seed.write_text(SEED)
        with open(disk, "wb") as out:
            out.truncate((MEGABYTES + 2) << 20)
        table = f"label: gpt\nstart={START}, size={MEGABYTES}M, type=uefi\n"
        subprocess.run(["sfdisk", "--quiet", str(disk)], input=table, text=True, check=True, timeout=60, capture_output=True)
        run(["mkfs.vfat", "-F", "32", "-n", LABEL, f"--offset={START}", str(disk), str(MEGABYTES << 10)])
        inside = f"{disk}@@{START * 512}"
        run(["mmd", "-i", inside, "::EFI", "::EFI/BOOT", "::loader", "::loader/entries", "::seed"])
        for file, place in ((loader, "EFI/BOOT/BOOTX64.EFI"), (seed, "loader/entries/seed.conf"),
                            (boot.image, "seed/linux"), (boot.initrd, "seed/initrd")):
            run(["mcopy", "-i", inside, str(file), f"::{place}"])
        run(["qemu-img", "convert", "-O", "qcow2", str(disk), str(path)])
        shutil.rmtree(stage)
