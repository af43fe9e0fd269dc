"""Entry of the VM tier; run.sh installs what it needs and then calls this."""

import argparse
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from cases import oracle
from cases.boot import el7, grub, powercut, stock, systemd_boot, xfs, xfs_root
from cases.gate import gate
from cases.updates import dnf, lockout, offline
from vmlab.disk import Peak
from vmlab.errors import LabError, Skip
from vmlab.lab import Lab
from vmlab.report import Report

# In the order of the longest first, so that two at a time end together; beside the first, which waits for its image, one that has
# none.
STORIES = [*lockout.STORIES, *oracle.STORIES, *gate.STORIES, *dnf.STORIES, *powercut.STORIES, *grub.STORIES, *stock.STORIES, *systemd_boot.STORIES,
           *el7.STORIES, *xfs.STORIES, *xfs_root.STORIES, *offline.STORIES]


def chosen(wanted, full):
    """The stories whose name is, or lies below, one of the names given; when none is, all of them, the long ones only if `full`."""
    if not wanted:
        return [story for story in STORIES if full or not story.long]
    found = [story for story in STORIES if any(story.name == name or story.name.startswith(f"{name}/") for name in wanted)]
    unknown = [name for name in wanted if not any(s.name == name or s.name.startswith(f"{name}/") for s in STORIES)]
    if unknown:
        sys.exit(f"unknown case {', '.join(unknown)}; there are: {', '.join(story.name for story in STORIES)}")
    return found


def tell(story, lab, report):
    """Runs one story; what it does not catch itself is its failure."""
    started = time.monotonic()
    try:
        story.run(lab, report)
    except Skip as why:
        report.skip(story.name, why)
    except LabError as why:
        report.fail(story.name, why)
    except Exception as error:  # pylint: disable=broad-except
        report.fail(story.name, f"{type(error).__name__}: {error}")
    report.say(f"{story.name}: {time.monotonic() - started:.0f} s")


def main():
    """Runs the chosen stories, as many at a time as there are cores."""
    parser = argparse.ArgumentParser(prog="tests/vm/run.sh", description="vfguard in virtual machines")
    parser.add_argument("--full", action="store_true", default=os.environ.get("VFGUARD_FULL") == "1", help="the rare and slow cases too")
    parser.add_argument("--images", action="store_true", help="only make the guests' disks and packages, so that a later run finds them")
    parser.add_argument("--jobs", type=int, default=2, help="machines at a time")
    parser.add_argument("case", nargs="*", help="such as gate, or gate/debian12")
    options = parser.parse_args()
    # QEMU dies with its parent, and the next run clears away what is left; waiting for the stories would take minutes.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: os._exit(1))
    report = Report()
    lab = Lab(report, options.full)
    stories = chosen(options.case, options.full)
    try:
        lab.prepare()
        if options.images:
            lab.make_images()
            for story in stories:
                if story.ahead:
                    story.ahead(lab)
            return report.finish()
        lab.build()
    except Skip as why:
        for story in stories:
            report.skip(story.name, why)
        return report.finish()
    except LabError as why:
        report.fail("lab", why)
        return report.finish()
    threading.excepthook = lambda hook: report.fail("lab", hook.exc_value)
    with Peak(lab.cache) as peak, ThreadPoolExecutor(options.jobs) as pool:
        for story in stories:
            pool.submit(tell, story, lab, report)
    report.say(f"on the disk: at most {peak.runs} MB of machines and payloads, {peak.images} MB of images")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
