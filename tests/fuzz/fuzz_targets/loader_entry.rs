//! An entry of systemd-boot.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vfguard::boot::fuzz::run("loader_entry", bytes));
