"""What the boot's decision takes, and that it starts no process early at boot."""

import re
from dataclasses import dataclass

from vmlab.errors import require

from .queries import CLOSED


@dataclass
class Took:
    """Milliseconds of a run: by the clock, and of the processor."""

    wall: int
    cpu: int

    def said(self):
        """For a line of the report."""
        return f"{self.wall} ms ({self.cpu} ms of CPU)"


def decided(wired):
    """What the last run of vfguard-boot.service took."""
    shown = dict(re.findall(r"(\w+)=(\S*)", wired.shell.check(
        "systemctl show vfguard-boot.service -p Result,ExecMainStatus,ExecMainStartTimestampMonotonic,ExecMainExitTimestampMonotonic,"
        "CPUUsageNSec")))
    require(shown["Result"] == "success" and shown["ExecMainStatus"] == "0", f"vfguard-boot.service: {shown}")
    wall = int(shown["ExecMainExitTimestampMonotonic"]) - int(shown["ExecMainStartTimestampMonotonic"])
    return Took(wall // 1000, int(shown["CPUUsageNSec"]) // 1000000)


def reboots(wired):
    """vfguard reboot --wait: waits for a run under way, opens what was closed by hand, and goes; the next boot decides anew."""
    shell, machine = wired.shell, wired.machine
    shell.check("vfguard gate close; (flock /run/vfguard/lock sleep 4 >/dev/null 2>&1 &); sleep 1", 60)
    require(shell.run("vfguard reboot", 60).code == 4, "it did not say that another run is at work")
    kept = "ls -l --time-style=full-iso /var/cache/vfguard"
    known = shell.check(f"vfguard check >/dev/null; sync; {kept}", 60)
    machine.allow_reboot()
    machine.forget_events()
    answer = shell.run("vfguard reboot --wait", 60)
    require(answer.code in (0, None) and machine.wait_reset(120), f"it did not reboot: {answer}")
    machine.settle()
    require(shell.run(CLOSED).code != 0, "closed after the boot, and all is safe")
    first = decided(wired)
    require(shell.check(kept) == known, "what was known about initramfs and kernel image before the boot was found out again")
    shell.check("sync; echo 3 >/proc/sys/vm/drop_caches; systemctl start vfguard-boot.service", 60)
    cold = decided(wired)
    shell.check("systemctl start vfguard-boot.service", 60)
    again = decided(wired)
    waited = shell.check("journalctl -b -o cat -u vfguard-boot.service | grep -o 'waited .*' || echo 'waited for no driver'")
    whole = shell.check("systemd-analyze | head -n 1")
    wired.subject.report.say(f"{wired.subject.name}: at boot vfguard decided in {first.said()}, {waited}; later, with nothing read "
                             f"before, in {cold.said()}, and once more in {again.said()} ({whole})")


def early(wired):
    """While logins are barred, as early in a boot, the unit starts no process where all is safe; any other run asks systemd."""
    shell = wired.shell
    forks = "/sys/fs/cgroup/system.slice/{}/pids.events"
    shell.check("touch /run/nologin; mkdir -p /run/systemd/system/vfguard-boot.service.d; printf '[Service]\\nTasksMax=1\\n"
                f"ExecStartPost=/bin/cp {forks.format('vfguard-boot.service')} /run/lab.forks\\n' "
                ">/run/systemd/system/vfguard-boot.service.d/1.conf; systemctl daemon-reload; systemctl start vfguard-boot.service", 60)
    require(shell.check("cat /run/lab.forks") == "max 0", "vfguard-boot.service tried to start a process")
    shell.check(f"systemd-run -q --wait --unit=lab-other --service-type=oneshot -p TasksMax=1 -p 'ExecStartPost=/bin/cp "
                f"{forks.format('lab-other.service')} /run/lab.forks' vfguard reconcile --no-build --from boot", 60)
    require(shell.check("cat /run/lab.forks") != "max 0", "this cannot fail: another run started no process either")
    shell.check("rm -r /run/nologin /run/systemd/system/vfguard-boot.service.d; systemctl daemon-reload")
