//! Versions of the UAPI group's specification, as systemd implements it (`src/fundamental/string-util-fundamental.c`).
//!
//! The crate uapi-version (0.4) orders some versions differently from systemd 252 (`systemd-analyze compare-versions`): `6.01` after `6.1`,
//! which are equal, and `-~9` before `-^Z`, which comes after it. The loader sorts by systemd's rules.

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
            // A missing number is less than any number, including 0.
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
        // The result of `systemd-analyze compare-versions`.
        assert_eq!(compare_versions("6.01", "6.1"), Ordering::Equal);
        assert_eq!(compare_versions("-~9", "-^Z"), Ordering::Greater);
        assert_eq!(compare_versions("01-9^", "1_10"), Ordering::Less);
    }
}
