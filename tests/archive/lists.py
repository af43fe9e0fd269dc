"""apt on lists of its own: the host's sources, lists and caches stay as they are.

Which mirror serves Debian is read from the host's own sources with `apt-get indextargets`; a host without a Debian mirror has none.
"""

import email.utils
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from offer import Offer, read
from sets import NotThere

# What is taken from each release. A suite that the mirror does not have is done without.
SUITES = {
    "bookworm": ["bookworm", "bookworm-updates", "bookworm-security", "bookworm-backports"],
    "trixie": ["trixie", "trixie-updates", "trixie-security"],
    "bullseye": ["bullseye", "bullseye-security"],
}
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
APT_SECONDS = 900       # for one call
ALL_SECONDS = 1800      # for all that one choice needs; 600 MB on a quiet day take half a minute
DAY = 24 * 3600


class Unavailable(Exception):
    """What is wanted cannot be had on this host today; the text says why."""


def mirrors():
    """The URIs of the host's Debian mirror and of its Debian security mirror (None where it has none)."""
    command = ["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"]
    found = {}
    for line in subprocess.run(command, capture_output=True, text=True, timeout=APT_SECONDS, check=False).stdout.splitlines():
        label, _, uri = line.rpartition(" ")
        found.setdefault(label, uri)
    if "Debian" not in found:
        raise Unavailable("the host's apt knows no Debian mirror (apt-get update, on a Debian host)")
    return found["Debian"], found.get("Debian-Security")


def sources(release):
    """The lines of a sources.list for a release, from the host's mirrors."""
    if not KEYRING.exists():
        raise Unavailable("debian-archive-keyring is not installed")
    main, security = mirrors()
    lines = []
    for suite in SUITES[release]:
        uri = security if suite.endswith("-security") else main
        if uri:
            lines.append(entry(uri, suite, f"signed-by={KEYRING}"))
    return lines


def entry(uri, suite, how):
    """A line of a sources.list. The host may have other architectures, and be configured for other lists (Contents, Translation): neither
    is fetched, since one list that is broken takes its whole suite away."""
    return f"deb [arch=amd64 target=Packages {how}] {uri} {suite} main"


class Apt:
    """One release's packages, with lists in `directory`; packages are kept in `debs`, which releases share."""

    def __init__(self, directory, lines, debs):
        self.directory = Path(directory)
        self.lists = self.directory / "lists"
        self.debs = Path(debs)
        for path in (self.lists / "partial", self.debs):
            path.mkdir(parents=True, exist_ok=True)
        self.sources = self.directory / "sources.list"
        self.sources.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        self.config = self.directory / "apt.conf"
        self.deadline = None        # of a choice, by the monotonic clock
        # The hooks of the host's own update are for its own lists, and what it prefers is for its own packages.
        self.config.write_text(f'''#clear APT::Update;
#clear APT::Default-Release;
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::Etc::SourceList "{self.sources}";
Dir::Etc::SourceParts "/dev/null";
Dir::State::Lists "{self.lists}";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
APT::Sandbox::User "root";
APT::Get::AllowUnauthenticated "false";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::Check-Valid-Until "false";
Acquire::AllowReleaseInfoChange "true";
DPkg::Lock::Timeout "300";
''', encoding="utf-8")

    def run(self, tool, *arguments, cwd=None):
        """Runs apt-get, apt-cache or apt-helper on these lists."""
        command = [tool, "-c", str(self.config), *map(str, arguments)]
        left = APT_SECONDS if self.deadline is None else min(APT_SECONDS, self.deadline - time.monotonic())
        if left <= 0:
            raise Unavailable(f"the mirror is too slow: not everything arrived within {ALL_SECONDS // 60} minutes")
        try:
            return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=left, stdin=subprocess.DEVNULL,
                                  cwd=cwd, check=False, env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"})
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 124, "", f"E: {tool} took longer than {left:.0f} s\n")

    def update(self):
        """Fetches the lists. Returns what apt complained of: lists that could not be fetched stay as they were."""
        done = self.run("apt-get", "-q", "update", "-o", "APT::Update::Error-Mode=any")
        return reason(done.stderr) if done.returncode else ""

    def targets(self):
        """`(file, suite)` of each list of packages that is here."""
        done = self.run("apt-get", "indextargets", "--format", "$(FILENAME) $(CODENAME)", "Created-By: Packages")
        found = (line.rpartition(" ") for line in done.stdout.splitlines())
        return [(Path(file), suite) for file, _, suite in found if Path(file).exists()]

    def dates(self):
        """When the archive published each suite's lists: `{suite: seconds since 1970}`, from the `Date` of its Release file."""
        found = {}
        for path in sorted([*self.lists.glob("*_InRelease"), *self.lists.glob("*_Release")]):
            fields = dict(re.findall(r"^(Date|Codename): *(.*)$", path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE))
            if {"Date", "Codename"} <= fields.keys():
                found[fields["Codename"]] = email.utils.parsedate_to_datetime(fields["Date"]).timestamp()
        return found

    def offer(self):
        """The kernel packages that the lists name."""
        packages = []
        for file, suite in self.targets():
            # The list may be compressed, in any way that apt knows.
            text = self.run("/usr/lib/apt/apt-helper", "cat-file", file).stdout
            packages += read(text, suite)
        if not packages:
            raise Unavailable("there are no package lists of kernels")
        return Offer(packages)

    def deb(self, package):
        """Where a package is kept."""
        return self.debs / f"{package.name}={package.version.replace(':', '%3a')}.deb"

    def arrived(self, package):
        """Whether a package is kept, and still is what apt vouched for."""
        file = self.deb(package)
        try:
            return Path(f"{file}.sha256").read_text(encoding="ascii").strip() == digest(file)
        except FileNotFoundError:
            return False

    def fetch(self, packages):
        """Brings packages. apt checks each against the signed lists; its digest is kept beside it.

        Raises NotThere for the first one that does not arrive.
        """
        missing = [package for package in packages if not self.arrived(package)]
        if not missing:
            return
        partial = Path(tempfile.mkdtemp(prefix="partial-", dir=self.debs))
        try:
            names = [f"{package.name}={package.version}" for package in missing]
            done = self.run("apt-get", "-q", "download", *names, cwd=partial)
            came = [list(partial.glob(f"{package.name}_{package.version.replace(':', '%3a')}_*.deb")) for package in missing]
            if done.returncode == 0 and all(came):
                for package, files in zip(missing, came):
                    self._keep(package, files[0])
                return
        finally:
            shutil.rmtree(partial)
        if len(missing) == 1:
            raise NotThere(missing[0], reason(done.stderr))
        # One of them: each is asked for alone.
        for package in missing:
            self.fetch([package])

    def _keep(self, package, came):
        """The digest goes first: a file without one, or with another's, is fetched again."""
        file = self.deb(package)
        Path(f"{file}.needed").unlink(missing_ok=True)
        Path(f"{file}.sha256").write_text(f"{digest(came)}\n", encoding="ascii")
        came.rename(file)


def reason(stderr):
    """What apt said, in one line without the address of the mirror."""
    lines = [line.partition(": ")[2] for mark in ("E: ", "W: ") for line in stderr.splitlines() if line.startswith(mark)]
    text = re.sub(r"'?\w+://\S+/|'?\w+://[^\s']+|\s*\[IP: [^]]*\]", "", lines[0] if lines else "apt-get did not say why")
    return text.replace("Failed to fetch ", "")[:160]


def digest(file):
    """The SHA-256 of a file, in hexadecimal."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def age(seconds):
    """`3 days` since a time."""
    days = int((time.time() - seconds) // DAY)
    return f"{days} day{'' if days == 1 else 's'}"


class Locked:
    """Keeps other runs on this host out of a directory."""

    def __init__(self, directory):
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / "lock"
        self.file = None

    def __enter__(self):
        self.file = open(self.path, "w", encoding="ascii")
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def __exit__(self, *_):
        self.file.close()
