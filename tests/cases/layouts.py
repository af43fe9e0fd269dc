"""The machines of tests/cases/next-boot: what a case is made of, and the configurations that grub-mkconfig, grubby, kernel-install and
bootctl write (util/grub.d of the distributions)."""
import json, os

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "next-boot")
NEW = HERE + ".new"
MID = "0c3cc8ac60cb4cd4a9e2ca0a2e7d3d29"
OLD_MID = "97e1b2a8d2c24e0f93d4a1b5c6d7e8f9"
UUID = "6f1b7c34-1f5c-4b1a-9d52-6f3b1f0f2a11"
SIG = "# GRUB Environment Block\n"


class Case:
    def __init__(self, name):
        self.dir = os.path.join(NEW, name)
        if os.path.exists(self.dir):
            raise SystemExit(f"{name}: another case has this name")
        if len(name) > 60:
            raise SystemExit(f"{name}: {len(name)} characters; a name has at most 60")
        self.put("etc/hostname", "case\n")

    def path(self, path):
        full = os.path.join(self.dir, "in", path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        return full

    def put(self, path, data=""):
        with open(self.path(path), "wb") as f:
            f.write(data if isinstance(data, bytes) else data.encode())
        return self

    def link(self, path, target):
        os.symlink(target, self.path(path))
        return self

    def kernels(self, *names, initrd="initramfs-%s.img", boot="boot"):
        for k in names:
            self.put(f"{boot}/vmlinuz-{k}").put(f"{boot}/{initrd % k}")
            self.put(f"lib/modules/{k}/modules.order")
        return self

    def env(self, text="", path="boot/grub2/grubenv", size=1024):
        data = (SIG + text).encode()
        return self.put(path, data + b"#" * (size - len(data)))

    def efi(self):
        return self.put("sys/firmware/efi/fw_platform_size", "64\n")

    def os(self, id, version, like=""):
        text = f'NAME="{id}"\nID="{id}"\nVERSION_ID="{version}"\n' + (f'ID_LIKE="{like}"\n' if like else "")
        return self.put("etc/os-release", text)

    def bls(self, k, title=None, mid=MID, options="root=/dev/sda1 ro", version=None, extra="", linux=None, initrd=None, dir="boot/loader/entries"):
        name = f"{mid}-{k}"
        text = f"title {title or f'Linux ({k})'}\nversion {version or k}\nlinux {linux or '/boot/vmlinuz-' + k}\n"
        text += f"initrd {initrd or f'/boot/initramfs-{k}.img'}\noptions {options}\n{extra}grub_users $grub_users\ngrub_arg --unrestricted\ngrub_class kernel\n"
        return self.put(f"{dir}/{name}.conf", text)

    def variable(self, name, text, guid="4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"):
        data = text if isinstance(text, bytes) else text.encode("utf-16-le") + b"\0\0"
        return self.put(f"sys/firmware/efi/efivars/{name}-{guid}", b"\x07\0\0\0" + data)

    def expect(self, source, *kernels, certain=True, problems=(), because="", hold=None):
        """hold: the kernel to hold, the file that this writes, and the kernels that may start then; or a list of such, and of refused()."""
        value = {"certain": certain, "source": source,
                 "kernels": candidates(kernels)}
        if problems:
            value["problems"] = list(problems)
        if because:
            value["because"] = because
        if hold:
            value["hold"] = [h if isinstance(h, dict) else held(*h) for h in (hold if isinstance(hold, list) else [hold])]
        self.path("x")
        with open(os.path.join(self.dir, "expected.json"), "w") as f:
            json.dump(value, f, indent=1, ensure_ascii=False)
            f.write("\n")


def candidates(kernels):
    return [{"kernel": k, "role": r, "entry": e} for r, k, e in kernels]


def held(to, files, *then, ends=None, leaves=(), certain=True):
    """What a hold on this kernel writes, and what may start then. Known limits: what may start once it is promoted, if that is not what
    it was; files that are not as they were; a hold by which the answer gets uncertain."""
    value = {"to": to, "writes": [files] if isinstance(files, str) else files, "kernels": candidates(then)}
    if ends is not None:
        value["ends"] = candidates(ends)
    if leaves:
        value["leaves"] = list(leaves)
    return value if certain else value | {"certain": False}


def refused(to, *words):
    """A hold on this kernel is refused, with these words in the reason."""
    return {"to": to, "refused": list(words)}


# ---- the headers that grub-mkconfig writes -------------------------------------------------------------------------------

def header(default="${saved_entry}", el=7, env_block=False):
    """util/grub.d/00_header.in of rhel-7 (el=7) and of rhel-8 and later (el=8)."""
    load = "if [ -s $prefix/grubenv ]; then\n  load_env\nfi\n"
    if el >= 8:
        load = ("if [ -f ${config_directory}/grubenv ]; then\n  load_env -f ${config_directory}/grubenv\n"
                "elif [ -s $prefix/grubenv ]; then\n  load_env\nfi\n")
    if env_block:
        load += ('if [ "${env_block}" ] ; then\n  if [ "${dev}" ]; then\n    set env_block="(${dev})${env_block}"\n  else\n'
                 '    set env_block="(${root})${env_block}"\n  fi\n  export env_block\n  load_env -f "${env_block}"\nfi\n')
    return ("#\n# DO NOT EDIT THIS FILE\n#\n### BEGIN /etc/grub.d/00_header ###\nset pager=1\n\n" + load +
            'if [ "${next_entry}" ] ; then\n   set default="${next_entry}"\n   set next_entry=\n   save_env next_entry\n'
            f'   set boot_once=true\nelse\n   set default="{default}"\nfi\n\n'
            'if [ x"${feature_menuentry_id}" = xy ]; then\n  menuentry_id_option="--id"\nelse\n  menuentry_id_option=""\nfi\n\n'
            'export menuentry_id_option\n\n'
            'if [ "${prev_saved_entry}" ]; then\n  set saved_entry="${prev_saved_entry}"\n  save_env saved_entry\n'
            '  set prev_saved_entry=\n  save_env prev_saved_entry\n  set boot_once=true\nfi\n\n'
            'function savedefault {\n  if [ -z "${boot_once}" ]; then\n    saved_entry="${chosen}"\n    save_env saved_entry\n  fi\n}\n\n'
            'function load_video {\n  if [ x$feature_all_video_module = xy ]; then\n    insmod all_video\n  else\n    insmod efi_gop\n'
            '    insmod vga\n  fi\n}\n\nterminal_output console\nif [ x$feature_timeout_style = xy ] ; then\n'
            '  set timeout_style=menu\n  set timeout=5\nelse\n  set timeout=5\nfi\n### END /etc/grub.d/00_header ###\n\n')


COUNTING = ('insmod increment\n# Check if boot_counter exists and boot_success=0 to activate this behaviour.\n'
            'if [ -n "${boot_counter}" -a "${boot_success}" = "0" ]; then\n'
            '  # if countdown has ended, choose to boot rollback deployment\n'
            '  if  [ "${boot_counter}" = "0" -o "${boot_counter}" = "-1" ]; then\n    set default=1\n    set boot_counter=-1\n'
            '  else\n    decrement boot_counter\n  fi\n  save_env boot_counter\nfi\n')
RESET = ('if [ "${boot_success}" = "1" -o "${boot_indeterminate}" = "1" ]; then\n  set menu_hide_ok=1\nelse\n  set menu_hide_ok=0 \nfi\n'
         'if [ "${boot_success}" = "1" ] ; then\n  set boot_indeterminate=0\nelif [ "${boot_indeterminate}" = "1" ]; then\n'
         '  set boot_indeterminate=2\nfi\nset boot_success=0\nsave_env boot_success boot_indeterminate\n')
CUSTOM = ('if [ -f  ${config_directory}/custom.cfg ]; then\n  source ${config_directory}/custom.cfg\n'
          'elif [ -z "${config_directory}" -a -f  $prefix/custom.cfg ]; then\n  source $prefix/custom.cfg\nfi\n')
BLSCFG = ("insmod part_gpt\ninsmod xfs\nset root='hd0,gpt2'\nif [ x$feature_platform_search_hint = xy ]; then\n"
          f"  search --no-floppy --fs-uuid --set=root --hint-bios=hd0,gpt2 {UUID}\nelse\n"
          f"  search --no-floppy --fs-uuid --set=root {UUID}\nfi\n"
          'if [ -z "${kernelopts}" ]; then\n  set kernelopts="root=/dev/mapper/rl-root ro crashkernel=auto"\nfi\n\ninsmod blscfg\nblscfg\n')


def entry(title, k, id=None, dir="/boot", body="", args="root=/dev/sda1 ro", initrd="initramfs-%s.img", cmd="linux16", icmd="initrd16", indent=""):
    option = f" $menuentry_id_option '{id}'" if id else ""
    text = (f"menuentry '{title}' --class gnu-linux --class os --unrestricted{option} {{\n{body}\tload_video\n\tset gfxpayload=keep\n"
            f"\tinsmod gzio\n\tset root='hd0,msdos1'\n\tif [ x$feature_platform_search_hint = xy ]; then\n"
            f"\t  search --no-floppy --fs-uuid --set=root --hint='hd0,msdos1'  {UUID}\n\telse\n"
            f"\t  search --no-floppy --fs-uuid --set=root {UUID}\n\tfi\n\t{cmd} {dir}/vmlinuz-{k} {args}\n")
    if initrd:
        text += f"\t{icmd} {dir}/{initrd % k}\n"
    text += "}\n"
    return "".join(indent + l + "\n" for l in text.splitlines())


def el7(k):
    return f"CentOS Linux ({k}) 7 (Core)"


E6N, E6O = "2.6.32-754.35.1.el6.x86_64", "2.6.32-431.20.3.el6.x86_64"
E7N, E7O, E7X = "3.10.0-1160.119.1.el7.x86_64", "3.10.0-1127.19.1.el7.x86_64", "3.10.0-123.el7.x86_64"
E8N, E8O = "4.18.0-553.el8.x86_64", "4.18.0-80.el8.x86_64"
E9N, E9O = "5.14.0-503.11.1.el9_5.x86_64", "5.14.0-70.13.1.el9_0.x86_64"
A2N, A2O = "4.14.355-275.570.amzn2.x86_64", "4.14.336-253.554.amzn2.x86_64"
A3N, A3O = "6.1.115-126.197.amzn2023.x86_64", "6.1.79-99.164.amzn2023.x86_64"
FN, FO = "6.11.10-300.fc41.x86_64", "6.9.9-200.fc40.x86_64"
DN, DO = "6.1.0-28-amd64", "6.1.0-9-amd64"
NEXT, ONCE, BACK = "next", "once", "fallback"


def legacy_entry(k, title="CentOS (%s)", root="(hd0,0)", dir="/boot", extra=""):
    return f"title {title % k}\n\troot {root}\n\tkernel {dir}/vmlinuz-{k} ro root=LABEL=/ console=ttyS0\n\tinitrd {dir}/initramfs-{k}.img\n{extra}"


def legacy(name, head, *entries, kernels=(E6N, E6O), path="boot/grub/grub.conf"):
    c = Case(name).kernels(*kernels).put(path, "# grub.conf generated by anaconda\n" + head + "".join(entries))
    return c.link("boot/grub/menu.lst", "./grub.conf") if path == "boot/grub/grub.conf" else c


t6 = lambda k: f"CentOS ({k})"
BOTH6 = (legacy_entry(E6N), legacy_entry(E6O))


def c7(name, env=None, default="${saved_entry}", entries=None, os=("centos", "7", "rhel fedora"), tail="", head=None):
    entries = entries or [(E7N, f"gnulinux-{E7X}-advanced-{UUID}"), (E7O, f"gnulinux-{E7X}-advanced-{UUID}"), (E7X, f"gnulinux-{E7X}-advanced-{UUID}")]
    c = Case(name).kernels(*(k for k, _ in entries)).os(*os)
    c.put("boot/grub2/grub.cfg", (head or header(default)) + "".join(entry(el7(k), k, i) for k, i in entries) + tail)
    return c if env is None else c.env(env)


def c8(name, env="", kernels=(E8N, E8O), os=("rocky", "8.10", "rhel centos fedora"), extra=COUNTING + RESET, default="${saved_entry}", **bls):
    c = Case(name).os(*os).kernels(*kernels)
    for k in kernels:
        c.bls(k, **bls)
    c.put("boot/grub2/grub.cfg", header(default, el=8) + extra + BLSCFG + CUSTOM)
    return c if env is None else c.env(env)


def debian(name, default="0", env=None, id="debian", version="12", kernels=(DN, DO), dir="/boot", tail=""):
    os_name = {"debian": "Debian GNU/Linux", "ubuntu": "Ubuntu"}[id]
    kw = dict(cmd="linux", icmd="initrd", initrd="initrd.img-%s", dir=dir)
    cfg = header(default, el=7).replace("$prefix/grubenv ]; then\n  load_env", "$prefix/grubenv ]; then\n  set have_grubenv=true\n  load_env")
    cfg += entry(os_name, kernels[0], f"gnulinux-simple-{UUID}", **kw)
    cfg += f"submenu 'Advanced options for {os_name}' $menuentry_id_option 'gnulinux-advanced-{UUID}' {{\n"
    for k in kernels:
        cfg += entry(f"{os_name}, with Linux {k}", k, f"gnulinux-{k}-advanced-{UUID}", indent="\t", **kw)
        cfg += entry(f"{os_name}, with Linux {k} (recovery mode)", k, f"gnulinux-{k}-recovery-{UUID}", indent="\t", args="root=/dev/sda1 ro single", **kw)
    cfg += "}\n" + tail
    cfg += 'if [ "$grub_platform" = "efi" ]; then\n\tfwsetup --is-supported\n\tmenuentry \'UEFI Firmware Settings\' $menuentry_id_option \'uefi-firmware\' {\n\t\tfwsetup\n\t}\nfi\n'
    c = Case(name).os(id, version).kernels(*kernels, initrd="initrd.img-%s").put("boot/grub/grub.cfg", cfg + CUSTOM)
    return c if env is None else c.env(env, "boot/grub/grubenv")


def systemd(name, conf="timeout 3\n", kernels=(FN, FO), top="boot/efi", **kw):
    c = Case(name).efi().put(f"{top}/EFI/systemd/systemd-bootx64.efi").put(f"{top}/loader/loader.conf", conf)
    for k in kernels:
        c.put(f"{top}/{MID}/{k}/linux").put(f"{top}/{MID}/{k}/initrd").put(f"lib/modules/{k}/modules.order")
        sd(c, k, top=top, **kw)
    return c


def sd(c, k, suffix="", sort="sort-key fedora\n", top="boot/efi", mid=MID, name=None):
    return c.put(f"{top}/loader/entries/{name or f'{mid}-{k}'}{suffix}.conf", f"# Boot Loader Specification type#1 entry\ntitle      Fedora\nversion    {k}\nmachine-id {mid}\n{sort}options    root=UUID={UUID} rw\nlinux      /{mid}/{k}/linux\ninitrd     /{mid}/{k}/initrd\n")
