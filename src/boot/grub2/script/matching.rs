//! How a default selects an entry of a menu: ids, titles, numbers and `>` (GRUB's `grub-core/normal/menu.c`, `kern/misc.c`).

use super::menu::MenuEntry;
use super::world::Flavor;

/// The result of `grub_strtoul (…, 0)`.
pub(super) struct Number<'a> {
    pub value: u64,
    pub rest: &'a str,
    pub found: bool,
    pub overflow: bool,
}

/// GRUB's own strtoul with base 0: white space skipped, `0x` and `0` prefixes, and it stops at the first other character.
pub(super) fn strtoul(text: &str) -> Number<'_> {
    let mut rest = text.trim_start_matches(space);
    let mut base = 10;
    let bytes = rest.as_bytes();
    if bytes.first() == Some(&b'0') {
        if bytes.get(1) == Some(&b'x') {
            base = 16;
            rest = &rest[2..];
        } else if bytes.get(1).is_some_and(|c| (b'0'..=b'7').contains(c)) {
            base = 8;
        }
    }
    let mut number = Number { value: 0, rest, found: false, overflow: false };
    for (at, c) in rest.char_indices() {
        let Some(digit) = c.to_digit(base) else {
            number.rest = &rest[at..];
            return number;
        };
        number.found = true;
        let next = number.value.checked_mul(u64::from(base)).and_then(|v| v.checked_add(u64::from(digit)));
        let Some(next) = next else {
            return Number { value: u64::MAX, rest: &rest[at..], overflow: true, ..number };
        };
        number.value = next;
    }
    number.rest = "";
    number
}

pub(super) fn space(c: char) -> bool {
    matches!(c, '\n' | '\r' | ' ' | '\t')
}

/// Whether a specification, up to its first single `>`, names this id or title; `>>` stands for `>`.
fn names(name: &str, specification: &str) -> bool {
    let mut name = name.bytes();
    let mut specification = specification.bytes().peekable();
    loop {
        let mut wanted = specification.next();
        if wanted == Some(b'>') {
            if specification.peek() != Some(&b'>') {
                return name.next().is_none();
            }
            wanted = specification.next();
        }
        let here = name.next();
        if here != wanted {
            return false;
        }
        if here.is_none() {
            return true;
        }
    }
}

/// How a specification was matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Id,
    Title,
    Number,
}

/// The index that a specification selects, by the rules of a flavor; it may be past the menu's end.
pub(super) fn index(menu: &[MenuEntry], specification: &str, flavor: Flavor) -> Option<(usize, By)> {
    match flavor {
        Flavor::Fedora => fedora(menu, specification),
        Flavor::Upstream | Flavor::Unknown | Flavor::ByEntries | Flavor::Suse => upstream(menu, specification, flavor),
    }
}

/// A number takes precedence, whatever follows it (`1>2` and `1 x` are 1); then the entry whose title or id matches.
fn upstream(menu: &[MenuEntry], specification: &str, flavor: Flavor) -> Option<(usize, By)> {
    let number = strtoul(specification);
    if number.overflow {
        return None;
    }
    if number.found {
        return usize::try_from(number.value as i32).ok().map(|i| (i, By::Number));
    }
    named(menu, specification, flavor)
}

/// `search_entry`: the first entry whose title or id matches; for openSUSE's GRUB also the name of its file.
pub(super) fn named(menu: &[MenuEntry], specification: &str, flavor: Flavor) -> Option<(usize, By)> {
    let file = specification.strip_suffix(".conf").filter(|_| flavor == Flavor::Suse);
    menu.iter().enumerate().find_map(|(i, e)| {
        if names(&e.title, specification) {
            return Some((i, By::Title));
        }
        let of_file = e.bls && file.is_some_and(|file| names(&e.id, file));
        (of_file || names(&e.id, specification)).then_some((i, By::Id))
    })
}

/// Ids come first, then titles, then a number that ends or is followed by white space (so `1>2` is none). An id is compared up to the
/// specification's first white space, so an id that contains white space never matches; if more text follows a matching word, the
/// specification selects nothing.
fn fedora(menu: &[MenuEntry], specification: &str) -> Option<(usize, By)> {
    let word = specification.find(space).unwrap_or(specification.len());
    if let Some(i) =
        menu.iter().position(|e| !e.id.is_empty() && !e.id.contains(space) && names(&e.id, &specification[..word]))
    {
        return (word == specification.len()).then_some((i, By::Id));
    }
    if let Some(i) = menu.iter().position(|e| !e.title.is_empty() && names(&e.title, specification)) {
        return Some((i, By::Title));
    }
    let number = strtoul(specification);
    let ends = number.rest.is_empty();
    (number.found && !number.overflow && ends)
        .then(|| usize::try_from(number.value as i32).ok().map(|i| (i, By::Number)))
        .flatten()
}

/// The part of a specification for the inner menu: after its first single `>`.
pub(super) fn inner(specification: &str) -> Option<&str> {
    let bytes = specification.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'>' {
            if bytes.get(at + 1) == Some(&b'>') {
                at += 2;
                continue;
            }
            return specification.get(at + 1..).filter(|s| !s.is_empty());
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::menu::Body;
    use super::*;

    fn menu(entries: &[(&str, &str)]) -> Vec<MenuEntry> {
        let entry = |(title, id): &(&str, &str)| MenuEntry {
            title: (*title).into(),
            id: (*id).into(),
            submenu: false,
            restricted: false,
            bls: false,
            counted: None,
            args: Vec::new(),
            body: Body::Source(String::new()),
        };
        entries.iter().map(entry).collect()
    }

    #[test]
    fn the_two_flavors_of_grub_differ_as_their_sources_do() {
        let m = menu(&[("Linux A", "a"), ("Linux B", "1"), ("Tools > more", "t"), ("Linux A", "b")]);
        for (specification, up, fed) in [
            ("a", Some(0), Some(0)),
            ("Linux B", Some(1), Some(1)),
            ("1", Some(1), Some(1)),
            ("0", Some(0), Some(0)),
            ("2", Some(2), Some(2)),
            ("1>2", Some(1), Some(1)),
            ("2>1", Some(2), None),
            ("2 x", Some(2), None),
            ("Tools >> more>x", Some(2), Some(2)),
            ("Linux A", Some(0), Some(0)),
            ("b x", None, None),
            ("0x2", Some(2), Some(2)),
            ("03", Some(3), Some(3)),
            ("9", Some(9), Some(9)),
            ("99999999999999999999999", None, None),
            ("-1", None, None),
            ("", None, None),
        ] {
            assert_eq!(index(&m, specification, Flavor::Upstream).map(|f| f.0), up, "{specification:?} upstream");
            assert_eq!(index(&m, specification, Flavor::Fedora).map(|f| f.0), fed, "{specification:?} fedora");
        }
    }

    #[test]
    fn the_part_for_the_inner_menu_starts_after_a_single_arrow() {
        assert_eq!(inner("A>B>C"), Some("B>C"));
        assert_eq!(inner("A >> B>C"), Some("C"));
        assert_eq!(inner("A"), None);
        assert_eq!(inner("A>"), None);
    }
}
