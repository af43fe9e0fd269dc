"""A lock between the threads of this run and between runs."""

import fcntl
import threading

_THREADS = {}
_GUARD = threading.Lock()


class FileLock:
    """Held by one thread of one run at a time; named by its file."""

    def __init__(self, path):
        self.path = path
        with _GUARD:
            self.threads = _THREADS.setdefault(str(path), threading.Lock())
        self.file = None

    def __enter__(self):
        self.threads.acquire()
        self.file = open(self.path, "w", encoding="ascii")
        fcntl.flock(self.file, fcntl.LOCK_EX)
        return self

    def __exit__(self, *_):
        self.file.close()
        self.threads.release()
