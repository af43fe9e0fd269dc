#!/usr/bin/env bash
# Speed and memory as ratios against a peer in one run; nothing here passes or fails.
#   check K   against modinfo of the same module file
#   prepare   against plain make and one depmod of the same tree
# Wants root, the lab's input (tests/run.sh build brings it), and the packages strace and time.
set -euo pipefail
cd "$(dirname "$0")/.."
LAB=${VFGUARD_LAB:-${VFGUARD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vfguard-tests}}
[ -f "$LAB/manifest.env" ] || { echo "no lab input in $LAB: run tests/run.sh build first" >&2; exit 1; }
# shellcheck source=/dev/null
. "$LAB/manifest.env"
for tool in strace /usr/bin/time; do command -v "$tool" >/dev/null || { echo "$tool is missing: apt-get install strace time" >&2; exit 1; }; done
cargo build --release --quiet
BIN=$PWD/target/release/vfguard
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

root=$work/root
cp -a "$LAB/$ROOT_DEB" "$root"
device=$root/sys/bus/pci/devices/0000:00:03.0
mkdir -p "$device/net/eth0"
echo 'pci:v00008086d000010EDsv00008086sd00000000bc02sc00i00' >"$device/modalias"
echo 0x020000 >"$device/class"
tar -C "$work" -xzf "$LAB/$IXGBEVF_61"
"$BIN" --root "$root" --no-progress prepare "$K_NEW" --source "$LAB/$IXGBEVF_61" --sha256 "$IXGBEVF_61_SHA256" >/dev/null
module=$(find "$root/lib/modules/$K_NEW/updates/vfguard" -name 'ixgbevf.ko*')
jobs=$(nproc)
src=$work/ixgbevf-$IXGBEVF_61_VERSION/src
make="make -s -C $src BUILD_KERNEL=$K_NEW KSRC=$root/usr/src/linux-headers-${K_NEW%-amd64}-common KOBJ=$root/usr/src/linux-headers-$K_NEW"
plain="$make clean && $make -j$jobs && depmod -b $root $K_NEW"

python3 - "$work" "$BIN" "$root" "$K_NEW" "$module" "$LAB/$IXGBEVF_61" "$IXGBEVF_61_SHA256" "$jobs" "$plain" <<'PY'
import os, statistics, subprocess, sys, time
work, binary, root, kernel, module, source, digest, jobs, plain = sys.argv[1:]

def once(argv):
    """CPU seconds with all descendants, wall seconds, peak KiB of the largest process, exit code."""
    start = time.monotonic()
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime, time.monotonic() - start, child.returncode

def peak(argv):
    """Peak KiB, by time(1): a child of this interpreter would begin with the interpreter's own peak."""
    out = subprocess.run(["/usr/bin/time", "-f", "%M", *argv], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return int(out.stderr.split()[-1])

def compare(name, ours, peer, runs, wanted):
    rows = []
    for i in range(runs + 1):  # the first pair warms up
        a, b = once(ours), once(peer)
        if a[2] or b[2]:
            raise SystemExit(f"{name}: exit codes {a[2]} and {b[2]}")
        if i:
            rows.append((a, b))
    median = statistics.median
    cpu = median(a[0] / max(b[0], 1e-4) for a, b in rows)
    wall = median(a[1] / b[1] for a, b in rows)
    print(f"{name}: ratio cpu {cpu:.2f}, wall {wall:.2f} (wanted {wanted});"
          f" ours {median(a[1] for a, _ in rows) * 1e3:.1f} ms, peer {median(b[1] for _, b in rows) * 1e3:.1f} ms,"
          f" our peak {peak(ours) / 1024:.1f} MiB")

check = [binary, "--root", root, "-q", "check", kernel]
compare("check / modinfo", check, ["modinfo", module], 20, "at most 3, 12 MB")
trace = subprocess.run(["strace", "-f", "-qq", "-e", "trace=execve,fork,vfork,clone,clone3", *check], capture_output=True, text=True)
started = [line for line in trace.stderr.splitlines() if "execve" in line][1:]
print(f"check: processes started {len(started)} (wanted 0)")
prepare = [binary, "--root", root, "-q", "--no-progress", "prepare", kernel, "--rebuild", "--source", source, "--sha256", digest, "--jobs", jobs]
compare("prepare / make and depmod", prepare, ["sh", "-c", plain], 3, "at most 1.05 of the CPU")
PY
