//! Whether K trusts a module's signature, and whether it requires one (`kernel/module/signing.c`,
//! `Documentation/admin-guide/module-signing.rst`).

use crate::finding::{Fact, Finding};
use crate::host::Host;
use crate::kernel::installed;
use crate::module::file::Module;
use crate::module::target::keys::{ATTRIBUTES, EFIVARS};
use crate::module::target::Target;

const SECURE_BOOT: &str = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Set if the owner disabled shim's checks.
const MOK_STATE: &str = "MokSBStateRT-605dab50-e046-4300-abb6-3dd810dd8b23";
/// With one of these, distributions' kernels enforce signatures under Secure Boot.
const UNDER_SECURE_BOOT: [&str; 4] = [
    "CONFIG_LOCK_DOWN_IN_EFI_SECURE_BOOT",
    "CONFIG_EFI_SECURE_BOOT_LOCK_DOWN",
    "CONFIG_EFI_SECURE_BOOT_SIG_ENFORCE",
    "CONFIG_EFI_SECURE_BOOT_SECURELEVEL",
];
/// With one of these, the machine owner's keys count for modules.
const OWNERS_KEYS: [&str; 3] =
    ["CONFIG_INTEGRITY_MACHINE_KEYRING", "CONFIG_INTEGRITY_PLATFORM_KEYRING", "CONFIG_LOAD_UEFI_KEYS"];

/// How far K trusts a module's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::module) enum Trust {
    Unsigned,
    /// By a key in K's own image, over this content.
    Kernels,
    /// By a key of the firmware or the owner, over this content.
    Machines,
    /// By a key that K does not know.
    Unknown,
    /// By a key that K knows, over other content.
    Broken,
    /// Unknown, and why.
    Unproven(String),
}

/// Checks a module's signature. Expensive at first for a signed module (K's image is decompressed), free for an unsigned one.
pub(in crate::module) fn trust(module: &Module, target: &Target) -> Trust {
    let Some(signature) = &module.signature else { return Trust::Unsigned };
    let keys = target.keys();
    let of_image = keys.image.iter().flatten().map(|c| (c, Trust::Kernels));
    let of_machine = keys.machine.iter().map(|c| (c, Trust::Machines));
    let signer = of_image.chain(of_machine).find(|(c, _)| signature.is_by(c));
    if let Some((certificate, worth)) = signer {
        return match signature.fits(certificate, &module.signed_content) {
            Some(true) => worth,
            Some(false) => Trust::Broken,
            None => Trust::Unproven(format!("its method ({}) is not known here", signature.digest)),
        };
    }
    match keys.image {
        Some(_) => Trust::Unknown,
        None => Trust::Unproven(format!("the keys of {} cannot be read from its image", target.release)),
    }
}

/// Why K requires signatures, if it does.
fn enforced(target: &Target) -> Option<String> {
    let set = |name: &str| target.config_set(name) == Some(true);
    for name in [
        "CONFIG_MODULE_SIG_FORCE",
        "CONFIG_LOCK_DOWN_KERNEL_FORCE_INTEGRITY",
        "CONFIG_LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY",
    ] {
        if set(name) {
            return Some(format!("{name}=y"));
        }
    }
    for word in target.cmdline.split_whitespace() {
        let (key, value) = word.split_once('=').unwrap_or((word, "1"));
        let on = match key.replace('-', "_").as_str() {
            "module.sig_enforce" => !matches!(value, "0" | "n" | "N" | "off"),
            "lockdown" => matches!(value, "integrity" | "confidentiality"),
            _ => false,
        };
        if on {
            return Some(format!("`{word}` on its command line"));
        }
    }
    let now = target.host.read_text("/sys/kernel/security/lockdown").unwrap_or_default();
    let locked = now.contains("[integrity]") || now.contains("[confidentiality]");
    if locked && installed::running(&target.host).as_ref() == Some(&target.release) {
        return Some("the kernel is locked down".into());
    }
    let heeds = target.config.is_none() || UNDER_SECURE_BOOT.iter().any(|n| set(n)) || amazons(target);
    (heeds && secure_boot(&target.host)).then(|| "Secure Boot".into())
}

fn image_is_missing(target: &Target) -> bool {
    let image = installed::image(&target.host, &target.release);
    image.is_none_or(|path| target.host.metadata(path).is_ok_and(|m| m.len() == 0))
}

fn secure_boot(host: &Host) -> bool {
    let variable = |name: &str| host.read(format!("{EFIVARS}/{name}")).ok().and_then(|v| v.get(ATTRIBUTES).copied());
    variable(SECURE_BOOT) == Some(1) && variable(MOK_STATE) != Some(1)
}

fn amazons(target: &Target) -> bool {
    target.release.as_str().contains(".amzn")
}

/// The findings about a module's signature.
pub(in crate::module) fn findings(module: &Module, trust: &Trust, target: &Target) -> Vec<Finding> {
    let k = &target.release;
    let enforced = enforced(target);
    let signer = module.signature.as_ref().map(|s| format!("{} (key {})", s.signer, s.key)).unwrap_or_default();
    let mut findings = Vec::new();
    let remedy = if amazons(target) {
        format!("a module that Amazon did not sign can never load in {k} under Secure Boot: use {k}'s own driver, or turn Secure Boot off")
    } else {
        format!("set sign.key and sign.certificate to a key that this machine trusts (mokutil --import), then vfguard prepare {k} --rebuild")
    };
    let why = enforced.clone().unwrap_or_default();
    match trust {
        Trust::Unsigned if enforced.is_some() => {
            findings.push(Finding::new(
                Fact::Unsigned,
                format!("{k} loads signed modules only ({why}) and this one is not signed"),
                remedy,
            ));
        }
        Trust::Unknown if enforced.is_some() => {
            findings.push(Finding::new(
                Fact::SignerUntrusted,
                format!("{k} loads signed modules only ({why}) and does not know the key of {signer}"),
                remedy,
            ));
        }
        Trust::Machines if enforced.is_some() && !OWNERS_KEYS.iter().any(|n| target.config_set(n) == Some(true)) => {
            let detail = format!("{k} loads signed modules only ({why}) and does not take the machine's own keys: {signer}");
            findings.push(Finding::new(Fact::SignerUntrusted, detail, remedy));
        }
        Trust::Broken => findings.push(Finding::new(
            Fact::SignatureInvalid,
            format!("the signature of {signer} does not fit the content: the file was changed after it was signed"),
            "build or install the module again; after signing it must not be changed or stripped",
        )),
        Trust::Unproven(why) if target.config_set("CONFIG_MODULE_SIG") != Some(false) => {
            let detail = format!("whether the signature of {signer} fits cannot be proven: {why}");
            let remedy = format!("install the image of {k}, or build the module again without a signature");
            // A rehearsal has no image. K's build signs only its own modules, and the machine's keys were checked.
            let stranger = !module.intree && enforced.is_none() && image_is_missing(target);
            findings.push(if stranger {
                Finding::new(Fact::SignatureUnprovenNotEnforced, detail, remedy)
            } else {
                Finding::new(Fact::SignatureUnproven, detail, remedy)
            });
        }
        Trust::Unknown => findings.push(Finding::new(
            Fact::SignerUntrustedNotEnforced,
            format!("{k} does not know the key of {signer}; it loads the module all the same, and says that it is tainted"),
            "",
        )),
        Trust::Unsigned | Trust::Kernels | Trust::Machines | Trust::Unproven(_) => {}
    }
    if module.signature.as_ref().is_some_and(|s| s.signed_twice) {
        let detail = "it is signed twice; the kernel looks at the last signature only";
        findings.push(Finding::new(Fact::SignedTwice, detail, ""));
    }
    findings
}
