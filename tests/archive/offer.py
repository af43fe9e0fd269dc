"""What a Debian archive offers, read from its package lists. Reads no file and no network; dpkg compares versions.

The format of a list is deb822 (deb822(5)): stanzas of `Field: value`, separated by blank lines.
"""

import functools
import re
import subprocess
from dataclasses import dataclass, field

# Kernels and what belongs to one; the digit leaves the metapackages out.
KERNEL_PACKAGE = re.compile(r"linux-(headers|image|kbuild|source|modules|binary|base|compiler)-\S*\d\S*")
# One alternative of a dependency: a name, and perhaps a version with its relation.
ALTERNATIVE = re.compile(r"\s*([a-z0-9][a-z0-9+.-]*)(?::\w+)?\s*(?:\(\s*(<<|<=|=|>=|>>)\s*([^)\s]+)\s*\))?")
RELATION = {"<<": "lt", "<=": "le", "=": "eq", ">=": "ge", ">>": "gt"}


@dataclass(frozen=True)
class Package:
    """One version of a package in one suite; `depends` is a list of alternatives: `[[(name, relation, version)]]`."""

    name: str
    version: str
    suite: str
    depends: tuple = field(default=(), compare=False)


@functools.lru_cache(maxsize=None)
def holds(version, relation, other):
    """Whether `version relation other` is true, as dpkg compares versions."""
    command = ["dpkg", "--compare-versions", version, RELATION[relation], other]
    return subprocess.run(command, check=False, timeout=20).returncode == 0


def order(one, other):
    """-1, 0 or 1: the order of two versions, or of two kernel releases (`6.1.0-99-amd64` before `6.1.0-100-amd64`)."""
    if one == other:
        return 0
    return -1 if holds(one, "<<", other) else 1


NEWEST_FIRST = functools.cmp_to_key(lambda one, other: order(other, one))


def dependencies(text):
    """`Depends: a (= 1) | b, c` as `((("a", "=", "1"), ("b", "", "")), (("c", "", ""),))`."""
    groups = []
    for group in text.split(","):
        found = [ALTERNATIVE.match(part) for part in group.split("|")]
        groups.append(tuple((match.group(1), match.group(2) or "", match.group(3) or "") for match in found if match))
    return tuple(group for group in groups if group)


def read(text, suite):
    """The kernel packages of one list."""
    found = []
    for stanza in text.split("\n\n"):
        # A list has 60,000 of them; its first field is the name.
        if not stanza.lstrip().startswith("Package: linux-"):
            continue
        fields = dict(re.findall(r"^(Package|Version|Architecture|Depends): *(.*)$", stanza, re.MULTILINE))
        name = fields.get("Package", "")
        if KERNEL_PACKAGE.fullmatch(name) and "Version" in fields and fields.get("Architecture") in ("amd64", "all"):
            found.append(Package(name, fields["Version"], suite, dependencies(fields.get("Depends", ""))))
    return found


class Offer:
    """All kernel packages that are on offer, from every suite."""

    def __init__(self, packages):
        self.packages = {}
        self.dropped = {}           # name → why a version of it does not count
        for package in packages:
            self.packages.setdefault(package.name, []).append(package)

    def drop(self, package, why):
        """Takes one version of a package out, whatever suite it is in: it is listed, and cannot be had."""
        self.packages[package.name] = [other for other in self.packages[package.name] if other.version != package.version]
        self.dropped.setdefault(package.name, why)

    def absent(self, name):
        """Why there is no such package."""
        return self.dropped.get(name, f"{name} is not on offer")

    def versions(self, name):
        """Every version of a package, the newest first, those of backports last."""
        newest = sorted(self.packages.get(name, ()), key=lambda package: NEWEST_FIRST(package.version))
        return sorted(newest, key=lambda package: is_backport(package.suite))

    def releases(self, series):
        """The plain amd64 kernels of a series (`6.1`) of which headers or an image are on offer, newest first, those of backports last.
        Debian's names: `6.1.0-57-amd64`, `6.12.115+deb12-amd64`, `6.12.115+deb12.1-amd64` (a further upload of the same)."""
        pattern = re.compile(rf"linux-(?:headers|image)-({re.escape(series)}\.[0-9.]+(?:-[0-9]+|\+[a-z][a-z0-9.]*)-amd64)")
        found = {match.group(1) for match in map(pattern.fullmatch, self.packages) if match}
        return sorted(sorted(found, key=NEWEST_FIRST), key=self._only_backported)

    def _only_backported(self, release):
        offered = self.versions(f"linux-headers-{release}") + self.versions(f"linux-image-{release}")
        return bool(offered) and all(is_backport(package.suite) for package in offered)

    def satisfying(self, group):
        """The package that satisfies a group of alternatives, or None: of the first alternative that can be had the newest."""
        for name, relation, wanted in group:
            for package in self.versions(name):
                if not relation or holds(package.version, relation, wanted):
                    return package
        return None


def is_backport(suite):
    """Whether a suite is the backports of a release."""
    return suite.endswith("-backports")
