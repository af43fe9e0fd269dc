//! Feeds arbitrary bytes to every parser of this module: real files with some bytes changed, and noise. A panic or an endless run is a
//! failure; the results are not checked. Runs here are bounded; tests/fuzz has a target of the same name for each parser (cargo-fuzz), with
//! a corpus that is also run here.

use std::path::Path;

/// A parser that accepts any bytes.
pub type Parser = fn(&[u8]);

/// Each parser by the name of its target.
pub const ALL: [(&str, Parser); 11] = [
    ("elf", elf),
    ("modinfo", modinfo),
    ("versions", versions),
    ("symvers", symvers),
    ("alias", alias),
    ("signature", signature),
    ("cpio", cpio),
    ("modprobe", modprobe),
    ("trie", trie),
    ("image", image),
    ("efi", efi),
];

/// A module, compressed or not.
pub fn elf(bytes: &[u8]) {
    drop(super::Module::read(bytes));
}

/// A `.modinfo` section.
pub fn modinfo(bytes: &[u8]) {
    for key in ["alias", "", "vermagic"] {
        let _ = (super::file::modinfo::value(bytes, key), super::file::modinfo::list(bytes, key));
    }
}

/// `__versions`, and the extended form: the first byte is the length of the CRCs, the names follow.
pub fn versions(bytes: &[u8]) {
    let _ = super::file::records(bytes);
    let Some((&at, rest)) = bytes.split_first() else { return };
    let (crcs, names) = rest.split_at(usize::from(at).min(rest.len()));
    let _ = super::file::extended(crcs, names);
}

/// `Module.symvers`, searched so often that it is indexed.
pub fn symvers(bytes: &[u8]) {
    let Some(symvers) = crate::kernel::Symvers::new(Path::new("/x"), bytes.to_vec()) else { return };
    for _ in 0..5 {
        symvers.find(&["module_layout", "", "\t"]);
    }
}

/// A pattern, and on the next line the text to match.
pub fn alias(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (pattern, modalias) = text.split_once('\n').unwrap_or((&text, ""));
    super::fits(pattern, modalias);
    super::name_of(&text);
}

/// A signature after its content.
pub fn signature(bytes: &[u8]) {
    drop(super::file::signature::split(bytes));
}

/// An initramfs.
pub fn cpio(bytes: &[u8]) {
    let _ = super::initramfs::cpio::read(
        super::initramfs::cpio::without_bootconfig(bytes),
        &mut super::initramfs::rootfs::Tree::default(),
        |_| Some(super::initramfs::rootfs::Wanted::Module),
    );
}

/// A file of modprobe.d, and the same text as a command line.
pub fn modprobe(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut settings = super::target::modprobe::Modprobe::default();
    settings.add(Path::new("/x"), &text);
    let _ = (settings.refuses("ixgbevf", &text), settings.refuses_as_dependency("ixgbevf", &text), settings.alias(&text));
}

/// `modules.dep.bin` and similar tables.
pub fn trie(bytes: &[u8]) {
    if let Ok(trie) = super::target::trie::Trie::new(bytes.to_vec()) {
        let _ = (trie.exact("ixgbevf"), trie.matching("pci:v00008086d000010ED"));
    }
}

/// A kernel image that is searched for certificates.
pub fn image(bytes: &[u8]) {
    crate::kernel::image::look(bytes);
}

/// A list of certificates in the firmware's format.
pub fn efi(bytes: &[u8]) {
    drop(super::target::keys::listed(bytes));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A minimal module: a null section, names, a symbol table, `.modinfo` and `struct module`.
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

    /// EL6 has the signature as an ELF note (modsign.h), other kernels of that time as a section.
    #[test]
    fn a_signature_inside_the_module_is_recognised_by_its_section() {
        for (section, signed) in
            [("note.module.sig", true), ("module_sig", true), ("module_six", false), ("note.module.si", false)]
        {
            let mut bytes = module();
            assert!(!super::super::Module::read(&bytes).unwrap().signed());
            // Add a section: names after the old ones, and a header after the last one.
            let start = usize::try_from(u64::from_le_bytes(bytes[40..48].try_into().unwrap())).unwrap();
            let names = start + 64;
            let at = usize::try_from(u64::from_le_bytes(bytes[names + 24..names + 32].try_into().unwrap())).unwrap();
            let size = usize::try_from(u64::from_le_bytes(bytes[names + 32..names + 40].try_into().unwrap())).unwrap();
            let moved = bytes.len() as u64;
            let mut table = bytes[at..at + size].to_vec();
            table.extend(format!(".{section}\0").bytes());
            let mut headers = bytes[start..].to_vec();
            let content = moved + table.len() as u64;
            headers[64 + 24..64 + 32].copy_from_slice(&moved.to_le_bytes());
            headers[64 + 32..64 + 40].copy_from_slice(&(table.len() as u64).to_le_bytes());
            let mut header = vec![0u8; 64];
            header[..4].copy_from_slice(&u32::try_from(size).unwrap().to_le_bytes());
            header[4..8].copy_from_slice(&1u32.to_le_bytes());
            header[24..32].copy_from_slice(&content.to_le_bytes());
            header[32..40].copy_from_slice(&4u64.to_le_bytes());
            bytes.extend(table);
            bytes.extend(b"sig!");
            let start = bytes.len() as u64;
            bytes.extend(headers);
            bytes.extend(header);
            bytes[40..48].copy_from_slice(&start.to_le_bytes());
            bytes[60] += 1;
            assert_eq!(super::super::Module::read(&bytes).unwrap().signed(), signed, ".{section}");
        }
    }

    #[test]
    fn the_minimal_module_is_valid_and_no_truncation_of_it_is() {
        let whole = module();
        let read = super::super::Module::read(&whole).unwrap();
        assert_eq!((read.name.as_str(), read.imports.len()), ("demo", 1));
        for end in 0..whole.len() {
            assert!(super::super::Module::read(&whole[..end]).is_err(), "cut at {end}");
        }
    }

    /// Runs the corpus that cargo-fuzz collected, as it is and with single bytes changed.
    #[test]
    fn the_corpus_of_every_target_passes() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
        for (name, parser) in ALL {
            assert!(top.join(format!("fuzz_targets/{name}.rs")).is_file(), "tests/fuzz has no target {name}");
            let dir = top.join("corpus").join(name);
            let mut seeds: Vec<Vec<u8>> =
                std::fs::read_dir(&dir).unwrap().map(|e| std::fs::read(e.unwrap().path()).unwrap()).collect();
            seeds.sort();
            assert!(!seeds.is_empty(), "{} is empty", dir.display());
            for mut bytes in seeds {
                parser(&bytes);
                for at in 0..bytes.len().min(4096) {
                    let kept = bytes[at];
                    bytes[at] = kept.wrapping_mul(31).wrapping_add(u8::try_from(at % 251).unwrap());
                    parser(&bytes);
                    bytes[at] = kept;
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn no_bytes_make_a_parser_panic(which in 0..ALL.len(), noise in proptest::collection::vec(any::<u8>(), 0..600)) {
            ALL[which].1(&noise);
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
            elf(&bytes);
        }
    }
}
