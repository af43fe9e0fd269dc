"""Which sets are taken, and what is said where none fits."""

import os
import unittest
from unittest import mock

import sets
from madeup import BACKPORTS, MAIN, SECURITY, Lab
from offer import Package, dependencies, order


class Sets(Lab):
    """Choices on days that are made up."""

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

    def test_one_package_in_two_versions_is_told_and_not_mixed(self):
        for abi in (57, 56):
            version = f"6.1.{100 + abi}-1"
            needs = f"linux-headers-6.1.0-{abi}-common, linux-kbuild-6.1 (= {version})"
            table = [("usr/src/headers/Module.symvers", b"0x1\tmodule_layout\tvmlinux\tEXPORT_SYMBOL\t\n")]
            self.mirror.put(f"linux-headers-6.1.0-{abi}-amd64", version, depends=needs, files=table)
        self.mirror.publish()
        self.lacks("linux-kbuild-6.1 is needed in two versions")

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
