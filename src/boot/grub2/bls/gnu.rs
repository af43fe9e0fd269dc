//! Entries as GNU GRUB 2.14 reads and sorts them (its `grub-core/commands/blsuki.c`). The order is that of gnulib's `filevercmp` (its
//! `lib/filevercmp.c`) on the file name: Debian's version order, first on the name without its suffix. `sort-key` and `version` do not
//! count.

use super::Snippet;
use std::cmp::Ordering;

/// The keys of a file as `bls_parse_keyvals` finds them: words are separated by blanks, and a line without a value ends the file.
pub fn parse(id: &str, text: &str) -> Snippet {
    let mut keys = Vec::new();
    for line in text.split('\n') {
        let line = line.strip_suffix('\r').unwrap_or(line).trim_start_matches([' ', '\t']);
        let (key, value) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        if key.starts_with('#') {
            continue;
        }
        let value = value.trim_start_matches([' ', '\t']);
        if value.is_empty() {
            break;
        }
        keys.push((key.to_owned(), value.to_owned()));
    }
    Snippet { id: id.to_owned(), keys, tries: None }
}

/// `filevercmp` on the file names of two ids.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (format!("{a}.conf"), format!("{b}.conf"));
    let (a, b) = (a.as_bytes(), b.as_bytes());
    // A hidden file comes before all others; how two of them compare differs between gnulib's releases.
    let hidden = |name: &[u8]| name.starts_with(b".");
    let prefix = |name: &'_ [u8]| name.len() - suffix(name);
    hidden(b).cmp(&hidden(a)).then_with(|| versions(&a[..prefix(a)], &b[..prefix(b)])).then_with(|| versions(a, b))
}

/// The length of the suffix: the longest `(\.[A-Za-z~][A-Za-z0-9~]*)*` at the end that is not the whole name.
fn suffix(name: &[u8]) -> usize {
    let mut at = 0;
    while at < name.len() {
        at += 1;
        let start = at;
        while name.get(at) == Some(&b'.') && name.get(at + 1).is_some_and(|c| c.is_ascii_alphabetic() || *c == b'~') {
            at += 2;
            while name.get(at).is_some_and(|c| c.is_ascii_alphanumeric() || *c == b'~') {
                at += 1;
            }
        }
        if at == name.len() {
            return at - start;
        }
    }
    0
}

/// The sort rank of a character that is not a digit; all digits rank the same, and the end comes before everything but `~`.
fn rank(sign: Option<&u8>) -> i32 {
    match sign {
        None => -1,
        Some(b'~') => -2,
        Some(c) if c.is_ascii_digit() => 0,
        Some(c) if c.is_ascii_alphabetic() => i32::from(*c),
        Some(c) => i32::from(*c) + 256,
    }
}

/// `verrevcmp`: compares non-digits and numbers in turn.
fn versions(mut a: &[u8], mut b: &[u8]) -> Ordering {
    let digit = |s: &[u8]| s.first().is_some_and(u8::is_ascii_digit);
    while !a.is_empty() || !b.is_empty() {
        while (!a.is_empty() && !digit(a)) || (!b.is_empty() && !digit(b)) {
            match rank(a.first()).cmp(&rank(b.first())) {
                Ordering::Equal => (a, b) = (a.get(1..).unwrap_or_default(), b.get(1..).unwrap_or_default()),
                order => return order,
            }
        }
        let number = |s: &mut &[u8]| {
            let n = s.iter().take_while(|c| c.is_ascii_digit()).count();
            let zeros = s[..n].iter().take_while(|c| **c == b'0').count();
            let digits = s[zeros..n].to_vec();
            *s = &s[n..];
            (digits.len(), digits)
        };
        match number(&mut a).cmp(&number(&mut b)) {
            Ordering::Equal => {}
            order => return order,
        }
    }
    Ordering::Equal
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    /// Names with every kind of character that matters for the order.
    fn id() -> impl Strategy<Value = String> {
        let release = prop_oneof![
            "[0-9]{1,2}\\.[0-9]{1,3}(\\.0{0,2}[0-9])?[-~+^_.][0-9a-z]{1,4}(\\.fc4[0-9]|\\.x86_64|-default|-amd64)?(-[0-9]{1,2})?",
            "[0-9a-z~.+_^-]{1,10}",
        ];
        let start = prop_oneof![Just("0c3cc8ac-"), Just("a7e1b2a8-"), Just("system-x-"), Just("")];
        (start, release)
            .prop_map(|(start, release)| format!("{start}{release}"))
            .prop_filter("not hidden", |id| !id.starts_with('.'))
    }

    /// coreutils' sort(1), whose `-V` is the same function.
    fn sorted(ids: &[String]) -> Vec<String> {
        let mut sort = Command::new("sort");
        sort.args(["-V", "-s"]).env("LC_ALL", "C").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = sort.spawn().unwrap();
        let text: String = ids.iter().map(|id| format!("{id}.conf\n")).collect();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success());
        String::from_utf8(out.stdout).unwrap().lines().map(|line| line.trim_end_matches(".conf").to_owned()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn the_order_is_that_of_sort(mut ids in proptest::collection::vec(id(), 0..60)) {
            let sorted = sorted(&ids);
            ids.sort_by(|a, b| compare(a, b));
            prop_assert_eq!(ids, sorted);
        }

        #[test]
        fn any_text_is_survived(text in "\\PC*", id in "\\PC{0,20}") {
            parse(&id, &text);
            compare(&id, &text);
        }
    }

    #[test]
    fn words_are_separated_by_blanks_and_a_line_without_a_value_ends_the_file() {
        let s = parse("x", "\t title   A B\n# c\n#d e\nlinux\t/a b\r\ninitrd  /i\ninitrd /j\noptions   \nversion 1\n");
        assert_eq!(s.keys.len(), 4);
        assert_eq!((s.get("title"), s.get("linux"), s.get("version")), (Some("A B"), Some("/a b"), None));
        assert_eq!(s.all("initrd").collect::<Vec<_>>(), ["/i", "/j"]);
    }
}
