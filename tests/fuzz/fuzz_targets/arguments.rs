//! A command line, a line each.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vfguard::driver::fuzz::arguments(bytes));
