"""`dnf -y update && reboot` in one line, on a machine whose only way in is an SR-IOV VF: real dnf, rpm and systemd, and vfguard as its RPM
installs it. The machine is that of `lockout`; the kernel comes as an RPM, whose scriptlet is EL7's."""

import re
import shutil
import subprocess

from oracle.build import headers_lab
from vmlab.errors import LabError, require
from vmlab.image import run
from vmlab.install import mount

from .. import Story
from .lockout import BUILD_SECONDS, NIC, PACKAGE_SECONDS, Machine, recipe

LINE = ("dnf -y --releasever=9 --setopt=gpgcheck=0 --setopt=installonlypkgs=kernel --setopt=reposdir=/nowhere "
        "--repofrompath=lab,/lab/rpm/repo update 2>&1 && systemctl reboot")


class Guest(Machine):
    """The guest of `lockout`, looked after by the RPM."""

    def guard(self, *, broken=False):
        """Installs vfguard's RPM: its scriptlets and its trigger do the rest."""
        shell = self.shell
        mount(self.machine)
        shell.check("mkdir -p /etc/vfguard/drivers.d && cp /lab/story/igbvf.toml /etc/vfguard/drivers.d/")
        # Debian's rpm keeps a database for each user.
        shell.check("mkdir -p /etc/rpm; echo '%_dbpath /var/lib/rpm' >/etc/rpm/macros")
        shell.check("rpm --initdb && rpm -i --force-debian /lab/rpm/base/*.rpm /lab/rpm/old/*.rpm 2>&1", 60)
        shell.check("rpm -i --force-debian /lab/rpm/vfguard/*.rpm 2>&1", BUILD_SECONDS)
        for unit in ("vfguard-watch.path", "vfguard.timer"):
            shell.check(f"systemctl is-enabled {unit} && systemctl is-active {unit}")
        if broken:
            self.break_compiler()

    def update_and_reboot(self):
        """The line; the kernel that came up, or None, and what was printed."""
        self.machine.allow_reboot()
        self.machine.forget_events()
        seen = len(self.machine.console())
        answer = self.shell.run(LINE, PACKAGE_SECONDS + BUILD_SECONDS)
        if not self.machine.wait_reset(60 if answer.code in (0, None) else 3):
            return None, answer
        self.machine.settle()
        found = re.findall(r"Linux version (\S+)", self.machine.console()[seen:])
        return (found[-1] if found else None), answer


def built(guest):
    """The build works: the line ends in the new kernel, with its network."""
    guest.machine.load("before")
    guest.guard()
    came, answer = guest.update_and_reboot()
    require(came == guest.new, f"booted {came}: {answer.output[-800:]}")
    require(guest.online(), "the new kernel is up, and the network is not")
    where = guest.shell.check(f"modinfo -k {guest.new} -n igbvf")
    require("/updates/vfguard/" in where, f"the driver is not vfguard's: {where}")


def refused(guest):
    """The build fails: dnf succeeds, the reboot of the same line is refused, nothing is stopped."""
    guest.machine.load("before")
    guest.machine.forget("before")
    guest.guard(broken=True)
    came, answer = guest.update_and_reboot()
    require(came is None and guest.machine.running(), f"the machine rebooted, into {came}")
    require("Complete!" in answer.output, f"a hook made dnf fail: {answer.output[-800:]}")
    require(answer.code not in (0, None), f"the reboot was not refused: {answer.output[-400:]}")
    for word in ("to mend it", "a reboot is refused"):
        require(word in answer.output, f"nobody said {word!r}: {answer.output[-800:]}")
    journal = guest.shell.check("journalctl -b --no-pager -o cat -u vfguard.service", 60)
    require("building igbvf" in journal, f"vfguard.service did not do the work: {journal[-600:]}")
    checked = guest.shell.run("vfguard check", 60)
    require(checked.code == 3, f"check gave {checked.code}: {checked.output}")
    require(guest.shell.run("systemctl reboot", 20).code not in (0, None), "the gate is open")


def kernels(lab):
    """The two kernels as RPMs: `old` is there already, `repo` is the update."""
    old, new = lab.kernels()
    debs, scripts = lab.image_packages(new), [lab.project / "tests/rpm" / name for name in ("guest.sh", "specs/guest.spec", "kernels.sh")]

    def make(place):
        run([str(scripts[0]), "kernels", str(place), old, new, *map(str, debs)])
    return lab.kept("dnf", [old, *(deb.name for deb in debs), *scripts], make)


def payload(lab):
    """The disk that carries the story: the packages, the archive, the recipe."""
    with lab.exclusive():
        headers, manifest = headers_lab()
    stage, rpms = lab.stage("dnf"), lab.stage("rpms")
    shutil.copytree(kernels(lab), rpms, dirs_exist_ok=True)
    run([str(lab.project / "tests/rpm/guest.sh"), "vfguard", str(rpms), str(lab.binary)])
    shutil.copy(headers / manifest["IGBVF_61"], stage / "igbvf.tar.gz")
    (stage / "igbvf.toml").write_text(recipe(manifest, "igbvf.tar.gz"))
    for path in (lab.project / "tests/vm/payload").iterdir():
        shutil.copy(path, stage)
    image = lab.payload("dnf", {"story": stage, "rpm": rpms})
    shutil.rmtree(stage)
    shutil.rmtree(rpms)
    return image


def tell(lab, report):
    """Both ends of the line, on one machine that goes back in time between them."""
    disk = payload(lab)
    with lab.machine("debian12", direct=False, payload=disk, network=NIC, memory=1024) as machine:
        guest = Guest(lab, report, machine)
        try:
            guest.prepare()
        except (LabError, subprocess.SubprocessError) as error:
            report.fail("dnf/prepare", error)
            return
        for name, part in (("update-and-reboot", built), ("update-and-refused-reboot", refused)):
            with report.case(f"dnf/{name}"):
                part(guest)
    disk.unlink()


STORIES = [Story("dnf", tell, kernels, long=True)]
