//! The commands that decide which kernel boots (GRUB's `grub-core/commands/`), and those that do not matter for it.

use super::eval::{Loaded, Machine, Stop};
use super::menu::{strtoul, Body, Entry};
use super::parser::Block;
use crate::boot::grubenv;
use crate::host::files;
use std::path::PathBuf;

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
/// Commands whose result only the machine at boot knows, and what is assumed.
const ASSUMED: &[(&str, i32)] = &[("hwmatch", 1), ("keystatus", 1), ("cpuid", 1), ("sleep", 0), ("fwsetup", 0)];
/// An environment file is read up to this size; GRUB would read any.
const MAX_ENV: u64 = grubenv::MAX;

impl Machine<'_> {
    /// Runs a command that GRUB has built in or in a module; none if it has none of that name.
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
            "[" | "test" => i32::from(!super::test::test(self, args)),
            "false" => 1,
            "load_env" => self.load_env(args),
            "save_env" => self.save_env(args),
            "increment" => self.count(first, 1),
            "decrement" => self.count(first, -1),
            "menuentry" => self.menuentry(args, block, false),
            "submenu" => self.menuentry(args, block, true),
            "blscfg" | "bls_import" => self.blscfg(first),
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
                if self.path.is_empty() && self.loaded.as_ref().is_some_and(|l| l.image.is_some()) {
                    return Some(Err(self.boot_bare()));
                }
                return Some(Err(Stop::Return(0)));
            }
            "chainloader" | "ntldr" | "freedos" | "appleloader" | "uki" | "blsuki" => self.chain(name, args),
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

    /// GRUB prints an error and goes on as if all were well.
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

    /// `increment`, `decrement` (Red Hat's `commands/increment.c`): nothing happens to what is no number.
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

    /// The file of `load_env` and `save_env`, with the names after the options.
    fn env_args(&mut self, args: &[String]) -> (String, Vec<String>) {
        let mut file = None;
        let mut names = Vec::new();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            if arg == "-f" || arg == "--file" {
                file = args.next().cloned();
            } else if let Some(path) = arg.strip_prefix("--file=").or_else(|| arg.strip_prefix("-f")) {
                file = Some(path.to_owned());
            } else if arg != "-s" && arg != "--skip-sig" {
                names.push(arg.clone());
            }
        }
        let default = || format!("{}/grubenv", self.get("prefix").unwrap_or_default());
        (file.unwrap_or_else(default), names)
    }

    fn env_path(&mut self, spec: &str) -> Option<PathBuf> {
        // The external block of newer rhboot GRUBs is a list of disk blocks ("512+1"), not a file.
        let blocks = super::super::image::strip_device(spec);
        if !blocks.starts_with('/') {
            self.doubt(
                format!("the environment lies outside the file system ({spec}) and cannot be read from here"),
                "grub2-editenv - list shows it; vfguard cannot hold the default on this machine",
            );
            return None;
        }
        self.locate(spec)
    }

    fn load_env(&mut self, args: &[String]) -> i32 {
        let (spec, names) = self.env_args(args);
        let Some(path) = self.env_path(&spec) else { return 1 };
        // Both names of a linked file are one file.
        let path = self.world.host.name(&self.real(&path));
        if !self.state.env.contains_key(&path) {
            let variables = self.read_env(&path);
            self.state.env.insert(path.clone(), variables);
        }
        let variables = self.state.env.get(&path).cloned().unwrap_or_default();
        for (name, value) in variables {
            if names.is_empty() || names.contains(&name) {
                self.set(&name, value);
            }
        }
        self.state.env_file.get_or_insert(path);
        0
    }

    fn real(&self, path: &std::path::Path) -> PathBuf {
        let real = self.world.host.path(path);
        if self.world.host.is_live() {
            real.canonicalize().unwrap_or(real)
        } else {
            real
        }
    }

    fn read_env(&mut self, path: &std::path::Path) -> Vec<(String, String)> {
        let name = path.display().to_string();
        let remedy = format!("rm {name} && grub2-editenv {name} create");
        let block = match files::read_bounded(&self.world.host.path(path), MAX_ENV) {
            Ok(block) => block,
            Err(e) => {
                self.doubt(format!("reading {name}: {e}"), remedy);
                return Vec::new();
            }
        };
        match grubenv::variables(&block) {
            Ok((variables, whole)) => {
                if block.len() != grubenv::SIZE {
                    self.doubt(format!("{name} is {} bytes long and not {}", block.len(), grubenv::SIZE), remedy);
                } else if !whole {
                    self.doubt(format!("{name} holds a line that does not end"), remedy);
                }
                variables
            }
            Err(bad) => {
                self.doubt(format!("{name} is no GRUB environment block: {bad}"), remedy);
                Vec::new()
            }
        }
    }

    fn save_env(&mut self, args: &[String]) -> i32 {
        let (spec, names) = self.env_args(args);
        let Some(path) = self.env_path(&spec) else { return 1 };
        let path = self.world.host.name(&self.real(&path));
        if !self.world.writable {
            return 1;
        }
        if !self.state.env.contains_key(&path) {
            let variables = self.read_env(&path);
            self.state.env.insert(path.clone(), variables);
        }
        for name in names {
            let value = self.get(&name).map(str::to_owned);
            if let Some(variables) = self.state.env.get_mut(&path) {
                variables.retain(|(n, _)| *n != name);
                variables.extend(value.map(|v| (name, v)));
            }
        }
        0
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
        let entry = Entry {
            id: id.unwrap_or_else(|| title.clone()),
            title,
            submenu,
            restricted: users.is_some() || !free,
            bls: false,
            args: plain,
            body,
        };
        if let Some(menu) = self.menus.last_mut() {
            menu.push(entry);
        }
        0
    }

    fn source(&mut self, spec: Option<&str>) -> Result<i32, Stop> {
        let Some(path) = spec.and_then(|s| self.locate(s)) else { return Ok(0) };
        self.nested(|machine| machine.run_file(&path))
    }

    /// A context and a menu of its own, which GRUB enters at once unless it is empty.
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

    /// Files that name each other in a circle end as commands that call each other do.
    fn nested(&mut self, run: impl FnOnce(&mut Self) -> Result<i32, Stop>) -> Result<i32, Stop> {
        match run(self) {
            Err(Stop::Return(status)) => Ok(status),
            other => other,
        }
    }

    fn linux(&mut self, args: &[String]) -> i32 {
        let Some((file, arguments)) = args.split_first() else { return 1 };
        let missing = self.locate(file).is_none().then(|| file.clone());
        let status = i32::from(missing.is_some());
        self.loaded = Some(Loaded { image: Some(file.clone()), missing, cmdline: arguments.join(" "), ..Loaded::default() });
        status
    }

    fn initrd(&mut self, args: &[String]) -> i32 {
        let mut status = 0;
        for arg in args {
            // `newc:name:file` puts a file into a ramdisk of its own (GRUB's loader/linux.c).
            let file = arg.strip_prefix("newc:").and_then(|r| r.split_once(':')).map_or(arg.as_str(), |(_, f)| f);
            if self.locate(file).is_none() {
                self.note(
                    format!("the initial ramdisk {file} is not there"),
                    "dracut -f (update-initramfs -c) for that kernel",
                );
                status = 1;
            }
            if let Some(loaded) = &mut self.loaded {
                loaded.initrds.push(file.to_owned());
            }
        }
        status
    }

    fn hypervisor(&mut self, args: &[String]) -> i32 {
        let file = args.iter().find(|a| !a.starts_with("--"));
        let missing = file.filter(|f| self.locate(f).is_none()).cloned();
        let status = i32::from(missing.is_some());
        self.loaded = Some(Loaded { multiboot: true, missing, ..Loaded::default() });
        status
    }

    fn module(&mut self, name: &str, args: &[String]) -> i32 {
        let mut args = args.iter().skip_while(|a| a.starts_with("--"));
        let Some(file) = args.next().cloned() else { return 1 };
        let there = self.locate(&file).is_some();
        let Some(loaded) = self.loaded.as_mut().filter(|l| l.multiboot) else { return 1 };
        if loaded.image.is_none() && name != "xen_initrd" {
            loaded.image = Some(file.clone());
            loaded.cmdline = args.cloned().collect::<Vec<_>>().join(" ");
            if !there {
                loaded.missing.get_or_insert(file);
            }
        } else {
            loaded.initrds.push(file);
        }
        i32::from(!there)
    }

    fn chain(&mut self, name: &str, args: &[String]) -> i32 {
        if self.path.is_empty() && matches!(name, "uki" | "blsuki") {
            let images = self.world.host.read_dir("/boot/efi/EFI/Linux").unwrap_or_default();
            if images.iter().any(|n| n.to_string_lossy().to_ascii_lowercase().ends_with(".efi")) {
                self.doubt(
                    format!("{name} adds unified kernel images to the menu, which are not read"),
                    "remove /boot/efi/EFI/Linux/*.efi",
                );
            }
            return 0;
        }
        self.doubt(
            format!("{name} {} starts something other than a kernel by itself", args.join(" ")),
            "make an entry that starts Linux itself the default",
        );
        0
    }

    fn boot_bare(&mut self) -> Stop {
        let loaded = self.loaded.take().unwrap_or_default();
        Stop::Booted(Box::new(super::Choice {
            entry: self.file.display().to_string(),
            why: format!("{} boots it without a menu", self.file.display()),
            failed: loaded.missing.map(|m| format!("{m} is not there")),
            image: loaded.image,
            cmdline: loaded.cmdline,
            initrds: loaded.initrds,
            ..super::Choice::default()
        }))
    }

    fn leave(&mut self, name: &str) -> Stop {
        if self.path.is_empty() {
            return Stop::Dead(format!("{}:{}: {name} leaves the boot loader", self.file.display(), self.line));
        }
        self.doubt(format!("the entry that would start ends in {name}"), "make an entry that starts Linux the default");
        Stop::Return(0)
    }

    /// `search --set=root …` and its older spellings: the device is taken to be there, unless a file is looked for.
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
                // The name of the variable may be left out.
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
            // `search --set root UUID`, which old files have.
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

    /// Commands that look at the machine and leave what they saw in a variable.
    fn guess(&mut self, name: &str, args: &[String]) -> i32 {
        self.doubt(
            format!("{name} {} asks the machine something that only it knows at boot", args.join(" ")),
            "remove that line, or set boot.loader = \"none\" to have every installed kernel judged",
        );
        1
    }
}
