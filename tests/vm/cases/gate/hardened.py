"""What the shipped units forbid and what they must not: the work of each, tried under its own directives on the guest's systemd."""

import re
from pathlib import Path

from vmlab.errors import Skip, require
from vmlab.image import run
from vmlab.install import mount

from .accidents import FAULTS

UNITS = "/usr/lib/systemd/system"
# A unit with the directives of another one, and a program of the lab's.
COPY = ("sed -e '/^OnFailure=/d; /^Exec/d; /^Conflicts=/d; /^Before=/d; /^After=/d; /^SuccessExitStatus=/d' "
        "-e '/^\\[Service\\]/a ExecStart=/bin/bash -ex {script}' " + UNITS + "/{of} >/run/systemd/system/{name}; systemctl daemon-reload")
# Each works for root without the directives (`controls`).
SOCKET = "perl -e 'socket(S, {}, {}, 0) or exit 1'"
PACKET, VSOCK, ALG, INET = SOCKET.format(17, 3), SOCKET.format(40, 1), SOCKET.format(38, 5), SOCKET.format(2, 1)
WORKER_NOT = (PACKET, VSOCK, ALG)
QUICK_NOT = (PACKET, VSOCK, INET, "unshare --user true", "chmod u+s /run/lab-begun")
NOT = "if {} 2>/dev/null; then exit 99; fi\n"
# What dracut, initramfs-tools, grub-mkconfig and the sandbox do; the network that a driver is fetched over.
WORKER = """
PATH=/usr/sbin:/usr/bin:/sbin:/bin
cp /lab/image /var/tmp/lab-image
loop=$(losetup --find --show /var/tmp/lab-image)
mkdir -p /var/tmp/lab-mount
mount $loop /var/tmp/lab-mount
fsfreeze --freeze /var/tmp/lab-mount; fsfreeze --unfreeze /var/tmp/lab-mount
umount /var/tmp/lab-mount
losetup --detach $loop
rm -rf /var/tmp/lab-mount /var/tmp/lab-image
mknod /var/tmp/lab-node b 7 7; rm /var/tmp/lab-node
cp -a /bin/mount /var/tmp/lab-suid; [ -u /var/tmp/lab-suid ]; rm /var/tmp/lab-suid
unshare --mount --net --pid --ipc --uts --fork hostname lab
setpriv --reuid 65534 --regid 65534 --clear-groups unshare --user --map-root-user --mount mount -t tmpfs lab /mnt
perl -e 'socket(S, $_, 1, 0) or exit 1 for 1, 2, 10'
[ -n "$(grub-probe --target=fs_uuid /boot)" ]
grub-mkconfig 2>/dev/null | grep -q "^menuentry"
echo 1 >/proc/sys/vm/laptop_mode; echo 0 >/proc/sys/vm/laptop_mode
echo lab >/dev/kmsg
[ "$(readlink /proc/self/ns/mnt)" = "$(readlink /proc/1/ns/mnt)" ]
touch /root/lab-file /home/lab-file; rm /root/lab-file /home/lab-file
""" + "".join(map(NOT.format, WORKER_NOT))
# The quick ones: they close the gate and hold the default, and grub-mkconfig may be a part of that.
QUICK = """
PATH=/usr/sbin:/usr/bin:/sbin:/bin
systemctl show -p Requires reboot.target
unshare --mount mount -t tmpfs lab /mnt
fsfreeze --freeze /lab-boot; fsfreeze --unfreeze /lab-boot
[ -n "$(grub-probe --target=fs_uuid /boot)" ]
[ "$(readlink /proc/self/ns/mnt)" = "$(readlink /proc/1/ns/mnt)" ]
""" + "".join(map(NOT.format, QUICK_NOT))
DROP_IN = "/run/systemd/system/reboot.target.d/50-vfguard.conf"
DRACUT_HERE = Path("/usr/bin/dracut").exists()
# The guests lack it; it is a shell script, and one program that runs on both.
DRACUT = """
PATH=/usr/sbin:/usr/bin:/sbin:/bin
dracut --force /var/tmp/lab-initrd "$(uname -r)"
[ "$(stat -c %s /var/tmp/lab-initrd)" -gt 1000000 ]
rm /var/tmp/lab-initrd
update-initramfs -u -k "$(uname -r)"
"""


class Hardened:
    """The steps on one guest whose units are installed."""

    def __init__(self, subject):
        self.shell = subject.machine.shell
        self.long = subject.lab.full

    def script(self, name, text):
        """A script in the guest, by lines: a terminal's line is short."""
        self.shell.check(f"cat >/run/{name} <<'LAB'\n{text}LAB")
        return f"/run/{name}"

    def unit(self, name, of, text):
        """A unit of the lab's with a shipped one's directives."""
        self.shell.check(COPY.format(script=self.script(f"{name}.sh", text), of=of, name=f"{name}.service"))

    def runs(self, name, seconds=120):
        """It must come to a good end."""
        done = self.shell.run(f"systemctl start {name}.service", seconds)
        require(done.code == 0, f"{name}: {done} | {self.shell.run(f'journalctl -b -o cat --no-pager -u {name} | tail -n 12').output}")

    def controls(self):
        """What the directives forbid works without them."""
        self.shell.check("touch /run/lab-begun")
        for command in dict.fromkeys((*WORKER_NOT, *QUICK_NOT)):
            self.shell.check(command)
        self.shell.check("rm /run/lab-begun")

    def worker(self):
        """The worker's directives leave it all that its programs do, and take what they do not."""
        self.unit("lab-worker", "vfguard.service", WORKER)
        self.runs("lab-worker", 240)

    def quick(self):
        """Boot, watch and fail-closed: what they do, and what they cannot."""
        self.shell.check("mkdir -p /lab-boot; touch /run/lab-begun; "
                         "cp /lab/image /var/tmp/lab-image; mount -o loop /var/tmp/lab-image /lab-boot")
        # The three have the same directives (tests/unit/cli/units.rs).
        for of in ("vfguard-boot", "vfguard-watch", "vfguard-fail-closed")[:3 if self.long else 1]:
            self.unit(f"lab-{of}", f"{of}.service", QUICK)
            self.runs(f"lab-{of}")
        self.shell.check("umount /lab-boot; rm -r /lab-boot /var/tmp/lab-image")

    def full(self):
        """They start, and decide, where nothing can be written."""
        starts = "systemctl reset-failed {0}; systemctl start {0}; systemctl show -p Result -p ExecMainStatus {0}"
        self.unit("lab-full", "vfguard.service", "true\n")
        for name, (comes, goes, certain) in FAULTS.items():
            if not self.long and name != "tmp without inodes":
                continue
            self.shell.check(comes, 60)
            try:
                for unit in ("lab-full.service", "vfguard-boot.service", "vfguard-fail-closed.service")[:3 if self.long else 2]:
                    said = self.shell.run(starts.format(unit), 120).output
                    # From 200 on it is systemd's own, which could not start the program.
                    started = re.search(r"ExecMainStatus=(1?\d?\d)\b", said)
                    require(started and ("Result=success" in said or not certain), f"{name}: {unit}: {said}")
            finally:
                self.shell.run(goes, 60)


    def inhibits(self):
        """The second lock is held, and let go of when the first one is gone."""
        self.shell.check(f"mkdir -p {DROP_IN.rpartition('/')[0]}; touch {DROP_IN}; systemctl start vfguard-inhibit.service")
        self.shell.until("systemd-inhibit --list --no-legend | grep 'vfguard.*shutdown.*block'", 30)
        self.shell.check(f"rm {DROP_IN}")
        self.shell.until("systemctl show -p ActiveState vfguard-inhibit.service | grep -q inactive", 30)

    def dracut(self):
        """The worker's directives leave an initramfs to be made, by dracut and by initramfs-tools."""
        if not DRACUT_HERE:
            raise Skip("this host has no dracut for its guests (apt install dracut-core)")
        self.shell.check("cp -a /lab/dracut/lib /usr/lib/dracut; cp /lab/dracut/dracut /usr/bin/")
        self.unit("lab-dracut", "vfguard.service", DRACUT)
        self.runs("lab-dracut", 900)


STEPS = ("controls", "worker", "quick", "full", "inhibits", "dracut")
# With --full only: minutes in TCG.
LONG = ("dracut",)


def brought(lab):
    """For the payload, what not every guest has or can make: a file system and, for a long run, this host's dracut."""
    image = lab.kept("hardened", ["ext4"], lambda place: run(["mke2fs", "-q", "-t", "ext4", str(place / "image"), "8M"])) / "image"
    dracut = {"dracut/lib": Path("/usr/lib/dracut"), "dracut/dracut": Path("/usr/bin/dracut")} if lab.full and DRACUT_HERE else {}
    return {"image": image, **dracut}


def hardened(subject):
    """Each step is a test; they leave the guest as it was, but for units of the lab's in /run."""
    steps = Hardened(subject)
    mount(subject.machine)
    for name in STEPS:
        if name in LONG and not subject.lab.full:
            continue
        with subject.report.case(f"{subject.name}/hardened/{name}"):
            getattr(steps, name)()
