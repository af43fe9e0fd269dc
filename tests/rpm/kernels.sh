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

# kernel_packages K VERSION RELEASE DIR: kernel, kernel-core and kernel-devel of K.
kernel_packages() {
    local k=$1 root=$WORK/kernel-$1
    [ -d "$root" ] || el_headers "$root" "$k" "$LAB/$ROOT_DEB"
    bb "$HERE/kernel.spec" "$4" --define "k $k" --define "v $2" --define "r $3" --define "root $root"
}

# base_package RPM DIR: provides what RPM requires and rpm itself does not.
base_package() {
    local provides
    provides=$(rpm -qp --requires "$1" | grep -v '^rpmlib(\|^config(' | sed 's/ >= 4.14/ = 99/' | sort -u | tr '\n' ',')
    bb "$HERE/base.spec" "$2" --define "provides_ ${provides%,}"
}
