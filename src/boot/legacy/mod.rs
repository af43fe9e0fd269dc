//! GRUB 0.97 (its `stage2/stage2.c`, `stage2/builtins.c`): `default`, `fallback` and `title` entries in `grub.conf` or
//! `menu.lst`. The entry's `kernel` is loaded; for Xen that is the hypervisor, and the first `module` is the kernel.

mod loader;

pub(super) use loader::{Legacy, FAMILY};

use super::entry::{candidate, BootEntry};
use super::{image, BootRole, NextBoot, Source};
use crate::host::{files, Host};
use std::path::Path;

/// A menu is a few KiB; a larger file is no menu.
const MAX_MENU: u64 = 4 << 20;
/// `MAX_FALLBACK_ENTRIES` of stage2.
const MAX_FALLBACKS: usize = 8;
/// stage2's `builtin_table`, plus the commands that distributions added. A line with any other word has no effect.
const COMMANDS: &str = " background blocklist boot bootp cat chainloader clear cmp color configfile debug default device dhcp displayapm \
    displaymem dump embed fallback find foreground fstest geometry gfxmenu halt help hiddenmenu hide ifconfig impsprobe initrd install \
    ioprobe kernel lock makeactive map md5crypt module modulenounzip outline pager partnew parttype password pause quiet quit rarp read \
    reboot root rootnoverify savedefault serial setkey setup splash splashimage terminal terminfo testload testvbe tftpserver timeout \
    unhide uppermem uuid vbeprobe verbose viewport ";

/// A menu file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Menu {
    /// The value of `default`, if there is one.
    pub default: Option<String>,
    /// The numbers of `fallback`.
    pub fallback: Vec<usize>,
    /// The entries.
    pub titles: Vec<Title>,
    /// A password guards the menu, and so also the locked entries.
    pub password: bool,
    /// Lines that could not be understood.
    pub mistakes: Vec<(usize, String)>,
}

/// An entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Title {
    /// Its title.
    pub title: String,
    /// Its line, from 1.
    pub line: usize,
    /// The `kernel` file and its arguments.
    pub kernel: Option<(String, String)>,
    /// The `module` files and their arguments.
    pub modules: Vec<(String, String)>,
    /// The `initrd` file.
    pub initrd: Option<String>,
    /// `chainloader` or `configfile`: what else it starts.
    pub other: Option<String>,
    /// The device of its files.
    pub device: String,
    /// `lock`, which asks for the menu's password.
    pub lock: bool,
    /// A `password` of its own.
    pub password: bool,
}

/// Reads a menu. Never fails: lines that are not understood are listed.
pub fn parse(text: &str) -> Menu {
    let mut menu = Menu::default();
    // A title without a command below it is not an entry: the next title takes its place and its number.
    let mut empty = false;
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let mut line = line.replace('\r', "");
        while line.ends_with('\\') {
            line.pop();
            line.push(' ');
            line.extend(lines.next().map(|(_, more)| more.replace('\r', "")));
        }
        let line = line.trim_start_matches([' ', '\t']);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // stage2's skip_to: the word ends at white space or `=`.
        let end = line.find([' ', '\t', '=']).unwrap_or(line.len());
        let (word, value) = (&line[..end], line[end..].trim_start_matches([' ', '\t', '=']));
        if word == "title" {
            if empty {
                menu.titles.pop();
            }
            empty = true;
            menu.titles.push(Title { title: value.trim_end().to_owned(), line: number + 1, ..Title::default() });
            continue;
        }
        match menu.titles.last_mut() {
            Some(title) => {
                empty &= !COMMANDS.contains(&format!(" {word} "));
                entry_line(title, word, value);
            }
            None => menu_line(&mut menu, number + 1, word, value),
        }
    }
    if empty {
        menu.titles.pop();
    }
    menu
}

fn menu_line(menu: &mut Menu, line: usize, word: &str, value: &str) {
    match word {
        "default" => {
            if value != "saved" && number(value).is_none() {
                menu.mistakes.push((line, format!("default {value} is no number")));
            }
            // A value that is not a number is an error and leaves the previous value.
            if value == "saved" || number(value).is_some() {
                menu.default = Some(value.to_owned());
            }
        }
        "fallback" => {
            menu.fallback.clear();
            for word in value.split_ascii_whitespace().take(MAX_FALLBACKS) {
                match number(word) {
                    Some(n) => menu.fallback.push(n),
                    None => menu.mistakes.push((line, format!("fallback {word} is no number"))),
                }
            }
        }
        "password" => menu.password = true,
        "configfile" => menu.mistakes.push((line, format!("configfile {value} goes elsewhere"))),
        _ if !word.bytes().all(|b| b.is_ascii_graphic()) => menu.mistakes.push((line, "not text".into())),
        _ => {}
    }
}

fn entry_line(title: &mut Title, word: &str, value: &str) {
    let mut words = value.split_ascii_whitespace().skip_while(|w| w.starts_with("--"));
    let file = words.next().unwrap_or_default().to_owned();
    let args = words.collect::<Vec<_>>().join(" ");
    match word {
        "kernel" => title.kernel = Some((file, args)),
        "module" | "modulenounzip" => title.modules.push((file, args)),
        "initrd" => title.initrd = Some(file),
        "chainloader" | "configfile" => title.other = Some(format!("{word} {value}")),
        "root" | "rootnoverify" | "uuid" => title.device = file,
        "lock" => title.lock = true,
        "password" => title.password = true,
        _ => {}
    }
}

/// stage2's `safe_parse_maxint`: decimal or `0x`, and it stops at the first other character.
fn number(text: &str) -> Option<usize> {
    let (digits, base) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None => (text, 10),
    };
    let end = digits.find(|c: char| !c.is_digit(base)).unwrap_or(digits.len());
    usize::try_from(i32::from_str_radix(&digits[..end], base).ok()?).ok()
}

/// The number in the file `default` beside the menu, which `savedefault` writes; stage2 reads its first 10 bytes, and uses 0 if there is no
/// file.
fn saved(host: &Host, config: &Path, answer: &mut NextBoot) -> usize {
    let path = config.with_file_name("default");
    match host.read_text(&path) {
        Ok(text) => number(text.get(..9).unwrap_or(&text)).unwrap_or_else(|| {
            answer.doubt(
                format!("{}:1: no number", path.display()),
                format!("grub-set-default 0 (writes {})", path.display()),
            );
            0
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => 0,
        Err(e) => {
            answer.doubt(format!("reading {}: {e}", path.display()), format!("make {} a readable file", path.display()));
            0
        }
    }
}

/// The number of the default entry, which may be past the last one, and its source.
fn default(host: &Host, config: &Path, menu: &Menu, answer: &mut NextBoot) -> (usize, String) {
    match menu.default.as_deref() {
        None => (0, "no default is set, so the first entry".to_owned()),
        Some("saved") => {
            let n = saved(host, config, answer);
            (n, format!("default=saved, and {n} is saved"))
        }
        Some(n) => (number(n).unwrap_or(0), format!("default={n}")),
    }
}

/// What boots with this menu, a path below the root.
fn resolve(host: &Host, config: &Path) -> NextBoot {
    match files::read_bounded(&host.path(config), MAX_MENU) {
        Ok(bytes) => resolve_text(host, config, &String::from_utf8_lossy(&bytes)),
        Err(e) => {
            let (mut answer, shown) = (NextBoot::new(Source::GrubLegacy), config.display());
            answer.doubt(format!("reading {shown}: {e}"), format!("make {shown} a readable file"));
            answer
        }
    }
}

/// Like [`resolve`], with this text in the menu.
fn resolve_text(host: &Host, config: &Path, text: &str) -> NextBoot {
    let mut answer = NextBoot::new(Source::GrubLegacy);
    let shown = config.display();
    let menu = parse(text);
    for (line, what) in &menu.mistakes {
        answer.doubt(format!("{shown}:{line}: {what}"), format!("mend that line of {shown}"));
    }
    if menu.titles.is_empty() {
        answer.doubt(format!("{shown} has no entry"), "install a kernel package again");
        return answer;
    }
    let valid: Vec<usize> = menu.fallback.iter().copied().filter(|n| *n < menu.titles.len()).collect();
    let (wanted, said) = default(host, config, &menu, &mut answer);
    let mut rest = valid.as_slice();
    let (at, why) = match (wanted < menu.titles.len(), rest.split_first()) {
        (true, _) => (wanted, said),
        (false, Some((first, others))) => {
            rest = others;
            (*first, format!("{said}, which is past the last entry, so fallback={first}"))
        }
        (false, None) => (0, format!("{said}, which is past the last entry, so the first")),
    };
    add(host, config, &mut answer, BootRole::Next, (&menu, at), why);
    let mut seen = vec![at];
    for n in rest {
        if !seen.contains(n) {
            seen.push(*n);
            add(host, config, &mut answer, BootRole::Fallback, (&menu, *n), format!("fallback={n}"));
        }
    }
    answer
}

/// Adds the entry of that number, for callers that look for a kernel's entry.
fn add_number(host: &Host, config: &Path, answer: &mut NextBoot, text: &str, number: usize) {
    let menu = parse(text);
    if number < menu.titles.len() {
        add(host, config, answer, BootRole::Next, (&menu, number), String::new());
    }
}

fn add(host: &Host, config: &Path, answer: &mut NextBoot, role: BootRole, (menu, at): (&Menu, usize), why: String) {
    let title = &menu.titles[at];
    let place = format!("{}:{}", config.display(), title.line);
    let Some((kernel, args)) = &title.kernel else {
        let what = title.other.as_deref().unwrap_or("no kernel");
        answer
            .doubt(format!("{place}: the entry {:?} starts {what}", title.title), "make an entry with a kernel the default");
        return;
    };
    let xen = Path::new(kernel).file_name().is_some_and(|n| n.to_string_lossy().starts_with("xen"));
    let (spec, cmdline, initrds) = match title.modules.split_first() {
        Some(((module, args), others)) if xen => (module, args, others.iter().map(|(f, _)| f.clone()).collect()),
        _ => (kernel, args, title.initrd.iter().cloned().collect::<Vec<_>>()),
    };
    let entry = BootEntry {
        role,
        entry: title.title.clone(),
        why: format!("{why} ({place})"),
        spec: spec.clone(),
        cmdline: cmdline.clone(),
        initrds: &initrds,
        locked: (title.password || (title.lock && menu.password))
            .then_some("take lock and password out from below that title"),
        ours: &|| menu.titles.iter().any(|other| other.device == title.device && is_there(host, other)),
        failed: (xen && image::locate(host, kernel).is_none()).then(|| format!("{kernel} is not there")),
    };
    candidate(host, answer, entry);
}

/// Whether the file that an entry loads first exists.
fn is_there(host: &Host, title: &Title) -> bool {
    title.kernel.as_ref().is_some_and(|(file, _)| image::locate(host, file).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_forms_of_default_are_read_as_stage2_reads_them() {
        let default = |text: &str| parse(&format!("{text}\ntitle a\n")).default;
        assert_eq!(default("default=1").as_deref(), Some("1"));
        assert_eq!(default("default 2").as_deref(), Some("2"));
        assert_eq!(default("default = saved").as_deref(), Some("saved"));
        assert_eq!(default("#default=1"), None);
        assert_eq!(default("default=1\ndefault=x").as_deref(), Some("1"));
        assert_eq!(parse("title a\ndefault=1\n").default, None);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "\\PC*") {
            parse(&text);
        }
    }
}
