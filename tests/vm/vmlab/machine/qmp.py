"""A client for QEMU's machine protocol (https://www.qemu.org/docs/master/interop/qmp-spec.html)."""

import json
import socket
import time

from ..errors import LabError

ANSWER_SECONDS = 120     # savevm of a busy guest is the slowest command


class Qmp:
    """One connection; events that arrive between the answers are kept in `events`."""

    def __init__(self, path, alive):
        self.socket = connect(path, alive)
        self.socket.settimeout(ANSWER_SECONDS)
        self.lines = self.socket.makefile("r", encoding="utf-8")
        self.events = []
        self._read()
        self.execute("qmp_capabilities")

    def _read(self):
        line = self.lines.readline()
        if not line:
            raise LabError("QEMU closed its monitor")
        return json.loads(line)

    def execute(self, command, **arguments):
        """Runs a command and returns its answer."""
        self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            message = self._read()
            if "event" in message:
                self.events.append(message)
            elif "error" in message:
                raise LabError(f"QEMU {command}: {message['error']['desc']}")
            else:
                return message["return"]

    def human(self, line):
        """Runs a line of the human monitor; what it prints is returned."""
        return self.execute("human-monitor-command", **{"command-line": line})

    def close(self):
        """Drops the connection."""
        self.lines.close()
        self.socket.close()


def connect(path, alive, seconds=20):
    """Connects to a socket that QEMU is about to make; gives up when `alive` turns false or the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and alive():
        client = socket.socket(socket.AF_UNIX)
        try:
            client.connect(str(path))
            return client
        except OSError:
            client.close()
            time.sleep(0.05)
    raise LabError(f"QEMU did not open {path.name}")
