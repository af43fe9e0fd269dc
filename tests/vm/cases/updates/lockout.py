"""The story that vfguard is for: a machine whose only way in is an SR-IOV VF gets a new kernel, and is rebooted.

The VF is real (QEMU's igb, driven by igbvf, carrying packets); its physical function is hidden in a namespace, as a cloud
hides it. No kernel package here has igbvf: the driver exists only where it was built. The second kernel is installed by dpkg,
whose hooks call vfguard.
"""

import fnmatch
import re
import shutil
import subprocess
from pathlib import Path

from oracle.build import headers_lab
from vmlab.errors import LabError, require
from vmlab.image import run
from vmlab.install import install, install_hooks, install_units, mount

from .. import Story
from ..boot.grub import reset
from ..gate import removal
from ..gate.triggers import REFUSED
from . import bootcmd, hotplug

NIC = ("-netdev", "user,id=n0,restrict=on", "-device", "pcie-root-port,id=rp0,chassis=1,slot=1",
       "-device", "igb,netdev=n0,bus=rp0,mac=52:54:00:aa:00:01")
ONLINE = "for i in 1 2 3 4 5; do ping -c 1 -W 3 10.0.2.2 && break; done"
BUILD_SECONDS = 900         # a driver's build in TCG, on a host that has more to do
PACKAGE_SECONDS = 600
WAYS = ("systemctl reboot", "reboot", "shutdown -r now", "init 6", "logind Reboot", "Ctrl-Alt-Del on the keyboard", "systemctl kexec")


class Machine:
    """The guest of the story, on the older kernel with its network up."""

    def __init__(self, lab, report, machine):
        self.lab = lab
        self.report = report
        self.machine = machine
        self.shell = machine.shell
        self.old, self.new = lab.kernels()

    def prepare(self):
        """Gives the machine its VF and the driver for the kernel it runs, built by hand as its owner once did."""
        machine, shell = self.machine, self.shell
        machine.settle()
        mount(machine)
        shell.check("install -m 755 /lab/story/fakehv /lab/story/netup /usr/local/sbin/; "
                    "install -m 644 /lab/story/*.service /etc/systemd/system/; systemctl daemon-reload; systemctl enable netup.service 2>&1")
        shell.check("mkdir -p /var/tmp/igbvf && tar -xzf /lab/story/igbvf.tar.gz -C /var/tmp/igbvf --strip-components=1")
        shell.check(f"cd /var/tmp/igbvf/src && make BUILD_KERNEL={self.old} CC=gcc-12 install 2>&1; cd /; rm -r /var/tmp/igbvf", BUILD_SECONDS)
        shell.check(f"systemctl start netup.service; modinfo -n igbvf; {ONLINE}", 60)
        shell.check("sync")
        machine.save("before")

    def install_kernel(self):
        """Installs the newer kernel as the package manager does; returns what it printed."""
        return self.shell.run(f"dpkg --install /lab/story/linux-image-{self.new}.deb 2>&1", PACKAGE_SECONDS + BUILD_SECONDS)

    def guard(self, *, broken=False):
        """Installs vfguard with the recipe and, for a build that has to fail, a compiler that does."""
        install(self.machine)
        install_units(self.machine)
        install_hooks(self.machine)
        self.shell.check("mkdir -p /etc/vfguard/drivers.d && cp /lab/story/igbvf.toml /etc/vfguard/drivers.d/")
        if broken:
            self.break_compiler()

    def break_compiler(self):
        """Puts a compiler in place that fails."""
        self.shell.check("printf '#!/bin/sh\\necho no compiler today >&2; exit 1\\n' >/usr/local/bin/gcc-12; chmod +x /usr/local/bin/gcc-12; "
                         "mv /usr/bin/gcc-12 /usr/bin/gcc-12.away; cp /usr/local/bin/gcc-12 /usr/bin/gcc-12; "
                         "for n in gcc cc x86_64-linux-gnu-gcc-12; do ln -sf gcc-12 /usr/bin/$n; done")

    def reboot(self, command="systemctl reboot", seconds=60):
        """Reboots as a person does; the kernel that came up, or None if the reboot did not happen."""
        self.machine.allow_reboot()
        self.machine.forget_events()
        seen = len(self.machine.console())
        answer = self.shell.run(f"sync; {command}", seconds)
        if not self.machine.wait_reset(60 if answer.code in (0, None) else 3):
            return None, answer
        self.machine.settle()
        found = re.findall(r"Linux version (\S+)", self.machine.console()[seen:])
        return (found[-1] if found else None), answer

    def online(self):
        """Whether packets come back."""
        self.shell.run("systemctl start netup.service; sleep 1", 60)
        return self.shell.run(ONLINE, 20).code == 0


def without(story):
    """(c) Nobody looks after the driver: locked out. Shows that the other tests can fail."""
    machine = story.machine
    machine.load("before")
    require(story.install_kernel().code == 0, "dpkg could not install the kernel")
    came, answer = story.reboot()
    require(came == story.new, f"booted {came}: {answer.output}")
    require(not story.online(), "the network is up without a driver: this test proves nothing")


def built(story):
    """(a) The build works: the reboot goes through, into the new kernel, with its network."""
    machine, shell = story.machine, story.shell
    machine.load("before")
    story.guard()
    done = story.install_kernel()
    require(done.code == 0, f"dpkg ended with {done.code}: {done.output[-400:]}")
    # The hook left the work to the service, waited for it, and showed its progress and the verdict.
    for word in ("is not proven yet (a reboot is refused meanwhile)", "building igbvf", "built, verified and installed",
                 "safe: a reboot keeps the network"):
        require(word in done.output, f"the hook did not say {word!r}: {done.output[-800:]}")
    journal = shell.check("journalctl -b --no-pager -o cat -u vfguard.service", 60)
    require("building igbvf" in journal, f"vfguard.service did not do the work: {journal[-600:]}")
    checked = shell.run("vfguard check", 60)
    require(checked.code == 0, f"not safe after the kernel was installed: {checked.output} | {done.output[-500:]}")
    record = shell.check("cat /var/lib/vfguard/records/*.json")
    require("full: own user, no network, private file system; Landlock 2; seccomp" in record, f"the build was contained otherwise: {record[-600:]}")
    if story.lab.full:
        # Another build is under way: a reboot waits for it when it is told to, and only then. (Of a run: wired/reboots.)
        shell.check(f"(setsid vfguard --no-progress prepare {story.new} --driver igbvf --rebuild >/var/tmp/rebuild 2>&1 </dev/null &); sleep 3")
        require(shell.run("vfguard reboot", 60).code == 4, "it did not say that a build is under way")
    came, answer = story.reboot("vfguard reboot --wait", BUILD_SECONDS)
    require(came == story.new, f"booted {came}: {answer.output}")
    require(story.online(), "the new kernel is up, and the network is not")
    if story.lab.full:
        rebuilt = shell.check("cat /var/tmp/rebuild")
        require("built, verified and installed" in rebuilt, f"the reboot did not wait for the build: {rebuilt}")
    where = shell.check(f"modinfo -k {story.new} -n igbvf")
    require("/updates/vfguard/" in where, f"the driver is not vfguard's: {where}")
    return done.output


def refused(story):
    """(b) The build fails: every ordinary reboot is refused, and a reset lands on the old kernel with its network."""
    machine, shell = story.machine, story.shell
    machine.load("before")
    machine.forget("before")
    story.guard(broken=True)
    done = story.install_kernel()
    require(done.code == 0, f"vfguard made dpkg fail with {done.code}: {done.output[-400:]}")
    checked = shell.run("vfguard check", 60)
    require(checked.code == 3, f"check gave {checked.code}, not 3 (unsafe): {checked.output}")
    shell.check("sync")
    machine.allow_reboot(False)
    machine.save("refused")
    for trigger in (trigger for trigger in REFUSED if trigger.name in WAYS):
        if trigger.monitor:
            machine.qmp.human(trigger.monitor)
            shell.run("sleep 3", 20)
        else:
            answer = shell.run(trigger.command, trigger.seconds)
            require(answer.code not in (0, None), f"{trigger.name} was not refused: {answer}")
        require(machine.running() and "CANARY-STOPPED" not in machine.console()[-2000:], f"{trigger.name} took services down")
    # Packets have to wait for the reset: QEMU's igb carries none after loadvm.
    shell.check("systemctl is-active netup.service canary.service && ip -br address | grep -q 'UP.* 10.0.2.15/24'")
    came = reset(machine)
    require(came == story.old, f"a reset led into {came}")
    machine.settle()
    require(story.online(), "after the reset the old kernel has no network")
    state = shell.run("vfguard --format json check", 60)
    require(state.code == 3, f"after the reset, check gives {state.code}: {state.output[-300:]}")
    require(shell.run("systemctl reboot", 20).code not in (0, None), "after the reset the gate is open")


def held(story):
    """The default is held: `vfguard reboot --held` goes through into the kernel that it is held on, and the gate is closed again, though
    the VF comes only after vfguard has decided."""
    machine, shell = story.machine, story.shell
    machine.load("refused")
    hotplug.late(story)
    plain = shell.run("vfguard reboot", 60)
    require(plain.code == 3 and machine.running(), f"without --held: {plain}")
    came, answer = story.reboot("vfguard reboot --held")
    require(came == story.old, f"booted {came}: {answer.output}")
    require(story.online(), "the held kernel is up, and the network is not")
    hotplug.came_late(story)
    asked = [n for n, event in enumerate(hotplug.events(shell))
             if event["event"] == "reboot" and f"into the held kernel {story.old}" in event["reason"]]
    require(asked, f"the audit log has no such reboot: {hotplug.events(shell)}")
    hotplug.stays(story, asked[-1], "after the reboot")


def overridden(story):
    """(d) A person decides otherwise, with a reason: it goes through, and the audit log says who."""
    machine, shell = story.machine, story.shell
    machine.load("refused")
    shell.check(f"vfguard gate open --reason 'the console is at hand' --kernel {story.new}", 60)
    audit = shell.check("cat /var/lib/vfguard/audit.log")
    require("the console is at hand" in audit and re.search(r"uid\D{0,5}0\b", audit), f"the audit log does not say who and why: {audit}")
    came, answer = story.reboot()
    require(came is not None, f"the override did not let the reboot through: {answer.output}")
    require(came == story.new, f"the override named {story.new}, and {came} booted")
    state = shell.run("vfguard --format json gate show", 60)
    require('"overridden"' not in state.output, f"the override outlived the reboot: {state.output}")


def recipe(manifest, archive):
    """A recipe for igbvf, whose archive lies on the payload disk."""
    digest = manifest["IGBVF_61_SHA256"]
    return "\n".join(['name = "igbvf"', 'devices = ["pci:v00008086d000010CAsv*sd*bc*sc*i*", "pci:v00008086d00001520sv*sd*bc*sc*i*"]',
                      "[[releases]]", f'version = "{manifest["IGBVF_61_VERSION"]}"', f'urls = ["file:///lab/story/{archive}"]',
                      f'sha256 = "{digest}"', ""])


def cut(tree, settings):
    """Removes what a dpkg with these settings would not unpack: of the patterns that match a path the last one counts."""
    rules = re.findall(r"^path-(include|exclude)=(\S+)", settings, re.MULTILINE)
    for path in [path for path in tree.rglob("*") if path.is_symlink() or not path.is_dir()]:
        matching = [kind for kind, pattern in rules if fnmatch.fnmatchcase(f"/{path.relative_to(tree)}", pattern)]
        if matching[-1:] == ["exclude"]:
            path.unlink()


def kernel(lab):
    """The second kernel's package with its real scripts, without the modules that the guest's dpkg would throw away, and stored without
    compression: xz in TCG would take minutes."""
    new = lab.kernels()[1]
    deb, settings = lab.image_packages(new)[0], lab.project / "tests/vm/guest/etc/dpkg/dpkg.cfg.d/lab"

    def make(place):
        run(["dpkg-deb", "-R", str(deb), str(place / "deb")])
        cut(place / "deb", settings.read_text())
        run(["dpkg-deb", "-Znone", "-b", str(place / "deb"), str(place / f"linux-image-{new}.deb")])
        shutil.rmtree(place / "deb")
    return lab.kept("lockout", [deb.name, settings, Path(__file__)], make) / f"linux-image-{new}.deb"


def payload(lab):
    """The disk that carries the story: vfguard, the archive, the second kernel's package."""
    with lab.exclusive():
        headers, manifest = headers_lab()
    stage = lab.stage("lockout")
    shutil.copy(kernel(lab), stage)
    shutil.copy(headers / manifest["IGBVF_61"], stage / "igbvf.tar.gz")
    (stage / "igbvf.toml").write_text(recipe(manifest, "igbvf.tar.gz"))
    here = lab.project / "tests/vm/payload"
    for path in here.iterdir():
        shutil.copy(path, stage)
    shutil.move(run([str(lab.project / "packaging/build-deb.sh"), "--binary", str(lab.binary), "--out", str(stage)]).strip(), stage / "vfguard.deb")
    image = lab.payload("lockout", {**lab.guest_files(), "story": stage})
    shutil.rmtree(stage)
    return image


def tell(lab, report):
    """The parts, on one machine that goes back in time between them."""
    disk = payload(lab)
    with lab.machine("debian12", direct=False, payload=disk, network=NIC, memory=1024) as machine:
        story = Machine(lab, report, machine)
        try:
            story.prepare()
        except (LabError, subprocess.SubprocessError) as error:
            report.fail("lockout/prepare", error)
            return
        for name, part, always in PARTS:
            if always or lab.full:
                with report.case(f"lockout/{name}"):
                    part(story)
    disk.unlink()


# The last word: also without --full.
PARTS = (("without-vfguard-locked-out", without, False), ("build-works", built, True), ("build-fails", refused, True), ("held", held, True),
         ("unplugged", hotplug.unplugged, False), ("override", overridden, False), ("within-the-boot", bootcmd.within_the_boot, True),
         ("removed-while-building", removal.building, False), ("removed-under-an-override", removal.overridden, False))
STORIES = [Story("lockout", tell, kernel)]
