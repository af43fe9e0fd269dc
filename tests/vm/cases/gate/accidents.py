"""Accidents around vfguard, on a live systemd: what is full, and what hangs. The default is held in each; a reboot is refused, or said
not to be."""

import json

from vmlab.errors import require

# To the last byte, without writing it.
FILL_DISK = ("n=0; for s in 1G 256M 64M 16M 4M 1M 128k 16k 4k; do while fallocate -l $s /var/lib/lab-full.$n 2>/dev/null; do n=$((n+1)); done; done; "
             "! head -c 5000 /dev/zero >/var/lib/lab-full 2>/dev/null")
NOBODY = "setpriv --reuid 65534 --regid 65534 --clear-groups sh -c"
# Name: how it comes, how it goes, and whether a reboot has to be refused all the same.
FAULTS = {
    "tmp without room": (f"mount -t tmpfs -o size=8k,mode=1777 lab /tmp; {NOBODY} 'head -c 99999 /dev/zero >/tmp/x'; true", "umount /tmp", True),
    "tmp without inodes": ("mount -t tmpfs -o nr_inodes=9,mode=1777 lab /tmp; "
                           f"{NOBODY} 'for i in 1 2 3 4 5 6 7 8 9; do : >/tmp/$i; done' 2>/dev/null; true", "umount /tmp", True),
    "disk without room": (FILL_DISK, "rm -f /var/lib/lab-full*", True),
    "run without room": ("head -c 4G /dev/zero >/run/lab-full 2>/dev/null; true", "rm /run/lab-full", False),
}
HANG = "/usr/local/lib/systemd/system-generators/lab-hang"      # /run is mounted noexec


def waiting(seconds):
    """Lists the processes that sleep for so long; the guests have no pgrep."""
    return f"for p in /proc/[0-9]*; do case $(tr '\\0' ' ' <$p/cmdline 2>/dev/null) in 'sleep {seconds} ') echo ${{p#/proc/}} ;; esac; done"


def held(shell, kernel):
    """Whether the boot default is another kernel than this one."""
    return kernel not in shell.check("grub-editenv - list | grep -v ^vfguard_")


def full(wired, name, entry, closed):
    """One fault: the newer kernel is the default when it strikes."""
    shell, kernel = wired.shell, wired.second
    comes, goes, certain = FAULTS[name]
    shell.run("vfguard gate remove", 60)
    shell.check(f"grub-set-default \"{entry}\"")
    shell.check(comes, 60)
    try:
        answer = shell.run("vfguard reconcile --no-build", 120)
        require(held(shell, kernel), f"{name}: the default is not held: {answer}")
        shown = json.loads(shell.check("vfguard --format json gate show", 60))
        refused = shell.run(closed).code == 0
        require(refused or not certain, f"{name}: a reboot is not refused: {answer}")
        require((shown["gate"] == "closed") == refused and (answer.code == 3) == refused, f"{name}: refused {refused}, {answer}, and {shown}")
        require(refused or shown.get("not_confirmed") or "gate not confirmed" in answer.output, f"{name}: {answer} and {shown}")
    finally:
        shell.run(goes, 60)
    require(shell.run("vfguard reconcile --no-build", 120).code == 3 and shell.run(closed).code == 0, f"{name}: not tried again")


def hangs(wired, entry, closed):
    """A generator that does not end: systemd reads no unit meanwhile, and the default is held before it is asked to."""
    shell, kernel = wired.shell, wired.second
    shell.run("vfguard gate remove", 60)
    shell.check(f"grub-set-default \"{entry}\"")
    # systemd gives its generators a read-only file system, so it is found among the processes.
    shell.check("mkdir -p /usr/local/lib/systemd/system-generators; "
                f"printf '#!/bin/sh\\nexec sleep 8177\\n' >{HANG}; chmod 755 {HANG}")
    shell.check("(vfguard reconcile --no-build >/run/lab-hang.said 2>&1; echo $? >>/run/lab-hang.said) &")
    shell.until(f"[ -n \"$({waiting(8177)})\" ]", 60)
    require(held(shell, kernel), "the default is held only after systemd has read its units")
    # systemd cannot be asked meanwhile whether it refuses; that the run still waits for it shows that it has not read them.
    require(shell.run("tail -n 1 /run/lab-hang.said | grep -qx 3").code != 0, "this cannot fail: systemd has read them")
    shell.check(f"rm {HANG}; kill $({waiting(8177)})")
    shell.until(closed, 60)
    shell.until("tail -n 1 /run/lab-hang.said | grep -qx 3", 60)
    shell.check("rm /run/lab-hang.said")
