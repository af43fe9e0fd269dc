"""Every way to reboot, against the closed gate and against the open one, on two systemds."""

import re
import time
from dataclasses import dataclass

from vmlab.errors import require
from vmlab.install import install
from vmlab.report import table

from .. import Story
from .bounds import bounded
from .hardened import brought, hardened
from .triggers import PASSES, REFUSED, UNIT, Trigger
from .wired import README, wired

NIC = ("-netdev", "user,id=n0,restrict=on", "-device", "e1000e,netdev=n0")      # a device in use, for which a kernel needs a driver
QUIET_SECONDS = 2.5     # longer than any queued reboot needs to stop the canary
HEALTH = ("systemctl is-system-running; systemctl list-jobs --no-legend | wc -l; systemctl is-active multi-user.target canary.service; "
          "test -e /run/nologin && echo NOLOGIN; true")


@dataclass
class Outcome:
    """What came of one trigger."""

    end: str
    code: object
    message: str
    canary: bool        # whether the canary was stopped
    health: str = ""


class Subject:
    """A machine with vfguard in it, and states to go back to."""

    def __init__(self, machine, lab, report, name):
        self.machine = machine
        self.lab = lab
        self.report = report
        self.name = name
        self.systemd = 0

    def prepare(self):
        """Boots and installs vfguard."""
        self.machine.settle()
        shell = self.machine.shell
        self.systemd = int(re.search(r"systemd (\d+)", shell.check("systemctl --version")).group(1))
        install(self.machine)
        shell.run("rm -f /run/nologin; systemctl reset-failed")

    def fire(self, trigger, awaited=None):
        """Pulls one trigger and watches what becomes of the machine.

        `awaited(outcome)` tells when what the test hopes for has come; without it, the machine has to stay quiet.
        """
        machine = self.machine
        seen = len(machine.console())
        if trigger.monitor:
            machine.qmp.human(trigger.monitor)
            outcome = Outcome("running", None, "", False)
        else:
            answer = machine.shell.run(trigger.command, trigger.seconds)
            outcome = Outcome("running", answer.code, answer.output, False)
        quick = not trigger.later and outcome.code is not None
        deadline = time.monotonic() + (trigger.seconds if awaited else 0.3 if quick else QUIET_SECONDS)
        while True:
            if not machine.running():
                outcome.end = f"gone ({self.reason()})"
            elif "Linux version" in machine.console()[seen:]:
                outcome.end = "gone (another kernel)"
            outcome.canary = "CANARY-STOPPED" in machine.console()[seen:]
            if outcome.end != "running" or (awaited and awaited(outcome)):
                return outcome
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
        health = machine.shell.run(HEALTH, 20)
        outcome.health = health.output
        outcome.canary = "CANARY-STOPPED" in machine.console()[seen:]
        if health.code != 0:
            outcome.end = "not answering"
        return outcome

    def reason(self):
        """Why QEMU says that the guest is gone."""
        reasons = {event["data"].get("reason", "?") for event in self.machine.events("SHUTDOWN")}
        reasons |= {f"reset by {event['data'].get('reason', '?')}" for event in self.machine.events("RESET")}
        return ", ".join(sorted(reasons))

    def offered(self, triggers):
        """The triggers that this systemd has."""
        return [trigger for trigger in triggers if self.systemd >= trigger.since]

    def passing(self, triggers):
        """Those of them that are let through: each costs a machine, and a few stand for all."""
        return [trigger for trigger in self.offered(triggers) if trigger.always or self.lab.full]


def short(text, limit=78):
    """The telling part of a message, for a table's cell."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = next((line for line in lines if UNIT in line), lines[-1] if lines else "")
    return telling if len(telling) <= limit else telling[:limit - 1] + "…"


def gone(outcome):
    """The machine runs no longer, or runs another kernel."""
    return outcome.end.startswith("gone")


def going(outcome):
    """The machine is on its way: services are being stopped."""
    return outcome.canary or gone(outcome)


def check_refused(trigger: Trigger, outcome: Outcome):
    """The promise of a closed gate."""
    require(outcome.end == "running", f"the machine is {outcome.end}: {outcome.message}")
    require(not outcome.canary, f"services were stopped: {outcome.message}")
    require(outcome.health.split() in (["running", "0", "active", "active"], ["degraded", "0", "active", "active"]),
            f"afterwards: {outcome.health.split()}")
    if trigger.code is not None:
        require(outcome.code == trigger.code, f"exit code {outcome.code}, not {trigger.code}: {outcome.message}")
    if trigger.told:
        require(UNIT in outcome.message, f"the refusal does not say why: {outcome.message!r}")


def closed(subject):
    """Refused ways leave everything running; the documented ways pass."""
    name, machine, report = subject.name, subject.machine, subject.report
    with report.case(f"{name}/closes"):
        machine.shell.check("vfguard gate close", 60)
        shown = machine.shell.check("systemctl show -p Requires reboot.target kexec.target")
        require(shown.count(UNIT) == 2, f"the gate is not seen closed: {shown}")
    machine.save("closed")
    rows = []
    for trigger in subject.offered(REFUSED):
        with report.case(f"{name}/refused/{trigger.name}"):
            outcome = subject.fire(trigger)
            rows.append(["closed", trigger.name, outcome.end, outcome.code, "stopped" if outcome.canary else "running",
                         short(outcome.message)])
            try:
                check_refused(trigger, outcome)
            except Exception:
                machine.load("closed")
                raise
    for command in ("systemctl daemon-reload", "systemctl daemon-reexec"):
        with report.case(f"{name}/survives/{command}"):
            machine.shell.check(command)
            machine.shell.until("systemctl is-system-running | grep -qE 'running|degraded'", 30)
            check_refused(REFUSED[0], subject.fire(REFUSED[0]))
    told = " ".join(README.read_text().partition("## What can still reboot the machine")[2].partition("\n## ")[0].split())
    for trigger in subject.passing(PASSES):
        with report.case(f"{name}/passes/{trigger.name}"):
            machine.load("closed")
            outcome = subject.fire(trigger, gone)
            rows.append(["closed", trigger.name, outcome.end, outcome.code, "stopped" if outcome.canary else "-", ""])
            require(gone(outcome), f"the README says that it passes, and it did not: {outcome}")
            require(trigger.named and trigger.named in told, f"it passes, and the README does not say {trigger.named!r}")
    return rows


def opened(subject):
    """With the gate open again, the ways work: so the refusals were the gate's."""
    name, machine, report = subject.name, subject.machine, subject.report
    rows = []
    machine.load("closed")
    with report.case(f"{name}/opens"):
        machine.shell.check("vfguard gate open --reason 'the tests want to reboot'", 60)
        shown = machine.shell.check("systemctl show -p Requires reboot.target kexec.target; ls /run/systemd/system")
        require(UNIT not in shown, f"the gate is not seen open: {shown}")
    machine.save("open")
    machine.forget("closed")
    for trigger in subject.passing(REFUSED):
        if not (subject.lab.full or trigger.sample):
            continue
        with report.case(f"{name}/open/{trigger.name}"):
            machine.load("open")
            outcome = subject.fire(trigger, going)
            rows.append(["open", trigger.name, outcome.end, outcome.code, "stopped" if outcome.canary else "running",
                         short(outcome.message)])
            require(going(outcome), f"nothing happened: {outcome}")
    machine.forget("open")
    return rows


def story(disk, name, builds=False):
    """The story on one guest, which may be one that can build."""
    def run(lab, report):
        payload = lab.payload(name.replace("/", "-"), {**lab.guest_files(), **brought(lab)})
        with lab.machine(disk, payload=payload, network=NIC) as machine:
            subject = Subject(machine, lab, report, name)
            subject.prepare()
            machine.save("installed")
            if builds:
                with report.case(f"{name}/bounds"):
                    bounded(machine.shell)
            rows = closed(subject) + opened(subject)
            report.say(f"\n{name}: systemd {subject.systemd}\n"
                       + table(["gate", "way", "machine", "code", "canary", "message"], rows) + "\n")
            wired(subject)
            hardened(subject)
        payload.unlink()
    return Story(name, run)


STORIES = [story("debian12", "gate/debian12", builds=True), story("debian13", "gate/debian13")]
