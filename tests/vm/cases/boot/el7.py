"""A grub.cfg as Amazon Linux 2 and CentOS 7 have it, booted by Debian's GRUB: what of it starts which kernel, held and promoted.

Amazon Linux 2: a literal default, `linux16`, the newest kernel's entry put in front by grubby with the id of the one below, the older kernel in
a submenu as well, with an entry for repairs. CentOS 7: a default saved by title, ids that repeat, an entry that rescues. Both end by reading
custom.cfg. Nothing is left to the guest's shutdown: reset is pressed in the moment in which vfguard ends.
"""

import shutil
from dataclasses import dataclass

from vmlab.errors import require
from vmlab.image import FILESYSTEM_ID
from vmlab.install import install
from vmlab.report import table

from .. import Story
from .grub import predicted, reset
from .stock import CUSTOM, NIC, Guest

CONFIG = "/boot/grub/grub.cfg"
WORDS = "ro console=ttyS0 net.ifnames=0 panic=-1"
HEAD = """\
serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
if [ -s $prefix/grubenv ]; then
  load_env
fi
if [ "${{next_entry}}" ] ; then
   set default="${{next_entry}}"
   set next_entry=
   save_env next_entry
   set boot_once=true
else
   set default="{default}"
fi
if [ x"${{feature_menuentry_id}}" = xy ]; then
  menuentry_id_option="--id"
else
  menuentry_id_option=""
fi
export menuentry_id_option
if [ "${{prev_saved_entry}}" ]; then
  set saved_entry="${{prev_saved_entry}}"
  save_env saved_entry
  set prev_saved_entry=
  save_env prev_saved_entry
  set boot_once=true
fi
set timeout=1
"""
ENTRY = """\
menuentry '{title}' --class gnu-linux --class gnu --class os --unrestricted $menuentry_id_option '{id}' {{
	insmod gzio
	insmod part_msdos
	insmod {module}
	set root='hd0,msdos1'
	if [ x$feature_platform_search_hint = xy ]; then
	  search --no-floppy --fs-uuid --set=root --hint-bios=hd0,msdos1 {uuid}
	else
	  search --no-floppy --fs-uuid --set=root {uuid}
	fi
	linux16 /boot/vmlinuz-{image} root=UUID={uuid} {words}
	initrd16 /boot/{initrd}
}}
"""
TAIL = """\
if [ -f  ${config_directory}/custom.cfg ]; then
  source ${config_directory}/custom.cfg
elif [ -z "${config_directory}" -a -f  $prefix/custom.cfg ]; then
  source $prefix/custom.cfg;
fi
"""
RESCUE = "0-rescue-5f7e0b2a9c1d4e83b6a05d2c7f918e34"


@dataclass
class Menu:
    """What entries are written for: the file system that holds the root and /boot, and GRUB's module for it."""

    uuid: str = FILESYSTEM_ID
    module: str = "ext2"

    def name(self, kind):
        """An entry's id."""
        return f"gnulinux-{kind}-{self.uuid}"

    def entry(self, title, kind, kernel, more=""):
        """An entry of a kernel."""
        initrd = f"initramfs-{kernel}.img" if kernel == RESCUE else f"initrd.img-{kernel}"
        return ENTRY.format(title=title, id=self.name(kind), uuid=self.uuid, module=self.module, image=kernel, initrd=initrd,
                            words=f"{WORDS} {more}".strip())

    def older(self, old):
        """The older kernel on Amazon Linux 2, as grub-reboot is told of it."""
        return f"{self.name('advanced')}>{self.name(f'{old}-advanced')}"

    def amazon2(self, old, new):
        """As on an Amazon Linux 2 whose second kernel came by yum."""
        title = f"Amazon Linux 2, with Linux {old}"
        below = self.entry(title, f"{old}-advanced", old) + self.entry(f"{title} (recovery mode)", f"{old}-recovery", old, "single")
        return (HEAD.format(default="0") + self.entry(f"Amazon Linux ({new}) 2", "simple", new) + self.entry("Amazon Linux 2", "simple", old) +
                f"submenu 'Advanced options for Amazon Linux 2' $menuentry_id_option '{self.name('advanced')}' {{\n{below}}}\n" + TAIL)

    def centos7(self, old, new):
        """As on a CentOS 7 whose second kernel came by yum."""
        entries = [(f"CentOS Linux ({kernel}) 7 (Core)", f"{old}-advanced", kernel) for kernel in (new, old)]
        entries.append((f"CentOS Linux ({RESCUE}) 7 (Core)", f"{RESCUE}-advanced", RESCUE))
        return HEAD.format(default="${saved_entry}") + "".join(self.entry(*entry) for entry in entries) + TAIL


def comes(machine, kernel):
    """Which kernel boots is as predicted, and the one that is wanted; the guest is not waited for."""
    forecast, certain = predicted(machine)
    came = reset(machine)
    require(came == forecast[0] == kernel and certain,
            f"predicted {forecast} ({'certain' if certain else 'not certain'}), booted {came}, and it should be {kernel}")
    return came


def held(guest, report, rows, name, state):
    """Held and promoted, each from a kept state."""
    machine, shell = guest.machine, guest.shell
    with report.case(f"{name}/hold-reaches-the-disk"):
        before = shell.check(state)
        guest.breaks()
        machine.save("held")
        rows.append([f"{name}, held", comes(machine, guest.old)])
    with report.case(f"{name}/promotion-leaves-all-as-it-was"):
        machine.load("held")
        guest.mended()
        require(shell.check(state) == before, f"it is not what it was: {shell.check(state)}, not {before}")
        rows.append([f"{name}, promoted", comes(machine, guest.new)])
    machine.forget("held")


def tell(lab, report):
    """The same machine with the one configuration and with the other, on the older kernel."""
    old, new = lab.kernels()
    stage = lab.stage("el7")
    menu = Menu()
    for make in (menu.amazon2, menu.centos7):
        (stage / make.__name__).write_text(make(old, new))
    payload = lab.payload("el7", {**lab.guest_files(), "el7": stage})
    shutil.rmtree(stage)
    rows = []
    with lab.machine("two-kernels", direct=False, payload=payload, network=NIC) as machine:
        shell = machine.shell
        machine.settle()
        install(machine)
        guest = Guest(machine, old, new)
        with report.case("grub/el7/amazon2/as-shipped"):
            shell.check(f"cp /lab/el7/amazon2 {CONFIG}; grub-script-check {CONFIG}; cp /boot/vmlinuz-{old} /boot/vmlinuz-{RESCUE}; "
                        f"cp /boot/initrd.img-{old} /boot/initramfs-{RESCUE}.img; grub-reboot '{menu.older(old)}'; sync")
            guest.boots(old)
        machine.save("ready")
        held(guest, report, rows, "grub/el7/amazon2", f"sha256sum {CONFIG}; ls {CUSTOM} 2>&1; grub-editenv - list")
        machine.load("ready")
        shell.check(f"cp /lab/el7/centos7 {CONFIG}; grub-set-default 'CentOS Linux ({new}) 7 (Core)'; sync")
        held(guest, report, rows, "grub/el7/centos7", f"sha256sum {CONFIG}; ls {CUSTOM} 2>&1; grub-editenv - list")
    payload.unlink()
    report.say("\ngrub.cfg of Amazon Linux 2 and CentOS 7\n" + table(["after", "booted"], rows) + "\n")


STORIES = [Story("grub/el7", tell)]
