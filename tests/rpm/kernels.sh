# shellcheck shell=bash
# Debian's real headers as the EL family's kernel packages, and a stub that provides what Debian's own packages bring. Sourced by
# run.sh, which has sourced lab/layout.sh and the lab's manifest.

# bb SPEC DIR DEFINES…: rpmbuild without compression, into DIR.
bb() {
    local spec=$1 out=$2
    shift 2
    mkdir -p "$WORK/top"
    rpmbuild -bb --quiet --target x86_64 --define "_topdir $WORK/top" --define "_rpmdir $out" --define '_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.rpm' \
        --define '_binary_payload w0.ufdio' --define 'debug_package %{nil}' --define '__os_install_post %{nil}' \
        --define '_build_id_links none' "$@" "$spec" >"$WORK/rpmbuild.log" 2>&1 || { cat "$WORK/rpmbuild.log" >&2 && return 1; }
}

# as_el ROOT D K: the headers of Debian's kernel D below ROOT become those of K, a name as the EL family has them (one dash, and the
# architecture behind a dot), which rpm takes as a version too.
as_el() {
    local root=$1 d=$2 k=$3 tree=$1/usr/src/kernels/$3
    mv "$root/usr/src/kernels/$d" "$tree"
    mv "$root/lib/modules/$d" "$root/lib/modules/$k"
    rm -r "${root:?}/boot" "$root/lib/modules/$k/build" "$root/lib/modules/$k/source"
    echo "#define UTS_RELEASE \"$k\"" >"$tree/include/generated/utsrelease.h"
    echo "$k" >"$tree/include/config/kernel.release"
    sed -i -E "s/^EXTRAVERSION =.*/EXTRAVERSION = -${k#*-}/" "$tree/Makefile"
}

# el_name D: the name that Debian's kernel D gets: `6.1.0-56-amd64` is 6.1.0-56.el9.x86_64, `6.12.117+deb12-amd64` 6.12.117-1.el9.x86_64.
el_name() {
    local base=${1%-amd64}
    base=${base%%+*}
    case $base in
    *-*) printf '%s.el9.x86_64\n' "$base" ;;
    *) printf '%s-1.el9.x86_64\n' "$base" ;;
    esac
}

# kernel_packages D K DIR [ROOT]: kernel, kernel-core and kernel-devel of K, which are Debian's D, unpacked below ROOT (the lab's).
kernel_packages() {
    local d=$1 k=$2 root=$WORK/kernel-$2 release
    el_headers "$root" "$d" "${4:-$LAB/$ROOT_DEB}"
    as_el "$root" "$d" "$k"
    release=${k#*-}
    bb "$HERE/specs/kernel.spec" "$3" --define "k $k" --define "v ${k%%-*}" --define "r ${release%.x86_64}" --define "root $root"
}

# grubby_kernel GENERATION K DIR: the package of K as EL 6 and EL 7 cut it. Its files are those that kernel_packages used.
grubby_kernel() {
    local k=$2 release=${2#*-}
    bb "$HERE/specs/kernel-grubby.spec" "$3" --define "generation $1" --define "k $k" --define "v ${k%%-*}" --define "r ${release%.x86_64}" \
        --define "root $WORK/kernel-$k"
}

# base_package DIR RPM…: provides what these require and rpm itself does not.
base_package() {
    local out=$1 provides
    shift
    provides=$(rpm -qp --requires "$@" | grep -v '^rpmlib(\|^config(' | sed 's/ >= 4.14/ = 99/' | sort -u | tr '\n' ',')
    bb "$HERE/specs/base.spec" "$out" --define "provides_ ${provides%,}"
}

# repository DIR: the packages in it, as one.
repository() { createrepo_c -q --compatibility "$1" 2>/dev/null || createrepo_c -q "$1"; }
