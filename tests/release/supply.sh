# shellcheck shell=bash
# Where the binary comes from: what it is made of and by what, its C code, signed packages, the same bytes from two clones. Sourced by run.sh.
# shellcheck disable=SC2154 # binary, work: of run.sh

# A canary guards what has an array on its stack, in some 60 functions of ring, zstd and liblzma. _FORTIFY_SOURCE leaves a call only where
# the compiler knows a buffer's size and not a length: nowhere in these today, and in release/old-glibc.c, which has the same flags.
c_is_guarded() {
    local canaries
    objdump -T "$binary" >"$work/asked"
    grep -qw __stack_chk_fail "$work/asked"
    grep -qw __read_chk "$work/asked"
    canaries=$(objdump -d --no-show-raw-insn "$binary" | grep -c '%fs:0x28')
    echo "$canaries uses of a canary"
    [ "$canaries" -ge 100 ]
}

made_of() {
    python3 - "$binary" "$("$binary" --version)" "$("$binary" -V)" <<'P'
import hashlib, json, sys
binary, version, short = sys.argv[1:]
sbom = json.load(open(f"{binary}.cdx.json"))
assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.5")
about = sbom["metadata"]
assert about["component"]["hashes"][0]["content"] == hashlib.sha256(open(binary, "rb").read()).hexdigest(), "of another binary"
# The same toolchain in both.
tools = {tool["name"]: tool["version"] for tool in about["tools"]["components"]}
assert version == f"{short}\nbuilt by rustc {tools['rustc']}, zig {tools['zig']}", (version, tools)
assert tools["cargo-zigbuild"]
parts = {part["name"]: part for part in sbom["components"]}
for name in ("ring", "zstd-sys", "liblzma-sys", "rustls", "clap"):
    part = parts[name]
    assert part["scope"] == "required" and len(part["hashes"][0]["content"]) == 64 and part["licenses"][0]["expression"], part
    assert part["purl"].startswith(f"pkg:cargo/{name}@"), part
# A macro; what build scripts use, which decides how the C code is compiled; and what that needs.
for name in ("serde_derive", "cc", "jobserver", "shlex", "pkg-config"):
    assert parts[name]["scope"] == "excluded", name
assert "proptest" not in parts, "what only tests"
needed = {node["ref"].split("@")[0]: node["dependsOn"] for node in sbom["dependencies"]}
assert parts["cc"]["bom-ref"] in needed["pkg:cargo/ring"]
known = {part["bom-ref"] for part in sbom["components"]} | {about["component"]["bom-ref"]}
assert all(ref in known for node in sbom["dependencies"] for ref in [node["ref"], *node["dependsOn"]])
P
}

# test_key NAME: a key without a passphrase in a keyring of its own; its public half in $work/NAME.asc.
test_key() {
    export GNUPGHOME=$work/gpg-$1
    install -d -m 700 "$GNUPGHOME"
    gpg --batch --quiet --passphrase '' --quick-generate-key "$1 <$1@localhost>" rsa3072 sign never 2>/dev/null
    gpg --armor --export "$1" >"$work/$1.asc"
}

# rpm_trusts KEY FILE: whether an rpm that knows this key alone, and wants a signature, takes the package.
rpm_trusts() {
    rm -rf "$work/rpmdb"
    rpmkeys --dbpath "$work/rpmdb" --import "$work/$1.asc"
    rpmkeys --dbpath "$work/rpmdb" --define '_pkgverify_level signature' --checksig "$2"
}
# apt_finds KEY: whether an apt that knows this key alone finds vfguard in the repository.
apt_finds() {
    local dir=$work/apt
    rm -rf "$dir"
    mkdir -p "$dir"/{state/lists/partial,cache/archives/partial,etc,got}
    : >"$dir/status"
    printf 'deb [arch=amd64 signed-by=%s] file:%s ./\n' "$work/$1.asc" "$work/files/deb" >"$dir/etc/sources.list"
    local options=(-o "Dir::State=$dir/state" -o "Dir::State::status=$dir/status" -o "Dir::Cache=$dir/cache" -o "Dir::Etc=$dir/etc" -o Dir::Etc::parts=none
        -o APT::Architecture=amd64 -o APT::Sandbox::User=root -o APT::Update::Error-Mode=any)
    apt-get -q "${options[@]}" update || return 1
    (cd "$dir/got" && apt-get -q "${options[@]}" download vfguard && cmp vfguard_*.deb "$work"/files/deb/vfguard_*.deb)
}
refused() { ! "$@"; }
# refuses WORDS ARGUMENT…: make.sh with these says so, and leaves neither what it would make nor what it began.
refuses() {
    local words=$1 before
    shift
    before=$(find "$work/made")
    refused packaging/release/make.sh "$@" 2>"$work/refusal"
    grep -F "$words" "$work/refusal"
    [ "$(find "$work/made")" = "$before" ]
}

# What make.sh does not make a release of, and that it deletes nothing.
bad_releases() {
    local made=$work/made other=$work/other
    mkdir -p "$made/mine" "$other"
    echo precious >"$made/mine/file"
    refuses "$made/mine is there and not empty" --binary "$binary" --out "$made/mine"
    refuses 'file is there and not empty' --binary "$binary" --out "$made/mine/file"
    # The parts of another binary.
    cp "$binary" "$other/vfguard"
    refuses 'vfguard.cdx.json is not there' --binary "$other/vfguard" --out "$made/new"
    cp "$binary.cdx.json" "$other/vfguard.cdx.json"
    printf '\1' >>"$other/vfguard"
    refuses 'the parts of another binary' --binary "$other/vfguard" --out "$made/new"
    # What fails halfway.
    refused packaging/release/make.sh --binary "$binary" --key nobody@localhost --out "$made/new"
    [ "$(find "$made" -type f)" = "$made/mine/file" ]
    [ ! -e "$made/new" ]
    mkdir "$work/programs"
    ln -s /usr/bin/* "$work/programs"
    rm "$work/programs/createrepo_c"
    PATH=$work/programs refuses 'apt install createrepo-c' --binary "$binary" --out "$made/new"
    # A clone with what nobody else has.
    git clone -q "$TOP" "$work/dirty"
    cp packaging/release/make.sh "$work/dirty/packaging/release/"
    echo >>"$work/dirty/README.md"
    refused "$work/dirty/packaging/release/make.sh" --out "$made/new" 2>"$work/refusal"
    grep 'this clone is not what is committed' "$work/refusal"
    [ "$(cat "$made/mine/file")" = precious ]
}

# The lists of a repository for dnf that whoever can write there made anew, with the package for EL7 among those for EL8: signed as well,
# and in no list that is. By its release it is another package, and it asks for an old rpm.
other_lists() {
    local repository=$work/other-lists
    cp -r "$work/files/rpm" "$repository"
    gpg --quiet --verify "$repository"/repodata/repomd.xml{.asc,}
    cp "$repository/repodata/repomd.xml.asc" "$work"
    cp "$work"/files/rpm-el7/*.rpm "$repository"
    createrepo_c --quiet "$repository"
    refused gpg --quiet --verify "$work/repomd.xml.asc" "$repository/repodata/repomd.xml"
    [ "$(find "$repository" -name '*.rpm' | wc -l)" -eq 2 ]
    rpm -qp --conflicts "$work"/files/rpm-el7/*.rpm | grep -x 'rpm >= 4.14'
    rpm -qp --requires "$work"/files/rpm/*.rpm | grep -x 'rpm >= 4.14'
}

signed_packages() {
    local package name
    test_key stranger
    test_key maker
    packaging/release/make.sh --binary "$binary" --key maker --out "$work/files"
    (cd "$work/files" && sha256sum --check --strict --quiet SHA256SUMS && gpg --quiet --verify SHA256SUMS.asc SHA256SUMS)
    [ "$(find "$work" -maxdepth 1 -name 'files*')" = "$work/files" ]
    [ "$(find "$work/files" -type f ! -name 'SHA256SUMS*' | wc -l)" -eq "$(wc -l <"$work/files/SHA256SUMS")" ]
    for package in "$work"/files/rpm/*.rpm "$work"/files/rpm-el7/*.rpm; do
        rpm_trusts maker "$package"
        refused rpm_trusts stranger "$package"
        # One byte of the payload.
        cp "$package" "$work/tampered.rpm"
        printf '\1' | dd of="$work/tampered.rpm" bs=1 seek=$(($(stat -c %s "$package") - 4000)) conv=notrunc status=none
        refused rpm_trusts maker "$work/tampered.rpm"
        for name in vfguard.cdx.json docs/releasing.md; do rpm -qpl "$package" | grep -x "/usr/share/doc/vfguard/$name"; done
        for recipe in packaging/drivers.d/*.toml; do rpm -qpl "$package" | grep -x "/usr/lib/vfguard/${recipe#packaging/}"; done
        cp "$package" "$work/unsigned.rpm"
        rpmsign --delsign "$work/unsigned.rpm"
        refused rpm_trusts maker "$work/unsigned.rpm"
    done
    for name in vfguard.cdx.json docs/releasing.md; do dpkg-deb -c "$work"/files/deb/*.deb | grep " ./usr/share/doc/vfguard/$name\$"; done
    for recipe in packaging/drivers.d/*.toml; do dpkg-deb -c "$work"/files/deb/*.deb | grep " ./usr/lib/vfguard/${recipe#packaging/}\$"; done
    other_lists
    if command -v apt-get >/dev/null; then
        apt_finds maker
        refused apt_finds stranger
        printf '\1' | dd of="$(echo "$work"/files/deb/*.deb)" bs=1 seek=4000 conv=notrunc status=none
        refused apt_finds maker
    fi
}

# Two clones of what is committed, in directories that have nothing in common; the packages too.
two_clones() {
    local place sums=()
    for place in one another/deeper/place; do
        mkdir -p "$work/clones/$place"
        git clone -q "$TOP" "$work/clones/$place/vfguard"
        (cd "$work/clones/$place/vfguard" && CARGO_TARGET_DIR=$work/clones/$place/target packaging/build-release.sh >"$work/built" &&
            packaging/release/make.sh --binary "$(tail -n 1 "$work/built")" --out "$work/clones/$place/files")
        sums+=("$(cat "$work/clones/$place/files/SHA256SUMS")")
        rm -rf "$work/clones/$place/target"
    done
    [ "${sums[0]}" = "${sums[1]}" ]
}
