"""GRUB 2.14's own blscfg, openSUSE's grub2-bls, and GRUB legacy with copies of its menu."""
import os, shutil

import layouts
from layouts import *


def gnu(name, call="blscfg --path /boot/loader/entries --enable-fallback\n", env="", kernels=(DN, DO), os=("debian", "14"), default="${saved_entry}", **bls):
    """GNU GRUB 2.14's own blscfg (grub-core/commands/blsuki.c), on a file system for /boot."""
    c = Case(name).os(*os).kernels(*kernels)
    for k in kernels:
        c.bls(k, **bls)
    return c.env(env, "boot/grub/grubenv").put("boot/grub/grub.cfg", header(default) + "insmod blsuki\n" + call + CUSTOM)


TOKEN = "opensuse-tumbleweed"
SN, SO = "6.15.3-1-default", "6.9.9-1-default"
TWELVE, FOURTEEN = b'..blscfg..scanning blsdir: %s..Add entry with id "%s"\0', b'..blsuki..scanning dir: %s..Add entry with id "%s"\0'


def suse_id(k):
    return f"system-{TOKEN}-{k}-1"


def suse(name, *entries, program="grubbls.efi", kind=b"MZ", env=None):
    """openSUSE's grub2-bls as sdbootutil installs it; entries: a kernel and its counter."""
    c = Case(name).efi().os(TOKEN, "20260401", "opensuse suse").put(f"boot/efi/EFI/opensuse/{program}", kind)
    c.put("boot/efi/EFI/opensuse/installed_by_sdbootutil", TOKEN + "\n")
    for k, counter in entries or ((SN, ""), (SO, "")):
        dir = f"{TOKEN}/{k}"
        image, initrd = "9fb86c3cc8ac60cb4cd4a9e2ca0a2e7d3d291e00", "1e9f0c3cc8ac60cb4cd4a9e2ca0a2e7d3d29fb86"
        c.put(f"boot/efi/{dir}/linux-{image}").put(f"boot/efi/{dir}/initrd-{initrd}").put(f"lib/modules/{k}/modules.order")
        c.put(f"boot/efi/loader/entries/{suse_id(k)}{counter}.conf", f"# Boot Loader Specification type#1 entry\ntitle      openSUSE Tumbleweed\nversion    1@{k}\n"
              f"sort-key   {TOKEN}\noptions    root=UUID={UUID}\nlinux      /{dir}/linux-{image}\ninitrd     /{dir}/initrd-{initrd}\n")
    return c if env is None else c.env(env, "boot/efi/EFI/opensuse/grubenv")


def dialect_cases():
    """Readers of entries that came with GRUB 2.14 and with openSUSE's grub2-bls; menus of GRUB legacy that are copies."""
    layouts.number = 259
    id = lambda k, mid=MID: f"{mid}-{k}"
    letter = "a" + OLD_MID[1:]
    title = lambda k: f"Linux ({k})"
    own = b'blsuki..Add entry with id "%s"\0'
    rhboot = b'blscfg..scanning blsdir: %s..Add entry with id "%s"\0'
    gnu("gnu-2.14-newest-file-name").expect("bls", (NEXT, DN, id(DN)), because="28 is more than 9")
    c = gnu("gnu-2.14-neither-version-nor-sort-key-counts", kernels=(DN,)).kernels(DO)
    c.put("boot/loader/entries/zz.conf", f"title old\nversion 1\nsort-key aaa\nlinux /boot/vmlinuz-{DO}\ninitrd /boot/initramfs-{DO}.img\n").expect("bls", (NEXT, DO, "zz"))
    two = lambda name, **kw: gnu(name, kernels=(DN,), **kw).kernels(DO).bls(DO, mid=letter)
    two("gnu-2.14-letters-come-before-digits").expect("bls", (NEXT, DO, id(DO, letter)), because="rhboot's takes digits for newer; options are for GNU's alone")
    two("gnu-blscfg-of-a-grub-that-nothing-tells", call="blscfg\n").expect("bls", (NEXT, DO, id(DO, letter)), certain=False, problems=["differ"])
    two("gnu-blscfg-of-a-grub-with-blsuki", call="blscfg\n").put("boot/grub/i386-pc/blsuki.mod", own).expect("bls", (NEXT, DO, id(DO, letter)))
    two("gnu-blscfg-of-a-grub-with-rhboots-blscfg", call="blscfg\n").put("boot/grub/i386-pc/blscfg.mod", rhboot).expect("bls", (NEXT, DN, id(DN)))
    gnu("gnu-2.14-hidden-files-are-entries-and-come-last", kernels=(DO,)).put("boot/loader/entries/.zz.conf", "linux /boot/vmlinuz-9\n").expect("bls", (NEXT, DO, id(DO)))
    gnu("gnu-2.14-fallback-where-the-path-is-empty", "blscfg --path=/boot/nowhere -f\n").expect("bls", (NEXT, DN, id(DN)))
    gnu("gnu-2.14-path-that-is-empty-without-fallback", "blscfg -p /boot/nowhere\n").expect("bls", certain=False, problems=["empty"])
    gnu("gnu-2.14-path-of-one-file", f"blscfg --path /boot/loader/entries/{id(DO)}.conf\n").expect("bls", (NEXT, DO, id(DO)), hold=refused(DN, "no boot entry"))
    gnu("gnu-2.14-one-entry-before-the-others", f"blscfg --entry {id(DO)}.conf\nblscfg\n").expect("bls", (NEXT, DO, id(DO)))
    gnu("gnu-2.14-default-before-the-others", f"blscfg --show-default\nblscfg --show-non-default\n", f"saved_entry={title(DO)}\n").expect("bls", (NEXT, DO, id(DO)))
    gnu("gnu-2.14-id-that-starts-with-a-number", env=f"saved_entry={id(DO)}\n").expect(
        "bls", (NEXT, DN, id(DN)), problems=["is a number"], because="GNU's GRUB reads the number that the machine-id starts with: 0")
    gnu("gnu-2.14-is-held-by-title", default="${saved_entry}", env=f"saved_entry={title(DN)}\n").expect(
        "bls", (NEXT, DN, id(DN)), hold=(DO, "boot/grub/grubenv", (NEXT, DO, id(DO))))
    gnu("gnu-2.14-options-that-are-not-known", "blscfg --sorted\n").expect("bls", certain=False, problems=["--sorted"])
    gnu("gnu-2.14-without-a-file-system-for-boot", "blscfg\n").put("proc/mounts", "/dev/sda1 / ext4 rw 0 0\n").expect(
        "bls", (NEXT, DN, id(DN)), certain=False, problems=["no file system of its own"], because="it looks in /loader/entries of its root alone")
    gnu("gnu-2.14-with-a-file-system-for-boot", "blscfg\n").put("proc/mounts", "/dev/sda2 / ext4 rw 0 0\n/dev/sda1 /boot ext4 rw 0 0\n").expect("bls", (NEXT, DN, id(DN)))
    gnu("gnu-2.14-entries-on-the-efi-partition-too", "blscfg\n").put("boot/efi/loader/entries/x.conf").expect("bls", (NEXT, DN, id(DN)), certain=False, problems=["cannot be told"])
    gnu("fedoras-blscfg-knows-no-options", os=("fedora", "44"), kernels=(FN, FO)).expect("bls", (NEXT, FN, id(FN)), certain=False, problems=["knows none"])
    gnu("gnu-2.14-two-files-that-sort-alike", kernels=("6.1.0-09-amd64", DO)).expect("bls", (NEXT, "6.1.0-09-amd64", id("6.1.0-09-amd64")), certain=False, problems=["sort alike"])
    gnu("uki-without-images", "blscfg\nuki\n").expect("bls", (NEXT, DN, id(DN)))
    gnu("uki-adds-images", "blscfg\nuki\n").put("efi/EFI/Linux/a.efi", "MZ").expect("bls", (NEXT, DN, id(DN)), certain=False, problems=["unified kernel images in /efi/EFI/Linux"])
    gnu("uki-adds-images-of-a-path", "blscfg\nuki --path /images\n").put("boot/images/a.efi", "MZ").expect("bls", (NEXT, DN, id(DN)), certain=False, problems=["/boot/images"])

    still = lambda k: refused(k, "would still start")
    suse("grub2-bls-newest-file-name").expect("bls", (NEXT, SN, suse_id(SN)), hold=still(SO))
    suse("grub2-bls-behind-a-shim", program="grub.efi").expect("bls", (NEXT, SN, suse_id(SN)), hold=still(SO))
    suse("grub2-bls-default-in-its-environment", env=f"default={suse_id(SO)}.conf\ntimeout=8\n").expect("bls", (NEXT, SO, suse_id(SO)), hold=still(SN))
    suse("grub2-bls-counter-still-runs", (SN, "+2-1"), (SO, "")).expect("bls", (NEXT, SN, suse_id(SN)), (BACK, SO, suse_id(SO)), hold=still(SO))
    suse("grub2-bls-counter-has-run-out", (SN, "+0-3"), (SO, "")).expect("bls", (NEXT, SO, suse_id(SO)), hold=still(SN))
    named = dict(env=f"default={suse_id(SO)}\n")
    suse("grub2-bls-default-has-a-counter", (SN, ""), (SO, "+2-1"), **named).expect(
        "bls", (NEXT, SO, suse_id(SO)), certain=False, problems=["differ"], because="to GRUBs before April 2026 the counter is a part of the id")
    suse("grub2-bls-default-named-with-its-counter", (SN, ""), (SO, "+2-1"), env=f"default={suse_id(SO)}+2-1\n").expect(
        "bls", (NEXT, SN, suse_id(SN)), certain=False, problems=["differ"])
    chosen = lambda name, **kw: suse(name, **kw).variable("LoaderEntryDefault", suse_id(SO) + ".conf")
    chosen("grub2-bls-2.14-follows-the-interface", kind=FOURTEEN).expect("bls", (NEXT, SO, suse_id(SO)), hold=still(SN))
    chosen("grub2-bls-2.12-may-not-follow-the-interface", kind=TWELVE).expect("bls", (NEXT, SN, suse_id(SN)), certain=False, problems=["since 2.14"])
    chosen("grub2-bls-of-a-release-that-nothing-tells").expect("bls", (NEXT, SO, suse_id(SO)), certain=False, problems=["differ"])
    chosen("grub2-bls-2.14-interface-beats-the-environment", kind=FOURTEEN, env=f"default={suse_id(SN)}\n").expect("bls", (NEXT, SO, suse_id(SO)), hold=still(SN))
    chosen("grub2-bls-2.14-one-shot", kind=FOURTEEN).variable("LoaderEntryOneShot", suse_id(SN)).put(
        "proc/mounts", "/dev/vda2 / btrfs rw 0 0\n/dev/vda1 /boot/efi vfat rw 0 0\n").expect("bls", (ONCE, SN, suse_id(SN)), (NEXT, SO, suse_id(SO)), hold=still(SN))
    suse("grub2-bls-2.14-interface-names-nothing", kind=FOURTEEN, env=f"default={suse_id(SO)}\n").variable("LoaderEntryDefault", "gone.conf").expect("bls", (NEXT, SO, suse_id(SO)), hold=still(SN))
    suse("grub2-bls-turned-off", env="enable_blscfg=0\n").expect("grub2", certain=False, problems=["enable_blscfg"])
    suse("grub2-bls-beside-an-old-grub-cfg").kernels(SO).put("boot/grub2/grub.cfg", header("0") + entry("old", SO)).expect("bls", (NEXT, SN, suse_id(SN)), hold=still(SO))
    suse("grub2-bls-and-a-grub-cfg-in-its-directory").kernels(SO).put("boot/efi/EFI/opensuse/grub.cfg", header("0") + entry("old", SO)).expect(
        "bls", (NEXT, SN, suse_id(SN)), certain=False, problems=["disagree"])
    c = suse("grub-that-says-its-name-is-no-systemd-boot").variable("LoaderInfo", "GRUB 2.14").variable("LoaderEntryDefault", suse_id(SO) + ".conf")
    shutil.rmtree(os.path.join(c.dir, "in/boot/efi/EFI"))
    c.expect("unknown", certain=False, problems=["boot loader"], because="a removable installation: EFI/BOOT holds no configuration")
    systemd("sdbootutils-systemd-boot-is-none-of-grub").put("boot/efi/EFI/systemd/grub.efi", "MZ").put("boot/efi/EFI/systemd/installed_by_sdbootutil", TOKEN).expect("systemd-boot", (NEXT, FN, id(FN) + ".conf"))

    copies = lambda name, head, *more: Case(name).kernels(E6N, E6O).put("boot/grub/grub.conf", head + "".join(BOTH6)).put("boot/grub/menu.lst", head + "".join(BOTH6))
    copies("el6-two-menus-that-are-copies-are-both-held", "default=0\ntimeout=1\n").expect(
        "grub-legacy", (NEXT, E6N, t6(E6N)), hold=(E6O, ["boot/grub/grub.conf", "boot/grub/menu.lst"], (NEXT, E6O, t6(E6O))))
    copies("el6-three-menus-that-are-copies-are-all-held", "default=0\n").put("boot/boot/grub/menu.lst", "default=0\n" + "".join(BOTH6)).expect(
        "grub-legacy", (NEXT, E6N, t6(E6N)),
        hold=(E6O, ["boot/boot/grub/menu.lst", "boot/grub/grub.conf", "boot/grub/menu.lst"], (NEXT, E6O, t6(E6O))))
    saved = "default=saved\n" + "".join(BOTH6)
    legacy("el6-copies-with-saved-numbers-that-differ", "", path="boot/grub/menu.lst").put("boot/grub/menu.lst", saved).put("boot/boot/grub/menu.lst", saved).put(
        "boot/grub/default", "1\n").put("boot/boot/grub/default", "0\n").expect(
        "grub-legacy", (NEXT, E6O, t6(E6O)), certain=False, problems=["disagree"],
        hold=held(E6N, "boot/grub/menu.lst", (NEXT, E6N, t6(E6N)), leaves=["boot/boot/grub/menu.lst", "boot/grub/menu.lst"]))
