//! A unified kernel image.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vfguard::boot::fuzz::run("unified_image", bytes));
