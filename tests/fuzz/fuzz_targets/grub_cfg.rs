//! GRUB 2's configuration.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vfguard::boot::fuzz::run("grub_cfg", bytes));
