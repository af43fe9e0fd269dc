//! Every parser of this room against bytes that nobody meant: real shapes with some bytes changed, and noise. A panic, or a run
//! without end, is a failure; what they answer is not looked at. tests/fuzz has the same entries for long runs (cargo-fuzz).

/// One entry for all: the first byte chooses the parser.
pub fn parse(bytes: &[u8]) {
    let Some((&which, rest)) = bytes.split_first() else { return };
    match which % 8 {
        0 => drop(super::Module::read(rest)),
        1 => drop(super::signature::split(rest)),
        2 => {
            let text = String::from_utf8_lossy(rest);
            let mut settings = super::modprobe::Modprobe::default();
            settings.add(std::path::Path::new("/x"), &text);
            let _ = (settings.refuses("ixgbevf", &text), settings.alias(&text));
        }
        3 => {
            if let Some(symvers) = crate::kernel::Symvers::new(std::path::Path::new("/x"), rest.to_vec()) {
                for _ in 0..5 {
                    symvers.find(&["module_layout", "", "\t"]);
                }
            }
        }
        4 => drop(
            super::trie::Trie::new(rest.to_vec()).map(|t| (t.exact("ixgbevf").is_ok(), t.matching("pci:v8086").is_ok())),
        ),
        5 => drop(super::cpio::read(rest, |_| true)),
        6 => crate::kernel::image::look(rest),
        _ => {
            let text = String::from_utf8_lossy(rest);
            let (pattern, modalias) = text.split_once('\n').unwrap_or((&text, ""));
            super::fits(pattern, modalias);
            super::name_of(&text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The least that is a module: a null section, names, a symbol table, `.modinfo` and `struct module`.
    pub fn module() -> Vec<u8> {
        let names = b"\0.shstrtab\0.symtab\0.strtab\0.modinfo\0.gnu.linkonce.this_module\0";
        let mut this = vec![0u8; 0x200];
        this[24..28].copy_from_slice(b"demo");
        let info = b"license=GPL\0vermagic=6.1.0 SMP \0";
        let mut symbols = vec![0u8; 48];
        symbols[24] = 1;
        symbols[28] = 0x10;
        let strings = b"\0_printk\0";
        let parts: [(&[u8], u32, u32, u64); 5] =
            [(names, 1, 3, 0), (&symbols, 11, 2, 0), (strings, 19, 3, 0), (info, 27, 1, 2), (&this, 36, 1, 3)];
        let mut out = vec![0u8; 64];
        let mut headers = vec![0u8; 64];
        for (content, name, kind, flags) in parts {
            let link: u32 = if kind == 2 { 3 } else { 0 };
            let entry: u64 = if kind == 2 { 24 } else { 0 };
            headers.extend(name.to_le_bytes());
            headers.extend(kind.to_le_bytes());
            headers.extend(flags.to_le_bytes());
            headers.extend(0u64.to_le_bytes());
            headers.extend((out.len() as u64).to_le_bytes());
            headers.extend((content.len() as u64).to_le_bytes());
            headers.extend(link.to_le_bytes());
            headers.extend(1u32.to_le_bytes());
            headers.extend(1u64.to_le_bytes());
            headers.extend(entry.to_le_bytes());
            out.extend(content);
        }
        let start = out.len() as u64;
        out.extend(headers);
        out[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        out[16..18].copy_from_slice(&1u16.to_le_bytes());
        let machine: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
        out[18..20].copy_from_slice(&machine.to_le_bytes());
        out[20] = 1;
        out[40..48].copy_from_slice(&start.to_le_bytes());
        out[52..54].copy_from_slice(&64u16.to_le_bytes());
        out[58..60].copy_from_slice(&64u16.to_le_bytes());
        out[60..62].copy_from_slice(&6u16.to_le_bytes());
        out[62..64].copy_from_slice(&1u16.to_le_bytes());
        out
    }

    #[test]
    fn the_least_module_is_one_and_each_cut_of_it_is_none() {
        let whole = module();
        let read = super::super::Module::read(&whole).unwrap();
        assert_eq!((read.name.as_str(), read.imports.len()), ("demo", 1));
        for end in 0..whole.len() {
            assert!(super::super::Module::read(&whole[..end]).is_err(), "cut at {end}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn no_bytes_make_a_parser_panic(which in 0u8..8, noise in proptest::collection::vec(any::<u8>(), 0..600)) {
            parse(&[&[which], &noise[..]].concat());
        }

        #[test]
        fn no_changed_bytes_make_the_reader_of_modules_panic(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            let mut bytes = module();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            parse(&[&[0], &bytes[..]].concat());
        }
    }
}
