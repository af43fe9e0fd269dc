#!/usr/bin/env python3
"""Chooses the kernels that the labs use today, from what Debian's archive offers, and brings their packages.

    choose.py [--for labs|bullseye]     prints the path of the file that says what was chosen (chosen.py has its form)
    choose.py --tell FILE               prints what was chosen, passed over and why, on one line

With VFGUARD_CHOSEN set and its packages whole, that choice stands: all tiers of a run use one state of the archive. So does the
reason in VFGUARD_NOT_CHOSEN. Packages and lists are kept in the cache (VFGUARD_CACHE). Exit code 69: it cannot be had here today;
the last line on stderr says which kernel or relation is missing.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from lists import ALL_SECONDS, Apt, Locked, Unavailable, age, sources
from chosen import Chosen, text
from sets import Missing, NotThere, for_bullseye, for_labs
from symbols import crcs

EX_UNAVAILABLE = 69
# What apt says of lists that are not of one state; it does not try these again by itself.
IN_FLUX = ("Hash Sum mismatch", "unexpected size", "Mirror sync in progress")
TRIES, PAUSE = 3, 20
PLANS = {"labs": ("bookworm", for_labs), "bullseye": ("bullseye", for_bullseye)}
KEPT_SECONDS = 24 * 3600        # a choice, and with it the packages that it names: longer than any run that uses it


def cache():
    """The directory that the archive has in the cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("VFGUARD_CACHE") or Path(home) / "vfguard-tests").absolute() / "archive"


def choose(apt, plan):
    """Looks at the lists and brings what is chosen; returns the text of the file.

    A package that is listed and does not arrive may mean that the mirror has moved on: the lists are fetched once more, and all is
    looked at again.
    """
    apt.deadline = time.monotonic() + ALL_SECONDS
    complaint = fresh(apt)
    moved = False

    def arrive(packages):
        nonlocal moved
        try:
            apt.fetch(packages)
        except NotThere:
            if not moved:
                moved = True
                raise MovedOn() from None
            raise

    def versions(image, headers):
        return crcs(tuple(map(apt.deb, image)), apt.deb(headers))

    while True:
        try:
            return text(plan(apt.offer(), arrive, versions), apt, complaint)
        except MovedOn:
            complaint = fresh(apt)
        except (Missing, Unavailable) as why:
            if complaint:
                ages = ", ".join(sorted({age(date) for date in apt.dates().values()}))
                old = f"the lists are {ages} old and " if ages else "the lists "
                raise Missing(f"{why} ({old}could not be fetched: {complaint})") from None
            raise


def fresh(apt):
    """Fetches the lists, again where the mirror is just being written; returns what is wrong with them then."""
    complaint = apt.update()
    for _ in range(TRIES):
        if not any(word in complaint for word in IN_FLUX):
            break
        time.sleep(PAUSE)
        complaint = apt.update()
    return complaint


class MovedOn(Exception):
    """The lists may be older than the archive."""


def prune(directory):
    """Forgets choices that no run can be using, packages that none of the rest names, and what killed runs left."""
    for partial in (directory / "debs").glob("partial-*"):
        shutil.rmtree(partial, ignore_errors=True)
    kept = set()
    for file in (directory / "chosen").iterdir():
        if not file.is_file() or time.time() - file.stat().st_mtime > KEPT_SECONDS:
            (Path.unlink if file.is_file() else shutil.rmtree)(file)
        else:
            kept |= {str(deb) for deb in Chosen(file).files().values()}
    for deb in (directory / "debs").glob("*.deb"):
        if str(deb) not in kept:
            for suffix in ("", ".sha256", ".needed"):
                Path(f"{deb}{suffix}").unlink(missing_ok=True)


def main():
    """Parses, chooses, prints."""
    parser = argparse.ArgumentParser(prog="tests/archive/choose.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--for", dest="plan", choices=PLANS, default="labs", help="whose kernels; 600 MB are brought for the labs")
    parser.add_argument("--tell", metavar="FILE", help="only print what an answer says, on one line")
    options = parser.parse_args()
    if options.tell:
        if not Path(options.tell).is_file() or not Chosen(options.tell).kernels():
            sys.exit(f"choose.py: {options.tell} is no answer of choose.py (they lie in {cache() / 'chosen'})")
        print(Chosen(options.tell).summary())
        return 0
    given, reason = os.environ.get("VFGUARD_CHOSEN"), os.environ.get("VFGUARD_NOT_CHOSEN")
    if given and options.plan == "labs":
        if not Path(given).is_file() or not Chosen(given).whole():
            sys.exit(f"choose.py: {given} or a package that it names is gone or changed: unset VFGUARD_CHOSEN to choose again")
        print(given)
        return 0
    if reason and options.plan == "labs":
        print(reason, file=sys.stderr)
        return EX_UNAVAILABLE
    release, plan = PLANS[options.plan]
    directory = cache()
    try:
        with Locked(directory):
            (directory / "chosen").mkdir(exist_ok=True)
            apt = Apt(directory / release, sources(release), directory / "debs")
            file = directory / "chosen" / f"{options.plan}-{time.time_ns()}"
            written = choose(apt, plan)
            part = directory / "part"
            part.write_text(written, encoding="utf-8")
            part.rename(file)
            prune(directory)
    except (Missing, Unavailable) as why:
        print(why, file=sys.stderr)
        return EX_UNAVAILABLE
    except (OSError, ValueError, subprocess.SubprocessError) as why:
        sys.exit(f"choose.py: {why}")
    print(Chosen(file).summary(), file=sys.stderr)
    print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
