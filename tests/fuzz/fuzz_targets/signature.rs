//! The signature trailer and its PKCS#7.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vfguard::module::fuzz::signature(bytes));
