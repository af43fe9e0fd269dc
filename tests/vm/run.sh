#!/usr/bin/env bash
# vfguard in virtual machines: real systemds, real kernels, a real GRUB, real reboots.
#
#   tests/vm/run.sh [--full] [CASE…]      CASE: gate, gate/debian12, lockout…; all without one
#   tests/vm/run.sh --images              only makes the guests' disks
#
# One line for each test (ok:, FAILED:, skipped NAME:), and at the end: N passed, N failed, N skipped. Exit code 1 on a failure.
# Needs a Debian host; installs the packages below when it is root. Images are kept in
# ${VFGUARD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vfguard-tests}/vm. The vfguard under test is $VFGUARD_BIN, else a
# release build of this clone. $VFGUARD_VM_ACCEL overrides the choice between KVM and TCG.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# QEMU itself may have to come from backports: vmlab/host.py looks after it and its firmware.
packages=(
    python3 mmdebstrap debian-archive-keyring e2fsprogs xfsprogs kmod cpio # images
    gcc make busybox xz-utils zstd binutils pahole openssl   # modules for the oracle
    ovmf fdisk dosfstools mtools                             # UEFI, and its partition
    dracut-core                                              # under the worker's directives, with --full
)
if [ "${1-}" = --packages ]; then
    printf '%s\n' "${packages[@]}"
    exit 0
fi

skip() {
    printf 'skipped vm: %s\n0 passed, 0 failed, 1 skipped\n' "$1"
    exit 0
}

[ -r /etc/debian_version ] || skip "the guests are Debian, and so has to be the host that makes them"
[ "$(uname -m)" = x86_64 ] || skip "the guests are x86-64, and emulating them on $(uname -m) takes too long"
[ "$(id -u)" = 0 ] || skip "making a guest's root needs root"
said=$(mktemp)
if ! "$here/../../packaging/need.sh" --apt "${packages[@]}" 2>"$said"; then
    why=$(tail -n 1 "$said")
    rm -f "$said"
    skip "$why"
fi
rm -f "$said"
cd "$here"
exec python3 -B main.py "$@"
