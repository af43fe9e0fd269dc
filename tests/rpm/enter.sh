#!/bin/bash
# enter.sh ROOT host|upstart|chroot COMMAND: runs it in ROOT. As host, its init is ours, in a PID namespace of its own, and systemd's directory
# is there; as upstart, the same without that; as chroot, /proc shows an init outside, as when an image is made.
set -euo pipefail
root=$1 how=$2
# rpm's plugin gives scriptlets a mount namespace, for which / must be a mount point. Elsewhere the root stays a plain directory, as
# that of an image build is: vfguard's own namespaces cannot be had there.
if compgen -G "$root/usr/lib*/*/rpm-plugins/unshare.so" >/dev/null; then mount --rbind "$root" "$root"; fi
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs run "$root/run"
[ "$how" != host ] || mkdir -p "$root/run/systemd/system"
if [ "$how" != chroot ]; then
    mount --bind "$root/etc/lab/osrelease" "$root/proc/sys/kernel/osrelease"
    mount --bind "$root/etc/lab/cmdline" "$root/proc/cmdline"
    exec chroot "$root" /bin/bash -c "$3"
fi
chroot "$root" /bin/bash -c "$3"
