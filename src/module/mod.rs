//! A module file and whether it will load in a kernel: [`Module`] is the content of the file, [`Target`] the known facts about the kernel,
//! [`verify()`] compares the two, and [`placement`] checks what modprobe would do with the file.
//!
//! Where the verifier cannot know, it is stricter than the kernel, never laxer.

mod file;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod initramfs;
mod names;
pub mod placement;
mod target;
mod verify;

pub use crate::glob::fits;
pub use file::signature::Signature;
pub use file::{Import, Module, Offer};
pub use initramfs::{initramfs_carries, initramfs_driver, initramfs_files, initramfs_repack, initramfs_whole};
pub use names::interface_findings;
pub use placement::{check_placement, initramfs_findings, on_disk};
pub use target::index::{Index, Provider};
pub use target::{Target, Targets};
pub use verify::verify;

use target::{depmod, modprobe};

/// The places of the settings of modprobe and depmod.
pub struct Settings {
    /// Directories whose `*.conf` files count.
    pub directories: Vec<&'static str>,
    /// Single files of old systems.
    pub files: Vec<&'static str>,
}

/// The places of the settings that decide which file is loaded.
pub fn settings() -> Settings {
    Settings {
        directories: modprobe::DIRECTORIES.into_iter().chain(depmod::DIRECTORIES).collect(),
        files: vec![modprobe::OLD, depmod::OLD],
    }
}

/// A module's name as the kernel writes it: without `.ko` and the compression's suffix, and with `_` for `-`.
pub fn name_of(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    base.split(".ko").next().unwrap_or(base).replace('-', "_")
}
