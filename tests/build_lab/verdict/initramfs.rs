//! An initramfs that carries another driver than the disk is rebuilt by the machine's own initramfs-tools or dracut: by `prepare` when it
//! installs a module, by `reconcile` if nothing else is wrong. With real mkinitramfs, dracut, cpio and kmod inside the machine's root.

use crate::machine::lab::Lab;
use crate::machine::{Machine, Run};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Makes this host's programs visible in the root, in a mount namespace that ends with the command.
const WITH_PROGRAMS: &str = r#"
root=$1; shift
for dir in bin sbin share lib64; do mkdir -p "$root/usr/$dir"; mount --bind "/usr/$dir" "$root/usr/$dir"; done
for dir in /usr/lib/*/; do
    name=$(basename "$dir")
    [ ! -L "/usr/lib/$name" ] && [ "$name" != modules ] && [ ! -e "$root/usr/lib/$name/scripts" ] || continue
    mkdir -p "$root/usr/lib/$name"; mount --bind "/usr/lib/$name" "$root/usr/lib/$name"
done
for file in /usr/lib/klibc-*.so; do [ ! -e "$file" ] || cp "$file" "$root/usr/lib"; done
mount --bind /dev "$root/dev"
exec "$@"
"#;

/// A machine with the demo driver in one kernel's initramfs.
pub struct Stage {
    pub machine: Machine,
    pub kernel: String,
}

impl Stage {
    pub fn new() -> Stage {
        let lab = Lab::open();
        let kernel = lab.get("K_NEW").to_owned();
        let machine = lab.install(lab.machine().grub().running(&kernel).demo(&lab), &kernel);
        let entry = format!("boot/loader/entries/0123456789abcdef0123456789abcdef-{kernel}.conf");
        let text = fs::read_to_string(machine.path(&entry)).unwrap() + &format!("initrd /initrd.img-{kernel}\n");
        let machine = machine.file(&entry, &text).file("etc/modules", "").file("etc/fstab", "");
        for dir in ["dev", "tmp", "var/tmp"] {
            fs::create_dir_all(machine.path(dir)).unwrap();
        }
        fs::rename(machine.path("lib/modules"), machine.path("usr/lib/modules")).unwrap();
        fs::remove_dir(machine.path("lib")).unwrap();
        for dir in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{dir}"), machine.path(dir)).unwrap();
        }
        for dir in ["etc/initramfs-tools", "etc/alternatives", "etc/udev"] {
            let copied =
                Command::new("cp").arg("-a").arg(Path::new("/").join(dir)).arg(machine.path("etc")).status().unwrap();
            assert!(copied.success(), "/{dir} is missing: install initramfs-tools-core");
        }
        let hook = "etc/kernel/postinst.d/initramfs-tools";
        let machine = machine.file("etc/initramfs-tools/modules", "demo\n").file(hook, "");
        Stage { machine, kernel }
    }

    /// A machine whose kernels get their initramfs from dracut, with the same driver in it.
    fn with_dracut() -> Stage {
        let stage = Stage::new();
        fs::remove_file(stage.machine.path("etc/kernel/postinst.d/initramfs-tools")).unwrap();
        let settings = "hostonly=\"no\"\ndracutmodules=\"base\"\ndrivers=\"demo\"\ncompress=\"zstd\"\n";
        let Stage { machine, kernel } = stage;
        Stage { machine: machine.file("etc/dracut.conf.d/demo.conf", settings).file("etc/dracut.conf", ""), kernel }
    }

    /// Installs another build of the driver where modprobe finds it.
    fn old_driver(&self) -> (PathBuf, Vec<u8>) {
        let old = self.machine.path(&format!("lib/modules/{}/updates/demo.ko", self.kernel));
        fs::create_dir_all(old.parent().unwrap()).unwrap();
        let mut bytes = fs::read(Lab::open().file("MODULE_IXGBEVF").parent().unwrap().join("demo.ko")).unwrap();
        bytes.push(0);
        fs::write(&old, &bytes).unwrap();
        self.depmod();
        (old, bytes)
    }

    fn depmod(&self) {
        assert!(Command::new("depmod").arg("-b").arg(self.machine.root()).arg(&self.kernel).status().unwrap().success());
    }

    fn inside(&self, program: &Path, args: &[&str], env: &[(&str, &str)]) -> Run {
        Command::new("unshare")
            .args(["--mount", "sh", "-euc", WITH_PROGRAMS, "sh"])
            .arg(self.machine.root())
            .arg(program)
            .args(args)
            .env("https_proxy", "http://127.0.0.1:9")
            .envs(env.iter().copied())
            .output()
            .unwrap()
            .into()
    }

    pub fn vfguard(&self, args: &[&str]) -> Run {
        self.vfguard_with(args, &[])
    }

    pub fn vfguard_with(&self, args: &[&str], env: &[(&str, &str)]) -> Run {
        let root = self.machine.root().to_str().unwrap();
        self.inside(Path::new(env!("CARGO_BIN_EXE_vfguard")), &[&["--root", root], args].concat(), env)
    }

    pub fn image(&self) -> PathBuf {
        self.machine.path(&format!("boot/initrd.img-{}", self.kernel))
    }

    /// Makes the initramfs as Debian's kernel package does.
    pub fn make_initramfs(&self) {
        self.make_initramfs_by(&["mkinitramfs", "-o"]);
    }

    fn make_initramfs_by(&self, tool: &[&str]) {
        let root = self.machine.root().to_str().unwrap();
        let to = format!("/boot/initrd.img-{}", self.kernel);
        let run = self.inside(Path::new("chroot"), &[&[root], tool, &[&to, &self.kernel]].concat(), &[]);
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    }

    /// The demo module in the initramfs, as the system's own tools read it.
    pub fn carried(&self) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let unpacked = Command::new("unmkinitramfs").arg(self.image()).arg(dir.path()).status().unwrap();
        assert!(unpacked.success());
        let found = Command::new("find").arg(dir.path()).args(["-name", "demo.ko*", "-type", "f"]).output().unwrap();
        let found = String::from_utf8(found.stdout).unwrap();
        assert_eq!(found.lines().count(), 1, "{found}");
        fs::read(found.trim()).unwrap()
    }

    pub fn installed(&self) -> Vec<u8> {
        fs::read(self.machine.path(&format!("lib/modules/{}/updates/vfguard/demo.ko", self.kernel))).unwrap()
    }

    fn codes(&self) -> Vec<String> {
        let value = self.vfguard(&["--format", "json", "check"]).json();
        let all = value["kernels"][0]["findings"].as_array().unwrap();
        all.iter().filter(|f| f["severity"] == "unsafe").map(|f| f["code"].as_str().unwrap().to_owned()).collect()
    }

    pub fn leftovers(&self) -> Vec<String> {
        let names = fs::read_dir(self.machine.path("boot")).unwrap().map(|e| e.unwrap().file_name());
        names.map(|n| n.to_string_lossy().into_owned()).filter(|n| n.starts_with(".vfguard")).collect()
    }
}

/// A package manager at work: another process that holds dpkg's lock in dpkg's way.
struct Transaction(Child);

impl Transaction {
    fn new(machine: &Machine) -> Transaction {
        let lock = machine.path("var/lib/dpkg/lock-frontend");
        fs::create_dir_all(lock.parent().unwrap()).unwrap();
        fs::write(&lock, "").unwrap();
        let hold = "import fcntl,sys,time; f=open(sys.argv[1],'w'); fcntl.lockf(f,fcntl.LOCK_EX); print('held',flush=True); time.sleep(600)";
        let mut child =
            Command::new("python3").args(["-c", hold]).arg(lock).stdout(Stdio::piped()).spawn().expect("python3 is missing");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "held");
        Transaction(child)
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_stale_initramfs_is_rebuilt_with_the_driver_on_the_disk() {
    let stage = Stage::new();
    let k = stage.kernel.as_str();
    // Before vfguard was installed, another build of the driver was installed and got into the initramfs.
    let (old, bytes) = stage.old_driver();
    stage.make_initramfs();
    assert_eq!(stage.carried(), bytes);
    fs::remove_file(&old).unwrap();

    // `prepare` builds, installs, and rebuilds the initramfs.
    let run = stage.vfguard(&["prepare", k]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert_eq!(stage.carried(), stage.installed());
    assert_eq!(stage.codes(), [] as [&str; 0]);

    // Somebody restores an old initramfs: the module is good, only the initramfs is stale.
    let ours = stage.machine.path(&format!("lib/modules/{k}/updates/vfguard"));
    fs::rename(&ours, stage.machine.path("aside")).unwrap();
    stage.old_driver();
    stage.make_initramfs();
    fs::remove_file(&old).unwrap();
    fs::rename(stage.machine.path("aside"), &ours).unwrap();
    stage.depmod();
    assert_eq!(stage.codes(), ["initramfs-stale"]);
    let stale = fs::read(stage.image()).unwrap();
    let run = stage.vfguard(&["reconcile"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("was made anew") && !run.stdout.contains("built, verified"), "{}", run.stdout);
    assert_eq!(stage.carried(), stage.installed());
    assert_eq!((stage.codes(), stage.leftovers()), (vec![], vec![]));

    // If it cannot be rebuilt, the old one stays, and the kernel is refused.
    fs::write(stage.image(), &stale).unwrap();
    let hook = "etc/initramfs-tools/hooks/broken";
    fs::write(stage.machine.path(hook), "#!/bin/sh\n[ \"$1\" = prereqs ] || exit 9\n").unwrap();
    assert!(Command::new("chmod").arg("755").arg(stage.machine.path(hook)).status().unwrap().success());
    let run = stage.vfguard(&["reconcile"]);
    assert_eq!(run.code, 3, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("its initramfs was not made anew") && run.stdout.contains("mkinitramfs"), "{}", run.stdout);
    assert_eq!((fs::read(stage.image()).unwrap(), stage.codes()), (stale, vec!["initramfs-stale".to_owned()]));
    assert_eq!(stage.leftovers(), [] as [&str; 0]);

    // A new initramfs without a driver that the old one carried does not replace it.
    fs::remove_file(stage.machine.path(hook)).unwrap();
    fs::write(stage.machine.path("etc/initramfs-tools/modules"), "").unwrap();
    let run = stage.vfguard(&["reconcile"]);
    assert_eq!(run.code, 3, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("does not carry demo"), "{}", run.stdout);
    assert_eq!((stage.codes(), stage.leftovers()), (vec!["initramfs-stale".to_owned()], vec![]));
    fs::write(stage.machine.path("etc/initramfs-tools/modules"), "demo\n").unwrap();

    // If the initramfs that the boot entry names does not exist, vfguard waits while a package manager is at work, then builds it.
    fs::remove_file(stage.image()).unwrap();
    let transaction = Transaction::new(&stage.machine);
    assert_eq!(stage.codes(), ["build-pending"]);
    assert_eq!(stage.vfguard(&["reconcile"]).code, 3);
    assert!(!stage.image().exists());
    drop(transaction);
    assert_eq!(stage.codes(), ["initramfs-stale"]);
    let run = stage.vfguard(&["reconcile"]);
    assert_eq!((run.code, stage.carried()), (0, stage.installed()), "{}{}", run.stdout, run.stderr);
}

#[test]
fn dracut_rebuilds_it_on_a_machine_whose_kernels_use_dracut() {
    let stage = Stage::with_dracut();
    let k = stage.kernel.as_str();
    let (old, _) = stage.old_driver();
    stage.make_initramfs_by(&["dracut", "--force"]);
    let before = stage.carried();
    fs::remove_file(&old).unwrap();
    let run = stage.vfguard(&["prepare", k]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert!(before != stage.carried() && stage.carried() == stage.installed(), "it carries the old driver");
    assert_eq!((stage.codes(), stage.leftovers()), (vec![], vec![]));
    // A new one without the driver does not replace it.
    let whole = fs::read(stage.image()).unwrap();
    fs::remove_file(stage.machine.path(&format!("lib/modules/{k}/updates/vfguard/demo.ko"))).unwrap();
    stage.old_driver();
    assert_eq!(stage.codes(), ["initramfs-stale"]);
    fs::write(stage.machine.path("etc/dracut.conf.d/demo.conf"), "hostonly=\"no\"\ndracutmodules=\"base\"\n").unwrap();
    let run = stage.vfguard(&["reconcile"]);
    assert_eq!(run.code, 3, "{}{}", run.stdout, run.stderr);
    assert!(run.stdout.contains("does not carry demo"), "{}", run.stdout);
    assert!(fs::read(stage.image()).unwrap() == whole, "the initramfs that boots was touched");
}

/// Command lines of running processes below the machine's root, or with a word of it.
fn living(machine: &Machine) -> Vec<String> {
    let root = machine.root();
    let word = root.display().to_string();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let ours = processes.filter_map(|e| {
        let line = String::from_utf8_lossy(&fs::read(e.path().join("cmdline")).ok()?).replace('\0', " ");
        let inside = |link: &str| fs::read_link(e.path().join(link)).is_ok_and(|to| to.starts_with(root));
        (inside("root") || inside("cwd") || line.contains(&word)).then_some(line)
    });
    ours.collect()
}

#[test]
fn killed_during_the_rebuild_of_an_initramfs_no_process_is_left_and_the_next_run_removes_its_files() {
    for stage in [Stage::new(), Stage::with_dracut()] {
        let k = stage.kernel.as_str();
        assert_eq!(stage.vfguard(&["prepare", k]).code, 0);
        let (old, _) = stage.old_driver();
        let ours = stage.machine.path(&format!("lib/modules/{k}/updates/vfguard"));
        fs::rename(&ours, stage.machine.path("aside")).unwrap();
        stage.depmod();
        let dracut = !stage.machine.path("etc/kernel/postinst.d/initramfs-tools").exists();
        stage.make_initramfs_by(if dracut { &["dracut", "--force"] } else { &["mkinitramfs", "-o"] });
        fs::remove_file(&old).unwrap();
        fs::rename(stage.machine.path("aside"), &ours).unwrap();
        stage.depmod();
        let before = fs::read(stage.image()).unwrap();
        // Files of an older vfguard and of another killed run.
        for left in [format!("boot/.vfguard-initramfs-{k}"), "boot/.vfguard-initramfs-x".into()] {
            fs::write(stage.machine.path(&left), "left").unwrap();
        }
        for moment in [50, 300, 800] {
            let root = stage.machine.root().to_str().unwrap();
            let mut child = Command::new("unshare")
                .args(["--mount", "sh", "-euc", WITH_PROGRAMS, "sh", root, env!("CARGO_BIN_EXE_vfguard"), "--root", root])
                .arg("reconcile")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let tool = if dracut { "dracut" } else { "mkinitramfs" };
            while !living(&stage.machine).iter().any(|l| l.contains(tool)) {
                assert!(child.try_wait().unwrap().is_none(), "it ended before {tool} was started");
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            std::thread::sleep(std::time::Duration::from_millis(moment));
            let busy = living(&stage.machine).len();
            child.kill().unwrap();
            child.wait().unwrap();
            let start = std::time::Instant::now();
            while !living(&stage.machine).is_empty() {
                let left = living(&stage.machine);
                assert!(start.elapsed().as_secs() < 2, "{tool}, {moment} ms: {left:?} outlived vfguard");
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            println!("{tool}: killed after {moment} ms with {busy} processes; nothing lives on");
            assert!(fs::read(stage.image()).unwrap() == before, "the initramfs that boots was touched");
        }
        let run = stage.vfguard(&["reconcile"]);
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        assert_eq!((stage.carried(), stage.leftovers()), (stage.installed(), vec![]));
    }
}
