"""The power fails while the boot default is being moved: the env block and custom.cfg stay valid, and what boots is what it should be.

QEMU is killed; what the guest had not written out is lost. Two machines in one: the newer kernel loses its driver and gets it
back, again and again, and vfguard holds and promotes each time.
"""

import random
import re
import time

from vmlab.errors import LabError, require
from vmlab.install import install, install_units
from vmlab.report import table

from .. import Story
from .grub import SAVED, booted

NIC = ("-netdev", "user,id=n0,restrict=on", "-device", "e1000e,netdev=n0")
CUTS, CUTS_FULL = 1, 50
MARKER_SECONDS = 240
WHOLE = ("test $(wc -c </boot/grub/grubenv) -eq 1024 && grub-editenv /boot/grub/grubenv list && "
         "{ ! test -e /boot/grub/custom.cfg || { cat /boot/grub/custom.cfg; grub-script-check /boot/grub/custom.cfg; }; }")
# A driver in use that the newer kernel lacks for a while. What is finished is said on the console, which outlives the cut.
MOVER = """#!/bin/sh
driver=$(find /lib/modules/{new}/kernel -name 'e1000e.ko*')
[ -n "$driver" ] || {{ driver=$(cat /root/driver.path); mv /root/driver.ko "$driver"; }}
echo "$driver" >/root/driver.path
depmod {new}; sync
while :; do
    mv "$driver" /root/driver.ko; depmod {new}; sync; echo MARK-BREAKING >/dev/ttyS0
    vfguard reconcile >/root/held.log 2>&1; echo "MARK-HELD $?" >/dev/ttyS0; sleep 1
    mv /root/driver.ko "$driver"; depmod {new}; sync; echo MARK-MENDED >/dev/ttyS0
    vfguard reconcile >/root/promoted.log 2>&1; echo "MARK-PROMOTED $?" >/dev/ttyS0; sleep 1
done
"""
# After which marker which kernels may boot: while the default is being moved, either end is whole.
MARK = re.compile(r"MARK-(\w+)(?: (\d+))?")


def wait_mark(machine, seen, name):
    """Waits for a marker; returns its exit code, where it has one."""
    deadline = time.monotonic() + MARKER_SECONDS
    while time.monotonic() < deadline:
        for found, code in MARK.findall(machine.console()[seen:]):
            if found == name:
                return code
        time.sleep(0.05)
    raise LabError(f"the mover did not get to {name}: {machine.console()[seen:][-300:]}")


def start_mover(machine):
    """Starts the mover; returns where its output begins."""
    seen = len(machine.console())
    machine.shell.check("setsid /root/mover </dev/null >/dev/null 2>&1 & true")
    return seen


def tell(lab, report):
    """Moves once undisturbed, and then cuts the power at random moments."""
    old, new = lab.kernels()
    disk = lab.payload("powercut", lab.guest_files())
    rng = random.Random()
    rows = []
    with lab.machine("two-kernels", direct=False, payload=disk, network=NIC) as machine:
        machine.settle()
        install(machine)
        install_units(machine)
        machine.shell.check("cat >/root/mover <<'MOVER'\n" + MOVER.format(new=new) + "MOVER\nchmod +x /root/mover; sync")
        # In use means: on the older kernel, with the driver bound.
        machine.shell.check(f"id=$(sed -n \"s/.*menuentry .*menuentry_id_option '\\(gnulinux-{old}-advanced[^']*\\)'.*/\\1/p\" /boot/grub/grub.cfg); "
                            "sub=$(sed -n \"s/^submenu .*menuentry_id_option '\\([^']*\\)'.*/\\1/p\" /boot/grub/grub.cfg); "
                            "grub-reboot \"$sub>$id\"; sync")
        machine.hard_reset()
        machine.settle()
        with report.case("powercut/moves-undisturbed"):
            require(machine.shell.check("uname -r") == old, "the older kernel does not run")
            seen = start_mover(machine)
            for mark, code, claim in (("HELD", "3", "a kernel without the NIC's driver is unsafe"),
                                      ("PROMOTED", "0", "a mended kernel is safe")):
                found = wait_mark(machine, seen, mark)
                require(found == code, f"{claim}: exit code {found}: {machine.shell.run(f'cat /root/{mark.lower()}.log').output}")
        cuts = CUTS_FULL if lab.full else CUTS
        for number in range(cuts):
            # First as the distribution ships it, held by custom.cfg; then with a default that is saved.
            if number == max(1, cuts * 2 // 3):
                machine.shell.check(f"{SAVED}; sync", 120)
            with report.case(f"powercut/{number + 1}"):
                rows.append(cut(machine, rng, old, new))
    disk.unlink()
    report.say("\npower cuts\n" + table(["last finished", "after", "booted", "held or saved entry"], rows) + "\n")


def cut(machine, rng, old, new):
    """One power cut, while a move is under way or just after; then the next boot."""
    seen = start_mover(machine)
    begun = rng.choice(["BREAKING", "MENDED"])
    wait_mark(machine, seen, begun)
    delay = rng.uniform(0, 1.5)
    time.sleep(delay)
    machine.kill()
    marks = MARK.findall(machine.console()[seen:])
    last = marks[-1][0]
    # QEMU begins the console's log anew.
    machine.restart()
    came = booted(machine, 0)
    machine.settle()
    answer = machine.shell.run(WHOLE)
    require(answer.code == 0, f"the env block or custom.cfg is damaged after a cut {delay:.2f} s after {begun}: {answer.output}")
    allowed = {"HELD": [old], "PROMOTED": [new]}.get(last, [old, new])
    require(came in allowed, f"after {last} and a cut, {came} booted: {answer.output}")
    # The next round starts from the older kernel, held there.
    if came != old:
        machine.shell.check(f"grub-reboot \"$(sed -n \"s/^submenu .*menuentry_id_option '\\([^']*\\)'.*/\\1/p\" /boot/grub/grub.cfg)>"
                            f"$(sed -n \"s/.*menuentry .*menuentry_id_option '\\(gnulinux-{old}-advanced[^']*\\)'.*/\\1/p\" /boot/grub/grub.cfg)\"; sync")
        machine.hard_reset()
        machine.settle()
    named = re.search(r"(?:saved_entry|set default)=(.+)", answer.output)
    return [last, f"{begun} + {delay:.2f} s", came, named.group(1)[-60:] if named else "-"]


STORIES = [Story("powercut", tell, long=True)]
