"""What a build may take of the machine where systemd runs: each of its programs is in a scope of its own, whose memory is bounded."""

import re

from vmlab.errors import require

from .accidents import waiting

SECONDS = 300       # for a small build in TCG, on a host that has more to do
SOURCE = "/var/tmp/bounds"
SCOPES = "systemctl list-units --all --plain --no-legend 'vfguard-build*'"
SHOWN = ("MemoryMax", "MemorySwapMax", "TasksMax", "CPUWeight", "IOWeight")


def prepare(shell, script):
    """Lays out a source whose makefile runs a script; the command that builds it for the running kernel."""
    shell.check(f"mkdir -p {SOURCE}/ixgbevf-1.0/src && cd {SOURCE} && printf 'default:\\n\\t@sh ./script.sh\\n' >ixgbevf-1.0/src/Makefile && "
                f"cat >ixgbevf-1.0/src/script.sh <<'END'\n{script}\nEND\ntar -czf source.tar.gz ixgbevf-1.0; cd /")
    digest = shell.check(f"sha256sum {SOURCE}/source.tar.gz").split()[0]
    return f"vfguard --no-progress prepare $(uname -r) --driver ixgbevf --jobs 1 --source {SOURCE}/source.tar.gz --sha256 {digest}"


def is_gone(shell):
    """No scope of a build is left, nor remembered as failed."""
    shell.until(f"[ -z \"$({SCOPES})\" ]", 20)
    require("vfguard-build" not in shell.check("systemctl --failed --plain --no-legend || true"), "a scope is left as failed")


def starved(shell):
    """A hoard of memory by many small processes ends with the scope's own memory, and is told."""
    hoard = "for i in 1 2 3 4 5; do perl -e '$x = q(x) x (100 << 20); sleep 5' & done; wait; exit 1"
    answer = shell.run(prepare(shell, f"cat /proc/self/cgroup\n{hoard}") + " 2>&1", SECONDS)
    log = shell.check("cat /var/lib/vfguard/log/*ixgbevf-1.0*")
    require(re.search(r"^0::/system.slice/vfguard-build-\d+\.scope$", log, re.MULTILINE), f"the build is in no scope: {log} | {answer}")
    require(answer.code == 1 and re.search(r"killed for want of memory; a build may have \d+ MB of memory", answer.output),
            f"it is not told: {answer} | {log}")
    require("in memory; " in log and "by a cgroup" in log, f"the bounds are not in the log: {log}")
    is_gone(shell)


def shown(shell):
    """What the scope is made with, and that it goes with a vfguard that is killed."""
    shell.check(f"({prepare(shell, 'sleep 8178')} >/dev/null 2>&1 &)")
    shell.until(f"[ -n \"$({waiting(8178)})\" ]", SECONDS)
    unit = shell.check(f"{SCOPES} | cut -d' ' -f1")
    values = dict(line.split("=", 1) for line in shell.check(f"systemctl show -p {','.join(SHOWN)} {unit}").splitlines())
    total = int(shell.check("sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo")) << 10
    require(total // 2 < int(values["MemoryMax"]) <= total // 4 * 3, f"of {total} bytes: {values}")
    require(values["CPUWeight"] == values["IOWeight"] == "50" and values["MemorySwapMax"].isdigit() and values["TasksMax"].isdigit(), f"{values}")
    said = shell.run("vfguard -v doctor", 60).output
    require("bounds: a build gets at most " in said and "by a cgroup" in said, f"doctor says {said}")
    shell.check("for p in /proc/[0-9]*; do case $(tr '\\0' ' ' <$p/cmdline 2>/dev/null) in 'vfguard '*prepare*) kill -9 ${p#/proc/} ;; esac; done")
    shell.until(f"[ -z \"$({waiting(8178)})\" ]", 20)
    is_gone(shell)


def bounded(shell):
    """Both, and nothing left for the next step."""
    starved(shell)
    shown(shell)
    shell.check(f"rm -r {SOURCE} /var/lib/vfguard/log/*ixgbevf-1.0*")
