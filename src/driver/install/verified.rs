//! Modules that may be installed, because their exact bytes were verified. The driver room's calls into the module room.

use crate::finding::{Code, Fact, Finding};
use crate::host::devices::pci::Device;
use crate::host::Host;
use crate::kernel::KernelRelease;
use crate::module::{verify, Module, Target};

/// A module whose exact bytes were verified for a kernel. Only `verified` creates one, and nothing changes it.
#[derive(Debug)]
pub struct VerifiedModule {
    name: String,
    bytes: Vec<u8>,
}

impl VerifiedModule {
    /// The name of its file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The verified bytes, which will be installed.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Modules of one build that were verified together, with findings to report.
pub(in crate::driver) struct VerifiedSet {
    pub modules: Vec<VerifiedModule>,
    pub findings: Vec<Finding>,
}

/// Verifies modules that were just built for a kernel and will be installed together, given by name and bytes. `driver` is
/// the one that must claim the devices.
///
/// # Errors
/// All findings, of which at least one refuses.
pub(in crate::driver) fn verified(
    host: &Host,
    kernel: &KernelRelease,
    built: Vec<(String, Vec<u8>)>,
    driver: &str,
    devices: &[&Device],
) -> Result<VerifiedSet, Vec<Finding>> {
    let read: Vec<Module> = built.iter().filter_map(|(_, bytes)| Module::read(bytes).ok()).collect();
    let target = Target::load(host, kernel).with_beside(&read);
    let mut findings = Vec::new();
    for (name, bytes) in &built {
        let devices = if name == driver { devices } else { &[] };
        findings.extend(check_built(&target, bytes, devices));
    }
    if findings.iter().any(Finding::refuses) {
        return Err(findings);
    }
    let modules = built.into_iter().map(|(name, bytes)| VerifiedModule { name, bytes }).collect();
    Ok(VerifiedSet { modules, findings })
}

/// What was found out about a module.
pub(in crate::driver) struct Checked {
    pub version: Option<String>,
    pub findings: Vec<Finding>,
}

/// Judges an installed module.
pub(in crate::driver) fn check(target: &Target, bytes: &[u8], devices: &[&Device]) -> Checked {
    match Module::read(bytes) {
        Err(finding) => Checked { version: None, findings: vec![finding] },
        Ok(module) => Checked { findings: verify(&module, target, devices), version: module.version },
    }
}

/// Judges a module that was just built. Its vermagic must name its kernel, even if the kernel would accept another one (with
/// equal symbol versions): another one means that another kernel's tree was used.
fn check_built(target: &Target, bytes: &[u8], devices: &[&Device]) -> Vec<Finding> {
    let mut findings = check(target, bytes, devices).findings;
    let known = findings.iter().any(|f| f.code == Code::VermagicRelease && f.refuses());
    let release = Module::read(bytes).ok().and_then(|m| Some(m.vermagic?.split(' ').next()?.to_owned()));
    if let Some(other) = release.filter(|r| r != target.release.as_str() && !known) {
        findings.push(Finding::new(
            Fact::BuiltForAnother,
            format!(
                "what was built for {} says that it is for {other}: its makefile used another kernel's tree",
                target.release
            ),
            format!("take another release of the driver: vfguard prepare {} --source FILE --sha256 HEX", target.release),
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Severity;

    #[test]
    fn a_module_that_is_refused_never_becomes_one_that_may_be_installed() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        let built = vec![("ixgbevf".to_owned(), b"no module".to_vec())];
        let refused = verified(&host, &"6.1".parse().unwrap(), built, "ixgbevf", &[]).err().unwrap();
        assert_eq!(refused.iter().map(|f| (f.code, f.severity())).collect::<Vec<_>>(), [(Code::NotElf, Severity::Unsafe)]);
    }
}
