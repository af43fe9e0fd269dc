//! Which entry of a menu GRUB starts by itself (GRUB's `grub-core/normal/menu.c`; rhboot's differs, see [`Flavor`]).

use super::eval::{Machine, Stop};
use super::matching::{index, inner, space, By};
use super::syntax::parser::Block;
use super::world::Flavor;
use std::path::PathBuf;

/// A menu entry.
#[derive(Clone, Debug)]
pub(super) struct MenuEntry {
    pub title: String,
    pub id: String,
    pub submenu: bool,
    /// Only a person with a password can start it.
    pub restricted: bool,
    /// Read from a Boot Loader Specification file of that name.
    pub bls: bool,
    /// The entry's file, if its name counts the tries left.
    pub counted: Option<PathBuf>,
    pub args: Vec<String>,
    pub body: Body,
}

/// The commands of an entry.
#[derive(Clone, Debug)]
pub(super) enum Body {
    /// From grub.cfg.
    Block(Block),
    /// Made from a Boot Loader Specification file.
    Source(String),
}

/// An entry that GRUB starts, and what it loads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// A Boot Loader Specification id, or the titles from the outermost menu inwards.
    pub entry: String,
    /// The value of `saved_entry` that would select it: its id if that is unique, else its title; empty if neither is safe.
    pub selector: String,
    /// Why it was chosen.
    pub why: String,
    /// Whether it comes from a Boot Loader Specification file.
    pub bls: bool,
    /// The kernel's file as written in the entry.
    pub image: Option<String>,
    /// The device of that file, as named by the script.
    pub device: String,
    /// The kernel's arguments.
    pub cmdline: String,
    /// Its initial ramdisks as written in the entry.
    pub initrds: Vec<String>,
    /// Why GRUB cannot start it, if it cannot.
    pub failed: Option<String>,
    /// GRUB asks for a user name and a password first.
    pub locked: bool,
    /// The entry's file, if its name counts the tries left.
    pub counted: Option<PathBuf>,
}

impl Machine<'_> {
    /// Starts the menu's default as GRUB does once its timeout is over. Always ends in a [`Stop`].
    pub(super) fn start(&mut self, menu: Vec<MenuEntry>) -> Stop {
        if self.surveyed.is_some() {
            return self.survey_menu(&menu);
        }
        if self.path.is_empty() {
            self.default = self.get("default").map(str::to_owned);
        }
        let (at, why) = self.default_of(&menu);
        let Some(entry) = menu.get(at) else {
            return Stop::Dead("the menu is empty".into());
        };
        let fallback = self.get("fallback").map(str::to_owned);
        if let Some(list) = fallback {
            self.fallbacks(&menu, &list, at);
        }
        self.execute(&menu, entry, why)
    }

    /// Runs every entry as if it were chosen, to learn which kernel each would start.
    fn survey_menu(&mut self, menu: &[MenuEntry]) -> Stop {
        for entry in menu {
            self.spend(self.state.size());
            if self.surveyed.as_ref().is_none_or(|s| s.len() >= MAX_SURVEYED) || self.budget.is_over() {
                break;
            }
            let state = self.state.clone();
            self.loaded = None;
            if let Stop::Booted(choice) = self.execute(menu, entry, String::new()) {
                self.surveyed.get_or_insert_default().push(*choice);
            }
            self.state = state;
        }
        Stop::Dead("surveyed".into())
    }

    fn default_of(&mut self, menu: &[MenuEntry]) -> (usize, String) {
        if let Some(at) = self.of_firmware(menu) {
            return at;
        }
        let Some(specification) = self.get("default").map(str::to_owned) else {
            return (0, "no default is set, so the first entry".into());
        };
        let flavor = self.flavor(menu);
        let found = index(menu, &specification, flavor).filter(|(i, _)| *i < menu.len());
        if flavor == Flavor::Unknown {
            let other = index(menu, &specification, Flavor::Fedora).filter(|(i, _)| *i < menu.len());
            let number = |f: Option<(usize, By)>| f.map_or(0, |(i, _)| i);
            if number(found) != number(other) {
                self.doubt(
                    format!("the default {specification:?} means another entry to Fedora's GRUB than to GNU's, and which one is installed is not known"),
                    "set the default by an entry's full title or id: grub2-set-default",
                );
            }
        }
        match found {
            Some((i, By::Id)) => (i, format!("the default {specification:?} is its id")),
            Some((i, By::Title)) => (i, format!("the default {specification:?} is its title")),
            Some((i, By::Number)) => {
                // "0" is the first entry, which also starts if nothing is configured.
                if specification.trim() != "0" && self.path.is_empty() {
                    self.note(
                        format!("the default {specification:?} is a number, which means another entry once a kernel comes or goes"),
                        "name the entry: grub-set-default (grub2-set-default) with its id or title",
                    );
                }
                (i, format!("the default {specification:?} is its number"))
            }
            None if specification.is_empty() => (0, "the default is empty, so the first entry".into()),
            None => (0, format!("the default {specification:?} names no entry, so the first")),
        }
    }

    /// Which rules apply to a default in this menu.
    fn flavor(&self, menu: &[MenuEntry]) -> Flavor {
        match self.world.flavor {
            known @ (Flavor::Upstream | Flavor::Fedora | Flavor::Suse) => known,
            Flavor::Unknown | Flavor::ByEntries if menu.iter().any(|e| e.bls) => Flavor::Fedora,
            Flavor::Unknown => Flavor::Unknown,
            Flavor::ByEntries => Flavor::Upstream,
        }
    }

    /// Runs the entries that `fallback` lists, each as if it were started.
    fn fallbacks(&mut self, menu: &[MenuEntry], list: &str, default: usize) {
        let mut rest = list.trim();
        let mut chosen: Vec<usize> = Vec::new();
        let flavor = self.flavor(menu);
        while !rest.is_empty() && chosen.len() < menu.len().min(MAX_FALLBACKS) {
            self.spend(menu.len());
            if self.budget.is_over() {
                return;
            }
            let word = rest.find(space).unwrap_or(rest.len());
            let whole = index(menu, rest, flavor);
            let (found, next) = match whole {
                Some((i, By::Title)) => (Some(i), ""),
                _ => (index(menu, &rest[..word], flavor).map(|(i, _)| i), rest[word..].trim_start()),
            };
            let Some(i) = found.filter(|i| *i < menu.len()) else { break };
            if i != default && !chosen.contains(&i) {
                chosen.push(i);
            }
            rest = next;
        }
        for i in chosen {
            self.spend(self.state.size());
            let state = self.state.clone();
            let loaded = self.loaded.take();
            let why = format!("fallback={list:?} names it");
            if let Stop::Booted(choice) = self.execute(menu, &menu[i], why) {
                self.fallback_choices.push(*choice);
            }
            self.state = state;
            self.loaded = loaded;
        }
    }

    fn execute(&mut self, menu: &[MenuEntry], entry: &MenuEntry, why: String) -> Stop {
        // The whole menu is searched for a name of the entry.
        self.spend(menu.len() + 2 * entry.title.len());
        let (depth, locks) = (self.path.len(), self.locks);
        self.path.push(entry.title.clone());
        self.names.push(self.name(menu, entry));
        // GRUB asks before it opens the entry's or submenu's own context.
        self.locks += usize::from(entry.restricted && self.get("superusers").is_some_and(|s| !s.is_empty()));
        let stop = self.execute_at(entry, why);
        self.path.truncate(depth);
        self.names.truncate(depth);
        self.locks = locks;
        stop
    }

    fn execute_at(&mut self, entry: &MenuEntry, why: String) -> Stop {
        let default = self.get("default").map(str::to_owned);
        let chosen = match self.get("chosen") {
            Some(outer) => format!("{outer}>{}", entry.id.replace('>', ">>")),
            None => entry.id.replace('>', ">>"),
        };
        if entry.submenu {
            self.open_context();
        }
        self.set_exported("chosen", chosen);
        if let Some(rest) = default.as_deref().and_then(inner) {
            self.set("default", rest.to_owned());
        }
        self.menus.push(Vec::new());
        let result = self.run_body(entry);
        let inside = self.menus.pop().unwrap_or_default();
        if let Err(stop @ (Stop::Booted(_) | Stop::Dead(_))) = result {
            return stop;
        }
        if entry.submenu {
            if inside.is_empty() {
                return Stop::Dead(format!("the submenu {:?} is empty", entry.title));
            }
            return self.start(inside);
        }
        Stop::Booted(Box::new(self.choice(entry, why)))
    }

    fn choice(&mut self, entry: &MenuEntry, why: String) -> Choice {
        let loaded = self.loaded.take().unwrap_or_default();
        let failed = match (&loaded.image, &loaded.missing) {
            (None, _) if loaded.elsewhere => None,
            (None, _) => Some("it loads no Linux kernel".to_owned()),
            (Some(_), Some(missing)) => Some(format!("{missing} is not there")),
            (Some(_), None) => None,
        };
        let locked = self.locks > 0;
        self.spend(self.path.iter().chain(&self.names).map(|name| name.len() + 1).sum());
        Choice {
            entry: if entry.bls { entry.id.clone() } else { self.path.join(">") },
            selector: if self.names.iter().any(String::is_empty) { String::new() } else { self.names.join(">") },
            why,
            bls: entry.bls,
            image: loaded.image,
            device: loaded.device,
            cmdline: loaded.cmdline,
            initrds: loaded.initrds,
            failed,
            locked,
            counted: entry.counted.clone(),
        }
    }

    /// The name that selects this entry of this menu and no other, if there is one. The id is preferred to the title, since a submenu's
    /// title is translated; but the title is preferred if the next kernel's entry may have a copy of the id.
    fn name(&self, menu: &[MenuEntry], entry: &MenuEntry) -> String {
        let flavors = match (self.world.flavor, self.flavor(menu)) {
            (_, Flavor::Fedora) => vec![Flavor::Fedora],
            (Flavor::Upstream | Flavor::Suse, flavor) => vec![flavor],
            // The name has to be right for both.
            _ => vec![Flavor::Upstream, Flavor::Fedora],
        };
        let names = if self.world.copies_ids { [&entry.title, &entry.id] } else { [&entry.id, &entry.title] };
        for name in names {
            let specification = name.replace('>', ">>");
            let hits = |f: &Flavor| {
                // GNU GRUB takes an id that starts with digits for a number, which may happen to be the entry's own.
                let found = index(menu, &specification, *f).filter(|(_, by)| *by != By::Number);
                found.is_some_and(|(i, _)| std::ptr::eq(&menu[i.min(menu.len() - 1)], entry))
            };
            let unique = menu.iter().filter(|e| e.id == *name || e.title == *name).count() == 1;
            if unique && !name.contains('\u{fffd}') && flavors.iter().all(hits) {
                return specification;
            }
        }
        String::new()
    }
}

/// More entries than any machine has kernels; a survey stops there.
const MAX_SURVEYED: usize = 1000;
/// GRUB legacy allows 8 fallback entries; a longer list is a mistake.
const MAX_FALLBACKS: usize = 8;
