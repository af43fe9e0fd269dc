"""A `/boot` of its own on XFS: GRUB replays no journal, so what is written there must be on the disk itself before the reset.

The guest of the GRUB story is moved to such a /boot by its own tools, on a second disk. Then the boot default is held and promoted
there by vfguard, and the reset button pressed in the very moment that vfguard ends, with nothing synced by anybody else.
"""

import subprocess

from vmlab.errors import require
from vmlab.install import install, install_units
from vmlab.report import table

from . import Story
from .grub import entries, reset

NIC = ("-netdev", "user,id=n0,restrict=on", "-device", "e1000e,netdev=n0")
MEGABYTES = 320                 # mkfs.xfs makes no smaller one than 300 MB
# GRUB 2.06 knows none of these younger features.
MKFS = ["mkfs.xfs", "-q", "-m", "bigtime=0,inobtcount=0", "-i", "nrext64=0", "-L", "xfsboot"]
# The guest's own tools move /boot, and GRUB with it.
MOVE = ("mount -t xfs LABEL=xfsboot /mnt && cp -a /boot/. /mnt/ && umount /mnt && mount LABEL=xfsboot /boot && "
        "echo 'LABEL=xfsboot /boot xfs defaults 0 0' >>/etc/fstab && grub-install /dev/vda 2>&1 && update-grub 2>&1 && sync")


def tell(lab, report):
    """Boots from an XFS /boot, holds and promotes there."""
    old, new = lab.kernels()
    payload = lab.payload("xfs", lab.guest_files())
    disk = payload.with_suffix(".xfs")
    with open(disk, "wb") as out:
        out.truncate(MEGABYTES << 20)
    subprocess.run([*MKFS, str(disk)], check=True, timeout=60, capture_output=True)
    # A high slot, so that it comes after the payload.
    second = ("-drive", f"file={disk},if=none,id=d2,format=raw,cache=unsafe", "-device", "virtio-blk-pci,drive=d2,addr=0x1c")
    rows = []
    with lab.machine("two-kernels", direct=False, payload=payload, network=(*NIC, *second)) as machine:
        shell = machine.shell
        machine.settle()
        install(machine)
        install_units(machine)
        with report.case("grub/xfs/boots-from-it"):
            shell.check(MOVE, 240)
            entry = entries(machine, [old, new])
            shell.check(f"grub-reboot '{entry[old]}' && sync && fsfreeze -f /boot && fsfreeze -u /boot")
            came = reset(machine)
            machine.settle()
            where = shell.check("findmnt -n -o FSTYPE /boot")
            require(where == "xfs" and came == old, f"/boot is on {where}, and {came} booted")
        with report.case("grub/xfs/hold-reaches-the-disk"):
            shell.check(f"driver=$(find /lib/modules/{new}/kernel -name 'e1000e.ko*'); echo $driver >/root/path; "
                        f"mv $driver /root/driver.ko; depmod {new}; sync")
            answer = shell.run("vfguard reconcile", 120)
            came = reset(machine)
            rows.append(["held", answer.code, came])
            require(answer.code == 3, f"a kernel without the NIC's driver: exit code {answer.code}: {answer.output}")
            require(came == old, f"held on {old}, and {came} booted: {answer.output}")
        with report.case("grub/xfs/promotion-reaches-the-disk"):
            machine.settle()
            shell.check(f"mv /root/driver.ko $(cat /root/path); depmod {new}; sync")
            answer = shell.run("vfguard reconcile", 120)
            came = reset(machine)
            rows.append(["promoted", answer.code, came])
            require(answer.code == 0 and came == new, f"exit code {answer.code}, and {came} booted: {answer.output}")
    payload.unlink()
    disk.unlink()
    report.say("\n/boot on XFS\n" + table(["after", "exit code", "reset boots"], rows) + "\n")


STORIES = [Story("grub/xfs", tell)]
