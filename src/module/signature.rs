//! The signature trailer (`include/linux/module_signature.h`): ELF, signature, 12 bytes, then a magic line.

/// What ends a signed module.
const MAGIC: &[u8] = b"~Module signature appended~\n";
/// `struct module_signature`.
const TRAILER: usize = 12;

/// The module without its signature, and whether it has one. A trailer whose length does not fit is left in place: the
/// kernel refuses such a file, and so does the ELF reader or the signature check.
pub(super) fn split(bytes: &[u8]) -> (&[u8], bool) {
    let Some(rest) = bytes.strip_suffix(MAGIC) else { return (bytes, false) };
    let Some(at) = rest.len().checked_sub(TRAILER) else { return (bytes, true) };
    let length = u32::from_be_bytes([rest[at + 8], rest[at + 9], rest[at + 10], rest[at + 11]]) as usize;
    match at.checked_sub(length) {
        Some(end) => (&bytes[..end], true),
        None => (bytes, true),
    }
}
