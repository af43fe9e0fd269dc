"""One virtual machine: QEMU with a monitor, a console log, and a root shell; always in its own directory, always ended."""

import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ..errors import LabError
from ..host import QEMU
from .qmp import Qmp
from .shell import Shell

BOOT_SECONDS = 300
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


@dataclass
class DirectKernel:
    """A kernel that QEMU starts itself, without the disk's boot loader."""

    image: Path
    initrd: Path
    append: str = ""


def _die_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Machine:
    """A running guest; a context manager, so that QEMU never outlives its test."""

    def __init__(self, runs, disk, accel, *, kernel=None, payload=None, network=(), memory=640, direct_disk=False, append="", efi=None):
        self.directory = Path(tempfile.mkdtemp(prefix=f"vm-{os.getpid()}-", dir=runs))
        self.console_path = self.directory / "console.log"
        self.overlay = disk
        if not direct_disk:
            self.overlay = self.directory / "disk.qcow2"
            subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(disk), "-F", "raw", str(self.overlay)],
                           check=True, timeout=60)
        self.arguments = self._arguments(accel, kernel, payload, network, memory, "raw" if direct_disk else "qcow2", append)
        if efi:
            self.arguments += efi.arguments(self.directory)
        elif not kernel:
            self.arguments += ["-set", "device.disk0.bootindex=0"]
        self.process = None
        self.qmp = None
        self.shell: Optional[Shell] = None

    def _arguments(self, accel, kernel, payload, network, memory, disk_format, append):
        arguments = [
            QEMU, "-accel", accel, "-M", "q35", "-cpu", "host" if accel == "kvm" else "max", "-m", str(memory), "-smp", "1",
            "-nodefaults", "-display", "none", "-vga", "none", "-rtc", "clock=vm", "-device", "virtio-rng-pci",
            # A guest that reboots or powers off stops, so that the test sees it, unless it allows the reboot.
            "-action", "reboot=shutdown,shutdown=pause",
            "-drive", f"file={self.overlay},if=none,id=d0,cache=unsafe,format={disk_format}",
            "-device", "virtio-blk-pci,drive=d0,id=disk0",
            "-chardev", f"file,id=c0,path={self.console_path}", "-serial", "chardev:c0",
            "-chardev", f"socket,id=c1,path={self.directory}/shell,server=on,wait=off", "-serial", "chardev:c1",
            "-qmp", f"unix:{self.directory}/qmp,server=on,wait=off", *network,
        ]
        if payload:
            arguments += ["-drive", f"file={payload},if=none,id=d1,format=raw,readonly=on", "-device", "virtio-blk-pci,drive=d1"]
        if kernel:
            line = f"root=/dev/vda1 console=ttyS0 net.ifnames=0 panic=-1 {kernel.append} {append}".strip()
            arguments += ["-kernel", str(kernel.image), "-initrd", str(kernel.initrd), "-append", line]
        return arguments

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.close()

    def start(self):
        """Starts QEMU; the guest begins to boot."""
        with open(self.directory / "stderr", "wb") as errors:
            self.process = subprocess.Popen(self.arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                            stderr=errors, preexec_fn=_die_with_parent)
        try:
            self.qmp = Qmp(self.directory / "qmp", self.alive)
            self.shell = Shell(self.directory / "shell", self.alive, self.running)
        except LabError as error:
            said = (self.directory / "stderr").read_text(errors="replace").strip()
            self.close()
            raise LabError(f"{error}: {said[-400:]}") from error

    def alive(self):
        """Whether QEMU itself runs."""
        return self.process is not None and self.process.poll() is None

    def state(self):
        """QEMU's run state: `running`, `shutdown`, `paused`…"""
        return self.qmp.execute("query-status")["status"]

    def running(self):
        """Whether the guest executes; false after it rebooted, powered off or stopped."""
        return self.state() == "running"

    def console(self):
        """All that the guest wrote to its console."""
        try:
            return self.console_path.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def wait_shell(self, seconds=BOOT_SECONDS):
        """Waits for the guest's root shell."""
        try:
            return self.shell.wait(seconds)
        except LabError as error:
            raise LabError(f"{error}; its console ends: {self.console()[-1200:]}") from error

    def settle(self, seconds=BOOT_SECONDS):
        """Waits until systemd has finished booting, whatever units failed."""
        self.wait_shell(seconds)
        self.shell.run("systemctl is-system-running --wait; dmesg -n 4", seconds)

    def save(self, tag):
        """Keeps the whole machine, disk and memory, under a name."""
        said = self.qmp.human(f"savevm {tag}").strip()
        if said:
            free = shutil.disk_usage(self.directory).free >> 20
            raise LabError(f"savevm: {said} ({free} MB free, the disk takes {self.overlay.stat().st_blocks >> 11} MB)")

    def forget(self, tag):
        """Drops a kept state that nothing goes back to: each takes as much room as the guest uses of its memory."""
        said = self.qmp.human(f"delvm {tag}").strip()
        if said:
            raise LabError(f"delvm: {said}")

    def load(self, tag):
        """Goes back to a kept state and lets it run, also after the guest was shut down or reset."""
        if self.state() not in ("running", "paused"):
            # Only a reset leaves the `shutdown` state, so let one through.
            self.qmp.execute("set-action", reboot="reset")
            self.qmp.execute("system_reset")
            deadline = time.monotonic() + 10
            while self.state() == "shutdown" and time.monotonic() < deadline:
                time.sleep(0.05)
            self.qmp.execute("set-action", reboot="shutdown")
        self.qmp.execute("stop")
        said = self.qmp.human(f"loadvm {tag}").strip()
        if said:
            raise LabError(f"loadvm: {said}")
        self.qmp.events.clear()
        self.qmp.execute("cont")
        self.shell.drain()

    def allow_reboot(self, allowed=True):
        """Whether a reboot of the guest really boots it again, or stops it there."""
        self.qmp.execute("set-action", reboot="reset" if allowed else "shutdown")

    def events(self, name):
        """The events of a name since the last look-back (`load`, `forget_events`)."""
        self.state()
        return [event for event in self.qmp.events if event["event"] == name]

    def forget_events(self):
        """Starts the list of events anew."""
        self.state()
        self.qmp.events.clear()

    def wait_reset(self, seconds, guest=True):
        """Waits until the guest has reset itself, or the lab the guest; whether that came."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if any(event["data"]["guest"] == guest for event in self.events("RESET")):
                return True
            time.sleep(0.2)
        return False

    def wait_stopped(self, seconds):
        """Waits until the guest no longer executes; whether that came to be."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not self.running():
                return True
            time.sleep(0.2)
        return False

    def hard_reset(self):
        """Presses the reset button: no warning to the guest."""
        self.allow_reboot()
        self.forget_events()
        self.qmp.execute("system_reset")
        if not self.wait_reset(10, guest=False):
            raise LabError("QEMU did not reset the guest")

    def kill(self):
        """Cuts the power: QEMU ends at once, its disk stays as it is."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        self._disconnect()

    def cycle(self):
        """Switches the machine off and on. What QEMU itself still keeps for its disks is written out, unlike with `kill`."""
        self.qmp.execute("quit")
        self.process.wait(30)
        self._disconnect()
        self.restart()

    def restart(self):
        """Switches a machine on again whose power was cut."""
        for name in ("qmp", "shell"):
            (self.directory / name).unlink(missing_ok=True)
        self.start()

    def _disconnect(self):
        for connection in (self.qmp, self.shell):
            if connection is not None:
                connection.close()
        self.qmp = self.shell = None

    def close(self):
        """Ends QEMU and removes the run's disk; the console log is left for a look at a failure."""
        if self.alive():
            try:
                self.qmp.execute("quit")
                self.process.wait(5)
            except (LabError, OSError, AttributeError, ValueError, subprocess.TimeoutExpired):
                self.process.kill()
                self.process.wait(10)
        self._disconnect()
        for path in self.directory.glob("*.qcow2"):
            path.unlink()
