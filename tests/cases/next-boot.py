#!/usr/bin/env python3
"""Writes the case directories of tests/cases/next-boot: one machine each (in/) with what boots next on it, and what a hold does
(expected.json).

The expectations are written by hand from the loaders' sources, never taken from vfguard. Run it after a change here or in what it imports, and
commit all of it: tests/cases/next-boot.py
"""
import os, shutil

import layouts
from dialects import dialect_cases
from field import field_cases
from layouts import *


def legacy_cases():
    legacy("el65-ec2-first-entry", "default=0\ntimeout=1\n", *BOTH6).expect("grub-legacy", (NEXT, E6N, t6(E6N)))
    legacy("el65-ec2-users-kernel-held", "default=1\ntimeout=1\n", *BOTH6).expect("grub-legacy", (NEXT, E6O, t6(E6O)))
    legacy("el6-default-with-a-space", "default 1\ntimeout 5\nhiddenmenu\n", *BOTH6).expect("grub-legacy", (NEXT, E6O, t6(E6O)))
    legacy("el6-no-default-is-the-first", "timeout=5\n", *BOTH6).expect("grub-legacy", (NEXT, E6N, t6(E6N)))
    legacy("el6-default-past-the-end-uses-fallback", "default=7\nfallback=1\n", *BOTH6).expect("grub-legacy", (NEXT, E6O, t6(E6O)))
    legacy("el6-default-past-the-end-without-fallback", "default=7\n", *BOTH6).expect("grub-legacy", (NEXT, E6N, t6(E6N)))
    legacy("el6-fallback-is-listed", "default=0\nfallback 1\n", *BOTH6).expect("grub-legacy", (NEXT, E6N, t6(E6N)), (BACK, E6O, t6(E6O)))
    legacy("el6-fallback-past-the-end-is-dropped", "default=0\nfallback=5 1\n", *BOTH6).expect("grub-legacy", (NEXT, E6N, t6(E6N)), (BACK, E6O, t6(E6O)))
    legacy("el6-default-saved", "default=saved\n", *BOTH6).put("boot/grub/default", "1\n#\n#\n#\n").expect("grub-legacy", (NEXT, E6O, t6(E6O)))
    legacy("el6-default-saved-without-file", "default=saved\n", *BOTH6).expect("grub-legacy", (NEXT, E6N, t6(E6N)))
    legacy("el6-default-saved-of-junk", "default=saved\n", *BOTH6).put("boot/grub/default", b"\xff\xfe\x00x").expect(
        "grub-legacy", (NEXT, E6N, t6(E6N)), certain=False, problems=["/boot/grub/default:1"])
    legacy("el6-default-below-a-title-does-not-count", "timeout=1\n", legacy_entry(E6N), "default=1\n", legacy_entry(E6O)).expect("grub-legacy", (NEXT, E6N, t6(E6N)))
    legacy("el6-default-that-is-no-number", "default=new\n", *BOTH6).expect("grub-legacy", (NEXT, E6N, t6(E6N)), certain=False, problems=["grub.conf:2"])
    legacy("el6-separate-boot", "default=1\n", legacy_entry(E6N, dir=""), legacy_entry(E6O, dir="")).expect("grub-legacy", (NEXT, E6O, t6(E6O)))
    legacy("el6-device-in-the-path", "default=0\n", legacy_entry(E6O, dir="(hd0,0)/boot")).expect(
        "grub-legacy", (NEXT, E6O, t6(E6O)), hold=refused(E6N, "no boot entry"))
    xen = f"title Xen\n\troot (hd0,0)\n\tkernel /xen.gz-4.4 dom0_mem=1G\n\tmodule /vmlinuz-{E6O} ro root=/dev/sda2\n\tmodule /initramfs-{E6O}.img\n"
    legacy("el6-xen-kernel-is-the-first-module", "default=0\n", xen).put("boot/xen.gz-4.4").expect("grub-legacy", (NEXT, E6O, "Xen"), hold=refused(E6N, "no boot entry"))
    legacy("el6-entry-of-a-removed-kernel", "default=0\n", legacy_entry("2.6.32-999.el6.x86_64"), *BOTH6).expect(
        "grub-legacy", (NEXT, "2.6.32-999.el6.x86_64", "CentOS (2.6.32-999.el6.x86_64)"), problems=["is not there"],
        hold=[held(k, "boot/grub/grub.conf", (NEXT, k, t6(k)), ends=[(NEXT, k, t6(k))], leaves=["boot/grub/grub.conf"]) for k in (E6N, E6O)])
    legacy("el6-chainloader-is-no-kernel", "default=0\n", "title Windows\n\trootnoverify (hd0,1)\n\tchainloader +1\n", *BOTH6).expect("grub-legacy", certain=False, problems=["chainloader"])
    legacy("al1-menu-lst-alone", "default=0\ntimeout=0\n", legacy_entry("4.14.336-180.562.amzn1.x86_64", "Amazon Linux (%s)"),
           kernels=("4.14.336-180.562.amzn1.x86_64",), path="boot/grub/menu.lst").expect("grub-legacy", (NEXT, "4.14.336-180.562.amzn1.x86_64", "Amazon Linux (4.14.336-180.562.amzn1.x86_64)"))
    legacy("el6-empty-menu", "default=0\n").expect("grub-legacy", certain=False, problems=["has no entry"])
    legacy("el6-last-default-line-counts", "default=0\ndefault=1\n", *BOTH6).expect("grub-legacy", (NEXT, E6O, t6(E6O)))
    legacy("el6-hexadecimal-default", "default=0x1\n", *BOTH6).expect("grub-legacy", (NEXT, E6O, t6(E6O)))
    c = legacy("el6-modules-are-gone", "default=0\n", *BOTH6)
    shutil.rmtree(os.path.join(c.dir, "in/lib/modules", E6N))
    c.expect("grub-legacy", (NEXT, E6N, t6(E6N)), problems=["has no modules"], because="GRUB starts it all the same")
    Case("el6-efi").efi().kernels(E6N, E6O).put("boot/efi/EFI/redhat/grub.conf", "default=1\n" + "".join(BOTH6)).expect("grub-legacy", (NEXT, E6O, t6(E6O)))
    # Both GRUBs' files: grub-install's modules or stage2 tell which is in charge.
    def two(name):
        return legacy(name, "default=1\n", *BOTH6).put("boot/grub2/grub.cfg", header("0") + entry("new", E6N))
    two("both-grubs-and-modules-of-the-second").put("boot/grub2/i386-pc/normal.mod").expect("grub2", (NEXT, E6N, "new"), hold=refused(E6O, "no boot entry"))
    two("both-grubs-and-stage2-of-the-first").put("boot/grub/stage2").expect("grub-legacy", (NEXT, E6O, t6(E6O)))
    two("both-grubs-and-nothing-tells").expect("grub2", (NEXT, E6N, "new"), certain=False, problems=["disagree"])


def el7_cases():
    n, o, x = el7(E7N), el7(E7O), el7(E7X)
    env = "boot/grub2/grubenv"
    still = lambda *kernels: [refused(k, "would still start") for k in kernels]
    c7("el7-saved-by-title", f"saved_entry={o}\n").expect("grub2", (NEXT, E7O, o))
    c7("el7-saved-by-number", "saved_entry=1\n").expect("grub2", (NEXT, E7O, o))
    c7("el7-repeated-ids-mean-the-first", f"saved_entry=gnulinux-{E7X}-advanced-{UUID}\n").expect(
        "grub2", (NEXT, E7N, n), because="grubby copies the id of the template to every entry")
    c7("el7-saved-title-of-a-removed-kernel", "saved_entry=CentOS Linux (3.10.0-957.el7.x86_64) 7 (Core)\n").expect("grub2", (NEXT, E7N, n))
    c7("el7-number-past-the-end", "saved_entry=9\n").expect("grub2", (NEXT, E7N, n))
    c7("el7-next-entry-once", f"saved_entry={o}\nnext_entry={n}\n").expect("grub2", (ONCE, E7N, n), (NEXT, E7O, o))
    c7("el7-next-entry-same-as-saved", f"saved_entry={o}\nnext_entry={o}\n").expect("grub2", (ONCE, E7O, o), (NEXT, E7O, o))
    c7("el7-next-entry-empty", f"saved_entry={o}\nnext_entry=\n").expect("grub2", (NEXT, E7O, o))
    c7("el7-next-entry-that-names-nothing", f"saved_entry={o}\nnext_entry=gone\n").expect("grub2", (ONCE, E7N, n), (NEXT, E7O, o))
    c7("el7-prev-saved-entry", f"saved_entry={n}\nprev_saved_entry={o}\n").expect(
        "grub2", (ONCE, E7N, n), (NEXT, E7O, o), because="the default is set before prev_saved_entry is looked at",
        hold=[held(k, env, (NEXT, k, el7(k)), ends=[(NEXT, E7O, o)], leaves=[env]) for k in (E7N, E7X)])
    made = [held(k, env, (NEXT, k, el7(k)), leaves=[env]) for k in (E7O, E7X)]
    c7("el7-no-grubenv").expect("grub2", (NEXT, E7N, n), hold=made)
    c7("el7-literal-number-ignores-saved", f"saved_entry={x}\n", default="1").expect("grub2", (NEXT, E7O, o), hold=still(E7N, E7X))
    c7("el7-literal-title", "", default=x).expect("grub2", (NEXT, E7X, x), hold=still(E7N, E7O))
    c7("el7-warning-line-in-grubenv", f"# WARNING: Do not edit this file by tools other than grub2-editenv!!!\nsaved_entry={x}\n").expect("grub2", (NEXT, E7X, x))
    c7("el7-grubenv-without-signature").put("boot/grub2/grubenv", b"saved_entry=1\n" + b"#" * 1010).expect(
        "grub2", (NEXT, E7N, n), certain=False, problems=["/boot/grub2/grubenv", "environment block"])
    c7("el7-grubenv-of-1025-bytes").env(f"saved_entry={o}\n", size=1025).expect("grub2", (NEXT, E7O, o), certain=False, problems=["1025 bytes"])
    c7("el7-grubenv-cut-in-a-value").put("boot/grub2/grubenv", SIG + "saved_entry=Cent").expect("grub2", (NEXT, E7N, n), certain=False, problems=["grubenv"])
    c7("el7-grubenv-of-zeros").put("boot/grub2/grubenv", b"\0" * 1024).expect("grub2", (NEXT, E7N, n), certain=False, problems=["grubenv"])
    c7("el7-efi-own-configuration", os=("rhel", "7.9")).efi().put("boot/efi/EFI/redhat/grub.cfg", header() + entry(n, E7N, cmd="linuxefi", icmd="initrdefi") + entry(o, E7O, cmd="linuxefi", icmd="initrdefi")).env(
        f"saved_entry={o}\n", "boot/efi/EFI/redhat/grubenv").expect("grub2", (NEXT, E7O, o), because="the ESP's own grub.cfg and grubenv count, not /boot/grub2's", hold=refused(E7X, "no boot entry"))
    c7("el7-link-to-the-efi-environment", os=("centos", "7")).efi().link("boot/grub2/grubenv", "../efi/EFI/centos/grubenv").put("boot/efi/EFI/centos/grub.cfg", header() + entry(n, E7N) + entry(o, E7O)).env(
        f"saved_entry={o}\nnext_entry=0\n", "boot/efi/EFI/centos/grubenv").expect("grub2", (ONCE, E7N, n), (NEXT, E7O, o), hold=refused(E7X, "no boot entry"))
    c7("el7-bios-link-to-grubenv-elsewhere").link("boot/grub2/grubenv", "/var/grubenv").env(f"saved_entry={x}\n", "var/grubenv").expect("grub2", (NEXT, E7X, x))
    c7("el7-lvm-next-entry-stays", f"saved_entry={o}\nnext_entry={x}\n").put("proc/mounts", "/dev/mapper/cl-root / xfs rw 0 0\n").expect(
        "grub2", (NEXT, E7X, x), problems=["cannot write"], because="GRUB cannot clear next_entry on LVM",
        hold=[held(k, env, (NEXT, k, el7(k)), leaves=[env]) for k in (E7N, E7O)])
    c7("el7-separate-boot-beside-lvm", f"saved_entry={o}\nnext_entry={x}\n").put("proc/mounts", "/dev/mapper/cl-root / xfs rw 0 0\n/dev/sda1 /boot xfs rw 0 0\n").expect("grub2", (ONCE, E7X, x), (NEXT, E7O, o))
    c7("el7-fallback-variable", f"saved_entry={n}\nfallback=1\n").expect("grub2", (NEXT, E7N, n), (BACK, E7O, o))
    c7("el7-missing-image", "saved_entry=0\n", entries=[(E7N, "a"), (E7O, "b")]).expect("grub2", (NEXT, E7N, n))
    c = c7("el7-image-of-the-default-is-gone", "saved_entry=0\n")
    os.remove(os.path.join(c.dir, "in/boot", f"vmlinuz-{E7N}"))
    c.expect("grub2", (NEXT, E7N, n), problems=["is not there"],
             hold=[held(k, env, (NEXT, k, el7(k)), ends=[(NEXT, k, el7(k))], leaves=[env]) for k in (E7O, E7X)])
    c7("el7-custom-cfg-adds-and-sets", f"saved_entry={n}\n", tail=CUSTOM).put("boot/grub2/custom.cfg", f"set default='mine'\n{entry('mine', E7X)}").expect("grub2", (NEXT, E7X, "mine"))
    c7("el7-custom-cfg-in-a-circle", f"saved_entry={o}\n", tail=CUSTOM).put("boot/grub2/custom.cfg", "source ${config_directory}/custom.cfg\n").expect(
        "grub2", certain=False, problems=["custom.cfg:1", "without end"])
    c7("el7-endless-loop", f"saved_entry={o}\n", tail="while true; do set x=1; done\n").expect("grub2", certain=False, problems=["a loop without end"])
    c7("el7-syntax-error-names-its-line", f"saved_entry={o}\n", tail="if [ x = x ]; then\n").expect("grub2", (NEXT, E7O, o), certain=False, problems=["/boot/grub2/grub.cfg:"])
    c7("el7-unknown-command", f"saved_entry={o}\n", tail="frobnicate --now\n").expect("grub2", (NEXT, E7O, o), certain=False, problems=["frobnicate"])
    c7("el7-grub-cfg-of-junk").put("boot/grub2/grub.cfg", bytes(range(256)) * 8).expect("grub2", certain=False, problems=["grub.cfg"])
    c7("el7-empty-grub-cfg").put("boot/grub2/grub.cfg", "").expect("grub2", certain=False, problems=["empty"])
    c7("el7-grub-cfg-is-a-directory").put("boot/grub2/x", "").expect("grub2", (NEXT, E7N, n), hold=made)
    c7("el7-title-with-an-arrow", "saved_entry=A >> B\n", entries=[(E7N, "n")], tail=entry("A > B", E7N) ).expect("grub2", (NEXT, E7N, "A > B"))
    c7("el7-default-from-a-chain-of-variables", f"saved_entry={o}\n", head=header("0") + 'set a="${saved_entry}"\nset default="$a"\n').expect("grub2", (NEXT, E7O, o))
    c7("el7-kexec-is-loaded", f"saved_entry={o}\n").put("sys/kernel/kexec_loaded", "1\n").expect("grub2", (NEXT, E7O, o), certain=False, problems=["kexec"])
    c7("el7-kexec-is-not-loaded", f"saved_entry={o}\n").put("sys/kernel/kexec_loaded", "0\n").expect("grub2", (NEXT, E7O, o))
    c7("el7-rescue-entry-is-not-next", "", entries=[(E7N, None)], tail=entry(el7("0-rescue-" + MID), "0-rescue-" + MID)).expect("grub2", (NEXT, E7N, n))
    c7("el7-latin1-title", entries=[(E7N, None)], head=header("${saved_entry}")).env("").put("boot/grub2/grub.cfg", header().encode() + b"menuentry 'Caf\xe9' {\n\tlinux /boot/vmlinuz-" + E7N.encode() + b"\n}\n").expect("grub2", (NEXT, E7N, "Caf\ufffd"))
    c7("el7-boot-is-not-mounted", f"saved_entry={o}\n").put("etc/fstab", "/dev/sda2 / xfs defaults 0 0\n/dev/sda1 /boot xfs defaults 0 0\n").put("proc/mounts", "/dev/sda2 / xfs rw 0 0\n").expect(
        "grub2", (NEXT, E7O, o), certain=False, problems=["not mounted"])
    # Amazon Linux 2.
    a = lambda k: f"Amazon Linux (%s) 2" % k
    for name, env, want in [("al2-bios-saved", f"saved_entry={a(A2O)}\n", A2O), ("al2-make-default-after-install", f"saved_entry={a(A2N)}\n", A2N)]:
        Case(name).os("amzn", "2", "centos rhel fedora").kernels(A2N, A2O).env(env).put("boot/grub2/grub.cfg", header() + entry(a(A2N), A2N, cmd="linux", icmd="initrd") + entry(a(A2O), A2O, cmd="linux", icmd="initrd")).expect("grub2", (NEXT, want, a(want)))
    Case("al2-number-followed-by-more").os("amzn", "2", "centos rhel fedora").kernels(A2N, A2O).env("saved_entry=1 old\n").put(
        "boot/grub2/grub.cfg", header() + entry(a(A2N), A2N) + entry(a(A2O), A2O)).expect(
        "grub2", (NEXT, A2O, a(A2O)), certain=False, problems=["another entry"], because="GNU's GRUB reads 1, Fedora's nothing, and Amazon shipped both")


def bls_cases():
    id = lambda k, mid=MID: f"{mid}-{k}"
    c8("el8-bios-saved-by-id", f"saved_entry={id(E8O)}\n").expect("bls", (NEXT, E8O, id(E8O)))
    c8("el8-numbers-are-compared-as-numbers", "").expect("bls", (NEXT, E8N, id(E8N)), because="553 is more than 80, whatever an alphabet says")
    c8("el8-saved-by-title", f"saved_entry=Linux ({E8O})\n").expect("bls", (NEXT, E8O, id(E8O)))
    c8("el8-saved-by-number", "saved_entry=1\n").expect("bls", (NEXT, E8O, id(E8O)))
    c8("el8-saved-id-of-a-removed-kernel", f"saved_entry={MID}-4.18.0-193.el8.x86_64\n").expect("bls", (NEXT, E8N, id(E8N)))
    c8("el8-next-entry-once", f"saved_entry={id(E8O)}\nnext_entry={id(E8N)}\n").expect("bls", (ONCE, E8N, id(E8N)), (NEXT, E8O, id(E8O)))
    c8("el8-separate-boot", f"saved_entry={id(E8O)}\n", linux=None).put("x").expect("bls", (NEXT, E8O, id(E8O)))
    c = Case("el8-paths-without-boot").os("almalinux", "8.9", "rhel").kernels(E8N, E8O).env(f"saved_entry={id(E8O)}\nkernelopts=root=/dev/sda2 ro\n")
    for k in (E8N, E8O):
        c.bls(k, linux=f"/vmlinuz-{k}", initrd=f"/initramfs-{k}.img $tuned_initrd", options="$kernelopts $tuned_params")
    c.put("boot/grub2/grub.cfg", header(el=8) + BLSCFG).expect("bls", (NEXT, E8O, id(E8O)))
    c8("el8-efi-own-configuration", None, os=("centos", "8")).efi().put("boot/efi/EFI/centos/grub.cfg", header(el=8) + BLSCFG).env(
        f"saved_entry={id(E8O)}\n", "boot/efi/EFI/centos/grubenv").link("boot/grub2/grubenv", "../efi/EFI/centos/grubenv").expect("bls", (NEXT, E8O, id(E8O)))
    stub = f"search --no-floppy --fs-uuid --set=dev {UUID}\nset prefix=($dev)/grub2\n\nexport $prefix\nconfigfile $prefix/grub.cfg\n"
    nine = dict(kernels=(E9N, E9O), os=("rhel", "9.5"))
    c8("el9-efi-stub", f"saved_entry={id(E9O)}\n", **nine).efi().put("boot/efi/EFI/redhat/grub.cfg", stub).expect("bls", (NEXT, E9O, id(E9O)))
    c8("el9-bios-beside-an-efi-partition", f"saved_entry={id(E9O)}\n", **nine).put("sys/firmware/memmap/0/type", "").put("boot/efi/EFI/redhat/grub.cfg", stub).expect("bls", (NEXT, E9O, id(E9O)))
    c8("el9-stub-that-leads-nowhere", **nine).efi().put("boot/efi/EFI/redhat/grub.cfg", stub.replace("/grub2", "/gone")).expect("grub2", certain=False, problems=["configfile", "grub.cfg:5"])
    c8("el9-old-machine-id-sorts-first", "", kernels=(E9O,), os=("rocky", "9.5"), mid=OLD_MID).kernels(E9N).bls(E9N).expect(
        "bls", (NEXT, E9O, id(E9O, OLD_MID)), because="the name is compared before the version")
    c8("el8-old-machine-id-and-newer-version", "", kernels=(E8O,), mid=OLD_MID).kernels(E8N).bls(E8N).expect(
        "bls", (NEXT, E8N, id(E8N)), certain=False, problems=["differ"], because="EL8's blscfg sorts by version first; a GRUB of another release would not")
    for mark, text, want in [("el8", b"..Sorting %d entries\0", (E8N, id(E8N))), ("newer", b"..Add entry with id \"%s\"\0", (E8O, id(E8O, OLD_MID)))]:
        c8(f"el8-order-of-the-{mark}-grub-that-is-installed", "", kernels=(E8O,), mid=OLD_MID).kernels(E8N).bls(E8N).put("boot/grub2/i386-pc/blscfg.mod", text).expect("bls", (NEXT,) + want)
    debug = "5.14.0-503.11.1.el9_5.x86_64+debug"
    c8("el9-debug-kernel-sorts-after-its-base", "", kernels=(E9N, debug), os=("rhel", "9.5")).expect("bls", (NEXT, debug, id(debug)))
    c8("el9-underscore-in-the-release", "", kernels=("5.14.0-70.el9.x86_64", "5.14.0-70.el9_0.x86_64"), os=("rhel", "9.0")).expect(
        "bls", (NEXT, "5.14.0-70.el9_0.x86_64", id("5.14.0-70.el9_0.x86_64")), because="after el9, letters (x) are older than digits (0)")
    c8("fedora-rc-is-older-than-its-release", "", kernels=("6.12.0-0.rc1.20241002git.18.fc42.x86_64", "6.12.0-65.fc42.x86_64"), os=("fedora", "42")).expect("bls", (NEXT, "6.12.0-65.fc42.x86_64", id("6.12.0-65.fc42.x86_64")))
    c8("fedora-tilde-is-older", "", kernels=("6.12.0~rc1-1.fc42.x86_64", "6.12.0-1.fc42.x86_64"), os=("fedora", "42")).expect("bls", (NEXT, "6.12.0-1.fc42.x86_64", id("6.12.0-1.fc42.x86_64")))
    c8("fedora-saved", f"saved_entry={id(FO)}\nmenu_auto_hide=1\nboot_success=1\n", kernels=(FN, FO), os=("fedora", "41")).expect("bls", (NEXT, FO, id(FO)))
    c8("al2023-efi-stub", f"saved_entry={id(A3O)}\n", kernels=(A3N, A3O), os=("amzn", "2023", "fedora")).efi().put("boot/efi/EFI/amzn/grub.cfg", stub).expect("bls", (NEXT, A3O, id(A3O)))
    c8("al2023-nothing-saved", "", kernels=(A3N, A3O), os=("amzn", "2023", "fedora")).expect("bls", (NEXT, A3N, id(A3N)))
    c8("al2023-two-streams", "", kernels=("6.12.20-23.97.amzn2023.x86_64", A3N), os=("amzn", "2023", "fedora")).expect("bls", (NEXT, "6.12.20-23.97.amzn2023.x86_64", id("6.12.20-23.97.amzn2023.x86_64")))
    c8("el9-counter-has-run-out", "boot_counter=0\nboot_success=0\n", **nine).expect("bls", (NEXT, E9O, id(E9O)), because="08_fallback_counting sets default=1")
    c8("el9-counter-still-runs", "boot_counter=2\nboot_success=0\n", **nine).expect("bls", (NEXT, E9N, id(E9N)), (BACK, E9O, id(E9O)))
    c8("el9-counter-and-success", f"boot_counter=2\nboot_success=1\nsaved_entry={id(E9O)}\n", **nine).expect("bls", (NEXT, E9O, id(E9O)))
    c = c8("el9-entry-of-a-missing-kernel-is-first", "", **nine).bls("5.14.0-999.el9.x86_64")
    c.expect("bls", (NEXT, "5.14.0-999.el9.x86_64", id("5.14.0-999.el9.x86_64")), problems=["is not there"], hold=[
        held(k, "boot/grub2/grubenv", (NEXT, k, id(k)), ends=[(NEXT, k, id(k))], leaves=["boot/grub2/grubenv"]) for k in (E9N, E9O)])
    c8("el9-entry-of-a-missing-kernel-is-not-default", f"saved_entry={id(E9O)}\n", **nine).bls("5.14.0-999.el9.x86_64").expect("bls", (NEXT, E9O, id(E9O)))
    c8("el9-entry-without-linux-is-skipped", "saved_entry=0\n", **nine).put(f"boot/loader/entries/{MID}-9.9.9-1.conf", "title broken\nversion 9\n").expect("bls", (NEXT, E9N, id(E9N)))
    c8("el9-empty-line-ends-an-entry", "saved_entry=0\n", **nine).put(f"boot/loader/entries/{MID}-9.9.9-1.conf", f"title x\n\nlinux /boot/vmlinuz-{E9O}\n").expect(
        "bls", (NEXT, E9N, id(E9N)), because="blscfg stops at a line without a value, so this entry has no kernel")
    c8("el9-other-files-are-no-entries", "saved_entry=0\n", **nine).put("boot/loader/entries/zz.conf.rpmsave", f"linux /boot/vmlinuz-{E9O}\n").put("boot/loader/entries/.zz.conf", f"linux /boot/vmlinuz-{E9O}\n").expect("bls", (NEXT, E9N, id(E9N)))
    c8("el9-two-ids-that-sort-alike", "", kernels=(E9N,), os=("rhel", "9.5")).bls(E9N, mid=MID + "_", title="twin").expect("bls", (NEXT, E9N, id(E9N)), certain=False, problems=["sort alike"])
    c8("el9-arrow-and-number-mean-nothing-to-fedoras-grub", "saved_entry=1>0\n", **nine).expect("bls", (NEXT, E9N, id(E9N)))
    c8("el9-id-and-more-means-nothing", f"saved_entry={id(E9O)} x\n", **nine).expect("bls", (NEXT, E9N, id(E9N)))
    c8("el9-external-environment", "env_block=512+1\n", extra='if [ "${env_block}" ] ; then\n  set env_block="(${root})${env_block}"\n  export env_block\n  load_env -f "${env_block}"\nfi\n', **nine).expect(
        "bls", (NEXT, E9N, id(E9N)), certain=False, problems=["outside the file system"])
    c8("el9-literal-default-ignores-saved", f"saved_entry={id(E9O)}\n", default="0", **nine).expect("bls", (NEXT, E9N, id(E9N)))
    c8("el9-no-entries", "", kernels=(), os=("rhel", "9.5")).put("boot/loader/entries/README", "").expect("bls", certain=False, problems=["empty"])
    c8("el9-entries-are-missing", "", kernels=(), os=("rhel", "9.5")).expect("bls", certain=False, problems=["/boot/loader/entries"])
    c8("el9-binary-entry", f"saved_entry={id(E9O)}\n", **nine).put(f"boot/loader/entries/{MID}-9.conf", bytes(range(255, -1, -1)) * 4).expect("bls", (NEXT, E9O, id(E9O)))
    c8("el9-entry-and-menuentry", f"saved_entry=mine\n", extra=entry("mine", E9O, "mine"), **nine).expect("grub2", (NEXT, E9O, "mine"))
    c8("el9-user-cfg", "", extra='if [ -f ${config_directory}/user.cfg ]; then\n  source ${config_directory}/user.cfg\n  if [ -n "${GRUB2_PASSWORD}" ]; then\n    set superusers="root"\n    export superusers\n    password_pbkdf2 root ${GRUB2_PASSWORD}\n  fi\nfi\n', **nine).put(
        "boot/grub2/user.cfg", "GRUB2_PASSWORD=grub.pbkdf2.sha512.10000.AA.BB\n").expect("bls", (NEXT, E9N, id(E9N)))
    c = Case("el9-blsdir-on-btrfs").os("fedora", "41").kernels(FN, FO).env(f"blsdir=/root/boot/loader/entries\nsaved_entry={id(FO)}\n")
    for k in (FN, FO):
        c.bls(k, linux=f"/root/boot/vmlinuz-{k}", initrd=f"/root/boot/initramfs-{k}.img")
    c.put("boot/grub2/grub.cfg", header(el=8) + BLSCFG).expect("bls", (NEXT, FO, id(FO)))
    c = c8("el9-firmware-boots-another-once", f"saved_entry={id(E9O)}\n", **nine).efi().put("boot/efi/EFI/redhat/grub.cfg", stub)
    option = lambda d: b"\x01\0\0\0\0\0" + "x\0".encode("utf-16-le") + (lambda p: b"\x04\x04" + (len(p) + 4).to_bytes(2, "little") + p)(f"\\EFI\\{d}\\shimx64.efi\0".encode("utf-16-le")) + b"\x7f\xff\x04\0"
    g = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
    c.variable("Boot0001", option("redhat"), g).variable("Boot0002", option("other"), g).variable("BootOrder", b"\1\0\2\0", g).variable("BootNext", b"\2\0", g)
    c.expect("bls", (NEXT, E9O, id(E9O)), certain=False, problems=["BootNext"])
    c = c8("el9-boot-order-names-the-vendor", f"saved_entry={id(E9O)}\n", kernels=(E9N, E9O), os=("rhel", "9.5")).efi().put("boot/efi/EFI/redhat/grub.cfg", stub)
    c.put("boot/efi/EFI/custom/grub.cfg", header("0", el=8) + entry("c", E9N)).variable("Boot0001", option("custom"), g).variable("BootOrder", b"\1\0", g)
    c.expect("grub2", (NEXT, E9N, "c"), hold=refused(E9O, "no boot entry"))


def debian_cases():
    top, adv = "Debian GNU/Linux", "Advanced options for Debian GNU/Linux"
    sub = lambda k: f"{adv}>Debian GNU/Linux, with Linux {k}"
    debian("debian12-first").expect("grub2", (NEXT, DN, top))
    debian("debian12-submenu-by-numbers", "1>2").expect("grub2", (NEXT, DO, sub(DO)))
    debian("debian12-submenu-by-titles", sub(DO)).expect("grub2", (NEXT, DO, sub(DO)))
    debian("debian12-submenu-by-ids", f"gnulinux-advanced-{UUID}>gnulinux-{DO}-advanced-{UUID}").expect("grub2", (NEXT, DO, sub(DO)))
    debian("debian12-submenu-alone-is-its-first", "1").expect("grub2", (NEXT, DN, sub(DN)))
    debian("debian12-submenu-with-a-wrong-inner-title", f"{adv}>gone").expect("grub2", (NEXT, DN, sub(DN)))
    debian("debian12-inner-title-without-its-submenu", f"Debian GNU/Linux, with Linux {DO}").expect("grub2", (NEXT, DN, top), because="an inner title does not match in the outer menu")
    debian("debian12-saved-submenu-entry", "${saved_entry}", f"saved_entry=gnulinux-advanced-{UUID}>gnulinux-{DO}-advanced-{UUID}\n").expect("grub2", (NEXT, DO, sub(DO)))
    debian("debian12-grub-reboot", "${saved_entry}", f"saved_entry=0\nnext_entry=1>2\n").expect("grub2", (ONCE, DO, sub(DO)), (NEXT, DN, top))
    debian("debian12-saved-but-not-used", "0", f"saved_entry={sub(DO)}\n").expect("grub2", (NEXT, DN, top), because="GRUB_DEFAULT=0 ignores saved_entry")
    stub = f"search.fs_uuid {UUID} root hd0,gpt2\nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n"
    debian("debian12-efi-stub", "1>2").efi().put("boot/efi/EFI/debian/grub.cfg", stub).expect("grub2", (NEXT, DO, sub(DO)))
    debian("debian12-efi-without-a-stub", "1>2").efi().put("boot/efi/EFI/debian/grubx64.efi", "").expect("grub2", (NEXT, DO, sub(DO)))
    debian("debian12-btrfs-subvolume", "1>2", dir="/@rootfs/boot").expect("grub2", (NEXT, DO, sub(DO)))
    debian("ubuntu-savedefault", "${saved_entry}", f"saved_entry=gnulinux-advanced-{UUID}>gnulinux-{DO}-advanced-{UUID}\nrecordfail=1\n", id="ubuntu", version="22.04").expect(
        "grub2", (NEXT, DO, f"Advanced options for Ubuntu>Ubuntu, with Linux {DO}"))
    debian("debian12-title-that-starts-with-a-number", "2 old kernels", tail=entry("third", DO, cmd="linux", icmd="initrd", initrd="initrd.img-%s")).expect(
        "grub2", (NEXT, DO, "third"), because="GNU's GRUB reads the number first, whatever follows")
    debian("debian12-link-as-kernel", "plain", tail="menuentry 'plain' {\n\tlinux /vmlinuz root=/dev/sda1\n\tinitrd /initrd.img\n}\n").link("vmlinuz", f"boot/vmlinuz-{DO}").link("initrd.img", f"boot/initrd.img-{DO}").expect("grub2", (NEXT, DO, "plain"))
    debian("debian12-memtest-is-no-kernel", "Memory test", tail="menuentry 'Memory test' {\n\tchainloader /boot/memtest86+x64.efi\n}\n").expect("grub2", certain=False, problems=["chainloader"])
    xen = f"menuentry 'Xen' {{\n\tmultiboot2 /boot/xen-4.17.gz placeholder\n\tmodule2 /boot/vmlinuz-{DO} placeholder root=/dev/sda1\n\tmodule2 --nounzip /boot/initrd.img-{DO}\n}}\n"
    debian("debian12-xen", "Xen", tail=xen).put("boot/xen-4.17.gz").expect("grub2", (NEXT, DO, "Xen"))
    debian("debian12-else-branch", "0", tail='if [ "${grub_platform}" = "xen" -o -f /nowhere ]; then\n  set default=0\nelif ! test -d /boot; then\n  set default=0\nelse\n  set default="1>2"\nfi\n').expect("grub2", (NEXT, DO, sub(DO)))
    debian("debian12-function-sets-the-default", "0", tail='function choose {\n  set default="$1>$2"\n}\nchoose 1 2\n').expect("grub2", (NEXT, DO, sub(DO)))
    debian("debian12-for-loop", "0", tail='for i in 0 "1>2"; do\n  set default="$i"\ndone\n').expect("grub2", (NEXT, DO, sub(DO)))


def systemd_cases():
    id = lambda k: f"{MID}-{k}.conf"
    systemd("systemd-boot-newest").expect("systemd-boot", (NEXT, FN, id(FN)))
    systemd("systemd-boot-default-glob", f"default *-{FO}.conf\n").expect("systemd-boot", (NEXT, FO, id(FO)))
    systemd("systemd-boot-default-of-two-takes-the-first", f"default {MID}-*\n").expect("systemd-boot", (NEXT, FN, id(FN)))
    systemd("systemd-boot-default-that-matches-nothing", "default arch-*\n").expect("systemd-boot", (NEXT, FN, id(FN)))
    systemd("systemd-boot-variable-beats-the-file", f"default *-{FN}.conf\n").variable("LoaderEntryDefault", id(FO)).expect("systemd-boot", (NEXT, FO, id(FO)))
    systemd("systemd-boot-one-shot", f"default *-{FO}.conf\n").variable("LoaderEntryOneShot", id(FN)).expect("systemd-boot", (ONCE, FN, id(FN)), (NEXT, FO, id(FO)))
    systemd("systemd-boot-saved", "default @saved\n").variable("LoaderEntryLastBooted", id(FO)).expect("systemd-boot", (NEXT, FO, id(FO)))
    c = systemd("systemd-boot-counted", kernels=(FO,))
    c.put(f"boot/efi/{MID}/{FN}/linux").put(f"boot/efi/{MID}/{FN}/initrd").put(f"lib/modules/{FN}/x")
    sd(c, FN, "+3-1").expect("systemd-boot", (NEXT, FN, id(FN)), (BACK, FO, id(FO)))
    c = systemd("systemd-boot-no-tries-left", kernels=(FO,))
    c.put(f"boot/efi/{MID}/{FN}/linux").put(f"boot/efi/{MID}/{FN}/initrd").put(f"lib/modules/{FN}/x")
    sd(c, FN, "+0-3").expect("systemd-boot", (NEXT, FO, id(FO)))
    systemd("systemd-boot-without-sort-key", sort="").expect("systemd-boot", (NEXT, FN, id(FN)))
    c = systemd("systemd-boot-sort-key-first", kernels=(FO,))
    c.put(f"boot/efi/{MID}/{FN}/linux").put(f"boot/efi/{MID}/{FN}/initrd").put(f"lib/modules/{FN}/x")
    sd(c, FN, sort="").expect("systemd-boot", (NEXT, FO, id(FO)), because="entries with a sort-key come before those without")
    c = systemd("systemd-boot-missing-kernel-is-dropped", kernels=(FO,))
    sd(c, FN).expect("systemd-boot", (NEXT, FO, id(FO)))
    systemd("systemd-boot-on-efi", top="efi").expect("systemd-boot", (NEXT, FN, id(FN)))
    systemd("systemd-boot-esp-at-boot", top="boot").expect("systemd-boot", (NEXT, FN, id(FN)))
    c = systemd("systemd-boot-unified-image", kernels=())
    c.put(f"boot/efi/EFI/Linux/{MID}-{FO}.efi", "MZ").put(f"lib/modules/{FO}/x").expect("systemd-boot", (NEXT, FO, f"{MID}-{FO}.efi"))
    systemd("systemd-boot-no-entries", kernels=()).expect("systemd-boot", certain=False, problems=["no entry"])
    systemd("systemd-boot-variable-too-short").put("sys/firmware/efi/efivars/LoaderEntryOneShot-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f", b"\7").expect("systemd-boot", (NEXT, FN, id(FN)), certain=False, problems=["LoaderEntryOneShot"])
    systemd("systemd-boot-loader-conf-of-junk", bytes(range(256))).expect("systemd-boot", (NEXT, FN, id(FN)))
    systemd("systemd-boot-in-charge-beside-grub").variable("LoaderInfo", "systemd-boot 255.4").put("boot/efi/EFI/fedora/grub.cfg", entry("g", FO)).expect("systemd-boot", (NEXT, FN, id(FN)))
    c = systemd("grub-in-charge-beside-systemd-boot").variable("LoaderInfo", "GRUB 2.12").kernels(FO).put("boot/efi/EFI/fedora/grub.cfg", header("0") + entry("g", FO))
    c.expect("grub2", (NEXT, FO, "g"), hold=refused(FN, "no boot entry"))
    c = systemd("grub-or-systemd-boot").kernels(FO).put("boot/efi/EFI/fedora/grub.cfg", header("0") + entry("g", FO))
    c.expect("grub2", (NEXT, FO, "g"), certain=False, problems=["disagree"])


def other_cases():
    Case("nothing-in-boot").kernels(DN).expect("unknown", certain=False, problems=["boot loader"])
    Case("empty-machine").expect("unknown", certain=False, problems=["boot loader"])
    Case("dangling-link-to-grub-cfg").kernels(E7N).link("boot/grub2/grub.cfg", "../efi/EFI/centos/grub.cfg").expect("grub2", certain=False, problems=["/boot/grub2/grub.cfg"])
    Case("looping-link-to-grub-cfg").kernels(E7N).link("boot/grub2/grub.cfg", "grub.cfg").expect("grub2", certain=False, problems=["/boot/grub2/grub.cfg"])
    Case("extlinux-is-not-known").kernels(DN).put("boot/extlinux/extlinux.conf", f"DEFAULT linux\nLABEL linux\n KERNEL /vmlinuz-{DN}\n").expect("unknown", certain=False, problems=["boot loader"])


def further_cases():
    """What earlier cases leave open; appended, so that their numbers stay."""
    id = lambda k: f"{MID}-{k}"
    def nameless(case):
        os.remove(os.path.join(case.dir, "in/etc/os-release"))
        return case
    nameless(c8("entries-tell-fedoras-grub-where-nothing-else-does", f"saved_entry={id(E8O)}\n")).expect("bls", (NEXT, E8O, id(E8O)))
    nameless(c8("next-entry-by-id-where-no-distribution-is-named", f"saved_entry={id(E8O)}\nnext_entry={id(E8N)}\n")).expect("bls", (ONCE, E8N, id(E8N)), (NEXT, E8O, id(E8O)))
    nameless(debian("numbers-of-a-submenu-where-no-distribution-is-named", "1>2")).expect("grub2", (NEXT, DO, f"Advanced options for Debian GNU/Linux>Debian GNU/Linux, with Linux {DO}"))
    def sdc(name):
        c = Case(name).efi()
        for k in (FN, FO):
            sd(c.put(f"boot/efi/{MID}/{k}/linux").put(f"boot/efi/{MID}/{k}/initrd").put(f"lib/modules/{k}/modules.order"), k)
        return c
    sdc("systemd-boot-says-its-name-and-has-no-loader-conf").variable("LoaderInfo", "systemd-boot 255.4").expect("systemd-boot", (NEXT, FN, id(FN) + ".conf"))
    sdc("systemd-boot-without-loader-conf-and-one-shot").variable("LoaderEntryOneShot", id(FO) + ".conf").expect("systemd-boot", (ONCE, FO, id(FO) + ".conf"), (NEXT, FN, id(FN) + ".conf"))
    sdc("entries-alone-are-nobodys").expect("unknown", certain=False, problems=["boot loader"])
    variable = "sys/firmware/efi/efivars/LoaderEntryDefault-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
    systemd("systemd-boot-one-shot-that-is-gone").variable("LoaderEntryOneShot", "gone.conf").expect("systemd-boot", (NEXT, FN, id(FN) + ".conf"))
    systemd("systemd-boot-saved-by-the-variable", f"default *-{FN}.conf\n").variable("LoaderEntryDefault", "@saved").variable("LoaderEntryLastBooted", id(FO) + ".conf").expect(
        "systemd-boot", (NEXT, FO, id(FO) + ".conf"), hold=held(FN, ["boot/efi/loader/loader.conf", variable], (NEXT, FN, id(FN) + ".conf")))
    two = lambda name, menu: Case(name).kernels(E6N, E6O).put("boot/grub/grub.conf", "default=0\n" + "".join(BOTH6)).put("boot/grub/menu.lst", menu)
    two("el6-two-menus-that-differ", "default=1\n" + "".join(BOTH6)).expect("grub-legacy", (NEXT, E6N, t6(E6N)), certain=False, problems=["disagree"], because="a paravirtual guest's GRUB reads menu.lst",
        hold=held(E6O, "boot/grub/grub.conf", (NEXT, E6O, t6(E6O)), leaves=["boot/grub/menu.lst"]))
    two("el6-two-menus-that-agree", "default 0\ntimeout 0\n" + "".join(BOTH6)).expect(
        "grub-legacy", (NEXT, E6N, t6(E6N)), hold=held(E6O, "boot/grub/grub.conf", (NEXT, E6O, t6(E6O)), certain=False))
    Case("el6-menu-lst-is-an-absolute-link").kernels(E6N, E6O).put("boot/grub/grub.conf", "default=1\n" + "".join(BOTH6)).link("boot/grub/menu.lst", "/boot/grub/grub.conf").expect("grub-legacy", (NEXT, E6O, t6(E6O)))
    xen = f"title Xen\n\troot (hd0,0)\n\tkernel /boot/xen.gz-2.6.18-398.el5 dom0_mem=1G\n\tmodule /boot/vmlinuz-{E6O} ro\n\tmodule /boot/initramfs-{E6O}.img\n"
    legacy("el6-xen-hypervisor-is-gone", "default=0\n", xen).expect("grub-legacy", (NEXT, E6O, "Xen"), certain=False, problems=["xen.gz-2.6.18-398.el5 is not there"])
    mounts = "/dev/sda3 / xfs rw 0 0\n/dev/sda2 /boot xfs rw 0 0\n/dev/sda1 /boot/efi vfat rw 0 0\n"
    esp = lambda name: c8(name, None).link("boot/grub2/grubenv", "../efi/EFI/rocky/grubenv").env(f"saved_entry={id(E8O)}\n", "boot/efi/EFI/rocky/grubenv")
    esp("el8-bios-link-into-the-efi-partition").put("proc/mounts", mounts).expect(
        "bls", (NEXT, E8N, id(E8N)), problems=["another file system"], because="GRUB follows no link out of a file system, so nothing is saved")
    esp("el8-bios-link-inside-one-file-system").put("proc/mounts", "/dev/sda1 / xfs rw 0 0\n").expect("bls", (NEXT, E8O, id(E8O)))
    c8("el8-next-entry-of-a-removed-kernel", f"saved_entry={id(E8O)}\nnext_entry={MID}-4.18.0-193.el8.x86_64\n").expect("bls", (ONCE, E8N, id(E8N)), (NEXT, E8O, id(E8O)))
    c8("el9-indeterminate-boot-hides-the-menu-only", f"saved_entry={id(E9O)}\nboot_indeterminate=1\nmenu_auto_hide=1\nboot_success=0\n", kernels=(E9N, E9O), os=("rhel", "9.4")).expect("bls", (NEXT, E9O, id(E9O)))
    c7("el7-environment-of-no-bytes").put("boot/grub2/grubenv", "").expect("grub2", (NEXT, E7N, el7(E7N)), because="[ -s ] is false for an empty file",
        hold=[refused(k, "does not start with") for k in (E7O, E7X)])
    debian("debian12-inner-number-past-the-end", "1>99").expect("grub2", (NEXT, DN, f"Advanced options for Debian GNU/Linux>Debian GNU/Linux, with Linux {DN}"))
    systemd("systemd-boot-prefers-another", f"preferred *-{FO}.conf\n").expect("systemd-boot", (NEXT, FN, id(FN) + ".conf"), certain=False, problems=["since 260"], because="earlier ones know no preferred")
    systemd("systemd-boot-prefers-the-same").variable("LoaderEntryPreferred", id(FN) + ".conf").expect(
        "systemd-boot", (NEXT, FN, id(FN) + ".conf"), hold=held(FO, "boot/efi/loader/loader.conf", (NEXT, FO, id(FO) + ".conf"), certain=False))
    stock_cases()


def stock_cases():
    """Configurations as they are without GRUB_DEFAULT=saved; the default is held and promoted on each."""
    adv = lambda os: f"Advanced options for {os}"
    sub = lambda os, k: f"{adv(os)}>{os}, with Linux {k}"
    d = "Debian GNU/Linux"
    held = lambda os: (NEXT, DO, sub(os, DO))
    by = lambda os: (DO, "boot/grub/custom.cfg", held(os))
    debian("debian12-stock-is-held", env="").expect("grub2", (NEXT, DN, d), hold=by(d))
    debian("debian12-stock-without-an-environment-is-held").expect("grub2", (NEXT, DN, d), hold=by(d))
    debian("debian12-stock-with-an-own-custom-cfg", env="").put("boot/grub/custom.cfg", b"menuentry 'caf\xe9' {\n\ttrue\n}\nset timeout=3").expect(
        "grub2", (NEXT, DN, d), hold=by(d))
    debian("debian12-stock-keeps-grub-reboot", env=f"next_entry=gnulinux-advanced-{UUID}>gnulinux-{DN}-advanced-{UUID}\n").expect(
        "grub2", (ONCE, DN, sub(d, DN)), (NEXT, DN, d), hold=(DO, "boot/grub/custom.cfg", (ONCE, DN, sub(d, DN)), held(d)))
    stub = f"search.fs_uuid {UUID} root \nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n"
    debian("debian12-stock-behind-an-efi-stub", env="").efi().put("boot/efi/EFI/debian/grub.cfg", stub).expect("grub2", (NEXT, DN, d), hold=by(d))
    initrdless = ('if [ "${initrdfail}" = 1 ]; then\n  set initrdless=2\nfi\nfunction initrdfail {\n  if [ -n "${have_grubenv}" ]; then\n    save_env initrdfail\n  fi\n}\n'
                  'function recordfail {\n  set recordfail=1\n  if [ -n "${have_grubenv}" ]; then if [ -z "${boot_once}" ]; then save_env recordfail; fi; fi\n}\n')
    debian("ubuntu2204-stock-is-held", env="", id="ubuntu", version="22.04", tail=initrdless).efi().put("boot/efi/EFI/ubuntu/grub.cfg", stub).expect(
        "grub2", (NEXT, DN, "Ubuntu"), hold=by("Ubuntu"))
    same = f"gnulinux-simple-{UUID}"
    a2 = lambda k, more="": f"Amazon Linux ({k}) 2{more}"
    cfg = header("0") + entry(a2(A2N), A2N, same) + entry("Amazon Linux 2", A2N, same)
    cfg += f"submenu 'Advanced options for Amazon Linux 2' $menuentry_id_option 'gnulinux-advanced-{UUID}' {{\n"
    for k in (A2N, A2O):
        cfg += entry(a2(k, ", with Linux " + k), k, f"gnulinux-{k}-advanced-{UUID}", indent="\t")
        cfg += entry(a2(k, f", with Linux {k} (recovery mode)"), k, f"gnulinux-{k}-recovery-{UUID}", args="root=/dev/sda1 ro single", indent="\t")
    Case("al2-stock-is-held").os("amzn", "2", "centos rhel fedora").kernels(A2N, A2O).env("").put("boot/grub2/grub.cfg", cfg + "}\n" + CUSTOM).expect(
        "grub2", (NEXT, A2N, a2(A2N)),
        hold=(A2O, "boot/grub2/custom.cfg", (NEXT, A2O, f"Advanced options for Amazon Linux 2>{a2(A2O, ', with Linux ' + A2O)}")))
    debian("debian12-saved-is-held-in-the-environment", "${saved_entry}", f"saved_entry=gnulinux-simple-{UUID}\n").expect(
        "grub2", (NEXT, DN, d), hold=(DO, "boot/grub/grubenv", held(d)))


if __name__ == "__main__":
    # What is there goes only once all of it could be written.
    shutil.rmtree(layouts.NEW, ignore_errors=True)
    legacy_cases(); el7_cases(); bls_cases(); debian_cases(); systemd_cases(); other_cases(); further_cases(); field_cases(); dialect_cases()
    shutil.rmtree(layouts.HERE, ignore_errors=True)
    os.rename(layouts.NEW, layouts.HERE)
    print(len(os.listdir(layouts.HERE)), "cases")
