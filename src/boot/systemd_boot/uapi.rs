//! Versions and patterns of the UAPI group's specifications, as systemd has them (`src/fundamental/string-util-fundamental.c`,
//! `src/boot/efi-string.c`).

use std::cmp::Ordering;

/// systemd's `strverscmp_improved`: UAPI.10 Version Format Specification.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    let known = |c: u8| c.is_ascii_alphanumeric() || b"~-^.".contains(&c);
    fn run(s: &[u8], kind: fn(&u8) -> bool) -> (&[u8], &[u8]) {
        s.split_at(s.iter().position(|c| !kind(c)).unwrap_or(s.len()))
    }
    loop {
        while a.first().is_some_and(|c| !known(*c)) {
            a = &a[1..];
        }
        while b.first().is_some_and(|c| !known(*c)) {
            b = &b[1..];
        }
        for sign in [b'~', 0, b'-', b'^', b'.'] {
            if sign == 0 {
                if a.is_empty() || b.is_empty() {
                    return a.len().min(1).cmp(&b.len().min(1));
                }
                continue;
            }
            match (a.first() == Some(&sign), b.first() == Some(&sign)) {
                (true, true) => (a, b) = (&a[1..], &b[1..]),
                (true, false) => return Ordering::Less,
                (false, true) => return Ordering::Greater,
                (false, false) => {}
            }
        }
        let digit = |s: &[u8]| s.first().is_some_and(u8::is_ascii_digit);
        let order;
        if digit(a) || digit(b) {
            let ((x, rest_a), (y, rest_b)) = (run(a, u8::is_ascii_digit), run(b, u8::is_ascii_digit));
            let (x, y) = (run(x, |c| *c == b'0').1, run(y, |c| *c == b'0').1);
            // No number at all is less than any, 0 too.
            let empty = (rest_a.len() != a.len()).cmp(&(rest_b.len() != b.len()));
            order = empty.then(x.len().cmp(&y.len())).then_with(|| x.cmp(y));
            (a, b) = (rest_a, rest_b);
        } else {
            let ((x, rest_a), (y, rest_b)) = (run(a, u8::is_ascii_alphabetic), run(b, u8::is_ascii_alphabetic));
            order = x.cmp(y);
            (a, b) = (rest_a, rest_b);
        }
        if order != Ordering::Equal {
            return order;
        }
        if a.is_empty() && b.is_empty() {
            return Ordering::Equal;
        }
    }
}

/// fnmatch(3) with `*`, `?` and sets, as boot.c has it.
pub(super) fn glob(pattern: &[u8], text: &[u8]) -> bool {
    // Iterative, with one place to go back to, so that no pattern takes exponential time.
    let (mut p, mut t, mut back) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                back = Some((p, t));
                p += 1;
                continue;
            }
            Some(b'?') => {
                (p, t) = (p + 1, t + 1);
                continue;
            }
            Some(b'[') => {
                if let Some((hit, length)) = set(&pattern[p..], text[t]) {
                    if hit {
                        (p, t) = (p + length, t + 1);
                        continue;
                    }
                }
            }
            Some(c) if *c == text[t] => {
                (p, t) = (p + 1, t + 1);
                continue;
            }
            _ => {}
        }
        let Some((star, from)) = back else { return false };
        back = Some((star, from + 1));
        (p, t) = (star + 1, from + 1);
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

fn set(pattern: &[u8], c: u8) -> Option<(bool, usize)> {
    let end = pattern.iter().skip(2).position(|b| *b == b']')? + 2;
    let inside = &pattern[1..end];
    let ranges = inside.windows(3).any(|w| w[1] == b'-' && w[0] <= c && c <= w[2]);
    Some((ranges || inside.contains(&c), end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_the_specification_orders_them() {
        // The list of UAPI.10, oldest first.
        let order = [
            "~",
            "",
            "~a",
            "",
            "122.1",
            "123~rc1-1",
            "123",
            "123-a",
            "123-a.1",
            "123-1",
            "123-1.1",
            "123^post1",
            "123.a-1",
            "123.1-1",
            "123a-1",
            "124-1",
        ];
        for pair in order[4..].windows(2) {
            assert_eq!(compare_versions(pair[0], pair[1]), Ordering::Less, "{pair:?}");
        }
        assert_eq!(compare_versions("~", ""), Ordering::Less);
        assert_eq!(compare_versions("1_", "1"), Ordering::Equal);
        assert_eq!(compare_versions("6.1.0-9", "6.1.0-10"), Ordering::Less);
    }

    #[test]
    fn globs_match_whole_names() {
        for (pattern, text, want) in [
            ("arch-*", "arch-6.conf", true),
            ("arch", "arch.conf", false),
            ("*a*b", "xaxxab", true),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("[abc", "a", false),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), want, "{pattern} {text}");
        }
        assert!(!glob("*a".repeat(2000).as_bytes(), "a".repeat(1500).as_bytes()));
    }
}
