"""The boot default is held on a machine as Debian ships it: `set default="0"` in grub.cfg, which obeys no saved entry.

Two kernels; the newer one loses the driver of the network device in use and gets it back. Nothing is left to the guest's shutdown: reset is
pressed in the moment in which vfguard ends, with nothing synced by anybody else.
"""

from vmlab.errors import require
from vmlab.install import install
from vmlab.report import table

from .. import Story
from .grub import booted, entries, predicted, reset

NIC = ("-netdev", "user,id=n0,restrict=on", "-device", "e1000e,netdev=n0")
CUSTOM = "/boot/grub/custom.cfg"
OWN = "set lab_own=1"           # an administrator's own line


class Guest:
    """The machine, on the older kernel, whose driver the newer one has or lacks."""

    def __init__(self, machine, old, new):
        self.machine = machine
        self.old, self.new = old, new

    @property
    def shell(self):
        """Another one after each time that the machine was switched off."""
        return self.machine.shell

    def breaks(self):
        """The newer kernel lacks the driver; held when this returns."""
        self.shell.check(f"driver=$(find /lib/modules/{self.new}/kernel -name 'e1000e.ko*'); echo $driver >/root/path; "
                         f"mv $driver /root/driver.ko; depmod {self.new}; sync")
        answer = self.shell.run("vfguard reconcile", 120)
        require(answer.code == 3, f"a kernel without the NIC's driver: exit code {answer.code}: {answer.output}")
        require("not held" not in answer.output, f"it says that it does not hold: {answer.output}")

    def mended(self):
        """It has it again; promoted when this returns."""
        self.shell.check(f"mv /root/driver.ko $(cat /root/path); depmod {self.new}; sync")
        answer = self.shell.run("vfguard reconcile", 120)
        require(answer.code == 0, f"a mended kernel: exit code {answer.code}: {answer.output}")

    def boots(self, kernel, how=reset):
        """Which kernel comes is as predicted, and the one that is wanted."""
        foretold = predicted(self.machine)
        came = how(self.machine)
        require(came == kernel and foretold[0][0] == kernel, f"predicted {foretold}, booted {came}, and it should be {kernel}")
        self.machine.settle()
        return came


def forced(machine):
    """`reboot -f`, which no gate stops."""
    machine.allow_reboot()
    machine.forget_events()
    seen = len(machine.console())
    machine.shell.run("reboot -f", 5)
    require(machine.wait_reset(60), "reboot -f did not reboot")
    return booted(machine, seen)


def tell(lab, report):
    """Held, in between the menu made anew and a one-shot, and promoted; again with an administrator's own custom.cfg."""
    old, new = lab.kernels()
    payload = lab.payload("stock", lab.guest_files())
    rows = []
    with lab.machine("two-kernels", direct=False, payload=payload, network=NIC) as machine:
        shell = machine.shell
        machine.settle()
        install(machine)
        guest = Guest(machine, old, new)
        with report.case("grub/stock/as-shipped"):
            shell.check("grep -qx 'GRUB_DEFAULT=0' /etc/default/grub && grep -q '^ *set default=\"0\"' /boot/grub/grub.cfg && "
                        f"! test -e {CUSTOM}")
            shell.check(f"grub-reboot '{entries(machine, [old, new])[old]}'; sync")
            guest.boots(old)
            before = shell.check("sha256sum /boot/grub/grub.cfg /etc/default/grub")
        with report.case("grub/stock/hold-reaches-the-disk"):
            guest.breaks()
            rows.append(["held, reset at once", guest.boots(old)])
            shell.check(f"grub-script-check {CUSTOM}")
        with report.case("grub/stock/held-through-reboot-f"):
            rows.append(["held, reboot -f", guest.boots(old, forced)])
        with report.case("grub/stock/held-through-grub-mkconfig"):
            shell.check("update-grub 2>&1 && sync", 120)
            rows.append(["held, update-grub", guest.boots(old)])
        with report.case("grub/stock/one-shot-goes-first-and-once"):
            shell.check(f"grub-reboot '{entries(machine, [old, new])[new]}'; sync")
            rows.append(["held, grub-reboot", guest.boots(new)])
            rows.append(["and after it", guest.boots(old)])
        with report.case("grub/stock/promotion-reaches-the-disk"):
            guest.mended()
            require(shell.run(f"test -e {CUSTOM}").code != 0, f"{CUSTOM} stays after the hold")
            require(shell.check("sha256sum /boot/grub/grub.cfg /etc/default/grub") == before, "the configuration is not what it was")
            rows.append(["promoted, reset at once", guest.boots(new)])
        if lab.full:
            own_lines(guest, report, rows)
    payload.unlink()
    report.say("\nstock configuration\n" + table(["after", "booted"], rows) + "\n")


def own_lines(guest, report, rows):
    """An administrator's own custom.cfg is kept around the hold."""
    machine, shell, old, new = guest.machine, guest.shell, guest.old, guest.new
    with report.case("grub/stock/an-administrators-own-lines-stay"):
        shell.check(f"grub-reboot '{entries(machine, [old, new])[old]}'; echo '{OWN}' >{CUSTOM}; sync")
        guest.boots(old)
        guest.breaks()
        shell.check(f"grep -qx '{OWN}' {CUSTOM}")
        rows.append(["held beside own lines", guest.boots(old)])
        guest.mended()
        require(shell.check(f"cat {CUSTOM}") == OWN, f"{CUSTOM} is not what it was")


STORIES = [Story("grub/stock", tell)]
