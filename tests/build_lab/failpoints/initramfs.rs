//! Killed between making an initramfs and renaming it.

use crate::machine::lab::Lab;
use crate::verdict::initramfs::Stage;
use std::fs;
use std::process::Command;

#[test]
fn killed_before_the_new_initramfs_is_renamed_the_old_one_is_intact_and_the_next_run_rebuilds_it() {
    let stage = Stage::new();
    let k = stage.kernel.as_str();
    assert_eq!(stage.vfguard(&["prepare", k]).code, 0);
    stage.make_initramfs();
    let before = fs::read(stage.image()).unwrap();
    let file = stage.machine.path(&format!("lib/modules/{k}/updates/vfguard/demo.ko"));
    fs::remove_file(&file).unwrap();
    let mut bytes = fs::read(Lab::open().file("MODULE_IXGBEVF").parent().unwrap().join("demo.ko")).unwrap();
    bytes.push(0);
    fs::write(&file, &bytes).unwrap();
    assert!(Command::new("depmod").arg("-b").arg(stage.machine.root()).arg(k).status().unwrap().success());
    let run = stage.vfguard_with(&["reconcile"], &[("VFGUARD_FAILPOINT", "initramfs-before-rename")]);
    assert_eq!(run.code, -1, "it was not reached: {}{}", run.stdout, run.stderr);
    assert!(fs::read(stage.image()).unwrap() == before, "the initramfs that boots was touched");
    assert_eq!(stage.leftovers().len(), 1);
    let run = stage.vfguard(&["reconcile"]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert_eq!(stage.carried(), stage.installed());
    assert_eq!(stage.leftovers(), [] as [String; 0]);
}
