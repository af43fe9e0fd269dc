"""One line for each test, and the count at the end."""

import contextlib
import subprocess
import threading
import time

from .errors import Failure, LabError, Skip


class Report:
    """Collects results from the stories, which may run side by side."""

    def __init__(self):
        self.lock = threading.Lock()
        self.passed = self.failed = self.skipped = 0

    def say(self, text):
        """Prints what is no result: progress, or a table."""
        with self.lock:
            print(text, flush=True)

    def ok(self, name, seconds):
        """Counts a test that passed."""
        with self.lock:
            self.passed += 1
            print(f"ok: {name} [{seconds:.0f} s]", flush=True)

    def fail(self, name, why):
        """Counts a test that failed."""
        with self.lock:
            self.failed += 1
            print(f"FAILED: {name}: {one_line(why)}", flush=True)

    def skip(self, name, why):
        """Counts a test that could not run here."""
        with self.lock:
            self.skipped += 1
            # tests/run.sh looks the name up in tests/allowed-skips: one word.
            print(f"skipped {name.replace(' ', '-')}: {one_line(why)}", flush=True)

    @contextlib.contextmanager
    def case(self, name):
        """Runs the body as one test; whatever breaks in it is that test's failure, and the next one still runs."""
        started = time.monotonic()
        try:
            yield
        except Skip as why:
            self.skip(name, why)
        except (Failure, LabError, OSError, ValueError, KeyError, subprocess.SubprocessError) as why:
            kind = "" if isinstance(why, (Failure, LabError)) else f"{type(why).__name__}: "
            self.fail(name, f"{kind}{why} [{time.monotonic() - started:.0f} s]")
        else:
            self.ok(name, time.monotonic() - started)

    def finish(self):
        """Prints the count; the exit code of the run."""
        print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped", flush=True)
        return 1 if self.failed else 0


def one_line(text, limit=700):
    """Folds a message into one line."""
    folded = " | ".join(part.strip() for part in str(text).splitlines() if part.strip())
    return folded if len(folded) <= limit else folded[:limit] + "…"


def table(head, rows):
    """Lays rows out under a head, each column as wide as its widest cell."""
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)
