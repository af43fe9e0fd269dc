//! systemd-boot's settings.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vfguard::boot::fuzz::run("loader_conf", bytes));
