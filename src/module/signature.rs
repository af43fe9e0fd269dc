//! The signature trailer (`include/linux/module_signature.h`): ELF, signature, 12 bytes, then a magic line.

/// What ends a signed module.
const MAGIC: &[u8] = b"~Module signature appended~\n";
/// `struct module_signature`.
const TRAILER: usize = 12;

/// `PKEY_ID_PKCS7`: the signature is DER, whose first byte is that of a SEQUENCE. Older kernels have other types.
const PKCS7: u8 = 2;
const DER_SEQUENCE: u8 = 0x30;

/// The module without its signature, and whether it has one.
///
/// # Errors
/// A trailer that says nothing sensible: the kernel refuses such a file, whether it enforces signatures or not.
pub(super) fn split(bytes: &[u8]) -> Result<(&[u8], bool), &'static str> {
    let Some(rest) = bytes.strip_suffix(MAGIC) else { return Ok((bytes, false)) };
    let at = rest.len().checked_sub(TRAILER).ok_or("its trailer is cut off")?;
    let length = u32::from_be_bytes([rest[at + 8], rest[at + 9], rest[at + 10], rest[at + 11]]) as usize;
    let end = at.checked_sub(length).ok_or("it would be longer than the file")?;
    match rest.get(end..at) {
        None | Some([]) => Err("it is empty"),
        Some([first, ..]) if rest[at + 2] == PKCS7 && *first != DER_SEQUENCE => Err("it is not what its trailer says"),
        Some(_) => Ok((&bytes[..end], true)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(kind: u8, length: u32, signature: &[u8]) -> Vec<u8> {
        [b"module", signature, &[0, 0, kind, 0, 0, 0, 0, 0], &length.to_be_bytes(), MAGIC].concat()
    }

    #[test]
    fn a_signature_is_cut_off_and_a_damaged_one_is_an_error() {
        assert_eq!(split(b"module"), Ok((&b"module"[..], false)));
        assert_eq!(split(&file(2, 2, &[0x30, 0])), Ok((&b"module"[..], true)));
        assert_eq!(split(&file(1, 2, b"xx")), Ok((&b"module"[..], true)), "before 4.3 it was no DER");
        for damaged in [file(2, 0, b""), file(2, 2, b"xx"), file(2, u32::MAX, b""), MAGIC.to_vec()] {
            assert!(split(&damaged).is_err());
        }
    }
}
