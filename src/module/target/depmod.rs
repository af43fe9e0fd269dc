//! depmod's settings (depmod.d(5)): which copy of a module it chooses.

use super::modprobe::files;
use crate::host::Host;
use crate::kernel::KernelRelease;
use crate::module::name_of;
use std::path::{Path, PathBuf};

pub(in crate::module) const DIRECTORIES: [&str; 5] =
    ["/etc/depmod.d", "/run/depmod.d", "/usr/local/lib/depmod.d", "/usr/lib/depmod.d", "/lib/depmod.d"];
/// The file of EL6 and older.
pub(in crate::module) const OLD: &str = "/etc/depmod.conf";
/// depmod's default without a `search` line.
const SEARCH: [&str; 2] = ["updates", "built-in"];

/// The effective order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::module) struct Order {
    search: Vec<String>,
    /// Module and directory.
    overrides: Vec<(String, String)>,
}

impl Order {
    /// Reads all files.
    pub(in crate::module) fn load(host: &Host, release: &KernelRelease) -> Order {
        let mut order = Order { search: Vec::new(), overrides: Vec::new() };
        // An unreadable file here only affects a warning; modules.dep decides which copy is loaded.
        for file in files(host, &DIRECTORIES, OLD, |_, _| {}) {
            order.add(&host.read_text(&file).unwrap_or_default(), release);
        }
        if order.search.is_empty() {
            order.search = SEARCH.map(str::to_owned).into();
        }
        order
    }

    fn add(&mut self, text: &str, release: &KernelRelease) {
        for line in text.replace("\\\n", " ").lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["search", ref places @ ..] => self.search.extend(places.iter().map(|p| (*p).to_owned())),
                // depmod takes the release as a regular expression; in practice it is `*` or the release itself.
                ["override", module, kernel, place] if ["*", ".*", release.as_str()].contains(&kernel) => {
                    self.overrides.push((module.replace('-', "_"), place.to_owned()));
                }
                _ => {}
            }
        }
    }

    /// The copy of a module that depmod chooses, below K's directory; none if several have the same rank.
    pub(in crate::module) fn choose<'p>(&self, dir: &Path, copies: &'p [PathBuf]) -> Option<&'p PathBuf> {
        let best = copies.iter().map(|p| self.rank(dir, p)).min()?;
        let mut first = copies.iter().filter(|p| self.rank(dir, p) == best);
        match (first.next(), first.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        }
    }

    /// The lowest rank wins: an override, else the place of its directory in the search, else that of `built-in`.
    fn rank(&self, dir: &Path, path: &Path) -> usize {
        let inside = path.strip_prefix(dir).unwrap_or(path);
        let name = path.file_name().map(|f| name_of(&f.to_string_lossy())).unwrap_or_default();
        if self.overrides.iter().any(|(module, place)| *module == name && inside.parent() == Some(Path::new(place))) {
            return 0;
        }
        let place = |p: &str| self.search.iter().position(|s| s == p).map(|i| i + 1);
        let listed = self.search.iter().position(|s| s != "built-in" && inside.starts_with(s)).map(|i| i + 1);
        listed.or_else(|| place("built-in")).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(text: &str) -> Order {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("etc/depmod.d")).unwrap();
        std::fs::write(dir.path().join("etc/depmod.d/x.conf"), text).unwrap();
        Order::load(&Host::new(dir.path()).unwrap(), &"6.1.0-56-amd64".parse().unwrap())
    }

    fn chosen(order: &Order, copies: &[&str]) -> Option<String> {
        let paths: Vec<PathBuf> = copies.iter().map(PathBuf::from).collect();
        order.choose(Path::new("/m"), &paths).map(|p| p.display().to_string())
    }

    const COPIES: [&str; 3] = ["/m/kernel/net/x.ko", "/m/extra/x.ko", "/m/updates/a/x.ko"];

    #[test]
    fn updates_come_before_the_kernels_own_unless_the_search_says_otherwise() {
        assert_eq!(chosen(&order(""), &COPIES).unwrap(), "/m/updates/a/x.ko");
        assert_eq!(chosen(&order("search built-in updates\n"), &COPIES[..1]).unwrap(), "/m/kernel/net/x.ko");
        assert_eq!(chosen(&order("search extra built-in updates\n"), &COPIES).unwrap(), "/m/extra/x.ko");
        assert_eq!(chosen(&order("search updates extra built-in weak-updates\n"), &COPIES[..2]).unwrap(), "/m/extra/x.ko");
    }

    #[test]
    fn an_override_comes_first() {
        assert_eq!(chosen(&order("override x * extra\n"), &COPIES).unwrap(), "/m/extra/x.ko");
        assert_eq!(chosen(&order("override x 5.0 extra\n"), &COPIES).unwrap(), "/m/updates/a/x.ko");
    }

    #[test]
    fn none_of_several_copies_with_the_same_rank_is_chosen() {
        assert_eq!(chosen(&order(""), &COPIES[..2]), None, "extra is built-in without a search line that names it");
    }
}
