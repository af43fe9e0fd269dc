"""Machines as they are in the field, written anew with invented ids and kernels: stock images of clouds, machines that were converted or
half updated, and layouts that public issue trackers and forums tell of. The default of each is held and promoted.
"""
import os

from layouts import *

# A machine-id that begins with a digit sorts before one that begins with a letter.
LETTER, DIGIT, BUILD = "c7d1e5b0a3f84926b1d08e7f5a6c9b42", "3f9a0c72d8b14e65a7c3f0e19b5d8246", "f" * 32
HIDE = ('if [ x$feature_timeout_style = xy ] ; then\n  if [ "${menu_show_once}" ]; then\n    unset menu_show_once\n    save_env menu_show_once\n'
        '    set timeout_style=menu\n    set timeout=60\n  elif [ "${menu_auto_hide}" -a "${menu_hide_ok}" = "1" ]; then\n'
        '    set timeout_style=hidden\n    set timeout=1\n  fi\nfi\n')
USERS = ('if [ -f ${prefix}/user.cfg ]; then\n  source ${prefix}/user.cfg\n  if [ -n "${GRUB2_PASSWORD}" ]; then\n    set superusers="root"\n'
         '    export superusers\n    password_pbkdf2 root ${GRUB2_PASSWORD}\n  fi\nfi\n')
STUB = f"search --no-floppy --fs-uuid --set=dev {UUID}\nset prefix=($dev)/%s\n\nexport $prefix\nconfigfile $prefix/grub.cfg\n"
ENV, CFG = "boot/grub2/grubenv", "boot/grub2/grub.cfg"


def bls_cfg(default="${saved_entry}"):
    return header(default, el=8) + USERS + COUNTING + BLSCFG + RESET + HIDE + CUSTOM


def rescue(c, mid, title="Linux"):
    """The rescue entry and image that kernel-install makes."""
    name = f"0-rescue-{mid}"
    c.put(f"boot/vmlinuz-{name}").put(f"boot/initramfs-{name}.img")
    text = f"title {title} ({name})\nversion {name}\nlinux /boot/vmlinuz-{name}\ninitrd /boot/initramfs-{name}.img\noptions root=/dev/sda1 ro\n"
    return c.put(f"boot/loader/entries/{mid}-0-rescue.conf", text + "grub_users $grub_users\ngrub_arg --unrestricted\ngrub_class kernel\n")


def el_cases():
    """RHEL 7 to 9 and what descends from them."""
    id = lambda k, mid: f"{mid}-{k}"
    n, o = "4.18.0-240.15.1.el8_3.x86_64", "4.18.0-240.1.1.el8_3.x86_64"
    words = "root=/dev/xvda2 ro console=ttyS0,115200n8 console=tty0 net.ifnames=0 crashkernel=auto"
    c = Case("rhel83-ec2-saved-beside-the-image-builders-id").os("rhel", "8.3", "fedora").kernels(n, o).put(CFG, bls_cfg())
    c.bls(n, mid=LETTER, options="$kernelopts $tuned_params").bls(o, mid=DIGIT, options="$kernelopts $tuned_params")
    c.env(f"saved_entry={id(n, LETTER)}\nkernelopts={words}\nboot_success=1\n").expect(
        "bls", (NEXT, n, id(n, LETTER)), hold=held(o, ENV, (NEXT, o, id(o, DIGIT))))
    # MAKEDEBUG=yes: grubby makes two entries of each kernel, and copies the first one's id.
    first = "3.10.0-229.4.2.el7.x86_64"
    kernels = ["3.10.0-1160.6.1.el7.x86_64", "3.10.0-1062.12.1.el7.x86_64", "3.10.0-957.27.2.el7.x86_64", "3.10.0-514.2.2.el7.x86_64", first]
    cfg, same = header(), f"gnulinux-{first}-advanced-{UUID}"
    for k in kernels:
        cfg += entry(el7(k), k, same, dir="", args="root=/dev/mapper/centos-root ro")
        cfg += entry(el7(k) + " with debugging", k, same, dir="", args="root=/dev/mapper/centos-root ro systemd.log_level=debug systemd.log_target=kmsg")
    c = Case("centos7-with-debugging-entries").os("centos", "7", "rhel fedora").kernels(*kernels).put(CFG, cfg + CUSTOM)
    c.put(CFG + ".1.rpmsave", header("0")).put("proc/mounts", "/dev/mapper/centos-root / xfs rw 0 0\n/dev/xvda1 /boot xfs rw 0 0\n")
    c.env(f"saved_entry={el7(kernels[0])}\n").expect(
        "grub2", (NEXT, kernels[0], el7(kernels[0])), hold=held(kernels[2], ENV, (NEXT, kernels[2], el7(kernels[2]))))
    n, o, same = "3.10.0-514.26.2.el7.x86_64", "3.10.0-514.el7.x86_64", f"gnulinux-3.10.0-514.el7.x86_64-advanced-{UUID}"
    r = f"0-rescue-{DIGIT}"
    cfg = header() + entry(el7(n), n, same) + entry(el7(o), o, same) + entry(el7(r), r, f"gnulinux-{r}-advanced-{UUID}")
    c = Case("centos73-second-kernel-with-the-first-ones-id").os("centos", "7", "rhel fedora").kernels(n, o).put(CFG, cfg + CUSTOM)
    c.put(f"boot/vmlinuz-{r}").put(f"boot/initramfs-{r}.img").env(f"saved_entry={el7(n)}\n").expect(
        "grub2", (NEXT, n, el7(n)), hold=held(o, ENV, (NEXT, o, el7(o))))
    c = c7("rhel7-image-of-another-kernel-is-gone", f"saved_entry={el7(E7N)}\n", tail=CUSTOM)
    os.remove(c.path(f"boot/vmlinuz-{E7O}"))
    c.expect("grub2", (NEXT, E7N, el7(E7N)), hold=[held(E7X, ENV, (NEXT, E7X, el7(E7X))), refused(E7O, "no boot entry")])
    # The link from /boot/grub2 into the EFI partition is lost, and what is saved there is seen by nobody.
    n, o = "4.18.0-477.27.1.el8_8.x86_64", "4.18.0-477.10.1.el8_8.x86_64"
    c = Case("rocky88-environment-is-in-the-efi-directory-alone").os("rocky", "8.8", "rhel centos fedora").kernels(n, o).bls(n).bls(o).put(CFG, bls_cfg())
    c.env(f"saved_entry={id(o, MID)}\nmenu_auto_hide=1\n", "boot/efi/EFI/rocky/grubenv").expect(
        "bls", (NEXT, n, id(n, MID)), hold=held(o, ENV, (NEXT, o, id(o, MID)), leaves=[ENV]))
    env = f"saved_entry={id(E8N, MID)}\nkernelopts={words}\nboot_success=0\nboot_indeterminate=2\ntuned_params=transparent_hugepages=never\ntuned_initrd=\n"
    eight = lambda name: c8(name, None, os=("rhel", "8.4", "fedora"), options="$kernelopts $tuned_params")
    eight("rhel84-tuned-environment").env(env).expect("bls", (NEXT, E8N, id(E8N, MID)), hold=held(E8O, ENV, (NEXT, E8O, id(E8O, MID))))
    eight("rhel84-invalid-environment-block").put(ENV, env.encode() + b"#" * (1024 - len(env))).expect(
        "bls", (NEXT, E8N, id(E8N, MID)), certain=False, problems=["no GRUB environment block"],
        hold=held(E8O, "boot/grub2/custom.cfg", (NEXT, E8O, id(E8O, MID))))
    # grubby --default-index of such a machine says 0, too.
    c = Case("rhel9-uefi-saved-entry-of-another-machine-id").os("rhel", "9.5", "fedora").efi().kernels(E9N, E9O).put(CFG, bls_cfg())
    rescue(c.bls(E9N, mid=DIGIT).bls(E9O, mid=DIGIT), DIGIT).put("boot/efi/EFI/redhat/grub.cfg", STUB % "grub2")
    c.env(f"saved_entry={id('5.14.0-570.30.1.el9_6.x86_64', LETTER)}\nmenu_auto_hide=1\nboot_success=1\nboot_indeterminate=0\n").expect(
        "bls", (NEXT, E9N, id(E9N, DIGIT)), hold=held(E9O, ENV, (NEXT, E9O, id(E9O, DIGIT))))
    i, m, n = "5.14.0-162.22.2.el9_1.x86_64", "5.14.0-284.11.1.el9_2.x86_64", "5.14.0-284.30.1.el9_2.x86_64"
    c = Case("rocky9-image-builders-id-sorts-first").os("rocky", "9.2", "rhel centos fedora").kernels(i, m, n).env("").put(CFG, bls_cfg())
    rescue(rescue(c.bls(i, mid=DIGIT).bls(m, mid=LETTER).bls(n, mid=LETTER), DIGIT), LETTER).expect(
        "bls", (NEXT, i, id(i, DIGIT)), because="digits are newer than letters", hold=held(n, ENV, (NEXT, n, id(n, LETTER))))
    # No GRUB_DEFAULT and no /etc/sysconfig/kernel; the image was built with a machine-id of f alone.
    n, o = "5.14.0-284.18.1.el9_2.x86_64", "5.14.0-284.11.1.el9_2.x86_64"
    c = Case("almalinux92-ec2-new-kernel-never-boots").os("almalinux", "9.2", "rhel centos fedora").kernels(n, o).env("").put(CFG, bls_cfg("0"))
    c.bls(n, mid=LETTER).bls(o, mid=BUILD).expect(
        "bls", (NEXT, o, id(o, BUILD)), hold=held(n, "boot/grub2/custom.cfg", (NEXT, n, id(n, LETTER))))
    # The entry of a removed kernel sorts first; grubby reads another environment than GRUB, and says index 3.
    gone, n, m, o = "5.15.0-210.163.7.el9uek.x86_64", "5.15.0-207.156.6.el9uek.x86_64", "5.15.0-206.153.7.el9uek.x86_64", "5.14.0-427.20.1.el9_4.x86_64"
    efi = "boot/efi/EFI/redhat/"
    c = Case("ol9-uek-first-entry-of-a-removed-kernel").os("ol", "9.4", "fedora").efi().kernels(n, m, o).put(CFG, bls_cfg()).put(efi + "grub.cfg", bls_cfg())
    for k in (gone, n, m, o):
        c.bls(k, title=f"Oracle Linux Server ({k}) 9.4")
    c.env(f"saved_entry={id(n, MID)}\n").expect(
        "bls", (NEXT, gone, id(gone, MID)), problems=["is not there"], hold=[
            held(k, efi + "grubenv", (NEXT, k, id(k, MID)), ends=[(NEXT, k, id(k, MID))], leaves=[efi + "grubenv"]) for k in (n, m, o)])
    # The upgrade from EL7 left GRUB_ENABLE_BLSCFG=false: a new kernel gets no entry.
    n, o = "4.18.0-553.16.1.el8_10.x86_64", "4.18.0-553.8.1.el8_10.x86_64"
    c = Case("almalinux8-from-el7-new-kernel-has-no-entry").os("almalinux", "8.10", "rhel centos fedora").kernels(n, o).put(CFG, bls_cfg())
    c.put("etc/default/grub", "GRUB_DEFAULT=saved\nGRUB_ENABLE_BLSCFG=false\n").bls(o, mid=DIGIT)
    for k in (E7N, E7O):
        c.bls(k, mid=DIGIT)
    rescue(c, DIGIT, "CentOS Linux").env(f"saved_entry={id(o, DIGIT)}\n").expect(
        "bls", (NEXT, o, id(o, DIGIT)), hold=[refused(n, "no boot entry"), refused(E7N, "no boot entry")])


def cloud_cases():
    """Images of clouds."""
    id = lambda k, mid: f"{mid}-{k}"
    n, o = "4.14.72-73.55.amzn2.x86_64", "4.14.70-72.55.amzn2.x86_64"
    a, adv, same = lambda k, more="": f"Amazon Linux ({k}) 2{more}", "Advanced options for Amazon Linux 2", f"gnulinux-simple-{UUID}"
    cfg = header("0") + entry(a(n), n, same) + entry("Amazon Linux 2", o, same) + f"submenu '{adv}' $menuentry_id_option 'gnulinux-advanced-{UUID}' {{\n"
    cfg += entry(a(o, f", with Linux {o}"), o, f"gnulinux-{o}-advanced-{UUID}", indent="\t")
    cfg += entry(a(o, f", with Linux {o} (recovery mode)"), o, f"gnulinux-{o}-recovery-{UUID}", args="root=/dev/sda1 ro single", indent="\t") + "}\n"
    Case("al2-2018-grubbys-entry-before-the-menu").os("amzn", "2", "centos rhel fedora").kernels(n, o).env("").put(CFG, cfg + CUSTOM).expect(
        "grub2", (NEXT, n, a(n)), hold=held(o, "boot/grub2/custom.cfg", (NEXT, o, f"{adv}>{a(o, ', with Linux ' + o)}")))
    k1 = ["4.14.186-110.268.amzn1.x86_64", "4.14.181-108.257.amzn1.x86_64", "4.9.20-11.31.amzn1.x86_64"]
    t = lambda k: f"Amazon Linux 2018.03 ({k})"
    menu = "default=0\ntimeout=0\nhiddenmenu\n\n" + "\n".join(legacy_entry(k, "Amazon Linux 2018.03 (%s)") for k in k1)
    both = ["boot/grub/grub.conf", "boot/grub/menu.lst"]
    Case("al1-two-equal-menus").kernels(*k1).put(both[0], menu).put(both[1], menu).expect(
        "grub-legacy", (NEXT, k1[0], t(k1[0])), hold=[held(k, both, (NEXT, k, t(k))) for k in k1[1:]])
    n, o = "3.14.26-24.46.amzn1.x86_64", "3.14.20-20.44.amzn1.x86_64"
    t = "Amazon Linux 2014.09 (%s)"
    menu = "# created by imagebuilder\ndefault=0\ntimeout=1\nhiddenmenu\n\n"
    menu += "".join(legacy_entry(k, t).replace("console=ttyS0", "console=ttyS0 intel_idle.max_cstate=1  processor.max_cstate=1") + "\n" for k in (n, o))
    c = Case("al1-2014-by-the-image-builder").kernels(n, o).put("boot/grub/grub.conf", menu).link("boot/grub/menu.lst", "./grub.conf")
    c.expect("grub-legacy", (NEXT, n, t % n), hold=held(o, "boot/grub/grub.conf", (NEXT, o, t % o)))
    # GRUB_FORCE_PARTUUID: without an initrd first, and with it once that has failed.
    def cloudimg(title, k, id, indent=""):
        linux = f"linux\t/boot/vmlinuz-{k} root=PARTUUID={UUID[:8]}-01 ro  console=tty1 console=ttyS0"
        lines = [f"menuentry '{title}' --class ubuntu --class gnu-linux --class gnu --class os $menuentry_id_option '{id}' {{", "\trecordfail", "\tload_video",
                 "\tinsmod gzio", f"\tsearch --no-floppy --label --set=root cloudimg-rootfs", '\tif [ "${initrdfail}" = 1 ]; then', f"\t  {linux}",
                 f"\t  initrd\t/boot/initrd.img-{k}", "\telse", f"\t  {linux} panic=-1", "\tfi", "\tinitrdfail", "}"]
        return "".join(indent + line + "\n" for line in lines)
    n, o = "5.15.0-100-generic", "5.15.0-94-generic"
    track = ('if [ -s $prefix/grubenv ]; then\n  set have_grubenv=true\n  load_env\nfi\nif [ "${initrdfail}" = 2 ]; then\n   set initrdfail=\n'
             'elif [ "${initrdfail}" = 1 ]; then\n   set next_entry="${prev_entry}"\n   set prev_entry=\n   save_env prev_entry\n'
             '   if [ "${next_entry}" ]; then\n      set initrdfail=2\n   fi\nfi\n')
    functions = ('function recordfail {\n  set recordfail=1\n  if [ -n "${have_grubenv}" ]; then if [ -z "${boot_once}" ]; then save_env recordfail; fi; fi\n}\n'
                 'function initrdfail {\n    if [ -n "${have_grubenv}" ]; then if [ -n "${partuuid}" ]; then\n      if [ -z "${initrdfail}" ]; then\n'
                 '        set initrdfail=1\n        if [ -n "${boot_once}" ]; then\n          set prev_entry="${default}"\n          save_env prev_entry\n        fi\n'
                 '      fi\n      save_env initrdfail\n    fi; fi\n}\n')
    adv = "Advanced options for Ubuntu"
    cfg = track + header("0") + functions + f"set partuuid={UUID[:8]}-01\n" + cloudimg("Ubuntu", n, f"gnulinux-simple-{UUID}")
    cfg += f"submenu '{adv}' $menuentry_id_option 'gnulinux-advanced-{UUID}' {{\n"
    cfg += "".join(cloudimg(f"Ubuntu, with Linux {k}", k, f"gnulinux-{k}-advanced-{UUID}", "\t") for k in (n, o)) + "}\n"
    c = Case("ubuntu2204-cloud-image-without-initrd-first").os("ubuntu", "22.04", "debian").efi().kernels(n, o, initrd="initrd.img-%s")
    c.put("boot/grub/grub.cfg", cfg + CUSTOM).env("", "boot/grub/grubenv").link("boot/vmlinuz", f"vmlinuz-{n}").link("boot/initrd.img", f"initrd.img-{n}")
    c.put("etc/default/grub.d/50-cloudimg-settings.cfg", "GRUB_TIMEOUT=0\n")
    c.put("boot/efi/EFI/ubuntu/grub.cfg", f"search.fs_uuid {UUID} root \nset prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n").expect(
        "grub2", (NEXT, n, "Ubuntu"), hold=held(o, "boot/grub/custom.cfg", (NEXT, o, f"{adv}>Ubuntu, with Linux {o}")))
    # grub-legacy-ec2 keeps menu.lst for paravirtual guests, and grub-pc its own for all others.
    def ubuntu(name, version, n, o, newest):
        t = f"Ubuntu {version} LTS"
        menu = "default\t\t0\ntimeout\t\t0\nhiddenmenu\n\n### BEGIN AUTOMAGIC KERNELS LIST\n# kopt=root=LABEL=cloudimg-rootfs ro\n# groot=(hd0)\n# indomU=true\n\n"
        for k in (n, o)[not newest:]:
            for more, args in (("", "console=hvc0"), (" (recovery mode)", "single")):
                menu += (f"title\t\t{t}, kernel {k}{more}\nroot\t\t(hd0)\nkernel\t\t/boot/vmlinuz-{k} root=LABEL=cloudimg-rootfs ro {args} \n"
                         f"initrd\t\t/boot/initrd.img-{k}\n\n")
        menu += f"title\t\t{t}, memtest86+\nroot\t\t(hd0)\nkernel\t\t/boot/memtest86+.bin\n\n### END DEBIAN AUTOMAGIC KERNELS LIST\n"
        return debian(name, id="ubuntu", version=version, kernels=(n, o), env="").put("boot/grub/menu.lst", menu).put("boot/memtest86+.bin")
    sub = lambda k: f"{adv}>Ubuntu, with Linux {k}"
    n, o = "4.4.0-83-generic", "4.4.0-78-generic"
    ubuntu("ubuntu1604-ec2-modules-of-the-second-grub", "16.04", n, o, False).put("boot/grub/i386-pc/core.img").expect(
        "grub2", (NEXT, n, "Ubuntu"), hold=held(o, "boot/grub/custom.cfg", (NEXT, o, sub(o))))
    n, o = "3.2.0-60-virtual", "3.2.0-58-virtual"
    ubuntu("ubuntu1204-ec2-menus-that-disagree", "12.04", n, o, False).put("boot/grub/core.img").put("boot/grub/normal.mod").expect(
        "grub2", (NEXT, n, "Ubuntu"), hold=held(o, "boot/grub/custom.cfg", (NEXT, o, sub(o))), because="GRUB 1.99 has its modules in /boot/grub")
    # Never booted: the environment is empty.
    n, o = "6.6.88-1.an23.x86_64", "6.6.25-2.an23.x86_64"
    c = Case("anolis23-cloud-image-never-booted").os("anolis", "23", "rhel fedora centos").kernels(n, o).bls(n).bls(o).put(CFG, bls_cfg("0")).env("")
    c.expect("bls", (NEXT, n, id(n, MID)), hold=held(o, "boot/grub2/custom.cfg", (NEXT, o, id(o, MID))))
    # No /etc/sysconfig/kernel: what was saved first stays. os-release names no relative.
    n, o = "6.18.31-1.3.azl4.x86_64", "6.18.29-1.1.azl4.x86_64"
    c = Case("azurelinux4-saved-entry-is-never-moved").os("azurelinux", "4.0").efi().kernels(n, o).bls(n, mid=DIGIT).bls(o, mid=DIGIT).put(CFG, bls_cfg())
    c.put("boot/efi/EFI/azurelinux/grub.cfg", STUB % "grub2").env(f"saved_entry={id(o, DIGIT)}\n").expect(
        "bls", (NEXT, o, id(o, DIGIT)), hold=held(n, ENV, (NEXT, n, id(n, DIGIT))), because="an id that begins with a digit is no number")


def old_cases():
    """GRUB legacy's menus as people and installers leave them."""
    five = ["2.6.18-194.17.1.el5", "2.6.18-194.8.1.el5"]
    t5 = "Red Hat Enterprise Linux Server (%s)"
    e5 = lambda k: legacy_entry(k, t5, dir="").replace("initramfs-", "initrd-")
    c = Case("el5-fallback-in-a-comment").kernels(*five, initrd="initrd-%s.img")
    menu = "#boot=/dev/cciss/c0d0\ndefault=1\n# fallback=0 # taken out by a driver's script\ntimeout=5\nsplashimage=(hd0,0)/grub/splash.xpm.gz\nhiddenmenu\n"
    c.put("boot/grub/grub.conf", menu + e5(five[1]) + "\n" + e5(five[0])).link("boot/grub/menu.lst", "./grub.conf").expect(
        "grub-legacy", (NEXT, five[0], t5 % five[0]), hold=held(five[1], "boot/grub/grub.conf", (NEXT, five[1], t5 % five[1])))
    to = lambda k: held(k, "boot/grub/grub.conf", (NEXT, k, t6(k)))
    n, o = (NEXT, E6N, t6(E6N)), (NEXT, E6O, t6(E6O))
    legacy("el6-defaults-is-no-command", "defaults=1\n", *BOTH6).expect("grub-legacy", n, hold=to(E6O))
    legacy("el6-default-with-spaces-past-the-end", "default = 2\n", *BOTH6).expect("grub-legacy", n, hold=to(E6O))
    legacy("el6-number-and-more", "default=1st\n", *BOTH6).expect("grub-legacy", o, hold=to(E6N), because="stage2 stops at the first other character")
    legacy("el6-sign-is-no-number", "default=+1\n", *BOTH6).expect("grub-legacy", n, certain=False, problems=["is no number"], hold=to(E6O))
    legacy("el6-title-without-a-command-is-no-entry", "default=1\n", "title --- kernels ---\n\n", *BOTH6, "title --- others ---\n# none\n").expect(
        "grub-legacy", o, hold=to(E6N), because="the next title takes its place")
    legacy("el6-comment-that-goes-on", "default=0\n# default=0 \\\ndefault=1\n", *BOTH6).expect("grub-legacy", n, hold=to(E6O))
    c = legacy("el6-entry-with-an-empty-kernel", "default=0\n", "title (2.6.18-194.8.1.el5)\n\tkernel\n\tmodule /2.6.18-194.8.1.el5.img\n", *BOTH6)
    c.expect("grub-legacy", certain=False, problems=["is not there"], hold=held(
        E6O, "boot/grub/grub.conf", o, ends=[n], leaves=["boot/grub/grub.conf"]))


def other_loaders():
    """GRUB 2 with a configuration of its own kind."""
    # The copy has no entries, and what remains starts another system.
    windows = "menuentry 'Windows Boot Manager (on /dev/nvme0n1p1)' --class windows --class os $menuentry_id_option 'osprober-efi-3A1F-0C42' {\n\tinsmod part_gpt\n\tinsmod fat\n\tchainloader /EFI/Microsoft/Boot/bootmgfw.efi\n}\n"
    c = Case("fedora35-windows-and-no-entries").os("fedora", "35").efi().kernels(FN, FO).put(CFG, bls_cfg() + windows).put("boot/efi/EFI/fedora/grub.cfg", STUB % "grub2")
    c.env(f"# WARNING: Do not edit this file by tools other than grub-editenv!!!\nsaved_entry={MID}-{FN}\nmenu_auto_hide=1\nboot_success=1\nboot_indeterminate=0\n")
    c.expect("grub2", certain=False, problems=["/boot/loader/entries", "chainloader"], hold=refused(FO, "no boot entry"))


    # RAUC: a loop picks the first slot that is good and was not tried. The other slot's kernel lies on a partition that is not seen.
    def rauc(name, env, none=0):
        pick = "".join(f'    if [ "$SLOT" == "{slot}" ]; then\n        INDEX={n}\n        OK=${slot}_OK\n        TRY=${slot}_TRY\n        {slot}_TRY=1\n    fi\n' for n, slot in enumerate("AB"))
        cfg = f'default={none}\ntimeout=3\n\nset ORDER="A B"\nset A_OK=0\nset B_OK=0\nset A_TRY=0\nset B_TRY=0\nload_env\n\nfor SLOT in $ORDER; do\n' + pick
        cfg += '    if [ "$OK" -eq 1 -a "$TRY" -eq 0 ]; then\n        default=$INDEX\n        break\n    fi\ndone\n\n'
        cfg += 'if [ "$default" -eq %d ]; then\n    default=0\n' % none + "".join(f'    if [ "${s}_OK" -eq 1 -a "${s}_TRY" -eq 1 ]; then\n        {s}_TRY=0\n    fi\n' for s in "AB") + "fi\n\nsave_env A_TRY B_TRY\n\n"
        cfg += "".join(f'menuentry "Slot {s} (OK=${s}_OK TRY=${s}_TRY)" {{\n    linux (hd0,{n})/boot/vmlinuz root=/dev/sda{n} panic=60 quiet rauc.slot={s}\n}}\n' for n, s in ((2, "A"), (3, "B")))
        c = Case(name).os("poky", "4.0").put(f"boot/vmlinuz-{YN}").link("boot/vmlinuz", f"vmlinuz-{YN}").put(f"lib/modules/{YN}/modules.order")
        c.put("proc/mounts", "/dev/sda2 / ext4 rw 0 0\n/dev/sda1 /grubenv vfat rw 0 0\n")
        return c.put("boot/grub/grub.cfg", cfg).env(env, "boot/grub/grubenv")
    rauc("rauc-slot-that-is-seen", "ORDER=A B\nA_OK=1\nA_TRY=0\nB_OK=0\nB_TRY=0\n").expect("grub2", (NEXT, YN, "Slot A (OK=1 TRY=0)"))
    rauc("rauc-slot-that-may-be-left", "ORDER=A B\nA_OK=1\nA_TRY=0\nB_OK=1\nB_TRY=0\n", 9).expect(
        "grub2", (NEXT, YN, "Slot A (OK=1 TRY=1)"), certain=False, problems=["partition"], because="it is tried once, and then the other one")
    rauc("rauc-slot-on-another-partition", "ORDER=B A\nA_OK=1\nA_TRY=0\nB_OK=1\nB_TRY=0\n").expect(
        "grub2", (BACK, YN, "Slot A (OK=1 TRY=0)"), certain=False, problems=["partition"], hold=refused(YN, "would still start"))
    # Mender: two environments, a locked one first, and a kernel that starts without a menu from the partition that they name.
    def mender(name, part, upgrade):
        cfg = ('mender_rootfsa_part=2\nmender_rootfsb_part=3\nmender_kernel_root_base=/dev/sda\nkernel_imagetype=vmlinuz\n'
               'mender_grub_storage_device=hd0\n'
               'function mender_load_env {\n    load_env --skip-sig --file $prefix/mender_grubenv1/env bootcount mender_boot_part upgrade_available\n}\n'
               'function mender_save_env {\n    save_env --file $prefix/mender_grubenv1/env bootcount mender_boot_part upgrade_available\n}\n'
               'mender_load_env\nif [ "${upgrade_available}" = "1" ]; then\n    if [ "${bootcount}" != "0" ]; then\n'
               '        if [ "${mender_boot_part}" = "${mender_rootfsa_part}" ]; then\n            mender_boot_part="${mender_rootfsb_part}"\n'
               '        else\n            mender_boot_part="${mender_rootfsa_part}"\n        fi\n        upgrade_available=0\n        bootcount=0\n'
               '    else\n        bootcount=1\n    fi\n    mender_save_env\nfi\n'
               'if test -e (${mender_grub_storage_device},gpt${mender_boot_part})/; then\n    root="${mender_grub_storage_device},gpt${mender_boot_part}"\n'
               'else\n    root="${mender_grub_storage_device},msdos${mender_boot_part}"\nfi\n'
               'if linux "/boot/${kernel_imagetype}" root="${mender_kernel_root_base}${mender_boot_part}" ro; then\n    boot\nfi\n')
        c = Case(name).os("debian", "12").efi().put(f"boot/vmlinuz-{DN}").link("boot/vmlinuz", f"vmlinuz-{DN}").put(f"lib/modules/{DN}/modules.order")
        c.put("proc/mounts", "/dev/sda2 / ext4 rw 0 0\n/dev/sda1 /boot/efi vfat rw 0 0\n").put("boot/efi/EFI/BOOT/grub.cfg", cfg)
        return c.env(f"bootcount=0\nmender_boot_part={part}\nupgrade_available={upgrade}\n", "boot/efi/EFI/BOOT/mender_grubenv1/env")
    mender("mender-partition-that-is-seen", 2, 0).expect("grub2", (NEXT, DN, "/boot/efi/EFI/BOOT/grub.cfg"))
    mender("mender-update-on-another-partition", 3, 1).expect(
        "grub2", (BACK, DN, "/boot/efi/EFI/BOOT/grub.cfg"), certain=False, problems=["partition"], hold=refused(DN, "no boot entry"))


YN = "5.15.124-yocto-standard"


def field_cases():
    el_cases(); cloud_cases(); old_cases(); other_loaders()
