//! Which rules this machine's GRUB follows: by the distribution and, where that is not enough, by the installed program.

use super::bls::dialect::{Dialect, Order};
use super::script::embedded::is_program;
use super::script::Flavor;
use crate::host::{files, os_release, Host};
use std::path::Path;

/// GRUB's EFI program is 4 MB.
const MAX_PROGRAM: u64 = 32 << 20;
const FEDORA: &[Dialect] = &[Dialect::FEDORA];
const EL8: &[Dialect] = &[Dialect::EL8, Dialect::FEDORA];
/// GNU GRUB has a `blscfg` of its own since 2.14; an earlier version with `blscfg` has rhboot's patch.
const GNU: &[Dialect] = &[Dialect::GNU, Dialect::FEDORA];
const ANY: &[Dialect] = &[Dialect::FEDORA, Dialect::EL8, Dialect::GNU];

/// How a default is interpreted and how entries are read: by the first dialect, unless another one gives another result. From
/// os-release(5); rhboot's branches differ, see [`Flavor`] and [`Dialect`]. The blsuki.c of EL10 and Fedora 44 registers only `uki`; their
/// `blscfg` is rhboot's.
pub fn rules(host: &Host) -> (Flavor, &'static [Dialect]) {
    let Some(text) = os_release::text(host) else {
        let old = host.read_text("/etc/redhat-release").ok();
        let seven = old.is_some_and(|t| t.contains("release 7"));
        return if seven { (Flavor::Upstream, FEDORA) } else { (Flavor::ByEntries, ANY) };
    };
    let id = os_release::value(&text, "ID");
    let major: u32 = os_release::value(&text, "VERSION_ID").split('.').next().and_then(|v| v.parse().ok()).unwrap_or(0);
    let like = format!("{id} {}", os_release::value(&text, "ID_LIKE"));
    let red_hat = like.split(' ').any(|w| matches!(w, "rhel" | "centos" | "rocky" | "almalinux" | "ol" | "redhat"));
    let suse = |w: &str| w == "suse" || ["opensuse", "sle", "sl-"].iter().any(|start| w.starts_with(start));
    match id.as_str() {
        "fedora" if major >= 31 => (Flavor::Fedora, FEDORA),
        "fedora" if major == 30 => (Flavor::Fedora, EL8),
        "fedora" => (Flavor::Upstream, FEDORA),
        "amzn" if major >= 2022 => (Flavor::Fedora, FEDORA),
        "amzn" => (Flavor::Unknown, FEDORA),
        _ if red_hat && major >= 9 => (Flavor::Fedora, FEDORA),
        _ if red_hat && major == 8 => (Flavor::Fedora, EL8),
        _ if red_hat && major > 0 => (Flavor::Upstream, FEDORA),
        // Azure Linux has no ID_LIKE, and is a relative of Fedora since its fourth release.
        _ if like.split(' ').any(|w| matches!(w, "fedora" | "azurelinux")) => (Flavor::Unknown, ANY),
        _ if like.split(' ').any(suse) => (Flavor::Suse, &Dialect::SUSE),
        _ => (Flavor::Upstream, GNU),
    }
}

/// Whether this machine's grubby makes an entry by copying another one, including its `$menuentry_id_option`.
pub fn copies_ids(host: &Host) -> bool {
    let text = os_release::text(host).unwrap_or_default();
    let value = |key| os_release::value(&text, key);
    let seven = || host.read_text("/etc/redhat-release").is_ok_and(|t| t.contains("release 7"));
    let is = |major: &str| value("VERSION_ID").split('.').next() == Some(major);
    (value("ID") == "amzn" && is("2"))
        || (value("ID") != "amzn" && is("7") && value("ID_LIKE").contains("fedora"))
        || seven()
}

/// The sort order of the installed GRUB, identified by the debug messages of its reader: from the module that grub2-install copies, or from
/// the EFI program beside its configuration, which contains its modules.
pub fn order_of_binary(host: &Host, config: &Path) -> Option<Order> {
    let beside = [
        "i386-pc/blscfg.mod",
        "x86_64-efi/blscfg.mod",
        "grubx64.efi",
        "grubaa64.efi",
        "i386-pc/blsuki.mod",
        "x86_64-efi/blsuki.mod",
    ];
    let own = is_program(config).then(|| config.to_owned());
    let mut programs = own.into_iter().chain(beside.iter().map(|name| config.with_file_name(name)));
    let bytes = programs.find_map(|p| files::read_bounded(&host.path(p), MAX_PROGRAM).ok())?;
    let holds = |text: &[u8]| bytes.windows(text.len()).any(|w| w == text);
    if holds(b"Sorting %d entries") {
        return Some(Order::Version);
    }
    // rhboot's program contains both: blsuki.c only for `uki`.
    if holds(b"blsuki") && !holds(b"scanning blsdir") {
        return Some(Order::File);
    }
    holds(b"Add entry with id").then_some(Order::Name)
}
