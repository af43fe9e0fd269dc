"""An offline update reboots the machine itself; refusing that would strand it between two worlds."""

import time

from vmlab.errors import require
from vmlab.install import install, install_hooks, install_units

from .. import Story
from ..gate.triggers import REFUSED, UNIT

UPDATE_SECONDS = 240
REQUIRED = "mkdir -p /etc/vfguard; printf '[drivers]\\nrequired = [\"ixgbevf\"]\\n' >/etc/vfguard/config.toml"


def tell(lab, report):
    """Normal boot with an unsafe kernel: gate closed. Offline update with it: its own reboot goes through. Normal again: closed."""
    here = lab.project / "tests/vm/payload"
    disk = lab.payload("offline", {**lab.guest_files(), "story": here})
    with lab.machine("two-kernels", direct=False, payload=disk) as machine:
        machine.settle()
        shell = machine.shell
        with report.case("offline/prepared-and-closed"):
            install(machine)
            install_units(machine)
            install_hooks(machine)
            shell.check(REQUIRED)
            shell.run("vfguard reconcile --from test", 120)
            shown = shell.check("systemctl show -p Requires reboot.target")
            require(UNIT in shown, f"a kernel without its required driver did not close the gate: {shown}")
        shell.check("install -m 755 /lab/story/offline-update /usr/local/sbin/; install -m 644 /lab/story/offline-update.service "
                    "/etc/systemd/system/; mkdir -p /etc/systemd/system/system-update.target.wants /var/lib/system-update; "
                    "ln -s ../offline-update.service /etc/systemd/system/system-update.target.wants/; "
                    "ln -s /var/lib/system-update /system-update; sync")
        with report.case("offline/its-own-reboot-goes-through"):
            seen = len(machine.console())
            machine.hard_reset()
            # The firmware may reset the machine once more by itself: only what follows the update's start is the update's.
            deadline = time.monotonic() + UPDATE_SECONDS
            while "OFFLINE-STARTED" not in machine.console()[seen:] and time.monotonic() < deadline:
                time.sleep(0.2)
            machine.forget_events()
            came = machine.wait_reset(UPDATE_SECONDS)
            said = machine.console()[seen:]
            require("OFFLINE-STARTED" in said, f"the offline update did not run: {said[-400:]}")
            told = said[said.index("OFFLINE-STARTED"):]
            require("OFFLINE-RECONCILED" in told, f"vfguard did not end: {told[-400:]}")
            require(came, f"the offline update's reboot was refused: {told[-600:]}")
        with report.case("offline/closed-again-afterwards"):
            machine.settle()
            answer = shell.run(REFUSED[0].command, 20)
            require(answer.code not in (0, None) and machine.running(), f"the unsafe kernel could be rebooted into: {answer}")
    disk.unlink()


STORIES = [Story("offline", tell)]
