//! Finds the entry that a default or a one-shot names.

use super::LoaderEntry;
use crate::glob;
use std::iter;

/// What a pattern is matched against. Up to systemd 256 the boot counter is a part of an entry's id, since 259 it is not, and stable
/// releases in between may do either (systemd pull request 38897).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ids {
    Counted,
    Plain,
    Either,
}

impl Ids {
    /// From the name that the loader reports: `systemd-boot 252.39-1`.
    pub fn of(info: Option<&str>) -> Ids {
        let version = info.and_then(|info| info.strip_prefix("systemd-boot ")).unwrap_or_default();
        let major = version.split(|c: char| !c.is_ascii_digit()).next().and_then(|major| major.parse().ok());
        match major {
            Some(..=256u32) => Ids::Counted,
            Some(259..) => Ids::Plain,
            _ => Ids::Either,
        }
    }

    /// The possibilities to try.
    pub fn ways(self) -> impl Iterator<Item = Ids> {
        let other = (self == Ids::Either).then_some([Ids::Counted, Ids::Plain]);
        other.into_iter().flatten().chain(iter::once(self).filter(|ids| *ids != Ids::Either))
    }
}

/// The first entry of the menu that a pattern matches.
pub(super) fn matching<'a>(entries: &'a [LoaderEntry], pattern: &str, ids: Ids) -> Option<&'a LoaderEntry> {
    let pattern = pattern.to_lowercase();
    let is = |name: &str| glob::fits_efi(&pattern, name);
    entries.iter().find(|e| match ids {
        Ids::Counted => is(&e.name),
        Ids::Plain => is(&e.id),
        Ids::Either => is(&e.id) || is(&e.name),
    })
}

/// The entry that starts: that of the first source that names one, else the first of the menu; and the reason.
pub(super) fn select<'a>(
    entries: &'a [LoaderEntry],
    sources: &[(&str, Option<String>)],
    last: Option<&str>,
    ids: Ids,
) -> Option<(&'a LoaderEntry, String)> {
    for (name, value) in sources {
        let Some(pattern) = value else { continue };
        let pattern = if pattern == "@saved" { last.unwrap_or_default() } else { pattern };
        if let Some(entry) = matching(entries, pattern, ids) {
            return Some((entry, format!("{name} is {pattern:?}")));
        }
    }
    let why = "no default matches, so the first of the menu".to_owned();
    Some((entries.first()?, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_the_loader_decides_whether_an_id_includes_its_counter() {
        for (info, want) in [
            ("systemd-boot 252.39-1~deb12u2", Ids::Counted),
            ("systemd-boot 256.7", Ids::Counted),
            ("systemd-boot 257.10-1~deb13u1", Ids::Either),
            ("systemd-boot 259-1.fc44", Ids::Plain),
            ("systemd-boot", Ids::Either),
            ("GRUB 2.12", Ids::Either),
        ] {
            assert_eq!(Ids::of(Some(info)), want, "{info}");
        }
    }

    #[test]
    fn the_pattern_of_a_counted_entry_matches_only_it_in_every_version_and_after_its_next_boot() {
        let entry = |name: &str| {
            let (id, tries) = super::super::counter(name);
            LoaderEntry { id, name: name.into(), tries, ..LoaderEntry::default() }
        };
        let pattern = entry("x-6.1.0-5+3.conf").pattern();
        for name in ["x-6.1.0-5+3.conf", "x-6.1.0-5+2-1.conf", "x-6.1.0-5+0-3.conf", "x-6.1.0-5.conf"] {
            let entries = [entry("x-6.1.0-54+3.conf"), entry("x-6.1.0-50.conf"), entry(name)];
            for ids in Ids::Either.ways() {
                assert_eq!(matching(&entries, &pattern, ids).map(|e| e.name.as_str()), Some(name), "{ids:?}");
            }
        }
    }
}
