//! Modules as distributions ship them, judged against their own kernels: the lab of tests/lab/fetch.sh --images.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;
use vfguard::finding::{Severity, Verdict};
use vfguard::host::Host;
use vfguard::kernel::KernelRelease;
use vfguard::module::{self, Module, Provider, Target};

/// The root with the images, and what is said where there is none.
fn images() -> Option<PathBuf> {
    let lab = std::env::var_os("VFGUARD_LAB").map(PathBuf::from)?;
    Some(lab.join("images")).filter(|p| p.join("lib/modules").is_dir())
}

fn kernels(root: &Path) -> Vec<KernelRelease> {
    let names = fs::read_dir(root.join("lib/modules")).unwrap();
    names.filter_map(|e| e.unwrap().file_name().to_str()?.parse().ok()).collect()
}

fn modules(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            modules(&entry.path(), found);
        } else if entry.file_name().to_string_lossy().contains(".ko") {
            found.push(entry.path());
        }
    }
}

#[test]
fn every_module_that_a_distribution_ships_is_safe_for_its_own_kernel() {
    let Some(root) = images() else {
        println!("skipped images: VFGUARD_LAB holds no images (tests/lab/fetch.sh --images)");
        return;
    };
    let host = Host::new(&root).unwrap();
    for kernel in kernels(&root) {
        let mut files = Vec::new();
        let dir = root.join("lib/modules").join(&kernel);
        modules(&dir.join("kernel"), &mut files);
        let target = Target::load(&host, &kernel);
        let start = Instant::now();
        let mut wrong = Vec::new();
        for file in &files {
            match Module::read(&fs::read(file).unwrap()) {
                Err(finding) => wrong.push(format!("{}: {}", file.display(), finding.detail)),
                Ok(module) => {
                    let findings = module::verify(&module, &target, &[]);
                    let bad = findings.iter().filter(|f| f.severity == Severity::Unsafe);
                    wrong.extend(bad.map(|f| format!("{}: {:?}: {}", file.display(), f.code, f.detail)));
                }
            }
        }
        println!("{kernel}: {} modules, {} objections, {:?}", files.len(), wrong.len(), start.elapsed());
        wrong.iter().take(40).for_each(|w| println!("  {w}"));
        assert!(wrong.is_empty(), "{} false alarms for {kernel}", wrong.len());
        assert!(files.len() > 1000, "the image of {kernel} holds {} modules only", files.len());
    }
}

#[test]
fn what_modprobe_would_load_is_found_in_real_tables() {
    let Some(root) = images() else {
        println!("skipped images: VFGUARD_LAB holds no images (tests/lab/fetch.sh --images)");
        return;
    };
    let host = Host::new(&root).unwrap();
    for kernel in kernels(&root) {
        let target = Target::load(&host, &kernel);
        let vf = "pci:v00008086d000010EDsv00008086sd00000000bc02sc00i00";
        assert_eq!(target.resolve_alias(vf), [Provider::Module("ixgbevf".into())]);
        let path = target.module_file("ixgbevf").unwrap();
        assert_eq!(module::on_disk(&host, &kernel, "ixgbevf"), std::slice::from_ref(&path));
        assert_eq!(module::check_placement(&host, &target, "ixgbevf", &path, ""), []);
        // A module with dependencies, the tables of which must agree with its symbols.
        let igb = target.module_file("igb").unwrap();
        assert_eq!(module::check_placement(&host, &target, "igb", &igb, ""), []);
        let findings = module::check_placement(&host, &target, "igb", &igb, "module_blacklist=i2c_algo_bit");
        assert_eq!(Verdict::of(&findings), Verdict::Unsafe);
        assert!(target.is_builtin("serial8250") || target.is_builtin("8250"));
    }
}
