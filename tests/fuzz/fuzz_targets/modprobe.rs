//! modprobe.d and the kernel command line.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vfguard::module::fuzz::modprobe(bytes));
