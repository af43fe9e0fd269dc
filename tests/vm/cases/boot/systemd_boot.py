"""systemd-boot under UEFI: what `vfguard next-boot` predicts is what boots, and the boot default is held and promoted there.

The guest of the GRUB stories, with Debian's systemd-boot and an EFI system partition on a disk of its own. What the package's own script does
where it finds such a partition is done first: systemd-boot is installed there, and both kernels are copied to it. Nothing is left to the
guest's shutdown: reset is pressed in the moment in which vfguard or bootctl ends.
"""

from vmlab.efi import LABEL
from vmlab.errors import require
from vmlab.install import install
from vmlab.report import table

from .. import Story
from .grub import Setting, booted, predicted, reset
from .stock import Guest, forced

# A network card without a boot ROM: the firmware would try to boot from the network.
NIC = ("-netdev", "user,id=n0,restrict=on", "-device", "e1000e,netdev=n0,romfile=")
ESP = "/boot/efi"
CONF = f"{ESP}/loader/loader.conf"
ENTRIES = f"{ESP}/loader/entries"
INSTALL = (f"mkdir {ESP} && echo 'LABEL={LABEL} {ESP} vfat umask=0077 0 1' >>/etc/fstab && systemctl daemon-reload && mount {ESP} && "
           "bootctl install --make-machine-id-directory=auto 2>&1 && "
           "for kernel in /boot/vmlinuz-*; do kernel-install add \"${kernel#/boot/vmlinuz-}\" \"$kernel\" || exit; done && "
           f"rm -r {ESP}/seed {ENTRIES}/seed.conf && sync")
# All that a hold may change: loader.conf, and the variable where there is one.
STATE = f"cat {CONF} /sys/firmware/efi/efivars/LoaderEntryDefault-* 2>/dev/null | sha256sum; ls {ESP}/loader"


def settings(old, new, name):
    """What loader.conf, bootctl and the entries can be told; `name` is that of a kernel's entry."""
    def conf(*lines):
        return f"printf '%s\\n' {' '.join(repr(line) for line in lines)} >>{CONF}"

    def counted(kernel, counter):
        return f"mv {ENTRIES}/{name[kernel]}.conf {ENTRIES}/{name[kernel]}{counter}.conf"
    return [
        Setting("stock", "true", [new]),
        Setting("once", f"bootctl set-oneshot {name[old]}.conf", [old, new]),
        Setting("variable", f"bootctl set-default {name[old]}.conf", [old], True),
        Setting("variable-glob", f"bootctl set-default '*-{old}*'", [old]),
        Setting("variable-over-the-file", f"{conf(f'default {name[old]}.conf')}; bootctl set-default '*-{new}.conf'", [new]),
        Setting("variable-saved-nothing-yet", "bootctl set-default @saved", [new]),
        Setting("file-glob", conf(f"default *-{old}*"), [old]),
        Setting("file-without-suffix", conf(f"default {name[old]}"), [new]),
        Setting("file-last-default-counts", conf(f"default *-{new}.conf", f"default *-{old}.conf"), [old]),
        Setting("file-names-nothing", f"sed -i '/^default/d' {CONF}; {conf('default nothing')}", [new]),
        Setting("kernel-gone", f"rm {ESP}/*/{new}/linux", [old]),
        Setting("counted", counted(new, "+2"), [new, new, old]),
        Setting("counted-without-its-counter", f"{counted(old, '+3')}; {conf(f'default {name[old]}.conf')}", [new]),
        Setting("counted-once-without-its-counter", f"{counted(old, '+3')}; bootctl set-oneshot {name[old]}.conf", [new]),
    ]


def comes(machine, *kernels, how=reset):
    """Which kernels boot, one after the other, is as predicted, and the ones that are wanted; the guest is not waited for."""
    forecast, certain = predicted(machine)
    came = [how(machine)]
    for _ in kernels[1:]:
        # In TCG a second reset of the same QEMU takes the firmware three times as long.
        machine.cycle()
        came.append(booted(machine, 0))
    require(came == list(kernels) and forecast[:len(came)] == came[:2] and certain,
            f"predicted {forecast} ({'certain' if certain else 'not certain'}), booted {came}, and it should be {kernels}")
    return " then ".join(came)


def choices(machine, report, rows, wanted):
    """Every way to choose, from one state of the guest."""
    for setting in wanted:
        with report.case(f"systemd-boot/{setting.name}"):
            machine.load("ready")
            machine.shell.check(f"{setting.command}; sync")
            rows.append([setting.name, comes(machine, *setting.boots)])


def held(guest, report, rows, name, command):
    """Held after a command, by which means that may be, beside a one-shot, and promoted."""
    machine, old, new = guest.machine, guest.old, guest.new
    full = name != "stock" or guest.full
    with report.case(f"systemd-boot/{name}/hold-reaches-the-disk"):
        machine.load("ready")
        guest.shell.check(f"{command}; sync")
        before = guest.shell.check(STATE)
        guest.breaks()
        machine.save("held")
        rows.append([f"{name}, held, reset at once", comes(machine, old)])
        if full:
            machine.settle()
            during = guest.shell.check(STATE)
            require(guest.shell.run("vfguard reconcile", 120).code == 3 and guest.shell.check(STATE) == during, "a second run moves the default again")
    if full:
        with report.case(f"systemd-boot/{name}/held-through-reboot-f"):
            machine.load("held")
            rows.append([f"{name}, held, reboot -f", comes(machine, old, how=forced)])
    with report.case(f"systemd-boot/{name}/one-shot-goes-first-and-once"):
        machine.load("held")
        guest.shell.check(f"bootctl set-oneshot \"$(cd {ENTRIES} && echo *-{new}.conf)\"")
        rows.append([f"{name}, held, bootctl set-oneshot", comes(machine, new, old)])
    with report.case(f"systemd-boot/{name}/promotion-leaves-all-as-it-was"):
        machine.load("held")
        guest.mended()
        require(guest.shell.check(STATE) == before, f"the configuration is not what it was: {guest.shell.check(f'cat {CONF}')}")
        rows.append([f"{name}, promoted, reset at once", comes(machine, new)])
    machine.forget("held")


def tell(lab, report):
    """Installs systemd-boot as its package does; then each claim from the same state of the guest, on the older kernel."""
    old, new = lab.kernels()
    payload = lab.payload("systemd-boot", lab.guest_files())
    rows = []
    with lab.machine("two-kernels", payload=payload, network=NIC, efi=True) as machine:
        machine.settle()
        install(machine)
        machine.shell.check(INSTALL, 240)
        token = machine.shell.check("cat /etc/machine-id")
        name = {kernel: f"{token}-{kernel}" for kernel in (old, new)}
        guest = Guest(machine, old, new)
        guest.full = lab.full
        machine.save("ready")
        choices(machine, report, rows, [s for s in settings(old, new, name) if s.always or lab.full])
        held(guest, report, rows, "stock", "true")
        if lab.full:
            held(guest, report, rows, "variable", f"bootctl set-default '*-{new}.conf'")
            held(guest, report, rows, "counted", f"mv {ENTRIES}/{name[old]}.conf {ENTRIES}/{name[old]}+3.conf")
    payload.unlink()
    report.say("\nsystemd-boot\n" + table(["after", "booted"], rows) + "\n")


STORIES = [Story("systemd-boot", tell)]
