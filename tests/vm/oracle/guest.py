"""Asks a real kernel: a guest that is nothing but an initramfs, which loads one module after the other and says what came.

It has kmod's own insmod. A module that the guest dies of, or that cannot be removed again, ends that boot; the next boot
goes on behind it.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from vmlab.errors import LabError
from vmlab.host import QEMU

STALL_SECONDS = 60      # a boot in TCG takes ten, a module a fraction of one
BOOTS = 60              # each ends at one module at the latest; more than this many killers means that the lab is broken
INIT = """#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc; $B mount -t sysfs sys /sys; $B mount -t devtmpfs dev /dev
exec >/dev/ttyS1 2>&1
$B stty -F /dev/ttyS1 -opost
for word in $($B cat /proc/cmdline); do case $word in lab.from=*) from=${word#lab.from=};; esac; done
while read -r number file before; do
    [ "$number" -ge "$from" ] || continue
    echo "START $number"
    for first in $before; do /bin/insmod /m/$first; done
    $B dmesg -c >/dev/null
    module=/m/$file
    # Debian's kmod is built without zlib, the EL family's with it: here busybox stands in.
    case $file in packed-gz* | packed-twice* | packed-empty*)
        $B zcat <"$module" >/unpacked.ko 2>/dev/null && module=/unpacked.ko || module=/no-gzip ;;
    esac
    said=$(/bin/insmod "$module" 2>&1); code=$?
    echo "RESULT $number $code ${said##*: } ## $($B dmesg | $B sed 's/^\\[[^]]*\\] //' | $B grep -v 'taint' | $B tail -n 20 | $B tr '\\n' '\\t')"
    for i in 1 2 3; do
        while read -r name rest; do $B rmmod "$name"; done </proc/modules
        [ -s /proc/modules ] || break
    done
    if [ -s /proc/modules ]; then echo "STUCK $number"; $B poweroff -f; fi
done </list
echo FINISHED
$B poweroff -f
"""


@dataclass
class Heard:
    """The kernel's answer to one module."""

    loaded: bool
    error: str = ""
    log: str = ""       # the kernel's lines, but for those on taints


class Oracle:
    """One kernel and the modules to show it."""

    def __init__(self, directory, image, accel, variants, built):
        self.directory = Path(directory)
        self.image = image
        self.accel = accel
        self.variants = variants
        self.initrd = self.directory / "oracle.cpio"
        self._pack(built)

    def _pack(self, built):
        tree = self.directory / "initramfs"
        for name in ("bin", "m", "proc", "sys", "dev"):
            (tree / name).mkdir(parents=True)
        for tool, inside in (("busybox", "busybox"), ("kmod", "insmod")):
            path = shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
            if path is None:
                raise LabError(f"{tool} is not installed")
            shutil.copy(path, tree / "bin" / inside)
            # Nothing to be found for a static one: Debian has busybox in both ways.
            linked = subprocess.run(["ldd", path], capture_output=True, text=True, timeout=60, env={**os.environ, "LC_ALL": "C"}).stdout
            for library in re.findall(r"(/\S+\.so\S*)", linked):
                target = tree / library.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(library, target)
        (tree / "m/lab_prov.ko").write_bytes(built["lab_prov"])
        lines = []
        for number, variant in enumerate(self.variants):
            (tree / "m" / variant.name).write_bytes(variant.data)
            lines.append(f"{number} {variant.name} {' '.join(variant.before)}\n")
        (tree / "list").write_text("".join(lines))
        init = tree / "init"
        init.write_text(INIT)
        init.chmod(0o755)
        names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*"))) + "\n"
        with open(self.initrd, "wb") as out:
            subprocess.run(["cpio", "--quiet", "-o", "-H", "newc"], cwd=tree, input=names.encode(), stdout=out, check=True)
        shutil.rmtree(tree)

    def ask(self, append=""):
        """Shows every module to the kernel; one answer for each."""
        answers = {}
        position = 0
        for _ in range(BOOTS):
            heard, started = self._boot(position, append)
            answers.update(heard)
            if len(answers) == len(self.variants):
                return [answers[number] for number in range(len(self.variants))]
            if started is None:
                raise LabError(f"the oracle's guest did not start: {self._console()[-600:]}")
            if started not in answers:
                answers[started] = Heard(False, "the kernel died of it", self._console()[-200:])
                if len(answers) == len(self.variants):
                    return [answers[number] for number in range(len(self.variants))]
            position = started + 1
        raise LabError(f"{BOOTS} modules in turn ended the guest")

    def _console(self):
        return (self.directory / "console.log").read_text(errors="replace")

    def _boot(self, position, append):
        said = self.directory / "said.log"
        said.unlink(missing_ok=True)
        command = [QEMU, "-accel", self.accel, "-M", "q35", "-cpu", "host" if self.accel == "kvm" else "max", "-m", "1024", "-smp", "1",
                   "-nodefaults", "-display", "none", "-no-reboot", "-kernel", str(self.image), "-initrd", str(self.initrd),
                   "-append", f"console=ttyS0 loglevel=4 panic=-1 oops=panic lab.from={position} {append}",
                   "-serial", f"file:{self.directory}/console.log", "-serial", f"file:{said}"]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            size, changed = -1, time.monotonic()
            while process.poll() is None and time.monotonic() - changed < STALL_SECONDS:
                now = said.stat().st_size if said.exists() else 0
                if now != size:
                    size, changed = now, time.monotonic()
                time.sleep(0.2)
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
        return self._read(said.read_text(errors="replace") if said.exists() else "")

    def _read(self, text):
        answers, started = {}, None
        for line in text.splitlines():
            word, _, rest = line.strip().partition(" ")
            if word == "START":
                started = int(rest)
            elif word == "RESULT":
                number, code, message = rest.split(" ", 2)
                error, _, log = message.partition("##")
                answers[int(number)] = Heard(code == "0", error.strip(), log.strip().replace("\t", "\n"))
        return answers, started
