"""Debian packages for the guests: the kernels that were chosen for the run, and apt on lists of its own (tests/archive)."""

import os
import subprocess
import sys
from pathlib import Path

ARCHIVE = Path(__file__).resolve().parents[2] / "archive"
sys.path.insert(0, str(ARCHIVE))

# pylint: disable=wrong-import-position
from chosen import Chosen  # noqa: E402
from lists import Apt, Locked, Unavailable, sources  # noqa: E402
from offer import is_backport  # noqa: E402

from .errors import LabError, Skip  # noqa: E402

RELEASES = ("bookworm", "trixie")
UNAVAILABLE = 69            # sysexits.h, as tests/lib/common.sh uses it
CHOOSE_SECONDS = 3600       # the chooser's own limit, and as long for the one before it


def chosen():
    """The kernels of this run: chosen already (VFGUARD_CHOSEN), or now."""
    try:
        done = subprocess.run([str(ARCHIVE / "choose.py")], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                              timeout=CHOOSE_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise LabError(str(error)) from error
    last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    if done.returncode == UNAVAILABLE:
        raise Skip(f"no kernels for the guests: {last}")
    if done.returncode:
        raise LabError(f"tests/archive/choose.py: {last}")
    os.environ["VFGUARD_CHOSEN"] = done.stdout.strip()
    return Chosen(done.stdout.strip())


def suites(release):
    """The sources that a guest's root is made of: a release without its backports."""
    try:
        return [line for line in sources(release) if not is_backport(line.split()[-2])]
    except Unavailable as why:
        raise Skip(str(why)) from why


def install(cache, release, arguments):
    """Installs packages on this host, from its own release and that one's backports; what apt said if it could not."""
    try:
        with Locked(cache / "archive"):
            apt = Apt(cache / "archive" / release, sources(release), cache / "archive" / "debs")
            apt.update()
            return apt.run("apt-get", "install", "-y", "-q", "--no-install-recommends", *arguments).stderr
    except Unavailable as why:
        raise Skip(str(why)) from why
