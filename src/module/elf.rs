//! What a module file says of itself: ELF relocatable (elf(5)), `.modinfo`, `__versions` (`struct modversion_info` of
//! `include/linux/module.h`), its extended form of Linux 6.14, and the undefined symbols.

use super::{decompress, fits, modinfo, signature};
use crate::finding::{Code, Finding};
use object::read::elf::{ElfFile64, FileHeader, SectionHeader};
use object::{elf, LittleEndian, Object, ObjectSection, ObjectSymbol};
use serde::Serialize;

/// The ELF machine that this build of vfguard judges for.
#[cfg(target_arch = "x86_64")]
const MACHINE: elf::Machine = elf::EM_X86_64;
#[cfg(target_arch = "aarch64")]
const MACHINE: elf::Machine = elf::EM_AARCH64;

/// A record of `__versions`: an `unsigned long` CRC and a name of 56 bytes on 64-bit kernels.
const VERSION_RECORD: usize = 64;
/// The CRC's part of it.
const VERSION_CRC: usize = 8;
/// Where `struct module` holds its name on 64-bit kernels: after `enum module_state` and a `struct list_head`.
const THIS_MODULE_NAME: usize = 24;

/// No 64-bit kernel since 2.6.32 has a smaller `struct module`. Before 6.4 the kernel does not look, and writes past the end.
const THIS_MODULE_LEAST: usize = 0x200;

/// A module, as its file describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Module {
    /// The name that the kernel knows it by.
    pub name: String,
    /// `version`.
    pub version: Option<String>,
    /// `srcversion`.
    pub srcversion: Option<String>,
    /// `vermagic`: the release, then the flags.
    pub vermagic: Option<String>,
    /// `license`.
    pub license: Option<String>,
    /// Whether it says that it is the kernel's own (`intree=Y`).
    pub intree: bool,
    /// Modules that it depends on.
    pub depends: Vec<String>,
    /// Modalias patterns that it claims.
    pub aliases: Vec<String>,
    /// Namespaces that it imports.
    pub namespaces: Vec<String>,
    /// Whether a signature is appended.
    pub signed: bool,
    /// The CRC of each imported symbol.
    #[serde(skip)]
    pub versions: Vec<(String, u32)>,
    /// Symbols that it uses and does not define; weak ones are left out.
    #[serde(skip)]
    pub undefined: Vec<String>,
}

impl Module {
    /// Reads a module, compressed or not.
    ///
    /// # Errors
    /// The finding that says what is wrong with the file: `module-unreadable`, `not-elf`, `wrong-arch`, `stripped`.
    pub fn read(bytes: &[u8]) -> Result<Module, Finding> {
        let plain = decompress::plain(bytes).map_err(|e| {
            Finding::refuse(
                Code::ModuleUnreadable,
                format!("the file does not decompress: {e}"),
                "build or install it again",
            )
        })?;
        if plain.is_empty() {
            return Err(damaged("the file is empty"));
        }
        let (content, signed) = signature::split(&plain).map_err(|why| {
            Finding::refuse(Code::SignatureInvalid, format!("its signature is damaged: {why}"), "build or install it again")
        })?;
        let header =
            elf::FileHeader64::<LittleEndian>::parse(content).map_err(|e| damaged(&format!("no 64-bit ELF file: {e}")))?;
        let machine = header.e_machine.get(LittleEndian);
        if machine != MACHINE {
            return Err(Finding::refuse(
                Code::WrongArch,
                format!("built for ELF machine {machine:?}, this one is {MACHINE:?}"),
                "build it for this machine",
            ));
        }
        if header.e_type.get(LittleEndian) != elf::ET_REL {
            return Err(damaged("an ELF file, but no relocatable one"));
        }
        let file = ElfFile64::<LittleEndian>::parse(content).map_err(|e| damaged(&e.to_string()))?;
        Module::parse(&file, signed)
    }

    fn parse(file: &ElfFile64<'_, LittleEndian>, signed: bool) -> Result<Module, Finding> {
        // Every section must lie inside the file, as the kernel's elf_validity_check demands.
        for section in file.sections() {
            // Linux 6.1 does not look where the names of all sections lie before it reads them, and dies.
            let name = section.name().map_err(|e| damaged(&format!("section {}: {e}", section.index())))?;
            section.data().map_err(|e| damaged(&format!("section {name}: {e}")))?;
            // An empty one has no data to miss, and the kernel looks at its place all the same.
            let header = section.elf_section_header();
            let end = header.sh_offset(LittleEndian).checked_add(header.sh_size(LittleEndian));
            let outside = end.is_none_or(|end| end > file.data().len() as u64);
            if outside && header.sh_type(LittleEndian) != elf::SHT_NOBITS {
                return Err(damaged(&format!("section {name} lies outside the file")));
            }
        }
        let section = |name: &str| file.section_by_name(name).and_then(|s| s.data().ok());
        let Some(this_module) = section(".gnu.linkonce.this_module") else {
            return Err(stripped("no section .gnu.linkonce.this_module"));
        };
        if this_module.len() < THIS_MODULE_LEAST {
            return Err(damaged("section .gnu.linkonce.this_module is cut off"));
        }
        if file.symbol_table().is_none() {
            return Err(stripped("no symbol table"));
        }
        let info = section(".modinfo").unwrap_or_default();
        let text = |key: &str| modinfo::value(info, key).map(str::to_owned);
        let name = text("name").unwrap_or_else(|| name_in(this_module));
        if name.is_empty() {
            return Err(stripped("no name in .modinfo or .gnu.linkonce.this_module"));
        }
        let versions = match (section("__version_ext_crcs"), section("__version_ext_names")) {
            (Some(crcs), Some(names)) => extended(crcs, names)?,
            _ => records(section("__versions").unwrap_or_default())?,
        };
        let mut undefined = Vec::new();
        for symbol in file.symbols().filter(|s| s.is_undefined() && !s.is_weak()) {
            let name = symbol.name().map_err(|e| damaged(&format!("symbol table: {e}")))?;
            if !name.is_empty() {
                undefined.push(name.to_owned());
            }
        }
        Ok(Module {
            name: name.replace('-', "_"),
            version: text("version"),
            srcversion: text("srcversion"),
            vermagic: text("vermagic"),
            license: text("license"),
            intree: text("intree").is_some_and(|v| v == "Y"),
            depends: modinfo::list(info, "depends"),
            aliases: modinfo::values(info, "alias").into_iter().map(str::to_owned).collect(),
            namespaces: modinfo::values(info, "import_ns").into_iter().map(str::to_owned).collect(),
            signed,
            versions,
            undefined,
        })
    }

    /// Whether one of its aliases fits a device.
    pub fn claims(&self, modalias: &str) -> bool {
        self.aliases.iter().any(|pattern| fits(pattern, modalias))
    }
}

fn damaged(why: &str) -> Finding {
    Finding::refuse(Code::NotElf, format!("no loadable module: {why}"), "build or install it again")
}

fn stripped(why: &str) -> Finding {
    Finding::refuse(
        Code::Stripped,
        format!("stripped too far: {why}"),
        "build it again; strip modules with --strip-debug only",
    )
}

fn name_in(this_module: &[u8]) -> String {
    let bytes = this_module.get(THIS_MODULE_NAME..).unwrap_or_default();
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(0);
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn records(section: &[u8]) -> Result<Vec<(String, u32)>, Finding> {
    if !section.len().is_multiple_of(VERSION_RECORD) {
        return Err(damaged("__versions is cut off"));
    }
    let parse = |record: &[u8]| {
        let (crc, name) = record.split_at(VERSION_CRC);
        let end = name.iter().position(|&b| b == 0)?;
        let crc = u64::from_le_bytes(crc.try_into().ok()?);
        Some((std::str::from_utf8(&name[..end]).ok()?.to_owned(), u32::try_from(crc).ok()?))
    };
    let all: Option<Vec<_>> = section.chunks_exact(VERSION_RECORD).map(parse).collect();
    all.ok_or_else(|| damaged("__versions holds no symbol versions"))
}

/// `__version_ext_crcs` (32-bit CRCs) beside `__version_ext_names` (NUL-ended names), in the same order.
fn extended(crcs: &[u8], names: &[u8]) -> Result<Vec<(String, u32)>, Finding> {
    let crcs = crcs.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]]));
    let names: Vec<&[u8]> = names.split(|&b| b == 0).filter(|n| !n.is_empty()).collect();
    if crcs.len() != names.len() {
        return Err(damaged("the extended symbol versions are cut off"));
    }
    let name = |n: &[u8]| {
        std::str::from_utf8(n).map(str::to_owned).map_err(|_| damaged("the extended symbol versions hold no names"))
    };
    crcs.zip(names).map(|(crc, n)| Ok((name(n)?, crc))).collect()
}
