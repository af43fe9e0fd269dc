//! Freezing /boot on real file systems: whichever process is killed while /boot is frozen, it does not stay frozen, and a file system that
//! somebody else froze stays frozen. Needs root and loop devices, and is built with `--features failpoints` (tests/run.sh build).
#![cfg(feature = "failpoints")]
#![allow(clippy::print_stdout)] // skips and progress are for the runner

#[path = "../../machine/mod.rs"]
mod machine;

use machine::live::enter;
use machine::Machine;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use vfguard::host::files::{freeze, mounts};
use vfguard::host::Host;

const OLD: &str = "6.1.0-53-amd64";
const NEW: &str = "6.1.0-54-amd64";
/// Boot loaders read the journal of neither.
const KINDS: [&str; 2] = ["ext4", "xfs"];
/// mkfs.xfs refuses less than 300 MB; the file is sparse.
const SIZE: u64 = 320 << 20;

/// Moves /boot to a file system of its own and runs `vfguard reconcile`, which holds the boot default there, up to the instant at which
/// /boot is frozen. Then kills `$victims` (`$main` is vfguard, `$guard` its guard). `frozen` reports whether it stayed frozen, and thaws
/// it, since a blocked write cannot be killed.
const KILL: &str = r#"
mkfs.$FS -q /srv/disk && cp -a /boot /srv/boot && mount -o loop /srv/disk /boot && cp -a /srv/boot/. /boot || exit 1
frozen() { fsfreeze --unfreeze /boot 2>/dev/null && echo "$1: frozen" || echo "$1: not frozen"; }
VFGUARD_FAILPOINT=frozen-before-thaw vfguard reconcile >/dev/null 2>/srv/said & main=$!
for i in {1..400}; do [ -s /run/vfguard/frozen ] && break; sleep 0.02; done
echo "marker: $(cat /run/vfguard/frozen)"
sleep 0.3
guard=$(pgrep -P $main)
eval kill -9 "$VICTIMS"
wait $main; echo "vfguard: $?"
[ "$LATER" = next ] || { for i in {1..250}; do [ -s /run/vfguard/frozen ] || break; sleep 0.02; done; frozen later; }
if [ "$LATER" = next ]; then
    sleep 4
    fsfreeze --freeze /boot 2>/dev/null && { fsfreeze --unfreeze /boot; echo "before: not frozen"; } || echo "before: frozen"
    eval "$NEXT"
    frozen later
fi
echo "marker: $(cat /run/vfguard/frozen)"
ls /boot/grub2; cat /srv/said
umount /boot || true
"#;

fn usable(kind: &str) -> bool {
    let missing = match () {
        () if !nix::unistd::geteuid().is_root() => "it wants root",
        () if !Path::new("/dev/loop-control").exists() => "no loop devices here",
        () if vfguard::host::command::find(&format!("mkfs.{kind}")).is_none() => "no mkfs for it",
        () => return true,
    };
    println!("skipped freeze_live/{kind}: {missing}");
    false
}

/// OLD runs, and NEW, which boots next, cannot drive the network device. GRUB has no environment file yet, so the hold creates it.
fn machine() -> Machine {
    let builtin = "ena.alias=pci:v00001D0Fd0000EC20sv*sd*bc*sc*i*\0ena.file=drivers/net/ena\0";
    let machine = Machine::new()
        .grub()
        .kernel(OLD)
        .boot_entry(OLD)
        .file(&format!("lib/modules/{OLD}/modules.builtin.modinfo"), builtin)
        .kernel(NEW)
        .boot_entry(NEW)
        .device("0000:00:05.0", "pci:v00001D0Fd0000EC20sv00001D0Fsd0000EC20bc02sc00i00", Some("ena"))
        .file("osrelease", &format!("{OLD}\n"))
        // In rescue mode the default is held and no gate closed, so no systemd is needed.
        .file("cmdline", "ro systemd.unit=rescue.target\n")
        .file("run/systemd/system/x", "")
        .file("run/nologin", "")
        .file("sys/block/x", "");
    fs::create_dir_all(machine.path("usr/bin")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_vfguard"), machine.path("usr/bin/vfguard")).unwrap();
    fs::create_dir_all(machine.path("srv")).unwrap();
    disk(&machine.path("srv/disk"));
    machine
}

fn disk(path: &Path) {
    File::create(path).unwrap().set_len(SIZE).unwrap();
}

/// The output of [`KILL`].
fn kill(kind: &str, victims: &str, next: Option<&str>) -> String {
    kill_and(kind, victims, next, "")
}

/// The same; `script` is in /srv/next.
fn kill_and(kind: &str, victims: &str, next: Option<&str>, script: &str) -> String {
    let machine = machine().file("srv/next", script);
    let later = next.map_or("guard", |_| "next");
    let set = format!("FS={kind} VICTIMS='{victims}' LATER={later} NEXT='{}'", next.unwrap_or_default());
    let run = enter(&machine, &format!("{set}\n{KILL}"));
    assert_eq!(run.code, 0, "{kind}: {}{}", run.stdout, run.stderr);
    println!("{kind}: killed {victims}");
    run.stdout
}

#[test]
fn if_vfguard_is_killed_while_boot_is_frozen_its_guard_thaws_it() {
    for kind in KINDS.into_iter().filter(|k| usable(k)) {
        let said = kill(kind, "$main", None);
        assert!(said.contains("vfguard: 137\nlater: not frozen\nmarker: \n"), "{said}");
        assert!(said.contains("marker: 7:") && said.contains("/boot\n") && said.contains("grubenv"), "{said}");
    }
}

#[test]
fn if_the_guard_is_killed_vfguard_thaws() {
    for kind in KINDS.into_iter().filter(|k| usable(k)) {
        let said = kill(kind, "$guard", None);
        assert!(said.contains("vfguard: 3\nlater: not frozen\nmarker: \n"), "{said}");
    }
}

#[test]
fn if_both_are_killed_the_next_run_of_any_verb_thaws() {
    for kind in KINDS.into_iter().filter(|k| usable(k)) {
        for verb in ["vfguard gate show", "vfguard --root /srv gate show; vfguard -q check"] {
            let said = kill(kind, "$main $guard", Some(verb));
            assert!(said.contains("vfguard: 137\nbefore: frozen\n"), "{said}");
            assert!(said.contains("later: not frozen\nmarker: \n"), "{verb}: {said}");
        }
    }
}

#[test]
fn the_commands_of_units_that_end_thaw_without_vfguard_too() {
    let [line, others @ ..] = [
        include_str!("../../../packaging/systemd/vfguard-watch.service"),
        include_str!("../../../packaging/systemd/vfguard-boot.service"),
        include_str!("../../../packaging/systemd/vfguard.service"),
    ]
    .map(|unit| unit.lines().find_map(|l| l.strip_prefix("ExecStopPost=-/bin/sh -c '")).expect("no ExecStopPost"));
    assert!(others.iter().all(|other| *other == line), "{others:?}");
    let script = line.strip_suffix('\'').unwrap().replace("$$", "$");
    for kind in KINDS.into_iter().filter(|k| usable(k)).take(1) {
        for broken in ["", "chmod -x /usr/bin/vfguard; ", "printf broken >/usr/bin/vfguard; ", "rm /usr/bin/vfguard; "] {
            let said = kill_and(kind, "$main $guard", Some(&format!("{broken}sh /srv/next")), &script);
            assert!(said.contains("before: frozen\n") && said.contains("later: not frozen\n"), "{broken}: {said}");
        }
    }
}

/// A file system, and a tree for the marker.
struct Disk {
    dir: tempfile::TempDir,
    host: Host,
}

impl Disk {
    fn new(kind: &str) -> Disk {
        let dir = tempfile::tempdir().unwrap();
        let (image, point) = (dir.path().join("disk"), dir.path().join("mounted"));
        disk(&image);
        fs::create_dir_all(dir.path().join("root")).unwrap();
        fs::create_dir(&point).unwrap();
        let host = Host::new(&dir.path().join("root")).unwrap();
        run(Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image));
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&point));
        Disk { dir, host }
    }

    fn point(&self) -> PathBuf {
        self.dir.path().join("mounted")
    }

    fn mount(&self) -> mounts::Mount {
        mounts::all().unwrap().into_iter().find(|m| m.point == self.point()).unwrap()
    }

    fn freeze_and_thaw(&self) -> bool {
        freeze::freeze_and_thaw(&self.host, &File::open(self.point()).unwrap(), &self.mount()).unwrap()
    }

    fn fsfreeze(&self, option: &str) -> bool {
        Command::new("fsfreeze").arg(option).arg(self.point()).output().unwrap().status.success()
    }

    fn marker(&self) -> PathBuf {
        self.host.path(freeze::MARKER)
    }

    fn leave_marker(&self) {
        fs::create_dir_all(self.marker().parent().unwrap()).unwrap();
        fs::write(self.marker(), format!("{} {}\n", self.mount().device, self.point().display())).unwrap();
    }

    fn marked(&self) -> bool {
        self.marker().metadata().is_ok_and(|m| m.len() > 0)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A frozen file system could not be unmounted.
        self.fsfreeze("--unfreeze");
        let _ = Command::new("umount").arg(self.point()).status();
    }
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

#[test]
fn a_file_system_that_another_program_froze_is_not_thawed() {
    for kind in KINDS.into_iter().filter(|k| usable(k)) {
        let disk = Disk::new(kind);
        assert!(disk.freeze_and_thaw() && !disk.marked(), "{kind}: its own freeze");
        assert!(!disk.fsfreeze("--unfreeze"), "{kind} stayed frozen");
        assert!(disk.fsfreeze("--freeze"));
        assert!(!disk.freeze_and_thaw() && !disk.marked(), "{kind}: frozen by another program");
        freeze::thaw_left(&disk.host).unwrap();
        assert!(disk.fsfreeze("--unfreeze"), "{kind}: another program's freeze was thawed");
    }
}

#[test]
fn a_marker_of_a_living_process_is_waited_for_and_an_abandoned_one_leads_to_a_thaw() {
    for kind in KINDS.into_iter().filter(|k| usable(k)) {
        let disk = Disk::new(kind);
        disk.leave_marker();
        let held = Flock::lock(File::open(disk.marker()).unwrap(), FlockArg::LockExclusive).map_err(|(_, e)| e).unwrap();
        assert!(disk.fsfreeze("--freeze"));
        std::thread::scope(|scope| {
            let next = scope.spawn(|| freeze::thaw_left(&disk.host));
            std::thread::sleep(std::time::Duration::from_millis(500));
            assert!(!next.is_finished(), "{kind}: a run goes on while its /boot is frozen");
            assert!(disk.marked() && !disk.fsfreeze("--freeze"), "{kind} was thawed while its writer lives");
            drop(held);
            next.join().unwrap().unwrap();
        });
        assert!(!disk.marked() && !disk.fsfreeze("--unfreeze"), "{kind} stayed frozen");
        // Killed before it froze anything.
        disk.leave_marker();
        freeze::thaw_left(&disk.host).unwrap();
        assert!(!disk.marked());
        // Found by its device if it is not mounted in the same place any more.
        assert!(disk.fsfreeze("--freeze"));
        fs::write(disk.marker(), format!("{} /elsewhere\n", disk.mount().device)).unwrap();
        freeze::thaw_left(&disk.host).unwrap();
        assert!(!disk.marked() && !disk.fsfreeze("--unfreeze"), "{kind} stayed frozen");
        // If the device does not exist, that is reported, and the marker kept.
        fs::write(disk.marker(), "999:999 /boot\n").unwrap();
        let error = freeze::thaw_left(&disk.host).unwrap_err();
        assert!(format!("{error:#}").contains("/boot") && disk.marked(), "{error:#}");
        assert!(!disk.freeze_and_thaw() && disk.marked(), "{kind}: the marker of another one was lost");
    }
}
