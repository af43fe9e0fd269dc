//! A Boot Loader Specification entry, as GRUB reads it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vfguard::boot::fuzz::run("bls_entry", bytes));
