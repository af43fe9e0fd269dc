#!/usr/bin/env python3
"""Chooses the kernels that the labs use today, from what Debian's archive offers, and brings their packages.

    choose.py [--for labs|bullseye]     prints the path of the file that says what was chosen (chosen.py has its form)
    choose.py --tell FILE               prints what was chosen, passed over and why, on one line

With VFGUARD_CHOSEN set and its packages whole, that choice stands: all tiers of a run use one state of the archive. Packages and
lists are kept in the cache (VFGUARD_CACHE). Exit code 69: it cannot be had here today; the last line on stderr says which kernel
or relation is missing.
"""

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

from debian import Apt, Locked, Unavailable, age, sources
from chosen import Chosen, text
from sets import Missing, NotThere, for_bullseye, for_labs
from symbols import crcs

EX_UNAVAILABLE = 69
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
    complaint = apt.update()
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
        return crcs(apt.deb(image), apt.deb(headers))

    while True:
        try:
            return text(plan(apt.offer(), arrive, versions), apt, complaint)
        except MovedOn:
            complaint = apt.update()
        except Missing as why:
            if complaint:
                raise Missing(f"{why} (the lists are {', '.join(sorted({age(date) for date in apt.dates().values()}))} old and "
                              f"could not be fetched again: {complaint})") from None
            raise


class MovedOn(Exception):
    """The lists may be older than the archive."""


def prune(directory):
    """Forgets choices that no run can be using, packages that none of the rest names, and what killed runs left."""
    for partial in (directory / "debs").glob("partial-*"):
        shutil.rmtree(partial, ignore_errors=True)
    kept = set()
    for file in (directory / "chosen").iterdir():
        if time.time() - file.stat().st_mtime > KEPT_SECONDS:
            file.unlink()
        else:
            kept |= {str(deb) for deb in Chosen(file).files().values()}
    for deb in (directory / "debs").glob("*.deb"):
        if str(deb) not in kept:
            for suffix in ("", ".sha256", ".needed"):
                Path(f"{deb}{suffix}").unlink(missing_ok=True)


def main():
    """Parses, chooses, prints."""
    parser = argparse.ArgumentParser(prog="tests/archive/choose.py", description=__doc__.splitlines()[0])
    parser.add_argument("--for", dest="plan", choices=PLANS, default="labs")
    parser.add_argument("--tell", metavar="FILE")
    options = parser.parse_args()
    if options.tell:
        print(Chosen(options.tell).summary())
        return 0
    given = os.environ.get("VFGUARD_CHOSEN")
    if given and options.plan == "labs":
        if not Chosen(given).whole():
            sys.exit(f"choose.py: packages that {given} names are gone or changed: unset VFGUARD_CHOSEN to choose again")
        print(given)
        return 0
    release, plan = PLANS[options.plan]
    directory = cache()
    try:
        with Locked(directory):
            (directory / "chosen").mkdir(exist_ok=True)
            apt = Apt(directory / release, sources(release), directory / "debs")
            file = directory / "chosen" / f"{options.plan}-{time.time_ns()}"
            written = choose(apt, plan)
            part = directory / f".{file.name}"
            part.write_text(written, encoding="utf-8")
            part.rename(file)
            prune(directory)
    except (Missing, Unavailable) as why:
        print(why, file=sys.stderr)
        return EX_UNAVAILABLE
    print(Chosen(file).summary(), file=sys.stderr)
    print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
