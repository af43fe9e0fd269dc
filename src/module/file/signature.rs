//! The signature trailer: ELF, signature, `struct module_signature`, a magic line (`include/linux/module_signature.h`); and whether a
//! signature was made with a given certificate over the content (`scripts/sign-file.c`, RFC 5652).
//!
//! The kernel refuses a signature that does not match the content even if it does not enforce signatures. It refuses a signature by an
//! unknown key only if it enforces them.

use crate::finding::{Fact, Finding};
use cms::content_info::ContentInfo;
use cms::signed_data::{SignedData, SignerIdentifier, SignerInfo};
use der::asn1::ObjectIdentifier;
use der::{Decode, Encode};
use ring::signature as ring;
use serde::Serialize;
use x509_cert::Certificate;

/// The end of a signed module.
const MAGIC: &[u8] = b"~Module signature appended~\n";
/// `struct module_signature`.
const TRAILER: usize = 12;
/// `PKEY_ID_PKCS7`.
const PKCS7: u8 = 2;
/// Object identifiers: id-signedData, sha1, sha256, sha384, sha512, subjectKeyIdentifier, commonName, id-ecPublicKey.
const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
const KEY_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.14");
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const EC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// A signature as described by its trailer and its PKCS#7.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Signature {
    /// The issuer's common name, like modinfo's `signer`.
    pub signer: String,
    /// The key: the certificate's serial number or its subject key identifier, in hexadecimal.
    pub key: String,
    /// The digest algorithm, such as `sha256`.
    pub digest: String,
    /// Whether another signature precedes it; the kernel looks only at the last one.
    pub signed_twice: bool,
    #[serde(skip)]
    info: Option<Box<SignerInfo>>,
}

/// Splits a module into content and signature.
///
/// # Errors
/// `signature-invalid`: a trailer or a PKCS#7 that the kernel refuses even if it does not enforce signatures.
pub(in crate::module) fn split(bytes: &[u8]) -> Result<(&[u8], Option<Signature>), Finding> {
    let Some(rest) = bytes.strip_suffix(MAGIC) else { return Ok((bytes, None)) };
    let Some((body, trailer)) = rest.split_last_chunk::<TRAILER>() else { return Err(invalid("its trailer is cut off")) };
    let length = u32::from_be_bytes([trailer[8], trailer[9], trailer[10], trailer[11]]) as usize;
    let Some(end) = body.len().checked_sub(length).filter(|end| *end > 0 && length > 0) else {
        return Err(invalid(&format!("its length is said to be {length}")));
    };
    let (content, der) = body.split_at(end);
    if trailer[2] != PKCS7 {
        // EL7's kernels know another form; today's kernels do not, and treat the module as unsigned.
        let signature =
            Signature { signer: String::new(), key: String::new(), digest: String::new(), signed_twice: false, info: None };
        return Ok((content, Some(signature)));
    }
    if [trailer[0], trailer[1], trailer[3], trailer[4], trailer[5], trailer[6], trailer[7]].iter().any(|&b| b != 0) {
        return Err(invalid("its trailer holds what must be zero"));
    }
    let mut signature = pkcs7(der).map_err(|e| invalid(&format!("its PKCS#7 cannot be read: {e}")))?;
    signature.signed_twice = content.ends_with(MAGIC);
    Ok((content, Some(signature)))
}

fn invalid(why: &str) -> Finding {
    Finding::new(
        Fact::SignatureInvalid,
        format!("the signature is damaged: {why}"),
        "build or install the module again; after signing it must not be changed or stripped",
    )
}

fn pkcs7(der: &[u8]) -> der::Result<Signature> {
    let outer = ContentInfo::from_der(der)?;
    if outer.content_type != SIGNED_DATA {
        return Err(der::ErrorKind::OidUnknown { oid: outer.content_type }.into());
    }
    let data = outer.content.decode_as::<SignedData>()?;
    let [info] = data.signer_infos.0.as_slice() else { return Err(der::ErrorKind::Failed.into()) };
    let (signer, key) = match &info.sid {
        SignerIdentifier::IssuerAndSerialNumber(id) => (common_name(&id.issuer), hex(id.serial_number.as_bytes())),
        SignerIdentifier::SubjectKeyIdentifier(id) => (String::new(), hex(id.0.as_bytes())),
    };
    let digest = match info.digest_alg.oid {
        SHA1 => "sha1".into(),
        SHA256 => "sha256".into(),
        SHA384 => "sha384".into(),
        SHA512 => "sha512".into(),
        other => other.to_string(),
    };
    Ok(Signature { signer, key, digest, signed_twice: false, info: Some(Box::new(info.clone())) })
}

impl Signature {
    /// Whether this is the signer's certificate; the kernel compares the same fields (`pkcs7_validate_trust_one`).
    pub(in crate::module) fn is_by(&self, certificate: &Certificate) -> bool {
        let tbs = &certificate.tbs_certificate;
        match self.info.as_ref().map(|i| &i.sid) {
            Some(SignerIdentifier::IssuerAndSerialNumber(id)) => {
                id.serial_number.as_bytes() == tbs.serial_number.as_bytes() && id.issuer == tbs.issuer
            }
            Some(SignerIdentifier::SubjectKeyIdentifier(id)) => {
                let mut extensions = tbs.extensions.iter().flatten();
                extensions.any(|e| e.extn_id == KEY_IDENTIFIER && e.extn_value.as_bytes().get(2..) == Some(id.0.as_bytes()))
            }
            None => false,
        }
    }

    /// Whether it is this certificate's signature over the content. None for an unsupported algorithm.
    pub(in crate::module) fn fits(&self, certificate: &Certificate, content: &[u8]) -> Option<bool> {
        let info = self.info.as_ref()?;
        let key = &certificate.tbs_certificate.subject_public_key_info;
        let method: &'static dyn ring::VerificationAlgorithm = match (key.algorithm.oid == EC_KEY, info.digest_alg.oid) {
            (false, SHA1) => &ring::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
            (false, SHA256) => &ring::RSA_PKCS1_2048_8192_SHA256,
            (false, SHA384) => &ring::RSA_PKCS1_2048_8192_SHA384,
            (false, SHA512) => &ring::RSA_PKCS1_2048_8192_SHA512,
            // The key's curve decides. ring does not support P-384 with SHA-512, which is not used in practice.
            (true, SHA256) => &ring::ECDSA_P384_SHA256_ASN1,
            (true, SHA384) => &ring::ECDSA_P384_SHA384_ASN1,
            _ => return None,
        };
        let (key, signature) = (key.subject_public_key.raw_bytes(), info.signature.as_bytes());
        let Some(attributes) = &info.signed_attrs else {
            return Some(ring::UnparsedPublicKey::new(method, key).verify(content, signature).is_ok());
        };
        // With signed attributes the signature covers them, and one of them contains the content's digest.
        let digest = match info.digest_alg.oid {
            SHA256 => ::ring::digest::digest(&::ring::digest::SHA256, content),
            SHA384 => ::ring::digest::digest(&::ring::digest::SHA384, content),
            SHA512 => ::ring::digest::digest(&::ring::digest::SHA512, content),
            _ => return None,
        };
        let der = attributes.to_der().ok()?;
        let named = der.windows(digest.as_ref().len()).any(|w| w == digest.as_ref());
        Some(named && ring::UnparsedPublicKey::new(method, key).verify(&der, signature).is_ok())
    }
}

fn common_name(name: &x509_cert::name::Name) -> String {
    let mut attributes = name.0.iter().flat_map(|part| part.0.iter());
    let found = attributes.find(|a| a.oid == COMMON_NAME).map(|a| String::from_utf8_lossy(a.value.value()).into_owned());
    found.unwrap_or_else(|| name.to_string())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Code;

    fn file(kind: u8, length: u32, signature: &[u8]) -> Vec<u8> {
        [b"module", signature, &[0, 0, kind, 0, 0, 0, 0, 0], &length.to_be_bytes(), MAGIC].concat()
    }

    #[test]
    fn a_signature_is_split_off_and_a_damaged_one_is_an_error() {
        assert_eq!(split(b"module"), Ok((&b"module"[..], None)));
        let old = file(1, 2, b"xx");
        let (content, signature) = split(&old).unwrap();
        assert_eq!((content, signature.is_some()), (&b"module"[..], true), "before 4.3 it was no DER");
        for damaged in [file(2, 0, b""), file(2, 2, b"xx"), file(2, 2, &[0x30, 0]), file(2, u32::MAX, b""), MAGIC.to_vec()] {
            assert_eq!(split(&damaged).unwrap_err().code, Code::SignatureInvalid);
        }
    }
}
