//! An EFI variable of the boot loader.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| vfguard::boot::fuzz::run("efi_variable", bytes));
