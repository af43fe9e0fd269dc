use super::*;
use proptest::prelude::*;

/// A second, plain implementation of blscfg.c's `vercmp`, position by position and without shared code.
fn vercmp(a: &str, b: &str, plus: bool) -> i32 {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let (mut i, mut j) = (0, 0);
    let at = |s: &[u8], i: usize| s.get(i).copied().unwrap_or(0);
    let skip = |c: u8| c != 0 && !c.is_ascii_alphanumeric() && c != b'~' && !(plus && c == b'+');
    while at(a, i) != 0 || at(b, j) != 0 {
        while skip(at(a, i)) {
            i += 1;
        }
        while skip(at(b, j)) {
            j += 1;
        }
        if at(a, i) == b'~' || at(b, j) == b'~' {
            if at(a, i) != b'~' {
                return 1;
            }
            if at(b, j) != b'~' {
                return -1;
            }
            i += 1;
            j += 1;
            continue;
        }
        if plus && (at(a, i) == b'+' || at(b, j) == b'+') {
            if at(a, i) == 0 {
                return -1;
            }
            if at(b, j) == 0 {
                return 1;
            }
            if at(a, i) != b'+' {
                return 1;
            }
            if at(b, j) != b'+' {
                return -1;
            }
            i += 1;
            j += 1;
            continue;
        }
        if at(a, i) == 0 || at(b, j) == 0 {
            break;
        }
        let number = at(a, i).is_ascii_digit();
        let inside = |c: u8| if number { c.is_ascii_digit() } else { c.is_ascii_alphabetic() };
        let (mut x, mut y) = (i, j);
        while inside(at(a, x)) {
            x += 1;
        }
        while inside(at(b, y)) {
            y += 1;
        }
        if y == j {
            return if number { 1 } else { -1 };
        }
        let (next_i, next_j) = (x, y);
        if number {
            while i < x && a[i] == b'0' {
                i += 1;
            }
            while j < y && b[j] == b'0' {
                j += 1;
            }
            if x - i != y - j {
                return if x - i > y - j { 1 } else { -1 };
            }
        }
        match a[i..x].cmp(&b[j..y]) {
            Ordering::Less => return -1,
            Ordering::Greater => return 1,
            Ordering::Equal => {}
        }
        (i, j) = (next_i, next_j);
    }
    match (at(a, i) == 0, at(b, j) == 0) {
        (true, true) => 0,
        (true, false) => -1,
        (false, _) => 1,
    }
}

fn split(id: &str) -> (String, String, String) {
    let mut parts: Vec<&str> = id.rsplitn(3, '-').collect();
    parts.reverse();
    parts.resize(3, "");
    (parts[0].into(), parts[1].into(), parts[2].into())
}

fn plain(a: &str, b: &str, plus: bool) -> Ordering {
    let ((n0, v0, r0), (n1, v1, r1)) = (split(a), split(b));
    let of = |x: i32| x.cmp(&0);
    of(vercmp(&n1, &n0, plus)).then_with(|| of(vercmp(&v1, &v0, plus))).then_with(|| of(vercmp(&r1, &r0, plus)))
}

/// Names like those in /boot/loader/entries.
fn id() -> impl Strategy<Value = String> {
    let machine = prop_oneof![
        Just("ec2e1a4b3a4a4ff59d7d3a1c2b3f4e5d"),
        Just("0123456789abcdef0123456789abcdef"),
        Just("ffffffffffffffffffffffffffffffff"),
        Just("custom")
    ];
    let base = prop_oneof![Just("4.18.0"), Just("5.14.0"), Just("6.1.0"), Just("6.12.0~rc1"), Just("6.1.007"), Just("6.12")];
    let build = prop_oneof![
        "[0-9]{1,3}\\.el8(_[0-9]{1,2})?",
        "[0-9]{1,3}(\\.[0-9]{1,2}){0,2}\\.el[89]_?[0-9]?",
        "0\\.rc[0-9]\\.2023[0-9]{4}git[0-9a-f]{5}\\.[0-9]{1,2}\\.fc40",
        "1~rc[0-9]\\.fc40",
        "1\\^git[0-9]{1,3}\\.fc40",
    ];
    let tail = prop_oneof![Just(""), Just(".x86_64"), Just(".x86_64+debug"), Just(".x86_64+rt"), Just("+"), Just("~")];
    prop_oneof![
        8 => (machine, base, build, tail).prop_map(|(m, v, r, t)| format!("{m}-{v}-{r}{t}")),
        1 => "[a-c0-2~+^._-]{1,12}",
        1 => Just("ffffffffffffffffffffffffffffffff-0-rescue".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_order_is_the_one_in_blscfg(a in id(), b in id(), plus in any::<bool>()) {
        prop_assert_eq!(compare(&a, &b, plus), plain(&a, &b, plus));
    }

    #[test]
    fn the_order_is_total_and_antisymmetric(a in id(), b in id(), c in id(), plus in any::<bool>()) {
        let cmp = |x: &str, y: &str| compare(x, y, plus);
        prop_assert_eq!(cmp(&a, &b), cmp(&b, &a).reverse());
        prop_assert_eq!(cmp(&a, &a), Ordering::Equal);
        if cmp(&a, &b) != Ordering::Greater && cmp(&b, &c) != Ordering::Greater {
            prop_assert_ne!(cmp(&a, &c), Ordering::Greater);
        }
    }

    #[test]
    fn a_list_is_sorted_as_grubs_insertion_sorts_it(ids in proptest::collection::vec(id(), 0..30)) {
        let mut unique: Vec<String> = Vec::new();
        for id in ids {
            if unique.iter().all(|u| plain(u, &id, true) != Ordering::Equal) {
                unique.push(id);
            }
        }
        let mut inserted: Vec<String> = Vec::new();
        for id in &unique {
            let at = inserted.iter().position(|e| plain(id, e, true) == Ordering::Less).unwrap_or(inserted.len());
            inserted.insert(at, id.clone());
        }
        let snippets = unique.into_iter().map(|id| Snippet { id, ..Snippet::default() }).collect();
        let (sorted, tie) = sort(snippets, Dialect::FEDORA);
        prop_assert_eq!(tie, None);
        prop_assert_eq!(sorted.into_iter().map(|s| s.id).collect::<Vec<_>>(), inserted);
    }

    #[test]
    fn any_text_is_survived(text in "\\PC*", id in "\\PC{0,20}") {
        parse(&id, &text);
        compare(&id, &text, true);
    }
}

#[test]
fn a_file_is_read_up_to_the_first_line_without_a_value() {
    let s = parse("x", "title A B\n# c\n  linux\t/vmlinuz-1\nversion 1\n\noptions lost\n");
    assert_eq!(s.get("title"), Some("A B"));
    assert_eq!(s.get("linux"), Some("/vmlinuz-1"));
    assert_eq!(s.get("options"), None);
}

#[test]
fn a_number_is_compared_as_a_number_and_debug_comes_after_its_base() {
    let m = "0123456789abcdef0123456789abcdef";
    let id = |v: &str| format!("{m}-{v}");
    let first = |a: &str, b: &str| compare(&id(a), &id(b), true) == Ordering::Less;
    assert!(first("4.18.0-553.el8.x86_64", "4.18.0-80.el8.x86_64"));
    assert!(first("5.14.0-362.el9.x86_64+debug", "5.14.0-362.el9.x86_64"));
    assert!(first("6.12.0-1.fc41", "6.12.0-1~rc1.fc41"));
    assert!(first("4.18.0-80.el8_5.x86_64", "4.18.0-80.el8.x86_64"));
}
