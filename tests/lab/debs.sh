# shellcheck shell=bash
# The kernels and packages that were chosen for this run (tests/archive/choose.py). Sourced; VFGUARD_CHOSEN names the file.

# release_of ROLE: the release that has it (NEW, PREV, OLD, 612).
release_of() { awk -v role="$1" '$1 == "kernel" && $2 == role { print $3 }' "$VFGUARD_CHOSEN"; }

# headers_of K: the packages that a module for K is built with.
headers_of() { awk -v k="$1" '$1 == "part" && $2 == k && $3 ~ /^linux-(headers|kbuild|base)-/ { print $3 }' "$VFGUARD_CHOSEN"; }

# image_of K: the packages that hold its image and modules.
image_of() { awk -v k="$1" '$1 == "part" && $2 == k && $3 !~ /^linux-(headers|kbuild|compiler|base)-/ { print $3 }' "$VFGUARD_CHOSEN"; }

# version_of PACKAGE, deb PACKAGE: its version, and where the cache keeps it.
version_of() { awk -v name="$1" '$1 == "package" && $2 == name { print $3 }' "$VFGUARD_CHOSEN"; }
deb() { awk -v name="$1" '$1 == "package" && $2 == name { $1 = $2 = $3 = $4 = ""; print substr($0, 5) }' "$VFGUARD_CHOSEN"; }
