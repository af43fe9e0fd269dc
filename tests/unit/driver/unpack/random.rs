//! Random headers, changed bytes and random bytes.

use super::*;

/// Names as an attacker would choose them.
const NAMES: [&str; 14] = [
    "x-1",
    "x-1/",
    "x-1/a",
    "x-1/a/b",
    "x-1/./a",
    "x-1/a/..",
    "..",
    "/",
    "",
    "x-1/a\u{7f}",
    "y",
    "../outside/precious",
    "x-1/l",
    "x-1/l/p",
];

const KINDS: &[u8] = b"0\x0012345670SLKxgVMDZ";

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_sequence_of_headers_escapes_or_panics(
        entries in proptest::collection::vec((0..KINDS.len(), 0..NAMES.len(), 0..NAMES.len(), 0..3usize), 0..12)
    ) {
        let case = Case::new();
        let mut tar = Tar::default();
        for (kind, name, link, content) in entries {
            let content = ["".to_owned(), format!("{}\0", NAMES[link]), tar::record("path", NAMES[link])][content].clone();
            let header = Header::new(KINDS[kind], NAMES[name].as_bytes(), content.len() as u64).link(NAMES[link].as_bytes());
            tar = tar.raw(header, content.as_bytes());
        }
        let _ = case.unpack(&tar.gz());
        case.assert_contained("random headers");
        assert_plain(&case.private(), "random headers");
    }

    #[test]
    fn no_changed_byte_escapes_or_panics(at in 0..6000usize, to: u8) {
        let case = Case::new();
        let mut tar = honest().symlink("x-1/l", "src").hardlink("x-1/h", "x-1/COPYING").pax(b'x', &[("path", "x-1/p")]).file("q", b"q").end();
        let at = at % tar.len();
        tar[at] = to;
        let _ = case.unpack(&gzip(&tar));
        case.assert_contained("a changed byte");
        assert_plain(&case.private(), "a changed byte");
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..2000), wrapped: bool) {
        let case = Case::new();
        assert!(case.unpack(&if wrapped { gzip(&bytes) } else { bytes }).is_err());
        case.assert_contained("random bytes");
    }
}
