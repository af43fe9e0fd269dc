//! Real modules in the places where modprobe looks, judged from the binary: what they depend on, how a device came to its
//! driver, whose signature they bear, and how their symbol versions differ from kernel to kernel.

use crate::machine::lab::{self, Lab};
use crate::machine::Machine;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const BASE: &str = r#"#include <linux/module.h>
void vg_base_f(void); void vg_base_f(void) {} EXPORT_SYMBOL_GPL(vg_base_f); MODULE_LICENSE("GPL");"#;
const MID: &str = r#"#include <linux/module.h>
void vg_mid_f(void); void vg_mid_f(void) {} EXPORT_SYMBOL_GPL(vg_mid_f); MODULE_LICENSE("GPL");"#;
/// The same to its users, and in need of another module itself.
const NEW_MID: &str = r#"#include <linux/module.h>
void vg_base_f(void);
void vg_mid_f(void); void vg_mid_f(void) { vg_base_f(); } EXPORT_SYMBOL_GPL(vg_mid_f); MODULE_LICENSE("GPL");"#;
const SOFT: &str = r#"#include <linux/module.h>
MODULE_LICENSE("GPL");"#;
const TOP: &str = r#"#include <linux/module.h>
#include <linux/pci.h>
void vg_mid_f(void);
static int probe(struct pci_dev *d, const struct pci_device_id *id) { vg_mid_f(); return 0; }
static const struct pci_device_id ids[] = { { PCI_DEVICE(0x1234, 0xd0f1) }, { } };
MODULE_DEVICE_TABLE(pci, ids);
static struct pci_driver vg_driver = { .name = "vg_top", .id_table = ids, .probe = probe };
module_pci_driver(vg_driver);
MODULE_SOFTDEP("pre: vg_soft post: vg_nowhere");
MODULE_LICENSE("GPL");"#;
const CLAIMED: &str = "pci:v00001234d0000D0F1sv00000000sd00000000bc02sc00i00";

/// A machine whose NIC is driven by the small modules' topmost one.
struct Stage {
    machine: Machine,
    kernel: String,
    built: [tempfile::TempDir; 2],
}

impl Stage {
    fn new(modalias: &str) -> Stage {
        let lab = Lab::open();
        let kernel = lab.get("K_NEW").to_owned();
        let machine = lab.install(lab.machine().running(&kernel), &kernel).device("0000:00:09.0", modalias, Some("vg_top"));
        let rest = [("vg_base", BASE), ("vg_soft", SOFT), ("vg_top", TOP)];
        let built =
            [("vg_mid", MID), ("vg_mid", NEW_MID)].map(|mid| lab::kbuild(&lab, &kernel, &[&rest[..], &[mid]].concat()));
        let stage = Stage { machine, kernel, built };
        fs::create_dir_all(stage.file("vg_top").parent().unwrap()).unwrap();
        for name in ["vg_base", "vg_mid", "vg_soft", "vg_top"] {
            fs::copy(stage.built[0].path().join(format!("{name}.ko")), stage.file(name)).unwrap();
        }
        stage.depmod();
        stage
    }

    fn file(&self, name: &str) -> PathBuf {
        self.machine.path(&format!("lib/modules/{}/extra/{name}.ko", self.kernel))
    }

    fn depmod(&self) {
        assert!(Command::new("depmod").arg("-b").arg(self.machine.root()).arg(&self.kernel).status().unwrap().success());
    }

    /// Exit code, and each finding as `severity code detail`.
    fn check(&self) -> (i32, Vec<String>) {
        let run = self.machine.run(&["--format", "json", "check", &self.kernel]);
        let value = run.json();
        let all = value["kernels"][0]["findings"].as_array().unwrap();
        let text =
            |f: &serde_json::Value| ["severity", "code", "detail"].map(|k| f[k].as_str().unwrap().to_owned()).join(" ");
        (run.code, all.iter().map(text).collect())
    }

    /// Refused or not, with a finding that begins so and holds a word.
    #[track_caller]
    fn says(&self, code: i32, begins: &str, word: &str) {
        let (got, findings) = self.check();
        assert_eq!(got, code, "{findings:?}");
        assert!(findings.iter().any(|f| f.starts_with(begins) && f.contains(word)), "{begins}, {word}: {findings:?}");
    }
}

#[test]
fn dependencies_are_followed_to_their_end_and_soft_ones_refuse_nothing() {
    let stage = Stage::new(CLAIMED);
    stage.says(0, "info dependency-missing", "vg_nowhere");
    assert_eq!(stage.check().1.len(), 1);

    // A dependency that needs one itself, of which modules.dep does not know: modprobe would not load it first.
    fs::copy(stage.built[1].path().join("vg_mid.ko"), stage.file("vg_mid")).unwrap();
    let shown = Command::new("modprobe")
        .arg("-d")
        .arg(stage.machine.root())
        .args(["-S", &stage.kernel, "--show-depends", "vg_top"])
        .output()
        .unwrap();
    assert!(!String::from_utf8_lossy(&shown.stdout).contains("vg_base"), "this was meant to be a stale table");
    stage.says(3, "unsafe dependency-missing", "vg_base");
    stage.depmod();
    assert_eq!(stage.check().0, 0);
    let base = fs::read(stage.file("vg_base")).unwrap();
    fs::write(stage.file("vg_base"), &base[..base.len() / 2]).unwrap();
    stage.says(3, "unsafe dependency-missing", "vg_base.ko");
    fs::write(stage.file("vg_base"), &base).unwrap();
    let conf = stage.machine.path("etc/modprobe.d/x.conf");
    fs::create_dir_all(conf.parent().unwrap()).unwrap();
    for (text, code, begins, word) in [
        ("install vg_base /bin/false\n", 3, "unsafe dependency-missing", "install vg_base"),
        ("blacklist vg_mid\n", 0, "info dependency-missing", "vg_nowhere"),
        ("blacklist vg_top\n", 3, "unsafe blacklisted", "blacklist vg_top"),
        ("softdep vg_top pre: vg_elsewhere\n", 0, "info dependency-missing", "vg_elsewhere"),
    ] {
        fs::write(&conf, text).unwrap();
        stage.says(code, begins, word);
    }
    fs::remove_file(&conf).unwrap();

    // modprobe goes on where a soft one does not load.
    fs::write(stage.file("vg_soft"), &base[..100]).unwrap();
    stage.says(0, "warning dependency-missing", "vg_soft");
    fs::remove_file(stage.file("vg_mid")).unwrap();
    stage.says(3, "unsafe dependency-missing", "vg_mid");
}

#[test]
fn a_binding_that_a_reboot_forgets_is_said() {
    let stage = Stage::new(CLAIMED);
    assert!(!stage.check().1.iter().any(|f| f.contains("bound-by-hand")));
    fs::write(stage.machine.path("sys/bus/pci/devices/0000:00:09.0/driver_override"), "vg_top\n").unwrap();
    stage.says(0, "warning bound-by-hand", "driver_override");
    let stage = Stage::new(&CLAIMED.replace("D0F1", "D0F2"));
    stage.says(3, "warning bound-by-hand", "new_id");
    stage.says(3, "unsafe device-unclaimed", "D0F2");
}

/// A key of a machine's owner, below the root; and a kernel image that knows it, or another.
fn key(dir: &Path, name: &str) -> Vec<u8> {
    let (key, certificate) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.crt")));
    fs::create_dir_all(dir).unwrap();
    let output = Command::new("openssl")
        .args(["req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "36500", "-outform", "PEM"])
        .args(["-subj", &format!("/CN=vfguard test {name}"), "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let der = Command::new("openssl").args(["x509", "-outform", "DER", "-in"]).arg(&certificate).output().unwrap();
    der.stdout
}

#[test]
fn with_a_key_modules_are_signed_by_the_kernels_own_program_and_the_build_never_sees_the_key() {
    let lab = Lab::open();
    let k = lab.get("K_NEW");
    let machine = lab.install(lab.machine().grub().running(k).demo(&lab), k);
    let keys = machine.path("etc/vfguard/keys");
    let (own, other) = (key(&keys, "own"), key(&keys, "other"));
    let image = |certificate: &[u8]| [&b"\x7fELF"[..], &[0; 100], certificate, &[0; 100]].concat();
    let vmlinuz = machine.path(&format!("boot/vmlinuz-{k}"));
    fs::write(&vmlinuz, image(&own)).unwrap();
    let entry = machine.path(&format!("boot/loader/entries/0123456789abcdef0123456789abcdef-{k}.conf"));
    let text = fs::read_to_string(&entry).unwrap();
    fs::write(&entry, text.replace("ro\n", "ro module.sig_enforce=1\n")).unwrap();

    let run = machine.run(&["prepare", k]);
    assert_eq!(run.code, 0, "without enforcement in the running kernel: {}{}", run.stdout, run.stderr);
    let codes = |machine: &Machine| -> (i32, Vec<String>) {
        let run = machine.run(&["--format", "json", "check", k]);
        let value = run.json();
        let all = value["kernels"][0]["findings"].as_array().unwrap().clone();
        (run.code, all.iter().filter(|f| f["severity"] != "info").map(|f| f["code"].as_str().unwrap().into()).collect())
    };
    assert_eq!(codes(&machine), (3, vec!["unsigned".to_owned()]));

    let config = "[sign]\nkey = '/etc/vfguard/keys/own.pem'\ncertificate = '/etc/vfguard/keys/own.crt'\n";
    let machine = machine.file("etc/vfguard/config.toml", config);
    let run = machine.run(&["prepare", k, "--rebuild"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let file = machine.path(&format!("lib/modules/{k}/updates/vfguard/demo.ko"));
    let signer = Command::new("modinfo").args(["-F", "signer"]).arg(&file).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&signer.stdout).trim(), "vfguard test own", "modinfo sees another signer");
    let value = machine.run(&["--format", "json", "verify", file.to_str().unwrap(), "--kernel", k]).json();
    assert_eq!((&value["verdict"], &value["module"]["signature"]["signer"]), (&"safe".into(), &"vfguard test own".into()));
    assert_eq!(codes(&machine), (0, vec![]), "a kernel that insists loads what its own key signed");

    // The kernel knows another key; the content was changed after it was signed.
    fs::write(&vmlinuz, image(&other)).unwrap();
    assert_eq!(codes(&machine), (3, vec!["signer-untrusted".to_owned()]));
    fs::write(&vmlinuz, image(&own)).unwrap();
    let good = fs::read(&file).unwrap();
    let at = good.windows(8).position(|w| w == b"license=").unwrap();
    let mut tampered = good.clone();
    tampered[at + 8] ^= 1;
    fs::write(&file, &tampered).unwrap();
    assert!(codes(&machine).1.contains(&"signature-invalid".to_owned()));
    fs::write(&file, &good).unwrap();

    // A makefile that looks for the key, even one that everybody may read, finds none.
    let secret = fs::read_to_string(keys.join("own.pem")).unwrap();
    let line = secret.lines().nth(1).unwrap();
    let path = keys.join("own.pem");
    assert!(Command::new("chmod").arg("644").arg(&path).status().unwrap().success());
    let script = format!(
        "cat {0} /etc/vfguard/keys/own.pem; grep -rs {1} /etc /var /root /home /tmp /proc/[0-9]*/root/etc/vfguard; env; exit 1\n",
        path.display(),
        &line[..20]
    );
    let (archive, digest) = lab::archive(machine.root(), &script, &[]);
    let run = machine.run(&["prepare", k, "--source", archive.to_str().unwrap(), "--sha256", &digest]);
    assert_eq!(run.code, 1);
    let logs = fs::read_dir(machine.path("var/lib/vfguard/log")).unwrap();
    let log: String = logs.map(|e| String::from_utf8_lossy(&fs::read(e.unwrap().path()).unwrap()).into_owned()).collect();
    assert!(log.contains("own.pem: No such file"), "the script did not run: {log}");
    assert!(!log.contains(line), "the build read the key");

    // A key that others can write, a program that others can write: nothing is signed, and the remedy mends it.
    let chmod = |mode: &str, path: &Path| assert!(Command::new("chmod").arg(mode).arg(path).status().unwrap().success());
    let program = fs::canonicalize(machine.path(&format!("usr/src/linux-headers-{k}/scripts/sign-file"))).unwrap();
    assert!(program.starts_with(machine.root()));
    // A file of its own: the lab's roots are hard links.
    fs::copy(&program, program.with_extension("own")).unwrap();
    fs::rename(program.with_extension("own"), &program).unwrap();
    for (path, bad, said) in
        [(&path, "666", "own.pem may be written by others"), (&program, "777", "sign-file (owner 0, mode 777)")]
    {
        let marker = machine.path("ran");
        let before = fs::read(path).unwrap();
        if *path == program {
            fs::write(path, format!("#!/bin/sh\ntouch {}\nexit 1\n", marker.display())).unwrap();
        }
        chmod(bad, path);
        let run = machine.run(&["prepare", k, "--rebuild"]);
        assert!(run.code == 1 && run.stderr.contains("signing demo.ko") && run.stderr.contains(said), "{}", run.stderr);
        assert!(!marker.exists(), "a program that others can write ran as root");
        let doctor = machine.run(&["doctor"]).stdout;
        assert_eq!(doctor.contains("no module can be signed"), *path != program, "{doctor}");
        fs::write(path, before).unwrap();
        // As the remedy says.
        chmod("go-w", path);
        assert_eq!(machine.run(&["prepare", k, "--rebuild"]).code, 0);
    }
    let doctor = machine.run(&["doctor"]).stdout;
    assert!(doctor.contains("can read the private key") && doctor.contains("chmod 600"), "{doctor}");
    chmod("600", &path);
    assert!(machine.run(&["doctor"]).stdout.contains("modules are signed with /etc/vfguard/keys/own.pem"));

    // A key that is not there ends the build with a word about it, and nothing unsigned is installed.
    fs::remove_file(&path).unwrap();
    let run = machine.run(&["prepare", k, "--rebuild"]);
    assert!(run.code == 1 && run.stderr.contains("signing demo.ko"), "{}", run.stderr);
    assert_eq!(fs::read(&file).unwrap(), good);
}

#[test]
fn a_release_that_the_recipe_does_not_name_is_said() {
    let lab = Lab::open();
    let k = lab.get("K_NEW");
    let machine = lab.install(lab.machine().running(k).demo(&lab), k);
    let to = machine.path(&format!("lib/modules/{k}/updates/demo.ko"));
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(lab.file("MODULE_IXGBEVF").parent().unwrap().join("demo.ko"), to).unwrap();
    assert!(Command::new("depmod").arg("-b").arg(machine.root()).arg(k).status().unwrap().success());
    let says = |machine: &Machine| machine.run(&["check", k]).stdout.contains("wrong-version");
    assert!(!says(&machine), "it is the release that the recipe names");
    let recipe = machine.path("etc/vfguard/drivers.d/demo.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    fs::write(&recipe, text.replace(&format!("version = '{}'", lab.get("DEMO_VERSION")), "version = '9.9'")).unwrap();
    assert!(says(&machine));
    assert_eq!(machine.run(&["check", k]).code, 0, "what loads is not refused for its version");
}

/// Every 6.1 kernel whose headers arrived when the run's kernels were chosen (tests/archive), with its Module.symvers and what vfguard
/// needs beside it.
fn abis(lab: &Lab, root: &Path) -> Vec<String> {
    let chosen = fs::read_to_string(lab.get("CHOSEN")).unwrap();
    let rows = |word: &'static str| chosen.lines().filter(move |l| l.starts_with(word)).map(|l| l.splitn(5, ' '));
    let deb = |package: &str| rows("package ").find(|row| row.clone().nth(1) == Some(package)).unwrap().nth(4).unwrap();
    let mut kernels = Vec::new();
    for mut row in rows("symvers ") {
        let (k, deb) = (row.nth(1).unwrap(), deb(row.next().unwrap()));
        let from = format!("./usr/src/linux-headers-{k}");
        let tar = Command::new("sh")
            .args(["-ec", "dpkg-deb --fsys-tarfile \"$1\" | tar -x -C \"$2\" \"$3/Module.symvers\" \"$3/.config\" \"$3/include/generated/utsrelease.h\"", "sh"])
            .arg(deb)
            .arg(root)
            .arg(&from)
            .output()
            .unwrap();
        assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
        kernels.push(k.to_owned());
    }
    kernels.sort();
    kernels
}

#[test]
fn differing_crcs_are_counted_as_modprobe_and_module_symvers_say_on_every_abi() {
    let lab = Lab::open();
    let root = tempfile::tempdir().unwrap();
    let kernels = abis(&lab, root.path());
    assert!(kernels.len() >= 3, "{kernels:?}");
    let module = lab.file("MODULE_IXGBEVF");
    let dump = Command::new("modprobe").arg("--dump-modversions").arg(&module).output().unwrap();
    let dump = String::from_utf8(dump.stdout).unwrap();
    let records: Vec<(u64, &str)> = dump
        .lines()
        .map(|l| l.split_once('\t').unwrap())
        .map(|(crc, name)| (u64::from_str_radix(crc.trim_start_matches("0x"), 16).unwrap(), name.trim()))
        .collect();
    let mut some_differ = 0;
    for k in &kernels {
        let symvers = fs::read_to_string(root.path().join(format!("usr/src/linux-headers-{k}/Module.symvers"))).unwrap();
        let theirs: std::collections::HashMap<&str, u64> = symvers
            .lines()
            .map(|l| l.split('\t').collect::<Vec<_>>())
            .map(|f| (f[1], u64::from_str_radix(f[0].trim_start_matches("0x"), 16).unwrap()))
            .collect();
        let differ = records.iter().filter(|(crc, name)| theirs.get(name).is_some_and(|t| t != crc)).count();
        let gone = records.iter().filter(|(_, name)| !theirs.contains_key(name)).count();
        let output = Command::new(env!("CARGO_BIN_EXE_vfguard"))
            .arg("--root")
            .arg(root.path())
            .args(["--format", "json", "verify", module.to_str().unwrap(), "--kernel", k])
            .output()
            .unwrap();
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let detail = |code: &str| {
            let all = value["findings"].as_array().unwrap();
            all.iter().find(|f| f["code"] == code).map_or(String::new(), |f| f["detail"].as_str().unwrap().to_owned())
        };
        println!("{k}: {differ} of {} CRCs differ, {gone} symbols are gone; {}", records.len(), value["verdict"]);
        let expected = format!("{differ} of {} symbol CRCs differ", records.len());
        assert_eq!(detail("symbol-crc").starts_with(&expected), differ > 0, "{k}: {}", detail("symbol-crc"));
        assert_eq!(detail("symbol-missing").starts_with(&format!("{gone} imported symbols")), gone > 0, "{k}");
        assert_eq!(value["verdict"] == "safe", differ + gone == 0, "{k}: {value}");
        some_differ += usize::from(differ > 0);
    }
    assert!(some_differ > 0 && some_differ < kernels.len(), "all alike: this proves little");
}

#[test]
fn an_installed_module_bears_the_label_of_the_kernels_own() {
    use vfguard::host::sys;
    let lab = Lab::open();
    let k = lab.get("K_NEW");
    let machine = lab.install(lab.machine().running(k).demo(&lab), k).file(&format!("lib/modules/{k}/kernel/own.ko"), "");
    let label = b"system_u:object_r:modules_object_t:s0\0";
    let own = fs::File::open(machine.path(&format!("lib/modules/{k}/kernel/own.ko"))).unwrap();
    // Root may set it on any file system with extended attributes, with SELinux or without.
    sys::set_label(&own, label).unwrap();
    let run = machine.run(&["prepare", k]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    let file = fs::File::open(machine.path(&format!("lib/modules/{k}/updates/vfguard/demo.ko"))).unwrap();
    assert_eq!(sys::label(&file).as_deref(), Some(&label[..]));
}

#[test]
fn a_real_module_that_was_spoiled_is_refused_for_what_was_done_to_it() {
    let lab = Lab::open();
    let k = lab.get("K_NEW");
    let machine = lab.install(lab.machine().running(k), k);
    let good = lab.file("MODULE_IXGBEVF").parent().unwrap().join("demo.ko");
    let bytes = fs::read(&good).unwrap();
    let spoiled = machine.path("demo.ko");
    let codes = |machine: &Machine| -> Vec<String> {
        let run = machine.run(&["--format", "json", "verify", machine.path("demo.ko").to_str().unwrap(), "--kernel", k]);
        run.json()["findings"].as_array().unwrap().iter().map(|f| f["code"].as_str().unwrap().to_owned()).collect()
    };
    fs::write(&spoiled, &bytes).unwrap();
    assert_eq!(codes(&machine), [] as [&str; 0]);
    // Half of a packed file; e_machine of AArch64; a section that the kernel cannot do without, renamed by objcopy.
    let packed = Command::new("xz").args(["--check=crc32", "-c"]).arg(&good).output().unwrap().stdout;
    fs::write(&spoiled, &packed[..packed.len() / 2]).unwrap();
    assert_eq!(codes(&machine), ["module-unreadable"]);
    let mut other = bytes.clone();
    other[18..20].copy_from_slice(&183u16.to_le_bytes());
    fs::write(&spoiled, &other).unwrap();
    assert_eq!(codes(&machine), ["wrong-arch"]);
    let objcopy =
        Command::new("objcopy").arg("--rename-section=.gnu.linkonce.this_module=.other").arg(&good).arg(&spoiled).status();
    assert!(objcopy.unwrap().success());
    assert_eq!(codes(&machine), ["stripped"]);
    // A kernel that does not look at symbol versions.
    fs::write(&spoiled, &bytes).unwrap();
    let config = machine.path(&format!("boot/config-{k}"));
    let text = fs::read_to_string(&config).unwrap().replace("CONFIG_MODVERSIONS=y\n", "");
    fs::write(&config, text).unwrap();
    assert!(codes(&machine).contains(&"modversions-off".to_owned()));
    // A file that depmod has not seen.
    let stage = Stage::new(CLAIMED);
    fs::write(stage.machine.path(&format!("lib/modules/{}/modules.alias.bin", stage.kernel)), "damaged").unwrap();
    assert!(stage.check().1.iter().any(|f| f.contains("device-unclaimed") || f.contains("depmod-stale")));
    stage.depmod();
    let aside = stage.file("vg_top").with_extension("aside");
    fs::rename(stage.file("vg_top"), &aside).unwrap();
    let aliased = fs::read(&aside).unwrap();
    // The same driver for another device: the table still tells of the first one.
    let at = aliased.windows(20).position(|w| w == b"alias=pci:v00001234d").unwrap() + 20;
    let mut moved = aliased.clone();
    moved[at..at + 8].copy_from_slice(b"0000D0F7");
    fs::write(stage.file("vg_top"), &moved).unwrap();
    stage.says(3, "unsafe depmod-stale", "aliases");
}

#[test]
fn a_module_of_another_compiler_than_the_kernels_is_built_and_used_with_a_warning() {
    let lab = Lab::open();
    let kernel = lab.get("K_NEW");
    let machine = lab.install(lab.machine().demo(&lab).running(kernel), kernel);
    let config = machine.path(&format!("boot/config-{kernel}"));
    let text = fs::read_to_string(&config).unwrap();
    let prepare = ["-v", "prepare", kernel, "--driver", "demo", "--rebuild"];
    let like = machine.run(&prepare);
    assert!(like.code == 0 && !like.stdout.contains("built with"), "{}{}", like.stdout, like.stderr);
    let line = text.lines().find(|l| l.starts_with("CONFIG_CC_VERSION_TEXT=")).unwrap();
    let other = "CONFIG_CC_VERSION_TEXT=\"gcc (GCC) 8.5.0 20210514 (Red Hat 8.5.0-22)\"";
    fs::write(&config, text.replace(line, other)).unwrap();
    let unlike = machine.run(&prepare);
    let detail = format!("built with gcc 12, {kernel} with gcc 8");
    assert!(unlike.code == 0 && unlike.stdout.contains(&detail), "{}{}", unlike.stdout, unlike.stderr);
    let check = machine.run(&["--format", "json", "check", kernel]);
    let findings = check.json()["kernels"][0]["findings"].clone();
    let codes: Vec<_> = findings.as_array().unwrap().iter().map(|f| (&f["severity"], &f["code"])).collect();
    assert!(check.code == 0 && codes == [(&"warning".into(), &"compiler-mismatch".into())], "{findings}");
    assert!(findings[0]["remedy"].as_str().unwrap().starts_with("install gcc 8 as the compiler, then: vfguard prepare"));
}
