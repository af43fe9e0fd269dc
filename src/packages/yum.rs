//! yum 3 and its plugin post-transaction-actions: whether our action runs at the end of a transaction.

use super::ini;
use crate::host::{locks, Host};
use std::ffi::OsString;
use std::path::Path;

/// The plugin.
pub const PLUGIN: &str = "/usr/lib/yum-plugins/post-transaction-actions.py";
/// Its settings.
pub const PLUGIN_CONF: &str = "/etc/yum/pluginconf.d/post-transaction-actions.conf";
/// Its name on yum's command line.
const NAME: &str = "post-transaction-actions";
/// The directory of its actions, unless its settings name another one.
pub const ACTIONS: &str = "/etc/yum/post-actions";
/// The command in our action.
const CALL: &str = "vfguard reconcile --from yum";

/// yum's settings: the first of these two files that exists (yum's cli.py).
pub fn conf(host: &Host) -> &'static str {
    ["/etc/yum/yum.conf", "/etc/yum.conf"].into_iter().find(|file| host.is_file(file)).unwrap_or("/etc/yum.conf")
}

/// Whether yum loads plugins, including this one.
pub fn runs_actions(host: &Host) -> bool {
    ini::is_on(host, conf(host), "main", "plugins", false)
        && host.is_file(PLUGIN)
        && ini::is_on(host, PLUGIN_CONF, "main", "enabled", false)
}

/// Whether a yum is running whose transaction ends with our action.
pub fn action_follows(host: &Host) -> bool {
    let Some(pid) = locks::yum(host) else { return false };
    has_action(host) && runs_actions(host) && !words(host, pid).iter().any(|word| may_switch_off(word))
}

/// Whether the running yum changes packages of this system: another root has its own lock, and a test transaction changes nothing.
pub fn changes_this_system(host: &Host) -> bool {
    let here = |word: &String| !word.starts_with("--installroot") && !word.contains("tsflags=test");
    locks::yum(host).is_some_and(|pid| words(host, pid).iter().all(here))
}

fn words(host: &Host, pid: u32) -> Vec<String> {
    let line = host.read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

fn has_action(host: &Host) -> bool {
    let dir = ini::setting(host, PLUGIN_CONF, "main", "actiondir").unwrap_or_else(|| ACTIONS.into());
    let ours = |name: &OsString| {
        let file = Path::new(&dir).join(name);
        name.to_string_lossy().ends_with(".action") && host.read_text(file).is_ok_and(|text| text.contains(CALL))
    };
    host.read_dir(&dir).unwrap_or_default().iter().any(ours)
}

/// Options that disable plugins, or may: yum accepts abbreviated options, and other settings may contain anything.
fn may_switch_off(word: &str) -> bool {
    let other = ["--nopl", "--disablep", "--setopt=plugins", "--config"].iter().any(|option| word.starts_with(option));
    let names = |list: &str| list.split(',').any(|name| name == NAME || name.contains(['*', '?', '[']));
    word == "-c" || word.strip_prefix("--disableplugin=").map_or(other, names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        for (path, text) in files {
            host.write_atomic(path, text.as_bytes(), 0o644).unwrap();
        }
        (dir, host)
    }

    #[test]
    fn the_action_follows_if_a_yum_that_runs_it_is_at_work() {
        let whole = [
            ("/etc/yum.conf", "[main]\nplugins=1\n"),
            (PLUGIN, ""),
            (PLUGIN_CONF, "[main]\nenabled = 1\n"),
            ("/etc/yum/post-actions/vfguard.action", include_str!("../../packaging/hooks/yum.action")),
            ("/var/run/yum.pid", "7"),
            ("/proc/7/cmdline", "/usr/bin/python\0/usr/bin/yum\0-y\0update\0"),
        ];
        assert!(action_follows(&host(&whole).1));
        for (path, text) in [
            // Takes precedence over /etc/yum.conf.
            ("/etc/yum/yum.conf", "[main]\nplugins=0\n"),
            ("/etc/yum.conf", "[main]\n"),
            (PLUGIN_CONF, "[main]\nenabled=0\n"),
            ("/var/run/yum.pid", "8"),
            ("/proc/7/cmdline", "yum\0--noplugins\0update\0"),
            ("/proc/7/cmdline", "yum\0--disableplugin=fastestmirror,post-transaction-actions\0"),
            ("/proc/7/cmdline", "yum\0--disableplugin\0*\0"),
            ("/proc/7/cmdline", "yum\0--noplugin\0update\0"),
            ("/proc/7/cmdline", "yum\0-c\0/other\0"),
            (PLUGIN_CONF, "[main]\nenabled=1\nactiondir=/elsewhere/\n"),
            ("/etc/yum/post-actions/vfguard.action", "# nothing\n"),
        ] {
            let mut files = whole.to_vec();
            files.push((path, text));
            assert!(!action_follows(&host(&files).1), "{path} {text}");
        }
        for missing in [PLUGIN, "/etc/yum/post-actions/vfguard.action", "/var/run/yum.pid"] {
            let files: Vec<_> = whole.into_iter().filter(|(path, _)| *path != missing).collect();
            assert!(!action_follows(&host(&files).1), "{missing}");
        }
        let mut files = whole.to_vec();
        files.push(("/proc/7/cmdline", "yum\0--disableplugin=fastestmirror\0update\0"));
        assert!(action_follows(&host(&files).1), "another plugin is switched off");
    }
}
