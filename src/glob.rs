//! Patterns with `*`, `?`, sets and `\` for all code that matches names: module aliases, udev, modprobe.d, recipes, boot entries.
//!
//! Bytes are compared, as in the C locale. The crates for file names follow other rules: glob supports neither `\` nor `[^…]`.

/// fnmatch(3) without flags, as libkmod, udev and systemd use it; character classes (`[[:digit:]]`) and sets without an end match nothing.
pub fn fits(pattern: &str, text: &str) -> bool {
    matches(pattern.as_bytes(), text.as_bytes(), true)
}

/// Like [`fits`], by the rules of systemd-boot (`src/boot/efi-string.c`): `!` and `^` are members of a set and do not negate it, and so is the
/// first end of a range, also of one that goes down (`[3-0]`).
pub fn fits_efi(pattern: &str, text: &str) -> bool {
    matches(pattern.as_bytes(), text.as_bytes(), false)
}

fn matches(mut pattern: &[u8], mut text: &[u8], negation: bool) -> bool {
    // One level of backtracking is enough: a later `*` makes an earlier one's choice final. No pattern takes exponential time.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        let step = match (pattern, text) {
            ([], []) => return true,
            ([b'*', rest @ ..], _) => {
                retry = Some((rest, text));
                pattern = rest;
                continue;
            }
            (_, [c, after @ ..]) => one(pattern, *c, negation).map(|rest| (rest, after)),
            (_, []) => None,
        };
        (pattern, text) = match (step, retry) {
            (Some(next), _) => next,
            (None, Some((rest, [_, from @ ..]))) => {
                retry = Some((rest, from));
                (rest, from)
            }
            (None, _) => return false,
        };
    }
}

/// Matches one character and returns the rest of the pattern, or none without a match.
fn one(pattern: &[u8], c: u8, negation: bool) -> Option<&[u8]> {
    match pattern {
        [b'?', rest @ ..] => Some(rest),
        [b'[', inside @ ..] => set(inside, c, negation),
        [b'\\', literal, rest @ ..] if *literal == c => Some(rest),
        [b'\\', ..] => None,
        [literal, rest @ ..] if *literal == c => Some(rest),
        _ => None,
    }
}

/// The pattern after a set, if `c` is in the set. `]` is a member if it comes first, `-` if it comes first or last.
fn set(inside: &[u8], c: u8, negation: bool) -> Option<&[u8]> {
    let (negated, mut inside) = match inside {
        [b'!' | b'^', rest @ ..] if negation => (true, rest),
        _ => (false, inside),
    };
    let mut found = false;
    let mut first = true;
    loop {
        match inside {
            [b']', rest @ ..] if !first => return (found != negated).then_some(rest),
            _ => {}
        }
        let (low, after) = member(inside)?;
        (found, inside) = match after {
            [b'-', end @ ..] if !end.starts_with(b"]") => {
                let (high, after) = member(end)?;
                (found || (low..=high).contains(&c) || (!negation && low == c), after)
            }
            _ => (found || low == c, after),
        };
        first = false;
    }
}

fn member(inside: &[u8]) -> Option<(u8, &[u8])> {
    match inside {
        [b'\\', c, rest @ ..] | [c, rest @ ..] => Some((*c, rest)),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_module_aliases_match() {
        let vf = "pci:v00008086d000010EDsv00008086sd00000000bc02sc00i00";
        assert!(fits("pci:v00008086d000010EDsv*sd*bc*sc*i*", vf));
        assert!(!fits("pci:v00008086d00001515sv*sd*bc*sc*i*", vf));
        assert!(fits("pci:v*d*sv*sd*bc02sc00i*", vf));
    }

    #[test]
    fn patterns_match_only_whole_texts() {
        for (pattern, text, want) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("**", "ab", true),
            ("a*c", "abbc", true),
            ("a*c", "abbd", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b", "xaxbxab", true),
            ("*a*b", "xaxbx", false),
            ("arch-*", "arch-6.conf", true),
            ("arch", "arch.conf", false),
            ("a[0-9]?c*", "a5xcdef", true),
            ("[a-c]x", "bx", true),
            ("[]a]", "]", true),
            ("[a-]", "-", true),
            ("[a-c-f]", "e", false),
            ("[a-c-f]", "-", true),
            (r"[\]]", "]", true),
            (r"[a\-c]", "b", false),
            ("[abc", "a", false),
            (r"\*", "*", true),
            (r"\*", "a", false),
            (r"a\", "a\\", false),
        ] {
            assert_eq!(fits(pattern, text), want, "{pattern} {text}");
            assert_eq!(fits_efi(pattern, text), want, "{pattern} {text} to systemd-boot");
        }
    }

    #[test]
    fn a_range_that_goes_down_holds_its_first_end_for_systemd_boot_only() {
        for (text, efi) in [("3", true), ("0", false), ("1", false), ("-", false)] {
            assert!(!fits("[3-0]", text), "{text}");
            assert_eq!(fits_efi("[3-0]", text), efi, "{text} to systemd-boot");
        }
    }

    #[test]
    fn sets_are_negated_by_fnmatch_and_not_by_systemd_boot() {
        for pattern in ["[!ab]", "[^ab]"] {
            for (text, negated) in [("a", false), ("c", true), (&pattern[1..2], true)] {
                assert_eq!(fits(pattern, text), negated, "{pattern} {text}");
            }
            for (text, plain) in [("a", true), ("c", false), (&pattern[1..2], true)] {
                assert_eq!(fits_efi(pattern, text), plain, "{pattern} {text} to systemd-boot");
            }
        }
    }

    #[test]
    fn many_stars_do_not_take_exponential_time() {
        assert!(!fits(&"*a".repeat(2000), &"a".repeat(1500)));
        assert!(!fits(&"*a".repeat(60), &"b".repeat(4000)));
    }
}
