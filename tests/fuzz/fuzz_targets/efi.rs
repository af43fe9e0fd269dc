//! The firmware's lists of certificates.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vfguard::module::fuzz::efi(bytes));
