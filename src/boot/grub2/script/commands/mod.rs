//! The commands that affect which kernel boots (GRUB's `grub-core/commands/`), and those that do not.

pub(super) mod device;
pub(super) mod load;
pub(super) mod test;

use super::eval::{Machine, Stop};
use super::matching::strtoul;
use super::menu::{Body, MenuEntry};
use super::syntax::parser::Block;
use crate::boot::grub2::ITEM;

/// Commands that change nothing that decides a boot.
const HARMLESS: &[&str] = &[
    "insmod",
    "rmmod",
    "echo",
    "clear",
    "cls",
    "terminal_input",
    "terminal_output",
    "terminal",
    "terminfo",
    "serial",
    "loadfont",
    "background_image",
    "background_color",
    "play",
    "badram",
    "cutmem",
    "videoinfo",
    "vbeinfo",
    "password",
    "password_pbkdf2",
    "authenticate",
    "bli",
    "lsmod",
    "list_env",
    "hexdump",
    "outb",
    "outw",
    "outl",
    "loadkeys",
    "keymap",
    "setkey",
    "at_keyboard",
    "usb_keyboard",
    "devicetree",
    "fdtdump",
    "acpi",
    "loopback",
    "cryptomount",
    "zfskey",
    "drivemap",
    "parttool",
    "gptsync",
    "verify_detached",
    "trust",
    "distrust",
    "tpm",
    "measure",
    "rdmsr",
    "wrmsr",
    "net_add_addr",
    "net_dhcp",
    "net_bootp",
    "ls",
    "cat",
    "date",
    "read",
    "cbls",
    "gettext",
    "nativedisk",
    "true",
    ":",
    "lsefi",
    "lsefisystab",
    "lsefimmap",
    "mouse",
    "sendkey",
    "hashsum",
    "md5sum",
    "sha256sum",
    "blocklist",
];
/// Commands whose result depends on the machine during boot, and the result that is assumed.
const ASSUMED: &[(&str, i32)] = &[("hwmatch", 1), ("keystatus", 1), ("cpuid", 1), ("sleep", 0), ("fwsetup", 0)];

impl Machine<'_> {
    /// Runs a command that GRUB has built in or in a module; none if there is no such command.
    pub(super) fn builtin(&mut self, name: &str, args: &[String], block: Option<&Block>) -> Option<Result<i32, Stop>> {
        let first = args.first().map(String::as_str);
        let status = match name {
            "set" => self.cmd_set(first),
            "unset" => {
                args.iter().for_each(|a| self.unset(a));
                0
            }
            "export" => {
                args.iter().for_each(|a| self.export(a));
                0
            }
            "[" | "test" => i32::from(!self::test::test(self, args)),
            "false" => 1,
            "load_env" => self.load_env(args),
            "save_env" => self.save_env(args),
            "increment" => self.count(first, 1),
            "decrement" => self.count(first, -1),
            "menuentry" => self.menuentry(args, block, false),
            "submenu" => self.menuentry(args, block, true),
            "blscfg" | "bls_import" => self.blscfg(args),
            "source" | "." => return Some(self.source(first)),
            "configfile" | "normal" => return Some(self.configfile(first)),
            "return" => return Some(Err(Stop::Return(first.map_or(0, |n| strtoul(n).value as i32)))),
            "break" => return Some(Err(Stop::Break(first.map_or(1, |n| strtoul(n).value as u32)))),
            "continue" => return Some(Err(Stop::Continue(first.map_or(1, |n| strtoul(n).value as u32)))),
            "setparams" => {
                if let Some(scope) = self.scopes.last_mut() {
                    *scope = args.to_vec();
                }
                0
            }
            "shift" => {
                let n = first.map_or(1, |n| strtoul(n).value as usize);
                if let Some(scope) = self.scopes.last_mut() {
                    scope.drain(..n.min(scope.len()));
                }
                0
            }
            "eval" => {
                self.doubt("eval", "write the command itself");
                0
            }
            "linux" | "linux16" | "linuxefi" | "linux32" | "linuxxen" => self.linux(args),
            "initrd" | "initrd16" | "initrdefi" => self.initrd(args),
            "multiboot" | "multiboot2" | "xen_hypervisor" => self.hypervisor(args),
            "module" | "module2" | "xen_module" | "xen_linux" | "xen_initrd" => self.module(name, args),
            "boot" => {
                if self.path.is_empty() && self.loaded.as_ref().is_some_and(|l| l.image.is_some() || l.elsewhere) {
                    return Some(Err(self.boot_bare()));
                }
                return Some(Err(Stop::Return(0)));
            }
            "uki" => self.uki(args),
            "chainloader" | "ntldr" | "freedos" | "appleloader" => self.chain(name, args),
            "halt" | "reboot" | "exit" | "normal_exit" | "poweroff" => return Some(Err(self.leave(name))),
            _ if name.starts_with("search") => self.search(name, args),
            "probe" | "regexp" | "smbios" | "getenv" | "cmosdump" | "file" | "setpci" | "lspci" => self.guess(name, args),
            "cmostest" => {
                self.doubt(
                    "a button of the machine decides (cmostest)",
                    "unset GRUB_BUTTON_CMOS_ADDRESS in /etc/default/grub",
                );
                1
            }
            "cmosclean" | "cmosset" => 0,
            "legacy_configfile"
            | "extract_entries_source"
            | "extract_entries_configfile"
            | "legacy_source"
            | "syslinux_configfile" => {
                self.doubt(format!("{name} reads another kind of configuration"), "write the entries into grub.cfg");
                0
            }
            _ if HARMLESS.contains(&name) => 0,
            _ => ASSUMED.iter().find(|(n, _)| *n == name)?.1,
        };
        Some(Ok(status))
    }

    /// An unknown command: GRUB prints an error and continues with success.
    pub(super) fn unknown(&mut self, name: &str) {
        self.doubt(
            format!("the command {name:?} is not understood"),
            format!("remove {name:?}, or tell vfguard's authors about it"),
        );
    }

    fn cmd_set(&mut self, word: Option<&str>) -> i32 {
        match word.map(|w| w.split_once('=')) {
            None => 0,
            Some(None) => 1,
            Some(Some((name, value))) => {
                self.set(name, value.to_owned());
                0
            }
        }
    }

    /// `increment`, `decrement` (Red Hat's `commands/increment.c`): a value that is not a number stays unchanged.
    fn count(&mut self, name: Option<&str>, by: i64) -> i32 {
        let Some(name) = name else { return 1 };
        let number = match self.get(name) {
            Some(text) => text.trim().parse::<i64>().ok(),
            None => None,
        };
        match number {
            Some(n) => {
                self.set(name, n.saturating_add(by).to_string());
                0
            }
            None => 1,
        }
    }

    fn menuentry(&mut self, args: &[String], block: Option<&Block>, submenu: bool) -> i32 {
        let mut plain: Vec<String> = Vec::new();
        let (mut id, mut source, mut users, mut free) = (None, None, None, false);
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let (option, joined) = match arg.split_once('=') {
                Some((o, v)) if o.starts_with("--") => (o, Some(v.to_owned())),
                _ => (arg.as_str(), None),
            };
            let mut take = || joined.clone().or_else(|| rest.next().cloned());
            match option {
                "--class" | "--hotkey" => {
                    take();
                }
                "--id" => id = take(),
                "--users" => users = take(),
                "--source" => source = take(),
                "--unrestricted" => free = true,
                _ => plain.push(arg.clone()),
            }
        }
        let Some(title) = plain.first().cloned() else { return 1 };
        let body = match (block, source) {
            (Some(block), None) => Body::Block(block.clone()),
            (None, Some(source)) => Body::Source(source),
            _ => return 1,
        };
        let entry = MenuEntry {
            id: id.unwrap_or_else(|| title.clone()),
            title,
            submenu,
            restricted: users.is_some() || !free,
            bls: false,
            counted: None,
            args: plain,
            body,
        };
        self.spend(2 * (entry.title.len() + entry.id.len()) + 4 * ITEM);
        if let Some(menu) = self.menus.last_mut() {
            menu.push(entry);
        }
        0
    }

    fn source(&mut self, spec: Option<&str>) -> Result<i32, Stop> {
        let Some(path) = spec.and_then(|s| self.locate(s)) else { return Ok(0) };
        self.nested(|machine| machine.run_file(&path))
    }

    /// `configfile` has its own context and menu, which GRUB enters at once unless it is empty.
    fn configfile(&mut self, spec: Option<&str>) -> Result<i32, Stop> {
        let Some(path) = spec.and_then(|s| self.locate(s)) else {
            self.doubt(
                format!("configfile {:?}: no such file here", spec.unwrap_or_default()),
                "write the boot loader's configuration anew (grub2-mkconfig, update-grub)",
            );
            return Ok(0);
        };
        self.open_context();
        self.menus.push(Vec::new());
        let result = self.nested(|machine| machine.run_file(&path));
        let menu = self.menus.pop().unwrap_or_default();
        result?;
        if !menu.is_empty() {
            self.file = path;
            return Err(self.start(menu));
        }
        self.close_context();
        Ok(0)
    }

    /// Files that include each other in a cycle end like commands that call each other.
    fn nested(&mut self, run: impl FnOnce(&mut Self) -> Result<i32, Stop>) -> Result<i32, Stop> {
        match run(self) {
            Err(Stop::Return(status)) => Ok(status),
            other => other,
        }
    }

    /// `search --set=root …` and its older spellings: the device is assumed to exist, unless the search is for a file.
    fn search(&mut self, name: &str, args: &[String]) -> i32 {
        let mut variable = "root".to_owned();
        let mut set = name != "search";
        let mut by_file = name == "search.file";
        let mut plain = Vec::new();
        let mut rest = args.iter().peekable();
        while let Some(arg) = rest.next() {
            if let Some(v) = arg.strip_prefix("--set=") {
                (variable, set) = (v.to_owned(), true);
            } else if arg == "--set" || arg == "-s" {
                // The name of the variable is optional.
                set = true;
            } else if matches!(arg.as_str(), "--file" | "-f") {
                by_file = true;
            } else if arg == "--hint" || arg == "-h" {
                rest.next();
            } else if !arg.starts_with('-') {
                plain.push(arg.clone());
            }
        }
        let Some(what) = plain.first().cloned() else { return 1 };
        if name != "search" {
            variable = plain.get(1).cloned().unwrap_or(variable);
        } else if plain.len() > 1 && args.iter().any(|a| a == "--set") {
            // `search --set root UUID`, as in old files.
            let at = args.iter().position(|a| a == "--set");
            if at.and_then(|i| args.get(i + 1)) == Some(&what) {
                variable = what.clone();
            }
        }
        if by_file && self.locate(&what).is_none() {
            return 1;
        }
        if set {
            let device = if by_file { "found".to_owned() } else { format!("found-{}", plain.last().unwrap_or(&what)) };
            self.set(&variable, device.replace(['(', ')', ' ', '\''], "_"));
        }
        0
    }

    /// Commands that examine the machine and store the result in a variable.
    fn guess(&mut self, name: &str, args: &[String]) -> i32 {
        self.doubt(
            format!("{name} {} asks the machine something that only it knows at boot", args.join(" ")),
            "remove that line, or set boot.loader = \"none\" to have every installed kernel judged",
        );
        1
    }
}
