//! openSUSE's grub2-bls: a program that reads no grub.cfg. Its behaviour comes from its early configuration (`grubbls.cfg` in openSUSE's
//! grub2.spec: the root is the program's own partition, `enable_blscfg=1`), from `normal/main.c` with the patch "Streamline BLS and improve
//! PCR stability", and, since 2.14, from `run_menu` of `normal/menu.c`, which follows the Boot Loader Interface. sdbootutil installs it as
//! `EFI/NAME/grubbls.efi`, or behind a shim as `grub.efi` with a marker file beside it.
//!
//! Also `uki`, which adds images to the menu (GNU GRUB 2.14's `blsuki.c`; rhboot's of EL10 and Fedora 44).

use super::bls::Call;
use super::eval::{Machine, Stop};
use super::matching::named;
use super::menu::MenuEntry;
use crate::boot::efi;
use crate::boot::grub2::bls::dialect::Order;
use crate::boot::image::TREE;
use crate::host::Host;
use std::path::{Path, PathBuf};

/// The marker file that sdbootutil leaves beside a loader that it installed.
const INSTALLED: &str = "installed_by_sdbootutil";

/// The program of grub2-bls in a directory of the EFI partition, if there is one.
pub fn program(host: &Host, directory: &Path) -> Option<PathBuf> {
    let own = directory.join("grubbls.efi");
    let behind_shim = directory.join("grub.efi");
    if host.exists(&own) {
        return Some(own);
    }
    // Behind a shim systemd-boot has the same name, in its own directory; in the directory for removable media it could be either.
    let foreign = directory.file_name().is_some_and(|name| ["systemd", "boot"].iter().any(|n| name.eq_ignore_ascii_case(n)));
    (!foreign && host.exists(directory.join(INSTALLED)) && host.exists(&behind_shim)).then_some(behind_shim)
}

/// Whether this configuration is such a program.
pub fn is_program(config: &Path) -> bool {
    config.extension().is_some_and(|kind| kind == "efi")
}

impl Machine<'_> {
    pub(super) fn run_program(&mut self, program: &Path) -> Result<i32, Stop> {
        let directory = program.parent().unwrap_or(program);
        self.looked_into(directory);
        self.looked_into(program);
        self.set("enable_blscfg", "1".into());
        let environment = directory.join("grubenv");
        if self.world.exists(&environment) {
            self.load_env(&["-f".into(), format!("({TREE}){}", environment.display())]);
        }
        if !self.get("enable_blscfg").is_some_and(|value| value.starts_with(['1', 'y'])) {
            self.doubt(
                format!(
                    "{} turns enable_blscfg off, and which configuration is read then is not known",
                    environment.display()
                ),
                "sdbootutil install",
            );
            return Ok(1);
        }
        // The program is at `EFI/NAME/PROGRAM` below the top of the partition.
        let top = directory.ancestors().nth(2).unwrap_or(directory);
        self.bls = true;
        let dialect = self.world.dialect;
        // Version 2.12 knows `blsdir`.
        let named = self.get("blsdir").filter(|_| dialect.order != Order::File).unwrap_or("/loader/entries");
        let entries = top.join(named.trim_start_matches('/'));
        let snippets = self.read_entries(&entries, dialect);
        self.add_all(snippets, dialect);
        Ok(0)
    }

    /// The entry that a firmware variable names: it takes precedence over `default`.
    pub(super) fn of_firmware(&mut self, menu: &[MenuEntry]) -> Option<(usize, String)> {
        if !self.path.is_empty() || !is_program(&self.file) {
            return None;
        }
        for choice in [efi::Choice::OneShot, efi::Choice::Default] {
            let name = choice.name();
            let place = PathBuf::from(efi::loader_path(name));
            self.looked_into(&place);
            // An earlier simulated boot has consumed it.
            if self.state.env.contains_key(&place) {
                continue;
            }
            let value = efi::loader_string(self.world.host, name).unwrap_or_else(|message| {
                self.doubt(message, "sdbootutil get-default");
                None
            });
            let at = value.as_deref().and_then(|value| named(menu, value, self.world.flavor));
            let Some(((at, _), value)) = at.zip(value) else { continue };
            if self.world.dialect.order != Order::File {
                self.doubt(
                    format!("{name} names {value}, which openSUSE's GRUB follows since 2.14, and this one may be older"),
                    "sdbootutil update",
                );
                continue;
            }
            if choice == efi::Choice::OneShot {
                self.state.env.insert(place, Vec::new());
                self.set("boot_once", "true".into());
            }
            return Some((at, format!("{name} is {value:?}")));
        }
        None
    }

    /// Images are added after the existing entries, and their content is not read.
    pub(super) fn uki(&mut self, args: &[String]) -> i32 {
        let call = Call::parse(args).unwrap_or_default();
        let named = call.path.as_deref().filter(|path| path.starts_with(['(', '/'])).and_then(|path| self.locate(path));
        let own = ["/boot/efi", "/efi", "/boot"].map(|top| Path::new(top).join("EFI/Linux"));
        for place in named.into_iter().chain(own) {
            self.looked_into(&place);
            let images = self.world.host.read_dir(&place).unwrap_or_default();
            let image = |name: &std::ffi::OsString| name.to_string_lossy().to_ascii_lowercase().ends_with(".efi");
            if images.iter().any(image) || is_program(&place) {
                let place = place.display();
                self.doubt(
                    format!("uki adds the unified kernel images in {place} to the menu, which are not read"),
                    format!("remove {place}/*.efi, or uki from the configuration"),
                );
                break;
            }
        }
        0
    }
}
