//! The `.modinfo` section.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vfguard::module::fuzz::modinfo(bytes));
