//! Commands that load a kernel or leave for something else (GRUB's `grub-core/loader/`).

use crate::boot::grub2::script::eval::{Loaded, Machine, Stop};
use crate::boot::grub2::script::Choice;

impl Machine<'_> {
    pub(in crate::boot::grub2::script) fn linux(&mut self, args: &[String]) -> i32 {
        let Some((file, arguments)) = args.split_first() else { return 1 };
        if let Some(device) = self.elsewhere(file) {
            self.doubt(
                format!("{file} is loaded from {device}, which is no partition that this system is on, so which kernel that is cannot be told"),
                "vfguard check KERNEL on the system that lies there",
            );
            self.loaded = Some(Loaded { elsewhere: true, cmdline: arguments.join(" "), ..Loaded::default() });
            return 0;
        }
        let missing = self.locate(file).is_none().then(|| file.clone());
        let status = i32::from(missing.is_some());
        let named = file.strip_prefix('(').and_then(|rest| rest.split_once(')')).map(|(device, _)| device);
        let device = named.or_else(|| self.get("root")).unwrap_or_default().to_owned();
        let cmdline = arguments.join(" ");
        self.spend(cmdline.len());
        self.loaded = Some(Loaded { image: Some(file.clone()), device, missing, cmdline, ..Loaded::default() });
        status
    }

    pub(in crate::boot::grub2::script) fn initrd(&mut self, args: &[String]) -> i32 {
        let mut status = 0;
        for arg in args {
            // `newc:name:file` adds a file to a ramdisk as `name` (GRUB's loader/linux.c).
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

    pub(in crate::boot::grub2::script) fn hypervisor(&mut self, args: &[String]) -> i32 {
        let file = args.iter().find(|a| !a.starts_with("--"));
        let missing = file.filter(|f| self.locate(f).is_none()).cloned();
        let status = i32::from(missing.is_some());
        self.loaded = Some(Loaded { multiboot: true, missing, ..Loaded::default() });
        status
    }

    pub(in crate::boot::grub2::script) fn module(&mut self, name: &str, args: &[String]) -> i32 {
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

    pub(in crate::boot::grub2::script) fn chain(&mut self, name: &str, args: &[String]) -> i32 {
        self.doubt(
            format!("{name} {} starts something other than a kernel by itself", args.join(" ")),
            "make an entry that starts Linux itself the default",
        );
        0
    }

    pub(in crate::boot::grub2::script) fn boot_bare(&mut self) -> Stop {
        let loaded = self.loaded.take().unwrap_or_default();
        Stop::Booted(Box::new(Choice {
            entry: self.file.display().to_string(),
            why: format!("{} boots it without a menu", self.file.display()),
            failed: loaded.missing.map(|m| format!("{m} is not there")),
            image: loaded.image,
            device: loaded.device,
            cmdline: loaded.cmdline,
            initrds: loaded.initrds,
            ..Choice::default()
        }))
    }

    pub(in crate::boot::grub2::script) fn leave(&mut self, name: &str) -> Stop {
        if self.path.is_empty() {
            return Stop::Dead(format!("{}:{}: {name} leaves the boot loader", self.file.display(), self.line));
        }
        self.doubt(format!("the entry that would start ends in {name}"), "make an entry that starts Linux the default");
        Stop::Return(0)
    }
}
