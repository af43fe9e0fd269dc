//! The judgement of modules and of the initramfs that carries them.

pub mod initramfs;
mod modules;
mod origin;
mod proven;
