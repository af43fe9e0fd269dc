#!/usr/bin/env python3
"""Does the chooser choose rightly, whatever the archive offers? Real apt against a made-up mirror on loopback.

    selftest.py [WORD…]     all tests, or those whose name has one of the words

Prints a line for each test and `N passed, N failed, N skipped`.
"""

import os
import re
import shutil
import sys
import unittest

import test_arrival
import test_sets


def main():
    """Runs all, in the form that tests/run.sh counts."""
    for tool in ("apt-get", "dpkg-deb", "gcc", "modprobe"):
        if not shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
            print(f"skipped archive: {tool} is not here\n0 passed, 0 failed, 1 skipped")
            return 0
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    for name in ("VFGUARD_CHOSEN", "VFGUARD_NOT_CHOSEN", "APT_CONFIG"):
        os.environ.pop(name, None)
    passed = failed = 0
    for test in _tests(unittest.TestSuite(map(unittest.defaultTestLoader.loadTestsFromModule, (test_sets, test_arrival)))):
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
