//! modprobe's settings (modprobe.d(5)): `blacklist`, `install`, `alias`, `softdep`, and the parameters on the kernel command line.

use crate::host::Host;
use crate::module::fits;
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The directories of the files; a file hides those of the same name in later directories.
pub(in crate::module) const DIRECTORIES: [&str; 5] =
    ["/etc/modprobe.d", "/run/modprobe.d", "/usr/local/lib/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d"];
/// The file of EL6 and older.
pub(in crate::module) const OLD: &str = "/etc/modprobe.conf";
/// The memory limit for all lines: a machine has a few hundred of them, including a distribution's aliases.
const MAX_SETTINGS: usize = 16 << 20;
/// The memory of a line in addition to its text.
const LINE: usize = 128;

/// A line about a module, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    subject: String,
    rest: String,
    text: String,
    file: Rc<Path>,
}

/// The settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::module) struct Modprobe {
    blacklist: Vec<Line>,
    install: Vec<Line>,
    alias: Vec<Line>,
    softdep: Vec<Line>,
    taken: usize,
    /// Files that exist but cannot be read, with the reason: they may contain any setting.
    pub(in crate::module) unreadable: Vec<String>,
}

impl Modprobe {
    /// Reads all files in modprobe's order.
    pub(in crate::module) fn load(host: &Host) -> Modprobe {
        let mut settings = Modprobe::default();
        for file in files(host, &DIRECTORIES, OLD, |directory, e| settings.note(directory, &e)) {
            match host.read_text(&file) {
                Ok(text) => settings.add(&file, &text),
                Err(e) => settings.note(&file, &e),
            }
        }
        settings
    }

    /// Records a file that exists but cannot be read, or is too large. modprobe also ignores a dangling link, and a link to /dev/null
    /// (which is not a regular file).
    fn note(&mut self, path: &Path, error: &io::Error) {
        let nothing = match error.raw_os_error() {
            Some(raw) => [Errno::ENOENT, Errno::ENOTDIR, Errno::ELOOP].contains(&Errno::from_raw(raw)),
            None => error.kind() == io::ErrorKind::InvalidInput,
        };
        if !nothing {
            self.unreadable.push(format!("{} cannot be read: {error}", path.display()));
        }
    }

    /// Adds the text of one file.
    pub(in crate::module) fn add(&mut self, file: &Path, text: &str) {
        let shared: Rc<Path> = file.into();
        for line in text.replace("\\\n", " ").lines() {
            let line = line.trim();
            let mut words = line.split_whitespace();
            let (Some(verb), Some(subject)) = (words.next(), words.next()) else { continue };
            let rest = words.collect::<Vec<_>>().join(" ");
            let list = match verb {
                "blacklist" => &mut self.blacklist,
                "install" => &mut self.install,
                "alias" => &mut self.alias,
                "softdep" => &mut self.softdep,
                _ => continue,
            };
            self.taken += 2 * line.len() + LINE;
            if self.taken > MAX_SETTINGS {
                let most = MAX_SETTINGS >> 20;
                self.unreadable.push(format!("{} cannot be read: all settings take more than {most} MiB", file.display()));
                return;
            }
            let subject = if verb == "alias" { subject.to_owned() } else { subject.replace('-', "_") };
            list.push(Line { subject, rest, text: line.to_owned(), file: shared.clone() });
        }
    }

    /// The modules that `alias` lines give for a modalias.
    pub(in crate::module) fn alias(&self, modalias: &str) -> Vec<String> {
        self.alias.iter().filter(|l| fits(&l.subject, modalias)).map(|l| l.rest.clone()).collect()
    }

    /// The soft dependencies of a module in `softdep` lines.
    pub(in crate::module) fn softdeps(&self, name: &str) -> impl Iterator<Item = &String> {
        let name = name.to_owned();
        self.softdep.iter().filter(move |l| l.subject == name).map(|l| &l.rest)
    }

    /// Why a module would not be loaded for a device, if so: udev asks libkmod to apply `blacklist`.
    pub(in crate::module) fn refuses(&self, name: &str, cmdline: &str) -> Option<String> {
        if let Some(word) = word_that_forbids(name, cmdline) {
            return Some(format!("`{word}` on the kernel command line"));
        }
        // Alias lines that name another module were applied when the device was resolved.
        let said = |l: &&Line| l.subject == name;
        let blacklisted = self.blacklist.iter().find(said);
        let replaced = self.install.iter().find(|l| said(l) && !loads(name, &l.rest));
        let line = blacklisted.or(replaced)?;
        Some(format!("`{}` in {}", line.text, line.file.display()))
    }
}

impl Modprobe {
    /// Like [`Modprobe::refuses`], for a module that another one needs: `blacklist` does not apply to it.
    pub(in crate::module) fn refuses_as_dependency(&self, name: &str, cmdline: &str) -> Option<String> {
        let word =
            cmdline.split_whitespace().find(|w| w.starts_with("module_blacklist=") && word_that_forbids(name, w).is_some());
        if let Some(word) = word {
            return Some(format!("`{word}` on the kernel command line"));
        }
        let line = self.install.iter().find(|l| l.subject == name && !loads(name, &l.rest))?;
        Some(format!("`{}` in {}", line.text, line.file.display()))
    }
}

/// Whether an `install` command loads the module in the end.
fn loads(name: &str, command: &str) -> bool {
    let words: Vec<String> = command.split_whitespace().map(|w| w.replace('-', "_")).collect();
    let modprobe = words.iter().any(|w| w == "modprobe" || w.ends_with("/modprobe"));
    modprobe && words.iter().any(|w| w == name) && words.iter().any(|w| w == "__ignore_install" || w == "_i")
}

/// The parameter that forbids a module: `modprobe.blacklist=` of libkmod or `module_blacklist=` of the kernel.
fn word_that_forbids<'c>(name: &str, cmdline: &'c str) -> Option<&'c str> {
    cmdline.split_whitespace().find(|word| {
        let list = ["modprobe.blacklist=", "module_blacklist="].iter().find_map(|key| word.strip_prefix(key));
        list.is_some_and(|list| list.trim_matches('"').split(',').any(|m| m.replace('-', "_") == name))
    })
}

/// The `*.conf` files of these directories in the order of their names; a file hides those of the same name in later directories. `failed`
/// is called for a directory that cannot be listed.
pub(in crate::module) fn files(
    host: &Host,
    directories: &[&str],
    old: &str,
    mut failed: impl FnMut(&Path, io::Error),
) -> Vec<PathBuf> {
    let mut by_name: BTreeMap<std::ffi::OsString, PathBuf> = BTreeMap::new();
    for directory in directories {
        let names = host.read_dir(directory).unwrap_or_else(|e| {
            failed(Path::new(directory), e);
            Vec::new()
        });
        for name in names {
            if Path::new(&name).extension().is_some_and(|e| e == "conf") {
                by_name.entry(name.clone()).or_insert_with(|| Path::new(directory).join(&name));
            }
        }
    }
    let mut files: Vec<PathBuf> = by_name.into_values().collect();
    files.extend(Some(PathBuf::from(old)).filter(|p| host.is_file(p)));
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Modprobe {
        let mut settings = Modprobe::default();
        settings.add(Path::new("/etc/modprobe.d/x.conf"), text);
        settings
    }

    #[test]
    fn a_blacklisted_module_is_not_loaded() {
        let s = settings("# blacklist e1000\nblacklist \\\n ixgbe-vf\ninstall igbvf /bin/false\n");
        assert!(s.refuses("e1000", "").is_none());
        assert!(s.refuses("igbvf", "").unwrap().contains("`install igbvf /bin/false` in /etc/modprobe.d/x.conf"));
        assert!(settings("blacklist ixgbe-vf\n").refuses("ixgbe_vf", "").is_some());
    }

    #[test]
    fn a_continued_line_is_one_line() {
        assert!(settings("blacklist\\\n ixgbevf\n").refuses("ixgbevf", "").is_some());
    }

    #[test]
    fn an_install_line_that_loads_the_module_in_the_end_is_accepted() {
        let s = settings("install ixgbevf /sbin/modprobe --ignore-install ixgbevf $CMDLINE_OPTS && /bin/true\n");
        assert!(s.refuses("ixgbevf", "").is_none());
        assert!(settings("install ixgbevf /sbin/modprobe igbvf\n").refuses("ixgbevf", "").is_some());
    }

    #[test]
    fn an_unreadable_file_is_recorded_and_an_empty_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("etc/modprobe.d");
        std::fs::create_dir_all(&at).unwrap();
        std::os::unix::fs::symlink("nowhere", at.join("gone.conf")).unwrap();
        // Not a regular file, like /dev/null.
        nix::unistd::mkfifo(&at.join("null.conf"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let host = Host::new(dir.path()).unwrap();
        assert_eq!(Modprobe::load(&host).unreadable, [""; 0]);
        let mut settings = Modprobe::default();
        settings.note(Path::new("/etc/modprobe.d/x.conf"), &Errno::EIO.into());
        assert!(settings.unreadable[0].starts_with("/etc/modprobe.d/x.conf cannot be read: "), "{settings:?}");
        settings
            .note(Path::new("/etc/modprobe.d/y.conf"), &io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 byte"));
        assert_eq!(settings.unreadable.len(), 2, "{settings:?}");
    }

    #[test]
    fn parameters_on_the_command_line_forbid_a_module() {
        let s = Modprobe::default();
        assert!(s.refuses("ixgbevf", "quiet modprobe.blacklist=a,ixgbevf").is_some());
        assert!(s.refuses("ixgbevf", "module_blacklist=ixgbevf,b").is_some());
        assert!(s.refuses("ixgbevf", "module_blacklist=ixgbe").is_none());
    }

    #[test]
    fn a_file_in_etc_hides_the_one_of_its_name_in_usr() {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in [("etc/modprobe.d/a.conf", ""), ("usr/lib/modprobe.d/a.conf", "blacklist ixgbevf\n")] {
            std::fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
            std::fs::write(dir.path().join(path), text).unwrap();
        }
        assert!(Modprobe::load(&Host::new(dir.path()).unwrap()).refuses("ixgbevf", "").is_none());
    }

    #[test]
    fn an_alias_line_names_the_module_for_a_device() {
        assert_eq!(settings("alias pci:v00008086d000010ED* off\n").alias("pci:v00008086d000010EDsv0"), ["off"]);
    }
}
