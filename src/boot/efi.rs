//! What the firmware stores: EFI variables in efivarfs (4 bytes of attributes, then the value; kernel's
//! Documentation/filesystems/efivarfs.rst) and the boot options in them (UEFI specification 3.1, `EFI_LOAD_OPTION`).

use crate::host::command::{run_ok, Spec};
use crate::host::{files, Host};
use anyhow::{Context, Result};
use std::path::Path;
use std::time::Duration;

/// Where efivarfs is mounted.
const VARIABLES: &str = "/sys/firmware/efi/efivars";
/// The vendor GUID of the specification's own variables.
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// The vendor GUID of the Boot Loader Interface's variables (systemd.io/BOOT_LOADER_INTERFACE).
pub const LOADER: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// No variable that is read here is larger.
const MAX_VARIABLE: u64 = 64 << 10;
/// bootctl writes one variable.
const BOOTCTL_LIMIT: Duration = Duration::from_secs(30);
/// The attributes of a new variable: non-volatile, visible to the boot and to the running system.
const ATTRIBUTES: [u8; 4] = [7, 0, 0, 0];

/// The path of a variable of the Boot Loader Interface.
pub fn loader_path(name: &str) -> String {
    format!("{VARIABLES}/{name}-{LOADER}")
}

/// The value of a variable; none if it does not exist. A file too short for the attributes is an error.
///
/// # Errors
/// If it cannot be read; the message names the file.
pub fn variable(host: &Host, path: &str) -> Result<Option<Vec<u8>>, String> {
    match files::read_bounded(&host.path(path), MAX_VARIABLE) {
        Ok(bytes) if bytes.len() >= 4 => Ok(Some(bytes[4..].to_vec())),
        Ok(_) => Err(format!("{path} is shorter than its attributes")),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(format!("reading {path}: {e}")),
    }
}

/// UTF-16, little endian, up to its NUL.
pub fn utf16(bytes: &[u8]) -> String {
    let units: Vec<u16> = bytes.chunks_exact(2).map(|c| u16::from_le_bytes([c[0], c[1]])).take_while(|&u| u != 0).collect();
    String::from_utf16_lossy(&units)
}

/// A string variable of the Boot Loader Interface.
///
/// # Errors
/// See [`variable`].
pub fn loader_string(host: &Host, name: &str) -> Result<Option<String>, String> {
    Ok(variable(host, &loader_path(name))?.map(|v| utf16(&v)).filter(|s| !s.is_empty()))
}

/// A variable that says which entry systemd-boot starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// `LoaderEntryDefault`.
    Default,
    /// `LoaderEntryOneShot`.
    OneShot,
}

impl Choice {
    /// The variable's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Choice::Default => "LoaderEntryDefault",
            Choice::OneShot => "LoaderEntryOneShot",
        }
    }

    /// The variable as it is now, with its attributes; none if it does not exist.
    pub(super) fn read(self, host: &Host) -> Result<Option<Vec<u8>>> {
        match files::read_bounded(&host.path(loader_path(self.name())), MAX_VARIABLE) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| format!("reading {}", self.name())),
        }
    }

    /// Sets the variable to these bytes, attributes first, or removes it.
    pub(super) fn put(self, host: &Host, bytes: Option<Vec<u8>>) -> Result<()> {
        let path = host.path(loader_path(self.name()));
        if host.is_live() {
            let entry = bytes.map(|b| utf16(b.get(4..).unwrap_or_default()));
            return run_ok(&self.bootctl(entry.as_deref())).map(|_| ());
        }
        match bytes {
            Some(bytes) => files::write_atomic(&path, &bytes, 0o644),
            None => files::remove(&path).map(|_| ()),
        }
    }

    /// The bootctl(1) command that sets it on a live machine. efivarfs protects its files by a flag (no write, rename or removal) and takes
    /// a value only whole, in one write with its attributes; bootctl does that. The empty string removes the variable.
    fn bootctl(self, entry: Option<&str>) -> Spec {
        let verb = match self {
            Choice::Default => "set-default",
            Choice::OneShot => "set-oneshot",
        };
        Spec::new("bootctl", [verb, entry.unwrap_or_default()], BOOTCTL_LIMIT)
    }
}

/// A string as the value of a variable, with its previous attributes.
pub(super) fn value(text: &str, before: Option<&[u8]>) -> Vec<u8> {
    let attributes = before.and_then(|b| b.get(..4)).unwrap_or(&ATTRIBUTES);
    attributes.iter().copied().chain(text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes)).collect()
}

/// The loaders' files (`/EFI/redhat/shimx64.efi`) in the order in which the firmware tries them, and the file of `BootNext`.
pub fn boot_order(host: &Host) -> (Vec<String>, Option<String>) {
    let global = |name: &str| variable(host, &format!("{VARIABLES}/{name}-{GLOBAL}")).ok().flatten();
    let numbers = |bytes: Vec<u8>| bytes.chunks_exact(2).map(|c| u16::from_le_bytes([c[0], c[1]])).collect::<Vec<_>>();
    let file = |n: &u16| global(&format!("Boot{n:04X}")).as_deref().and_then(load_option);
    let order = global("BootOrder").map(numbers).unwrap_or_default();
    let next = global("BootNext").map(numbers).unwrap_or_default();
    (order.iter().filter_map(file).collect(), next.first().and_then(file))
}

/// The file path in an active `EFI_LOAD_OPTION`: attributes, length of the path list, description, nodes; a node of type 4/4 is a file
/// path.
fn load_option(option: &[u8]) -> Option<String> {
    const ACTIVE: u8 = 1;
    if option.first()? & ACTIVE == 0 {
        return None;
    }
    let mut rest = option.get(6..)?;
    let end = rest.chunks_exact(2).position(|c| c == [0, 0])?;
    rest = rest.get(2 * end + 2..)?;
    loop {
        let (kind, length) = (rest.get(..2)?, u16::from_le_bytes([*rest.get(2)?, *rest.get(3)?]) as usize);
        let body = rest.get(4..length)?;
        match kind {
            [4, 4] => return Some(utf16(body).replace('\\', "/")),
            [0x7f, _] => return None,
            _ => rest = &rest[length.max(4)..],
        }
    }
}

/// The directory below `EFI/` of a loader's file, in lower case.
pub fn vendor(file: &str) -> Option<String> {
    let directory = Path::new(file).parent()?.file_name()?.to_str()?;
    Some(directory.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_file_of_a_boot_option_is_found() {
        let mut option = vec![1, 0, 0, 0, 0, 0];
        option.extend("Fedora\0".encode_utf16().flat_map(u16::to_le_bytes));
        option.extend([4, 1, 8, 0, 1, 2, 3, 4]);
        let path: Vec<u8> = "\\EFI\\fedora\\shimx64.efi\0".encode_utf16().flat_map(u16::to_le_bytes).collect();
        option.extend([4, 4]);
        option.extend((path.len() as u16 + 4).to_le_bytes());
        option.extend(path);
        option.extend([0x7f, 0xff, 4, 0]);
        assert_eq!(load_option(&option).as_deref(), Some("/EFI/fedora/shimx64.efi"));
        assert_eq!(vendor("/EFI/fedora/shimx64.efi").as_deref(), Some("fedora"));
    }

    #[test]
    fn a_live_machine_sets_and_removes_a_variable_with_bootctl() {
        let words = |choice: Choice, entry| {
            let spec = choice.bootctl(entry);
            [vec![spec.program], spec.args].concat().iter().map(|w| w.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(words(Choice::Default, Some("a-6.1.conf")), ["bootctl", "set-default", "a-6.1.conf"]);
        assert_eq!(words(Choice::Default, Some("@saved")), ["bootctl", "set-default", "@saved"]);
        assert_eq!(words(Choice::Default, None), ["bootctl", "set-default", ""]);
        assert_eq!(words(Choice::OneShot, Some("a.conf")), ["bootctl", "set-oneshot", "a.conf"]);
        assert_eq!(words(Choice::OneShot, None), ["bootctl", "set-oneshot", ""]);
    }

    proptest! {
        #[test]
        fn any_option_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            load_option(&bytes);
            utf16(&bytes);
        }
    }
}
