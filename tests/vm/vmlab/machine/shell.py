"""A root shell in the guest, reached over its second serial port (guest side: labshell.service)."""

import itertools
import re
import time
from dataclasses import dataclass
from typing import Optional

from ..errors import LabError
from .qmp import connect

SETUP = ("stty -echo -ixon; PS1=; PS2=; set +o emacs 2>/dev/null; cd /; export LANG=C SYSTEMD_PAGER= PAGER=cat "
         "SYSTEMD_COLORS=0 DEBIAN_FRONTEND=noninteractive PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
LINE_LIMIT = 3900       # a terminal in canonical mode takes no longer line


@dataclass
class Answer:
    """What a command did: `code` is None when the guest went away, or the time was over, before it ended."""

    code: Optional[int]
    output: str


class Shell:
    """Runs one command at a time and finds its end by a marker that carries the exit code."""

    def __init__(self, path, alive, running):
        self.socket = connect(path, alive)
        self.running = running
        self.numbers = itertools.count()

    def _receive(self, seconds):
        self.socket.settimeout(seconds)
        try:
            return self.socket.recv(65536)
        except TimeoutError:
            return b""

    def drain(self):
        """Throws away what earlier commands, or another life of the guest, left in the line."""
        while self._receive(0.2):
            pass

    def wait(self, seconds):
        """Waits until the guest's shell answers; returns how long that took."""
        started = time.monotonic()
        seen = b""
        while time.monotonic() - started < seconds:
            token = next(self.numbers)
            try:
                self.socket.sendall(b"\n\necho READY$((%d+1))\n" % token)
            except TimeoutError:
                continue        # the guest does not read yet, and its line is full
            asked = time.monotonic()
            while time.monotonic() - asked < 2:
                seen = (seen + self._receive(0.5))[-4096:]
                if b"READY%d" % (token + 1) in seen:
                    self.drain()
                    self.run(SETUP)
                    self.drain()
                    return time.monotonic() - started
        raise LabError(f"the guest's shell did not answer within {seconds} s")

    def run(self, command, seconds=60):
        """Runs a command; the answer's code is None if the guest stopped or the time was over first."""
        number = next(self.numbers)
        text = f"{command}\n_r=$?; echo; echo __END{number}_${{_r}}__\n"
        if max(map(len, text.splitlines())) > LINE_LIMIT:
            raise LabError("a command for the guest's shell is longer than a terminal's line")
        self.socket.sendall(text.encode())
        end = re.compile(rb"__END%d_(\d+)__" % number)
        seen = b""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            seen += self._receive(0.5)
            match = end.search(seen)
            if match:
                return Answer(int(match.group(1)), _text(seen[:match.start()]))
            if not self.running():
                break
        return Answer(None, _text(seen))

    def check(self, command, seconds=60):
        """Runs a command that has to succeed, and returns its output."""
        answer = self.run(command, seconds)
        if answer.code != 0:
            raise LabError(f"in the guest: {command[:200]!r} gave {answer.code}: {answer.output[-600:]}")
        return answer.output

    def until(self, command, seconds=60):
        """Repeats a command until it succeeds."""
        deadline = time.monotonic() + seconds
        while True:
            answer = self.run(command, max(5, deadline - time.monotonic()))
            if answer.code == 0:
                return answer.output
            if time.monotonic() > deadline:
                raise LabError(f"in the guest, not within {seconds} s: {command[:200]!r}: {answer.output[-300:]}")
            time.sleep(0.3)

    def close(self):
        """Drops the connection."""
        self.socket.close()


def _text(raw):
    return raw.decode(errors="replace").replace("\r", "").strip()
