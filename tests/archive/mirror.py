"""A made-up Debian mirror on loopback, for the tests: real packages, real lists, a real HTTP server."""

import email.utils
import hashlib
import http.server
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from lists import entry
from symbols import DRIVER

# The section that kbuild writes for CONFIG_MODVERSIONS: what `modprobe --dump-modversions` reads.
MODULE = '''struct { unsigned long crc; char name[56]; } versions[]
    __attribute__((section("__versions"), used)) = {{1, "module_layout"}, {2, "netdev_alloc"}};'''
UNUSED = "0x00000007\tsomething_else\tvmlinux\tEXPORT_SYMBOL\t\n"


def module():
    """The bytes of an object file with symbol versions, as the driver of an image."""
    with tempfile.TemporaryDirectory() as place:
        source, built = Path(place) / "m.c", Path(place) / "m.ko"
        source.write_text(MODULE, encoding="ascii")
        subprocess.run(["gcc", "-c", "-o", str(built), str(source)], check=True, timeout=60)
        return built.read_bytes()


class Mirror:
    """Suites with packages; what is published is what apt sees, until it is published again."""

    def __init__(self, place):
        self.place = Path(place)
        self.packages = {}          # (suite, name, version) → stanza without its file's size and digest
        self.files = {}             # path on the mirror → bytes
        self.lost = set()           # names that are listed and answer 404
        self.asked = []             # paths that were asked for
        self.driver = module()
        self.built = {}
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            """Answers from `files`."""

            def do_GET(self):
                """One request."""
                mirror.asked.append(self.path)
                data = mirror.files.get(self.path.lstrip("/").replace("%7e", "~").replace("%3a", ":").replace("%2b", "+"))
                self.send_response(200 if data is not None else 404)
                self.send_header("Content-Length", str(len(data or b"")))
                self.end_headers()
                self.wfile.write(data or b"")

            def log_message(self, *_):
                """Silent."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        """Stops answering."""
        self.server.shutdown()
        self.server.server_close()

    def lines(self, *suites):
        """For a sources.list."""
        host, port = self.server.server_address
        return [entry(f"http://{host}:{port}", suite, "trusted=yes") for suite in suites]

    def put(self, name, version, suite="bookworm-security", depends="", files=()):
        """Adds a package; `files` are `(path, bytes)`."""
        key = (name, version, depends, tuple(files))
        if key not in self.built:
            self.built[key] = self._build(name, version, depends, files)
        path = f"pool/{name}_{version.partition(':')[2] or version}_amd64.deb"
        self.packages[suite, name, version] = (path, depends, self.built[key])

    def remove(self, name, version=None):
        """Takes a package out of every suite."""
        self.packages = {key: value for key, value in self.packages.items() if key[1] != name or version not in (None, key[2])}

    def kernel(self, release, version, suite="bookworm-security", crc=2, image=True, headers=True):
        """A kernel as Debian packs it: headers, their common part, the kbuild tools, the image with the driver."""
        base = release.removesuffix("-amd64")
        kbuild = "linux-kbuild-" + (base.rpartition(".")[0] if base.startswith("6.1.") else base)
        tables = [("usr/src/headers/Module.symvers", f"0x00000001\tmodule_layout\tvmlinux\tEXPORT_SYMBOL\t\n"
                   f"0x{crc:08x}\tnetdev_alloc\tvmlinux\tEXPORT_SYMBOL\t\n{UNUSED}".encode())]
        if headers:
            needs = f"linux-headers-{base}-common (= {version}), {kbuild} (>= {version}), gcc-12"
            if not base.startswith("6.1."):
                needs += f", linux-image-{release} (= {version}) | linux-image-{release}-unsigned (= {version})"
            self.put(f"linux-headers-{release}", version, suite, needs, tables)
            self.put(f"linux-headers-{base}-common", version, suite)
            self.put(kbuild, version, suite, "libc6")
        if image:
            self.put(f"linux-image-{release}", version, suite, "kmod, linux-base (>= 4.3~)",
                     [(f"lib/modules/{release}/kernel/{DRIVER}.ko", self.driver)])

    def source(self, series, version, suite="bookworm-security"):
        """The kernel's source package."""
        self.put(f"linux-source-{series}", version, suite)

    def _build(self, name, version, depends, files):
        root = Path(tempfile.mkdtemp(dir=self.place))
        (root / "DEBIAN").mkdir()
        control = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: lab <lab@example>\nDescription: made up\n"
        (root / "DEBIAN/control").write_text(control + (f"Depends: {depends}\n" if depends else ""), encoding="ascii")
        for path, data in files:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
        subprocess.run(["dpkg-deb", "-Znone", "--build", str(root), f"{root}.deb"], check=True, capture_output=True, timeout=60)
        data = Path(f"{root}.deb").read_bytes()
        shutil.rmtree(root)
        return data

    def publish(self, *suites, date=None):
        """Writes lists and files of these suites, or of all; what was there before is gone."""
        suites = suites or {key[0] for key in self.packages}
        self.files = {}
        for suite in suites:
            stanzas = []
            for (where, name, version), (path, depends, data) in self.packages.items():
                if where == suite:
                    stanzas.append(f"Package: {name}\nVersion: {version}\nArchitecture: amd64\n"
                                   + (f"Depends: {depends}\n" if depends else "")
                                   + f"Filename: {path}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n")
            listed = "\n".join(stanzas).encode()
            name = "main/binary-amd64/Packages"
            self.files[f"dists/{suite}/{name}"] = listed
            self.files[f"dists/{suite}/Release"] = (
                f"Origin: Lab\nSuite: {suite}\nCodename: {suite}\nDate: {email.utils.formatdate(date or time.time(), usegmt=True)}\n"
                f"Architectures: amd64\nComponents: main\nSHA256:\n {hashlib.sha256(listed).hexdigest()} {len(listed)} {name}\n").encode()
        for (_, name, _), (path, _, data) in self.packages.items():
            if name not in self.lost:
                self.files[path] = data
