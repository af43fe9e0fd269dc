# shellcheck shell=bash disable=SC2154 # run.sh sets what is read here
# Headers that `rehearse` downloads: what is not signed by a key that the machine trusts is refused, and what a signed package holds
# reaches nothing. Sourced by run.sh. In each case the former way (rpm2cpio and cpio as root) shows that the package is a hostile one.

# The releases of the small kernel-devel, by what is wrong with it.
declare -A HOSTILE=([good]=80 [unsigned]=81 [wrong]=82 [tampered]=83 [absolute]=90 [dotdot]=91 [through]=92 [links]=93 [device]=94 [fifo]=95
    [setuid]=96 [sparse]=97)
hostile_kernel() { printf '6.1.0-%s.el9.x86_64\n' "${HOSTILE[$1]}"; }

# signed_by KEY FILE: with the key of KEY@lab.
signed_by() {
    GNUPGHOME=$WORK/gnupg rpmsign --define "__gpg $(command -v gpg)" --define "_gpg_name $1@lab" --addsign "$2" >"$WORK/rpmsign.log" 2>&1 ||
        { cat "$WORK/rpmsign.log" >&2 && return 1; }
}

# hostile_packages: the repository `hostile`, and `signed`, which has the real headers of NEW.
hostile_packages() {
    local out=$R/hostile kind file key
    [ ! -e "$out" ] || return 0
    mkdir -p "$out" "$R/signed"
    mkdir -m 700 "$WORK/gnupg"
    for key in lab wrong; do
        GNUPGHOME=$WORK/gnupg gpg --batch --quiet --passphrase '' --quick-generate-key "$key@lab" rsa2048 sign never
        GNUPGHOME=$WORK/gnupg gpg --batch --armor --export "$key@lab" >"$R/$key.asc"
    done
    for kind in "${!HOSTILE[@]}"; do
        bb "$HERE/packages/headers.spec" "$WORK/hostile-$kind" --define "r ${HOSTILE[$kind]}"
        file=$out/$kind.rpm
        mv "$WORK/hostile-$kind"/*.rpm "$file"
        case $kind in
        good | unsigned | wrong | tampered) ;;
        *) "$HERE/packages/hostile.py" "$file" "$(hostile_kernel "$kind")" "$kind" ;;
        esac
        case $kind in
        unsigned) ;;
        wrong) signed_by wrong "$file" ;;
        *) signed_by lab "$file" ;;
        esac
        [ "$kind" != tampered ] || "$HERE/packages/hostile.py" "$file" --tamper
    done
    cp "$R/new"/kernel-devel-*.rpm "$R/signed"
    signed_by lab "$R/signed"/kernel-devel-*.rpm
    repository "$out"
    repository "$R/signed"
    GNUPGHOME=$WORK/gnupg gpgconf --kill gpg-agent
}

# source_packages: the repositories `sources` and `unsigned-sources`, with the kernel's source package.
source_packages() {
    local tree=$WORK/source/linux-6.1.0-1.el9 repo
    mkdir -p "$tree/drivers/net/ethernet/intel/ixgbevf" "$R/sources" "$R/unsigned-sources"
    # shellcheck disable=SC2016 # make's
    echo 'obj-$(CONFIG_IXGBEVF) += ixgbevf.o' >"$tree/drivers/net/ethernet/intel/ixgbevf/Makefile"
    echo 'MODULE_LICENSE("GPL");' >"$tree/drivers/net/ethernet/intel/ixgbevf/ixgbevf.c"
    tar -C "$WORK/source" -cJf "$WORK/source/${tree##*/}.tar.xz" "${tree##*/}"
    rpmbuild -bs --quiet --define "_sourcedir $WORK/source" --define "_srcrpmdir $R/unsigned-sources" "$HERE/packages/source.spec"
    cp "$R/unsigned-sources"/*.src.rpm "$R/sources"
    signed_by lab "$R/sources"/*.src.rpm
    for repo in sources unsigned-sources; do repository "$R/$repo"; done
}

# offers REPOSITORY SETTING…: it alone, with these settings.
offers() {
    local repo=$1
    shift
    mkdir -p "$M/etc/pki"
    rm -f "$M"/etc/yum.repos.d/*
    { printf '[%s]\nname=%s\nbaseurl=file:///repo/%s\n' "$repo" "$repo" "$repo" && printf '%s\n' "$@"; } >"$M/etc/yum.repos.d/$repo.repo"
    cp "$R/lab.asc" "$M/etc/pki/lab.asc"
}
CHECKED=(gpgcheck=1 gpgkey=file:///etc/pki/lab.asc)
allow_unsigned() {
    mkdir -p "$M/etc/vfguard/config.d"
    printf '[rehearse]\nallow_unsigned = %s\n' "$1" >"$M/etc/vfguard/config.d/rehearse.toml"
}
# rehearsal KIND: of that package; exit code and report in $OUT.
rehearsal() { rehearsal_of "$(hostile_kernel "$1")"; }
rehearsal_of() {
    touch "$M/var/before"
    inside "$M" host "${WITHOUT-} vfguard rehearse $1 --driver ixgbevf --scratch /var/scratch --source /srv/ixgbevf.tar.gz --sha256 $DRIVER_SHA256
        echo \"rc \$?\"; find /var/scratch -perm /06022 ! -type l; rm -rf /var/scratch; find /etc -cnewer /var/before"
    cat "$OUT"
}
# refused_package WHY FIX: and nothing was unpacked for it.
refused_package() {
    told "is refused: .*$1"
    told "$2"
    told '^rc 1$'
    not told '^/etc'
}

# The keys are the repository's own, in a file: none is imported, and none is after it.
only_keys_of_the_repository() {
    offers signed "${CHECKED[@]}"
    rehearsal_of "$NEW"
    told '^rc 0$'
    not told '^/'
    inside "$M" host 'rpm -q gpg-pubkey || true'
    told 'gpg-pubkey is not installed'
    # A repository that does not check is no reason to take what is not signed.
    offers hostile "${CHECKED[@]}"
    inside "$M" host "cd /var && dnf -q download $(hostile_kernel unsigned | sed s/^/kernel-devel-/) && rpmkeys --checksig unsigned.rpm"
    cat "$OUT"
    told ': digests OK$' # rpm and dnf have nothing against it
    rehearsal unsigned
    refused_package 'the package is not signed' 'vfguard rehearse KERNEL'
    rehearsal wrong
    refused_package 'signed with an unknown key' 'rpm --import FILE'
    rehearsal tampered
    refused_package 'not what was signed .*BAD' 'dnf clean packages'
}
# Both must say so: the repository, and the setting.
allowed_unsigned() {
    offers hostile gpgcheck=0
    rehearsal unsigned
    refused_package 'the package is not signed' 'rehearse.allow_unsigned = true in /etc/vfguard/config.toml'
    allow_unsigned true
    rehearsal unsigned
    not told 'is refused'
    told 'does not say which kernel it is of'
    rehearsal wrong
    not told 'is refused'
    rehearsal tampered
    refused_package 'not what was signed' 'dnf clean packages'
    offers hostile "${CHECKED[@]}"
    rehearsal unsigned
    refused_package 'the package is not signed' 'only where gpgcheck is off'
}
imported_key() {
    offers hostile gpgcheck=1 gpgkey=https://keys.invalid/lab.asc
    rehearsal good
    refused_package 'signed with an unknown key' 'rpm --import https://keys.invalid/lab.asc'
    inside "$M" host 'rpm --import /etc/pki/lab.asc'
    rehearsal good
    not told 'is refused'
    told 'does not say which kernel it is of'
}
# formerly KIND: unpacks it as root in a directory of its own.
formerly() {
    touch "$M/var/before"
    inside "$M" host "mkdir -p /var/formerly /etc/cron.d && cd /var/formerly && rpm2cpio /repo/hostile/$1.rpm | cpio -idm --quiet
        find /etc/cron.d /var/formerly -cnewer /var/before -printf '%M %p %l\n'; rm -rf /var/formerly /etc/cron.d/*"
    cat "$OUT"
}
# What a signed package holds.
hostile_names() {
    local kind
    offers hostile "${CHECKED[@]}"
    for kind in absolute dotdot through; do
        formerly $kind
        told "/etc/cron.d/$kind"
        rehearsal $kind
        not told '^/etc'
        [ ! -e "$M/etc/cron.d/$kind" ]
    done
    # Where no namespaces can be had.
    WITHOUT='setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin' rehearsal through
    [ ! -e "$M/etc/cron.d/through" ]
    for kind in absolute dotdot; do
        rehearsal $kind
        refused_package 'names that lead out of its directory' 'tell who runs the repository'
    done
}
hostile_files() {
    offers hostile "${CHECKED[@]}"
    formerly links
    told "^l.* -> ?/etc\$|^l.* /etc\$"
    rehearsal links
    not told '^/etc'
    formerly device
    told '^c.*/device'
    formerly fifo
    told '^p.*/fifo'
    formerly setuid
    told '^-rws.*/setuid'
    rehearsal device
    refused_package 'cannot be unpacked' 'tell who runs the repository'
    rehearsal fifo
    refused_package 'neither a file, a directory nor a link' 'tell who runs the repository'
    # Without the bits it is a file like others.
    rehearsal setuid
    not told '^/'
    told 'does not say which kernel it is of'
    inside "$M" host "rpm2cpio /repo/hostile/sparse.rpm | head -c 600M | wc -c"
    told '^629145600$'
    rehearsal sparse
    refused_package 'cannot be unpacked' 'tell who runs the repository'
}

# The same for the source package from which intree-archive.sh packs a driver.
source_package() {
    local pack='/srv/packaging/intree-archive.sh --series 6.1 --out /var/packed; echo "rc $?"; ls -A /var/packed'
    source_packages
    cp -R "$TOP/packaging" "$M/srv/packaging"
    offers unsigned-sources "${CHECKED[@]}"
    inside "$M" host "$pack"
    cat "$OUT"
    told '^rc 1$'
    told 'kernel-.*.src.rpm is not signed by a key'
    not told 'ixgbevf-'
    offers sources "${CHECKED[@]}"
    inside "$M" host "$pack"
    cat "$OUT"
    told '^rc 0$'
    told '^ixgbevf-6.1.0-1.el9-intree.tar.gz$'
    inside "$M" host 'rpm -q gpg-pubkey || true'
    told 'gpg-pubkey is not installed'
}

package_cases() {
    hostile_packages
    scenario "headers are taken if a key signed them that the repository names as a file; unsigned, unknown and changed ones are refused" only_keys_of_the_repository
    scenario "unsigned headers are taken only where the repository and the setting say so" allowed_unsigned
    scenario "a key that would have to be fetched is asked for, and counts once rpm has it" imported_key
    scenario "names and links in a package that lead out reach nothing" hostile_names
    scenario "links, devices, fifos, set-user-ID files and 10 GB of zeros in a package reach nothing" hostile_files
    scenario "a source package is packed only if it is signed" source_package
}
