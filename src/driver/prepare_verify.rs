//! Where the driver room asks the module room.

use crate::finding::Code;
use crate::finding::Finding;
use crate::host::pci::Device;
use crate::host::Host;
use crate::kernel::KernelRelease;
use anyhow::Result;

/// What was found about a module.
pub(super) struct Checked {
    pub version: Option<String>,
    pub findings: Vec<Finding>,
}

/// Until the module room has landed: the release word of vermagic, and nothing more.
pub(super) fn verify(_host: &Host, kernel: &KernelRelease, bytes: &[u8], _devices: &[&Device]) -> Result<Checked> {
    let field = |key: &str| {
        let key = format!("\0{key}=").into_bytes();
        let at = bytes.windows(key.len()).position(|w| w == key)? + key.len();
        let value = bytes[at..].split(|&b| b == 0).next()?;
        Some(String::from_utf8_lossy(value).into_owned())
    };
    let mut findings = Vec::new();
    let magic = field("vermagic").unwrap_or_default();
    if magic.split(' ').next() != Some(kernel.as_str()) {
        findings.push(Finding::refuse(Code::VermagicRelease, format!("vermagic is {magic:?}"), "vfguard prepare"));
    }
    Ok(Checked { version: field("version"), findings })
}
