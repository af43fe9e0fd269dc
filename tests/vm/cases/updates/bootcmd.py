"""A kernel's hook that runs within the boot, before sysinit.target and network-online.target, as cloud-init's bootcmd does on Debian: it may
wait for the worker, and neither may wait for the other for ever."""

from vmlab.errors import require

from ..boot.grub import reset
from ..gate.accidents import waiting
from ..gate.removal import FAILS, SLOW
from .hotplug import stays

BUDGET = 15         # seconds that a hook may take here (hook.budget)
SECONDS = 60        # past them: to judge, to close and to hold, in TCG, early in a boot
UNIT = ("[Unit]\\nDefaultDependencies=no\\nAfter=local-fs.target\\nBefore=sysinit.target network-online.target\\n"
        "[Service]\\nType=oneshot\\nTimeoutSec=0\\nExecStart=/etc/kernel/postinst.d/zzz-vfguard\\n[Install]\\nWantedBy=multi-user.target\\n")


def within_the_boot(story):
    """The driver is worth another build, and the hook asks for it: the build begins, the hook ends within its bound, and the boot goes on."""
    machine, shell = story.machine, story.shell
    machine.load("refused")
    shell.check(SLOW)
    shell.check(f"mkdir -p /etc/vfguard/config.d && printf '[hook]\\nbudget = {BUDGET}\\n' >/etc/vfguard/config.d/lab.toml && "
                f"printf '{UNIT}' >/etc/systemd/system/lab-bootcmd.service && systemctl enable lab-bootcmd.service 2>&1 && sync")
    require(reset(machine) == story.old, "the held kernel did not boot")
    machine.wait_shell()
    said = "journalctl -b -o short-monotonic --no-pager -u lab-bootcmd -u vfguard.service | tail -n 30"
    # The worker is at work in any case: is-system-running --wait would wait for it.
    reached = shell.run("(for i in $(seq 90); do systemctl is-active multi-user.target canary.service && exit; sleep 1; done; exit 1)", 240)
    require(reached.code == 0, f"the boot does not go on: {shell.run('systemctl list-jobs; ' + said).output}")
    first, last = sorted(int(line) for line in shell.check(
        "systemctl show --value -p ExecMainStartTimestampMonotonic -p ExecMainExitTimestampMonotonic lab-bootcmd").split())
    require(0 < first and (last - first) / 1e6 < BUDGET + SECONDS, f"the hook ran from {first} to {last}: {shell.check(said)}")
    require(shell.check(waiting(8177)), f"no build began: {shell.check(said)}")
    # The VF has come meanwhile, and the watch looks again: it finds a compiler that fails.
    shell.check(f"{FAILS}; systemctl stop vfguard.service", 90)
    stays(story, 0, "after the boot")
