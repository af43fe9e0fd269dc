//! A minimal module, made by hand, with the `.modinfo` that a test needs.

/// A module of this name, with these entries of `.modinfo`.
pub fn module(name: &str, info: &[(&str, &str)]) -> Vec<u8> {
    let names = b"\0.shstrtab\0.symtab\0.strtab\0.modinfo\0.rela.gnu.linkonce.this_module\0";
    let mut this = vec![0u8; 0x200];
    this[24..24 + name.len()].copy_from_slice(name.as_bytes());
    let info: Vec<u8> = info.iter().flat_map(|(key, value)| format!("{key}={value}\0").into_bytes()).collect();
    // The second symbol is init_module, a global function in the section of struct module; a relocation enters it there.
    let mut symbols = vec![0u8; 48];
    symbols[24..32].copy_from_slice(&[1, 0, 0, 0, 0x12, 0, 5, 0]);
    let mut fill = vec![0u8; 24];
    fill[8..16].copy_from_slice(&(1u64 << 32 | 1).to_le_bytes());
    // Content, offset of the name, type, flags.
    let parts: [(&[u8], u32, u32, u64); 6] = [
        (names, 1, 3, 0),
        (&symbols, 11, 2, 0),
        (b"\0init_module\0", 19, 3, 0),
        (&info, 27, 1, 2),
        (&this, 41, 1, 3),
        (&fill, 36, 4, 0),
    ];
    let mut out = vec![0u8; 64];
    let mut headers = vec![0u8; 64];
    for (content, name, kind, flags) in parts {
        let (link, about, entry): (u32, u32, u64) = match kind {
            2 => (3, 1, 24),
            4 => (2, 5, 24),
            _ => (0, 0, 0),
        };
        headers.extend(name.to_le_bytes());
        headers.extend(kind.to_le_bytes());
        for word in [flags, 0, out.len() as u64, content.len() as u64] {
            headers.extend(word.to_le_bytes());
        }
        headers.extend(link.to_le_bytes());
        headers.extend(about.to_le_bytes());
        headers.extend(1u64.to_le_bytes());
        headers.extend(entry.to_le_bytes());
        out.extend(content);
    }
    let start = out.len() as u64;
    out.extend(headers);
    let machine: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    out[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    out[16..18].copy_from_slice(&1u16.to_le_bytes());
    out[18..20].copy_from_slice(&machine.to_le_bytes());
    out[20] = 1;
    out[40..48].copy_from_slice(&start.to_le_bytes());
    for (at, value) in [(52, 64u16), (58, 64), (60, 7), (62, 1)] {
        out[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    out
}
