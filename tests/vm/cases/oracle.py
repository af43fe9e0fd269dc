"""Is the verifier ever laxer than the kernel? Some hundred broken modules, loaded by real kernels and judged offline."""

import json
import os
import shutil
import subprocess
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from oracle.build import Target, build, headers_lab, intree, own, root
from oracle.guest import Oracle
from oracle.variants import Context, Variant, all_variants
from vmlab.errors import require
from vmlab.report import table

from . import Story

LEAST = 200                     # variants for each kernel: issue 6, proof 1
ENFORCE = "module.sig_enforce=1"
VERIFY_SECONDS = 60
# What the kernel says of its clock some seconds after it started, whatever is loaded meanwhile.
CLOCK = ("tsc: ", "clocksource: ")
BANNER = ("ixgbevf: Intel(R) 10 Gigabit PCI Express Virtual Function Network Driver", "ixgbevf: Copyright (c) ")
FEW = 0.10                      # more false alarms than this share would make the verdict useless
# Where the verifier refuses what a Debian kernel happens to load, and why it should.
DELIBERATE = {
    "versions-missing": "loads only with MODULE_FORCE_LOAD, which the EL family has not",
    "vermagic-release": "built for another kernel, or nobody knows for which",
    "vermagic-flags": "no vermagic: loads only with MODULE_FORCE_LOAD",
    "not-elf": "a header that no linker writes: damaged",
    "wrong-arch": "a header that no linker writes: damaged",
    "module-unreadable": "nothing shows that kmod here reads this packing, or its end is missing",
    "symbol-missing": "nothing that modprobe would load first provides it",
    "signature-invalid": "what lies behind the module is no signature: damaged",
    "stripped": "damaged",
}


class Question:
    """One kernel's variants, and what both sides say of them."""

    def __init__(self, lab, name, target, headers, directory, mine):
        self.lab = lab
        self.name = name
        self.target = target
        self.directory = directory
        built = build(headers, target, directory / "work")
        others = foreign(headers, lab, target, directory)
        sign_file = next((headers / "usr/lib").glob(f"linux-kbuild-{'6.1' if target.kernel.startswith('6.1.') else target.kernel[:-6]}"
                                                    "/scripts/sign-file"))
        context = Context(directory, sign_file, intree(target, ["dummy", "ixgbevf"]), others)
        self.variants = [Variant(f"vfguards-{mine.name}", mine.read_bytes()), *all_variants(built, context, lab.full)]
        self.roots = {False: root(headers, target, directory / "root"),
                      True: root(headers, target, directory / "root-with-provider", built["lab_prov"])}
        self.files = directory / "variants"
        self.files.mkdir()
        for variant in self.variants:
            (self.files / variant.name).write_bytes(variant.data)
        image = target.tree / "boot" / f"vmlinuz-{target.kernel}"
        self.oracle = Oracle(directory, image, lab.accelerator(image), self.variants, built)

    def verdicts(self, append):
        """What vfguard says: `(verdict, finding codes)` for each variant."""
        for place in self.roots.values():
            (place / "proc/cmdline").write_text(f"BOOT_IMAGE=/boot/vmlinuz-{self.target.kernel} root=/dev/vda1 {append}\n")
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(self._verify, self.variants))

    def _verify(self, variant):
        command = [str(self.lab.binary), "--root", str(self.roots[bool(variant.before)]), "--format", "json", "verify",
                   str(self.files / variant.name), "--kernel", self.target.kernel]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=VERIFY_SECONDS)
        try:
            answer = json.loads(done.stdout)
        except ValueError:
            return f"no JSON (exit {done.returncode})", [done.stderr.strip()[-80:]]
        if "error" in answer:
            return "unknown", [answer["error"]["message"]]
        expected = {"safe": 0, "unsafe": 3, "unknown": 1}.get(answer["verdict"])
        if done.returncode != expected:
            return f"{answer['verdict']}, but exit {done.returncode}", []
        return answer["verdict"], [found["code"] for found in answer["findings"] if found["severity"] == "unsafe"]


def foreign(headers, lab, target, directory):
    """Modules of other kernels: built for them here, and the distribution's own."""
    found = {}
    for place in sorted((headers / "lib/modules").iterdir()):
        if place.name == target.kernel:
            continue
        other = Target(place.name, Path(), [])
        work = directory / f"foreign-{place.name}"
        work.mkdir()
        for name, data in build(headers, other, work).items():
            if name in ("lab_hello", "lab_prov"):
                found[f"{place.name}-{name}.ko"] = data
                changed = data.replace(f"vermagic={place.name} ".encode(), f"vermagic={target.kernel} ".encode())
                if len(changed) == len(data) and changed != data:
                    found[f"{place.name}-{name}-relabelled.ko"] = changed
    return found


def last_line(text):
    """The one that says why, as a rule."""
    return text.splitlines()[-1] if text else ""


def compare(question, append, report):
    """Asks both sides and checks the promise; returns the row of the table."""
    name = f"{question.name}{'/enforced' if append else ''}"
    heard = question.oracle.ask(append)
    verdicts = question.verdicts(append)
    lax, strict, odd = [], [], []
    for variant, answer, (verdict, codes) in zip(question.variants, heard, verdicts):
        why = answer.error or last_line(answer.log)
        if verdict == "safe" and not answer.loaded:
            lax.append([variant.name, why, last_line(answer.log)[:90]])
        elif verdict in ("unsafe", "unknown") and answer.loaded:
            strict.append([variant.name, verdict, ", ".join(codes), DELIBERATE.get(codes[0] if codes else "", "WHY?")])
        elif verdict not in ("safe", "unsafe", "unknown"):
            odd.append([variant.name, verdict, ", ".join(codes)])
    if lax:
        report.say(f"\n{name}: FALSE SAFE\n" + table(["variant", "insmod", "kernel log"], lax))
    if strict:
        report.say(f"\n{name}: stricter than the kernel\n" + table(["variant", "verdict", "findings", "reason"], strict))
    with report.case(f"{name}/vfguards-own-ixgbevf"):
        answer, verdict = heard[0], verdicts[0]
        if append:
            require(not answer.loaded and verdict[0] == "unsafe", f"unsigned, enforced: {answer}, {verdict}")
        else:
            require(verdict[0] == "safe" and answer.loaded, f"what vfguard built and calls {verdict}: {answer}")
            strange = [line for line in answer.log.splitlines() if not line.startswith((*BANNER, *CLOCK))]
            require(answer.log and not strange, f"its loading left more than its banner in dmesg: {strange or 'nothing at all'}")
    with report.case(f"{name}/no-false-safe"):
        require(len(question.variants) >= LEAST, f"only {len(question.variants)} variants")
        require(any(answer.loaded for answer in heard) and not all(answer.loaded for answer in heard), "the oracle says one thing only")
        require(not lax, f"{len(lax)} called safe that the kernel refuses: {', '.join(row[0] for row in lax[:8])}")
    with report.case(f"{name}/every-answer-is-a-verdict"):
        require(not odd, f"{len(odd)}: {odd[:5]}")
    with report.case(f"{name}/false-alarms-are-few"):
        share = len(strict) / len(question.variants)
        without_reason = [row[0] for row in strict if row[3] == "WHY?"]
        require(not without_reason, f"nobody knows why: {without_reason[:8]}")
        require(share <= FEW, f"{len(strict)} of {len(question.variants)}: {dict(Counter(row[2] for row in strict))}")
    safe_loaded = sum(1 for answer, (verdict, _) in zip(heard, verdicts) if answer.loaded and verdict == "safe")
    refused = sum(1 for answer, (verdict, _) in zip(heard, verdicts) if not answer.loaded and verdict in ("unsafe", "unknown"))
    return [question.target.kernel, "enforced" if append else "no", len(question.variants), safe_loaded, refused, len(lax), len(strict)]


def story(kind):
    """The story of one kernel: `6.1` or `newer`."""
    def tell(lab, report):
        directory = Path(tempfile.mkdtemp(prefix=f"oracle-{os.getpid()}-", dir=lab.runs))
        with lab.exclusive():
            headers, manifest = headers_lab()
        number = "61" if kind == "6.1" else "612"
        kernel = manifest["K_NEW" if kind == "6.1" else "K_612"]
        archives = [headers / manifest[f"IXGBEVF_{number}"]]
        if kind == "6.1":
            archives.append(headers / manifest["IGBVF_61"])
        try:
            target = Target(kernel, headers / manifest["ROOT_IMAGES"], archives)
            deb = headers / manifest["ROOT_DEB"]
            mine = own(lab.binary, deb, manifest, number, target, directory / "own")
            question = Question(lab, f"oracle/{kind}", target, deb, directory, mine)
            rows = [compare(question, append, report) for append in ("", ENFORCE)]
            report.say(f"\noracle/{kind}: agreement\n" + table(
                ["kernel", "sig_enforce", "variants", "both safe", "both refuse", "FALSE SAFE", "stricter"], rows) + "\n")
        finally:
            shutil.rmtree(directory, ignore_errors=True)
    return Story(f"oracle/{kind}", tell, long=True)


STORIES = [story("6.1"), story("newer")]
