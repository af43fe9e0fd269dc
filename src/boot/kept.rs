//! A held default in a text file (GRUB legacy's menu, systemd-boot's loader.conf). Our default comes first, below the mark; the lines that
//! set it before are kept as comments. So a promotion restores the file byte for byte, whatever form they had: `default saved`, a number
//! past the end, a pattern, or none at all.

use super::steps::mark::COMMENT;

/// The prefix of a line that set the default before the hold. The shell script of vfguard-fail-closed.service knows it.
const KEEP: &[u8] = b"# vfguard-keep ";
/// The comment that stands for a file that did not exist.
const NO_FILE: &[u8] = b"# vfguard-keep no file\n";

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|byte| *byte == b'\n')
}

fn is_mark(line: &[u8]) -> bool {
    line.starts_with(COMMENT.as_bytes())
}

/// Whether a line set the default before the hold.
pub(super) fn is_kept(line: &[u8]) -> bool {
    line.starts_with(KEEP)
}

/// The lines without the mark and the default directly below it.
fn others(text: &[u8], sets: impl Fn(&[u8]) -> bool) -> Vec<&[u8]> {
    let mut below = false;
    let mut is_ours = |line: &[u8]| is_mark(line) | (std::mem::replace(&mut below, is_mark(line)) && sets(line));
    lines(text).filter(|line| !is_ours(line)).collect()
}

/// The file with the default held by `ours`, which includes the mark; `sets` recognises lines that set a default.
pub(super) fn held(text: Option<&[u8]>, sets: impl Fn(&[u8]) -> bool, ours: &str) -> Vec<u8> {
    let mut held = ours.as_bytes().to_vec();
    for line in others(text.unwrap_or(NO_FILE), &sets) {
        if sets(line) {
            held.extend(KEEP);
        }
        held.extend(line);
    }
    held
}

/// The file as it was before the hold, plus what others changed since; none if the file did not exist.
pub(super) fn given_back(text: &[u8], sets: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    let mut kept = others(text, sets);
    let there = kept.len();
    kept.retain(|line| *line != NO_FILE);
    let created = kept.len() < there;
    let back: Vec<&[u8]> = kept.iter().map(|line| line.strip_prefix(KEEP).unwrap_or(line)).collect();
    (!created || !back.is_empty()).then(|| back.concat())
}

/// The file with the default set by `ours`, and nothing left of a hold.
pub(super) fn set(text: &[u8], sets: impl Fn(&[u8]) -> bool, ours: &str) -> Vec<u8> {
    let mut rest = others(text, &sets);
    let was = |line: &&[u8]| sets(line) || is_kept(line);
    let at = rest.iter().position(was).unwrap_or(0);
    rest.retain(|line| !was(line));
    rest.insert(at, ours.as_bytes());
    rest.concat()
}

/// The file with the present default, and nothing left of a hold.
pub(super) fn unmarked(text: &[u8]) -> Vec<u8> {
    lines(text).filter(|line| !is_mark(line) && !is_kept(line)).collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OURS: &str = "# vfguard-hold a b\ndefault=1\n";

    fn sets(line: &[u8]) -> bool {
        line.starts_with(b"default")
    }

    #[test]
    fn a_hold_keeps_the_lines_that_set_the_default_and_restores_them() {
        for text in ["", "x", "default saved", "t\ndefault=0\ndefault 7\nx\n", "# vfguard\n"] {
            let held = held(Some(text.as_bytes()), sets, OURS);
            assert_eq!(lines(&held).filter(|line| sets(line)).collect::<Vec<_>>(), [b"default=1\n"], "{text:?}");
            assert_eq!(given_back(&held, sets).as_deref(), Some(text.as_bytes()), "{text:?}");
            // A hold that moves to another kernel keeps the same lines.
            let again = super::held(Some(&held), sets, "# vfguard-hold c b\ndefault=2\n");
            assert_eq!(given_back(&again, sets).as_deref(), Some(text.as_bytes()), "{text:?}");
        }
        assert_eq!(given_back(&held(None, sets, OURS), sets), None);
        let more = [held(None, sets, OURS).as_slice(), b"timeout 3\n"].concat();
        assert_eq!(given_back(&more, sets).as_deref(), Some(b"timeout 3\n".as_slice()), "others' lines stay");
    }

    #[test]
    fn nothing_is_left_of_a_hold_that_has_ended() {
        let held = held(Some(b"t\ndefault saved\nx"), sets, OURS);
        assert_eq!(unmarked(&held), b"default=1\nt\nx");
        assert_eq!(set(&held, sets, "default=0\n"), b"t\ndefault=0\nx");
        // If our default is not below the mark, only the mark is removed.
        assert_eq!(given_back(b"# vfguard-hold a b\nt\n", sets).unwrap(), b"t\n");
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(text in proptest::collection::vec(prop_oneof![Just(b"default 1\n".to_vec()), Just(b"\n".to_vec()), any::<Vec<u8>>()], 0..6)) {
            let text = text.concat();
            prop_assert_eq!(given_back(&held(Some(&text), sets, OURS), sets), Some(text));
        }
    }
}
