"""What arrives, lists and mirrors that move, and the program itself."""

import contextlib
import io
import os
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import choose
import symbols
from chosen import Chosen
from lists import DAY
from madeup import MAIN, SECURITY, Lab
from sets import Missing, for_bullseye, for_labs

HERE = Path(__file__).resolve().parent


class Arrival(Lab):
    """Mirrors that lose, damage, delay and change what they list."""

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

    def test_only_an_answer_can_be_told(self):
        other = self.place / "other"
        other.write_text("# a text\n", encoding="ascii")
        for file in (other, self.place / "gone"):
            with self.assertRaisesRegex(SystemExit, "is no answer of choose.py"):
                self.main("--tell", str(file))
        self.mirror.publish()
        self.assertEqual(self.main("--tell", str(self.choose().path))[0], 0)

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
        self.assertEqual(chosen.kernels(), {"LATER": "5.10.0-32-amd64", "EARLIER": "5.10.0-30-amd64"})

    def test_a_list_of_needed_symbols_that_a_killed_run_left_empty_is_made_again(self):
        self.mirror.publish()
        image = self.choose().deb("linux-image-6.1.0-57-amd64")
        Path(f"{image}.needed").write_text("", encoding="ascii")
        symbols.needed.cache_clear()
        symbols.crcs.cache_clear()
        self.takes(NEW="6.1.0-57-amd64", PREV="6.1.0-56-amd64", OLD="6.1.0-55-amd64")

    def test_a_mirror_that_trickles_ends_the_choice_after_one_time_for_all(self):
        self.mirror.publish()
        with mock.patch.object(choose, "ALL_SECONDS", 0), self.assertRaisesRegex(choose.Unavailable, "the mirror is too slow"):
            self.choose()
