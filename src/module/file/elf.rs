//! A module's ELF file (elf(5)), checked like the kernel's loader does: `elf_validity_check`, `simplify_symbols` and
//! `module_enforce_rwx_sections` of `kernel/module/main.c`, the relocations of `arch/x86/kernel/module.c`. The checks of all kernel
//! versions are combined: what one of them refuses is refused here.

use super::MAX_LISTED;
use crate::finding::{Fact, Finding};
use object::elf::{FileHeader64, Rela64, SectionHeader64, Sym64};
use object::read::elf::{FileHeader, Rela, SectionHeader, SectionTable, Sym, SymbolTable};
use object::{elf, LittleEndian as Le};

/// The ELF machine that this build of vfguard supports.
#[cfg(target_arch = "x86_64")]
const MACHINE: elf::Machine = elf::EM_X86_64;
#[cfg(target_arch = "aarch64")]
const MACHINE: elf::Machine = elf::EM_AARCH64;

/// More than any module takes in memory; the kernel's address space for all modules together is 1 to 1.5 GB.
const MAX_LOADED: u64 = 256 << 20;
/// A larger alignment than any section has (a page, for the per-CPU and the text sections).
const MAX_ALIGN: u64 = 2 << 20;
/// The longest name of a section or symbol: no kernel accepts more than 512 bytes. Many symbols may share the bytes of one name.
pub(in crate::module) const MAX_NAME: usize = 4096;
/// Symbols of one module; Debian's amdgpu has 45,000.
const MAX_SYMBOLS: usize = 1_000_000;
/// Sections that take memory but no space in the file, by the prefix of their names.
const NOBITS: [&str; 5] = [".bss", ".data..percpu", ".sbss", ".init.bss", ".exit.bss"];

type Sections<'d> = SectionTable<'d, FileHeader64<Le>>;

/// A relocatable file that the kernel's loader would lay out.
pub(in crate::module) struct Elf<'d> {
    data: &'d [u8],
    sections: Sections<'d>,
    symbols: SymbolTable<'d, FileHeader64<Le>>,
}

/// A symbol that the file uses and does not define.
pub(in crate::module) struct Undefined<'d> {
    pub name: &'d str,
    pub weak: bool,
}

impl<'d> Elf<'d> {
    /// Checks the file's structure.
    ///
    /// # Errors
    /// The finding: `not-elf`, `wrong-arch` or `stripped`.
    pub(in crate::module) fn parse(data: &'d [u8]) -> Result<Elf<'d>, Finding> {
        let header = FileHeader64::<Le>::parse(data).map_err(|e| damaged(&format!("no 64-bit ELF file: {e}")))?;
        let machine = header.e_machine(Le);
        if machine != MACHINE || !header.is_little_endian() {
            let detail = format!("built for ELF machine {machine:?}, this one is {MACHINE:?}");
            return Err(Finding::new(Fact::WrongArch, detail, "build it for this machine"));
        }
        if header.e_type(Le) != elf::ET_REL {
            return Err(damaged("an ELF file, but no relocatable one"));
        }
        if header.e_shnum(Le) == 0 {
            return Err(damaged("it has no section table"));
        }
        let sections = header.sections(Le, data).map_err(|e| damaged(&e.to_string()))?;
        check_sections(&sections, data)?;
        let tables: Vec<_> = sections.enumerate().filter(|(_, s)| s.sh_type(Le) == elf::SHT_SYMTAB).collect();
        let (index, table) = match tables[..] {
            [one] => one,
            [] => return Err(stripped("no symbol table")),
            _ => return Err(damaged("more than one symbol table")),
        };
        let symbols = SymbolTable::parse(Le, data, &sections, index, table).map_err(|e| damaged(&e.to_string()))?;
        let strings = sections.section(table.link(Le)).and_then(|s| s.data(Le, data)).unwrap_or_default();
        if strings.last() != Some(&0) {
            return Err(damaged("the symbols' names do not end"));
        }
        let elf = Elf { data, sections, symbols };
        elf.check_symbols()?;
        elf.check_relocations()?;
        Ok(elf)
    }

    /// The first loaded section of a name, like the kernel's `find_sec`, which ignores sections without the flag.
    pub(in crate::module) fn section(&self, name: &str) -> Option<&'d [u8]> {
        self.header(name).and_then(|(_, s)| s.data(Le, self.data).ok())
    }

    /// The compiler's description of itself (`.comment`, which is not loaded); each object file of a module has one.
    pub(in crate::module) fn compiler(&self) -> Option<&'d str> {
        let section = self.sections.iter().find(|s| self.sections.section_name(Le, s).is_ok_and(|n| n == b".comment"))?;
        let texts = section.data(Le, self.data).ok()?.split(|&b| b == 0);
        texts.filter_map(|text| std::str::from_utf8(text).ok()).find(|text| !text.is_empty())
    }

    fn header(&self, name: &str) -> Option<(usize, &'d SectionHeader64<Le>)> {
        let mut all = self.sections.enumerate().map(|(i, s)| (i.0, s));
        all.find(|(_, s)| loaded(s) && self.sections.section_name(Le, s).is_ok_and(|n| n == name.as_bytes()))
    }

    /// How many sections have a name, loaded or not.
    pub(in crate::module) fn count(&self, name: &str) -> usize {
        self.sections.iter().filter(|s| self.sections.section_name(Le, s).is_ok_and(|n| n == name.as_bytes())).count()
    }

    /// The size of a section in memory.
    pub(in crate::module) fn size(&self, name: &str) -> Option<u64> {
        self.header(name).map(|(_, s)| s.sh_size(Le))
    }

    /// The content of a note section's first note: the build id of `.note.gnu.build-id`.
    pub(in crate::module) fn build_id(&self) -> Option<Vec<u8>> {
        let note = self.section(".note.gnu.build-id")?;
        let word = |at: usize| note.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize);
        let start = 12 + word(0)?.checked_next_multiple_of(4)?;
        note.get(start..start.checked_add(word(4)?)?).map(<[u8]>::to_vec)
    }

    /// The imported symbols, in order.
    ///
    /// # Errors
    /// If a name is invalid.
    pub(in crate::module) fn undefined(&self) -> Result<Vec<Undefined<'d>>, Finding> {
        let all = self.symbols.symbols().iter().skip(1).filter(|s| s.st_shndx(Le) == elf::SHN_UNDEF);
        all.take(MAX_LISTED + 1).map(|s| Ok(Undefined { name: self.symbol_name(s)?, weak: s.is_weak() })).collect()
    }

    /// Defined symbols: name, section, value.
    pub(in crate::module) fn defined(&self) -> impl Iterator<Item = (&'d str, u16, u64)> + '_ {
        let all = self.symbols.symbols().iter().filter(|s| s.st_shndx(Le) != elf::SHN_UNDEF);
        all.filter_map(|s| Some((self.symbol_name(s).ok()?, s.st_shndx(Le).0, s.st_value(Le))))
    }

    /// The content and the name of a section by its index.
    pub(in crate::module) fn section_at(&self, index: u16) -> Option<(&'d str, &'d [u8])> {
        let section = self.sections.section(object::SectionIndex(index.into())).ok()?;
        let name = std::str::from_utf8(self.sections.section_name(Le, section).ok()?).ok()?;
        Some((name, section.data(Le, self.data).ok()?))
    }

    /// Whether loading fills in `struct module` by relocations: otherwise the module's init function is never called.
    pub(in crate::module) fn has_init(&self) -> bool {
        let Some((this, _)) = self.header(".gnu.linkonce.this_module") else { return false };
        let filled = self.sections.iter().any(|s| s.sh_type(Le) == elf::SHT_RELA && s.sh_info(Le) as usize == this);
        filled && self.defined().any(|(name, ..)| name == "init_module")
    }

    fn symbol_name(&self, symbol: &Sym64<Le>) -> Result<&'d str, Finding> {
        let name = symbol.name(Le, self.symbols.strings()).map_err(|e| damaged(&format!("symbol table: {e}")))?;
        if name.len() > MAX_NAME {
            return Err(damaged("the symbol table holds a name that is too long"));
        }
        std::str::from_utf8(name).map_err(|_| damaged("the symbol table holds a name that is no text"))
    }

    fn check_symbols(&self) -> Result<(), Finding> {
        if self.symbols.len() > MAX_SYMBOLS {
            return Err(damaged(&format!("it has {} symbols", self.symbols.len())));
        }
        for symbol in self.symbols.symbols().iter().skip(1) {
            let name = self.symbol_name(symbol)?;
            let place = symbol.st_shndx(Le);
            if place == elf::SHN_UNDEF || place == elf::SHN_ABS {
                continue;
            }
            if place == elf::SHN_COMMON {
                return Err(damaged(&format!("{name} is a common symbol; the kernel wants -fno-common")));
            }
            let section = self.sections.section(object::SectionIndex(place.0.into()));
            let Ok(section) = section else {
                return Err(damaged(&format!("the symbol {name} lies in a section that is not there")));
            };
            if symbol.st_value(Le) > section.sh_size(Le) {
                return Err(damaged(&format!("the symbol {name} lies outside of its section")));
            }
        }
        Ok(())
    }

    fn check_relocations(&self) -> Result<(), Finding> {
        // At most as many relocations as fit into the file: relocation sections may overlap, and there may be thousands of them.
        let mut room = self.data.len() / size_of::<Rela64<Le>>();
        for section in self.sections.iter() {
            let target = self.sections.section(section.info_link(Le)).ok().filter(|t| loaded(t));
            let kind = section.sh_type(Le);
            let (Some(target), true) = (target, kind == elf::SHT_RELA || kind == elf::SHT_REL) else { continue };
            if kind == elf::SHT_REL && cfg!(target_arch = "x86_64") {
                return Err(damaged("it holds relocations without addends, which this machine has not"));
            }
            let content = target.data(Le, self.data).unwrap_or_default();
            if let Some((entries, _)) = section.rela(Le, self.data).map_err(|e| damaged(&e.to_string()))? {
                room = room.checked_sub(entries.len()).ok_or_else(|| damaged("its relocations lie on each other"))?;
                entries.iter().try_for_each(|entry| self.check_relocation(entry, content))?;
            }
        }
        Ok(())
    }

    fn check_relocation(&self, entry: &Rela64<Le>, content: &[u8]) -> Result<(), Finding> {
        let symbol = self.symbols.symbols().get(entry.r_sym(Le, false) as usize);
        let Some(symbol) = symbol else { return Err(damaged("a relocation names a symbol that is not there")) };
        if let Ok(section) = self.sections.section(object::SectionIndex(symbol.st_shndx(Le).0.into())) {
            if !loaded(section) {
                return Err(damaged("a relocation leads into a section that is not loaded"));
            }
        }
        if cfg!(not(target_arch = "x86_64")) {
            return Ok(());
        }
        let width = match entry.r_type(Le, false) {
            elf::R_X86_64_NONE => return Ok(()),
            elf::R_X86_64_64 | elf::R_X86_64_PC64 => 8,
            elf::R_X86_64_32 | elf::R_X86_64_32S | elf::R_X86_64_PC32 | elf::R_X86_64_PLT32 => 4,
            other => return Err(damaged(&format!("an unknown relocation {other:?}"))),
        };
        let place = usize::try_from(entry.r_offset(Le)).ok();
        let place = place.and_then(|at| content.get(at..at.checked_add(width)?));
        match place {
            None => Err(damaged("a relocation lies outside of its section")),
            Some(bytes) if bytes.iter().any(|&b| b != 0) => Err(damaged("a relocation's place is already filled")),
            Some(_) => Ok(()),
        }
    }
}

fn loaded(section: &SectionHeader64<Le>) -> bool {
    section.sh_flags(Le).contains(elf::SHF_ALLOC)
}

fn check_sections(sections: &Sections<'_>, data: &[u8]) -> Result<(), Finding> {
    let mut total: u64 = 0;
    for (index, section) in sections.enumerate() {
        if index.0 == 0 {
            let empty = section.sh_type(Le) == elf::SHT_NULL && section.sh_size(Le) == 0 && section.sh_addr(Le) == 0;
            if !empty {
                return Err(damaged("section 0 is not empty"));
            }
            continue;
        }
        // Linux 6.1 reads the names of all sections before it checks where they are, and crashes.
        let name = sections.section_name(Le, section).map_err(|e| damaged(&format!("section {}: {e}", index.0)))?;
        if name.len() > MAX_NAME {
            return Err(damaged(&format!("the name of section {} is too long", index.0)));
        }
        let name = String::from_utf8_lossy(name);
        let kind = section.sh_type(Le);
        if kind == elf::SHT_NULL {
            continue;
        }
        // The kernel checks the place of an empty section too.
        let end = section.sh_offset(Le).checked_add(section.sh_size(Le));
        if kind != elf::SHT_NOBITS && end.is_none_or(|end| end > data.len() as u64) {
            return Err(damaged(&format!("section {name} lies outside of the file")));
        }
        if section.sh_link(Le) as usize >= sections.len() {
            return Err(damaged(&format!("section {name} is linked to one that is not there")));
        }
        if !loaded(section) {
            continue;
        }
        let align = section.sh_addralign(Le);
        if align > MAX_ALIGN || (align != 0 && !align.is_power_of_two()) {
            return Err(damaged(&format!("section {name} is aligned to {align}")));
        }
        if kind == elf::SHT_NOBITS && section.sh_size(Le) > 0 && !NOBITS.iter().any(|n| name.starts_with(n)) {
            return Err(damaged(&format!("section {name} has no content")));
        }
        let flags = section.sh_flags(Le);
        if flags.contains(elf::SHF_WRITE) && flags.contains(elf::SHF_EXECINSTR) {
            return Err(damaged(&format!("section {name} is both writable and executable")));
        }
        total = total.saturating_add(section.sh_size(Le));
    }
    if total > MAX_LOADED {
        return Err(damaged(&format!("it would take {total} bytes of memory")));
    }
    Ok(())
}

pub(in crate::module) fn damaged(why: &str) -> Finding {
    Finding::new(Fact::NotElf, format!("no loadable module: {why}"), "build or install it again")
}

pub(in crate::module) fn stripped(why: &str) -> Finding {
    let remedy = "build it again; strip modules with --strip-debug only";
    Finding::new(Fact::Stripped, format!("stripped too far: {why}"), remedy)
}
