"""The virtual machines of vfguard's tests: packages, images, QEMU, a root shell, and the bookkeeping of results."""
