"""What the chooser's tests share: a made-up mirror, and a cache to choose into."""

import shutil
import tempfile
import time
import unittest
from pathlib import Path

import choose
from chosen import Chosen
from lists import Apt
from mirror import Mirror
from sets import Missing, for_labs

SECURITY, MAIN, BACKPORTS = "bookworm-security", "bookworm", "bookworm-backports"


class Lab(unittest.TestCase):
    """A mirror, and a cache to choose into."""

    def setUp(self):
        self.place = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.place)
        self.mirror = Mirror(self.place)
        self.addCleanup(self.mirror.close)
        self.suites = [MAIN, SECURITY]
        # A day on which all is well: 57 and 56 have equal CRCs, 55 and 54 others.
        for abi, crc in ((57, 2), (56, 2), (55, 3), (54, 4)):
            self.mirror.kernel(f"6.1.0-{abi}-amd64", f"6.1.{100 + abi}-1", crc=crc)
        self.mirror.kernel("6.12.117+deb12-amd64", "6.12.117-1~deb12u1")
        self.mirror.source("6.1", "6.1.157-1")
        self.mirror.source("6.12", "6.12.117-1~deb12u1")
        self.mirror.put("linux-headers-amd64", "6.1.157-1", MAIN)

    def apt(self):
        """apt on the mirror, with the lists of the last look."""
        return Apt(self.place / "apt", self.mirror.lines(*self.suites), self.place / "debs")

    def choose(self, plan=for_labs):
        """Chooses; the file, read."""
        file = self.place / f"chosen-{time.monotonic_ns()}"
        file.write_text(choose.choose(self.apt(), plan), encoding="utf-8")
        return Chosen(file)

    def takes(self, **kernels):
        """Chooses, and the roles are these."""
        chosen = self.choose()
        wanted = {role.lstrip("_"): release for role, release in kernels.items()}
        found = {role: release for role, release in chosen.kernels().items() if role in wanted}
        self.assertEqual(found, wanted, chosen.summary())
        self.assertTrue(chosen.whole())
        return chosen

    def lacks(self, words):
        """Nothing fits, and the reason has these words."""
        with self.assertRaisesRegex(Missing, words):
            self.choose()
