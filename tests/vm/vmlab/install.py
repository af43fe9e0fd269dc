"""Puts vfguard into a guest."""

GUEST_DIRECTORY = "/lab"        # where the payload disk is mounted


def install(machine):
    """Mounts the payload and installs the binary and its units as the package would."""
    shell = machine.shell
    shell.check(f"mkdir -p {GUEST_DIRECTORY} && mount -o ro /dev/vdb {GUEST_DIRECTORY} && install -m 755 {GUEST_DIRECTORY}/vfguard /usr/bin/vfguard")
    shell.check("vfguard --version")
