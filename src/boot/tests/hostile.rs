//! Hostile inputs to the resolver.

use super::*;
use proptest::prelude::*;

#[test]
fn ten_thousand_entries_are_read_in_seconds() {
    let m = saved();
    for n in 0..10_000 {
        put(
            m.dir.path(),
            &format!("boot/loader/entries/{MID}-4.18.0-{}.{n}.el8.conf", n % 97),
            format!("title {n}\nlinux /vmlinuz-{OLD}\n").as_bytes(),
        );
    }
    let start = Instant::now();
    assert_eq!(m.next(), NEW);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    let many: String =
        (0..10_000).map(|n| format!("menuentry 'e{n}' --id i{n} {{\n linux /boot/vmlinuz-{OLD}\n}}\n")).collect();
    put(m.dir.path(), "boot/grub2/grub.cfg", format!("set default=i9999\n{many}").as_bytes());
    assert_eq!(m.next(), OLD);
    assert!(start.elapsed() < Duration::from_secs(40), "{:?}", start.elapsed());
}

#[test]
fn scripts_that_grow_or_call_themselves_end() {
    for script in [
        "set a=x\nwhile true; do set a=$a$a; done\n",
        "function f { f\n}\nf\n",
        "function f { f f; f f\n}\nf\n",
        "for a in 1 2 3; do for b in 1 2 3; do while true; do true; done; done; done\n",
        "submenu x { submenu y { configfile $config_file\n}\n}\n",
        "configfile ($root)/grub2/grub.cfg\n",
        "source /grub2/grub.cfg\nsource /grub2/grub.cfg\n",
        "menuentry x { configfile /grub2/grub.cfg\n}\n",
    ] {
        let m = saved();
        put(m.dir.path(), "boot/grub2/grub.cfg", script.as_bytes());
        let start = Instant::now();
        let answer = next_boot(&m.host, &config::Boot::default());
        assert!(!answer.certain, "{script}");
        assert!(start.elapsed() < Duration::from_secs(20), "{script}: {:?}", start.elapsed());
    }
}

/// Words of the language, so that random scripts get further than the first line.
fn script() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        "set default=",
        "load_env",
        "save_env x",
        "menuentry 'a' {",
        "submenu 'b' {",
        "}",
        "\n",
        ";",
        "if",
        "then",
        "else",
        "fi",
        "[ -s $prefix/grubenv ]",
        "while true; do",
        "done",
        "for i in 1 2; do",
        "blscfg",
        "linux /vmlinuz-4.18.0-80.el8.x86_64",
        "initrd /x",
        "configfile $prefix/grub.cfg",
        "source $prefix/grub.cfg",
        "search --set=root x",
        "\"",
        "'",
        "$",
        "${a}",
        "\\",
        " ",
        "function f {",
        "f",
        "return",
        "break 9",
        "fallback=0 1 2",
        "1>2",
        "'a>b'",
        "eval",
        "shift",
    ]);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..400),
        prop::collection::vec(words, 0..60).prop_map(|w| w.join(" ").into_bytes()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_in_any_file_make_it_panic_or_hang(bytes in script(), which in 0usize..7) {
        let m = saved();
        let path = ["boot/grub2/grub.cfg", "boot/grub2/grubenv", "boot/loader/entries/a-1-1.conf", "boot/grub2/custom.cfg", "proc/mounts", "etc/os-release", "boot/vmlinuz-4.18.0-553.el8.x86_64"][which];
        put(m.dir.path(), path, &bytes);
        let start = Instant::now();
        next_boot(&m.host, &config::Boot::default());
        let _ = hold(&m.host, &m.lock, &k(OLD));
        prop_assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn no_bytes_in_a_file_of_systemd_boot_or_grub_legacy_do_either(bytes in script(), which in 0usize..5) {
        let path = ["boot/loader/loader.conf", "boot/loader/entries/x.conf", "boot/EFI/Linux/x.efi", "sys/firmware/efi/efivars/LoaderEntryDefault-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f", "boot/grub/grub.conf"][which];
        let m = Machine::new(&[]);
        put(m.dir.path(), path, &bytes);
        next_boot(&m.host, &config::Boot::default());
        let _ = hold(&m.host, &m.lock, &k(OLD));
    }
}
