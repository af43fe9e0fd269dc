//! A live root: a namespace of its own made of this machine's programs, in which the test's tree is the machine.

use super::{Machine, Run};
use std::process::Command;

/// Makes the root and enters it: this machine's /usr below the test's, everything else the test's.
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

/// Runs a script there. The tree has `osrelease` and `cmdline`, which the kernel seems to say.
pub fn enter(machine: &Machine, script: &str) -> Run {
    Command::new("unshare")
        .args(["-m", "-p", "-f", "bash", "-c", ENTER, "enter", script])
        .env("R", machine.root())
        .output()
        .unwrap()
        .into()
}
