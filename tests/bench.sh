#!/usr/bin/env bash
# Speed and memory as ratios against a peer in one run; nothing here passes or fails.
#   check K   against modinfo of the same module file
#   prepare   against plain make and one depmod of the same tree
#   verify    of the in-tree ixgbevf against modinfo; of all 4,000 modules of a kernel against depmod -a and a modinfo of each
#   next-boot of the case with the largest grub.cfg against grub-script-check of that file; what a hold there syncs
#   check     with four devices and an initramfs that carries their drivers: warm, cold, and no process started
# Of $VFGUARD_BINARY (the one that ships: packaging/build-release.sh), else of a release build of this clone. Wants root, the lab's
# input (tests/run.sh build brings it), and the packages strace, time, cpio and zstd.
set -euo pipefail
cd "$(dirname "$0")/.."
LAB=${VFGUARD_LAB:-${VFGUARD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vfguard-tests}}
[ -f "$LAB/manifest.env" ] || { echo "no lab input in $LAB: run tests/run.sh build first" >&2; exit 1; }
# shellcheck source=/dev/null
. "$LAB/manifest.env"
for tool in strace /usr/bin/time; do command -v "$tool" >/dev/null || { echo "$tool is missing: apt-get install strace time" >&2; exit 1; }; done
BIN=${VFGUARD_BINARY:-}
if [ -z "$BIN" ]; then
    cargo build --release --quiet
    BIN=$PWD/target/release/vfguard
fi
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

# A machine of two whole kernels with four devices that the first one's own modules drive, and an initramfs with them.
whole=$work/whole
if [ -d "$LAB/images/lib/modules" ]; then
    mkdir -p "$whole/var/cache/vfguard"
    cp -a "$LAB/images/." "$LAB/$ROOT_DEB/usr" "$whole"
    for k in "$K_NEW" "$K_612"; do cp -a "$LAB/$ROOT_DEB/lib/modules/$k/build" "$whole/lib/modules/$k"; done
    n=0
    for spec in 8086:10ED:ixgbevf 8086:10CA:igbvf 8086:10D3:e1000e 8086:1521:igb; do
        IFS=: read -r vendor id driver <<<"$spec"
        device=$whole/sys/bus/pci/devices/0000:00:0$((n += 1)).0
        mkdir -p "$device/net/eth$n" "$whole/sys/bus/pci/drivers/$driver"
        echo "pci:v0000${vendor}d0000${id}sv00008086sd00000000bc02sc00i00" >"$device/modalias"
        echo 0x020000 >"$device/class"
        ln -s "../../drivers/$driver" "$device/driver"
    done
    (cd "$whole" && {
        printf '%s\n' lib lib/modules "lib/modules/$K_NEW" "lib/modules/$K_NEW/kernel" "lib/modules/$K_NEW/kernel/drivers"
        find "lib/modules/$K_NEW/kernel/drivers/net"
    } | cpio -o -H newc 2>/dev/null | zstd -q -o "boot/initrd.img-$K_NEW")
else
    echo "verify and check on whole kernels: skipped, no images in $LAB (tests/lab/fetch.sh --images)"
fi
jobs=$(nproc)
src=$work/ixgbevf-$IXGBEVF_61_VERSION/src
make="make -s -C $src BUILD_KERNEL=$K_NEW KSRC=$root/usr/src/linux-headers-${K_NEW%-amd64}-common KOBJ=$root/usr/src/linux-headers-$K_NEW"
plain="$make clean && $make -j$jobs && depmod -b $root $K_NEW"

python3 - "$work" "$BIN" "$root" "$K_NEW" "$module" "$LAB/$IXGBEVF_61" "$IXGBEVF_61_SHA256" "$jobs" "$plain" "$whole" "$K_612" <<'PY'
import glob, os, shutil, statistics, subprocess, sys, time
work, binary, root, kernel, module, source, digest, jobs, plain, whole, newer = sys.argv[1:]

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

if os.path.isdir(whole):
    below = f"{whole}/lib/modules/{kernel}/kernel"
    one = f"{below}/drivers/net/ethernet/intel/ixgbevf/ixgbevf.ko"
    verify = [binary, "--root", whole, "-q", "verify", "--kernel"]
    first = once(verify + [kernel, one])
    print(f"verify, the first of a signed module, which looks for the keys in K's image: {first[0] * 1e3:.0f} ms of CPU")
    compare("verify ixgbevf / modinfo", verify + [kernel, one], ["modinfo", one], 20, "at most 3, 12 MB")
    for k, wanted in (kernel, 0.2), (newer, 0.5):
        files = sorted(glob.glob(f"{whole}/lib/modules/{k}/kernel/**/*.ko*", recursive=True))
        subprocess.run(verify + [k, files[0]], stdout=subprocess.DEVNULL)
        ours = once(verify + [k] + files)
        if ours[2]:
            raise SystemExit(f"verify of all modules of {k}: exit code {ours[2]}")
        depmod = once(["depmod", "-a", "-b", whole, k])
        each = sum(once(["modinfo", file])[0] for file in files)
        print(f"verify of all {len(files)} modules of {k} / depmod -a and a modinfo each: ratio cpu {ours[0] / (depmod[0] + each):.2f}"
              f" (wanted {wanted}); ours {ours[0]:.2f} s, depmod {depmod[0]:.2f} s, modinfo {each:.2f} s")
    check = [binary, "--root", whole, "-q", "check", kernel]
    cold = []
    for _ in range(5):
        for file in glob.glob(f"{whole}/var/cache/vfguard/initramfs-*"):
            os.remove(file)
        cold.append(once(check))
    warm = [once(check) for _ in range(20)]
    if {r[2] for r in cold + warm} != {0}:
        raise SystemExit("check with four devices: not safe")
    trace = subprocess.run(["strace", "-f", "-qq", "-e", "trace=execve,fork,vfork,clone,clone3", *check], capture_output=True, text=True)
    started = len([line for line in trace.stderr.splitlines() if "execve" in line]) - 1
    size = os.path.getsize(f"{whole}/boot/initrd.img-{kernel}") / 1e6
    median = statistics.median
    print(f"check, four devices: warm {median(r[1] for r in warm) * 1e3:.1f} ms (wanted 10), CPU {median(r[0] for r in warm) * 1e3:.1f} ms,"
          f" {started} processes started (wanted 0), peak {peak(check) / 1024:.1f} MiB;"
          f" cold, with a look into an initramfs of {size:.0f} MB: {median(r[1] for r in cold) * 1e3:.0f} ms")
cases = filter(os.path.isfile, glob.glob("tests/cases/next-boot/*/in/boot/grub*/grub.cfg"))
largest = max(cases, key=os.path.getsize)
machine = f"{work}/machine"
shutil.copytree(largest.split("/boot/")[0], machine, symlinks=True)
ask = [binary, "--root", machine, "-q", "next-boot"]
checker = shutil.which("grub-script-check") or shutil.which("grub2-script-check")
if checker:
    compare("next-boot / grub-script-check", ask, [checker, f"{machine}/boot/{largest.split('/boot/')[1]}"], 20, "at most 5 ms and no process")
calls = "trace=execve,fork,vfork,clone,clone3,fsync,fdatasync,syncfs,sync"
seen = subprocess.run(["strace", "-f", "-qq", "-e", calls, *ask], capture_output=True, text=True).stderr
print(f"next-boot: processes started {seen.count('execve') - 1} (wanted 0)")
kernels = sorted(os.listdir(f"{machine}/lib/modules"))
os.makedirs(f"{machine}/proc/sys/kernel", exist_ok=True)
with open(f"{machine}/proc/sys/kernel/osrelease", "w") as out:
    out.write(kernels[0] + "\n")
hold = [binary, "--root", machine, "-q", "gate", "close", "--undecided"]
seen = subprocess.run(["strace", "-f", "-y", "-qq", "-e", calls, *hold], capture_output=True, text=True).stderr
synced = [line for line in seen.splitlines() if "sync" in line.split("(")[0] and "/boot/" in line]
print(f"a hold: {len(synced)} syncs below /boot (wanted: the file that moves the default, and its file system)")
prepare = [binary, "--root", root, "-q", "--no-progress", "prepare", kernel, "--rebuild", "--source", source, "--sha256", digest, "--jobs", jobs]
compare("prepare / make and depmod", prepare, ["sh", "-c", plain], 3, "at most 1.05 of the CPU")
PY
