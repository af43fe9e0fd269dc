//! Each directory of `tests/cases/next-boot` is a machine (`in/`) and what boots next on it (`expected.json`), on some also once the
//! default is held on another kernel. Random configurations of GRUB 2 are held and promoted as well.

use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use vfguard::boot::{self, next_boot, NextBoot, Role};
use vfguard::config::Boot;
use vfguard::host::lock::BootLock;
use vfguard::host::Host;
use vfguard::kernel::KernelRelease;

fn wanted(host: &Host, now: &NextBoot) -> Option<KernelRelease> {
    boot::held_off(host, now)?.wanted
}

/// The answer with the parts that a case fixes: everything but the wording of `why`.
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
        // Words that the problems must name, and a sentence for the reader, are no part of the answer.
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

/// Copies a tree, links as links.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|e| e.unwrap()) {
        let (path, there) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => copy(&path, &there),
            kind if kind.is_symlink() => symlink(fs::read_link(path).unwrap(), there).unwrap(),
            _ => drop(fs::copy(path, there).unwrap()),
        }
    }
}

/// Every file of /boot, below the root.
fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut todo = vec![root.join("boot")];
    while let Some(dir) = todo.pop() {
        for path in fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
            if path.is_dir() {
                todo.push(path);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// GRUB's own parser accepts a file that we write. False where it is not installed.
fn accepted(file: &Path) -> bool {
    let Ok(out) = Command::new("grub-script-check").arg(file).output() else { return false };
    assert!(out.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&out.stderr));
    true
}

#[test]
fn every_case_with_a_hold_is_held_as_it_should_and_promoted_to_what_it_was() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/next-boot");
    let (mut held, mut checked) = (0, true);
    for case in fs::read_dir(&cases).unwrap().map(|e| e.unwrap().path()) {
        let expected: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(case.join("expected.json")).unwrap()).unwrap();
        let hold = &expected["hold"];
        let Some(to) = hold["to"].as_str() else { continue };
        let dir = tempfile::tempdir().unwrap();
        copy(&case.join("in"), dir.path());
        let host = Host::new(dir.path()).unwrap();
        let lock = BootLock::take(&host).unwrap();
        let before = files(dir.path());
        boot::hold(&host, &lock, &to.parse().unwrap()).unwrap_or_else(|e| panic!("{}: {e:#}", case.display()));
        let after = files(dir.path());
        let written: Vec<&PathBuf> =
            after.iter().filter(|(name, bytes)| before.get(*name) != Some(*bytes)).map(|(n, _)| n).collect();
        let writes = match hold["writes"].as_array() {
            Some(files) => files.iter().map(|file| Path::new(file.as_str().unwrap())).collect(),
            None => vec![Path::new(hold["writes"].as_str().unwrap())],
        };
        assert_eq!(written, writes, "{}", case.display());
        assert_eq!(answer(dir.path()).0["kernels"], hold["kernels"], "{}", case.display());
        let custom = writes[0].ends_with("custom.cfg");
        if custom && std::str::from_utf8(&after[written[0]]).is_ok() {
            checked &= accepted(&dir.path().join(written[0]));
        }
        let next = next_boot(&host, &Boot::default());
        boot::promote(&host, &lock, wanted(&host, &next).as_ref()).unwrap();
        assert_eq!(answer(dir.path()).0["kernels"], expected["kernels"], "{}", case.display());
        assert_eq!(files(dir.path()), before, "{}", case.display());
        held += 1;
    }
    assert!(held >= 8, "{held}");
    if !checked {
        println!("skipped next_boot/grub-script-check: it is not installed");
    }
}

/// A configuration of GRUB 2, from small numbers.
#[derive(Clone, Debug)]
struct Random {
    kernels: usize,
    /// How many of them are in a submenu, from the end.
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

    /// What names an entry: by number, id, title, or nothing.
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
            // As if long ago: what was written just now is read again for a moment.
            fs::File::options().write(true).open(path).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
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
    next.kernels.iter().find(|c| c.role == Role::Once).map(|c| c.kernel.clone())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_hold_leads_to_its_kernel_and_a_promotion_back_to_what_was_there(random in random()) {
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
