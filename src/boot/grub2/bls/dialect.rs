//! The `blscfg` implementations that read entries: rhboot's, GNU GRUB's own since 2.14, and openSUSE's two, which derive from these.

/// How entries are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By file name as rpm compares versions; `+` is a character of its own (rhboot's blscfg.c of Fedora 31, EL9 and later).
    Name,
    /// By the `version` key if every entry has one, then by file name; `+` is a separator (EL8, Fedora 30).
    Version,
    /// By file name as gnulib compares them (GNU GRUB 2.14's blsuki.c).
    File,
}

/// One implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// How it sorts.
    pub order: Order,
    /// Whether it knows boot counters (`ID+LEFT-DONE.conf`): an entry without a try left comes last. openSUSE's grub2-bls.
    pub counted: bool,
    /// Whether ids leave out the counter.
    pub bare: bool,
}

impl Dialect {
    /// rhboot's, of Fedora 31, EL9 and later.
    pub const FEDORA: Dialect = Dialect { order: Order::Name, counted: false, bare: false };
    /// rhboot's, of EL8 and Fedora 30.
    pub const EL8: Dialect = Dialect { order: Order::Version, counted: false, bare: false };
    /// GNU GRUB's since 2.14.
    pub const GNU: Dialect = Dialect { order: Order::File, counted: false, bare: false };
    /// openSUSE's, the newest first: of 2.14 since April 2026 (its "bls: fix default entry and bumpcounter for BLS boot counter files") and
    /// before; then of 2.12, whose patches differ in the same way.
    pub const SUSE: [Dialect; 4] = [
        Dialect { order: Order::File, counted: true, bare: true },
        Dialect { order: Order::File, counted: true, bare: false },
        Dialect { order: Order::Name, counted: true, bare: true },
        Dialect { order: Order::Name, counted: true, bare: false },
    ];

    /// The tries left according to an entry's file name; none if this implementation does not count them.
    pub fn tries(self, id: &str) -> Option<u32> {
        let (_, counter) = id.rsplit_once('+').filter(|_| self.counted)?;
        let digits = counter.find(|c: char| !c.is_ascii_digit()).unwrap_or(counter.len());
        let left = counter[..digits].parse().ok();
        match self.order {
            // `tries_left` of openSUSE's blsuki.c.
            Order::File => left.filter(|_| matches!(counter.as_bytes().get(digits), None | Some(b'-' | b'.'))),
            // `split_package_string` of its blscfg.c takes a non-number for 0.
            Order::Name | Order::Version => left.or(Some(0)),
        }
    }

    /// The id of the menu entry.
    pub fn id(self, id: &str) -> &str {
        match id.rsplit_once('+') {
            Some((bare, counter)) if self.bare => {
                let left = counter.rsplit_once('-').map_or(counter, |(left, _)| left);
                let number = !left.is_empty() && left.bytes().all(|b| b.is_ascii_digit());
                if number {
                    bare
                } else {
                    id
                }
            }
            _ => id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_read_as_each_of_opensuses_grubs_reads_it() {
        let [bare, whole, old, _] = Dialect::SUSE;
        for (id, new, before, name) in [
            ("x-6.1-1+2-1", Some(2), Some(2), "x-6.1-1"),
            ("x-6.1-1+3", Some(3), Some(3), "x-6.1-1"),
            ("x-6.1-1+0-3", Some(0), Some(0), "x-6.1-1"),
            ("x-6.1-1", None, None, "x-6.1-1"),
            // openSUSE's GRUB 2.12 takes a non-number for 0.
            ("x-6.1-1+rt", None, Some(0), "x-6.1-1+rt"),
            ("x-6.1-1+", None, Some(0), "x-6.1-1+"),
            ("x-6.1+3rc-1", None, Some(3), "x-6.1+3rc-1"),
        ] {
            assert_eq!((bare.tries(id), old.tries(id)), (new, before), "{id}");
            assert_eq!((bare.id(id), whole.id(id)), (name, id), "{id}");
            assert_eq!((Dialect::FEDORA.tries(id), Dialect::GNU.id(id)), (None, id), "{id}");
        }
    }
}
