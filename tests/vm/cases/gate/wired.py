"""vfguard's units at work: kernels and boot entries that came through no hook, what people are told, overrides that end, and
everything that has to let go again.

The newer kernels are copies of the running one under another name, put there by cp: their modules are not built for that name.
"""

import json
import re
from pathlib import Path

from vmlab.errors import require
from vmlab.install import install_units

from . import accidents, boots
from ..boot.grub import SAVED, STOCK, predicted
from .queries import CLOSED, IDLE, NOTICED, OPEN, WATCHED
from .triggers import Trigger, UNIT, detached

GATE_CLOSED = "a004f79bec994dea9583ceb1624748e3"
OVERRIDE = "dc16ee41dd1e42cfbe6258e477083fd9"
README = Path(__file__).resolve().parents[4] / "README.md"
# Over before systemd has looked; a file that comes whole.
BRIEF = "perl -e 'open F, q(>), q(/boot/flood); close F; unlink q(/boot/flood)'"
MOVED = ": >/var/tmp/flood; mv /var/tmp/flood /boot/flood"
ENTRY = ("$(sed -n \"s/^submenu .*menuentry_id_option '\\([^']*\\)'.*/\\1/p\" /boot/grub/grub.cfg)>"
         "$(sed -n \"s/.*menuentry .*menuentry_id_option '\\(gnulinux-{}-advanced[^']*\\)'.*/\\1/p\" /boot/grub/grub.cfg)")


def terminal(file):
    """Somebody logs in at a terminal and stays; what they see is kept."""
    return (f"(sleep 1000 | setsid script -qfc 'exec login -f root' {file} >/dev/null 2>&1 &) ; "
            f"for i in $(seq 80); do grep -q . {file} && break; sleep 0.5; done; grep -q . {file}")


def copied(kernel):
    """A kernel that came by cp, without its modules' directory; its image says its name, which is as long as the other one."""
    return (f"k=$(uname -r); LC_ALL=C sed \"s/$k/{kernel}/\" /boot/vmlinuz-$k >/boot/vmlinuz-{kernel}; "
            f"cp /boot/initrd.img-$k /boot/initrd.img-{kernel}; update-grub 2>&1")


def removed(kernel):
    """The same away again."""
    return f"rm -r /lib/modules/{kernel} /boot/*-{kernel}"


class Wired:
    """The steps; each leaves the machine for the next."""

    def __init__(self, subject):
        self.subject = subject
        self.machine = subject.machine
        self.shell = subject.machine.shell
        running = self.shell.check("uname -r")
        self.second, self.third = running.replace("6.1.0", "6.9.8"), running.replace("6.1.0", "6.9.9")

    def idle(self):
        """Until nothing of vfguard's runs any more."""
        self.shell.until(IDLE, NOTICED)

    def rests(self):
        """Idle, and so it stays: nothing that a run writes starts the next one."""
        self.idle()
        before = self.starts("vfguard-watch.service")
        self.shell.run("sleep 5")
        starts = self.starts("vfguard-watch.service") - before
        require(starts == 0, f"nobody changed anything, and the watch started {starts} times more")

    def refused(self):
        """A reboot is refused, and told."""
        answer = self.shell.run("systemctl reboot", 30)
        require(answer.code == 1 and UNIT in answer.output, f"not refused: {answer}")
        require(self.machine.running() and self.shell.run("systemctl is-active canary.service").code == 0, "services were stopped")

    def starts(self, unit):
        """How often a unit was started."""
        return int(self.shell.check(f"journalctl -b -o cat -u {unit} --no-pager | grep -c '^Starting' || true"))

    def units(self):
        """Enabled as the package enables them; systemd has nothing to say against them; the boot's decision takes no time."""
        shell = self.shell
        install_units(self.machine)
        escaped = self.second.replace("-", "\\x2d")
        said = shell.check("cd /usr/lib/systemd/system && systemd-analyze verify --man=no vfguard*.service vfguard*.path vfguard*.timer "
                           f"'vfguard-kernel@{escaped}.path' 2>&1 | grep -i vfguard || true", 60)
        require(not said, f"systemd-analyze verify: {said}")
        shell.check("systemctl start vfguard-watch.path vfguard.timer vfguard-boot.service", 60)
        took = boots.decided(self)
        self.subject.report.say(f"{self.subject.name}: vfguard-boot.service, having seen nothing before, decided in {took.said()}")
        require(shell.run(CLOSED).code != 0, "closed, and all is safe")
        next_look = shell.check("systemctl list-timers --no-legend vfguard.timer")
        require("vfguard.timer" in next_look, f"the timer is not armed: {next_look}")
        # From here on only the watch may notice anything; the doctor asks systemd, and misses the timer.
        for verdict in ("ok: unit-active: vfguard.timer", "failed: unit-active: vfguard.timer is enabled and not active"):
            said = shell.run("vfguard --color never doctor", 60).output
            require(verdict in said and "ok: unit-active: vfguard-watch.path" in said, f"no {verdict!r} in {said}")
            shell.check("systemctl stop vfguard.timer")
        self.rests()

    def arrives(self):
        """A kernel by cp, through no hook: watched, judged, refused; the scheduled reboot named, all channels used."""
        shell = self.shell
        shell.check(terminal("/run/terminal"), 60)
        shell.check("shutdown -r +60 2>&1")
        shell.check(f"cp -a /lib/modules/$(uname -r) /lib/modules/{self.second}")
        shell.until(f"systemctl is-active \"vfguard-kernel@$(systemd-escape {self.second}).path\"", NOTICED)
        require(shell.run(CLOSED).code != 0, "closed on account of a kernel that nothing boots into")
        shell.check(copied(self.second), 120)
        shell.until(CLOSED, NOTICED)
        self.rests()
        self.refused()
        shown = json.loads(shell.check("vfguard --format json gate show", 30))
        require(shown["gate"] == "closed" and any(self.second in reason for reason in shown["reasons"]), f"{shown}")

    def told(self):
        """wall once, the message of the day at the next login, the journal with its id and fields."""
        shell = self.shell
        seen = shell.check("cat /run/terminal")
        require(seen.count("vfguard refuses to reboot") == 1, f"wall was used {seen.count('vfguard refuses')} times: {seen[-800:]}")
        require(self.second in seen and re.search(r"the reboot scheduled for \S+ will be refused", seen), f"the terminal shows: {seen[-800:]}")
        shell.check(terminal("/run/terminal2"), 60)
        shell.until("grep -q 'vfguard refuses to reboot' /run/terminal2", 20)
        entry = json.loads(shell.check(f"journalctl -b -o json MESSAGE_ID={GATE_CLOSED} | head -n 1"))
        require(entry["VFGUARD_GATE"] == "closed" and entry["VFGUARD_KERNEL"] == self.second and "will be refused" in entry["VFGUARD_SCHEDULED"]
                and entry["SYSLOG_IDENTIFIER"] == "vfguard" and entry["PRIORITY"] == "4", f"the journal has {entry}")
        require(shell.run("test -e /run/nologin").code != 0, "logins are barred")
        shell.check("shutdown -c 2>&1")

    def override_ends(self):
        """An override closes by itself when its time is over; the audit log and the journal know who and why."""
        shell = self.shell
        # As pam_loginuid marks the session of somebody who became root later.
        shell.check("(echo 1000 >/proc/self/loginuid; exec vfguard gate open --reason 'a test of its end' --for 12s)", 60)
        require(shell.run(CLOSED).code != 0, "the override did not open")
        line = json.loads(shell.check("tail -n 1 /var/lib/vfguard/audit.log"))
        require(line["event"] == "override" and line["uid"] == 0 and line["login_uid"] == 1000 and line["tty"] == "/dev/ttyS1"
                and line["until"], f"{line}")
        entry = json.loads(shell.check(f"journalctl -b -o json MESSAGE_ID={OVERRIDE} | tail -n 1"))
        require(entry["VFGUARD_REASON"] == "a test of its end" and entry["VFGUARD_UNTIL"] == line["until"]
                and entry["VFGUARD_LOGIN_UID"] == "1000", f"the journal has {entry}")
        shell.until(CLOSED, NOTICED)
        self.refused()

    def override_of_another(self):
        """A kernel that came after the override closes the gate again."""
        shell = self.shell
        shell.check("vfguard gate open --reason 'about what is there' --for 1h", 60)
        self.idle()
        require(shell.run(CLOSED).code != 0, "the watch ended the override")
        shell.check(f"cp -a /lib/modules/$(uname -r) /lib/modules/{self.third}; {copied(self.third)}", 120)
        shell.until(CLOSED, NOTICED)
        require(json.loads(shell.check("vfguard --format json gate show", 30))["override"] is None, "the override is still there")
        self.idle()

    def grubenv(self):
        """Nothing but what is set for one boot changes: judged, and ended; a kernel that is declined stays off, with the gate open."""
        shell = self.shell
        shell.check(f"{removed(self.third)}; update-grub 2>&1", 120)
        self.idle()
        shell.run(f"vfguard decline {self.second}", 60)
        self.idle()
        shell.until(OPEN, 20)
        shell.check(f"grub-reboot \"{ENTRY.format(self.second)}\"; grub-editenv - list | grep -q 'next_entry=.'")
        shell.until("! grub-editenv - list | grep -q 'next_entry=.'", NOTICED)
        self.idle()
        require(shell.run(CLOSED).code != 0, "refused on account of a declined kernel")
        require(self.second not in predicted(self.machine)[0], "the declined kernel boots next")
        shell.run(f"vfguard accept {self.second}", 60)
        shell.until(CLOSED, NOTICED)
        self.idle()
        require(self.second not in predicted(self.machine)[0], "the default was not held")

    def settings(self):
        """mode = observe lets go, and enforce refuses again, without a word from anybody."""
        shell = self.shell
        shell.check("mkdir -p /etc/vfguard/config.d; systemctl restart vfguard-watch.path; echo 'mode = \"observe\"' >/etc/vfguard/config.d/1.toml")
        shell.until(OPEN, NOTICED)
        require(shell.run("vfguard check", 30).code == 3, "observe makes it safe")
        require(shell.run("vfguard gate close", 30).code == 1, "observe let itself be closed")
        shell.check("rm /etc/vfguard/config.d/1.toml")
        shell.until(CLOSED, NOTICED)
        self.idle()

    def accidents(self):
        """What is full, and what hangs."""
        shell = self.shell
        shell.check("systemctl stop vfguard-watch.path vfguard.timer")
        self.idle()
        # A default that is saved can be held where there is no room for a new file.
        shell.check(SAVED, 120)
        entry = ENTRY.format(self.second)
        for name in accidents.FAULTS:
            accidents.full(self, name, entry, CLOSED)
        accidents.hangs(self, entry, CLOSED)
        shell.check(STOCK, 120)
        shell.check("systemctl start vfguard-watch.path vfguard.timer")
        self.idle()

    def hands_off(self):
        """vfguard=off (its word laid over /proc/cmdline) and rescue mode let go; on the way back it is decided anew."""
        shell = self.shell
        shell.check("sed 's/$/ vfguard=off/' /proc/cmdline >/run/cmdline; mount --bind /run/cmdline /proc/cmdline")
        done = shell.run("vfguard reconcile", 60)
        require(done.code == 0 and shell.run(CLOSED).code != 0, f"vfguard=off does not let go: {done.output}")
        shell.check("systemctl start vfguard-boot.service; umount /proc/cmdline; " + OPEN, 60)
        shell.check("systemctl isolate rescue.target", 90)
        done = shell.run("vfguard reconcile", 60)
        require("in rescue mode" in done.output and shell.run(CLOSED).code != 0, f"refused in rescue mode: {done.output}")
        shell.check("systemctl --no-block isolate multi-user.target")
        shell.until(CLOSED, NOTICED)
        shell.until("systemctl is-active canary.service vfguard-watch.path && ! systemctl list-jobs --no-legend | grep -q .", NOTICED)

    def leaves(self):
        """The kernel goes as it came: opened by itself."""
        shell = self.shell
        shell.check(f"{removed(self.second)}; update-grub 2>&1", 120)
        shell.until(OPEN, NOTICED)
        shell.until("test ! -e /run/motd.d/50-vfguard", 20)
        self.idle()

    def floods(self):
        """A burst is one run; change after change ends no watch; none is missed."""
        shell = self.shell
        before = self.starts("vfguard-watch.service")
        shell.check("for i in $(seq 300); do : >/boot/flood-$i; done; rm /boot/flood-*", 60)
        shell.until(f"test $(journalctl -b -o cat -u vfguard-watch.service | grep -c '^Starting') -gt {before}", NOTICED)
        self.idle()
        burst = self.starts("vfguard-watch.service") - before
        require(1 <= burst <= 3, f"a burst of 300 changes became {burst} runs")
        shell.check("for i in 1 2 3 4 5 6 7 8; do : >/boot/flood; sleep 2.5; done; rm /boot/flood", 60)
        shell.check("systemctl is-active vfguard-watch.path")
        for change in (BRIEF, BRIEF, MOVED):
            # systemd may not have come to the last change yet; a run for it that is under way would see the next one too.
            shell.until(f"{IDLE} && n=$({WATCHED}) && sleep 4 && [ $({WATCHED}) = $n ] && {IDLE}", NOTICED)
            before = shell.check(WATCHED)
            shell.check(change)
            shell.until(f"[ $({WATCHED}) != {before} ]", NOTICED)
        shell.check("rm /boot/flood")
        self.idle()

    def dies(self):
        """vfguard that cannot even run, early at boot: refused, by a shell; and opened again by one that runs."""
        shell = self.shell
        shell.check("printf '#!/bin/sh\\nkill -SEGV $$\\n' >/run/crash; chmod 755 /run/crash; mount --bind /run/crash /usr/bin/vfguard")
        require(shell.run("systemctl start vfguard-boot.service", 60).code != 0, "the crash went unnoticed")
        shell.until(CLOSED, NOTICED)
        self.refused()
        shell.check("umount /usr/bin/vfguard; vfguard reconcile", 60)
        require(shell.run(CLOSED).code != 0, "what the shell wrote is not cleared away")
        # It runs, and does not end in time.
        shell.check("printf '#!/bin/sh\\n[ \"$*\" = \"--no-progress gate close --undecided\" ] && exec /run/vfguard-real \"$@\"\\nexec sleep 60\\n' "
                    ">/run/slow; chmod 755 /run/slow; cp /usr/bin/vfguard /run/vfguard-real; mount --bind /run/slow /usr/bin/vfguard; "
                    "mkdir -p /run/systemd/system/vfguard-boot.service.d; printf '[Service]\\nTimeoutStartSec=3s\\n' "
                    ">/run/systemd/system/vfguard-boot.service.d/1.conf; systemctl daemon-reload")
        require(shell.run("systemctl start vfguard-boot.service", 60).code != 0, "the hang went unnoticed")
        shell.until(CLOSED, NOTICED)
        shell.check("umount /usr/bin/vfguard; rm -r /run/systemd/system/vfguard-boot.service.d; systemctl daemon-reload; "
                    "vfguard gate show | grep died; vfguard reconcile", 60)
        require(shell.run(CLOSED).code != 0, "not opened by a decision")

    def poweroff(self):
        """gate.poweroff: every way to switch off is refused too; from 257 on logind holds a block, and lets it go again."""
        shell, machine = self.shell, self.machine
        inhibited = self.subject.systemd >= NEWER
        shell.check("systemctl stop vfguard-watch.path")
        # A run that is still under way would open what is closed by hand.
        self.idle()
        if inhibited:
            self.block_covers_poweroff()
        shell.check("mkdir -p /etc/vfguard; printf '[gate]\\npoweroff = true\\n' >/etc/vfguard/config.toml; vfguard gate close", 60)
        if inhibited:
            shell.until("systemd-inhibit --list --mode=block | grep -q vfguard", 20)
        for command in ("systemctl reboot", "systemctl poweroff", "poweroff", "shutdown -h now", "halt -p", "init 0",
                        "systemctl start poweroff.target", detached("systemctl halt")):
            answer = shell.run(command, 30)
            require(answer.code == 1, f"{command}: {answer}")
        machine.qmp.human("system_powerdown")
        answer = shell.run("sleep 3; systemctl reboot", 30)
        require(answer.code == 1 and ("vfguard" in answer.output or UNIT in answer.output), f"{answer}")
        require(machine.running() and shell.run("systemctl is-active canary.service").code == 0, "services were stopped")
        shell.check("vfguard gate open --reason 'switch it off'", 60)
        if inhibited:
            require("vfguard" not in shell.check("systemd-inhibit --list"), "the block is still held")
        machine.save("opened")
        for command in ("systemctl reboot", "systemctl poweroff"):
            outcome = self.subject.fire(Trigger(command, command), stops)
            machine.load("opened")
            require(stops(outcome), f"the gate is open, and {command} gave {outcome}")
        machine.forget("opened")
        shell.check("rm /etc/vfguard/config.toml; vfguard gate close", 60)

    def block_covers_poweroff(self):
        """Why a block is held with gate.poweroff alone: logind's one lock, `shutdown`, refuses root's poweroff like a reboot."""
        shell = self.shell
        shell.check("systemd-run -q --unit=lab-block systemd-inhibit --what=shutdown --mode=block --who=lab sleep infinity")
        shell.until("systemd-inhibit --list --mode=block | grep -q lab", 20)
        for command in ("systemctl reboot", "systemctl poweroff"):
            answer = shell.run(command, 30)
            require(answer.code == 1 and "inhibited" in answer.output.lower(), f"{command} against a block of logind's: {answer}")
        shell.check("systemctl stop lab-block")

    def way_out(self):
        """The line of the README, and the removal: nothing refuses, nothing is left."""
        shell = self.shell
        line = next(text.strip() for text in README.read_text().splitlines() if text.startswith("    rm -f /run/systemd/system/VFGUARD"))
        shell.check(line, 60)
        require(shell.run(CLOSED).code != 0, "the way out is none")
        shell.until("! systemd-inhibit --list | grep -q vfguard", 20)
        shell.check("vfguard gate close; vfguard gate open --reason 'one that is still running'; vfguard gate close; "
                    "vfguard gate remove", 60)
        left = shell.check("find /run/systemd/system /run/motd.d /run/vfguard/override.json /run/vfguard/gate.json 2>/dev/null "
                           "| grep -E 'VFGUARD|50-vfguard|initctl|json' || true")
        require(not left, f"left behind: {left}")
        require("masked" not in shell.check("systemctl is-enabled systemd-initctl.socket 2>&1 || true"), "initctl stays masked")
        require("vfguard-override" not in shell.check("systemctl list-timers --all --no-legend"), "an override's timer is left")

    def reboots(self):
        """Through a real reboot, with vfguard's own command."""
        boots.reboots(self)

    def early(self):
        """As early in a boot as while logins are barred."""
        boots.early(self)


def stops(outcome):
    """The machine is on its way."""
    return outcome.canary or outcome.end.startswith("gone")


STEPS = ("units", "arrives", "told", "override_ends", "override_of_another", "grubenv", "settings", "accidents", "hands_off", "leaves", "floods", "dies",
         "poweroff", "way_out", "reboots", "early")
# What is vfguard's own and not systemd's: once is enough, on the older one.
ONCE = ("arrives", "told", "override_ends", "override_of_another", "grubenv", "settings", "accidents", "hands_off", "leaves", "floods", "dies",
        "poweroff", "way_out", "reboots")
# With --full only: the build tier plays the same on roots of its own (accidents_live, gate_live), or what it adds is little.
LONG = ("override_of_another", "accidents", "hands_off", "floods")
# The systemd of the newer guest.
NEWER = 257

# systemd 257 itself wants a second task to start a service with TasksMax=1.
OLDER = ("early",)


def wired(subject):
    """The steps, one test each; what one leaves undone makes those after it fail, and says so."""
    subject.machine.load("installed")
    subject.machine.forget("installed")
    steps = Wired(subject)
    for name in STEPS:
        if name in OLDER and subject.systemd >= NEWER:
            continue
        if (name in LONG or (name in ONCE and subject.systemd >= NEWER)) and not subject.lab.full:
            continue
        with subject.report.case(f"{subject.name}/wired/{name.replace('_', '-')}"):
            getattr(steps, name)()
