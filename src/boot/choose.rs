//! Which boot loader is in charge, from the files: the kind of firmware and its boot order, and the files at the places where each loader
//! looks. If several loaders are possible, each is asked; if they disagree, the answer is uncertain.

use super::loader::{Family, Loader, FAMILIES};
use super::systemd_boot::SystemdBoot;
use super::{efi, NextBoot, Source};
use crate::host::{os_release, Host};
use std::path::{Path, PathBuf};

/// Where the EFI system partition is mounted (by systemd's bootctl(1) and by the distributions).
const PARTITIONS: [&str; 3] = ["/boot/efi", "/efi", "/boot"];
/// Directories on the partition from which systemd-boot reads entries (the Boot Loader Specification's type 1 and 2).
const ENTRIES: [&str; 2] = ["loader/entries", "EFI/Linux"];
/// Variables of the Boot Loader Interface that systemd-boot obeys. Of the GRUBs, only openSUSE's does.
const SYSTEMD_VARIABLES: [&str; 2] = ["LoaderEntryDefault", "LoaderEntryOneShot"];

/// Whether the firmware is UEFI.
pub(super) fn is_efi(host: &Host) -> bool {
    host.is_dir("/sys/firmware/efi")
}

/// The loaders that could be in charge, the likeliest first, and the doubts about that as message and remedy.
pub(super) fn loaders(host: &Host) -> (Vec<Loader>, Vec<(String, String)>) {
    let mut doubts = Vec::new();
    let mut found = if is_efi(host) { efi_loaders(host, &mut doubts) } else { Vec::new() };
    if found.is_empty() {
        found = bios_loaders(host);
    }
    if found.is_empty() && !is_efi(host) {
        found = efi_loaders(host, &mut doubts);
    }
    (found, doubts)
}

/// A dangling link or an unreadable file still counts as the loader's configuration.
fn is_there(host: &Host, path: &Path) -> bool {
    host.exists(path) || host.path_of_link(path).symlink_metadata().is_ok()
}

/// The configurations that exist; those that are links to another one are left out.
fn unique(host: &Host, paths: &[&str]) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    let real = |path: &Path| host.path(path).canonicalize().ok();
    for path in paths.iter().map(Path::new).filter(|path| is_there(host, path)) {
        if !host.exists(path) || found.iter().all(|other| real(other) != real(path)) {
            found.push(path.to_owned());
        }
    }
    found
}

fn bios_loaders(host: &Host) -> Vec<Loader> {
    let find = |family: &Family| (family.make)(host, unique(host, family.configs));
    // The files that an installer leaves decide where the configurations alone do not.
    let sure = match FAMILIES.iter().filter(|family| (family.installed)(host)).collect::<Vec<_>>()[..] {
        [family] => find(family),
        _ => Vec::new(),
    };
    if sure.is_empty() {
        FAMILIES.iter().flat_map(find).collect()
    } else {
        sure
    }
}

fn efi_loaders(host: &Host, doubts: &mut Vec<(String, String)>) -> Vec<Loader> {
    let mut grub: Vec<(String, Loader)> = Vec::new();
    let mut systemd = None;
    for partition in PARTITIONS {
        let top = Path::new(partition).join("EFI");
        for name in host.read_dir(&top).unwrap_or_default() {
            let vendor = name.to_string_lossy().to_ascii_lowercase();
            for family in &FAMILIES {
                let paths =
                    (family.on_efi)(host, &top.join(&name)).into_iter().filter(|path| is_there(host, path)).collect();
                grub.extend((family.make)(host, paths).into_iter().map(|loader| (vendor.clone(), loader)));
            }
            if vendor == "systemd" {
                systemd = Some(PathBuf::from(partition));
            }
        }
        if systemd.is_none() && host.is_file(Path::new(partition).join("loader/loader.conf")) {
            systemd = Some(PathBuf::from(partition));
        }
    }
    let info = efi::loader_string(host, "LoaderInfo").ok().flatten().unwrap_or_default();
    // systemd-boot needs no loader.conf. Its entries are enough if it identified itself in LoaderInfo, or if no other loader is there and
    // one of its variables is set.
    let variable = |name: &str| host.exists(efi::loader_path(name));
    let alone = grub.is_empty() && !FAMILIES.iter().flat_map(|family| family.configs).any(|p| host.exists(p));
    if info.starts_with("systemd-boot") || (alone && SYSTEMD_VARIABLES.into_iter().any(variable)) {
        let has = |p: &&Path| ENTRIES.iter().any(|e| host.is_dir(p.join(e)));
        systemd = systemd.or_else(|| PARTITIONS.iter().map(Path::new).find(has).map(PathBuf::from));
    }
    if let Some(top) = systemd {
        // The loader that started this boot identifies itself.
        if info.starts_with("systemd-boot") || (alone && !info.starts_with("GRUB")) {
            return vec![Loader::SystemdBoot(SystemdBoot(top))];
        }
        if !info.starts_with("GRUB") {
            grub.push(("systemd".into(), Loader::SystemdBoot(SystemdBoot(top))));
        }
    }
    ranked(host, grub, doubts)
}

/// Ranks by the firmware's boot order, else by the distribution's own name.
fn ranked(host: &Host, mut grub: Vec<(String, Loader)>, doubts: &mut Vec<(String, String)>) -> Vec<Loader> {
    let (order, next) = efi::boot_order(host);
    let own = grub.iter().map(|(v, _)| v.clone()).collect::<Vec<_>>();
    let known: Vec<String> = order.iter().filter_map(|f| efi::vendor(f)).filter(|v| own.contains(v)).collect();
    if let Some(file) = next {
        let vendor = efi::vendor(&file);
        if vendor.is_none() || vendor.as_ref() != known.first() {
            doubts.push((
                format!("the firmware starts {file} at the next boot (BootNext), and not the first of its boot order"),
                "efibootmgr --delete-bootnext".into(),
            ));
        }
    }
    if let Some(first) = known.first() {
        grub.retain(|(v, _)| v == first);
    } else {
        let id = os_release::value(&os_release::text(host).unwrap_or_default(), "ID");
        let own = if matches!(id.as_str(), "rhel" | "ol") { "redhat".to_owned() } else { id };
        if grub.iter().any(|(v, _)| *v == own) {
            grub.retain(|(v, _)| *v == own || v == "systemd");
        }
        // The fallback directory is used only if there is no other.
        grub.sort_by_key(|(v, _)| v == "boot");
        if grub.len() > 1 && grub[0].0 != "boot" {
            grub.retain(|(v, _)| v != "boot");
        }
    }
    grub.into_iter().map(|(_, l)| l).collect()
}

/// Whether this grub.cfg is read by GRUB for EFI.
pub(super) fn efi_config(host: &Host, config: &Path) -> bool {
    is_efi(host) || config.to_string_lossy().contains("/EFI/")
}

/// Asks every loader that could be in charge.
pub(super) fn resolve(host: &Host) -> NextBoot {
    let (loaders, doubts) = loaders(host);
    let mut answers = loaders.iter().map(|l| l.ask(host));
    let mut answer = answers.next().unwrap_or_else(|| {
        let mut none = NextBoot::new(Source::Unknown);
        none.doubt(
            "no configuration of a boot loader that is known was found (GRUB, systemd-boot)",
            "mount /boot, or set boot.loader = \"none\" if the kernel comes from outside this machine",
        );
        none
    });
    let kernels = |a: &NextBoot| a.kernels.iter().map(|c| (c.kernel.clone(), c.role)).collect::<Vec<_>>();
    if answers.any(|other| kernels(&other) != kernels(&answer)) {
        answer.doubt(
            format!("several boot loaders could be in charge and disagree: {}", names(&loaders)),
            "remove the configuration of the one that is not used",
        );
    }
    for (message, remedy) in doubts {
        answer.doubt(message, remedy);
    }
    for place in unmounted(host) {
        answer.doubt(
            format!(
                "{place} stands in /etc/fstab and is not mounted, so that what lies there is not what the boot loader reads"
            ),
            format!("mount {place}"),
        );
    }
    answer
}

/// File systems of the boot loader that fstab(5) lists and that are not mounted.
fn unmounted(host: &Host) -> Vec<String> {
    let field = |line: &str| line.split_ascii_whitespace().nth(1).map(str::to_owned);
    let places = |path: &str| host.read_text(path).unwrap_or_default().lines().filter_map(field).collect::<Vec<_>>();
    let mounted = places("/proc/mounts");
    if mounted.is_empty() {
        return Vec::new();
    }
    let own = |p: &String| p == "/boot" || (p == "/boot/efi" && is_efi(host));
    let fstab = host.read_text("/etc/fstab").unwrap_or_default();
    let lines = fstab.lines().filter(|l| !l.trim_start().starts_with('#') && !l.contains("noauto"));
    lines.filter_map(field).filter(|p| own(p) && !mounted.contains(p)).collect()
}

fn names(loaders: &[Loader]) -> String {
    loaders.iter().map(|l| l.config().display().to_string()).collect::<Vec<_>>().join(", ")
}
