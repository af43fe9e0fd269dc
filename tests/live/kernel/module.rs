//! Modules as distributions ship them, judged against their own kernels, and the policy for them. Uses the lab's images (tests/lab/fetch.sh
//! --images).

#[path = "../../machine/mod.rs"]
mod machine;

use machine::lab::Lab;
use machine::Machine;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use vfguard::finding::{Severity, Verdict};
use vfguard::host::Host;
use vfguard::kernel::KernelRelease;
use vfguard::module::{self, Module, Provider, Target};

/// A usual run judges one in so many modules; VFGUARD_FULL judges all.
const SAMPLE: usize = 40;

fn images() -> PathBuf {
    let root = Lab::open().file("ROOT_DEB").parent().unwrap().parent().unwrap().join("images");
    assert!(root.join("lib/modules").is_dir(), "the lab has no images: run tests/lab/fetch.sh --images");
    root
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

/// A machine with the complete packages of `kernels`: images, in-tree modules, headers; hard links into the lab.
fn with_images(lab: &Lab, machine: Machine, kernels: &[&str]) -> Machine {
    let images = images();
    kernels.iter().fold(machine, |machine, k| {
        let machine = lab.install(machine, k);
        let dir = machine.path(&format!("lib/modules/{k}"));
        fs::remove_dir_all(&dir).unwrap();
        for (from, to) in [(format!("lib/modules/{k}"), dir), (format!("boot/vmlinuz-{k}"), machine.path("boot"))] {
            let to_parent = if to.ends_with("boot") { to } else { to.parent().unwrap().to_owned() };
            let args = ["-al", "--remove-destination"];
            assert!(Command::new("cp").args(args).arg(images.join(from)).arg(to_parent).status().unwrap().success());
        }
        machine
    })
}

#[test]
fn every_module_that_a_distribution_ships_is_safe_for_its_own_kernel() {
    let root = images();
    let host = Host::new(&root).unwrap();
    let all = std::env::var_os("VFGUARD_FULL").is_some();
    for kernel in kernels(&root) {
        let mut files = Vec::new();
        let dir = root.join("lib/modules").join(&kernel);
        modules(&dir.join("kernel"), &mut files);
        files.sort();
        assert!(files.len() > 1000, "the image of {kernel} holds {} modules only", files.len());
        let chosen = |(n, file): &(usize, &PathBuf)| {
            all || n % SAMPLE == 7 || file.file_name().is_some_and(|f| f.to_string_lossy().contains("vf"))
        };
        let files: Vec<&PathBuf> = files.iter().enumerate().filter(chosen).map(|(_, f)| f).collect();
        let target = Target::load(&host, &kernel);
        let start = Instant::now();
        let mut wrong = Vec::new();
        for file in &files {
            match Module::read(fs::read(file).unwrap()) {
                Err(finding) => wrong.push(format!("{}: {}", file.display(), finding.detail)),
                Ok(module) => {
                    let findings = module::verify(&module, &target, &[]);
                    let bad = findings.iter().filter(|f| f.severity() >= Severity::Warning);
                    wrong.extend(bad.map(|f| format!("{}: {:?}: {}", file.display(), f.code, f.detail)));
                }
            }
        }
        println!("{kernel}: {} modules, {} objections, {:?}", files.len(), wrong.len(), start.elapsed());
        wrong.iter().take(40).for_each(|w| println!("  {w}"));
        assert!(wrong.is_empty(), "{} false alarms for {kernel}", wrong.len());
    }
}

#[test]
fn the_module_that_modprobe_would_load_is_found_in_real_tables() {
    let root = images();
    let host = Host::new(&root).unwrap();
    for kernel in kernels(&root) {
        let target = Target::load(&host, &kernel);
        let vf = "pci:v00008086d000010EDsv00008086sd00000000bc02sc00i00";
        assert_eq!(target.resolve_alias(vf), [Provider::Module("ixgbevf".into())]);
        let path = target.module_file("ixgbevf").unwrap();
        assert_eq!(module::on_disk(&host, &kernel, "ixgbevf"), std::slice::from_ref(&path));
        let read = |path: &Path| Module::read(host.read(path).unwrap()).unwrap();
        let placed = |name: &str, path: &Path, cmdline: &str| {
            module::check_placement(&host, &target, name, path, Some(&read(path)), cmdline)
        };
        assert_eq!(placed("ixgbevf", &path, ""), []);
        // A module with dependencies; the tables must agree with its symbols.
        let igb = target.module_file("igb").unwrap();
        assert_eq!(placed("igb", &igb, ""), []);
        let findings = placed("igb", &igb, "module_blacklist=i2c_algo_bit");
        assert_eq!(Verdict::of(&findings), Verdict::Unsafe);
        assert!(target.is_builtin("serial8250") || target.is_builtin("8250"));
    }
}

/// The findings of the only judged kernel, each as `severity code detail → remedy`.
fn findings(machine: &Machine, args: &[&str]) -> (i32, String) {
    let run = machine.run(&[&["--format", "json"], args].concat());
    let value = run.json();
    let all = value["kernels"][0]["findings"].as_array().unwrap().clone();
    let text = |f: &serde_json::Value| {
        format!(
            "{} {} {} → {}\n",
            f["severity"].as_str().unwrap(),
            f["code"].as_str().unwrap(),
            f["detail"].as_str().unwrap(),
            f["remedy"].as_str().unwrap()
        )
    };
    (run.code, all.iter().map(text).collect())
}

#[test]
fn an_in_tree_driver_serves_where_one_is_bound_now_and_an_out_of_tree_one_needs_another_out_of_tree_one() {
    let lab = Lab::open();
    let (k1, k2) = (lab.get("K_NEW"), lab.get("K_612"));
    let machine = with_images(&lab, lab.machine().grub().vf("ixgbevf"), &[k1, k2]).running(k1);
    let release = lab.release(&machine, "IXGBEVF_612", "");
    let machine = machine.recipe(&release).file("sys/module/ixgbevf/taint", "\n");
    let run = machine.run(&["reconcile"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(!machine.path(&format!("lib/modules/{k2}/updates")).exists(), "something was built: {}", run.stdout);
    assert!(!machine.path("run/systemd/system/reboot.target.d/50-vfguard.conf").exists());
    let (code, said) = findings(&machine, &["check", k2]);
    assert!(code == 0 && said.starts_with("info in-tree") && said.lines().count() == 1, "{code} {said}");

    // On the new command line a word is missing that keeps the interface names.
    let machine = machine.file("proc/cmdline", "root=/dev/vda1 ro net.ifnames=0\n");
    let (code, said) = findings(&machine, &["check", k2]);
    assert!(code == 0 && said.starts_with("warning interface-rename") && said.contains("net.ifnames=0"), "{code} {said}");
    // Settings that know the interface only by that name would not find it.
    let settings = "etc/sysconfig/network-scripts/ifcfg-eth0";
    let machine = machine.file(settings, "DEVICE=eth0\nBOOTPROTO=dhcp\n").file("usr/sbin/grubby", "");
    let (code, said) = findings(&machine, &["check", k2]);
    assert!(code == 3 && said.starts_with("unsafe interface-rename"), "{code} {said}");
    assert!(said.contains(settings) && said.contains("grubby --update-kernel=ALL --args=\"net.ifnames=0\""), "{said}");
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert_eq!(machine.saved_entry(), k1, "the boot default is held on what runs");
    assert!(machine.path("run/systemd/system/reboot.target.d/50-vfguard.conf").exists());
    let machine = machine.file(settings, "HWADDR=02:00:00:00:00:01\nBOOTPROTO=dhcp\n");
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert_eq!(machine.saved_entry(), k2);
    let machine = machine.file("proc/cmdline", "root=/dev/vda1 ro\n");

    let machine = machine.file("sys/module/ixgbevf/taint", "OE\n");
    let (code, said) = findings(&machine, &["check", k2]);
    assert!(
        code == 3 && said.contains("unsafe module-missing") && said.contains(&format!("vfguard prepare {k2}")),
        "{said}"
    );
    let machine = machine.file("etc/vfguard/config.toml", "accept_in_tree = 'always'\n");
    assert_eq!(findings(&machine, &["check", k2]).0, 0);
    let machine =
        machine.file("etc/vfguard/config.toml", "accept_in_tree = 'never'\n").file("sys/module/ixgbevf/taint", "\n");
    assert_eq!(findings(&machine, &["check", k2]).0, 3);
}

/// As the firmware shows it: four bytes of attributes, then whether it is enabled.
const SECURE_BOOT: (&str, &str) =
    ("sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", "\u{6}\0\0\0\u{1}");

#[test]
fn under_secure_boot_amazons_kernel_accepts_no_other_module_and_that_is_reported() {
    let lab = Lab::open();
    let k = "6.1.155-176.282.amzn2023.x86_64";
    let machine = lab.machine().grub().file(&format!("lib/modules/{k}/modules.order"), "");
    let module = lab.file("MODULE_IXGBEVF");
    let verify = |machine: &Machine| {
        let run = machine.run(&["verify", module.to_str().unwrap(), "--kernel", k]);
        (run.code, run.stdout)
    };
    let (code, said) = verify(&machine);
    assert!(code == 3 && !said.contains("can never load"), "{code} {said}");
    let (code, said) = verify(&machine.file(SECURE_BOOT.0, SECURE_BOOT.1));
    assert!(code == 3 && said.contains("Secure Boot") && said.contains("can never load"), "{code} {said}");
    assert!(said.contains(&format!("use {k}'s own driver, or turn Secure Boot off")), "{said}");
}

#[test]
fn under_secure_boot_the_driver_that_will_load_is_named() {
    let lab = Lab::open();
    let k = lab.get("K_NEW");
    let machine =
        with_images(&lab, lab.machine().grub().vf("ixgbevf"), &[k]).running(k).file("sys/module/ixgbevf/taint", "\n");
    let release = lab.release(&machine, "IXGBEVF_61", "");
    let machine = machine.recipe(&release);
    let machine = machine.file(SECURE_BOOT.0, SECURE_BOOT.1);
    assert_eq!(findings(&machine, &["check", k]).0, 0, "the signed in-tree driver is trusted by the keys of its own image");
    // An unsigned build hides it.
    let ours = machine.path(&format!("lib/modules/{k}/updates/vfguard/ixgbevf.ko"));
    fs::create_dir_all(ours.parent().unwrap()).unwrap();
    fs::copy(lab.file("MODULE_IXGBEVF"), &ours).unwrap();
    for table in [
        "dep",
        "dep.bin",
        "alias",
        "alias.bin",
        "softdep",
        "symbols",
        "symbols.bin",
        "builtin.bin",
        "builtin.alias.bin",
        "devname",
    ] {
        // They are the lab's own files, so they are removed and not overwritten.
        let _ = fs::remove_file(machine.path(&format!("lib/modules/{k}/modules.{table}")));
    }
    let depmod = || assert!(Command::new("depmod").arg("-b").arg(machine.root()).arg(k).status().unwrap().success());
    depmod();
    let (code, said) = findings(&machine, &["check", k]);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("unsafe unsigned") && said.contains("Secure Boot"), "{said}");
    let named = said.lines().find(|l| l.starts_with("warning in-tree")).unwrap_or_else(|| panic!("{said}"));
    assert!(
        named.contains("would load") && named.contains(&format!("rm /lib/modules/{k}/updates/vfguard/ixgbevf.ko")),
        "{named}"
    );
    // The remedy works as printed.
    fs::remove_file(&ours).unwrap();
    depmod();
    assert_eq!(findings(&machine, &["check", k]).0, 0);
}
