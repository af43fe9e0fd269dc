"""A `/boot` of its own on XFS: GRUB replays no journal, so what is written there must be on the disk itself before the reset.

The guest of the GRUB story is moved to such a /boot by its own tools, on a second disk. Then the boot default is held and promoted
there by vfguard, and the reset button pressed in the very moment that vfguard ends, with nothing synced by anybody else.

Where the root itself is XFS (Amazon Linux 2 as installed) it cannot be frozen, and a new file comes to where GRUB looks for it within 30
seconds by itself. Mounted at a second place, /boot counts as such a root.

Freezing takes as long as the disk needs for what is not written yet. On a slow disk vfguard is killed meanwhile: alone, and with its
guard, as systemd kills a unit. /boot must not stay frozen.
"""

import subprocess

from vmlab.errors import require
from vmlab.install import install, install_units
from vmlab.report import table

from .. import Story
from .grub import SAVED, STOCK, entries, reset

NIC = ("-netdev", "user,id=n0,restrict=on", "-device", "e1000e,netdev=n0")
MEGABYTES = 320                 # mkfs.xfs makes no smaller one than 300 MB
# GRUB 2.06 knows none of these younger features.
MKFS = ["mkfs.xfs", "-q", "-m", "bigtime=0,inobtcount=0", "-i", "nrext64=0"]
# The guest's own tools move /boot, and GRUB with it.
MOVE = ("mount -t xfs LABEL=xfsboot /mnt && cp -a /boot/. /mnt/ && umount /mnt && mount LABEL=xfsboot /boot && "
        "echo 'LABEL=xfsboot /boot xfs defaults 0 0' >>/etc/fstab && grub-install /dev/vda 2>&1 && update-grub 2>&1 && sync")
MARKER = "/run/vfguard/frozen"
# As after an update that brought an environment file: it is made anew, which freezes /boot. Without the units that would do so first.
QUIET = "systemctl stop vfguard-watch.path vfguard.timer 'vfguard-kernel@*.path' vfguard-watch.service vfguard.service; true"
SLOW = 64 << 10                 # bytes a second, so that freezing takes half a minute
DIRTY = "dd if=/dev/urandom of=/boot/fill bs=64k count=32 2>&1"
# Debian's own default again, and no longer a file system that is nothing but /boot.
AS_A_ROOT = (f"{STOCK} && fsfreeze -f /boot && fsfreeze -u /boot && mkdir -p /srv/whole && mount LABEL=xfsboot /srv/whole")
NO_STOP = "/run/systemd/system/vfguard.service.d/50-no-stop.conf"


def throttle(machine, rate):
    """Makes the disk of /boot write so many bytes a second; 0 is as fast as it can."""
    said = machine.qmp.human(f"block_set_io_throttle d2 0 0 {rate} 0 0 0").strip()
    require(not said, f"QEMU: {said}")


def killed_in_freeze(machine, start, kill):
    """Has vfguard freeze /boot on a slow disk and kills it meanwhile."""
    shell = machine.shell
    shell.check(f"rm -f /boot/grub/grubenv /boot/fill; sync; [ ! -s {MARKER} ]")
    throttle(machine, SLOW)
    shell.check(DIRTY)
    shell.check(start)
    shell.until(f"[ -s {MARKER} ]", 60)
    shell.check(f"sleep 1; {kill}; sleep 1; [ -s {MARKER} ]")
    throttle(machine, 0)


def is_thawed(machine):
    """Waits until nothing says that /boot is frozen, and sees that it is not: a write that hangs could not be ended."""
    machine.shell.until(f"[ ! -s {MARKER} ]", 60)
    answer = machine.shell.run("fsfreeze --unfreeze /boot")
    require(answer.code != 0, "/boot stayed frozen")
    machine.shell.check("touch /boot/fill && sync")


def tell(lab, report):
    """Boots from an XFS /boot, holds and promotes there, and is killed while it is frozen."""
    old, new = lab.kernels()
    payload = lab.payload("xfs", lab.guest_files())
    disk = payload.with_suffix(".xfs")
    with open(disk, "wb") as out:
        out.truncate(MEGABYTES << 20)
    subprocess.run([*MKFS, "-L", "xfsboot", str(disk)], check=True, timeout=60, capture_output=True)
    # A high slot, so that it comes after the payload.
    second = ("-drive", f"file={disk},if=none,id=d2,format=raw,cache=unsafe", "-device", "virtio-blk-pci,drive=d2,addr=0x1c")
    rows = []
    with lab.machine("two-kernels", direct=False, payload=payload, network=(*NIC, *second)) as machine:
        shell = machine.shell
        machine.settle()
        install(machine)
        install_units(machine)
        with report.case("grub/xfs/boots-from-it"):
            shell.check(f"{SAVED}; {MOVE}", 240)
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
        machine.settle()
        shell.check(QUIET)
        with report.case("grub/xfs/killed-while-frozen"):
            killed_in_freeze(machine, "(vfguard reconcile </dev/null >/root/said 2>&1 & echo $! >/root/pid)", "kill -9 $(cat /root/pid)")
            is_thawed(machine)
        unit = "systemctl start --no-block vfguard.service", "systemctl kill -s KILL vfguard.service"
        with report.case("grub/xfs/killed-with-its-guard-the-next-run-thaws"):
            shell.check(f"mkdir -p {NO_STOP.rsplit('/', 1)[0]} && printf '[Service]\\nExecStopPost=\\n' >{NO_STOP} && "
                        "systemctl mask --runtime vfguard-fail-closed.service 2>&1")
            killed_in_freeze(machine, *unit)
            # Killed, it still freezes to the end.
            shell.until("! systemctl is-active -q vfguard.service && systemctl is-failed -q vfguard.service", 60)
            shell.until("! pidof vfguard", 60)
            answer = shell.run(f"[ -s {MARKER} ] && ! fsfreeze --freeze /boot")
            require(answer.code == 0, "/boot is not frozen, so this proves nothing")
            shell.check("vfguard gate show", 60)
            is_thawed(machine)
        with report.case("grub/xfs/killed-with-its-guard-the-units-end-thaws"):
            shell.check(f"rm {NO_STOP} && systemctl unmask --runtime vfguard-fail-closed.service 2>&1 && systemctl daemon-reload && "
                        "systemctl reset-failed")
            killed_in_freeze(machine, *unit)
            shell.until("systemctl is-failed -q vfguard.service", 120)
            is_thawed(machine)
            shell.check("rm /boot/fill; sync")
            came = reset(machine)
            rows.append(["killed while frozen", "", came])
            require(came == old, f"held on {old}, and {came} booted")
        with report.case("grub/xfs/promotion-reaches-the-disk"):
            machine.settle()
            shell.check(f"mv /root/driver.ko $(cat /root/path); depmod {new}; sync")
            answer = shell.run("vfguard reconcile", 120)
            came = reset(machine)
            rows.append(["promoted", answer.code, came])
            require(answer.code == 0 and came == new, f"exit code {answer.code}, and {came} booted: {answer.output}")
            machine.settle()
        with report.case("grub/xfs/what-cannot-be-frozen-reaches-the-disk"):
            shell.check(f"{QUIET}; {AS_A_ROOT}", 240)
            shell.check(f"mv $(cat /root/path) /root/driver.ko; depmod {new}; sync")
            answer = shell.run("vfguard reconcile", 120)
            came = reset(machine)
            rows.append(["held, not frozen", answer.code, came])
            require(answer.code == 3 and came == old, f"exit code {answer.code}, and {came} booted: {answer.output}")
            machine.settle()
            shell.check(f"{QUIET}; mount LABEL=xfsboot /srv/whole && mv /root/driver.ko $(cat /root/path); depmod {new}; sync")
            answer = shell.run("vfguard reconcile", 120)
            came = reset(machine)
            rows.append(["promoted, not frozen", answer.code, came])
            require(answer.code == 0 and came == new, f"exit code {answer.code}, and {came} booted: {answer.output}")
    payload.unlink()
    disk.unlink()
    report.say("\n/boot on XFS\n" + table(["after", "exit code", "reset boots"], rows) + "\n")


STORIES = [Story("grub/xfs", tell, long=True)]
