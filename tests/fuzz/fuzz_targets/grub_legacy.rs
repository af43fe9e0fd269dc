//! GRUB 0.97's menu.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vfguard::boot::fuzz::run("grub_legacy", bytes));
