//! The first byte chooses the parser; see src/module/fuzz.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vfguard::module::fuzz::parse(bytes));
