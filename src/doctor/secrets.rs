//! Whether every user can read a user name or a password in a URL of the configuration. Its files are installed with mode
//! 0644, because every user may ask for a verdict. Whoever puts a secret into one must restrict its mode.

use super::Check;
use crate::config::CONFIG;
use crate::host::Host;
use crate::text::redact::scrub;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const NAME: &str = "secrets";
/// Where an administrator writes URLs, in addition to [`CONFIG`].
const DIRS: [&str; 2] = ["/etc/vfguard/config.d", "/etc/vfguard/drivers.d"];

/// Checks each configuration file and each recipe of the administrator.
pub fn examine(host: &Host) -> Vec<Check> {
    let mut files = vec![PathBuf::from(CONFIG)];
    for dir in DIRS {
        let names = host.read_dir(dir).unwrap_or_default();
        files.extend(names.into_iter().filter(|n| n.to_string_lossy().ends_with(".toml")).map(|n| Path::new(dir).join(n)));
    }
    let shown: Vec<Check> =
        files.iter().filter(|file| open_to_all(host, file) && secret(host, file)).map(|file| told(file)).collect();
    if shown.is_empty() {
        vec![Check::ok(NAME, "no URL with a user or a password in a file that everybody may read")]
    } else {
        shown
    }
}

fn told(file: &Path) -> Check {
    let file = file.display();
    let detail = format!("{file} has a URL with a user or a password, and everybody may read it");
    Check::warning(
        NAME,
        detail,
        format!("chmod 0640 {file} (and chgrp it to those who may ask for a verdict without being root)"),
    )
}

fn open_to_all(host: &Host, file: &Path) -> bool {
    let dirs = file.ancestors().skip(1).take_while(|dir| dir.starts_with("/etc/vfguard"));
    host.metadata(file).is_ok_and(|m| m.mode() & 0o004 != 0)
        && dirs.into_iter().all(|dir| host.metadata(dir).is_ok_and(|m| m.mode() & 0o001 != 0))
}

/// Files that cannot be read are skipped; the check of the configuration reports them.
fn secret(host: &Host, file: &Path) -> bool {
    host.read(file).is_ok_and(|text| scrub(&String::from_utf8_lossy(&text)).contains("***@"))
}
