#!/usr/bin/env python3
"""Does the chooser choose rightly, whatever the archive offers? Real apt against a made-up mirror on loopback.

Prints a line for each test and `N passed, N failed, N skipped`.
"""

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from unittest import mock

import choose
import sets
import symbols
from debian import DAY, Apt
from chosen import Chosen
from mirror import Mirror
from offer import Package, dependencies, order
from sets import Missing, for_bullseye, for_labs

HERE = Path(__file__).resolve().parent
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

    # --- Which set ------------------------------------------------------------------------------------------------------
    def test_the_newest_whole_kernel_and_its_relations_are_taken(self):
        self.mirror.publish()
        chosen = self.takes(NEW="6.1.0-57-amd64", PREV="6.1.0-56-amd64", OLD="6.1.0-55-amd64", _612="6.12.117+deb12-amd64")
        self.assertIn("passed over: nothing", chosen.summary())
        self.assertEqual(sorted(chosen.parts("6.1.0-57-amd64")), ["linux-headers-6.1.0-57-amd64", "linux-headers-6.1.0-57-common",
                                                                  "linux-image-6.1.0-57-amd64", "linux-kbuild-6.1"])
        # The kernel with the same symbol versions lends its headers only.
        self.assertNotIn("linux-image-6.1.0-56-amd64", chosen.files())
        self.assertIn("linux-image-6.1.0-55-amd64", chosen.files())

    def test_headers_without_an_image_are_passed_over_and_the_line_says_so(self):
        self.mirror.kernel("6.1.0-58-amd64", "6.1.158-1", image=False)
        self.mirror.put("linux-image-6.1.0-58-amd64-unsigned", "6.1.158-1")
        self.mirror.publish()
        chosen = self.takes(NEW="6.1.0-57-amd64")
        self.assertIn("passed over: 6.1.0-58-amd64 linux-image-6.1.0-58-amd64 is not on offer", chosen.summary())
        self.assertEqual(len(chosen.summary().splitlines()), 1)

    def test_headers_whose_image_is_not_there_yet_still_serve_as_headers(self):
        self.mirror.remove("linux-image-6.1.0-56-amd64")
        self.mirror.publish()
        self.takes(NEW="6.1.0-57-amd64", PREV="6.1.0-56-amd64", OLD="6.1.0-55-amd64")

    def test_an_image_without_headers_is_passed_over(self):
        self.mirror.kernel("6.1.0-58-amd64", "6.1.158-1", headers=False)
        for name in ("linux-headers-6.1.0-55-amd64", "linux-headers-6.1.0-55-common"):
            self.mirror.remove(name)
        self.mirror.publish()
        chosen = self.takes(NEW="6.1.0-57-amd64", PREV="6.1.0-56-amd64", OLD="6.1.0-54-amd64")
        self.assertIn("6.1.0-58-amd64 linux-headers-6.1.0-58-amd64 is not on offer", chosen.summary())

    def test_headers_without_their_common_part_are_not_whole(self):
        self.mirror.remove("linux-headers-6.1.0-57-common")
        self.mirror.kernel("6.1.0-53-amd64", "6.1.153-1", crc=2)
        self.mirror.publish()
        chosen = self.takes(NEW="6.1.0-56-amd64", PREV="6.1.0-53-amd64", OLD="6.1.0-55-amd64")
        self.assertIn("linux-headers-6.1.0-57-common is not on offer", chosen.summary())

    def test_kbuild_tools_that_are_too_old_are_not_a_part(self):
        self.mirror.remove("linux-kbuild-6.1", "6.1.157-1")
        self.mirror.kernel("6.1.0-53-amd64", "6.1.153-1", crc=2)
        self.mirror.publish()
        chosen = self.takes(NEW="6.1.0-56-amd64", PREV="6.1.0-53-amd64")
        self.assertIn("linux-kbuild-6.1 (>= 6.1.157-1) is needed, and on offer as 6.1.156-1", chosen.summary())

    def test_an_image_of_another_upload_than_its_headers_is_not_a_part(self):
        self.mirror.remove("linux-image-6.1.0-57-amd64")
        self.mirror.put("linux-image-6.1.0-57-amd64", "6.1.157-0")
        self.mirror.kernel("6.1.0-53-amd64", "6.1.153-1", crc=2)
        self.mirror.publish()
        chosen = self.takes(NEW="6.1.0-56-amd64", PREV="6.1.0-53-amd64")
        self.assertIn("on offer as 6.1.157-0 only, beside headers 6.1.157-1", chosen.summary())

    def split(self, abi):
        """An image as Debian has packed it since 7.2: what is in it lies in packages that it depends on."""
        release, version = f"6.1.0-{abi}-amd64", f"6.1.{100 + abi}-1"
        parts = [f"linux-{part}-{release}" for part in ("base", "binary", "modules")]
        self.mirror.remove(f"linux-image-{release}")
        self.mirror.put(f"linux-image-{release}", version, depends=", ".join(f"{part} (= {version})" for part in parts))
        for part in parts:
            files = [(f"lib/modules/{release}/kernel/ixgbevf.ko", self.mirror.driver)] if "modules" in part else []
            self.mirror.put(part, version, files=files)
        return parts

    def test_packages_that_an_image_depends_on_are_parts(self):
        parts = self.split(57)
        self.mirror.publish()
        chosen = self.takes(NEW="6.1.0-57-amd64", PREV="6.1.0-56-amd64")
        self.assertEqual(chosen.image("6.1.0-57-amd64"), ["linux-image-6.1.0-57-amd64", *parts])
        self.assertIn(parts[0], chosen.headers("6.1.0-57-amd64"))
        for part in parts:
            self.split(57)
            self.mirror.remove(part)
            self.mirror.kernel("6.1.0-53-amd64", "6.1.153-1", crc=2)
            self.mirror.publish()
            chosen = self.takes(NEW="6.1.0-56-amd64", PREV="6.1.0-53-amd64")
            self.assertIn(f"{part} is not on offer", chosen.summary())

    def test_an_image_without_the_driver_is_passed_over(self):
        self.mirror.put("linux-image-6.1.0-57-amd64", "6.1.157-1")
        self.mirror.kernel("6.1.0-53-amd64", "6.1.153-1", crc=2)
        self.mirror.publish()
        chosen = self.takes(NEW="6.1.0-56-amd64", PREV="6.1.0-53-amd64")
        self.assertIn("6.1.0-57-amd64 linux-image-6.1.0-57-amd64 has no ixgbevf with symbol versions", chosen.summary())

    def test_headers_without_symbol_versions_are_related_to_nothing(self):
        self.mirror.put("linux-headers-6.1.0-56-amd64", "6.1.156-1", depends="linux-headers-6.1.0-56-common, linux-kbuild-6.1")
        self.mirror.kernel("6.1.0-53-amd64", "6.1.153-1", crc=2)
        self.mirror.publish()
        self.takes(NEW="6.1.0-57-amd64", PREV="6.1.0-53-amd64", OLD="6.1.0-55-amd64")

    def test_a_list_of_needed_symbols_that_a_killed_run_left_empty_is_made_again(self):
        self.mirror.publish()
        image = self.choose().deb("linux-image-6.1.0-57-amd64")
        Path(f"{image}.needed").write_text("", encoding="ascii")
        symbols.needed.cache_clear()
        symbols.crcs.cache_clear()
        self.takes(NEW="6.1.0-57-amd64", PREV="6.1.0-56-amd64", OLD="6.1.0-55-amd64")

    def test_a_further_upload_of_the_same_version_is_newer(self):
        self.mirror.kernel("6.12.117+deb12.1-amd64", "6.12.117-2~deb12u1")
        self.mirror.publish()
        self.takes(_612="6.12.117+deb12.1-amd64")

    def test_images_whose_headers_are_gone_hide_no_kernel_however_many_they_are(self):
        for abi in range(60, 60 + 2 * sets.MOST):
            self.mirror.kernel(f"6.1.0-{abi}-amd64", f"6.1.{100 + abi}-1", headers=False)
        self.mirror.publish()
        self.takes(NEW="6.1.0-57-amd64")

    def test_other_flavours_and_architectures_are_no_kernels_of_the_labs(self):
        for release in ("6.1.0-58-rt-amd64", "6.1.0-58-cloud-amd64", "6.1.0-0.deb11.58-amd64"):
            self.mirror.kernel(release, "6.1.158-1")
        self.mirror.publish()
        self.takes(NEW="6.1.0-57-amd64")

    def test_what_the_host_prefers_is_for_its_own_packages(self):
        self.mirror.publish()
        config = self.place / "host.conf"
        (self.place / "preferences").write_text("Package: *\nPin: release *\nPin-Priority: -1\n", encoding="ascii")
        config.write_text(f'APT::Default-Release "stable"; Dir::Etc::Preferences "{self.place}/preferences";\n', encoding="ascii")
        with mock.patch.dict(os.environ, {"APT_CONFIG": str(config), "LANGUAGE": "de", "LC_ALL": "de_DE.UTF-8"}):
            self.takes(NEW="6.1.0-57-amd64")
            self.assertEqual(self.apt().versions(["linux-source-6.1"]), {"linux-source-6.1": "6.1.157-1"})

    def test_one_package_in_two_versions_is_told_and_not_mixed(self):
        for abi in (57, 56):
            version = f"6.1.{100 + abi}-1"
            needs = f"linux-headers-6.1.0-{abi}-common, linux-kbuild-6.1 (= {version})"
            table = [("usr/src/headers/Module.symvers", b"0x1\tmodule_layout\tvmlinux\tEXPORT_SYMBOL\t\n")]
            self.mirror.put(f"linux-headers-6.1.0-{abi}-amd64", version, depends=needs, files=table)
        self.mirror.publish()
        self.lacks("linux-kbuild-6.1 is needed in two versions")

    def test_a_mirror_that_trickles_ends_the_choice_after_one_time_for_all(self):
        self.mirror.publish()
        apt = self.apt()
        apt.update()
        apt.deadline = time.monotonic()
        with self.assertRaisesRegex(choose.Unavailable, "the mirror is too slow"):
            choose.choose(apt, for_labs)

    def test_another_architecture_of_the_host_changes_nothing(self):
        self.mirror.publish()
        config = self.place / "host.conf"
        config.write_text('APT::Architectures { "amd64"; "i386"; };\n', encoding="ascii")
        with mock.patch.dict(os.environ, {"APT_CONFIG": str(config)}):
            chosen = self.takes(NEW="6.1.0-57-amd64")
        self.assertNotIn("could be refreshed", chosen.summary())
        self.assertNotIn("i386", " ".join(self.mirror.asked))

    def test_every_kernel_that_is_looked_at_lends_its_symbol_versions(self):
        self.mirror.lost = {"linux-headers-6.1.0-55-common", "linux-headers-6.1.0-54-amd64"}
        self.mirror.kernel("6.1.0-53-amd64", "6.1.153-1", crc=5)
        self.mirror.publish()
        chosen = self.choose()
        lines = [line.split() for line in chosen.path.read_text(encoding="utf-8").splitlines() if line.startswith("symvers ")]
        self.assertEqual([row[1] for row in lines], [f"6.1.0-{abi}-amd64" for abi in (57, 56, 55, 53)])
        self.assertTrue(all(chosen.deb(row[2]).exists() for row in lines))

    def test_numbers_of_two_and_three_digits_are_in_the_order_of_their_values(self):
        for abi, crc in ((99, 2), (100, 2), (101, 2), (9, 5)):
            self.mirror.kernel(f"6.1.0-{abi}-amd64", f"6.1.{200 + abi}-1", crc=crc)
        self.mirror.remove("linux-image-6.1.0-101-amd64")
        self.mirror.publish()
        self.takes(NEW="6.1.0-100-amd64", PREV="6.1.0-99-amd64", OLD="6.1.0-55-amd64")

    def test_where_no_two_kernels_have_the_same_symbol_versions_the_newest_is_taken_alone_and_the_line_says_so(self):
        self.mirror.kernel("6.1.0-57-amd64", "6.1.157-1", crc=9)
        self.mirror.publish()
        chosen = self.takes(NEW="6.1.0-57-amd64", OLD="6.1.0-56-amd64")
        self.assertIsNone(chosen.kernel("PREV"))
        self.assertIn("(none with the same symbol versions: one is made of 6.1.0-57-amd64)", chosen.summary())

    def test_a_newest_kernel_without_relations_gives_way_to_an_older_one(self):
        self.mirror.kernel("6.1.0-58-amd64", "6.1.158-1", crc=9)
        self.mirror.publish()
        chosen = self.takes(NEW="6.1.0-57-amd64")
        self.assertIn("6.1.0-58-amd64 no older kernel that is whole has the same symbol versions", chosen.summary())

    # --- Nothing fits ---------------------------------------------------------------------------------------------------
    def test_one_abi_only_is_told_with_both_relations(self):
        for abi in (56, 55, 54):
            for name in (f"linux-headers-6.1.0-{abi}-amd64", f"linux-image-6.1.0-{abi}-amd64"):
                self.mirror.remove(name)
        self.mirror.publish()
        self.lacks("6.1.0-57-amd64 is whole, and no older 6.1 kernel that is whole has the same symbol versions and other symbol versions")

    def test_only_equal_kernels_are_told_by_the_relation_that_is_missing(self):
        for abi in (55, 54):
            self.mirror.remove(f"linux-headers-6.1.0-{abi}-amd64")
            self.mirror.remove(f"linux-image-6.1.0-{abi}-amd64")
        self.mirror.publish()
        self.lacks("6.1.0-57-amd64 is whole, and no older 6.1 kernel that is whole has other symbol versions")

    def test_kernels_with_others_whose_image_is_gone_are_told(self):
        for abi in (55, 54):
            self.mirror.remove(f"linux-image-6.1.0-{abi}-amd64")
        self.mirror.publish()
        self.lacks("no older 6.1 kernel that is whole has other symbol versions: .*linux-image-6.1.0-55-amd64 is not on offer")

    def test_no_release_of_a_series_is_told_with_what_is_wrong_with_each(self):
        self.mirror.remove("linux-image-6.12.117+deb12-amd64")
        self.mirror.publish()
        self.lacks(r"no 6.12 kernel is whole: 6.12.117\+deb12-amd64: linux-image-6.12.117\+deb12-amd64 is not on offer")

    def test_a_source_that_is_not_on_offer_is_told(self):
        self.mirror.remove("linux-source-6.12")
        self.mirror.publish()
        self.lacks("linux-source-6.12 is not on offer")

    # --- Suites ---------------------------------------------------------------------------------------------------------
    def test_backports_are_taken_only_where_nothing_else_is_whole(self):
        self.suites.append(BACKPORTS)
        self.mirror.kernel("6.12.119+bpo-amd64", "6.12.119-1~bpo12+1", BACKPORTS)
        self.mirror.put("linux-source-6.12", "6.12.119-1~bpo12+1", BACKPORTS)
        self.mirror.publish()
        chosen = self.takes(_612="6.12.117+deb12-amd64")
        self.assertEqual(chosen.version("linux-source-6.12"), "6.12.117-1~deb12u1")
        self.mirror.remove("linux-image-6.12.117+deb12-amd64")
        self.mirror.publish()
        chosen = self.takes(_612="6.12.119+bpo-amd64")
        self.assertIn("(6.12.119-1~bpo12+1, bookworm-backports)", chosen.summary())
        self.assertIn("6.12.117+deb12-amd64 linux-image-6.12.117+deb12-amd64 is not on offer", chosen.summary())

    def test_a_kernel_is_not_put_together_from_security_and_backports(self):
        self.suites.append(BACKPORTS)
        # The same name in both, headers here and image there.
        self.mirror.remove("linux-image-6.12.117+deb12-amd64")
        self.mirror.put("linux-image-6.12.117+deb12-amd64", "6.12.117-1~bpo12+1", BACKPORTS)
        self.mirror.publish()
        self.lacks("on offer as 6.12.117-1~bpo12.1 only, beside headers 6.12.117-1~deb12u1")

    def test_a_suite_that_the_mirror_does_not_have_is_done_without(self):
        self.suites.append(BACKPORTS)
        self.mirror.publish(MAIN, SECURITY)
        self.assertIn("not all lists could be refreshed", self.takes(NEW="6.1.0-57-amd64").summary())

    # --- What arrives ---------------------------------------------------------------------------------------------------
    def test_a_404_in_the_middle_has_the_next_set_taken_and_the_line_says_so(self):
        self.mirror.lost = {"linux-headers-6.1.0-57-common"}
        self.mirror.kernel("6.1.0-53-amd64", "6.1.153-1", crc=2)
        self.mirror.publish()
        chosen = self.takes(NEW="6.1.0-56-amd64", PREV="6.1.0-53-amd64", OLD="6.1.0-55-amd64")
        self.assertRegex(chosen.summary(), r"6.1.0-57-amd64 linux-headers-6.1.0-57-common 6.1.157-1 is listed and did not arrive: .*404")
        self.assertNotIn("127.0.0.1", chosen.summary())

    def test_a_404_of_an_image_costs_no_more_than_that_kernel(self):
        self.mirror.lost = {"linux-image-6.1.0-55-amd64"}
        self.mirror.publish()
        self.takes(NEW="6.1.0-57-amd64", PREV="6.1.0-56-amd64", OLD="6.1.0-54-amd64")

    def test_a_404_of_the_newest_source_has_an_older_one_taken(self):
        self.mirror.source("6.1", "6.1.120-1", MAIN)
        self.mirror.publish()
        del self.mirror.files["pool/linux-source-6.1_6.1.157-1_amd64.deb"]
        self.assertEqual(self.choose().version("linux-source-6.1"), "6.1.120-1")

    def test_a_404_of_all_is_told_with_the_file(self):
        self.mirror.lost = {"linux-headers-6.12.117+deb12-common"}
        self.mirror.publish()
        self.lacks("linux-headers-6.12.117.deb12-common 6.12.117-1~deb12u1 is listed and did not arrive: .*404")

    def test_a_package_that_is_not_what_the_lists_vouch_for_does_not_arrive(self):
        self.mirror.publish()
        path = "pool/linux-image-6.1.0-57-amd64_6.1.157-1_amd64.deb"
        self.mirror.files[path] = self.mirror.files[path][:-1] + b"\1"
        self.mirror.kernel("6.1.0-53-amd64", "6.1.153-1", crc=2)
        files = dict(self.mirror.files)
        self.mirror.publish()
        self.mirror.files[path] = files[path]
        chosen = self.takes(NEW="6.1.0-56-amd64", PREV="6.1.0-53-amd64")
        self.assertRegex(chosen.summary(), "linux-image-6.1.0-57-amd64 6.1.157-1 is listed and did not arrive: .*[Hh]ash")

    def test_a_package_that_was_damaged_in_the_cache_is_brought_again(self):
        self.mirror.publish()
        chosen = self.choose()
        image = chosen.deb("linux-image-6.1.0-57-amd64")
        whole = image.read_bytes()
        image.write_bytes(whole[:100])
        self.assertFalse(chosen.whole())
        self.takes(NEW="6.1.0-57-amd64")
        self.assertEqual(image.read_bytes(), whole)

    # --- Lists and mirrors that move --------------------------------------------------------------------------------------
    def test_lists_that_are_weeks_old_are_fetched_again(self):
        self.mirror.publish(date=time.time() - 21 * DAY)
        self.assertEqual(self.apt().update(), "")
        for name in ("linux-headers-6.1.0-56-amd64", "linux-headers-6.1.0-56-common"):
            self.mirror.remove(name)
        self.mirror.kernel("6.1.0-58-amd64", "6.1.158-1")
        self.mirror.publish()
        chosen = self.takes(NEW="6.1.0-58-amd64", PREV="6.1.0-57-amd64")
        self.assertNotIn("not all lists could be refreshed", chosen.summary())

    def test_lists_that_are_being_written_are_fetched_again(self):
        self.mirror.publish()
        listed = f"dists/{SECURITY}/main/binary-amd64/Packages"
        whole = self.mirror.files[listed]
        # Not what the Release file says, until the second look.
        self.mirror.files[listed] = whole + b"\n"
        with mock.patch.object(choose, "PAUSE", 0), mock.patch.object(choose.time, "sleep", lambda _: self.mirror.files.update({listed: whole})):
            chosen = self.takes(NEW="6.1.0-57-amd64")
        self.assertNotIn("could be refreshed", chosen.summary())

    def test_a_mirror_out_of_reach_leaves_what_the_cache_has_and_the_line_says_how_old_the_lists_are(self):
        old = time.time() - 21 * DAY
        self.mirror.publish(date=old)
        before = self.takes(NEW="6.1.0-57-amd64")
        self.mirror.files = {}
        chosen = self.takes(NEW="6.1.0-57-amd64")
        self.assertEqual(chosen.files(), before.files())
        self.assertIn(time.strftime("lists of bookworm-security from %Y-%m-%dT", time.gmtime(old)), chosen.summary())
        self.assertIn("not all lists could be refreshed", chosen.summary())

    def test_old_lists_and_nothing_that_arrives_end_with_the_age_of_the_lists(self):
        self.mirror.publish(date=time.time() - 21 * DAY)
        self.assertEqual(self.apt().update(), "")
        self.mirror.files = {}
        self.lacks("(?s)did not arrive.*the lists are 21 days old and could not be fetched: ")

    def test_no_lists_at_all_is_unavailable(self):
        self.lacks("(?s)there are no package lists of kernels .the lists could not be fetched: .*404")
        with self.assertRaises(Missing) as raised:
            self.choose()
        self.assertNotIn("127.0.0.1", str(raised.exception))

    def test_a_mirror_that_moves_on_between_lists_and_packages_is_looked_at_again(self):
        self.mirror.publish()
        apt = self.apt()
        update = apt.update

        def then_it_moves():
            said = update()
            apt.update = update
            for abi in (57, 56):
                self.mirror.remove(f"linux-headers-6.1.0-{abi}-amd64")
                self.mirror.remove(f"linux-image-6.1.0-{abi}-amd64")
            self.mirror.kernel("6.1.0-59-amd64", "6.1.159-1")
            self.mirror.kernel("6.1.0-58-amd64", "6.1.158-1")
            self.mirror.publish()
            return said
        apt.update = then_it_moves
        file = self.place / "moved"
        file.write_text(choose.choose(apt, for_labs), encoding="utf-8")
        self.assertEqual(Chosen(file).kernel("NEW"), "6.1.0-59-amd64")
        self.assertNotIn("did not arrive", Chosen(file).summary())

    def main(self, *arguments, environment=None):
        """The program itself; its exit code, what it printed, what it said."""
        out, err = io.StringIO(), io.StringIO()
        cache = {"VFGUARD_CACHE": str(self.place / "cache"), **(environment or {})}
        with mock.patch.dict(os.environ, cache), mock.patch.object(choose, "sources", lambda _: self.mirror.lines(*self.suites)), \
                mock.patch.object(sys, "argv", ["choose.py", *arguments]), \
                contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = choose.main()
        return code, out.getvalue().strip(), err.getvalue().strip()

    def test_a_mirror_that_changes_between_two_tiers_changes_nothing_in_the_run(self):
        self.mirror.publish()
        code, file, said = self.main()
        self.assertEqual((code, said.startswith("kernels: took 6.1.0-57-amd64")), (0, True), said)
        before = {name: deb.read_bytes() for name, deb in Chosen(file).files().items()}
        # The next upload: 57 has no headers any more, and 58 is there.
        self.mirror.remove("linux-headers-6.1.0-57-amd64")
        self.mirror.kernel("6.1.0-58-amd64", "6.1.158-1", crc=8)
        self.mirror.publish()
        self.mirror.asked.clear()
        code, again, _ = self.main(environment={"VFGUARD_CHOSEN": file})
        self.assertEqual((code, again), (0, file))
        self.assertEqual({name: deb.read_bytes() for name, deb in Chosen(again).files().items()}, before)
        self.assertEqual(self.mirror.asked, [], "a tier asked the mirror again")
        # What the shell scripts of the labs read.
        script = f'. {HERE.parent}/lab/debs.sh; release_of NEW; deb linux-image-6.1.0-57-amd64; headers_of 6.1.0-57-amd64; version_of linux-source-6.1'
        shown = subprocess.run(["bash", "-eu", "-c", script], env={**os.environ, "VFGUARD_CHOSEN": file}, capture_output=True, text=True,
                               timeout=60, check=True).stdout.split()
        self.assertEqual(shown, ["6.1.0-57-amd64", str(Chosen(file).deb("linux-image-6.1.0-57-amd64")), "linux-headers-6.1.0-57-amd64",
                                 "linux-headers-6.1.0-57-common", "linux-kbuild-6.1", "6.1.157-1"])

    def test_an_answer_that_is_gone_or_empty_is_told_with_what_to_do(self):
        empty = self.place / "empty"
        empty.write_text("", encoding="ascii")
        for given in (empty, self.place / "gone"):
            with self.assertRaisesRegex(SystemExit, "unset VFGUARD_CHOSEN"):
                self.main(environment={"VFGUARD_CHOSEN": str(given)})

    def test_a_reason_that_was_found_once_holds_for_the_whole_run(self):
        self.assertEqual(self.main(environment={"VFGUARD_NOT_CHOSEN": "nothing today"}), (69, "", "nothing today"))
        self.assertEqual(self.mirror.asked, [])

    def test_what_lies_about_in_the_cache_stops_nothing(self):
        self.mirror.publish()
        for name in ("archive/chosen/stray/x", "archive/debs/partial-x/y"):
            (self.place / "cache" / name).mkdir(parents=True)
        (self.place / "cache/archive/chosen/junk").write_bytes(b"package\nkernel\n")
        self.assertEqual(self.main()[0], 0)
        self.assertEqual(list((self.place / "cache/archive/debs").glob("partial-*")), [])

    def test_a_cache_that_cannot_be_written_is_one_line(self):
        self.mirror.publish()
        (self.place / "cache").write_text("a file", encoding="ascii")
        with self.assertRaisesRegex(SystemExit, "choose.py: .*cache"):
            self.main()

    def test_what_cannot_be_had_is_exit_code_69_and_one_line(self):
        self.mirror.remove("linux-source-6.1")
        self.mirror.publish()
        self.assertEqual(self.main(), (69, "", "linux-source-6.1 is not on offer"))

    def test_packages_that_no_recent_choice_names_are_forgotten(self):
        self.mirror.publish()
        files = [self.main()[1]]
        old = Chosen(files[0]).deb("linux-image-6.1.0-55-amd64")
        self.mirror.kernel("6.1.0-55-amd64", "6.1.155-2", crc=3)
        for name in ("linux-headers-6.1.0-55-amd64", "linux-image-6.1.0-55-amd64", "linux-headers-6.1.0-55-common"):
            self.mirror.remove(name, "6.1.155-1")
        self.mirror.publish()
        files.append(self.main()[1])
        # A long run may still use the first.
        self.assertTrue(Chosen(files[0]).whole())
        os.utime(files[0], (time.time() - choose.KEPT_SECONDS - 1,) * 2)
        files.append(self.main()[1])
        self.assertFalse(old.exists())
        self.assertFalse(Path(files[0]).exists())
        self.assertTrue(Chosen(files[-1]).whole())

    def test_two_kernels_of_a_series_that_lend_their_headers_need_no_image(self):
        for abi in (30, 32, 9):
            self.mirror.kernel(f"5.10.0-{abi}-amd64", f"5.10.{200 + abi}-1", image=False)
        self.mirror.source("5.10", "5.10.232-1")
        self.mirror.publish()
        # What a made-up kernel of this series names as its image is another's business.
        chosen = self.choose(for_bullseye)
        self.assertEqual(chosen.kernels(), {"NEW": "5.10.0-32-amd64", "OLD": "5.10.0-30-amd64"})


class Words(unittest.TestCase):
    """The small parts."""

    def test_dependencies_are_read_with_versions_and_alternatives(self):
        self.assertEqual(dependencies("a (= 1:2~3), b:any (>= 2) | c, d"),
                         ((("a", "=", "1:2~3"),), (("b", ">=", "2"), ("c", "", "")), (("d", "", ""),)))

    def test_versions_are_in_dpkgs_order(self):
        self.assertEqual([order("6.1.0-99-amd64", "6.1.0-100-amd64"), order("6.12.9-1", "6.12.10-1"), order("1~deb12", "1"), order("1", "1")],
                         [-1, -1, -1, 0])

    def test_packages_are_equal_by_what_they_are(self):
        self.assertEqual(Package("a", "1", "s", (("x",),)), Package("a", "1", "s"))


def main():
    """Runs all, in the form that tests/run.sh counts."""
    for tool in ("apt-get", "dpkg-deb", "gcc", "modprobe"):
        if not shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
            print(f"skipped archive: {tool} is not here\n0 passed, 0 failed, 1 skipped")
            return 0
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    passed = failed = 0
    for test in _tests(unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__])):
        if sys.argv[1:] and not any(word in test.id() for word in sys.argv[1:]):
            continue
        result = unittest.TestResult()
        test.run(result)
        name = re.sub("_", " ", test.id().rpartition(".test_")[2])
        if result.wasSuccessful():
            passed += 1
            print(f"ok: archive: {name}", flush=True)
        else:
            failed += 1
            print(f"FAILED: archive: {name}\n{(result.failures + result.errors)[0][1]}", flush=True)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


def _tests(suite):
    for part in suite:
        yield from _tests(part) if isinstance(part, unittest.TestSuite) else [part]


if __name__ == "__main__":
    sys.exit(main())
