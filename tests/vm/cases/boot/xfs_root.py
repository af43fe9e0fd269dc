"""A root on XFS without a /boot of its own, as Amazon Linux 2 has it, and its grub.cfg: the file system cannot be frozen, and GRUB reads no
journal, so what a hold writes must be where GRUB sees it when vfguard ends.

The guest of the GRUB stories copies its root to an XFS on a second disk, and GRUB with it. Reset is pressed in the moment in which vfguard ends.
"""

import shutil
import subprocess

from vmlab.errors import require
from vmlab.install import install
from vmlab.report import table

from .. import Story
from .el7 import Menu, held
from .grub import reset
from .stock import NIC, Guest
from .xfs import MKFS

MEGABYTES = 2400
MENU = Menu("7666bd00-0000-4000-8000-000000000002", "xfs")
# The initrds get the driver; what was written is where GRUB sees it once the file system is frozen.
MOVE = (f"echo xfs >>/etc/initramfs-tools/modules && update-initramfs -u -k all 2>&1 && mount -t xfs UUID={MENU.uuid} /mnt && cp -ax /. /mnt/ && "
        f"echo 'UUID={MENU.uuid} / xfs noatime 0 0' >/mnt/etc/fstab && grub-install --boot-directory=/mnt/boot /dev/vda 2>&1 && "
        "cp /lab/el7/amazon2 /mnt/boot/grub/grub.cfg && grub-editenv /mnt/boot/grub/grubenv set next_entry='{}' && umount /mnt && sync")


def tell(lab, report):
    """Moves the root, boots from it, and holds and promotes there."""
    old, new = lab.kernels()
    stage = lab.stage("xfs-root")
    (stage / "amazon2").write_text(MENU.amazon2(old, new))
    payload = lab.payload("xfs-root", {**lab.guest_files(), "el7": stage})
    disk = stage / "root.xfs"
    with open(disk, "wb") as out:
        out.truncate(MEGABYTES << 20)
    subprocess.run([*MKFS, "-m", f"uuid={MENU.uuid}", str(disk)], check=True, timeout=60, capture_output=True)
    overlay = stage / "root.qcow2"
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(disk), str(overlay)], check=True, timeout=60)
    # A high slot, so that it comes after the payload.
    second = ("-drive", f"file={overlay},if=none,id=d2,format=qcow2,cache=unsafe", "-device", "virtio-blk-pci,drive=d2,addr=0x1c")
    rows = []
    with lab.machine("two-kernels", direct=False, payload=payload, network=(*NIC, *second)) as machine:
        machine.settle()
        install(machine)
        guest = Guest(machine, old, new)
        with report.case("grub/xfs-root/boots-from-it"):
            machine.shell.check(MOVE.format(MENU.older(old)), 900)
            came = reset(machine)
            machine.settle()
            where = machine.shell.check("findmnt -n -o FSTYPE /; ! findmnt /boot")
            require(where == "xfs" and came == old, f"the root is on {where}, and {came} booted")
        machine.save("ready")
        held(guest, report, rows, "grub/xfs-root", "ls /boot/grub/custom.cfg 2>&1; grub-editenv - list")
    payload.unlink()
    shutil.rmtree(stage)
    report.say("\nroot on XFS\n" + table(["after", "booted"], rows) + "\n")


STORIES = [Story("grub/xfs-root", tell, long=True)]
