"""Debian packages for the guests: kernels that were chosen for the run, and lists for the rest (tests/archive)."""

import os
import subprocess
import sys
import time
from pathlib import Path

ARCHIVE = Path(__file__).resolve().parents[2] / "archive"
sys.path.insert(0, str(ARCHIVE))

# pylint: disable=wrong-import-position
from debian import Apt, Locked, Unavailable, sources  # noqa: E402
from chosen import Chosen  # noqa: E402

from .errors import LabError, Skip  # noqa: E402

RELEASES = ("bookworm", "trixie")
LISTS_SECONDS = 3600        # lists of this run, or of one that has only just ended
UNAVAILABLE = 69            # sysexits.h, as tests/lib/common.sh uses it
CHOOSE_SECONDS = 1800


def chosen():
    """The kernels of this run: chosen already (VFGUARD_CHOSEN), or now."""
    done = subprocess.run([str(ARCHIVE / "choose.py")], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          timeout=CHOOSE_SECONDS, check=False)
    last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    if done.returncode == UNAVAILABLE:
        raise Skip(f"no kernels for the guests: {last}")
    if done.returncode:
        raise LabError(f"tests/archive/choose.py: {last}")
    os.environ["VFGUARD_CHOSEN"] = done.stdout.strip()
    return Chosen(done.stdout.strip())


def lists(cache, release):
    """apt on lists of a release, fetched again if they are not of the last hour."""
    try:
        with Locked(cache / "archive"):
            apt = Apt(cache / "archive" / release, sources(release), cache / "archive" / "debs")
            marker = apt.directory / "updated"
            if not marker.exists() or time.time() - marker.stat().st_mtime > LISTS_SECONDS:
                complaint = apt.update()
                if complaint and not apt.dates():
                    raise Skip(f"no package lists for {release}: {complaint}")
                if not complaint:
                    marker.touch()
    except Unavailable as why:
        raise Skip(str(why)) from why
    return apt
