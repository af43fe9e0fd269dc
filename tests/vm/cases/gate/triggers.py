"""The ways to reboot a machine, and what a closed gate has to make of each.

`refused` is the promise; the ways that pass are those which the manual says pass. Exit codes were measured on systemd
252 and 257; None where the one who asks gets no answer (a key, a signal, a job that runs later).
"""

from dataclasses import dataclass
from typing import Optional

UNIT = "VFGUARD_blocks_reboot__run_vfguard_status.service"
LOGIND = "busctl call org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager"
MANAGER = "busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager"
LOAD_KEXEC = "kexec -l /boot/vmlinuz-$(uname -r) --initrd=/boot/initrd.img-$(uname -r) --reuse-cmdline"


@dataclass
class Trigger:
    """One way to reboot; `monitor` is a line for QEMU instead of a command for the shell."""

    name: str
    command: str = ""
    monitor: str = ""
    code: Optional[int] = 1
    told: bool = True               # the answer names the unit, and so says why
    later: bool = False             # nothing has happened yet when the command returns
    since: int = 0                  # the systemd that has this way
    sample: bool = False            # also tried with the gate open in the default run
    always: bool = False            # where the gate lets it pass: also without --full
    seconds: int = 30
    named: str = ""                 # as the README spells a way that passes


def detached(command):
    """Runs a command as a job would: no terminal, no session."""
    return f"setsid -w sh -c {quote(command)} </dev/null >/run/lab.out 2>&1; r=$?; cat /run/lab.out; (exit $r)"


def quote(text):
    """Quotes for a POSIX shell."""
    return "'" + text.replace("'", "'\\''") + "'"


def unit(name, lines):
    """A unit made on the spot and started."""
    body = "\\n".join(["[Unit]", *lines, "[Service]", "Type=oneshot", "ExecStart=/bin/false"])
    return f"printf '{body}\\n' >/run/systemd/system/{name}.service; systemctl daemon-reload; systemctl start {name}"


SCHEDULED = ("r=0; {}; r=$?; test -e /run/systemd/shutdown/scheduled && echo SCHEDULED; date -s '+70 sec' >/dev/null; "
             "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do test -e /run/systemd/shutdown/scheduled || break; sleep 1; done; (exit $r)")

REFUSED = [
    Trigger("systemctl reboot", "systemctl reboot", sample=True, always=True),
    Trigger("systemctl reboot (no tty)", detached("systemctl reboot")),
    Trigger("reboot", "reboot", told=False, sample=True),
    Trigger("reboot (no tty)", detached("reboot"), told=False),
    Trigger("shutdown -r now", "shutdown -r now", told=False, sample=True),
    Trigger("shutdown -r now (no tty)", detached("shutdown -r now"), told=False),
    Trigger("shutdown -r +1", SCHEDULED.format("shutdown -r +1"), code=0, told=False, later=True, seconds=60),
    Trigger("shutdown -r +1 (no tty)", SCHEDULED.format(detached("shutdown -r +1")), code=0, told=False, later=True, seconds=60),
    Trigger("init 6", "init 6", told=False, sample=True),
    Trigger("init 6 (no tty)", detached("init 6"), told=False),
    Trigger("telinit 6", "telinit 6", told=False),
    Trigger("telinit 6 (no tty)", detached("telinit 6"), told=False),
    Trigger("/run/initctl written to", "printf '\\x69\\x19\\x09\\x03\\x01\\0\\0\\0\\x36\\0\\0\\0\\0\\0\\0\\0' >/run/lab.init; truncate -s 384 "
            "/run/lab.init; test ! -p /run/initctl || timeout 2 dd if=/run/lab.init of=/run/initctl oflag=nonblock conv=notrunc "
            "2>/dev/null; true", code=0, told=False, later=True),
    Trigger("systemctl isolate reboot.target", "systemctl isolate reboot.target"),
    Trigger("systemctl start reboot.target", "systemctl start reboot.target", sample=True),
    Trigger("systemctl start --job-mode=flush", "systemctl start --job-mode=flush reboot.target"),
    Trigger("systemctl start runlevel6.target", "systemctl start runlevel6.target"),
    Trigger("systemctl start systemd-reboot.service", "systemctl start systemd-reboot.service"),
    Trigger("systemctl start ctrl-alt-del.target", "systemctl start ctrl-alt-del.target"),
    Trigger("systemctl reboot -i", "systemctl reboot -i"),
    Trigger("systemctl reboot --no-wall", "systemctl --no-wall reboot"),
    Trigger("systemctl reboot --no-block", "systemctl --no-block reboot"),
    Trigger("systemctl reboot --when", SCHEDULED.format("systemctl reboot --when=+60s"), code=0, told=False, later=True, since=254,
            seconds=60),
    Trigger("logind Reboot", f"{LOGIND} Reboot b false"),
    Trigger("logind Reboot, interactive", f"{LOGIND} Reboot b true"),
    Trigger("systemd StartUnit", f"{MANAGER} StartUnit ss reboot.target replace-irreversibly", sample=True, always=True),
    Trigger("a service calls systemctl reboot", "systemd-run -q --wait systemctl reboot", told=False),
    Trigger("a timer calls shutdown -r", "systemd-run -q --on-active=1 shutdown -r now", code=0, told=False, later=True),
    Trigger("a unit with FailureAction=reboot", unit("lab-fails", ["FailureAction=reboot"]), told=False, later=True),
    Trigger("Ctrl-Alt-Del on the keyboard", monitor="sendkey ctrl-alt-delete", code=None, told=False, later=True, sample=True),
    Trigger("kill -INT 1", "kill -INT 1", code=0, told=False, later=True),
    Trigger("kill -RTMIN+5 1", "kill -RTMIN+5 1", code=0, told=False, later=True, sample=True),
    Trigger("systemctl kexec", f"{LOAD_KEXEC}; systemctl kexec", seconds=60),
    Trigger("systemctl start kexec.target", f"{LOAD_KEXEC}; systemctl start kexec.target", seconds=60),
    Trigger("systemctl start systemd-kexec.service", "systemctl start systemd-kexec.service", seconds=60),
    Trigger("kill -RTMIN+6 1 (kexec)", f"{LOAD_KEXEC}; kill -RTMIN+6 1", code=0, told=False, later=True, seconds=60),
    Trigger("systemctl soft-reboot", "systemctl soft-reboot", since=254),
    Trigger("systemctl start systemd-soft-reboot.service", "systemctl start systemd-soft-reboot.service", since=254),
    Trigger("kill -RTMIN+7 1 (soft-reboot)", "kill -RTMIN+7 1", code=0, told=False, later=True, since=254),
]

# What no gate inside the machine can stop, or is not meant to; the README names each.
PASSES = [
    Trigger("systemctl reboot --force", "systemctl reboot --force", always=True, named="`systemctl reboot --force`"),
    Trigger("reboot -f", "reboot -f", named="`reboot -f`"),
    Trigger("systemctl reboot -ff", "systemctl reboot -ff", named="`-ff`"),
    Trigger("kill -RTMIN+15 1", "kill -RTMIN+15 1", named="SIGRTMIN+15"),
    Trigger("systemd Reboot over D-Bus", f"{MANAGER} Reboot", always=True, named="systemd's own `Reboot` over D-Bus"),
    Trigger("a unit with FailureAction=reboot-force", unit("lab-fails", ["FailureAction=reboot-force"]), named="`FailureAction=reboot-force`"),
    Trigger("kexec -e", f"{LOAD_KEXEC}; sync; (sleep 1; kexec -e) >/dev/null 2>&1 &", seconds=60, named="`kexec -e`"),
    Trigger("sysrq b", "echo 1 >/proc/sys/kernel/sysrq; echo b >/proc/sysrq-trigger", named="sysrq"),
    Trigger("the hypervisor's reset", monitor="system_reset", named="reset by the hypervisor"),
    Trigger("systemctl poweroff", "systemctl poweroff", seconds=60, always=True, named="`systemctl poweroff`"),
    Trigger("halt -p", "halt -p", seconds=60, named="`halt -p`"),
    Trigger("the power button", monitor="system_powerdown", seconds=60, named="the power button"),
]
