"""The VF of a held machine goes and comes, at boot and later: a device that is absent for a moment proves nothing."""

import json

from vmlab.errors import require

from ..boot.grub import predicted
from ..gate.queries import CLOSED, IDLE, NOTICED, WATCHED

WORKED = 300        # seconds, in TCG, for a build that fails


def events(shell):
    """The audit log, oldest first."""
    return [json.loads(line) for line in shell.check("cat /var/lib/vfguard/audit.log").splitlines()]


def late(story):
    """From the next boot on the VF comes after vfguard has decided."""
    story.shell.check("sed -i 's/ vfguard-boot.service$//; /^Before=/a After=vfguard-boot.service' /etc/systemd/system/fakehv.service; "
                      "systemctl daemon-reload")


def came_late(story):
    """Whether it did."""
    order = story.shell.check("systemctl show --value -p ExecMainExitTimestampMonotonic vfguard-boot.service; "
                              "systemctl show --value -p ExecMainStartTimestampMonotonic fakehv.service").split()
    require(0 < int(order[0]) <= int(order[1]), f"the VF was there when vfguard decided: {order}")


def stays(story, log, when):
    """Closed, and held on the older kernel, and never let go since the log had so many lines."""
    shell = story.shell
    shell.until(IDLE, WORKED)
    moved = [event for event in events(shell)[log:] if event["event"] == "boot-default" and event["kernel"] != story.old]
    require(not moved, f"{when}: the default was moved: {moved}")
    require(predicted(story.machine) == ([story.old] * 2, True), f"{when}: next boots {predicted(story.machine)}")
    require(shell.run(CLOSED).code == 0, f"{when}: the gate is open")
    checked = shell.run("vfguard check", 60)
    require(checked.code == 3, f"{when}: check gives {checked}")
    answer = shell.run("systemctl reboot", 20)
    require(answer.code not in (0, None), f"{when}: a reboot is not refused: {answer}")


def unplugged(story):
    """Taken away while the machine runs: nothing is let go, by whatever run; when it is back, the watch is started and looks."""
    shell = story.shell
    log = len(events(shell))
    shell.check("fakehv unplug; test -z \"$(ls -d /sys/bus/pci/devices/*/physfn)\" 2>/dev/null", 60)
    stays(story, log, "unplugged")
    for run in ("vfguard reconcile --no-build", "vfguard reconcile"):
        done = shell.run(run, 120)
        require(done.code == 3, f"{run} without the VF: {done}")
        stays(story, log, f"after {run}")
    shell.check("systemctl start vfguard-boot.service", 60)
    stays(story, log, "after the boot's unit")
    before = shell.check(WATCHED)
    shell.check("fakehv", 60)
    shell.until(f"[ $({WATCHED}) != {before} ]", NOTICED)
    stays(story, log, "plugged in again")
    require(shell.run("systemctl restart netup.service; ip -br address | grep 'UP.* 10.0.2.15/24'", 60).code == 0, "the VF does not work")
