"""The package is removed while vfguard is at work: nothing of it may close the gate afterwards."""

from vmlab.errors import require

from .accidents import waiting
from .queries import CLOSED, OPEN

# Another compiler: worth another build, which does not end.
SLOW = "printf '#!/bin/sh\\nexec sleep 8177\\n' | tee /usr/local/bin/gcc-12 >/usr/bin/gcc-12"
FAILS = "printf '#!/bin/sh\\necho no compiler today >&2; exit 1\\n' | tee /usr/local/bin/gcc-12 >/usr/bin/gcc-12"
# What ends without a decision closes the gate some seconds later.
SECONDS = 8
LEFT = ("systemctl list-units --all --plain --no-legend 'vfguard*' | grep -E ' (active|activating|deactivating|reloading|failed) '; "
        "systemctl list-jobs --no-legend | grep vfguard; find /run/systemd/system /run/systemd/transient -iname '*vfguard*' 2>/dev/null; true")


def packaged(story):
    """vfguard as the package brings it, in the middle of a build."""
    machine, shell = story.machine, story.shell
    machine.load("refused")
    machine.allow_reboot(False)
    shell.check("dpkg --force-confnew --install /lab/story/vfguard.deb 2>&1", 300)
    shell.check(CLOSED)
    shell.check(f"{SLOW}; systemctl --no-block start vfguard.service")
    shell.until(f"[ -n \"$({waiting(8177)})\" ]", 120)
    machine.save("packaged")


def removed(story, *before):
    """Removed after these commands: the gate is open for good, and a reboot works."""
    machine, shell = story.machine, story.shell
    machine.load("packaged")
    for command in before:
        shell.check(command, 60)
    done = shell.run("dpkg --remove vfguard 2>&1", 300)
    require(done.code == 0, f"dpkg ended with {done.code}: {done.output[-600:]}")
    for seconds in (0, SECONDS):
        shell.run(f"sleep {seconds}")
        left = shell.check(LEFT)
        require(not left, f"{seconds} s after the removal there is {left}; dpkg said {done.output[-600:]}")
        require(shell.run(OPEN).code == 0, f"the gate is closed {seconds} s after the removal")
    answer = shell.run("systemctl reboot", 60)
    require(answer.code in (0, None) and machine.wait_stopped(60), f"the package is gone, and a reboot gives {answer}")


def building(story):
    """In the middle of a build, with the gate closed."""
    packaged(story)
    removed(story)


def overridden(story):
    """And with an override that ends meanwhile, and a watch that has just been started."""
    removed(story, f"vfguard gate open --reason 'it goes away' --for {SECONDS}s; {OPEN}; systemctl list-timers --all | grep vfguard-override",
            ": >/boot/flood; rm /boot/flood")
