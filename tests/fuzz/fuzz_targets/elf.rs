//! A module file, packed or not.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vfguard::module::fuzz::elf(bytes));
