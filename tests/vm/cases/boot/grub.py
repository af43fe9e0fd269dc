"""Predicted = booted: the real GRUB of a Debian guest with two kernels, against `vfguard next-boot`.

Nothing is left to the guest's shutdown: the default is set, the prediction made, and the reset button pressed at once. Which
kernel came is read from its first words on the console.
"""

import json
import re
import time
from dataclasses import dataclass

from vmlab.errors import LabError, require
from vmlab.install import install
from vmlab.report import table

from .. import Story

KERNEL_SECONDS = 90
# The guests come as Debian ships them: `set default="0"`, which no saved entry changes. With this they obey one.
SAVED = "echo GRUB_DEFAULT=saved >/etc/default/grub.d/saved.cfg; update-grub 2>&1"
STOCK = "rm -f /etc/default/grub.d/saved.cfg; update-grub 2>&1"


@dataclass
class Setting:
    """A way to choose what boots; `boots` is what GRUB makes of it on each of the resets that follow."""

    name: str
    command: str
    boots: list
    always: bool = False        # also without --full: one of each kind


def settings(old, new, entry):
    """What grub-mkconfig, grub-set-default and grub-reboot can be told; `entry` is the id of a kernel's menu entry."""
    def default(value):
        return f"echo 'GRUB_DEFAULT=\"{value}\"' >/etc/default/grub.d/zz-test.cfg; update-grub 2>&1"
    title = "Advanced options for Debian GNU/Linux>Debian GNU/Linux, with Linux {}"
    return [
        Setting("stock", f"{STOCK}; grub-set-default '{entry[old]}'", [new], True),
        Setting("stock-once", f"{STOCK}; grub-reboot '{entry[old]}'", [old, new], True),
        Setting("nothing-saved", "grub-editenv - unset saved_entry", [new]),
        Setting("saved-id", f"grub-set-default '{entry[old]}'", [old], True),
        Setting("saved-title", f"grub-set-default '{title.format(old)}'", [old]),
        Setting("saved-number", "grub-set-default '1>2'", [old]),
        Setting("saved-names-nothing", "grub-set-default 'no such entry'", [new]),
        Setting("saved-id-without-its-submenu", f"grub-set-default '{entry[old].partition('>')[2]}'", [new]),
        Setting("once-then-back", f"grub-set-default '{entry[new]}'; grub-reboot '{entry[old]}'", [old, new]),
        Setting("once-over-a-saved-one", f"grub-set-default '{entry[old]}'; grub-reboot '{entry[new]}'", [new, old]),
        Setting("default-number", default("0"), [new]),
        Setting("default-submenu-number", default("1>2"), [old], True),
        Setting("default-title", default(title.format(old)), [old]),
        Setting("flat-menu", "printf 'GRUB_DISABLE_SUBMENU=y\\n' >/etc/default/grub.d/zz-test.cfg; update-grub 2>&1; "
                f"grub-set-default '{entry[old].partition('>')[2]}'", [old]),
        Setting("new-kernel-gone", f"rm /boot/vmlinuz-{new} /boot/initrd.img-{new}; update-grub 2>&1", [old]),
    ]


def booted(machine, seen):
    """The kernel whose first words are on the console after `seen` characters."""
    deadline = time.monotonic() + KERNEL_SECONDS
    while time.monotonic() < deadline:
        match = re.search(r"Linux version (\S+)", machine.console()[seen:])
        if match:
            return match.group(1)
        time.sleep(0.2)
    raise LabError(f"no kernel started: {machine.console()[seen:][-400:]!r}")


def reset(machine):
    """Presses reset; which kernel came."""
    seen = len(machine.console())
    machine.hard_reset()
    return booted(machine, seen)


def predicted(machine):
    """What vfguard says boots: now, and on the time after a boot-once."""
    answer = machine.shell.run("vfguard --format json next-boot 2>/dev/null")
    try:
        told = json.loads(answer.output[answer.output.index("{"):])
        by_role = {kernel["role"]: kernel["kernel"] for kernel in told["kernels"]}
    except (ValueError, KeyError) as error:
        raise LabError(f"vfguard next-boot ended with {answer.code}: {answer.output[-300:]}") from error
    later = by_role.get("next")
    return [by_role.get("once", later), later], told["certain"]


def entries(machine, kernels):
    """The menu entry of each kernel, as `grub-set-default` wants it: submenu id, entry id."""
    listed = machine.shell.check("sed -n \"s/.*submenu .*menuentry_id_option '\\([^']*\\)'.*/S \\1/p; "
                                 "s/.*menuentry .*menuentry_id_option '\\([^']*\\)'.*/E \\1/p\" /boot/grub/grub.cfg")
    submenu = next(line[2:] for line in listed.splitlines() if line.startswith("S "))
    return {kernel: next(f"{submenu}>{line[2:]}" for line in listed.splitlines()
                         if line.startswith("E ") and f"{kernel}-advanced" in line) for kernel in kernels}


def menu(lab, report):
    """Every way to choose, predicted and then booted."""
    old, new = lab.kernels()
    payload = lab.payload("grub", lab.guest_files())
    rows = []
    with lab.machine("two-kernels", direct=False, payload=payload) as machine:
        machine.settle()
        install(machine)
        machine.shell.check(SAVED, 120)
        entry = entries(machine, [old, new])
        machine.shell.check("sync")
        machine.save("ready")
        for setting in settings(old, new, entry):
            if not (setting.always or lab.full):
                continue
            with report.case(f"grub/menu/{setting.name}"):
                machine.load("ready")
                machine.shell.check(setting.command, 120)
                machine.shell.check("sync")
                forecast, certain = predicted(machine)
                came = [reset(machine) for _ in setting.boots]
                rows.append([setting.name, " then ".join(map(str, forecast[:len(came)])), "yes" if certain else "no", " then ".join(came)])
                require(came == setting.boots, f"the test itself is wrong about GRUB: {came}, not {setting.boots}")
                require(forecast[:len(came)] == came, f"predicted {forecast}, booted {came}")
                require(certain, "predicted rightly, but called uncertain")
    payload.unlink()
    report.say("\ngrub: predicted and booted\n" + table(["setting", "predicted", "certain", "booted"], rows) + "\n")


STORIES = [Story("grub/menu", menu)]
