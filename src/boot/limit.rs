//! `installonly_limit` (dnf.conf(5), yum.conf(5)): how many kernels a package manager keeps, and whether its next update would
//! remove the last one that is known to be good.

use crate::finding::{Code, Finding};
use crate::host::Host;
use crate::kernel::KernelRelease;

/// What dnf and yum keep unless told.
const DEFAULT: usize = 3;
/// The settings, the one that is used first.
const FILES: [&str; 3] = ["/etc/dnf/dnf.conf", "/etc/yum.conf", "/etc/yum/yum.conf"];

/// How many kernels are kept; none where nothing is ever removed.
pub fn installonly_limit(host: &Host) -> Option<usize> {
    let text = FILES.iter().find_map(|f| host.read_text(f).ok())?;
    let mut main = false;
    let mut limit = DEFAULT;
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            main = section.starts_with("main]");
        } else if let Some((key, value)) = line.split_once('=').filter(|_| main) {
            if key.trim() == "installonly_limit" {
                limit = value.trim().parse().unwrap_or(DEFAULT);
            }
        }
    }
    // Below 2 means no limit to dnf, 0 to yum; a limit of 1 keeps the running kernel alone.
    (limit > 1).then_some(limit)
}

/// A warning if the next kernel update would remove every safe kernel: package managers remove the oldest, never the running
/// one. The new kernel counts among those kept, and is not known to be safe.
pub fn last_safe_kernel(
    installed: &[KernelRelease],
    running: Option<&KernelRelease>,
    limit: Option<usize>,
    safe: &[KernelRelease],
) -> Option<Finding> {
    let excess = (installed.len() + 1).saturating_sub(limit?);
    let mut oldest: Vec<&KernelRelease> = installed.iter().collect();
    oldest.sort();
    let doomed: Vec<&KernelRelease> = oldest.into_iter().filter(|k| Some(*k) != running).take(excess).collect();
    let is_safe = |k: &KernelRelease| safe.contains(k);
    let stays = installed.iter().any(|k| is_safe(k) && !doomed.contains(&k));
    let last = doomed.iter().rev().find(|k| is_safe(k))?;
    (!stays).then(|| {
        Finding::warn(
            Code::LastSafeKernel,
            format!(
                "the next kernel update would remove {last}, the last safe kernel (installonly_limit keeps {})",
                limit.unwrap_or(DEFAULT)
            ),
            format!("set installonly_limit={} in {}", installed.len() + 2, FILES[0]),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn k(names: &[&str]) -> Vec<KernelRelease> {
        names.iter().map(|n| n.parse().unwrap()).collect()
    }

    #[test]
    fn the_last_safe_kernel_is_missed_before_it_is_removed() {
        let all = k(&["4.18.0-80.el8", "4.18.0-147.el8", "4.18.0-553.el8"]);
        let old = &all[..1];
        assert!(last_safe_kernel(&all, None, Some(3), old).is_some());
        assert!(last_safe_kernel(&all, Some(&all[0]), Some(3), old).is_none(), "the running kernel stays");
        assert!(last_safe_kernel(&all, None, Some(4), old).is_none());
        assert!(last_safe_kernel(&all, None, None, old).is_none());
        assert!(last_safe_kernel(&all, None, Some(3), &all[1..2]).is_none());
        assert!(last_safe_kernel(&all, Some(&all[2]), Some(2), &all[..2]).is_some());
        assert!(last_safe_kernel(&all, None, Some(3), &[]).is_none(), "nothing to lose");
    }

    #[test]
    fn the_limit_is_read_from_its_section_only() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        assert_eq!(installonly_limit(&host), None);
        std::fs::create_dir_all(dir.path().join("etc/dnf")).unwrap();
        let limit = |text: &str| {
            std::fs::write(dir.path().join("etc/dnf/dnf.conf"), text).unwrap();
            installonly_limit(&host)
        };
        assert_eq!(limit("[main]\ngpgcheck=1\n"), Some(3));
        assert_eq!(limit("[main]\ninstallonly_limit = 5\n"), Some(5));
        assert_eq!(limit("[x]\ninstallonly_limit=5\n"), Some(3));
        assert_eq!(limit("[main]\ninstallonly_limit=0\n"), None);
        assert_eq!(limit("[main]\ninstallonly_limit=x\n"), Some(3));
    }
}
