"""How much room a run takes: CI machines are small."""

import threading

SECONDS = 5


def megabytes(directory, *patterns):
    """What files take up on the disk. (The oracle's trees are links into the cache.)"""
    total = 0
    for path in (path for pattern in patterns for path in directory.glob(pattern)):
        try:
            total += path.lstat().st_blocks
        except FileNotFoundError:
            continue
    return total >> 11


class Peak:
    """Looks now and then while a run goes on, and remembers the most."""

    def __init__(self, cache):
        self.cache = cache
        self.runs = self.images = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self):
        while not self.over.wait(SECONDS):
            self.runs = max(self.runs, megabytes(self.cache / "runs", "*.img", "*.xfs", "vm-*/*", "stage-*/*"))
            self.images = max(self.images, megabytes(self.cache / "images", "*.*"))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
