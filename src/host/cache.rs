//! Results kept to save time, in `/var/cache/vfguard`. Losing them costs only time, and the number of files of each kind is
//! bounded.

use super::{files, Host};
use std::path::{Path, PathBuf};

/// The directory, below the root. If it does not exist, nothing is kept.
pub const DIR: &str = "/var/cache/vfguard";
/// Files per kind. A dozen kernels with five modules each in their initramfs make sixty; each file has some kilobytes.
const MAX_FILES: usize = 128;

/// A kept result, by its kind and by a name that changes whenever the result would (see [`Host::identity`]).
pub fn read(host: &Host, kind: &str, name: &str) -> Option<Vec<u8>> {
    host.read(path(kind, name)).ok()
}

/// Keeps a result, and removes the oldest ones of its kind if there are too many. A failure costs only time. A file that is
/// removed while another run reads it can still be read to its end.
pub fn keep(host: &Host, kind: &str, name: &str, content: &[u8]) {
    if !host.is_dir(DIR) || host.write_atomic(path(kind, name), content, 0o644).is_err() {
        return;
    }
    let dir = host.path(DIR);
    files::keep_newest(&dir, MAX_FILES, |name| name.strip_prefix(kind).is_some_and(|rest| rest.starts_with('-')));
}

fn path(kind: &str, name: &str) -> PathBuf {
    Path::new(DIR).join(format!("{kind}-{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_bounded_in_number_and_the_newest_and_other_kinds_stay() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        keep(&host, "keys", "early", b"x");
        assert!(!host.exists(DIR), "a directory was made");
        files::create_dirs(&host.path(DIR), 0o711).unwrap();
        host.write_atomic(format!("{DIR}/build/run-1/file"), b"x", 0o644).unwrap();
        keep(&host, "initramfs", "other", b"x");
        for n in 0..MAX_FILES * 2 {
            keep(&host, "keys", &n.to_string(), n.to_string().as_bytes());
            // Files written at the same instant have no order.
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let names = host.read_dir(DIR).unwrap();
        assert_eq!(names.iter().filter(|n| n.to_string_lossy().starts_with("keys-")).count(), MAX_FILES);
        let last = (MAX_FILES * 2 - 1).to_string();
        assert_eq!(read(&host, "keys", &last), Some(last.clone().into_bytes()));
        assert_eq!(read(&host, "keys", "0"), None);
        assert!(read(&host, "initramfs", "other").is_some() && host.exists(format!("{DIR}/build/run-1/file")));
    }
}
