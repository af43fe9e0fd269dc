//! The effect of K's initramfs on a driver: the copy in it is loaded first, and its modprobe.d is in force while it runs. dracut and
//! initramfs-tools both keep modules below `lib/modules/K` (or `usr/lib/modules/K`).

pub(super) mod cpio;
pub(super) mod rootfs;

use self::rootfs::{Found, Tree, Wanted};
use super::file::Module;
use super::name_of;
use super::target::modprobe::Modprobe;
use super::target::trie::Trie;
use super::target::Target;
use crate::decompress;
use crate::finding::{Fact, Finding};
use crate::host::{cache, files, Host};
use crate::kernel::KernelRelease;
use serde::{Deserialize, Serialize};
use std::cell::OnceCell;
use std::io;
use std::path::{Path, PathBuf};

/// The largest initramfs that is read; a generic one with all firmware has 500 MB.
const MAX_INITRAMFS: u64 = 1 << 30;
/// Copies of one driver: the kernel's own, and those that depmod prefers to it (extra, updates, weak-updates).
const MAX_COPIES: usize = 16;
/// The cache's name for scans: one takes up to a second.
const SCANS: &str = "initramfs";

/// A name that no module has, for a scan that only checks that the initramfs is complete.
const NO_MODULE: &str = "-";

/// What an initramfs contains of one module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Scan {
    /// The copy that modprobe takes there, or every copy if that is not known: its name in the archive, a digest of its decompressed
    /// content without the signature, its build id.
    copies: Vec<(String, String, Option<Vec<u8>>)>,
    /// Why modprobe would not load it there.
    refused: Option<String>,
    /// Whether the archive ends without a trailer.
    #[serde(default)]
    cut: bool,
}

/// The initramfs files of a kernel: those that the boot entry names, else those with the usual names; they need not exist.
pub fn initramfs_files(release: &KernelRelease, initrds: &[PathBuf]) -> Vec<PathBuf> {
    let usual = || {
        [format!("/boot/initramfs-{release}.img"), format!("/boot/initrd.img-{release}"), format!("/boot/initrd-{release}")]
    };
    if initrds.is_empty() {
        usual().map(PathBuf::from).into()
    } else {
        initrds.to_vec()
    }
}

/// Checks that the initramfs of K's boot entry contains this driver as it is on the disk, or not at all. `initrds` are the files that the
/// boot entry names; without any, those with the usual names. `build_id` is that of the driver's file, if it was read already.
pub fn initramfs_driver(
    host: &Host,
    target: &Target,
    initrds: &[PathBuf],
    name: &str,
    build_id: Option<&[u8]>,
) -> Vec<Finding> {
    let k = &target.release;
    let files: Vec<PathBuf> = initramfs_files(k, initrds).into_iter().filter(|f| host.is_file(f)).collect();
    let name = name.replace('-', "_");
    let remake = format!("vfguard reconcile, or {}", by_hand(k));
    let mut findings = Vec::new();
    // The kernel concatenates the files that an entry names; those with the usual names are alternatives.
    for files in files.chunks(if initrds.is_empty() { 1 } else { usize::MAX }) {
        let shown: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
        let shown = shown.join(" with ");
        let scan = match scan(host, target, files, &name) {
            Ok(scan) => scan,
            Err(e) => {
                let remedy = initramfs_repack(k, &e).unwrap_or_else(|| remake.clone());
                findings.push(Finding::new(Fact::InitramfsUnreadable, format!("{shown} cannot be read: {e}"), remedy));
                continue;
            }
        };
        findings.extend(scan.cut.then(|| may_be_cut(&shown, k)));
        if let Some(why) = scan.refused {
            let detail = format!("{shown} tells modprobe not to load {name}: {why}");
            findings.push(Finding::new(Fact::BlacklistedInInitramfs, detail, format!("take that line away; then {remake}")));
        }
        let Some(path) = target.module_file(&name) else { continue };
        // The file on the disk is read only if the build id does not decide. That it cannot be read is reported elsewhere.
        let disk = OnceCell::new();
        let read = || host.read(&path).and_then(|disk| identity(&disk)).ok();
        let other = scan.copies.iter().find(|(_, digest, id)| {
            let same = |own: &Option<Vec<u8>>| id.is_some() && id == own;
            let settled = id.is_some() && id.as_deref() == build_id;
            !settled && disk.get_or_init(read).as_ref().is_some_and(|(d, own)| d != digest && !same(own))
        });
        if let Some((copy, ..)) = other {
            let detail = format!("{shown} carries another {name} ({copy}) than the disk, and that one is loaded first");
            findings.push(Finding::new(Fact::InitramfsStale, detail, &remake));
        }
    }
    findings
}

/// Checks that the initramfs of K's boot entry can be read to its end, whatever it contains. A compression that is not read here is left to
/// the kernel.
pub fn initramfs_whole(host: &Host, target: &Target, initrds: &[PathBuf]) -> Vec<Finding> {
    let k = &target.release;
    let files: Vec<PathBuf> = initramfs_files(k, initrds).into_iter().filter(|f| host.is_file(f)).collect();
    let remake = format!("vfguard reconcile, or {}", by_hand(k));
    let alone = if initrds.is_empty() { 1 } else { usize::MAX };
    let look = |files: &[PathBuf]| {
        let shown = files.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(" with ");
        match scan(host, target, files, NO_MODULE) {
            Ok(scan) => scan.cut.then(|| may_be_cut(&shown, k)),
            Err(e) if e.kind() == io::ErrorKind::Unsupported => None,
            Err(e) => Some(Finding::new(Fact::InitramfsUnreadable, format!("{shown} is not whole: {e}"), &remake)),
        }
    };
    files.chunks(alone).filter_map(look).collect()
}

fn may_be_cut(shown: &str, k: &KernelRelease) -> Finding {
    Finding::new(Fact::InitramfsMayBeCut, format!("{shown} ends without the mark of its end, and may be cut"), by_hand(k))
}

fn by_hand(k: &KernelRelease) -> String {
    format!("dracut -f --kver {k} (EL, Fedora), update-initramfs -u -k {k} (Debian)")
}

/// What to do about an initramfs with unsupported compression: a rebuild would compress it the same way.
pub fn initramfs_repack(k: &KernelRelease, why: &io::Error) -> Option<String> {
    (why.kind() == io::ErrorKind::Unsupported).then(|| {
        format!(
            "set compress=\"gzip\" in /etc/dracut.conf.d/ (EL, Fedora) or COMPRESS=gzip in /etc/initramfs-tools/initramfs.conf (Debian), \
             then {}",
            by_hand(k)
        )
    })
}

/// Whether K's initramfs contains the driver, so that `prepare` rebuilds it.
///
/// # Errors
/// If the initramfs cannot be read.
pub fn initramfs_carries(host: &Host, target: &Target, initrd: &Path, name: &str) -> io::Result<bool> {
    Ok(!scan(host, target, &[initrd.to_owned()], &name.replace('-', "_"))?.copies.is_empty())
}

fn scan(host: &Host, target: &Target, files: &[PathBuf], name: &str) -> io::Result<Scan> {
    let cached = cached_as(host, target, files, name)?;
    if let Some(known) = cache::read(host, SCANS, &cached).and_then(|text| serde_json::from_slice(&text).ok()) {
        return Ok(known);
    }
    let mut images = Vec::new();
    let mut room = MAX_INITRAMFS;
    for file in files {
        let image = files::read_bounded(&host.path(file), room)?;
        room -= image.len() as u64;
        images.push(image);
    }
    let scan = look(files, &images, target, name)?;
    cache::keep(host, SCANS, &cached, &serde_json::to_vec(&scan).unwrap_or_default());
    Ok(scan)
}

fn look(files: &[PathBuf], images: &[Vec<u8>], target: &Target, name: &str) -> io::Result<Scan> {
    let mut also = Vec::new();
    let tree = unpack(files, images, name, &also)?;
    let mut copies = copies(&tree, target, name);
    if copies.len() > MAX_COPIES {
        return Err(invalid(format!("it holds {} copies of {name}", copies.len())));
    }
    // Links may lead to files of other names, which are read in a second pass.
    also.extend(
        copies.iter().filter_map(|c| if let Found::Unread(path) = tree.look(c) { Some(path.to_owned()) } else { None }),
    );
    let tree = if also.is_empty() { tree } else { unpack(files, images, name, &also)? };
    let mut scan = Scan { cut: !tree.has_ended(), ..Scan::default() };
    for copy in copies.drain(..) {
        match tree.look(&copy) {
            Found::Kept(content) => {
                let (digest, build_id) = identity(content)?;
                scan.copies.push((copy, digest, build_id));
            }
            Found::Nothing => {}
            Found::Unread(path) => {
                let why = format!("{copy} is {path}, whose content is not to be found");
                return Err(invalid(why));
            }
        }
    }
    let mut settings = Modprobe::default();
    for conf in tree.names().into_iter().filter(|n| n.contains("modprobe.d/") && n.ends_with(".conf")) {
        if let Found::Kept(content) = tree.look(conf) {
            settings.add(Path::new(conf), &String::from_utf8_lossy(content));
        }
    }
    if let Some(why) = settings.unreadable.first() {
        return Err(invalid(why.clone()));
    }
    scan.refused = settings.refuses(name, "");
    Ok(scan)
}

/// The file system that the kernel makes from all files, with the content that may matter.
fn unpack(files: &[PathBuf], images: &[Vec<u8>], name: &str, also: &[String]) -> io::Result<Tree> {
    let wanted = |entry: &str| {
        let file = entry.rsplit('/').next().unwrap_or(entry);
        if (file.contains(".ko") && name_of(entry) == name) || also.iter().any(|a| a.rsplit('/').next() == Some(file)) {
            Some(Wanted::Module)
        } else {
            (file.ends_with(".conf") || file.starts_with("modules.dep")).then_some(Wanted::Text)
        }
    };
    let mut tree = Tree::default();
    for (i, (file, image)) in files.iter().zip(images).enumerate() {
        let image = if i + 1 == images.len() { cpio::without_bootconfig(image) } else { image };
        cpio::read(image, &mut tree, wanted).map_err(|e| {
            let which = if files.len() > 1 { format!("{}: ", file.display()) } else { String::new() };
            io::Error::new(e.kind(), format!("{which}{e}"))
        })?;
    }
    Ok(tree)
}

/// The copy of a module according to the module table in the initramfs; without that, every copy.
fn copies(tree: &Tree, target: &Target, name: &str) -> Vec<String> {
    let dir = format!("lib/modules/{}", target.release);
    let dirs = [dir.clone(), format!("usr/{dir}")];
    let listed = dirs.iter().find_map(|dir| {
        let line = match tree.look(&format!("{dir}/modules.dep.bin")) {
            Found::Kept(table) => {
                let table = Trie::new(table.to_vec()).ok()?;
                table.exact(name).ok()?.first().map(|line| (*line).to_owned())?
            }
            Found::Nothing | Found::Unread(_) => {
                let Found::Kept(table) = tree.look(&format!("{dir}/modules.dep")) else { return None };
                let text = String::from_utf8_lossy(table);
                let found = text.lines().find(|l| l.split_once(':').is_some_and(|(file, _)| name_of(file) == name));
                found.map(str::to_owned)?
            }
        };
        let file = line.split_once(':').map_or(line.as_str(), |(file, _)| file);
        let path = if file.starts_with('/') { file.trim_start_matches('/').to_owned() } else { format!("{dir}/{file}") };
        (tree.look(&path) != Found::Nothing).then_some(path)
    });
    if let Some(listed) = listed {
        return vec![listed];
    }
    let own = |path: &&str| path.starts_with(&format!("{}/", dirs[0])) || path.starts_with(&format!("{}/", dirs[1]));
    let is = |path: &&str| {
        let file = path.rsplit('/').next().unwrap_or(path);
        file.contains(".ko") && name_of(path) == name
    };
    tree.names().into_iter().filter(own).filter(is).map(str::to_owned).collect()
}

/// A cache key of everything that changes when the initramfs does.
fn cached_as(host: &Host, target: &Target, files: &[PathBuf], name: &str) -> io::Result<String> {
    let identities = files.iter().map(|f| host.identity(f)).collect::<io::Result<Vec<String>>>()?.join("+");
    let digest = hex(ring::digest::digest(&ring::digest::SHA256, identities.as_bytes()).as_ref());
    Ok(format!("{}-{}-{name}.json", &digest[..32], target.release))
}

/// A digest of the decompressed content without a signature, and the build id: tools that make an initramfs may decompress a module or
/// strip its debug information.
fn identity(bytes: &[u8]) -> io::Result<(String, Option<Vec<u8>>)> {
    let plain = decompress::plain(bytes, decompress::MAX_MODULE)?;
    let content = super::file::signature::split(&plain).map_or(&plain[..], |(content, _)| content);
    let digest = hex(ring::digest::digest(&ring::digest::SHA256, content).as_ref());
    Ok((digest, Module::read(&plain[..]).ok().and_then(|m| m.build_id)))
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::{Code, Severity};

    const K: &str = "6.1.0-56-amd64";

    fn root() -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::new(dir.path()).unwrap();
        let modules = format!("lib/modules/{K}");
        write(&dir, &format!("{modules}/updates/ixgbevf.ko"), b"new");
        write(
            &dir,
            &format!("{modules}/modules.dep.bin"),
            &crate::module::target::trie::tests::write(&[("ixgbevf", "updates/ixgbevf.ko:")]),
        );
        (dir, host)
    }

    fn write(dir: &tempfile::TempDir, path: &str, content: &[u8]) {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn findings(host: &Host) -> Vec<(Code, String)> {
        let target = Target::load(host, &K.parse().unwrap());
        initramfs_driver(host, &target, &[], "ixgbevf", None).into_iter().map(|f| (f.code, f.detail)).collect()
    }

    #[test]
    fn an_initramfs_with_a_different_copy_is_stale_and_one_with_the_same_or_none_is_not() {
        let (dir, host) = root();
        assert_eq!(findings(&host), [], "none is there");
        let inside = format!("usr/lib/modules/{K}/updates/ixgbevf.ko");
        for (content, stale) in [(&b"old"[..], true), (b"new", false)] {
            write(&dir, &format!("boot/initrd.img-{K}"), &cpio::tests::write(&[(&inside, content), ("init", b"x")]));
            assert_eq!(findings(&host).iter().any(|(c, _)| *c == Code::InitramfsStale), stale);
        }
        write(&dir, &format!("boot/initrd.img-{K}"), &cpio::tests::write(&[("init", b"x")]));
        assert_eq!(findings(&host), []);
        let packed = zstd::stream::encode_all(&b"new"[..], 1).unwrap();
        write(&dir, &format!("boot/initrd.img-{K}"), &cpio::tests::write(&[(&format!("{inside}.zst"), &packed)]));
        assert_eq!(findings(&host), [], "the same module, packed in another way");
    }

    #[test]
    fn a_blacklist_inside_and_a_damaged_initramfs_are_reported() {
        let (dir, host) = root();
        let conf = ("etc/modprobe.d/x.conf", &b"blacklist ixgbevf\n"[..]);
        write(&dir, &format!("boot/initramfs-{K}.img"), &cpio::tests::write(&[conf]));
        assert_eq!(findings(&host)[0].0, Code::Blacklisted);
        write(&dir, &format!("boot/initramfs-{K}.img"), b"070701000");
        assert_eq!(findings(&host)[0].0, Code::InitramfsStale);
    }

    #[test]
    fn a_truncated_initramfs_is_reported_whatever_it_contains() {
        let (dir, host) = root();
        let target = Target::load(&host, &K.parse().unwrap());
        let initrd = format!("boot/initrd.img-{K}");
        let told = |initrds: &[PathBuf]| -> Vec<(Code, Severity)> {
            initramfs_whole(&host, &target, initrds).into_iter().map(|f| (f.code, f.severity())).collect()
        };
        assert_eq!(told(&[]), [], "none is there");
        let plain = cpio::tests::write(&[("init", b"x"), ("etc", b"y")]);
        let packed = zstd::stream::encode_all(&plain[..], 1).unwrap();
        let early = cpio::tests::write(&[("kernel", b"microcode")]);
        let trailer = plain.windows(6).rposition(|w| w == b"070701").unwrap();
        let damaged = vec![(Code::InitramfsStale, Severity::Unsafe)];
        for (what, image, expected) in [
            ("whole", plain.clone(), vec![]),
            ("whole and packed", packed.clone(), vec![]),
            ("whole behind microcode", [&early[..], &packed].concat(), vec![]),
            ("cut", plain[..plain.len() - 30].to_vec(), damaged.clone()),
            ("cut before its trailer", plain[..trailer].to_vec(), vec![(Code::InitramfsStale, Severity::Warning)]),
            ("cut and packed", packed[..packed.len() - 5].to_vec(), damaged.clone()),
            ("cut behind microcode", [&early[..], &packed[..20]].concat(), damaged.clone()),
            ("empty", vec![], damaged.clone()),
            ("packed in another way", b"BZh91AY&SY".to_vec(), vec![]),
        ] {
            write(&dir, &initrd, &image);
            assert_eq!(told(&[]), expected, "{what}");
            assert_eq!(told(&[PathBuf::from("/").join(&initrd)]), expected, "{what}, named by the entry");
        }
    }

    #[test]
    fn a_scan_is_kept_until_the_file_changes() {
        let (dir, host) = root();
        std::fs::create_dir_all(dir.path().join("var/cache/vfguard")).unwrap();
        let inside = format!("lib/modules/{K}/updates/ixgbevf.ko");
        write(&dir, &format!("boot/initrd.img-{K}"), &cpio::tests::write(&[(&inside, b"old")]));
        let first = findings(&host);
        assert_eq!(std::fs::read_dir(dir.path().join("var/cache/vfguard")).unwrap().count(), 1);
        assert_eq!((findings(&host), first.len()), (first.clone(), 1));
        std::fs::remove_file(dir.path().join(format!("boot/initrd.img-{K}"))).unwrap();
        write(&dir, &format!("boot/initrd.img-{K}"), &cpio::tests::write(&[(&inside, b"new")]));
        assert_eq!(findings(&host), []);
    }
}
