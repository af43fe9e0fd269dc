//! Which kernels apt's autoremove keeps (apt's `apt-pkg/algorithms.cc`, `GetProtectedKernelsRegex`; before 2.1 the script that writes
//! /etc/apt/apt.conf.d/01autoremove-kernels, by the same rule): the running one and the newest, and the one before the newest if the newest
//! is running; packages that were installed by hand; and those that `APT::NeverAutoRemove` names.

use super::Outlook;
use crate::host::Host;
use crate::kernel::KernelRelease;
use std::path::Path;

/// Which packages were installed automatically.
const STATES: &str = "/var/lib/apt/extended_states";
const SETTINGS: [&str; 2] = ["/etc/apt/apt.conf.d", "/etc/apt/apt.conf"];
/// Rewritten with each kernel, so its present content does not tell what it will keep.
const WRITTEN_ANEW: &str = "01autoremove-kernels";
/// Packages that make up a kernel; Ubuntu has the network drivers in the last two.
const PACKAGES: [&str; 4] = ["linux-image-", "linux-image-unsigned-", "linux-modules-", "linux-modules-extra-"];

/// What the next autoremove would remove, by hand or by unattended-upgrades.
pub(super) fn outlook(host: &Host, oldest: &[KernelRelease], running: Option<&KernelRelease>) -> Option<Outlook> {
    let settings = settings(host);
    let autos = autos(host);
    let image = |k: &KernelRelease| {
        let names = PACKAGES[..2].iter().map(|p| format!("{p}{k}")).collect::<Vec<_>>();
        names.into_iter().find(|name| autos.contains(name))
    };
    let keeps = !says(&settings, "APT::Protect-Kernels", &["false", "no", "off", "0"]);
    let runs = |k: &KernelRelease| keeps && Some(k) == running;
    let newest = oldest.last().filter(|_| keeps && !running.is_some_and(|r| oldest.contains(r)));
    let patterns = never_removed(&settings);
    let goes = |k: &&KernelRelease| {
        let name = image(k).filter(|name| !patterns.iter().any(|p| matches(p, name)));
        name.is_some() && !runs(k) && Some(*k) != newest
    };
    let by_itself = host.exists("/etc/apt/apt.conf.d/50unattended-upgrades")
        && !says(&settings, "Unattended-Upgrade::Remove-Unused-Kernel-Packages", &["false", "no", "off", "0"]);
    let by = if by_itself { "unattended-upgrades removes unused kernels" } else { "apt autoremove removes unused kernels" };
    let doomed = oldest.iter().filter(goes).cloned().collect();
    let keep = move |kernel: &KernelRelease| {
        let unsigned = autos.contains(&format!("{}{kernel}", PACKAGES[1]));
        format!("apt-mark manual {}{kernel}", PACKAGES[usize::from(unsigned)])
    };
    Some(Outlook { doomed, by: by.to_owned(), keep: Box::new(keep) })
}

/// The packages of a kernel that autoremove may remove.
pub(super) fn unprotected(host: &Host, kernel: &KernelRelease) -> Vec<String> {
    let autos = autos(host);
    let installed = |name: &String| host.exists(format!("/var/lib/dpkg/info/{name}.list"));
    PACKAGES.iter().map(|p| format!("{p}{kernel}")).filter(|name| autos.contains(name) && installed(name)).collect()
}

/// The packages among these that are installed and marked as installed by hand.
pub(super) fn manual(host: &Host, packages: &[String]) -> Vec<String> {
    let autos = autos(host);
    let installed = |name: &&String| host.exists(format!("/var/lib/dpkg/info/{name}.list"));
    packages.iter().filter(installed).filter(|name| !autos.contains(name)).cloned().collect()
}

/// The packages that were installed automatically.
fn autos(host: &Host) -> Vec<String> {
    let text = host.read_text(STATES).unwrap_or_default();
    let field = |block: &str, key: &str| block.lines().find_map(|l| l.strip_prefix(key).map(|v| v.trim().to_owned()));
    let auto = |block: &str| field(block, "Auto-Installed:").filter(|v| v == "1").and_then(|_| field(block, "Package:"));
    text.split("\n\n").filter_map(auto).collect()
}

/// All settings, in the order in which apt reads them, without comments.
fn settings(host: &Host) -> String {
    let mut names = host.read_dir(SETTINGS[0]).unwrap_or_default();
    names.sort();
    let drop_ins = names.iter().filter(|n| *n != WRITTEN_ANEW).map(|n| Path::new(SETTINGS[0]).join(n));
    let texts = drop_ins.chain([SETTINGS[1].into()]).filter_map(|file| host.read_text(file).ok());
    let lines = |text: String| {
        let bare = |l: &str| l.trim_start().starts_with("//") || l.trim_start().starts_with('#');
        text.lines().filter(|l| !bare(l)).map(|l| format!("{l}\n")).collect::<String>()
    };
    texts.map(lines).collect()
}

/// Whether a setting in a single line has one of these values.
fn says(settings: &str, key: &str, values: &[&str]) -> bool {
    let value = |l: &str| l.trim().strip_prefix(key).map(|v| v.trim().trim_matches(['"', ';', ' ']).to_ascii_lowercase());
    settings.lines().filter_map(value).next_back().is_some_and(|v| values.contains(&v.as_str()))
}

/// The patterns of `APT::NeverAutoRemove`: `APT::NeverAutoRemove:: "…";`, or a list in braces.
fn never_removed(settings: &str) -> Vec<String> {
    let named = settings.match_indices("NeverAutoRemove").map(|(at, key)| &settings[at + key.len()..]);
    let list = |rest: &str| {
        let rest = rest.trim_start();
        let end = if rest.starts_with('{') { '}' } else { ';' };
        let inside = rest.split(end).next().unwrap_or_default();
        inside.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
    };
    named.flat_map(list).collect()
}

/// Whether a pattern that is a plain name or the beginning of one matches a package; other regular expressions are assumed to match none.
fn matches(pattern: &str, name: &str) -> bool {
    let (open, pattern) = (!pattern.starts_with('^'), pattern.trim_start_matches('^'));
    let (fixed, pattern) = (pattern.ends_with('$'), pattern.trim_end_matches('$'));
    let (rest, pattern) = (pattern.ends_with(".*"), pattern.trim_end_matches(".*"));
    let plain = pattern.replace('\\', "");
    if pattern.contains(['[', '*', '(', '|', '?']) {
        return false;
    }
    match (open, fixed && !rest) {
        (false, true) => name == plain,
        (false, false) => name.starts_with(&plain),
        (true, true) => name.ends_with(&plain),
        (true, false) => name.contains(&plain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "6.1.0-53-amd64";
    const MID: &str = "6.1.0-54-amd64";
    const NEW: &str = "6.1.0-57-amd64";

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        host.write_atomic("/etc/os-release", b"ID=debian\n", 0o644).unwrap();
        for (file, text) in files {
            host.write_atomic(file, text.as_bytes(), 0o644).unwrap();
        }
        (dir, host)
    }

    fn k(names: &[&str]) -> Vec<KernelRelease> {
        names.iter().map(|n| n.parse().unwrap()).collect()
    }

    fn states(packages: &[&str]) -> String {
        let all = packages.iter().map(|p| format!("Package: {p}\nArchitecture: amd64\nAuto-Installed: 1\n"));
        all.chain(["Package: other\nAuto-Installed: 0\n".to_owned()]).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_warning_names_the_last_safe_kernel_if_autoremove_would_remove_it() {
        let all = k(&[OLD, MID, NEW]);
        let autos = states(&[&format!("linux-image-{OLD}"), &format!("linux-image-{MID}"), &format!("linux-image-{NEW}")]);
        let told = |files: &[(&str, &str)], running: &str, safe: &[&str]| {
            let (_dir, host) = host(files);
            super::super::last_safe_kernel(&host, &all, k(&[running]).first(), &k(safe))
        };
        let (usual, never) = (("/var/lib/apt/extended_states", autos.as_str()), "/etc/apt/apt.conf.d/99own");
        let finding = told(&[usual], NEW, &[OLD]).unwrap();
        assert_eq!(finding.remedy, format!("apt-mark manual linux-image-{OLD}"));
        assert!(finding.detail.contains("apt autoremove"), "{finding:?}");
        let unattended = told(&[usual, ("/etc/apt/apt.conf.d/50unattended-upgrades", "")], NEW, &[OLD]).unwrap();
        assert!(unattended.detail.contains("unattended-upgrades"), "{unattended:?}");
        let off = "Unattended-Upgrade::Remove-Unused-Kernel-Packages \"false\";\n";
        let finding = told(&[usual, ("/etc/apt/apt.conf.d/50unattended-upgrades", off)], NEW, &[OLD]).unwrap();
        assert!(finding.detail.contains("apt autoremove"), "{finding:?}");
        assert_eq!(told(&[usual], OLD, &[OLD]), None, "the one that runs stays");
        assert!(told(&[usual, (never, "APT::Protect-Kernels \"false\";\n")], OLD, &[OLD]).is_some());
        assert_eq!(told(&[usual], "6.9", &[NEW]), None, "the newest stays as the one before the next");
        assert!(told(&[usual], "6.9", &[MID]).is_some());
        let by_hand = states(&[&format!("linux-image-{NEW}")]);
        assert_eq!(told(&[("/var/lib/apt/extended_states", &by_hand)], NEW, &[OLD]), None, "installed by hand");
        for text in [
            format!("APT::NeverAutoRemove:: \"^linux-image-{}$\";\n", OLD.replace('.', "\\.")),
            "APT\n{\n  NeverAutoRemove\n  {\n\t\"^firmware-.*\";\n\t\"^linux-image-6.*\";\n  };\n};\n".to_owned(),
        ] {
            assert_eq!(told(&[usual, (never, &text)], NEW, &[OLD]), None, "{text}");
        }
        let other =
            "APT { NeverAutoRemove { \"^linux-image-[a-z0-9]*$\"; }; VersionedKernelPackages { \"linux-.*\"; }; };\n";
        assert!(told(&[usual, (never, other)], NEW, &[OLD]).is_some());
        let more =
            "APT\n{\n  NeverAutoRemove\n  {\n\t\"^x$\";\n  };\n  VersionedKernelPackages\n  {\n\t\"linux-.*\";\n  };\n};\n";
        assert!(told(&[usual, (never, more)], NEW, &[OLD]).is_some());
        assert!(told(&[usual, ("/etc/apt/apt.conf.d/01autoremove-kernels", more)], NEW, &[OLD]).is_some());
    }

    #[test]
    fn the_packages_of_a_kernel_are_those_installed_and_marked() {
        let kernel: KernelRelease = "6.8.0-48-generic".parse().unwrap();
        let names: Vec<String> =
            ["linux-image-", "linux-modules-", "linux-modules-extra-"].map(|p| format!("{p}{kernel}")).into();
        let marked = states(&[&names[0], &names[2], "linux-image-unsigned-6.8.0-48-generic"]);
        let lists: Vec<String> = names.iter().map(|n| format!("/var/lib/dpkg/info/{n}.list")).collect();
        let mut files: Vec<(&str, &str)> = lists.iter().map(|l| (l.as_str(), "")).collect();
        files.push(("/var/lib/apt/extended_states", &marked));
        let (_dir, host) = host(&files);
        assert_eq!(unprotected(&host, &kernel), [names[0].clone(), names[2].clone()]);
        assert_eq!(manual(&host, &names), [names[1].clone()]);
        assert!(manual(&host, &["gone".to_owned()]).is_empty());
    }
}
