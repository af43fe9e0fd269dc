//! Maps the file that a boot entry names to the release that will run: by the file's name, its link's target, or the version in the image
//! itself (the kernel's Documentation/arch/x86/boot.rst: `kernel_version` at 0x20e).

use crate::host::Host;
use crate::kernel::KernelRelease;
use std::path::{Path, PathBuf};

/// Prefixes of kernel image names, before the release.
const PREFIXES: [&str; 7] = ["vmlinuz-", "vmlinux-", "kernel-", "bzImage-", "linux-", "initrd-", "Image-"];
/// The setup header and the version string are within the first sectors of a bzImage.
const HEAD: usize = 64 << 10;
/// Offsets of the x86 boot protocol.
const MAGIC: usize = 0x202;
const VERSION: usize = 0x20e;
/// The deepest subvolume path: `/@/.snapshots/1/snapshot/boot/…`.
const MAX_SUBVOLUME: usize = 5;

/// The release in a name: `vmlinuz-K`, or `…/K/linux` as kernel-install lays it out, or `…/K/linux-SHA1` (sdbootutil).
pub fn release_of_name(path: &Path) -> Option<KernelRelease> {
    let name = path.file_name()?.to_str()?;
    let sum = name.strip_prefix("linux-").is_some_and(|s| s.len() == 40 && s.bytes().all(|b| b.is_ascii_hexdigit()));
    if name == "linux" || name == "vmlinuz" || sum {
        return path.parent()?.file_name()?.to_str()?.parse().ok().filter(numbered);
    }
    if let Some(rest) = PREFIXES.iter().find_map(|p| name.strip_prefix(p)) {
        let rest = rest.strip_suffix(".efi.signed").or_else(|| rest.strip_suffix(".efi")).unwrap_or(rest);
        return rest.strip_suffix(".gz").unwrap_or(rest).parse().ok().filter(numbered);
    }
    None
}

/// Whether it starts with a number: `vmlinuz-linux` (Arch) or `vmlinuz-lts` contains a name, not a release.
fn numbered(release: &KernelRelease) -> bool {
    release.as_str().starts_with(|c: char| c.is_ascii_digit())
}

/// The release stored in the image itself, if it is an x86 bzImage.
pub fn release_of_content(host: &Host, path: &Path) -> Option<KernelRelease> {
    use std::io::Read;
    let meta = host.metadata(path).ok()?;
    if !meta.is_file() {
        return None;
    }
    let mut head = Vec::new();
    std::fs::File::open(host.path(path)).ok()?.take(HEAD as u64).read_to_end(&mut head).ok()?;
    if head.get(MAGIC..MAGIC + 4)? != b"HdrS" {
        return None;
    }
    let offset = 0x200 + u16::from_le_bytes(head.get(VERSION..VERSION + 2)?.try_into().ok()?) as usize;
    let text = head.get(offset..)?;
    let word = &text[..text.iter().position(|b| *b == 0 || *b == b' ')?];
    std::str::from_utf8(word).ok()?.parse().ok().filter(numbered)
}

/// A kernel image that an entry names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its path below the root; none if the file does not exist.
    pub path: Option<PathBuf>,
    /// The release that will run, if known.
    pub release: Option<KernelRelease>,
    /// The release in the name, if the image itself says another.
    pub misnamed: Option<KernelRelease>,
}

/// Looks at the image that a boot loader would load from `spec`, a path as the boot loader writes it.
pub fn look(host: &Host, spec: &str) -> Image {
    let path = locate(host, spec).filter(|p| host.is_file(p));
    let named = release_of_name(Path::new(strip_device(spec)));
    let Some(found) = &path else {
        return Image { path: None, release: named, misnamed: None };
    };
    let linked = || release_of_name(&host.name(&host.path(found).canonicalize().unwrap_or_else(|_| host.path(found))));
    let inside = release_of_content(host, found);
    let said = named.or_else(linked);
    let misnamed = match (&said, &inside) {
        (Some(said), Some(inside)) if said != inside => Some(said.clone()),
        _ => None,
    };
    Image { release: inside.or(said), path, misnamed }
}

/// The part of a GRUB path after its device.
pub fn strip_device(spec: &str) -> &str {
    match spec.strip_prefix('(') {
        Some(rest) => rest.split_once(')').map_or(rest, |(_, path)| path),
        None => spec,
    }
}

/// The device name that this crate's GRUB interpreter uses for the machine's own tree, so that no guess is needed.
pub const TREE: &str = "vfguard-root";

/// Where a file that the boot loader names is below the root. The loader's paths start at the top of a file system, which may be mounted on
/// `/boot`, `/`, or the EFI system partition's place, and on btrfs is above the subvolume.
pub fn locate(host: &Host, spec: &str) -> Option<PathBuf> {
    locate_among(spec, &|path| host.exists(path))
}

/// Like [`locate`], where `exists` decides which files exist.
pub(super) fn locate_among(spec: &str, exists: &dyn Fn(&Path) -> bool) -> Option<PathBuf> {
    let path = strip_device(spec);
    let relative = path.trim_start_matches('/');
    if spec.strip_prefix('(').is_some_and(|s| s.split(')').next() == Some(TREE)) {
        let direct = Path::new("/").join(relative);
        return exists(&direct).then_some(direct);
    }
    let places = ["/boot", "/", "/boot/efi", "/efi"];
    let found = places.iter().map(|p| Path::new(p).join(relative)).find(|p| exists(p));
    found.or_else(|| {
        let parts: Vec<&str> = relative.split('/').collect();
        (1..parts.len().min(MAX_SUBVOLUME + 1)).find_map(|n| {
            let rest = parts[n..].join("/");
            let places: &[&str] = if rest.starts_with("boot/") {
                &["/"]
            } else if n == 1 {
                &["/boot"]
            } else {
                &[]
            };
            places.iter().map(|p| Path::new(p).join(&rest)).find(|p| exists(p))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_from_names() {
        for (name, want) in [
            ("/boot/vmlinuz-2.6.32-431.20.3.el6.x86_64", Some("2.6.32-431.20.3.el6.x86_64")),
            ("/0123/6.1.0-9-amd64/linux", Some("6.1.0-9-amd64")),
            ("/0123/6.12.0-1-default/linux-1e9f0c3cc8ac60cb4cd4a9e2ca0a2e7d3d29fb86", Some("6.12.0-1-default")),
            ("/vmlinuz", None),
            ("/vmlinuz-linux", None),
            ("/boot/xen.gz", None),
        ] {
            assert_eq!(release_of_name(Path::new(name)).map(|k| k.to_string()).as_deref(), want, "{name}");
        }
    }

    #[test]
    fn the_release_in_the_image_overrides_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let mut image = vec![0u8; 0x800];
        image[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        image[VERSION..VERSION + 2].copy_from_slice(&0x300u16.to_le_bytes());
        image[0x500..0x514].copy_from_slice(b"6.1.0-9 (me@here) #1");
        std::fs::create_dir_all(dir.path().join("boot")).unwrap();
        std::fs::write(dir.path().join("boot/vmlinuz-6.1.0-8"), &image).unwrap();
        let host = Host::new(dir.path()).unwrap();
        let seen = look(&host, "(hd0,msdos1)/vmlinuz-6.1.0-8");
        assert_eq!(seen.release.unwrap().as_str(), "6.1.0-9");
        assert_eq!(seen.misnamed.unwrap().as_str(), "6.1.0-8");
        for cut in [0, 0x202, 0x20f, 0x501] {
            std::fs::write(dir.path().join("boot/vmlinuz-6.1.0-8"), &image[..cut]).unwrap();
            assert_eq!(look(&host, "/vmlinuz-6.1.0-8").release.unwrap().as_str(), "6.1.0-8");
        }
    }
}
