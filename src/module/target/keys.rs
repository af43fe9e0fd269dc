//! The keys whose signatures K trusts: those in its image, and those of the firmware and of the machine's owner.

use crate::host::Host;
use crate::kernel::{image, KernelRelease};
use der::Decode;
use x509_cert::Certificate;

/// Where efivarfs is mounted.
pub(in crate::module) const EFIVARS: &str = "/sys/firmware/efi/efivars";
/// The keys of the machine's owner and of the firmware, as shim and the firmware export them (UEFI specification 32.4.1).
const LISTS: [&str; 2] = ["MokListRT-605dab50-e046-4300-abb6-3dd810dd8b23", "db-d719b2cb-3d3a-4596-a3bc-dad00e67656f"];
/// A variable starts with four bytes of attributes.
pub(in crate::module) const ATTRIBUTES: usize = 4;
/// `EFI_CERT_X509_GUID`.
const X509: [u8; 16] = [0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72];

/// The keys that K may trust.
pub(in crate::module) struct Keys {
    /// The keys in its image; none if it cannot be read.
    pub(in crate::module) image: Option<Vec<Certificate>>,
    /// The keys of the firmware and of the machine's owner.
    pub(in crate::module) machine: Vec<Certificate>,
}

impl Keys {
    /// Reads K's image and the firmware's lists.
    pub(in crate::module) fn load(host: &Host, release: &KernelRelease) -> Keys {
        let read = |der: &Vec<u8>| Certificate::from_der(der).ok();
        let image = image::certificates(host, release).map(|all| all.iter().filter_map(read).collect());
        let lists = LISTS.iter().filter_map(|name| host.read(format!("{EFIVARS}/{name}")).ok());
        let machine = lists.flat_map(|list| listed(list.get(ATTRIBUTES..).unwrap_or_default()));
        Keys { image, machine: machine.filter_map(|der| Certificate::from_der(&der).ok()).collect() }
    }
}

/// The certificates of an `EFI_SIGNATURE_LIST`: type, sizes of list, header and entry, then entries, each after its owner's GUID.
pub(in crate::module) fn listed(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    while let Some(head) = bytes.get(..28) {
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
        let (list, header, entry) = (word(16), word(20), word(24));
        let Some(entries) = bytes.get(28usize.saturating_add(header)..list).filter(|_| entry > 16) else { break };
        if head[..16] == X509 {
            found.extend(entries.chunks_exact(entry).map(|e| e[16..].to_vec()));
        }
        bytes = &bytes[list..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_certificates_is_not_read_past_its_end() {
        let mut list = X509.to_vec();
        for n in [28u32 + 20, 0, 20] {
            list.extend(n.to_le_bytes());
        }
        list.extend([9; 16]);
        list.extend(*b"cert");
        assert_eq!(listed(&list), [b"cert".to_vec()]);
        for at in 16..28 {
            let mut bad = list.clone();
            bad[at] = 0xff;
            listed(&bad);
        }
        for end in 0..list.len() {
            listed(&list[..end]);
        }
        list[16..20].fill(0);
        listed(&list);
    }
}
