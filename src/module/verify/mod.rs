//! Whether a module will load in a kernel and drive these devices. All findings, not only the first.
//!
//! The rules are those of `load_module` in `kernel/module/main.c`; tests/vm (the oracle) compares them with real kernels.

mod symbols;
pub(super) mod trust;

pub(super) use symbols::providers;

use self::trust::Trust;
use super::file::Module;
use super::target::{Known, Target};
use crate::finding::{Fact, Finding};
use crate::host::devices::pci::Device;
use rustc_hash::FxHashMap;

/// The input of the single checks, read once.
struct Case<'c> {
    module: &'c Module,
    target: &'c Target,
    exports: FxHashMap<String, Known>,
    /// Whether K checks symbol versions; assumed if unknown.
    modversions: bool,
    trust: Trust,
    /// The remedy for most findings.
    rebuild: String,
}

/// Compares the module file with what the kernel requires; `devices` are those for which it is needed.
pub fn verify(module: &Module, target: &Target, devices: &[&Device]) -> Vec<Finding> {
    let names: Vec<&str> = symbols::names(module);
    let case = Case {
        module,
        target,
        exports: target.exports(&names),
        modversions: target.modversions() != Some(false),
        trust: trust::trust(module, target),
        rebuild: rebuild(module, target),
    };
    let mut findings = Vec::new();
    symbols::versions(&case, &mut findings);
    symbols::imports(&case, &mut findings);
    symbols::offers(&case, &mut findings);
    layout(&case, &mut findings);
    vermagic(&case, &mut findings);
    findings.extend(trust::findings(module, &case.trust, target));
    packing(&case, &mut findings);
    compiler(&case, &mut findings);
    devices.iter().filter(|d| !module.claims(&d.modalias)).for_each(|d| findings.push(unclaimed(&case, d)));
    findings
}

fn rebuild(module: &Module, target: &Target) -> String {
    if module.intree {
        format!("install the packages of {} again", target.release)
    } else {
        format!("vfguard prepare {} --rebuild", target.release)
    }
}

fn unclaimed(case: &Case<'_>, device: &Device) -> Finding {
    let Module { name, version, .. } = case.module;
    let version = version.as_ref().map(|v| format!(" {v}")).unwrap_or_default();
    Finding::new(
        Fact::DeviceUnclaimed,
        format!("{name}{version} does not claim {} ({})", device.address, device.modalias),
        format!(
            "take a release of {name} that knows this device: vfguard prepare {} --source FILE --sha256 HEX",
            case.target.release
        ),
    )
}

/// `struct module` differs between builds: a module in which it has another size is refused (6.5), or worse.
fn layout(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let k = &case.target.release;
    if let (Some(ours), Some(theirs)) = (case.module.this_module, case.target.own().this_module) {
        if ours != theirs {
            let detail = format!("its struct module takes {ours} bytes, that of {k}'s own modules {theirs}");
            findings.push(Finding::new(Fact::StructModuleDiffers, detail, &case.rebuild));
        }
    }
}

/// The flags must be equal. The release is checked like in the kernel, which ignores it if the module has symbol versions. A foreign
/// release is accepted only if every CRC was compared and is equal.
fn vermagic(case: &Case<'_>, findings: &mut Vec<Finding>) {
    let k = &case.target.release;
    let vermagic = case.module.vermagic.as_deref().unwrap_or_default();
    let (release, flags) = vermagic.split_once(' ').unwrap_or((vermagic, ""));
    if release != k.as_str() {
        let said = if release.is_empty() { "no vermagic".into() } else { format!("vermagic names {release}") };
        let clean = findings.iter().all(|f| !f.refuses());
        let proven = case.modversions && clean && !release.is_empty() && symbols::all_compared(case);
        findings.push(if !proven {
            Finding::new(Fact::VermagicRelease, format!("{said}, not {k}"), &case.rebuild)
        } else if checks_types(case) {
            let detail = format!("{said}, and {k} compares the type information (BTF) that the module carries");
            Finding::new(Fact::VermagicReleaseAndTypes, detail, &case.rebuild)
        } else {
            let detail = format!("{said}, not {k}; every symbol CRC is {k}'s, so it loads there");
            Finding::new(Fact::VermagicReleaseSameSymbols, detail, "")
        });
    }
    match case.target.flags() {
        Some(theirs) if flags == theirs => {}
        Some(theirs) => findings.push(Finding::new(
            Fact::VermagicFlags,
            format!("vermagic flags are \"{}\", those of {k} are \"{}\"", flags.trim_end(), theirs.trim_end()),
            &case.rebuild,
        )),
        None => findings.push(Finding::new(
            Fact::VermagicFlagsUnknown,
            format!("the vermagic flags of {k} are not known: neither its configuration nor a module of its own is here"),
            headers(case.target),
        )),
    }
}

/// `btf_module_notify` of `kernel/bpf/btf.c`: without MODULE_ALLOW_BTF_MISMATCH, type information of another build makes the load fail.
fn checks_types(case: &Case<'_>) -> bool {
    let set = |name: &str| case.target.config_set(name);
    case.module.btf
        && set("CONFIG_DEBUG_INFO_BTF_MODULES") != Some(false)
        && set("CONFIG_MODULE_ALLOW_BTF_MISMATCH") != Some(true)
}

/// A different compiler is only a warning. All versions lay out structures alike, and CRCs depend on the sources, so the module loads. But
/// the kernel's mitigations and plugins belong to its compiler, and an incompatibility shows only at run time.
fn compiler(case: &Case<'_>, findings: &mut Vec<Finding>) {
    if let (Some(ours), Some(theirs)) = (case.module.compiler, case.target.compiler()) {
        if ours != theirs {
            let k = &case.target.release;
            let detail = format!("built with {ours}, {k} with {theirs}");
            let remedy = format!("install {theirs} as the compiler, then: {}", case.rebuild);
            findings.push(Finding::new(Fact::CompilerMismatch, detail, remedy));
        }
    }
}

/// The remedy that installs the headers of a kernel.
fn headers(target: &Target) -> String {
    format!("install the headers of {0} (kernel-devel-{0}, linux-headers-{0})", target.release)
}

/// Not every kmod reads every compression (Debian 12's does not support gzip). K's in-tree modules, or its configuration, show what works;
/// else the libraries with which kmod's file is linked.
fn packing(case: &Case<'_>, findings: &mut Vec<Finding>) {
    use crate::decompress::Packing;
    let (library, setting, ending) = match case.module.packed {
        None | Some(Packing::Plain) => return,
        Some(Packing::Gzip) => ("libz.so", "CONFIG_MODULE_COMPRESS_GZIP", "gz"),
        Some(Packing::Xz) => ("liblzma.so", "CONFIG_MODULE_COMPRESS_XZ", "xz"),
        Some(Packing::Zstd) => ("libzstd.so", "CONFIG_MODULE_COMPRESS_ZSTD", "zst"),
    };
    let own = case.target.own().packed == case.module.packed || case.target.config_set(setting) == Some(true);
    if own || kmod_is_linked_with(case.target, library) {
        return;
    }
    findings.push(Finding::new(
        Fact::PackingUnproven,
        format!("the file is packed (.{ending}), and nothing shows that this machine's kmod reads that"),
        "unpack it, or install it as the kernel's own modules are packed",
    ));
}

fn kmod_is_linked_with(target: &Target, library: &str) -> bool {
    let debian = format!("/usr/lib/{}-linux-gnu/libkmod.so.2", std::env::consts::ARCH);
    let files = ["/usr/bin/kmod", "/bin/kmod", "/usr/lib64/libkmod.so.2", "/lib64/libkmod.so.2", &debian];
    let mentions = |bytes: Vec<u8>| bytes.windows(library.len()).any(|w| w == library.as_bytes());
    files.iter().any(|path| target.host.read(path).is_ok_and(mentions))
}

#[cfg(test)]
mod tests;
