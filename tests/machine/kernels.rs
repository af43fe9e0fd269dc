//! Kernels that need no build: each has a built-in driver for [`NIC`], or none. And the acts of package managers and GRUB's own tools with
//! them.

use super::{Machine, MACHINE_ID};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

/// The card.
pub const NIC: &str = "pci:v00001D0Fd0000EC20sv00001D0Fsd0000EC20bc02sc00i00";
/// Its address.
pub const ADDRESS: &str = "0000:00:05.0";
/// The content of `modules.builtin.modinfo` of a kernel that drives it.
pub const DRIVER: &str = "ena.alias=pci:v00001D0Fd0000EC20sv*sd*bc*sc*i*\0ena.file=drivers/net/ena\0";
/// GRUB's environment block.
pub const ENV: &str = "boot/grub2/grubenv";

impl Machine {
    /// Adds GRUB of EL 9, and the card with its driver.
    pub fn with_card(self) -> Machine {
        self.grub().file("etc/os-release", "ID=rhel\nVERSION_ID=9.4\nID_LIKE=fedora\n").device(ADDRESS, NIC, Some("ena"))
    }

    /// Replaces a file.
    pub fn put(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Makes a kernel drive the card, or not.
    pub fn drives(&self, kernel: &str, good: bool) {
        self.put(&format!("lib/modules/{kernel}/modules.builtin.modinfo"), if good { DRIVER } else { "" });
    }

    /// Adds the files of a kernel's package, and its boot entry.
    pub fn add_kernel(&self, kernel: &str, good: bool) {
        self.drives(kernel, good);
        for file in ["modules.alias", "modules.dep", "modules.builtin", "modules.order"] {
            self.put(&format!("lib/modules/{kernel}/{file}"), "");
        }
        self.put(&format!("boot/vmlinuz-{kernel}"), "an image");
        self.put(
            &format!("boot/loader/entries/{MACHINE_ID}-{kernel}.conf"),
            &format!("title Linux {kernel}\nversion {kernel}\nlinux /vmlinuz-{kernel}\noptions root=/dev/vda1 ro\n"),
        );
    }

    /// Removes them.
    pub fn remove_kernel(&self, kernel: &str) {
        fs::remove_file(self.path(&format!("boot/loader/entries/{MACHINE_ID}-{kernel}.conf"))).unwrap();
        fs::remove_file(self.path(&format!("boot/vmlinuz-{kernel}"))).unwrap();
        fs::remove_dir_all(self.path(&format!("lib/modules/{kernel}"))).unwrap();
    }

    /// The value of a variable in the environment block; for an entry, its kernel.
    pub fn env(&self, variable: &str) -> Option<String> {
        let block = fs::read_to_string(self.path(ENV)).ok()?;
        let value = block.lines().find_map(|l| l.strip_prefix(variable)?.strip_prefix('='))?;
        Some(value.strip_prefix(MACHINE_ID).and_then(|v| v.strip_prefix('-')).unwrap_or(value).to_owned())
    }

    /// The block with another value of a variable. The other variables do not change.
    fn edited(&self, variable: &str, value: Option<&str>) -> String {
        let old = fs::read_to_string(self.path(ENV)).unwrap_or_else(|_| "# GRUB Environment Block\n".into());
        let mut text: String = old
            .lines()
            .filter(|l| !l.starts_with("##") && !l.starts_with(&format!("{variable}=")))
            .map(|l| format!("{l}\n"))
            .collect();
        if let Some(value) = value {
            text += &format!("{variable}={value}\n");
        }
        text.extend(std::iter::repeat_n('#', 1024 - text.len()));
        text
    }

    /// Sets a variable to a kernel's entry, or removes it.
    pub fn set_env(&self, variable: &str, kernel: Option<&str>) {
        let entry = kernel.map(|kernel| format!("{MACHINE_ID}-{kernel}"));
        self.put(ENV, &self.edited(variable, entry.as_deref()));
    }

    /// Sets a variable as grub2-editenv does: it reads the block, truncates the file and writes it. `pauses` follow the first two steps.
    pub fn editenv(&self, variable: &str, value: Option<&str>, pauses: [Duration; 2]) {
        let text = self.edited(variable, value);
        sleep(pauses[0]);
        fs::write(self.path(ENV), "").unwrap();
        sleep(pauses[1]);
        fs::write(self.path(ENV), text).unwrap();
    }

    /// The card disappears, or comes back.
    pub fn plug(&self, there: bool) {
        let (slot, away) = (self.path(&format!("sys/bus/pci/devices/{ADDRESS}")), self.path("unplugged"));
        let (from, to) = if there { (away, slot) } else { (slot, away) };
        fs::rename(from, to).unwrap();
    }

    /// Temporary files that were left behind.
    pub fn temporaries(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        collect(self.root(), &mut found);
        found
    }
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            collect(&entry.path(), found);
        } else if entry.file_name().to_string_lossy().starts_with(".vfguard-") {
            found.push(entry.path());
        }
    }
}

/// xorshift64*: small, and the same everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % n
    }

    pub fn of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    /// A random duration below so many milliseconds.
    pub fn moment(&mut self, limit: u64) -> Duration {
        Duration::from_micros(self.below(limit * 1000))
    }
}
