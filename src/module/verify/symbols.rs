//! Symbols: their versions, which module exports them, and which module may import or export them.

use super::super::file::Module;
use super::super::name_of;
use super::super::target::Known;
use super::trust::Trust;
use super::{headers, Case};
use crate::finding::{Fact, Finding};
use std::collections::{BTreeSet, HashMap, HashSet};

/// The version record that every module has without importing the symbol: the layout of `struct module` (`check_modstruct_version`, since
/// 2.6.29).
const LAYOUT: &str = "module_layout";

/// The symbols whose exports are looked up.
pub(super) fn names(module: &Module) -> Vec<&str> {
    let versions = module.versions.iter().map(|(name, _)| name.as_str());
    let imports = module.imports.iter().map(|i| i.name.as_str());
    let offers = module.offers.iter().map(|o| o.name.as_str());
    let all: BTreeSet<&str> = versions.chain(imports).chain(offers).chain([LAYOUT]).collect();
    all.into_iter().collect()
}

/// Whether there are version records, and each was compared with an export.
pub(super) fn all_compared(case: &Case<'_>) -> bool {
    let known = |name: &str| case.exports.get(name).is_some_and(|e| e.crc.is_some());
    case.target.symvers.is_some()
        && !case.module.versions.is_empty()
        && case.module.versions.iter().all(|(name, _)| known(name))
}

/// Whether K's own build signed this very file: comparing could prove nothing more.
fn of_this_build(case: &Case<'_>) -> bool {
    let release = case.module.vermagic.as_deref().and_then(|v| v.split(' ').next());
    case.trust == Trust::Kernels && case.module.intree && release == Some(case.target.release.as_str())
}

pub(super) fn versions(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let (module, k) = (case.module, &case.target.release);
    if !case.modversions {
        findings.push(Finding::new(Fact::ModversionsOff, format!("{k} does not use symbol versions"), ""));
        return;
    }
    if module.versions.is_empty() {
        let detail = format!("{k} checks symbol versions and the module carries none");
        findings.push(Finding::new(Fact::VersionsMissing, detail, &case.rebuild));
        return;
    }
    let compared = |(name, crc): &(String, u32)| {
        let theirs = case.exports.get(name)?.crc?;
        (theirs != *crc).then(|| format!("{name} (0x{crc:08x} in the module, 0x{theirs:08x} in the kernel)"))
    };
    let differ: Vec<String> = module.versions.iter().filter_map(compared).collect();
    // The most informative one: the layout of struct module depends on half of the kernel.
    let first = differ.iter().find(|d| d.starts_with(LAYOUT)).or(differ.first());
    if let Some(first) = first {
        let (n, all) = (differ.len(), module.versions.len());
        let detail = format!("{n} of {all} symbol CRCs differ from {k}'s Module.symvers, first: {first}");
        findings.push(Finding::new(Fact::SymbolCrc, detail, &case.rebuild));
    }
    let recorded: HashSet<&str> = module.versions.iter().map(|(name, _)| name.as_str()).collect();
    let used = module.imports.iter().filter(|i| !i.weak || case.exports.contains_key(&i.name)).map(|i| i.name.as_str());
    let layout = Some(LAYOUT).filter(|l| case.exports.contains_key(*l));
    let mut bare: Vec<&str> = used.chain(layout).filter(|n| !recorded.contains(n)).collect();
    bare.dedup();
    if let Some(first) = bare.first() {
        let detail = format!("{} used symbols have no version record, first: {first}", bare.len());
        findings.push(Finding::new(Fact::SymbolUnversioned, detail, &case.rebuild));
    }
    if case.target.symvers.is_some() && !case.exports.contains_key(LAYOUT) {
        let detail = format!("{k}'s Module.symvers holds no version of struct module: it is not whole");
        findings.push(Finding::new(Fact::SymversCut, detail, headers(case.target)));
    }
}

/// Checks that each imported symbol is exported, and that this module may use it.
pub(super) fn imports(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let k = &case.target.release;
    if case.target.symvers.is_none() {
        findings.push(if of_this_build(case) {
            let detail = format!("no Module.symvers of {k} is here; the module is {k}'s own, signed by its build over this content");
            Finding::new(Fact::SymversMissingOwnModule, detail, "")
        } else {
            let detail = format!("no Module.symvers of {k} is here (headers, /boot/symvers-{k}.gz, /lib/modules/{k}/symvers.gz): what the module imports cannot be proven");
            Finding::new(Fact::SymversMissing, detail, headers(case.target))
        });
        return;
    }
    let mut missing = Vec::new();
    let mut providers = BTreeSet::new();
    for import in &case.module.imports {
        let Some(export) = case.exports.get(&import.name) else {
            if !import.weak {
                missing.push(import.name.as_str());
            }
            continue;
        };
        providers.extend(export.module.as_deref().filter(|m| *m != case.module.name));
        if case.modversions && export.crc.is_none() {
            let detail = format!(
                "the version of {} cannot be compared: {} does not hold it",
                import.name,
                export.module.as_deref().unwrap_or("vmlinux")
            );
            // The kernel accepts an export without a version.
            findings.push(Finding::new(Fact::SymbolUnversioned, detail, &case.rebuild));
        }
        restricted(case, &import.name, export, findings);
    }
    if let Some(first) = missing.first() {
        let detail = format!("{} imported symbols are exported by nobody in {k}, first: {first}", missing.len());
        findings.push(Finding::new(Fact::SymbolMissing, detail, &case.rebuild));
    }
    doubled(case, &providers, findings);
    for provider in providers {
        absent(case, provider, findings);
        if case.target.needs_back(provider, &case.module.name) {
            let detail = format!("{} and {provider} need each other, so modprobe loads neither", case.module.name);
            findings.push(Finding::new(Fact::DependencyMissing, detail, &case.rebuild));
        }
    }
}

/// Two modules that are loaded before this one export the same symbol: the kernel refuses the second of them (`verify_exported_symbols`).
/// The kernel's in-tree modules never do that.
fn doubled(case: &Case<'_>, providers: &BTreeSet<&str>, findings: &mut Vec<Finding>) {
    let mut exporters: HashMap<String, &str> = HashMap::new();
    for provider in providers.iter().filter(|p| case.target.is_replaced(p)) {
        let offers = case.target.offers(provider);
        let names: Vec<&str> = offers.iter().map(|offer| offer.name.as_str()).collect();
        let kernels = case.target.exports_of_its_own(&names);
        for name in names {
            let own = kernels.get(name).and_then(|module| providers.get(module.as_str())).copied();
            let other = own.or_else(|| exporters.get(name).copied()).filter(|other| other != provider);
            if let Some(other) = other {
                let detail = format!("{} needs {provider} and {other}, and both export {name}", case.module.name);
                findings.push(Finding::new(Fact::SymbolRestricted, detail, &case.rebuild));
                return;
            }
            exporters.insert(name.to_owned(), provider);
        }
    }
}

/// A missing module without which this one does not load.
fn absent(case: &Case<'_>, provider: &str, findings: &mut Vec<Finding>) {
    let k = &case.target.release;
    if case.target.has_module(provider) {
        return;
    }
    let detail = format!("{} needs {provider}, and {k} has no such module", case.module.name);
    let remedy = format!(
        "install the package of {k} that holds {provider} (kernel-modules-extra, linux-modules-extra), then depmod {k}"
    );
    findings.push(if case.target.index.is_there() {
        Finding::new(Fact::DependencyMissing, detail, remedy)
    } else {
        Finding::new(Fact::DependencyNotInstalled, format!("{detail} here: its modules are not installed"), remedy)
    });
}

/// Exports that are for GPL-compatible modules only, and exports in a namespace (`verify_namespace_is_imported`).
fn restricted(case: &Case<'_>, name: &str, export: &Known, findings: &mut Vec<Finding>) {
    let module = case.module;
    let license = module.license.as_deref().unwrap_or("");
    if export.gpl_only && !gpl_compatible(license) {
        let detail = format!("{name} is exported to GPL-compatible modules only; the licence is \"{license}\"");
        findings.push(Finding::new(Fact::SymbolRestricted, detail, &case.rebuild));
    }
    let namespace = export.namespace.as_str();
    let open =
        namespace.is_empty() || module.namespaces.iter().any(|n| n == namespace) || meant_for(namespace, &module.name);
    if !open && case.target.config_set("CONFIG_MODULE_ALLOW_MISSING_NAMESPACE_IMPORTS") != Some(true) {
        let detail = format!("{name} is in the namespace {namespace}, which the module does not import");
        findings.push(Finding::new(Fact::SymbolRestricted, detail, &case.rebuild));
    }
}

/// `EXPORT_SYMBOL_FOR_MODULES` of Linux 6.16: `module:` and names separated by commas, each with or without a final `*`.
fn meant_for(namespace: &str, module: &str) -> bool {
    let Some(list) = namespace.strip_prefix("module:") else { return false };
    list.split(',').map(|m| m.replace('-', "_")).any(|m| match m.strip_suffix('*') {
        Some(start) => module.starts_with(start),
        None => m == module,
    })
}

/// `license_is_gpl_compatible` of `include/linux/license.h`.
fn gpl_compatible(license: &str) -> bool {
    ["GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"].contains(&license)
}

/// The module must not export what the kernel exports (`verify_exported_symbols`), and its exports need versions.
pub(super) fn offers(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let k = &case.target.release;
    for offer in &case.module.offers {
        let builtin = case.exports.get(&offer.name).is_some_and(|e| e.module.is_none());
        if builtin {
            let detail = format!("it exports {}, which {k} exports itself", offer.name);
            findings.push(Finding::new(Fact::SymbolRestricted, detail, &case.rebuild));
        }
    }
    let bare = case.module.offers.iter().filter(|o| o.crc.is_none()).count();
    if bare > 0 && case.modversions {
        let detail = format!("{bare} symbols that it exports have no version");
        findings.push(Finding::new(Fact::SymbolUnversioned, detail, &case.rebuild));
    }
}

/// The modules that export what a module imports, by name.
pub(in crate::module) fn providers(module: &Module, target: &super::Target) -> BTreeSet<String> {
    let names: Vec<&str> = module.imports.iter().map(|i| i.name.as_str()).collect();
    let all = target.exports(&names).into_values().filter_map(|e| e.module);
    all.map(|m| name_of(&m)).filter(|m| *m != module.name).collect()
}
