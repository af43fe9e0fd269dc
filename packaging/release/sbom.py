#!/usr/bin/env python3
"""What a binary is made of, as CycloneDX 1.5 on stdout: sbom.py BINARY TARGET [TOOL…], a tool as "NAME VERSION".

The crates that are compiled into vfguard for that target, with the licences that they name and the digests of Cargo.lock; macros, what
build scripts use, and what these need run at build time only and have the scope "excluded". No time and no serial number: two builds give the same text. The format:
https://cyclonedx.org/docs/1.5/json/
"""

import hashlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import quote

TOP = Path(__file__).resolve().parents[2]


def cargo(*arguments):
    """What cargo prints."""
    return subprocess.run(["cargo", *arguments], cwd=TOP, check=True, stdout=subprocess.PIPE, text=True).stdout


def crates(*edges):
    """Name and version of each crate that is linked into vfguard, or that takes part in its build."""
    lines = cargo("tree", "--locked", "--prefix=none", "--format={p}", *edges).splitlines()
    return {tuple(re.match(r"(\S+) v(\S+)", line).groups()) for line in lines}


def main(binary, target, *tools):
    """Prints it."""
    # Without those of tests, whose features would count as well.
    linked = crates(f"--target={target}", "--edges=normal,no-proc-macro")
    taking_part = crates(f"--target={target}", "--edges=normal,build")
    listed = json.loads(cargo("metadata", "--locked", "--format-version=1", f"--filter-platform={target}"))
    digests = {(p["name"], p["version"]): p.get("checksum") for p in tomllib.loads((TOP / "Cargo.lock").read_text())["package"]}
    root, = listed["workspace_members"]
    packages = {p["id"]: p for p in listed["packages"] if (p["name"], p["version"]) in taking_part}
    references = {i: f"pkg:cargo/{p['name']}@{quote(p['version'])}" for i, p in packages.items()}

    def component(package):
        key = package["name"], package["version"]
        told = {"type": "library", "bom-ref": references[package["id"]], "name": key[0], "version": key[1],
                "scope": "required" if key in linked else "excluded", "purl": references[package["id"]],
                "licenses": [{"expression": package["license"].replace("/", " OR ")}]}
        return {**told, "hashes": [{"alg": "SHA-256", "content": digests[key]}]}

    def needed(node):
        kinds = {d["pkg"] for d in node["deps"] for kind in d["dep_kinds"] if kind["kind"] in (None, "build")}
        return sorted(references[i] for i in kinds if i in references)

    rustc = subprocess.run(["rustc", "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout.split(" ", 1)
    used = [("rustc", rustc[1].strip()), *(tool.split(" ", 1) for tool in tools)]
    sha = hashlib.sha256(Path(binary).read_bytes()).hexdigest()
    own = packages[root]
    told = {
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": name, "version": version} for name, version in used]},
            "component": {"type": "application", "bom-ref": references[root], "name": own["name"], "version": own["version"],
                          "purl": references[root], "licenses": [{"expression": own["license"]}],
                          "hashes": [{"alg": "SHA-256", "content": sha}]},
        },
        "components": sorted((component(p) for i, p in packages.items() if i != root), key=lambda c: c["bom-ref"]),
        "dependencies": sorted(({"ref": references[n["id"]], "dependsOn": needed(n)} for n in listed["resolve"]["nodes"]
                                if n["id"] in references), key=lambda d: d["ref"]),
    }
    print(json.dumps(told, indent=1))


main(*sys.argv[1:])
