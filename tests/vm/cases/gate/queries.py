"""What a guest is asked about the gate and the watch, in its shell."""

from .triggers import UNIT

NOTICED = 90        # seconds, in TCG, from a change to what comes of it
CLOSED = f"systemctl show -p Requires reboot.target | grep -q {UNIT}"
OPEN = f"! ({CLOSED})"
IDLE = "! systemctl is-active -q vfguard-watch.service vfguard.service && ! systemctl list-jobs --no-legend | grep -q vfguard"
# Changes with each start of the watch.
WATCHED = "systemctl show --value -p InvocationID vfguard-watch.service"
