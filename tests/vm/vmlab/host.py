"""What this host offers: a QEMU new enough, and whether KVM really runs."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from .apt import install
from .errors import Skip

QEMU = "qemu-system-x86_64"
QEMU_MAJOR = 8          # the first with the SR-IOV `igb` device
PROBE_SECONDS = 30
TCG = "tcg,thread=multi,tb-size=256"


def qemu_version():
    """The installed QEMU's major version, or None."""
    if shutil.which(QEMU) is None:
        return None
    shown = subprocess.run([QEMU, "--version"], capture_output=True, text=True, timeout=PROBE_SECONDS).stdout
    match = re.search(r"version (\d+)\.", shown)
    return int(match.group(1)) if match else None


def ensure_qemu(cache, release):
    """Installs a newer QEMU from the release's own suites or its backports when the one here is too old."""
    version = qemu_version()
    if version is not None and version >= QEMU_MAJOR:
        return
    if os.geteuid() != 0:
        raise Skip(f"QEMU >= {QEMU_MAJOR} is needed (found {version}) and only root can install it")
    wanted = ["qemu-system-x86", "qemu-utils", "seabios", "ipxe-qemu"]
    said = install(cache, release, [*(["-t", "bookworm-backports"] if release == "bookworm" else []), *wanted])
    version = qemu_version()
    if version is None or version < QEMU_MAJOR:
        raise Skip(f"QEMU >= {QEMU_MAJOR} is needed (found {version}) and apt could not install it: {said.strip()[-300:]}")


def accelerator(cache, kernel):
    """`kvm` when a guest really boots with it, else TCG.

    On nested hosts /dev/kvm answers every question and then never runs an instruction, so a kernel is booted to see.
    The answer is kept until the host itself reboots.
    """
    forced = os.environ.get("VFGUARD_VM_ACCEL")
    if forced:
        return forced
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    record = cache / "accelerator"
    if record.exists() and record.read_text().startswith(boot_id):
        return record.read_text().split(None, 1)[1].strip()
    answer = "kvm" if os.access("/dev/kvm", os.R_OK | os.W_OK) and _kvm_boots(kernel) else TCG
    record.write_text(f"{boot_id} {answer}\n")
    return answer


def _kvm_boots(kernel):
    """Boots the kernel without a root: with KVM it panics, and so exits, within seconds."""
    command = [QEMU, "-accel", "kvm", "-M", "q35", "-m", "256", "-nodefaults", "-display", "none", "-no-reboot",
               "-kernel", str(kernel), "-append", "console=ttyS0 panic=-1", "-serial", "stdio"]
    try:
        shown = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=PROBE_SECONDS).stdout
    except subprocess.TimeoutExpired:
        return False
    return b"Linux version" in shown
