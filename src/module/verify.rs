//! Will this module load in this kernel, and drive these devices? All findings, not only the first.

use super::elf::Module;
use super::target::Target;
use crate::finding::{Code, Finding, Severity};
use crate::host::pci::Device;
use std::collections::HashMap;

/// The symbol whose version stands for the layout of `struct module` (`check_modstruct_version`).
const LAYOUT: &str = "module_layout";

/// What Module.symvers says about one symbol.
struct Export<'s> {
    crc: u32,
    gpl_only: bool,
    namespace: &'s str,
}

/// Compares what the module says of itself with what the kernel demands; `devices` are those that it is needed for.
pub fn verify(module: &Module, target: &Target, devices: &[&Device]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let rebuild = format!("vfguard prepare {} --rebuild", target.release);
    let exports = target.symvers.as_deref().map(|text| exports(text, module));
    let modversions = target.modversions();
    match modversions {
        Some(false) => {
            findings.push(Finding::info(Code::ModversionsOff, format!("{} does not use symbol versions", target.release)))
        }
        Some(true) | None => versions(module, target, exports.as_ref(), &rebuild, &mut findings),
    }
    imports(module, target, exports.as_ref(), modversions, &rebuild, &mut findings);
    vermagic(module, target, modversions, &rebuild, &mut findings);
    signed(module, target, &mut findings);
    for device in devices.iter().filter(|d| !module.claims(&d.modalias)) {
        findings.push(Finding::refuse(
            Code::DeviceUnclaimed,
            format!(
                "{} {} does not claim {} ({})",
                module.name,
                module.version.as_deref().unwrap_or(""),
                device.address,
                device.modalias
            ),
            format!(
                "take a release of {} that knows this device: `vfguard prepare {} --source FILE --sha256 HEX`",
                module.name, target.release
            ),
        ));
    }
    findings
}

/// The exports of the kernel that the module imports. Lines: CRC, symbol, provider, kind, namespace, apart by tabs
/// (`Documentation/kbuild/modules.rst`); spaces and no namespace before Linux 5.4.
fn exports<'s>(text: &'s [u8], module: &Module) -> HashMap<&'s str, Export<'s>> {
    let mut wanted: HashMap<&str, ()> = HashMap::with_capacity(module.versions.len() + module.undefined.len());
    wanted.extend(module.versions.iter().map(|(name, _)| (name.as_str(), ())));
    wanted.extend(module.undefined.iter().map(|name| (name.as_str(), ())));
    wanted.insert(LAYOUT, ());
    let mut found = HashMap::with_capacity(wanted.len());
    for line in text.split(|&b| b == b'\n').filter_map(|l| std::str::from_utf8(l).ok()) {
        let mut parts = line.split('\t');
        let (Some(crc), Some(symbol)) = (parts.next(), parts.next()) else { continue };
        if !wanted.contains_key(symbol) {
            continue;
        }
        let Ok(crc) = u32::from_str_radix(crc.trim_start_matches("0x"), 16) else { continue };
        let kind = parts.nth(1).unwrap_or_default();
        let namespace = parts.next().unwrap_or_default().trim();
        found.insert(symbol, Export { crc, gpl_only: kind.contains("GPL"), namespace });
    }
    found
}

fn versions(
    module: &Module,
    target: &Target,
    exports: Option<&HashMap<&str, Export>>,
    rebuild: &str,
    findings: &mut Vec<Finding>,
) {
    let k = &target.release;
    if module.versions.is_empty() {
        findings.push(Finding::refuse(
            Code::VersionsMissing,
            format!("{k} checks symbol versions and the module carries none"),
            rebuild,
        ));
        return;
    }
    let Some(exports) = exports else {
        findings.push(Finding::refuse(
            Code::SymversMissing,
            format!("no Module.symvers of {k} is here (headers, /boot/symvers-{k}.gz, /lib/modules/{k}/symvers.gz): symbol versions cannot be proven"),
            format!("install the headers of {k} (kernel-devel-{k}, linux-headers-{k})"),
        ));
        return;
    };
    let differ: Vec<String> = module
        .versions
        .iter()
        .filter_map(|(name, crc)| {
            let theirs = exports.get(name.as_str())?.crc;
            (theirs != *crc).then(|| format!("{name} (0x{crc:08x} in the module, 0x{theirs:08x} in the kernel)"))
        })
        .collect();
    if let Some(first) = differ.first() {
        findings.push(Finding::refuse(
            Code::SymbolCrc,
            format!(
                "{} of {} symbol CRCs differ from {k}'s Module.symvers, first {first}",
                differ.len(),
                module.versions.len()
            ),
            rebuild,
        ));
    }
    // The kernel asks for the layout of `struct module` too, though no code uses it.
    let layout = exports.contains_key(LAYOUT).then_some(LAYOUT);
    let used = module.undefined.iter().map(String::as_str).chain(layout);
    let bare: Vec<&str> = used.filter(|n| !module.versions.iter().any(|(v, _)| v == n)).collect();
    if let Some(first) = bare.first() {
        findings.push(Finding::refuse(
            Code::SymbolUnversioned,
            format!("{} used symbols have no version record, first {first}", bare.len()),
            rebuild,
        ));
    }
}

/// Symbols that must come from somewhere, and may be taken.
fn imports(
    module: &Module,
    target: &Target,
    exports: Option<&HashMap<&str, Export>>,
    modversions: Option<bool>,
    rebuild: &str,
    findings: &mut Vec<Finding>,
) {
    let Some(exports) = exports else {
        if modversions == Some(false) {
            findings.push(Finding::refuse(
                Code::SymversMissing,
                format!("no Module.symvers of {} is here: what the module imports cannot be proven", target.release),
                format!("install the headers of {0} (kernel-devel-{0}, linux-headers-{0})", target.release),
            ));
        }
        return;
    };
    // What its dependencies export is theirs to prove; the kernel's own modules are in its Module.symvers.
    let missing: Vec<&str> = module.undefined.iter().map(String::as_str).filter(|n| !exports.contains_key(n)).collect();
    if let (Some(first), true) = (missing.first(), module.depends.is_empty()) {
        findings.push(Finding::refuse(
            Code::SymbolMissing,
            format!("{} imported symbols are exported by nobody in {}, first {first}", missing.len(), target.release),
            rebuild,
        ));
    }
    let gpl = module.license.as_deref().is_some_and(gpl_compatible);
    for name in &module.undefined {
        let Some(export) = exports.get(name.as_str()) else { continue };
        if export.gpl_only && !gpl {
            findings.push(Finding::refuse(
                Code::SymbolRestricted,
                format!(
                    "{name} is exported to GPL modules only; the licence is {:?}",
                    module.license.as_deref().unwrap_or("")
                ),
                rebuild,
            ));
        }
        let open = export.namespace.is_empty() || module.namespaces.iter().any(|n| n == export.namespace);
        if !open && !module.intree {
            findings.push(Finding::refuse(
                Code::SymbolRestricted,
                format!("{name} is in namespace {}, which the module does not import", export.namespace),
                rebuild,
            ));
        }
    }
}

/// `license_is_gpl_compatible` of `include/linux/license.h`.
fn gpl_compatible(license: &str) -> bool {
    ["GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"].contains(&license)
}

/// The flags exactly; the release word as the kernel does: it does not look at it where the module carries symbol versions.
/// A foreign release is accepted only if every CRC was compared and is equal.
fn vermagic(module: &Module, target: &Target, modversions: Option<bool>, rebuild: &str, findings: &mut Vec<Finding>) {
    let k = &target.release;
    let vermagic = module.vermagic.as_deref().unwrap_or_default();
    let (release, flags) = vermagic.split_once(' ').unwrap_or((vermagic, ""));
    if release != k.as_str() {
        let proven = modversions == Some(true)
            && target.symvers.is_some()
            && !release.is_empty()
            && findings.iter().all(|f| f.severity != Severity::Unsafe);
        let said = if release.is_empty() { "no vermagic".into() } else { format!("vermagic names {release}") };
        findings.push(if proven {
            Finding::info(Code::VermagicRelease, format!("{said}, not {k}; every symbol CRC is {k}'s, so it loads there"))
        } else {
            Finding::refuse(Code::VermagicRelease, format!("{said}, not {k}"), rebuild)
        });
    }
    match &target.flags {
        Some(theirs) if flags.trim() == theirs => {}
        Some(theirs) => findings.push(Finding::refuse(
            Code::VermagicFlags,
            format!("vermagic flags are \"{}\", those of {k} are \"{theirs}\"", flags.trim()),
            rebuild,
        )),
        None => findings.push(Finding::refuse(
            Code::VermagicFlags,
            format!("the vermagic flags of {k} are not known: neither its configuration nor a module of its own is here"),
            format!("install the headers of {k} (kernel-devel-{k}, linux-headers-{k})"),
        )),
    }
}

fn signed(module: &Module, target: &Target, findings: &mut Vec<Finding>) {
    if !module.signed && target.config_set("CONFIG_MODULE_SIG_FORCE") == Some(true) {
        findings.push(Finding::refuse(
            Code::Unsigned,
            format!("{} loads signed modules only and this one is not signed", target.release),
            "set sign.key and sign.certificate to a key that the machine trusts, then `vfguard prepare --rebuild`",
        ));
    }
}

#[cfg(test)]
mod tests;
