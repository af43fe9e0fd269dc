//! Each directory of `tests/cases/next-boot` is a machine (`in/`) and its next boot (`expected.json`). On each, the default is held on
//! every other kernel and promoted again. Random configurations of GRUB 2 are held and promoted as well.

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Mutex;
use std::time::SystemTime;
use vfguard::boot::{self, next_boot, BootRole, NextBoot};
use vfguard::config::Boot;
use vfguard::host::lock::BootLock;
use vfguard::host::Host;
use vfguard::kernel::KernelRelease;

fn wanted(host: &Host, now: &NextBoot) -> Option<KernelRelease> {
    boot::held_off(host, now)?.wanted
}

/// The answer without the wording of `why`, which a case does not fix.
fn answer(root: &Path) -> (serde_json::Value, String) {
    let host = Host::new(root).unwrap();
    let next = next_boot(&host, &Boot::default());
    let mut value = serde_json::to_value(&next).unwrap();
    value.as_object_mut().unwrap().remove("problems");
    for kernel in value["kernels"].as_array_mut().unwrap() {
        kernel.as_object_mut().unwrap().remove("why");
    }
    let problems: Vec<&str> = next.problems.iter().map(|p| p.message.as_str()).collect();
    if !next.certain {
        assert!(!problems.is_empty(), "{}: uncertain without a reason", root.display());
    }
    (value, problems.join("\n"))
}

#[test]
fn every_case_boots_what_it_should() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/next-boot");
    let mut failed = Vec::new();
    let mut names: Vec<_> = fs::read_dir(&cases).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    for case in &names {
        let text = fs::read_to_string(case.join("expected.json")).unwrap();
        let mut expected: serde_json::Value = serde_json::from_str(&text).unwrap();
        // Words that the problems must contain, and a sentence for the reader, are not part of the answer.
        let object = expected.as_object_mut().unwrap();
        let words = object.remove("problems").unwrap_or_default();
        object.remove("because");
        object.remove("hold");
        let (got, problems) = answer(&case.join("in"));
        let named = words.as_array().into_iter().flatten().all(|w| problems.contains(w.as_str().unwrap()));
        if got != expected || !named {
            failed
                .push(format!("{}\n  expected {expected} {words}\n  got      {got}\n  problems {problems}", case.display()));
        }
    }
    assert!(names.len() >= 80, "only {} cases", names.len());
    assert!(failed.is_empty(), "{} of {} cases failed:\n{}", failed.len(), names.len(), failed.join("\n"));
}

/// Copies a tree, with symbolic links as links. Its files get an old time, since a file that was just written is read again after a moment.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|e| e.unwrap()) {
        let (path, there) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => copy(&path, &there),
            kind if kind.is_symlink() => symlink(fs::read_link(path).unwrap(), there).unwrap(),
            _ => {
                fs::copy(path, &there).unwrap();
                fs::File::options().write(true).open(there).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
            }
        }
    }
}

/// Every file below the root except vfguard's own, by its path; for a symbolic link its target.
fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).unwrap().map(|e| e.unwrap()) {
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap().to_owned();
            match entry.file_type().unwrap() {
                _ if ["run", "var/lib/vfguard"].iter().any(|own| name.starts_with(own)) => {}
                kind if kind.is_dir() => todo.push(path),
                kind if kind.is_symlink() => {
                    drop(found.insert(name, fs::read_link(path).unwrap().into_os_string().into_vec()))
                }
                _ => drop(found.insert(name, fs::read(&path).unwrap())),
            }
        }
    }
    found
}

/// Whether GRUB's own parser accepts a file that vfguard writes. False where it is not installed.
fn accepted(file: &Path) -> bool {
    let Ok(out) = Command::new("grub-script-check").arg(file).output() else { return false };
    assert!(out.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&out.stderr));
    true
}

/// The kernels of a case, by their module directories.
fn installed(root: &Path) -> Vec<String> {
    let found = fs::read_dir(root.join("lib/modules")).into_iter().flatten();
    found.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

/// Holds the default of a copy of this case on `to`, and promotes it. `told` is what the case expects of that, if anything. The error says
/// what went wrong.
fn held_and_promoted(case: &Path, to: &str, told: Option<&serde_json::Value>, checked: &AtomicBool) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    copy(&case.join("in"), dir.path());
    let host = Host::new(dir.path()).unwrap();
    let lock = BootLock::take(&host).unwrap();
    let (before, start) = (files(dir.path()), next_boot(&host, &Boot::default()));
    let refused = told.and_then(|told| told["refused"].as_array());
    match (boot::hold(&host, &lock, &to.parse().unwrap()), refused) {
        (Err(e), refused) => {
            let words: Vec<&str> = refused.into_iter().flatten().map(|word| word.as_str().unwrap()).collect();
            let expected = words.iter().all(|word| format!("{e:#}").contains(word)) && vfguard::error::remedy(&e).is_some();
            // Where nothing is certain, a case need not give the reason.
            if !expected || (refused.is_none() && (start.certain || told.is_some())) {
                return Err(format!("is not held: {e:#}"));
            }
            let same =
                files(dir.path()) == before && answer(dir.path()).0["kernels"] == answer(&case.join("in")).0["kernels"];
            return if same { Ok(()) } else { Err("a hold that is refused changed something".into()) };
        }
        (Ok(_), Some(_)) => return Err("is held, and should be refused".into()),
        (Ok(_), None) => {}
    }
    let (after, held) = (files(dir.path()), next_boot(&host, &Boot::default()));
    let kept_once = told.is_some() || once(&held) == once(&start);
    if lasting(&held).map(|k| k.to_string()).as_deref() != Some(to) || !kept_once {
        return Err(format!("boots {:?} while it is held", held.kernels));
    }
    if start.certain && !held.certain && told.is_none_or(|told| told["certain"] != false) {
        return Err(format!("is held, and nothing is certain any more: {:?}", held.problems));
    }
    let written: Vec<&PathBuf> =
        after.iter().filter(|(name, bytes)| before.get(*name) != Some(*bytes)).map(|(n, _)| n).collect();
    if let Some(told) = told {
        let writes: Vec<&Path> =
            told["writes"].as_array().unwrap().iter().map(|file| Path::new(file.as_str().unwrap())).collect();
        if written != writes || answer(dir.path()).0["kernels"] != told["kernels"] {
            return Err(format!("writes {written:?} and boots {}", answer(dir.path()).0["kernels"]));
        }
    }
    for name in written.iter().filter(|name| name.ends_with("custom.cfg") && std::str::from_utf8(&after[**name]).is_ok()) {
        checked.fetch_and(accepted(&dir.path().join(name)), Ordering::Relaxed);
    }
    if told.is_none() && lasting(&start).is_none() {
        // Promotion has no known target.
        return Ok(());
    }
    // What boots after the promotion. Without an expectation it is what booted before, which is the wanted kernel throughout.
    let ends = told.map(|told| told["ends"].clone()).filter(|ends| !ends.is_null());
    let wanted = wanted(&host, &held);
    if ends.is_none() && wanted != lasting(&start) {
        return Err(format!("wanted is {wanted:?} while it is held"));
    }
    boot::promote(&host, &lock, wanted.as_ref()).map_err(|e| format!("is not promoted: {e:#}"))?;
    let end = files(dir.path());
    if answer(dir.path()).0["kernels"] != ends.unwrap_or_else(|| answer(&case.join("in")).0["kernels"].clone()) {
        return Err(format!("boots {} once promoted", answer(dir.path()).0["kernels"]));
    }
    // Files that are known to differ afterwards.
    let leaves: Vec<PathBuf> = told.and_then(|told| serde_json::from_value(told["leaves"].clone()).ok()).unwrap_or_default();
    let names: BTreeSet<&PathBuf> = end.keys().chain(before.keys()).collect();
    let differ: Vec<&PathBuf> = names.into_iter().filter(|name| end.get(*name) != before.get(*name)).collect();
    if differ.iter().copied().eq(&leaves) {
        Ok(())
    } else {
        Err(format!("leaves {differ:?} not as it was once promoted"))
    }
}

#[test]
fn every_case_is_held_on_each_other_kernel_and_promoted_again() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/next-boot");
    let mut moves = Vec::new();
    for case in fs::read_dir(&cases).unwrap().map(|e| e.unwrap().path()) {
        let text = fs::read_to_string(case.join("expected.json")).unwrap();
        let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
        let told: Vec<&serde_json::Value> = expected["hold"].as_array().into_iter().flatten().collect();
        let next = expected["kernels"].as_array().unwrap().iter().find(|k| k["role"] == "next");
        let mut others = installed(&case.join("in"));
        others.retain(|k| next.is_none_or(|next| next["kernel"] != k.as_str()));
        others.extend(told.iter().map(|told| told["to"].as_str().unwrap().to_owned()));
        others.sort();
        others.dedup();
        for to in others {
            let told = told.iter().find(|told| told["to"] == to.as_str()).map(|told| (*told).clone());
            moves.push((case.clone(), to, told));
        }
    }
    // Most of the time goes into waiting for another tool that writes the same file.
    let (checked, failed) = (AtomicBool::new(true), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for some in moves.chunks(moves.len().div_ceil(8)) {
            let (checked, failed) = (&checked, &failed);
            scope.spawn(move || {
                for (case, to, told) in some {
                    if let Err(what) = held_and_promoted(case, to, told.as_ref(), checked) {
                        failed.lock().unwrap().push(format!("{}: {to} {what}", case.file_name().unwrap().display()));
                    }
                }
            });
        }
    });
    let (held, mut failed) = (moves.len(), failed.into_inner().unwrap());
    failed.sort();
    assert!(failed.is_empty(), "{} of {held}:\n{}", failed.len(), failed.join("\n"));
    assert!(held >= 250, "{held}");
    if !checked.into_inner() {
        println!("skipped next_boot/grub-script-check: it is not installed");
    }
}

/// A configuration of GRUB 2, made from small numbers.
#[derive(Clone, Debug)]
struct Random {
    kernels: usize,
    /// How many entries, counted from the end, are in a submenu.
    inside: usize,
    ids: usize,
    default: usize,
    saved: usize,
    once: bool,
    fallback: bool,
    custom: usize,
    to: usize,
}

fn random() -> impl Strategy<Value = Random> {
    ((2usize..5, 0usize..4, 0usize..3), (0usize..7, 0usize..5), (any::<bool>(), any::<bool>()), (0usize..5, 0usize..4))
        .prop_map(|((kernels, inside, ids), (default, saved), (once, fallback), (custom, to))| Random {
            kernels,
            inside: inside.min(kernels - 1),
            ids,
            default,
            saved,
            once,
            fallback,
            custom,
            to: to % kernels,
        })
}

impl Random {
    fn kernel(n: usize) -> KernelRelease {
        format!("6.1.0-{}-amd64", 50 - n).parse().unwrap()
    }

    fn title(n: usize) -> String {
        format!("It's Linux {} \"$x\"", Random::kernel(n))
    }

    fn entry(&self, n: usize) -> String {
        let kernel = Random::kernel(n);
        let id = match self.ids {
            0 => String::new(),
            1 => " --id same".into(),
            _ => format!(" --id 'gnulinux-{kernel}'"),
        };
        format!(
            "menuentry '{}'{id} {{\n linux /boot/vmlinuz-{kernel} root=/dev/vda1\n}}\n",
            Random::title(n).replace('\'', "'\\''")
        )
    }

    /// How an entry is named: by number, id, title, or not at all.
    fn name(&self, kind: usize, n: usize) -> String {
        let first_inside = self.kernels - self.inside;
        let (outer, number) = if n < first_inside { (String::new(), n) } else { ("Advanced>".to_owned(), n - first_inside) };
        match kind {
            0 => "0".into(),
            1 if outer.is_empty() => number.to_string(),
            1 => format!("{first_inside}>{number}"),
            2 => format!("{outer}gnulinux-{}", Random::kernel(n)),
            3 => format!("{outer}{}", Random::title(n)),
            _ => String::new(),
        }
    }

    fn machine(&self) -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            // Set an old time, since a file that was just written is read again after a moment.
            fs::File::options().write(true).open(path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        };
        for n in 0..self.kernels {
            put(&format!("boot/vmlinuz-{}", Random::kernel(n)), "");
            put(&format!("lib/modules/{}/modules.order", Random::kernel(n)), "");
        }
        put("etc/os-release", "ID=debian\nVERSION_ID=12\n");
        let default = match self.default {
            5 | 6 => "${saved_entry}".into(),
            kind => self.name(kind, self.saved % self.kernels).replace('"', "\\\"").replace('$', "\\$"),
        };
        let mut config = format!("load_env\nif [ \"${{next_entry}}\" ]; then\n set default=\"${{next_entry}}\"\n set next_entry=\n save_env next_entry\n set boot_once=true\nelse\n set default=\"{default}\"\nfi\n");
        if self.fallback {
            config += "set fallback=1\n";
        }
        let first_inside = self.kernels - self.inside;
        (0..first_inside).for_each(|n| config += &self.entry(n));
        if self.inside > 0 {
            let inner: String = (first_inside..self.kernels).map(|n| self.entry(n)).collect();
            config += &format!("submenu 'Advanced' {{\n{inner}}}\n");
        }
        if self.custom != 4 {
            config += "if [ -f ${config_directory}/custom.cfg ]; then\n source ${config_directory}/custom.cfg\nfi\n";
        }
        match self.custom {
            1 => put("boot/grub/custom.cfg", "set timeout=3"),
            2 => put(
                "boot/grub/custom.cfg",
                &format!("menuentry 'mine' {{\n linux /boot/vmlinuz-{}\n}}\n", Random::kernel(0)),
            ),
            3 => put("boot/grub/custom.cfg", "set default=1\n"),
            _ => {}
        }
        put("boot/grub/grub.cfg", &config);
        let saved = self.name(self.saved, (self.saved + self.to) % self.kernels);
        let once = if self.once { "next_entry=0\n" } else { "" };
        let saved = if saved.is_empty() { saved } else { format!("saved_entry={saved}\n") };
        let mut block = format!("# GRUB Environment Block\n{saved}{once}");
        let padding = 1024 - block.len();
        block.extend(std::iter::repeat_n('#', padding));
        put("boot/grub/grubenv", &block);
        let host = Host::new(dir.path()).unwrap();
        (dir, host)
    }
}

fn lasting(next: &NextBoot) -> Option<KernelRelease> {
    next.lasting().map(|c| c.kernel.clone())
}

fn once(next: &NextBoot) -> Option<KernelRelease> {
    next.kernels.iter().find(|c| c.role == BootRole::Once).map(|c| c.kernel.clone())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_hold_boots_its_kernel_and_a_promotion_restores_the_previous_default(random in random()) {
        let (dir, host) = random.machine();
        let lock = BootLock::take(&host).unwrap();
        let look = || next_boot(&host, &Boot::default());
        let (before, start) = (files(dir.path()), look());
        let (from, to) = (lasting(&start), Random::kernel(random.to));
        prop_assume!(from.is_some());
        match boot::hold(&host, &lock, &to) {
            Ok(change) => {
                let held = look();
                prop_assert_eq!(lasting(&held), Some(to.clone()));
                prop_assert_eq!(once(&held), once(&start));
                prop_assert_eq!(change.changed, from.as_ref() != Some(&to));
                if !change.changed {
                    prop_assert_eq!(files(dir.path()), before);
                    return Ok(());
                }
                prop_assert_eq!(wanted(&host, &held), from.clone());
                let custom = dir.path().join("boot/grub/custom.cfg");
                if files(dir.path()).get(Path::new("boot/grub/custom.cfg")) != before.get(Path::new("boot/grub/custom.cfg")) {
                    accepted(&custom);
                }
                boot::promote(&host, &lock, from.as_ref()).unwrap();
                let end = look();
                prop_assert_eq!((lasting(&end), once(&end)), (from, once(&start)));
                prop_assert_eq!(files(dir.path()), before);
            }
            Err(e) => {
                prop_assert!(vfguard::error::remedy(&e).is_some(), "{e:#}");
                prop_assert_eq!(files(dir.path()), before);
                prop_assert_eq!(lasting(&look()), from);
            }
        }
    }
}
