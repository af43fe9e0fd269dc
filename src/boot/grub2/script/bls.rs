//! `blscfg`: menu entries from Boot Loader Specification files (rhboot/grub2's `grub-core/commands/blscfg.c`; with options, or where GNU
//! GRUB 2.14 may be installed, its `blsuki.c`).

use super::budget::READ;
use super::eval::Machine;
use super::menu::{Body, MenuEntry};
use crate::boot::grub2::bls::dialect::{Dialect, Order};
use crate::boot::grub2::bls::{self, Snippet};
use crate::boot::grub2::ITEM;
use std::path::{Path, PathBuf};

/// The directory of the entries unless `blsdir` is set, on the boot file system or below it.
const ENTRIES: &str = "/boot/loader/entries";
/// The directory in which GNU's implementation looks on `$root`, and nowhere else unless told so.
const GNU_ENTRIES: &str = "/loader/entries";
/// The length to which variables may expand one line of an entry: that of its file. Kernels accept 4 KiB.
const MAX_LINE: usize = 1 << 20;

/// Which entries a call adds to the menu.
#[derive(Debug, Default)]
struct Shown {
    default: bool,
    others: bool,
    /// The entry of this name.
    named: Option<String>,
}

/// A call of GNU's `blscfg` with its options.
#[derive(Debug, Default)]
pub(super) struct Call {
    pub path: Option<String>,
    pub fallback: bool,
    shown: Shown,
    /// The arguments that are not options.
    plain: Vec<String>,
}

impl Call {
    /// None if GRUB refuses the options.
    pub fn parse(args: &[String]) -> Option<Call> {
        let mut call = Call::default();
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let (name, joined) = match arg.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
                _ => (arg.as_str(), None),
            };
            let mut take = || joined.clone().or_else(|| rest.next().cloned());
            match name {
                "--path" | "-p" => call.path = Some(take()?),
                "--entry" | "-e" => call.shown.named = Some(take()?),
                "--enable-fallback" | "-f" => call.fallback = true,
                "--show-default" | "-d" => call.shown.default = true,
                "--show-non-default" | "-n" => call.shown.others = true,
                _ if arg.starts_with('-') => return None,
                _ => call.plain.push(arg.clone()),
            }
        }
        if !call.shown.default && !call.shown.others && call.shown.named.is_none() {
            (call.shown.default, call.shown.others) = (true, true);
        }
        Some(call)
    }
}

impl Machine<'_> {
    pub(super) fn blscfg(&mut self, args: &[String]) -> i32 {
        self.bls = true;
        let options = args.iter().any(|arg| arg.starts_with('-'));
        let own = self.world.dialect;
        if options || own.order == Order::File {
            if own.order != Order::File {
                self.doubt(
                    "blscfg with options is GNU GRUB 2.14's; the one of this distribution knows none, and adds no entry then",
                    "write the boot loader's configuration anew (grub2-mkconfig)",
                );
            }
            return self.blscfg_of_gnu(args);
        }
        let what = args.first().map(String::as_str);
        let directory = self.bls_directory(what);
        let shown = match what {
            Some("default") => Shown { default: true, ..Shown::default() },
            Some("non-default") => Shown { others: true, ..Shown::default() },
            Some(id) if !id.starts_with('(') => Shown { named: Some(id.to_owned()), ..Shown::default() },
            _ => Shown { default: true, others: true, named: None },
        };
        let snippets = self.read_entries(&directory, own);
        self.add_entries(snippets, own, &shown);
        0
    }

    fn blscfg_of_gnu(&mut self, args: &[String]) -> i32 {
        let Some(call) = Call::parse(args).filter(|call| call.plain.is_empty()) else {
            self.doubt(
                format!("blscfg {}: its words are not understood", args.join(" ")),
                "blscfg --help, at GRUB's prompt",
            );
            return 1;
        };
        let dialect = if self.world.dialect.order == Order::File { self.world.dialect } else { Dialect::GNU };
        let path = call.path.as_deref().filter(|path| path.starts_with(['(', '/']));
        let mut snippets = match path {
            Some(path) if path.ends_with(".conf") => self.read_entry(path, dialect),
            Some(path) => self.locate(path).map(|at| self.read_entries(&at, dialect)).unwrap_or_default(),
            None => self.read_gnu_entries(dialect),
        };
        if snippets.is_empty() && call.fallback && path.is_some() {
            snippets = self.read_gnu_entries(dialect);
        }
        self.add_entries(snippets, dialect, &call.shown);
        0
    }

    fn read_entry(&mut self, path: &str, dialect: Dialect) -> Vec<Snippet> {
        let Some(at) = self.locate(path) else { return Vec::new() };
        self.looked_into(&at);
        let id = at.file_stem().map(|id| id.to_string_lossy().into_owned()).unwrap_or_default();
        match bls::read_one(self.world.host, &at, &id, dialect) {
            Ok(snippet) => vec![snippet],
            Err((message, remedy)) => {
                self.doubt(message, remedy);
                Vec::new()
            }
        }
    }

    /// The entries in `/loader/entries` of `$root`. The mounts show whether /boot is the top of that file system; a second candidate makes
    /// the answer doubtful.
    fn read_gnu_entries(&mut self, dialect: Dialect) -> Vec<Snippet> {
        let Some(at) = self.locate(GNU_ENTRIES) else { return Vec::new() };
        let mounts = self.world.host.read_text("/proc/mounts").unwrap_or_default();
        let inside = at.starts_with("/boot/loader") && !mounts.is_empty() && !mounts.lines().any(|l| l.contains(" /boot "));
        let others = ["/loader/entries", "/boot/efi/loader/entries", "/efi/loader/entries"];
        let other = others.iter().map(Path::new).find(|other| *other != at && self.world.host.is_dir(other));
        if let Some(other) = other {
            let (at, other) = (at.display(), other.display());
            self.doubt(
                format!("whether GRUB takes {GNU_ENTRIES} for {at} or for {other} cannot be told"),
                format!("blscfg --path DIRECTORY in grub.cfg, or remove the unused of {at} and {other}"),
            );
        } else if inside {
            self.doubt(
                format!("GRUB looks for entries in {GNU_ENTRIES} of its root, and /boot is no file system of its own"),
                format!("blscfg --path {ENTRIES} in grub.cfg"),
            );
        }
        self.read_entries(&at, dialect)
    }

    /// The entries of a directory, as the earlier simulated boots left them.
    pub(super) fn read_entries(&mut self, directory: &Path, dialect: Dialect) -> Vec<Snippet> {
        self.looked_into(directory);
        self.spend(READ);
        if self.budget.is_over() {
            return Vec::new();
        }
        let (mut snippets, problems) = bls::read(self.world.host, directory, dialect);
        self.spend(snippets.iter().map(Snippet::size).sum());
        for (message, remedy) in problems {
            self.doubt(message, remedy);
        }
        let ran_out = |s: &&mut Snippet| s.tries.is_some() && self.state.env.contains_key(&counter_of(&s.id));
        snippets.iter_mut().filter(ran_out).for_each(|snippet| snippet.tries = Some(0));
        snippets
    }

    pub(super) fn add_all(&mut self, snippets: Vec<Snippet>, dialect: Dialect) {
        self.add_entries(snippets, dialect, &Shown { default: true, others: true, named: None });
    }

    fn add_entries(&mut self, snippets: Vec<Snippet>, dialect: Dialect, shown: &Shown) {
        let sorted = self.sorted(snippets, dialect);
        let default = self.get("default").map(str::to_owned);
        for (i, snippet) in sorted.iter().enumerate() {
            // blsuki.c compares with the whole file name.
            let name = if dialect.order == Order::File { format!("{}.conf", snippet.id) } else { snippet.id.clone() };
            let is_default = || is_default(snippet, &name, i, default.as_deref());
            let named = shown.named.as_ref() == Some(&name);
            if named || (shown.default && shown.others) || (shown.default && is_default()) || (shown.others && !is_default())
            {
                self.create(snippet, dialect);
            }
        }
    }

    fn bls_directory(&self, what: Option<&str>) -> PathBuf {
        let named = match what {
            Some(path) if path.starts_with('(') => Some(path.to_owned()),
            _ => self.get("blsdir").map(str::to_owned),
        };
        // `blsdir` is a path on the entries' own file system; if it does not exist, GRUB looks in /boot/loader/entries.
        named
            .and_then(|d| crate::boot::image::locate_among(&d, &|path| self.world.exists(path)))
            .unwrap_or_else(|| ENTRIES.into())
    }

    fn sorted(&mut self, snippets: Vec<Snippet>, dialect: Dialect) -> Vec<Snippet> {
        let (sorted, tie) = bls::sort(snippets, dialect);
        if let Some((a, b)) = tie {
            self.doubt(
                format!("the entries {a} and {b} sort alike, and which one GRUB keeps depends on the file system"),
                format!("remove one of {ENTRIES}/{a}.conf and {ENTRIES}/{b}.conf"),
            );
        }
        sorted
    }

    /// Makes the menu entry as `create_entry` of blscfg.c and blsuki.c does: as a script that is run when the entry is started.
    fn create(&mut self, snippet: &Snippet, dialect: Dialect) {
        let Some(linux) = snippet.get("linux") else {
            if snippet.get("uki").is_some() || snippet.get("efi").is_some() {
                self.note(format!("{}.conf names no kernel of its own, and GRUB skips it", snippet.id), "");
            }
            return;
        };
        // GNU's implementation has neither of rhboot's variables.
        let variable = |name: &str| self.get(name).filter(|_| dialect.order != Order::File);
        let options =
            snippet.get("options").or(variable("default_kernelopts")).map(|o| self.expand_options(o)).unwrap_or_default();
        let mut grows = options.len() > MAX_LINE;
        let mut initrds: Vec<String> = Vec::new();
        if let Some(early) = variable("early_initrd") {
            let beside = snippet.get("initrd").unwrap_or(linux);
            let directory = beside.rsplit_once('/').map_or("", |(d, _)| d);
            let mut length = 0;
            let names = early.split(' ').filter(|name| !name.is_empty()).take_while(|name| {
                length += directory.len() + name.len() + ITEM;
                length <= MAX_LINE
            });
            initrds.extend(names.map(|name| format!("{directory}/{name}")));
            grows |= length > MAX_LINE;
        }
        if grows {
            let file = format!("{}.conf", snippet.id);
            self.doubt(format!("variables make a line of {file} grow without end"), format!("mend or remove {file}"));
        }
        initrds.extend(snippet.all("initrd").map(str::to_owned));
        let mut source = String::new();
        let saves = match dialect.order {
            // `grub_env_get_bool`.
            Order::File => {
                let value = self.get("blsuki_save_default").unwrap_or_default();
                !matches!(value, "" | "0" | "false" | "disable" | "no")
            }
            Order::Name | Order::Version => self.get("save_default") == Some("true"),
        };
        if saves {
            source.push_str("savedefault\n");
        }
        source.push_str(&format!("linux ($root){linux} {options}\n"));
        if !initrds.is_empty() {
            source.push_str("initrd");
            initrds.iter().for_each(|i| source.push_str(&format!(" ($root){i}")));
            source.push('\n');
        }
        let title = match (snippet.get("title"), snippet.get("version").filter(|_| dialect.counted)) {
            (Some(title), Some(version)) => format!("{title} ({version})"),
            (title, _) => title.unwrap_or(linux).to_owned(),
        };
        let entry = MenuEntry {
            args: std::iter::once(title.clone()).chain(snippet.all("grub_arg").map(str::to_owned)).collect(),
            title,
            id: dialect.id(&snippet.id).to_owned(),
            counted: snippet.tries.filter(|left| *left > 0).map(|_| counter_of(&snippet.id)),
            submenu: false,
            restricted: snippet.get("grub_users").is_some_and(|u| !self.expand_options(u).trim().is_empty()),
            bls: true,
            body: Body::Source(source),
        };
        let Body::Source(source) = &entry.body else { return };
        self.spend(2 * (entry.title.len() + entry.id.len()) + source.len() + 4 * ITEM);
        if let Some(menu) = self.menus.last_mut() {
            menu.push(entry);
        }
    }

    /// blscfg.c's `expand_val`: `$name` becomes its value and a space; `\$` stays. Text beyond [`MAX_LINE`] is left out.
    fn expand_options(&self, value: &str) -> String {
        let mut out = String::new();
        let mut rest = value;
        while let Some(at) = rest.find('$').filter(|_| out.len() <= MAX_LINE) {
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

fn is_default(snippet: &Snippet, name: &str, at: usize, default: Option<&str>) -> bool {
    default.is_some_and(|d| {
        let number = super::matching::strtoul(d);
        d == name || snippet.get("title") == Some(d) || (number.found && number.value == at as u64)
    })
}

/// The name under which the earlier boots' environment records that the entry of this id has no try left.
fn counter_of(id: &str) -> PathBuf {
    format!("{id}.conf").into()
}
