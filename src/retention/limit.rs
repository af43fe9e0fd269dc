//! `installonly_limit` (dnf.conf(5), yum.conf(5)): how many kernels dnf and yum keep. They remove the oldest, never the running one, and
//! `dnf mark install` does not keep a kernel.

use super::Outlook;
use crate::host::Host;
use crate::kernel::KernelRelease;

/// The default of dnf and yum.
const DEFAULT: usize = 3;
/// The settings files by precedence: yum reads the one in its own directory before the usual one.
const FILES: [&str; 3] = ["/etc/dnf/dnf.conf", "/etc/yum/yum.conf", "/etc/yum.conf"];
const KEY: &str = "installonly_limit";

/// What dnf or yum would remove; none without a limit.
pub(super) fn outlook(host: &Host, oldest: &[KernelRelease], running: Option<&KernelRelease>) -> Option<Outlook> {
    let (file, text) = FILES.iter().find_map(|f| Some((*f, host.read_text(f).ok()?)))?;
    let (limit, is_set) = installonly_limit(&text);
    let limit = limit?;
    let excess = (oldest.len() + 1).saturating_sub(limit);
    let doomed = oldest.iter().filter(|k| Some(*k) != running).take(excess).cloned().collect();
    let wanted = oldest.len() + 2;
    let keep = move |_: &KernelRelease| {
        if is_set {
            format!("sed -i 's/^ *{KEY} *=.*/{KEY}={wanted}/' {file}")
        } else {
            format!("sed -i '/^\\[main\\]/a {KEY}={wanted}' {file}")
        }
    };
    Some(Outlook { doomed, by: format!("{KEY} in {file} keeps {limit}"), keep: Box::new(keep) })
}

/// The number of kernels that are kept, none without a limit; and whether the settings contain it.
fn installonly_limit(text: &str) -> (Option<usize>, bool) {
    let mut main = false;
    let (mut limit, mut is_set) = (DEFAULT, false);
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            main = section.starts_with("main]");
        } else if let Some((_, value)) = line.split_once('=').filter(|(key, _)| main && key.trim() == KEY) {
            (limit, is_set) = (value.trim().parse().unwrap_or(DEFAULT), true);
        }
    }
    // Below 2 means no limit to dnf, 0 means none to yum; a limit of 1 keeps only the running kernel.
    ((limit > 1).then_some(limit), is_set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn k(names: &[&str]) -> Vec<KernelRelease> {
        names.iter().map(|n| n.parse().unwrap()).collect()
    }

    fn host(text: &str) -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        host.write_atomic("/etc/dnf/dnf.conf", text.as_bytes(), 0o644).unwrap();
        (dir, host)
    }

    #[test]
    fn the_warning_about_the_last_safe_kernel_comes_before_its_removal() {
        let all = k(&["4.18.0-80.el8", "4.18.0-147.el8", "4.18.0-553.el8"]);
        let told = |running: Option<&KernelRelease>, limit: usize, safe: &[KernelRelease]| {
            let (_dir, host) = host(&format!("[main]\ninstallonly_limit={limit}\n"));
            super::super::last_safe_kernel(&host, &all, running, safe).is_some()
        };
        let old = &all[..1];
        assert!(told(None, 3, old));
        assert!(!told(Some(&all[0]), 3, old), "the running kernel stays");
        assert!(!told(None, 4, old));
        assert!(!told(None, 0, old), "no limit");
        assert!(!told(None, 3, &all[1..2]));
        assert!(told(Some(&all[2]), 2, &all[..2]));
        assert!(!told(None, 3, &[]), "nothing to lose");
    }

    #[test]
    fn the_limit_is_read_only_from_its_section_and_the_remedy_raises_it_in_place() {
        for (text, limit) in [
            ("[main]\ngpgcheck=1\n", Some(3)),
            ("[main]\ninstallonly_limit = 5\n", Some(5)),
            ("[x]\ninstallonly_limit=5\n", Some(3)),
            ("[main]\ninstallonly_limit=0\n", None),
            ("[main]\ninstallonly_limit=x\n", Some(3)),
        ] {
            assert_eq!(installonly_limit(text).0, limit, "{text}");
        }
        let all = k(&["4.18.0-80.el8", "4.18.0-147.el8"]);
        for text in ["[main]\ngpgcheck=1\n", "[main]\n installonly_limit = 2\n"] {
            let (dir, host) = host(text);
            let outlook = outlook(&host, &all, None).unwrap();
            // As a person would type it, but with the file below this root.
            let command = (outlook.keep)(&all[0]).replace("/etc/", &format!("{}/etc/", dir.path().display()));
            assert!(std::process::Command::new("sh").args(["-c", &command]).status().unwrap().success(), "{command}");
            let text = host.read_text("/etc/dnf/dnf.conf").unwrap();
            assert_eq!(installonly_limit(&text), (Some(4), true), "{command}: {text}");
        }
    }
}
