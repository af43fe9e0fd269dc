#!/usr/bin/env python3
"""Builds each release of each recipe for each kernel, by plain make and by vfguard side by side, and prints where they disagree.

    tests/campaign/drivers.py --vfguard FILE --archives DIR --roots DIR [--within COMMAND] [--work DIR]
        [--only DRIVER]… [--kernel RELEASE]… RESULT.tsv
    tests/campaign/drivers.py --table RESULT.tsv

DIR of archives: the releases' archives, named so that they end with VERSION.tar.gz and contain the driver's name. Their bytes need not
be the pinned ones. DIR of roots: a directory a kernel, named by its release and usable as vfguard's --root, with the kernel's headers.
--work: a directory on the file system of the roots, for builds. COMMAND: what runs a program where that kernel's compiler is the usual one; {kernel} is filled in. Rows that RESULT.tsv has are kept,
so that a campaign can be taken up again. --table prints the table of docs/support.md. Neither archives nor kernels belong to this
project; nothing here fetches any."""
import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
FIELDS = ["driver", "version", "kernel", "plain", "vfguard", "compiler", "modules", "why"]


def below(root, path):
    """A path of a root, its links resolved below it."""
    for _ in range(40):
        real = root / str(path).lstrip("/")
        if not real.is_symlink():
            return real
        target = Path(os.readlink(real))
        path = target if target.is_absolute() else Path("/") / real.parent.relative_to(root) / target
    raise SystemExit(f"{path}: too many links")


def compared(ko):
    """What the kernel compares when it loads a module."""
    versions = subprocess.run(["modprobe", "--dump-modversions", ko], capture_output=True, text=True, check=False).stdout
    vermagic = subprocess.run(["modinfo", "-F", "vermagic", ko], capture_output=True, text=True, check=False).stdout
    return sorted(versions.split("\n")), vermagic


class Campaign:
    def __init__(self, args):
        self.args = args

    def run(self, kernel, command, cwd=None):
        within = [word.format(kernel=kernel) for word in (self.args.within or "").split()]
        done = subprocess.run(within + command, cwd=cwd, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, check=False)
        return done.returncode, done.stdout + done.stderr

    def plain(self, recipe, release, kernel, archive, work):
        root = self.args.roots / kernel
        modules = f"/lib/modules/{kernel}"
        build = below(root, f"{modules}/build")
        source = below(root, f"{modules}/source") if (root / f"lib/modules/{kernel}/source").is_symlink() else build
        source = build if not source.exists() else source
        subprocess.run(["tar", "-xf", archive, "-C", work], check=True)
        top = next(work.iterdir())
        make = recipe.get("make", ["BUILD_KERNEL={kernel}", "KSRC={source}", "KOBJ={build}"])
        if source == build:
            make = [m for m in make if "{build}" not in m or not any("{source}" in other for other in make)]
        compiler = {"5": "gcc-10", "6": "gcc-12", "7": "gcc-14"}.get(kernel[0], "gcc") if "amd64" in kernel else "gcc"
        fill = {"kernel": kernel, "source": source, "build": build, "compiler": compiler}
        make = [m.format(**fill) for m in make + release.get("make", [])]
        code, text = self.run(kernel, ["make", "-j1", *make], top / recipe.get("directory", "src"))
        found = {ko.name: ko for ko in top.rglob("*.ko")}
        driver = found.get(recipe.get("modules", [recipe["name"]])[0] + ".ko")
        if code == 0 and driver:
            return "ok", driver, text
        return ("fail" if code else "nothing"), None, text

    def guarded(self, recipe, kernel, archive, work):
        root = work / "root"
        # Links: vfguard replaces files and never writes into one that is there.
        subprocess.run(["cp", "-al", self.args.roots / kernel, root], check=True)
        (root / "sys/bus/pci/devices").mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        name = recipe["name"]
        command = [self.args.vfguard, "--root", root, "prepare", kernel, "--driver", name, "--source", archive, "--sha256", digest, "--jobs", "1"]
        code, text = self.run(kernel, [str(c) for c in command])
        record = root / f"var/lib/vfguard/records/{kernel}.json"
        findings = json.loads(record.read_text())["drivers"][name]["findings"] if record.is_file() else []
        installed = sorted((root / f"lib/modules/{kernel}/updates/vfguard").glob("*.ko*"))
        driver = next((ko for ko in installed if ko.name.startswith(name + ".ko")), None)
        if driver:
            return "ok", driver, ""
        why = [f"{f['code']}: {f['detail']}" for f in findings if f["severity"] == "unsafe"] or [text.strip()[-300:] or str(code)]
        return "refused", None, why[0]

    def row(self, recipe, release, kernel, archive):
        with tempfile.TemporaryDirectory(dir=self.args.work) as work:
            work = Path(work)
            os.chmod(work, 0o711)
            for name in ("plain", "guarded"):
                (work / name).mkdir()
            plain, ours, _ = self.plain(recipe, release, kernel, archive, work / "plain")
            guarded, theirs, why = self.guarded(recipe, kernel, archive, work / "guarded")
            if ours and theirs:
                stripped = work / "m.ko"
                shutil.copy(theirs, work / theirs.name)
                if theirs.suffix != ".ko":
                    unpack = {".xz": ["xz", "-dc"], ".gz": ["gzip", "-dc"], ".zst": ["zstd", "-dcq"]}[theirs.suffix]
                    stripped.write_bytes(subprocess.run(unpack + [work / theirs.name], capture_output=True, check=True).stdout)
                else:
                    shutil.copy(theirs, stripped)
                if compared(ours) != compared(stripped):
                    guarded, why = "other", "the module's symbol versions are not plain make's"
            modules = " ".join(sorted(ko.name for ko in (work / "guarded").rglob("updates/vfguard/*.ko*")))
            gcc = "gcc-10" if kernel.startswith("5.10") else "gcc"
            _, compiler = self.run(kernel, [gcc, "-dumpfullversion"])
            why = re.sub(r"\s+", " ", why.replace(str(self.args.roots), "").replace(str(work), ""))[:200]
            return [recipe["name"], release["version"], kernel, plain, guarded, compiler.strip(), modules, why]


def agree(row):
    """Whether vfguard installs what plain make builds, and nothing else."""
    return (row["plain"] == "ok") == (row["vfguard"] == "ok")


def read(file):
    return [dict(zip(FIELDS, line.split("\t"))) for line in file.read_text().splitlines()] if file.is_file() else []


def natural(text):
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text)]


def table(rows):
    kernels = sorted({r["kernel"] for r in rows}, key=natural)
    print("| release | " + " | ".join(f"{k.replace('.x86_64', '').replace('-amd64', '')}" for k in kernels) + " |")
    print("|---|" + "---|" * len(kernels))
    of = {(r["driver"], r["version"], r["kernel"]): r for r in rows}
    for driver, version in sorted({(r["driver"], r["version"]) for r in rows}, key=lambda r: (r[0], natural(r[1]))):
        cells = []
        for kernel in kernels:
            row = of.get((driver, version, kernel))
            cells.append("unknown" if row is None else {"ok": "builds", "fail": "fails", "nothing": "builds nothing"}[row["plain"]] + ("" if agree(row) else " (!)"))
        print(f"| {driver} {version} | " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path)
    parser.add_argument("--vfguard", type=Path)
    parser.add_argument("--archives", type=Path)
    parser.add_argument("--roots", type=Path)
    parser.add_argument("--within")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--only", action="append")
    parser.add_argument("--kernel", action="append")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    rows = read(args.result)
    if args.table:
        return table(rows)
    campaign = Campaign(args)
    done = {(r["driver"], r["version"], r["kernel"]) for r in rows}
    for file in sorted((TOP / "packaging/drivers.d").glob("*.toml")):
        recipe = tomllib.loads(file.read_text())
        if args.only and recipe["name"] not in args.only:
            continue
        for release in recipe["releases"]:
            version = re.escape(release["version"])
            named = [a for a in sorted(args.archives.iterdir()) if recipe["name"] in a.name and re.search(rf"[-_v]{version}\.tar", a.name)]
            if not named:
                print(f"skipped {recipe['name']} {release['version']}: no archive of it is here", flush=True)
                continue
            for kernel in sorted((d.name for d in args.roots.iterdir()), key=natural):
                if (recipe["name"], release["version"], kernel) in done or (args.kernel and kernel not in args.kernel):
                    continue
                row = campaign.row(recipe, release, kernel, named[0])
                with args.result.open("a") as out:
                    out.write("\t".join(row) + "\n")
                told = dict(zip(FIELDS, row))
                print(("" if agree(told) else "DISAGREE ") + " ".join(row[:5]) + (f": {row[7]}" if row[7] else ""), flush=True)
    rows = read(args.result)
    wrong = [r for r in rows if not agree(r)]
    print(f"{len(rows)} builds, {len(wrong)} disagreements")
    return bool(wrong)


sys.exit(main())
