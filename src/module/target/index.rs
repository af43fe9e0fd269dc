//! depmod's tables of a kernel. modprobe reads their binary form ([`super::trie`]). If that is missing, the text (modules.dep(5)) still
//! shows what depmod knew, and [`Index::problems`] reports that modprobe would not find it.

use super::modprobe::Modprobe;
use super::trie::Trie;
use crate::host::Host;
use crate::kernel::installed::modules_dir;
use crate::kernel::KernelRelease;
use crate::module::{fits, name_of};
use std::cell::OnceCell;
use std::path::{Path, PathBuf};

/// A driver for a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provider {
    /// A driver built into the kernel.
    BuiltIn(String),
    /// A module, by name.
    Module(String),
}

/// The tables; each is read when it is first needed.
pub struct Index {
    host: Host,
    dir: PathBuf,
    dep: OnceCell<Table>,
    alias: OnceCell<Table>,
    symbols: OnceCell<Table>,
    builtin: OnceCell<Table>,
    builtin_alias: OnceCell<Table>,
    modprobe: OnceCell<Modprobe>,
}

enum Table {
    Binary(Trie),
    /// The binary form is damaged.
    Damaged,
    /// Only the text exists, or nothing (an empty text).
    Text(Vec<u8>),
}

impl Index {
    /// Finds the tables of a kernel.
    pub fn load(host: &Host, release: &KernelRelease) -> Index {
        Index {
            host: host.clone(),
            dir: modules_dir(release),
            dep: OnceCell::new(),
            alias: OnceCell::new(),
            symbols: OnceCell::new(),
            builtin: OnceCell::new(),
            builtin_alias: OnceCell::new(),
            modprobe: OnceCell::new(),
        }
    }

    fn table<'i>(&'i self, cell: &'i OnceCell<Table>, name: &str, text: &str) -> &'i Table {
        cell.get_or_init(|| match self.host.read(self.dir.join(format!("{name}.bin"))) {
            Ok(bytes) => Trie::new(bytes).map_or(Table::Damaged, Table::Binary),
            Err(_) => Table::Text(self.host.read(self.dir.join(text)).unwrap_or_default()),
        })
    }

    fn dep(&self) -> &Table {
        self.table(&self.dep, "modules.dep", "modules.dep")
    }

    fn alias(&self) -> &Table {
        self.table(&self.alias, "modules.alias", "modules.alias")
    }

    /// modprobe's settings.
    pub(in crate::module) fn modprobe(&self) -> &Modprobe {
        self.modprobe.get_or_init(|| Modprobe::load(&self.host))
    }

    /// Whether depmod has run at all.
    pub fn is_there(&self) -> bool {
        !matches!(self.dep(), Table::Text(text) if text.is_empty())
    }

    /// The tables that modprobe could not use, and why.
    pub(in crate::module) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (table, name) in [(self.dep(), "modules.dep.bin"), (self.alias(), "modules.alias.bin")] {
            match table {
                Table::Binary(_) => {}
                Table::Damaged => problems.push(format!("{} is damaged", self.dir.join(name).display())),
                Table::Text(text) if text.is_empty() => {}
                Table::Text(_) => problems.push(format!("{} is not there", self.dir.join(name).display())),
            }
        }
        problems
    }

    /// The file that the table lists for a module's name, below the root.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.entry(name).map(|(file, _)| self.absolute(&file))
    }

    /// The files that must be loaded before it.
    pub fn dependencies(&self, name: &str) -> Vec<PathBuf> {
        let Some((_, needs)) = self.entry(name) else { return Vec::new() };
        needs.split_whitespace().map(|f| self.absolute(f)).collect()
    }

    fn entry(&self, name: &str) -> Option<(String, String)> {
        let name = name.replace('-', "_");
        let line = match self.dep() {
            Table::Binary(trie) => trie.exact(&name).ok()?.first().map(|l| (*l).to_owned()),
            Table::Damaged => None,
            Table::Text(text) => {
                let is = |l: &&str| l.split_once(':').is_some_and(|(file, _)| name_of(file) == name);
                lines(text).find(is).map(str::to_owned)
            }
        }?;
        line.split_once(':').map(|(file, needs)| (file.to_owned(), needs.to_owned()))
    }

    fn absolute(&self, file: &str) -> PathBuf {
        // modules.dep has an absolute path for a module outside the directory.
        self.dir.join(Path::new(file))
    }

    /// Whether a module is built in.
    pub fn is_builtin(&self, name: &str) -> bool {
        let name = name.replace('-', "_");
        match self.table(&self.builtin, "modules.builtin", "modules.builtin") {
            Table::Binary(trie) => trie.exact(&name).is_ok_and(|v| !v.is_empty()),
            Table::Damaged => false,
            Table::Text(text) => lines(text).any(|l| name_of(l) == name),
        }
    }

    /// The module that exports a symbol, by depmod's table.
    pub(in crate::module) fn exporter(&self, symbol: &str) -> Option<String> {
        match self.table(&self.symbols, "modules.symbols", "modules.symbols") {
            Table::Binary(trie) => trie.exact(&format!("symbol:{symbol}")).ok()?.first().map(|m| (*m).to_owned()),
            Table::Damaged => None,
            Table::Text(text) => {
                let mut all = lines(text).filter_map(|l| l.strip_prefix("alias symbol:")?.split_once(' '));
                all.find(|(s, _)| *s == symbol).map(|(_, module)| module.to_owned())
            }
        }
    }

    /// Whether the table of aliases lists a module for exactly this pattern.
    pub(in crate::module) fn knows_alias(&self, pattern: &str, module: &str) -> bool {
        // depmod writes `-` as `_` outside brackets.
        let pattern = underscores(pattern);
        match self.alias() {
            Table::Binary(trie) => trie.exact(&pattern).is_ok_and(|m| m.iter().any(|m| m.replace('-', "_") == module)),
            Table::Damaged => false,
            Table::Text(text) => aliases(text).any(|(p, m)| p == pattern && m.replace('-', "_") == module),
        }
    }

    /// The drivers for a device. If an `alias` line of modprobe.d matches, only those lines count, as in `kmod_module_new_from_lookup`;
    /// else built-in drivers, since they are already active, then modules in the order of the table.
    pub fn resolve(&self, modalias: &str) -> Vec<Provider> {
        let mut found: Vec<Provider> = self.builtin_for(modalias).into_iter().map(Provider::BuiltIn).collect();
        let configured = self.modprobe().alias(modalias);
        let modules = if configured.is_empty() { self.modules_for(modalias) } else { configured };
        for module in modules.into_iter().filter(|m| m != "off") {
            let module = module.replace('-', "_");
            let provider = if self.is_builtin(&module) { Provider::BuiltIn(module) } else { Provider::Module(module) };
            if !found.contains(&provider) {
                found.push(provider);
            }
        }
        found
    }

    fn modules_for(&self, modalias: &str) -> Vec<String> {
        match self.alias() {
            Table::Binary(trie) => {
                trie.matching(&underscores(modalias)).unwrap_or_default().into_iter().map(str::to_owned).collect()
            }
            Table::Damaged => Vec::new(),
            Table::Text(text) => {
                let fit = aliases(text).filter(|(pattern, _)| fits(pattern, &underscores(modalias)));
                fit.map(|(_, module)| module.to_owned()).collect()
            }
        }
    }

    /// The built-in drivers for a device. Kernels since 5.2 list their aliases in `modules.builtin.modinfo`.
    fn builtin_for(&self, modalias: &str) -> Vec<String> {
        let mut found: Vec<String> =
            match self.table(&self.builtin_alias, "modules.builtin.alias", "modules.builtin.modinfo") {
                Table::Binary(trie) => trie
                    .matching(&underscores(modalias))
                    .unwrap_or_default()
                    .into_iter()
                    .map(|m| m.replace('-', "_"))
                    .collect(),
                Table::Damaged => Vec::new(),
                Table::Text(info) => {
                    let entries = info.split(|&b| b == 0).filter_map(|e| std::str::from_utf8(e).ok()?.split_once('='));
                    let fit = entries.filter_map(|(key, pattern)| Some((key.strip_suffix(".alias")?, pattern)));
                    fit.filter(|(_, pattern)| fits(pattern, modalias)).map(|(m, _)| m.replace('-', "_")).collect()
                }
            };
        found.sort();
        found.dedup();
        found
    }

    /// In-tree modules from which facts about the kernel can be read: those of the text table below `kernel/`, in its order. Network
    /// drivers come last, since makefiles of out-of-tree drivers install there too.
    pub(in crate::module) fn own_modules(&self) -> Vec<PathBuf> {
        let text = self.host.read_start(self.dir.join("modules.dep"), OWN_LINES).unwrap_or_default();
        let files = lines(&text).filter_map(|l| l.split(':').next()).filter(|f| f.starts_with("kernel/"));
        let (net, others): (Vec<&str>, Vec<&str>) = files.partition(|f| f.starts_with("kernel/drivers/net/"));
        others.into_iter().chain(net).take(OWN_MODULES).map(|f| self.absolute(f)).collect()
    }
}

/// How many in-tree modules are tried to find a readable one.
const OWN_MODULES: usize = 8;
/// Bytes of the table that are searched for them; the last line may be cut, and then names no file.
const OWN_LINES: u64 = 64 << 10;

fn lines(text: &[u8]) -> impl Iterator<Item = &str> {
    text.split(|&b| b == b'\n').filter_map(|l| std::str::from_utf8(l).ok())
}

fn aliases(text: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    lines(text).filter_map(|l| l.strip_prefix("alias ")?.rsplit_once(' '))
}

/// `alias_normalize` of libkmod: `-` becomes `_`, but not inside brackets.
fn underscores(alias: &str) -> String {
    let mut inside = false;
    let change = |c| {
        inside = (inside || c == '[') && c != ']';
        if c == '-' && !inside {
            '_'
        } else {
            c
        }
    };
    alias.chars().map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_in_directories_into_which_makefiles_install_are_read_last() {
        let dir = tempfile::tempdir().unwrap();
        let modules = dir.path().join("lib/modules/6.1.0");
        std::fs::create_dir_all(&modules).unwrap();
        let table = "updates/a.ko:\nkernel/drivers/net/b.ko:\nkernel/fs/c.ko: kernel/fs/d.ko\nkernel/fs/d.ko:\n";
        std::fs::write(modules.join("modules.dep"), table).unwrap();
        let index = Index::load(&Host::new(dir.path()).unwrap(), &"6.1.0".parse().unwrap());
        let names: Vec<String> = index.own_modules().iter().map(|p| name_of(&p.to_string_lossy())).collect();
        assert_eq!(names, ["c", "d", "b"]);
    }
}
