"""What was chosen, written down once a run; every tier reads it from there and asks the archive for no kernel again.

One fact a line, so that shell and Python read it alike:

    lists SUITE DATE                       when the archive published the lists that were read
    stale WHY…                             not all lists could be fetched again
    kernel ROLE RELEASE VERSION SUITE      NEW, PREV, OLD, 612 (tests/lab/README.md); PREV may be missing. For bullseye: LATER, EARLIER
    part RELEASE PACKAGE                   what the kernel of that release is made of, the headers first
    source SERIES PACKAGE
    symvers RELEASE PACKAGE                the package with its Module.symvers, of every 6.1 kernel
    package NAME VERSION SUITE FILE        FILE lies in the cache; FILE.sha256 beside it is what apt vouched for
    passed RELEASE WHY…                    a newer kernel that was not taken
"""

import time
from pathlib import Path

from lists import digest
from sets import HEADERS, Missing


def text(choice, apt, complaint):
    """The lines for a choice."""
    lines = [f"lists {suite} {stamp(seconds)}" for suite, seconds in sorted(apt.dates().items())]
    if complaint:
        lines.append(f"stale {complaint}")
    packages = {}
    for role, kernel in choice.kernels.items():
        first = kernel.parts[0]
        lines.append(f"kernel {role} {kernel.release} {first.version} {first.suite}")
    # One kernel may have two roles.
    for kernel in {kernel.release: kernel for kernel in sorted(choice.kernels.values(), key=lambda k: len(k.parts))}.values():
        for part in kernel.parts:
            if packages.setdefault(part.name, part).version != part.version:
                raise Missing(f"{part.name} is needed in two versions, {part.version} and {packages[part.name].version}")
            lines.append(f"part {kernel.release} {part.name}")
    for word, found in (("source", choice.sources), ("symvers", choice.symvers)):
        for key, package in found.items():
            lines.append(f"{word} {key} {package.name}")
            packages.setdefault(package.name, package)
    lines += [f"package {package.name} {package.version} {package.suite} {apt.deb(package)}" for package in packages.values()]
    lines += [f"passed {release} {why}" for release, why in choice.passed.items()]
    return "".join(f"{line}\n" for line in lines)


def stamp(seconds):
    """A date as `2026-11-29T04:00Z`."""
    return time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(seconds))


class Chosen:
    """The file, read."""

    def __init__(self, path):
        self.path = Path(path)
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        self.lines = [line.split(" ", 1) for line in lines if " " in line]

    def _rows(self, word):
        return [rest.split(" ", 3) for first, rest in self.lines if first == word]

    def kernel(self, role):
        """The release of a role, or None."""
        return next((row[1] for row in self._rows("kernel") if row[0] == role), None)

    def kernels(self):
        """`{role: release}`."""
        return {row[0]: row[1] for row in self._rows("kernel")}

    def parts(self, release):
        """The names of a kernel's packages."""
        return [row[1] for row in self._rows("part") if row[0] == release]

    def headers(self, release):
        """Those of them that a module is built with."""
        return [name for name in self.parts(release) if name.startswith(HEADERS)]

    def image(self, release):
        """Those that hold image and modules, the image's first, and base, which these need."""
        return [name for name in self.parts(release) if not name.startswith(HEADERS) or name.startswith("linux-base-")]

    def files(self):
        """`{package: file}`."""
        return {row[0]: Path(row[3]) for row in self._rows("package") if len(row) == 4}

    def deb(self, name):
        """The file of a package."""
        return self.files()[name]

    def version(self, name):
        """The version of a package, or None."""
        return next((row[1] for row in self._rows("package") if row[0] == name), None)

    def whole(self):
        """Whether it names kernels, and every file is there as it came."""
        try:
            return bool(self.kernels()) and all(Path(f"{file}.sha256").read_text(encoding="ascii").strip() == digest(file) for file in self.files().values())
        except FileNotFoundError:
            return False

    def summary(self):
        """One line for people: what was taken, from when, what was passed over and why."""
        kernels = {row[0]: row for row in self._rows("kernel")}
        roles = {"PREV": "with the same symbol versions", "OLD": "with others"}
        made = "" if "PREV" in kernels or "OLD" not in kernels else f" (none with the same symbol versions: one is made of {kernels['NEW'][1]})"
        took = ", ".join(f"{row[1]} ({row[2]}, {row[3]}){f' {roles[role]}' if role in roles else ''}" for role, row in kernels.items())
        dates = {row[0]: row[1] for row in self._rows("lists")}
        used = sorted({row[3] for row in kernels.values()})
        lists = "; lists of " + ", ".join(f"{suite} from {dates[suite]}" for suite in used if suite in dates) if used else ""
        passed = "; ".join(rest for first, rest in self.lines if first == "passed") or "nothing"
        stale = "".join(f"; not all lists could be refreshed: {rest}" for first, rest in self.lines if first == "stale")
        return f"kernels: took {took}{made}; passed over: {passed}{lists}{stale}"
