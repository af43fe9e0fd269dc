//! `blscfg`: menu entries from Boot Loader Specification files (rhboot/grub2's `grub-core/commands/blscfg.c`).

use super::eval::{Machine, Order};
use super::menu::{Body, Entry};
use crate::boot::grub2::bls::{self, Snippet};
use std::path::PathBuf;

/// Where the entries are unless `blsdir` is set, on the boot file system or below it.
const ENTRIES: &str = "/boot/loader/entries";

impl Machine<'_> {
    pub(super) fn blscfg(&mut self, what: Option<&str>) -> i32 {
        self.bls = true;
        let directory = self.bls_directory(what);
        self.looked_into(&directory);
        let (snippets, problems) = bls::read(self.world.host, &directory);
        for (message, remedy) in problems {
            self.doubt(message, remedy);
        }
        let sorted = self.sorted(snippets);
        let default = self.get("default").map(str::to_owned);
        for (i, snippet) in sorted.iter().enumerate() {
            let is_default = || is_default(snippet, i, default.as_deref());
            let wanted = match what {
                Some("default") => is_default(),
                Some("non-default") => !is_default(),
                Some(id) if !id.starts_with('(') => id == snippet.id,
                _ => true,
            };
            if wanted {
                self.create(snippet);
            }
        }
        0
    }

    fn bls_directory(&self, what: Option<&str>) -> PathBuf {
        let named = match what {
            Some(path) if path.starts_with('(') => Some(path.to_owned()),
            _ => self.get("blsdir").map(str::to_owned),
        };
        // A path of the entries' own file system; where it does not exist, GRUB looks in /boot/loader/entries.
        named
            .and_then(|d| crate::boot::image::locate_among(&d, &|path| self.world.exists(path)))
            .unwrap_or_else(|| ENTRIES.into())
    }

    fn sorted(&mut self, snippets: Vec<Snippet>) -> Vec<Snippet> {
        let (sorted, tie) = bls::sort(snippets, self.world.order == Order::Version);
        if let Some((a, b)) = tie {
            self.doubt(
                format!("the entries {a} and {b} sort alike, and which one GRUB keeps depends on the file system"),
                format!("remove one of {ENTRIES}/{a}.conf and {ENTRIES}/{b}.conf"),
            );
        }
        sorted
    }

    /// Makes the menu entry as blscfg.c's `create_entry` does: as a script that is run when it is started.
    fn create(&mut self, snippet: &Snippet) {
        let Some(linux) = snippet.get("linux") else {
            if snippet.get("uki").is_some() || snippet.get("efi").is_some() {
                self.note(format!("{}.conf names no kernel of its own, and GRUB skips it", snippet.id), "");
            }
            return;
        };
        let options =
            snippet.get("options").or(self.get("default_kernelopts")).map(|o| self.expand_options(o)).unwrap_or_default();
        let mut initrds: Vec<String> = Vec::new();
        if let Some(early) = self.get("early_initrd") {
            let beside = snippet.get("initrd").unwrap_or(linux);
            let directory = beside.rsplit_once('/').map_or("", |(d, _)| d);
            initrds.extend(early.split(' ').filter(|e| !e.is_empty()).map(|e| format!("{directory}/{e}")));
        }
        initrds.extend(snippet.all("initrd").map(str::to_owned));
        let mut source = String::new();
        if self.get("save_default") == Some("true") {
            source.push_str("savedefault\n");
        }
        source.push_str(&format!("linux ($root){linux} {options}\n"));
        if !initrds.is_empty() {
            source.push_str("initrd");
            initrds.iter().for_each(|i| source.push_str(&format!(" ($root){i}")));
            source.push('\n');
        }
        let title = snippet.get("title").unwrap_or(linux).to_owned();
        let entry = Entry {
            args: std::iter::once(title.clone()).chain(snippet.all("grub_arg").map(str::to_owned)).collect(),
            title,
            id: snippet.id.clone(),
            submenu: false,
            restricted: snippet.get("grub_users").is_some_and(|u| !self.expand_options(u).trim().is_empty()),
            bls: true,
            body: Body::Source(source),
        };
        if let Some(menu) = self.menus.last_mut() {
            menu.push(entry);
        }
    }

    /// blscfg.c's `expand_val`: `$name` becomes its value and a space; `\$` stays.
    fn expand_options(&self, value: &str) -> String {
        let mut out = String::new();
        let mut rest = value;
        while let Some(at) = rest.find('$') {
            let escaped = rest[..at].ends_with('\\');
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if escaped {
                out.push('$');
                continue;
            }
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            if let Some(v) = self.get(&rest[..end]) {
                out.push_str(v);
                out.push(' ');
            }
            rest = rest[end..].strip_prefix(' ').unwrap_or(&rest[end..]);
        }
        out + rest
    }
}

fn is_default(snippet: &Snippet, at: usize, default: Option<&str>) -> bool {
    default.is_some_and(|d| {
        let number = super::matching::strtoul(d);
        d == snippet.id || snippet.get("title") == Some(d) || (number.found && number.value == at as u64)
    })
}
