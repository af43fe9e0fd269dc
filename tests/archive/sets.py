"""Which kernels the labs use: sets that are whole, with the relations that the tests need. Reads nothing but what it is given.

A *set* is all that a kernel cannot be used without: its headers with what they depend on, and its image where a tier boots it or
reads its modules. It counts only when every part is on offer and arrives.
"""

from dataclasses import dataclass, field

from offer import KERNEL_PACKAGE

# So many kernels of a series whose headers are on offer are looked at. Images without headers are not counted: the archive keeps many.
MOST = 8
SAME, OTHERS = "the same symbol versions", "other symbol versions"
# What a module is built with; base is what headers and image share since 7.2.
HEADERS = ("linux-headers-", "linux-kbuild-", "linux-compiler-", "linux-base-")


class Missing(Exception):
    """Nothing on offer fits; the text says what is missing."""


class NotThere(Exception):
    """A package that is listed did not arrive; the text says how."""

    def __init__(self, package, how):
        super().__init__(f"{package.name} {package.version} is listed and did not arrive: {how}")
        self.package = package


@dataclass
class Kernel:
    """A whole set: the release, and its parts with the headers first."""

    release: str
    parts: list

    def headers(self):
        """The parts that a module is built with."""
        return [part for part in self.parts if part.name.startswith(HEADERS)]

    def image(self):
        """The parts that hold image and modules."""
        return [part for part in self.parts if not part.name.startswith(HEADERS)]


@dataclass
class Choice:
    """What all tiers of a run use."""

    kernels: dict = field(default_factory=dict)         # role → Kernel
    sources: dict = field(default_factory=dict)         # series → Package
    symvers: dict = field(default_factory=dict)         # release → the package with its Module.symvers, of every 6.1 kernel
    passed: dict = field(default_factory=dict)          # release → why it was passed over


def whole(offer, release, image):
    """The parts of a kernel, by what they depend on.

    Raises Missing with the first part that is not on offer. An image of another version than its headers is another upload: not a part.
    """
    why = None
    for headers in offer.versions(f"linux-headers-{release}"):
        try:
            return _closure(offer, release, headers, image)
        except Missing as missing:
            why = why or missing
    raise why or Missing(offer.absent(f"linux-headers-{release}"))


def _closure(offer, release, headers, image):
    parts, at = [headers], 0
    if image:
        parts.append(_image(offer, release, headers))
    while at < len(parts):
        for group in parts[at].depends:
            first = group[0][0]
            # Headers of 6.12 depend on their image: skip it where only headers are wanted.
            if not KERNEL_PACKAGE.fullmatch(first) or (first.startswith("linux-image-") and not image):
                continue
            if any(part.name == name for part in parts for name, _, _ in group):
                continue
            found = offer.satisfying(group)
            if found is None:
                needed = " ".join(word for word in group[0][1:] if word)
                offered = ", ".join(package.version for package in offer.versions(first))
                raise Missing(f"{first} ({needed}) is needed, and on offer as {offered} only" if offered else offer.absent(first))
            parts.append(found)
        at += 1
    return parts


def _image(offer, release, headers):
    name = f"linux-image-{release}"
    offered = offer.versions(name)
    for package in offered:
        if package.version == headers.version:
            return package
    others = ", ".join(package.version for package in offered)
    raise Missing(f"{name} is on offer as {others} only, beside headers {headers.version}" if others else offer.absent(name))


class Chooser:
    """Looks for kernels with the relations that the tests need.

    `arrive(packages)` brings packages and raises NotThere; `crcs(image, headers)` gives what a module of the image (its packages) would
    find with those headers (one package): equal values mean that it loads there. It raises ValueError where there is nothing to look at.
    """

    def __init__(self, offer, arrive, crcs):
        self.offer = offer
        self.arrive = arrive
        self.crcs = crcs
        self.choice = Choice()

    def take(self, release, image):
        """The whole set of a release once it arrived; None if it is passed over."""
        while True:
            try:
                kernel = Kernel(release, whole(self.offer, release, image))
                self.arrive(kernel.parts)
                return kernel
            except NotThere as why:
                # Another version of the same part may do.
                self.offer.drop(why.package, str(why))
            except Missing as why:
                self.choice.passed[release] = str(why)
                return None

    def source(self, series):
        """The newest source package of a series that arrives."""
        name = f"linux-source-{series}"
        for package in self.offer.versions(name):
            try:
                self.arrive([package])
                self.choice.sources[series] = package
                return
            except NotThere as why:
                self.offer.drop(package, str(why))
        raise Missing(self.offer.absent(name))

    def looked_at(self, series):
        """The releases of a series, newest first, until enough with headers are among them."""
        left, releases = MOST, []
        for release in self.offer.releases(series):
            if not left:
                break
            left -= bool(self.offer.versions(f"linux-headers-{release}"))
            releases.append(release)
        return releases

    def newest(self, role, series, image, below=None):
        """The newest kernel of a series for a role; `below`: the newest one behind that release."""
        releases = self.looked_at(series)
        for release in releases[releases.index(below) + 1 if below else 0:]:
            kernel = self.take(release, image)
            if kernel:
                self.choice.kernels[role] = kernel
                return
        raise Missing(f"no {series} kernel is whole: {self._reasons(series)}")

    def related(self, series):
        """NEW, PREV and OLD of a series: the newest kernel that has both an older one for which a module of it is fine (no CRC
        that it needs differs) and an older one, with an image too, for which it is not.

        The archive has two kernels with equal CRCs only after a small upload. Where it has none, the newest with an OLD is taken, and
        without a PREV: the lab makes one of NEW's headers.
        """
        second, best, lacks = None, None, None
        releases = self.looked_at(series)
        for at, release in enumerate(releases):
            new = self.take(release, image=True)
            if new is None:
                continue
            try:
                own = self.crcs(new.image(), new.parts[0])
            except ValueError as why:
                self.choice.passed[release] = str(why)
                continue
            prev, old = self._relatives(new, own, releases[at + 1:])
            if prev and old:
                return self._settle(releases, NEW=new, PREV=prev, OLD=old)
            missing = " and ".join(what for what, kernel in ((SAME, prev), (OTHERS, old)) if kernel is None)
            best, lacks = best or release, lacks or missing
            second = second or (old and {"NEW": new, "OLD": old})
            self.choice.passed[release] = f"no older kernel that is whole has {missing}"
        if second:
            return self._settle(releases, **second)
        if best is None:
            raise Missing(f"no {series} kernel is whole: {self._reasons(series)}")
        raise Missing(f"{best} is whole, and no older {series} kernel that is whole has {lacks}: {self._reasons(series)}")

    def _relatives(self, new, own, older):
        prev = old = None
        for release in older:
            if prev and old:
                break
            headers = self.take(release, image=False)
            if headers is None:
                continue
            try:
                same = self.crcs(new.image(), headers.parts[0]) == own
            except ValueError as why:
                self.choice.passed[release] = str(why)
                continue
            if same:
                prev = prev or headers
            elif old is None:
                old = self.take(release, image=True)
        return prev, old

    def _settle(self, releases, **kernels):
        """Takes these. What is no newer than NEW was not passed over for it."""
        self.choice.kernels.update(kernels)
        for release in releases[releases.index(kernels["NEW"].release):]:
            self.choice.passed.pop(release, None)

    def symvers(self, series):
        """The packages with the Module.symvers of all kernels that are looked at, as far as they arrive."""
        for release in self.looked_at(series):
            for package in self.offer.versions(f"linux-headers-{release}")[:1]:
                try:
                    self.arrive([package])
                    self.choice.symvers[release] = package
                except NotThere:
                    pass

    def _reasons(self, series):
        said = [f"{release}: {why}" for release, why in self.choice.passed.items() if release.startswith(f"{series}.")]
        return "; ".join(said) or f"the lists name no {series} kernel"


def for_labs(offer, arrive, crcs):
    """What build, rpm, vm and release are made of: three related 6.1 kernels, one of 6.12, and the source of both."""
    chooser = Chooser(offer, arrive, crcs)
    chooser.related("6.1")
    chooser.symvers("6.1")
    chooser.newest("612", "6.12", image=True)
    for series in ("6.1", "6.12"):
        chooser.source(series)
    return chooser.choice


def for_bullseye(offer, arrive, crcs):
    """For the long run of the rpm lab: two 5.10 kernels that only lend their headers, and their source."""
    chooser = Chooser(offer, arrive, crcs)
    chooser.newest("LATER", "5.10", image=False)
    chooser.newest("EARLIER", "5.10", image=False, below=chooser.choice.kernels["LATER"].release)
    chooser.source("5.10")
    return chooser.choice
