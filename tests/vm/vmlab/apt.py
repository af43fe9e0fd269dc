"""Debian packages for the guests, from the mirror that this host itself uses.

apt runs with its own lists and archives in the cache, so the host's sources stay as they are. Which mirror serves
Debian is read from the host's sources with `apt-get indextargets`; a host without a Debian mirror cannot build guests.
"""

import re
import subprocess
from pathlib import Path

from .errors import LabError, Skip
from .lock import FileLock

# What each guest's packages come from; backports only where the lab needs one (QEMU, a newer kernel).
SUITES = {
    "bookworm": ["bookworm", "bookworm-updates", "bookworm-backports", "bookworm-security"],
    "trixie": ["trixie", "trixie-updates", "trixie-security"],
}
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
APT_SECONDS = 600


def mirrors():
    """The URIs of the host's Debian and Debian security mirrors."""
    command = ["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"]
    output = subprocess.run(command, capture_output=True, text=True, timeout=APT_SECONDS).stdout
    found = {}
    for line in output.splitlines():
        label, _, uri = line.rpartition(" ")
        found.setdefault(label, uri)
    if "Debian" not in found:
        raise Skip("the host's apt knows no Debian mirror (run apt-get update on a Debian host)")
    return found["Debian"], found.get("Debian-Security")


class Apt:
    """One release's packages: its own lists and archives, nothing of the host's changed."""

    def __init__(self, cache, release):
        self.release = release
        self.directory = cache / "apt" / release
        self.archives = self.directory / "archives"
        for path in (self.directory / "lists" / "partial", self.archives / "partial"):
            path.mkdir(parents=True, exist_ok=True)
        self.sources = self.directory / "sources.list"

    def write_sources(self):
        """Writes the sources.list; the content follows the host's mirror."""
        main, security = mirrors()
        lines = []
        for suite in SUITES[self.release]:
            uri = security if suite.endswith("-security") else main
            if uri:
                lines.append(f"deb [signed-by={KEYRING}] {uri} {suite} main\n")
        self.sources.write_text("".join(lines))

    def run(self, *arguments, tool="apt-get", check=True):
        """Runs apt-get or apt-cache on this release's lists."""
        options = {
            "Dir::Etc::SourceList": self.sources,
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State::Lists": self.directory / "lists",
            "Dir::Cache::Archives": self.archives,
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::srcpkgcache": "",
            "APT::Sandbox::User": "root",
            "Acquire::Retries": "3",
            "DPkg::Lock::Timeout": "300",
        }
        command = [tool, *(f"-o{key}={value}" for key, value in options.items()), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=APT_SECONDS,
                              stdin=subprocess.DEVNULL, cwd=self.archives)
        if check and done.returncode:
            raise LabError(f"{tool} {' '.join(arguments)}: {done.stderr.strip()[-400:]}")
        return done.stdout

    def update(self):
        """Fetches the lists."""
        if not KEYRING.exists():
            raise Skip("debian-archive-keyring is not installed")
        self.write_sources()
        try:
            self.run("update", "-q")
        except (LabError, subprocess.TimeoutExpired) as error:
            raise Skip(f"no package lists for {self.release}: {error}") from error

    def names(self, pattern):
        """The packages whose whole name matches, in version order of the numbers in the name."""
        listed = self.run("pkgnames", tool="apt-cache").split()
        matching = [name for name in listed if re.fullmatch(pattern, name)]
        return sorted(matching, key=lambda name: [int(n) for n in re.findall(r"\d+", name)])

    def version(self, package):
        """The candidate version, or None when the lists only mention the name."""
        policy = self.run("policy", package, tool="apt-cache")
        match = re.search(r"Candidate: (\S+)", policy)
        return match.group(1) if match and match.group(1) != "(none)" else None

    def download(self, package):
        """The .deb of a package, fetched once for each version."""
        version = self.version(package)
        if version is None:
            raise LabError(f"{self.release} has no package {package}")
        pattern = f"{package}_{version.replace(':', '%3a')}_*.deb"
        with FileLock(self.directory / "lock"):
            if not list(self.archives.glob(pattern)):
                self.run("download", "-q", f"{package}={version}")
        return next(self.archives.glob(pattern))


def extract(deb, directory):
    """Unpacks a package's files below a directory, without installing it."""
    directory.mkdir(parents=True, exist_ok=True)
    subprocess.run(["dpkg-deb", "-x", str(deb), str(directory)], check=True, timeout=APT_SECONDS)
