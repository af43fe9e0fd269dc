//! A kernel image that is asked for its release.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vfguard::boot::fuzz::run("kernel_header", bytes));
