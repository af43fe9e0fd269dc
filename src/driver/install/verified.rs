//! Where the driver room asks the module room.

use crate::finding::{Code, Finding, Severity};
use crate::host::devices::pci::Device;
use crate::module::{verify, Module, Target};

/// What was found about a module.
pub(super) struct Checked {
    pub version: Option<String>,
    pub findings: Vec<Finding>,
}

/// Judges a module that is in place.
pub(super) fn check(target: &Target, bytes: &[u8], devices: &[&Device]) -> Checked {
    match Module::read(bytes) {
        Err(finding) => Checked { version: None, findings: vec![finding] },
        Ok(module) => Checked { findings: verify(&module, target, devices), version: module.version },
    }
}

/// Judges a module that was built a moment ago. It must carry the release of its kernel even where the kernel would not
/// insist (equal symbol versions): another one means that another kernel's tree was used.
pub(super) fn check_built(target: &Target, bytes: &[u8], devices: &[&Device]) -> Checked {
    let mut checked = check(target, bytes, devices);
    let known = checked.findings.iter().any(|f| f.code == Code::VermagicRelease && f.severity == Severity::Unsafe);
    let release = Module::read(bytes).ok().and_then(|m| Some(m.vermagic?.split(' ').next()?.to_owned()));
    if let Some(other) = release.filter(|r| r != target.release.as_str() && !known) {
        checked.findings.push(Finding::refuse(
            Code::VermagicRelease,
            format!(
                "what was built for {} says that it is for {other}: its makefile used another kernel's tree",
                target.release
            ),
            format!("take another release of the driver: vfguard prepare {} --source FILE --sha256 HEX", target.release),
        ));
    }
    checked
}
