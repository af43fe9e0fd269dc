//! The contents of a module file: `.modinfo`, the symbol versions (`__versions`: `struct modversion_info` of `include/linux/module.h`;
//! `__version_ext_*` of Linux 6.14), its imports and exports, and its signature.

pub(super) mod elf;
pub(super) mod modinfo;
pub(super) mod signature;

use self::elf::{damaged, stripped, Elf, MAX_NAME};
use self::signature::Signature;
use super::fits;
use crate::decompress;
use crate::finding::{Fact, Finding};
use crate::kernel::Compiler;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// A record of `__versions`: an `unsigned long` CRC and a name of 56 bytes on 64-bit kernels.
const VERSION_RECORD: usize = 64;
/// The size of the CRC in it.
const VERSION_CRC: usize = 8;
/// The signature's section in kernels from before the signature trailer: EL6 as an ELF note (`modsign.h`), others as a section.
const SIGNATURES: [&str; 2] = [".note.module.sig", ".module_sig"];
/// The offset of the name in `struct module` on 64-bit kernels: after `enum module_state` and a `struct list_head`.
const THIS_MODULE_NAME: usize = 24;
/// No 64-bit kernel since 2.6.32 has a smaller `struct module`. Before 6.4 the kernel does not check the size, and writes past the end.
const THIS_MODULE_LEAST: usize = 0x200;
/// `MODULE_NAME_LEN` on 64-bit kernels, with its NUL.
const MODULE_NAME_LEN: usize = 56;

/// The most symbols that a module imports, exports or has versions of, and similar lists. None of Debian's 8,257 modules imports more than
/// 1,231 symbols or has more than 1,599 aliases.
pub(super) const MAX_LISTED: usize = 20_000;
/// Bytes of `.modinfo` and of the sections with names; Debian's modules have at most 76 kB.
const MAX_TEXT: usize = 4 << 20;
/// The most soft dependencies of a module: each is looked for and read.
const MAX_WISHES: usize = 256;

/// A symbol that a module imports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Its name.
    pub name: String,
    /// Whether the module works without it.
    pub weak: bool,
}

/// A symbol that a module exports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its name.
    pub name: String,
    /// Its version, if the file has it.
    pub crc: Option<u32>,
    /// Whether only GPL-compatible modules may use it.
    pub gpl_only: bool,
    /// The namespace that a module must import to use it; usually empty.
    pub namespace: String,
}

/// A module, as its file describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Module {
    /// Its name in the kernel.
    pub name: String,
    /// `version`.
    pub version: Option<String>,
    /// `srcversion`.
    pub srcversion: Option<String>,
    /// `vermagic`: the release, then the flags, with the final space.
    pub vermagic: Option<String>,
    /// `license`.
    pub license: Option<String>,
    /// Whether it is marked as in-tree (`intree=Y`).
    pub intree: bool,
    /// The modules on which it depends.
    pub depends: Vec<String>,
    /// `softdep`: modules that are loaded with it if they exist.
    pub softdeps: Vec<String>,
    /// The modalias patterns of its devices.
    pub aliases: Vec<String>,
    /// The namespaces that it imports.
    pub namespaces: Vec<String>,
    /// The appended signature, if any.
    pub signature: Option<Signature>,
    /// The CRC of each imported symbol.
    #[serde(skip)]
    pub versions: Vec<(String, u32)>,
    /// The symbols that it uses and does not define.
    #[serde(skip)]
    pub imports: Vec<Import>,
    /// The symbols that it exports.
    #[serde(skip)]
    pub offers: Vec<Offer>,
    /// The linker's digest of its input.
    #[serde(skip)]
    pub build_id: Option<Vec<u8>>,
    /// The size of its `struct module`; none if it was not read from a file.
    #[serde(skip)]
    pub(super) this_module: Option<u64>,
    /// How the file is compressed.
    #[serde(skip)]
    pub(super) packed: Option<decompress::Packing>,
    /// The compiler that made it, if the file names it.
    #[serde(skip)]
    pub(super) compiler: Option<Compiler>,
    /// Whether it contains type information that the kernel checks (`.BTF`).
    #[serde(skip)]
    pub(super) btf: bool,
    /// Whether it has a signature in a section or a note, as EL6's modules do.
    #[serde(skip)]
    pub(super) signed_inside: bool,
    /// The signed bytes, for checking the signature.
    #[serde(skip)]
    pub(super) signed_content: Vec<u8>,
}

impl Module {
    /// Reads a module, compressed or not. Bytes that are passed by value are not copied.
    ///
    /// # Errors
    /// The finding that names what is wrong with the file: `module-unreadable`, `not-elf`, `wrong-arch`, `stripped`, `signature-invalid`.
    pub fn read<'b>(bytes: impl Into<Cow<'b, [u8]>>) -> Result<Module, Finding> {
        let bytes = bytes.into();
        let packed = decompress::Packing::of(&bytes);
        let plain = decompress::plain(bytes, decompress::MAX_MODULE).map_err(|e| {
            let detail = format!("the file does not decompress: {e}");
            Finding::new(Fact::ModuleUnreadable, detail, "build or install it again")
        })?;
        if plain.is_empty() {
            return Err(damaged("the file is empty"));
        }
        let (content, signature) = signature::split(&plain)?;
        let mut module = Module::parse(&Elf::parse(content)?)?;
        if signature.is_some() {
            let length = content.len();
            module.signed_content = plain.into_owned();
            module.signed_content.truncate(length);
        }
        module.signature = signature;
        module.packed = Some(packed);
        Ok(module)
    }

    fn parse(elf: &Elf<'_>) -> Result<Module, Finding> {
        let Some(this_module) = elf.section(".gnu.linkonce.this_module").filter(|s| !s.is_empty()) else {
            return Err(stripped("no section .gnu.linkonce.this_module"));
        };
        if this_module.len() < THIS_MODULE_LEAST {
            return Err(damaged("section .gnu.linkonce.this_module is cut off"));
        }
        if elf.count(".gnu.linkonce.this_module") > 1 || elf.count(".modinfo") > 1 {
            return Err(damaged("a section that must be there once is there twice"));
        }
        let info = text_of(elf, ".modinfo")?.unwrap_or_default();
        if info.last().is_some_and(|&b| b != 0) {
            return Err(damaged(".modinfo does not end"));
        }
        let text = |key: &str| modinfo::value(info, key);
        let name = name_in(this_module)?;
        if text("name").is_some_and(|n| n.replace('-', "_") != name.replace('-', "_")) {
            return Err(damaged(&format!(
                "its .modinfo names {}, its struct module {name}",
                text("name").unwrap_or_default()
            )));
        }
        let aliases = listed(modinfo::values(info, "alias"), "aliases")?;
        if aliases.iter().any(|a| a.starts_with("pci:")) && !elf.has_init() {
            return Err(stripped("a driver whose init function is not called"));
        }
        let softdeps = listed(modinfo::values(info, "softdep"), "softdeps")?;
        if softdeps.iter().flat_map(|line| line.split_whitespace()).count() > MAX_WISHES {
            return Err(damaged("it has too many softdeps"));
        }
        let imports = elf.undefined()?.into_iter().map(|u| Import { name: u.name.to_owned(), weak: u.weak });
        Ok(Module {
            name: name.replace('-', "_"),
            version: text("version"),
            srcversion: text("srcversion"),
            vermagic: text("vermagic"),
            license: text("license"),
            intree: text("intree").is_some_and(|v| v == "Y"),
            depends: listed(modinfo::list(info, "depends"), "dependencies")?,
            softdeps,
            aliases,
            namespaces: listed(modinfo::values(info, "import_ns"), "namespaces")?,
            versions: versions(elf)?,
            imports: listed(imports, "imports")?,
            offers: offers(elf)?,
            build_id: elf.build_id().filter(|id| !id.is_empty()),
            this_module: elf.size(".gnu.linkonce.this_module"),
            compiler: elf.compiler().and_then(Compiler::parse),
            btf: elf.count(".BTF") > 0,
            signed_inside: SIGNATURES.iter().any(|section| elf.count(section) > 0),
            ..Module::default()
        })
    }

    /// Drops the bytes that are only needed to check the signature, for a module that is kept.
    #[must_use]
    pub fn judged(self) -> Module {
        Module { signed_content: Vec::new(), ..self }
    }

    /// Whether one of its aliases matches a device.
    pub fn claims(&self, modalias: &str) -> bool {
        self.aliases.iter().any(|pattern| fits(pattern, modalias))
    }

    /// Whether there is a signature of any form.
    pub fn signed(&self) -> bool {
        self.signature.is_some() || self.signed_inside
    }
}

/// A section of text, if it exists.
fn text_of<'d>(elf: &Elf<'d>, name: &str) -> Result<Option<&'d [u8]>, Finding> {
    match elf.section(name) {
        Some(section) if section.len() > MAX_TEXT => Err(damaged(&format!("{name} takes {} bytes", section.len()))),
        section => Ok(section),
    }
}

fn listed<T>(all: impl IntoIterator<Item = T>, what: &str) -> Result<Vec<T>, Finding> {
    let all: Vec<T> = all.into_iter().take(MAX_LISTED + 1).collect();
    if all.len() > MAX_LISTED {
        return Err(damaged(&format!("it has more than {MAX_LISTED} {what}")));
    }
    Ok(all)
}

fn name_in(this_module: &[u8]) -> Result<String, Finding> {
    let bytes = this_module.get(THIS_MODULE_NAME..THIS_MODULE_NAME + MODULE_NAME_LEN).unwrap_or_default();
    let name = bytes.iter().position(|&b| b == 0).and_then(|end| std::str::from_utf8(&bytes[..end]).ok());
    match name {
        Some(name) if !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/') => Ok(name.to_owned()),
        _ => Err(damaged("its struct module holds no name")),
    }
}

/// The versions in both forms, if both are there: a kernel reads the form that it knows.
fn versions(elf: &Elf<'_>) -> Result<Vec<(String, u32)>, Finding> {
    let mut all = records(elf.section("__versions").unwrap_or_default())?;
    match (elf.section("__version_ext_crcs"), text_of(elf, "__version_ext_names")?) {
        (Some(crcs), Some(names)) => all.extend(extended(crcs, names)?),
        (None, None) => {}
        _ => return Err(damaged("half of the extended symbol versions is missing")),
    }
    Ok(all)
}

pub(super) fn records(section: &[u8]) -> Result<Vec<(String, u32)>, Finding> {
    if !section.len().is_multiple_of(VERSION_RECORD) {
        return Err(damaged("__versions is cut off"));
    }
    if section.len() / VERSION_RECORD > MAX_LISTED {
        return Err(damaged(&format!("it has more than {MAX_LISTED} symbol versions")));
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

/// `__version_ext_crcs` (32-bit CRCs) and `__version_ext_names` (NUL-terminated names), in the same order.
pub(super) fn extended(crcs: &[u8], names: &[u8]) -> Result<Vec<(String, u32)>, Finding> {
    let cut = || damaged("the extended symbol versions are cut off");
    let Some((0, names)) = names.split_last() else { return if crcs.is_empty() { Ok(Vec::new()) } else { Err(cut()) } };
    let names = listed(names.split(|&b| b == 0), "symbol versions")?;
    if !crcs.len().is_multiple_of(4) || crcs.len() / 4 != names.len() {
        return Err(cut());
    }
    let crcs = crcs.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]]));
    let name = |n: &[u8]| {
        std::str::from_utf8(n).map(str::to_owned).map_err(|_| damaged("the extended symbol versions hold no names"))
    };
    crcs.zip(names).map(|(crc, n)| Ok((name(n)?, crc))).collect()
}

/// `EXPORT_SYMBOL` (`include/linux/export.h`): the name is in `__ksymtab_strings`, `__ksymtab_X` is in `__ksymtab` or `__ksymtab_gpl`,
/// `__kstrtabns_X` is the place of its namespace, and `__crc_X` is the CRC itself (absolute) or its place in `__kcrctab`.
fn offers(elf: &Elf<'_>) -> Result<Vec<Offer>, Finding> {
    let Some(strings) = text_of(elf, "__ksymtab_strings")? else { return Ok(Vec::new()) };
    let names: HashSet<&str> = strings.split(|&b| b == 0).filter_map(|n| std::str::from_utf8(n).ok()).collect();
    let mut offers: Vec<Offer> = Vec::new();
    let (mut crcs, mut spaces) = (HashMap::new(), HashMap::new());
    let own = |symbol: &str| ["__ksymtab_", "__kstrtabns_", "__crc_"].iter().any(|kind| symbol.starts_with(kind));
    let own = listed(elf.defined().filter(|(symbol, ..)| own(symbol)), "symbols about exports")?;
    for (symbol, section, value) in own {
        if let Some(name) = symbol.strip_prefix("__ksymtab_").filter(|n| names.contains(n)) {
            let gpl_only = elf.section_at(section).is_some_and(|(s, _)| s.contains("gpl"));
            offers.push(Offer { name: name.to_owned(), crc: None, gpl_only, namespace: String::new() });
        } else if let Some(name) = symbol.strip_prefix("__kstrtabns_") {
            let rest = usize::try_from(value).ok().and_then(|at| elf.section_at(section)?.1.get(at..)).unwrap_or_default();
            let end = rest.iter().take(MAX_NAME).position(|&b| b == 0).unwrap_or(0);
            spaces.entry(name).or_insert_with(|| String::from_utf8_lossy(&rest[..end]).into_owned());
        } else if let Some(name) = symbol.strip_prefix("__crc_") {
            let inside = elf.section_at(section).and_then(|(_, content)| {
                let at = usize::try_from(value).ok()?;
                content.get(at..at.checked_add(4)?).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            });
            crcs.entry(name).or_insert_with(|| inside.or_else(|| u32::try_from(value).ok()));
        }
    }
    for offer in &mut offers {
        offer.crc = crcs.get(offer.name.as_str()).copied().flatten();
        offer.namespace = spaces.get(offer.name.as_str()).cloned().unwrap_or_default();
    }
    Ok(offers)
}
