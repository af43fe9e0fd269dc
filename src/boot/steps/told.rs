//! Which source of a hold is believed: its record, or its mark in the boot loader's own files. Nothing is read here.
//!
//! The record is written first and the mark with the move itself, and either may be missing or old: a run dies between the two, a full disk
//! has no room for the record, another tool restores the previous file of the mark. One rule decides: *a source that names the kernel that
//! starts now as held is believed, the mark before the record*, since the record may belong to a move that was never made. If neither names
//! it, somebody has moved the default since, and no hold is on. While it is unknown what starts, both are believed, the mark first.

use crate::kernel::KernelRelease;

/// What a record or a mark says about a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldMark {
    /// The kernel that the default is held on.
    pub held: KernelRelease,
    /// The kernel that would boot without the hold, if the source names it.
    pub wanted: Option<KernelRelease>,
}

/// The sources that are believed, given the kernel that the default starts (`lasting`), in order of precedence. Empty if no hold is on.
pub fn believed<'a>(
    record: Option<&'a HoldMark>,
    mark: Option<&'a HoldMark>,
    lasting: Option<&KernelRelease>,
) -> impl Iterator<Item = &'a HoldMark> {
    let holds = |told: &&HoldMark| lasting.is_none_or(|lasting| *lasting == told.held);
    [mark, record].into_iter().flatten().filter(holds).collect::<Vec<_>>().into_iter()
}

/// Whether record or mark are of a hold that has ended because somebody moved the default.
pub fn has_ended(record: Option<&HoldMark>, mark: Option<&HoldMark>, lasting: Option<&KernelRelease>) -> bool {
    (record.is_some() || mark.is_some()) && believed(record, mark, lasting).next().is_none()
}

/// The kernel that would boot without the current hold: the one that a believed source names, if it is `installed`, else the first
/// installed one of the boot loader's `menu`. None if no hold is on: then the kernel that boots is the wanted one.
pub fn wanted_of(
    record: Option<&HoldMark>,
    mark: Option<&HoldMark>,
    lasting: Option<&KernelRelease>,
    installed: impl Fn(&KernelRelease) -> bool,
    menu: impl IntoIterator<Item = KernelRelease>,
) -> Option<KernelRelease> {
    let mut told = believed(record, mark, lasting).peekable();
    told.peek()?;
    told.filter_map(|told| told.wanted.clone()).chain(menu).find(installed)
}

/// The wanted kernel in place of a declined one that only a record or a mark names: the first kernel of the boot loader's `menu` that is
/// newer and for which `may` is true. None if the only such kernel is the one that the default is `held` on: the hold then stays.
pub fn instead_of(
    declined: &KernelRelease,
    held: Option<&KernelRelease>,
    may: impl Fn(&KernelRelease) -> bool,
    menu: impl IntoIterator<Item = KernelRelease>,
) -> Option<KernelRelease> {
    menu.into_iter().find(|kernel| kernel > declined && may(kernel)).filter(|kernel| Some(kernel) != held)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn k(name: &str) -> KernelRelease {
        format!("6.1.0-{name}").parse().unwrap()
    }

    /// `A>B`: held on A, B is wanted; `A`: held on A, the wanted kernel is not named; empty: no record or mark.
    fn told(text: &str) -> Option<HoldMark> {
        let (held, wanted) = text.split_once('>').map_or((text, None), |(held, wanted)| (held, Some(k(wanted))));
        (!held.is_empty()).then(|| HoldMark { held: k(held), wanted })
    }

    #[test]
    fn a_source_that_names_the_kernel_that_starts_is_believed_and_the_mark_before_the_record() {
        // Record, mark, what starts (`?`: unknown), what is wanted (`-`: no hold is on).
        let table = [
            // A complete hold, and holds with one of the two lost.
            ("a>b", "a>b", "a", "b"),
            ("a>b", "", "a", "b"),
            ("", "a>b", "a", "b"),
            ("a>b", "a", "a", "b"),
            ("", "a", "a", "menu"),
            ("", "", "a", "-"),
            // Somebody moved the default since.
            ("a>b", "a>b", "b", "-"),
            ("a>b", "", "x", "-"),
            ("", "a>b", "x", "-"),
            // The run died between writing the record of a new hold and its move.
            ("a>d", "c>d", "c", "d"),
            ("a>b", "", "b", "-"),
            // A new hold whose record could not be written, beside the record of an old hold.
            ("c>d", "a>b", "a", "b"),
            // Both name the kernel that starts as held, and differ in the wanted one.
            ("a>b", "a>d", "a", "d"),
            // Neither names the kernel that starts.
            ("a>b", "c>d", "x", "-"),
            // It is unknown what starts.
            ("a>b", "a>b", "?", "b"),
            ("a>b", "", "?", "b"),
            ("", "a>b", "?", "b"),
            ("a>b", "c>d", "?", "d"),
            ("a>b", "c", "?", "b"),
            ("", "", "?", "-"),
            // A wanted kernel that is not installed any more.
            ("a>gone", "a>b", "a", "b"),
            ("a>b", "a>gone", "a", "b"),
            ("a>gone", "a>gone", "a", "menu"),
        ];
        for (record, mark, lasting, want) in table {
            let what = format!("record {record:?}, mark {mark:?}, {lasting} starts");
            let (record, mark) = (told(record), told(mark));
            let lasting = (lasting != "?").then(|| k(lasting));
            let menu = ["gone", "menu", "a"].map(k);
            let wanted = wanted_of(record.as_ref(), mark.as_ref(), lasting.as_ref(), |kernel| *kernel != k("gone"), menu);
            assert_eq!(wanted, (want != "-").then(|| k(want)), "{what}");
            let ended = has_ended(record.as_ref(), mark.as_ref(), lasting.as_ref());
            assert_eq!(ended, want == "-" && (record.is_some() || mark.is_some()), "{what}");
        }
    }

    #[test]
    fn instead_of_a_declined_kernel_the_first_newer_one_is_wanted() {
        // The declined kernel, the held one, the menu (`!`: may not be wanted), the wanted one.
        for (declined, held, menu, want) in [
            ("2", "1", "3 2 1", "3"),
            ("2", "1", "!3 2 1", ""),
            ("2", "1", "4 3 2 1", "4"),
            ("2", "1", "!4 3 2 1", "3"),
            ("2", "1", "1 2 3", "3"),
            ("2", "1", "2 1", ""),
            // The held kernel is newer than the declined one, and nothing older than the declined one is wanted.
            ("2", "3", "3 2 1", ""),
            ("2", "3", "4 3 2 1", "4"),
        ] {
            let may = |kernel: &KernelRelease| !menu.contains(&format!("!{}", &kernel.as_str()["6.1.0-".len()..]));
            let names = menu.split(' ').map(|name| k(name.trim_start_matches('!')));
            let wanted = instead_of(&k(declined), Some(&k(held)), may, names);
            assert_eq!(wanted, (!want.is_empty()).then(|| k(want)), "{declined} {held} {menu}");
        }
    }

    #[test]
    fn a_hold_ends_only_if_it_is_known_what_starts_and_no_source_names_it() {
        let tales = ["", "a", "a>b", "a>c", "b>a", "b>c", "c"];
        for (record, mark) in tales.iter().flat_map(|r| tales.map(|m| (told(r), told(m)))) {
            let (record, mark) = (record.as_ref(), mark.as_ref());
            for lasting in ["a", "b", "c", "x", "?"] {
                let lasting = (lasting != "?").then(|| k(lasting));
                let told_of =
                    [record, mark].iter().flatten().any(|told| lasting.is_none() || Some(&told.held) == lasting.as_ref());
                let wanted = wanted_of(record, mark, lasting.as_ref(), |_| true, [k("menu")]);
                assert_eq!(wanted.is_some(), told_of, "{record:?} {mark:?} {lasting:?}");
            }
        }
    }
}
