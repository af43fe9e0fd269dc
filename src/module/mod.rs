//! A module file and whether it will load in a kernel: [`Module`] is what the file says of itself, [`Target`] what is known
//! about the kernel, [`verify()`] compares the two; [`placement`] is what modprobe would make of it.
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

/// Where the settings of modprobe and depmod are.
pub struct Settings {
    /// Of which the `*.conf` files count.
    pub directories: Vec<&'static str>,
    /// Single files of old systems.
    pub files: Vec<&'static str>,
}

/// Where the settings that decide which file is loaded are.
pub fn settings() -> Settings {
    Settings {
        directories: modprobe::DIRECTORIES.into_iter().chain(depmod::DIRECTORIES).collect(),
        files: vec![modprobe::OLD, depmod::OLD],
    }
}

/// A module's name as the kernel writes it: without `.ko` and compression, `-` as `_`.
pub fn name_of(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    base.split(".ko").next().unwrap_or(base).replace('-', "_")
}
