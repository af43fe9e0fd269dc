//! Proven by use: the running kernel is excused for a module that is refused only while the next boot would load what is loaded now. The
//! module is a real one with wrong symbol versions, the tables are depmod's.

use crate::machine::lab::Lab;
use crate::machine::Machine;
use std::fs;
use std::process::Command;

const MODULE: &str = "updates/ixgbevf.ko";
const NOTE: &str = "sys/module/ixgbevf/notes/.note.gnu.build-id";
/// Later than any file that a test makes, as after setting the clock forward since the boot.
const LATER: &str = "cpu 0\nbtime 99999999999\n";

struct Stage {
    machine: Machine,
    kernel: String,
}

impl Stage {
    /// A machine that runs with a module whose symbol versions are wrong; nothing has changed since its boot.
    fn new() -> Stage {
        let lab = Lab::open();
        let kernel = lab.get("K_OLD").to_owned();
        let machine = Machine::new().grub().vf("ixgbevf").running(&kernel).kernel(&kernel).boot_entry(&kernel);
        let build = format!("lib/modules/{kernel}/build");
        let machine =
            machine.boot_default(&kernel).file(&format!("{build}/include/config/kernel.release"), &format!("{kernel}\n"));
        let headers = lab.file("ROOT_DEB").join(format!("usr/src/linux-headers-{kernel}"));
        fs::copy(headers.join("Module.symvers"), machine.path(&format!("{build}/Module.symvers"))).unwrap();
        let machine = machine
            .file("proc/stat", LATER)
            .file("proc/cmdline", "BOOT_IMAGE=(hd0,gpt1)/vmlinuz root=/dev/vda1 ro\n")
            .file("proc/self/mountinfo", "22 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw\n")
            .file("proc/sys/kernel/version", "#1 SMP Debian 1-1\n")
            .file("etc/modprobe.d/options.conf", "# none\n")
            .file("srv/ixgbevf.ko", "")
            .file(NOTE, "");
        let stage = Stage { machine, kernel };
        let module = stage.at(MODULE);
        fs::create_dir_all(module.parent().unwrap()).unwrap();
        fs::copy(lab.file("MODULE_IXGBEVF"), &module).unwrap();
        fs::copy(&module, stage.machine.path("srv/ixgbevf.ko")).unwrap();
        stage.shell(&format!("objcopy --dump-section .note.gnu.build-id={NOTE} srv/ixgbevf.ko /dev/null; depmod -b . $K"));
        for file in ["srcversion", "version"] {
            stage.shell(&format!("modinfo -F {file} srv/ixgbevf.ko >sys/module/ixgbevf/{file}"));
        }
        // The nodes that the kernel makes as it starts.
        stage.shell("sleep 0.02; mkdir dev; echo >dev/null; sleep 0.02");
        stage
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.machine.path(&format!("lib/modules/{}/{name}", self.kernel))
    }

    fn shell(&self, script: &str) {
        let modules = format!("lib/modules/{}", self.kernel);
        let mut command = Command::new("sh");
        command.args(["-euc", script]).current_dir(self.machine.root()).env("K", &self.kernel).env("M", modules);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Whether the kernel may be booted again, and the output.
    fn proven(&self) -> (bool, String) {
        let run = self.machine.run(&["--format", "json", "check", &self.kernel]);
        let proven = run.stdout.contains("\"proven-by-use\"");
        assert_eq!(run.code, if proven { 0 } else { 3 }, "{}{}", run.stdout, run.stderr);
        assert!(run.stdout.contains("\"symbol-crc\""), "the module's versions are wrong either way: {}", run.stdout);
        (proven, run.stdout)
    }
}

#[test]
fn a_module_that_runs_unchanged_is_excused() {
    let stage = Stage::new();
    let (proven, said) = stage.proven();
    assert!(proven, "{said}");
    // A new kernel beside it, and the directories that any package update changes, do not matter.
    stage.shell("mkdir -p lib/modules/9.9 usr/lib/new etc/new; echo >boot/vmlinuz-9.9");
    assert!(stage.proven().0);
    // Nor does a bzImage that names the running build.
    let stage = Stage::new();
    stage.shell(IMAGE);
    stage.shell("rm dev/null; sleep 0.02; echo >dev/null");
    let (proven, said) = stage.proven();
    assert!(proven, "{said}");
}

/// The head of a bzImage: its magic, and the name of its build.
const IMAGE: &str = r#"i=boot/vmlinuz-$K; head -c 2048 /dev/zero >$i
    printf HdrS | dd of=$i bs=1 seek=514 conv=notrunc status=none
    printf '\000\002' | dd of=$i bs=1 seek=526 conv=notrunc status=none
    printf '%s (a@b) #1 SMP Debian 1-1' $K | dd of=$i bs=1 seek=1024 conv=notrunc status=none"#;

#[test]
fn a_change_of_what_would_be_loaded_is_not_excused() {
    let image =
        format!("{IMAGE}; rm dev/null; sleep 0.02; echo >dev/null; echo '#2 SMP Debian 1-2' >proc/sys/kernel/version");
    let blob =
        "head -c 36 /dev/urandom | dd of=sys/module/ixgbevf/notes/.note.gnu.build-id bs=1 seek=16 conv=notrunc status=none";
    for (what, change) in [
        (
            "a link made since, to a file that is older",
            "rm $M/updates/ixgbevf.ko; ln -s /srv/ixgbevf.ko $M/updates/ixgbevf.ko",
        ),
        ("a directory that is a link made since", "mv $M/updates srv/u; ln -s /srv/u $M/updates"),
        ("a directory renamed since", "mv $M/updates $M/u; mv $M/u $M/updates"),
        ("the same content written anew", "cp $M/updates/ixgbevf.ko u; cat u >$M/updates/ixgbevf.ko"),
        ("a file whose time was set back", "cp srv/ixgbevf.ko u; touch -d 2001-01-01 u; mv u $M/updates/ixgbevf.ko"),
        ("a second name of the file", "ln $M/updates/ixgbevf.ko srv/second"),
        ("packed since", "xz --check=crc32 $M/updates/ixgbevf.ko; depmod -b . $K"),
        ("depmod has run", "depmod -b . $K"),
        ("another table", "echo >>$M/modules.softdep"),
        ("modprobe's settings", "echo 'options ixgbevf x=1' >etc/modprobe.d/new.conf"),
        ("a setting that is gone", "rm etc/modprobe.d/options.conf"),
        ("modprobe's settings in /run", "mkdir -p run/modprobe.d; echo >run/modprobe.d/x.conf"),
        ("the settings of EL 6", "echo >etc/modprobe.conf"),
        ("depmod's settings", "mkdir -p etc/depmod.d; echo 'search extra updates' >etc/depmod.d/x.conf"),
        ("a mount over the module", "echo \"1 2 0:1 / /$M/updates/ixgbevf.ko rw - ext4 x rw\" >>proc/self/mountinfo"),
        ("mounts that cannot be told", "rm proc/self/mountinfo"),
        ("another build of the module in the kernel", blob),
        ("a build that the kernel does not show", "rm -r sys/module/ixgbevf/notes"),
        ("other sources in the kernel", "echo 0123456789ABCDEF01234567 >sys/module/ixgbevf/srcversion"),
        ("another version in the kernel", "echo 9.9 >sys/module/ixgbevf/version"),
        ("loaded by force", "echo FOE >sys/module/ixgbevf/taint"),
        ("no word on force", "rm sys/module/ixgbevf/taint"),
        ("another command line", "sed -i 's/ ro$/ ro module.sig_enforce=1/' boot/loader/entries/*.conf"),
        ("a kernel of the same name built anew", &image),
        ("an image that is younger", "echo >boot/vmlinuz-$K"),
        ("a clock that was set back", "echo 'btime 1000000000' >proc/stat"),
        ("a clock of which nothing tells", "rm dev/null"),
        ("no time of the boot", "rm proc/stat"),
        ("a link that is down", "echo down >sys/bus/pci/devices/0000:00:03.0/net/eth0/operstate"),
        (
            "another driver",
            "rm sys/bus/pci/devices/*/driver; ln -s ../../drivers/e1000 sys/bus/pci/devices/0000:00:03.0/driver",
        ),
    ] {
        let stage = Stage::new();
        stage.shell(change);
        let (proven, said) = stage.proven();
        assert!(!proven, "{what}: {said}");
    }
}

#[test]
fn a_kernel_as_old_as_el6_shows_forced_loading_only_globally() {
    let stage = Stage::new();
    stage.shell("rm sys/module/ixgbevf/taint; echo 4096 >proc/sys/kernel/tainted");
    assert!(stage.proven().0);
    stage.shell("echo 4098 >proc/sys/kernel/tainted");
    assert!(!stage.proven().0);
}
