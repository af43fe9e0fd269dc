//! `multiversion.kernels` of /etc/zypp/zypp.conf: the kernels that `zypper purge-kernels` keeps, which purge-kernels.service runs at the
//! boot after an update: `latest`, `latest-N`, `oldest`, `oldest+N`, `running`, and versions.

use super::Outlook;
use crate::host::Host;
use crate::kernel::KernelRelease;

const FILE: &str = "/etc/zypp/zypp.conf";
const KEY: &str = "multiversion.kernels";
/// Directories with a link to the service if it is enabled.
const WANTS: [&str; 2] = ["/etc/systemd/system/multi-user.target.wants", "/usr/lib/systemd/system/multi-user.target.wants"];
const SERVICE: &str = "purge-kernels.service";

/// What the purge after the next update would remove; none if nothing is ever purged.
pub(super) fn outlook(host: &Host, oldest: &[KernelRelease], running: Option<&KernelRelease>) -> Option<Outlook> {
    let text = host.read_text(FILE).ok()?;
    let value =
        text.lines().rev().find_map(|l| l.trim().strip_prefix(KEY)?.trim_start().strip_prefix('='))?.trim().to_owned();
    let enabled = WANTS.iter().any(|dir| host.path_of_link(format!("{dir}/{SERVICE}")).symlink_metadata().is_ok());
    if value.is_empty() || !enabled {
        return None;
    }
    let words: Vec<&str> = value.split(',').map(str::trim).collect();
    // The position from the newest, where the coming kernel is the first.
    let newer = |k: &KernelRelease| oldest.iter().filter(|o| *o > k).count() + 1;
    let kept = |k: &KernelRelease| {
        words.iter().any(|word| {
            let after = |name: &str, sign: char| match word.strip_prefix(name)? {
                "" => Some(0),
                rest => rest.strip_prefix(sign)?.parse().ok(),
            };
            after("latest", '-').is_some_and(|n: usize| n == newer(k))
                || after("oldest", '+').is_some_and(|n: usize| oldest.get(n) == Some(k))
                || (*word == "running" && Some(k) == running)
                || (word.starts_with(|c: char| c.is_ascii_digit()) && k.as_str().starts_with(word))
        })
    };
    let doomed = oldest.iter().filter(|k| !kept(k)).cloned().collect();
    let most = oldest.len();
    let keep = move |_: &KernelRelease| {
        let latest: String = (1..=most).map(|n| format!("latest-{n},")).collect();
        format!("sed -i 's/^ *{KEY} *=.*/{KEY} = latest,{latest}running/' {FILE}")
    };
    Some(Outlook { doomed, by: format!("{KEY} in {FILE} keeps {value}"), keep: Box::new(keep) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&str; 3] =
        ["5.14.21-150400.24.100-default", "5.14.21-150400.24.108-default", "5.14.21-150400.24.111-default"];

    fn host(value: &str, enabled: bool) -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        host.write_atomic(FILE, format!("[main]\n# {KEY} = latest\n{value}\n").as_bytes(), 0o644).unwrap();
        if enabled {
            let wants = host.path(WANTS[0]);
            std::fs::create_dir_all(&wants).unwrap();
            std::os::unix::fs::symlink("/usr/lib/systemd/system/purge-kernels.service", wants.join(SERVICE)).unwrap();
        }
        (dir, host)
    }

    #[test]
    fn a_warning_names_the_last_safe_kernel_if_the_purge_after_the_next_update_would_remove_it() {
        let all: Vec<KernelRelease> = ALL.iter().map(|k| k.parse().unwrap()).collect();
        for (value, running, safe, told) in [
            ("latest,latest-1,running", 2, 0, true),
            ("latest,latest-1,running", 2, 2, false),
            ("latest,latest-1,running", 0, 0, false),
            ("latest,latest-1,latest-3,running", 2, 0, false),
            ("latest,oldest", 2, 0, false),
            ("latest,oldest+1", 2, 0, true),
            ("latest,oldest+1", 2, 1, false),
            ("latest,5.14.21-150400.24.100", 2, 0, false),
            ("", 2, 0, false),
        ] {
            let (_dir, host) = host(&format!("{KEY} = {value}"), true);
            let finding = super::super::last_safe_kernel(&host, &all, Some(&all[running]), &all[safe..=safe]);
            assert_eq!(finding.is_some(), told, "{value}, {running} runs, {safe} is safe: {finding:?}");
        }
        let (_dir, host) = host(&format!("{KEY} = latest"), false);
        assert!(super::super::last_safe_kernel(&host, &all, None, &all[..1]).is_none(), "nothing purges");
    }

    #[test]
    fn the_setting_in_the_remedy_keeps_each_installed_kernel() {
        let all: Vec<KernelRelease> = ALL.iter().map(|k| k.parse().unwrap()).collect();
        let (dir, host) = host(&format!("{KEY} = latest,running"), true);
        let told = || super::super::last_safe_kernel(&host, &all, Some(&all[2]), &all[..1]);
        let command = told().unwrap().remedy.replace("/etc/", &format!("{}/etc/", dir.path().display()));
        assert!(std::process::Command::new("sh").args(["-c", &command]).status().unwrap().success(), "{command}");
        assert_eq!(told(), None, "{command}");
    }
}
