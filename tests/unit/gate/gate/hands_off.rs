//! Where vfguard keeps its hands off: observe mode, rescue mode, the word on the command line.

use super::*;

#[test]
fn observe_mode_refuses_and_holds_nothing() {
    let machine = bad(settled(), NEW).boot_default(NEW).file("etc/vfguard/config.toml", "mode = 'observe'\n");
    assert_eq!(machine.run(&["reconcile"]).code, 3);
    assert_eq!((gate(&machine).as_str(), machine.saved_entry().as_str()), ("open", NEW));
    assert_eq!(machine.run(&["gate", "close"]).code, 1);
    assert!(!files(&machine));
    assert!(shown(&machine)["hands_off"].as_str().unwrap().contains("observe"));
}

#[test]
fn in_rescue_emergency_and_offline_update_the_default_is_held_but_nothing_refused() {
    for words in ["single", "systemd.unit=emergency.target", "systemd.unit=system-update.target"] {
        let machine = bad(settled(), NEW).boot_default(NEW).file("proc/cmdline", &format!("root=/dev/vda1 {words}\n"));
        let run = machine.run(&["reconcile"]);
        assert!(run.code == 3 && run.stdout.contains("no reboot is refused"), "{words}: {}", run.stdout);
        assert_eq!((gate(&machine).as_str(), machine.saved_entry().as_str()), ("open", OLD), "{words}");
    }
}

#[test]
fn the_word_on_the_kernel_command_line_disables_everything() {
    let machine = refused().file("proc/cmdline", "root=/dev/vda1 vfguard=off\n");
    assert_eq!(machine.run(&["reconcile"]).code, 0);
    assert!(!files(&machine));
    assert_eq!(machine.run(&["gate", "close"]).code, 1);
    let run = machine.run(&["reboot"]);
    assert_ne!(run.code, 2, "{}", run.stderr);
}
