"""Puts vfguard into a guest."""

GUEST_DIRECTORY = "/lab"        # where the payload disk is mounted


def mount(machine):
    """Mounts the payload disk."""
    machine.shell.check(f"mkdir -p {GUEST_DIRECTORY}; mountpoint -q {GUEST_DIRECTORY} || mount -o ro /dev/vdb {GUEST_DIRECTORY}")


def install(machine):
    """Mounts the payload and installs the binary and its units as the package would."""
    shell = machine.shell
    mount(machine)
    shell.check(f"install -m 755 {GUEST_DIRECTORY}/vfguard /usr/bin/vfguard; install -d -m 755 /var/cache/vfguard")
    shell.check("vfguard --version")


def install_hooks(machine):
    """The hooks of a Debian kernel's scripts, where the package puts them."""
    machine.shell.check(
        f"cd {GUEST_DIRECTORY}/packaging/hooks && install -D -m 755 postinst /etc/kernel/postinst.d/zzz-vfguard && "
        "install -D -m 755 prerm /etc/kernel/postrm.d/zzz-vfguard; cd /")


def install_units(machine):
    """The systemd units of packaging/systemd, enabled as the package's presets enable them, and the udev rule."""
    machine.shell.check(
        f"cd {GUEST_DIRECTORY}/packaging/systemd && install -D -m 755 fail-closed /usr/lib/vfguard/fail-closed; for unit in *.service *.path *.timer *.socket; do "
        "[ -e \"$unit\" ] || continue; install -m 644 $unit /usr/lib/systemd/system/; done; systemctl daemon-reload; "
        "for unit in *.service *.path *.timer; do [ -e \"$unit\" ] || continue; "
        "! grep -q '^\\[Install\\]' $unit || systemctl enable $unit 2>&1; done; "
        "install -m 644 -D -t /usr/lib/udev/rules.d ../udev/*.rules && udevadm control --reload && cd /", 60)
