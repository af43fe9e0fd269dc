//! A live root: a namespace made of this machine's programs, in which the test's tree is the machine.

use super::{Machine, Run};
use std::process::Command;

/// Makes the root and enters it: this machine's /usr below the test's, everything else from the test.
const ENTER: &str = r#"set -e
N=$R/newroot; mkdir -p "$N"; mount -t tmpfs new "$N"
mkdir "$N"/{upper,work,usr,proc,dev,tmp,root}
chmod 1777 "$N/tmp"
mkdir -p "$R/usr"
mount -t overlay usr -o "lowerdir=$R/usr:/usr,upperdir=$N/upper,workdir=$N/work" "$N/usr"
for l in bin sbin lib lib64; do ln -s usr/$l "$N/$l"; done
for d in etc boot var run sys srv; do mkdir -p "$R/$d" "$N/$d"; mount --bind "$R/$d" "$N/$d"; done
for d in lib/modules; do mkdir -p "$N/usr/$d"; mount --bind "$R/$d" "$N/usr/$d"; done
mkdir -p "$N/etc/alternatives"; mount --bind /etc/alternatives "$N/etc/alternatives"
mount --rbind /dev "$N/dev"
mount -t proc proc "$N/proc"
mount --bind "$R/osrelease" "$N/proc/sys/kernel/osrelease"
mount --bind "$R/cmdline" "$N/proc/cmdline"
exec chroot "$N" /bin/bash -c "$1"
"#;

/// A stand-in for systemd, which a namespace does not have. It acts on the content of /run/systemd/system at the last successful reload.
/// /srv/reload makes the next reloads fail or hang, /srv/show makes it answer badly, /srv/on-VERB is run for any other verb.
pub const SYSTEMCTL: &str = r#"#!/bin/bash
words=()
for w in "$@"; do [[ $w = --* ]] || words+=("$w"); done
case ${words[0]} in
daemon-reload)
    case $(cat /srv/reload 2>/dev/null) in
    fails) echo 'Failed to reload daemon: Refusing to reload, not enough space available on /run/systemd.' >&2; exit 1 ;;
    hangs) exec sleep 600 ;;
    esac
    rm -rf /srv/known; cp -a /run/systemd/system /srv/known ;;
show)
    [ "$(cat /srv/show 2>/dev/null)" != silent ] || { echo 'Failed to connect to bus: No such file or directory' >&2; exit 1; }
    refuser=VFGUARD_blocks_reboot__run_vfguard_status.service
    for u in "${words[@]:1}"; do
        loaded=loaded requires=
        ! grep -qs "^Requires=$refuser" "/srv/known/$u.d/50-vfguard.conf" || requires=$refuser
        [ "$u" != $refuser ] || { loaded=not-found; [ ! -L "/srv/known/$u" ] || loaded=masked; }
        printf 'Id=%s\nLoadState=%s\nRequires=%s\nActiveState=inactive\n\n' "$u" $loaded "$requires"
        [ "$(cat /srv/show 2>/dev/null)" != half ] || exit 0
    done ;;
*) [ ! -x "/srv/on-${words[0]}" ] || exec "/srv/on-${words[0]}" "${words[@]:1}" ;;
esac
"#;

/// Runs a script there. The tree has `osrelease` and `cmdline`, which replace the kernel's.
pub fn enter(machine: &Machine, script: &str) -> Run {
    Command::new("unshare")
        .args(["-m", "-p", "-f", "bash", "-c", ENTER, "enter", script])
        .env("R", machine.root())
        .output()
        .unwrap()
        .into()
}
