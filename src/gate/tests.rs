use super::close::close_locked;
use super::lock::{Lock, LOCK};
use super::*;
use crate::audit;
use crate::config::Gate as Settings;
use crate::host::notices;
use std::path::Path;
use std::time::Duration;

fn host() -> (tempfile::TempDir, Host) {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::new(dir.path()).unwrap();
    (dir, host)
}

fn because(kernel: &str, summary: &str) -> Vec<Reason> {
    vec![Reason {
        kernel: Some(kernel.parse().unwrap()),
        summary: summary.into(),
        remedy: format!("vfguard prepare {kernel}"),
    }]
}

fn install(host: &Host, kernel: &str) {
    host.write_atomic(format!("/boot/vmlinuz-{kernel}"), b"x", 0o644).unwrap();
    host.write_atomic(format!("/lib/modules/{kernel}/modules.dep"), b"", 0o644).unwrap();
}

/// The kinds of events in the audit log, in order.
fn logged(host: &Host) -> Vec<String> {
    let text = host.read_text(audit::FILE).unwrap_or_default();
    let kind = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].as_str().unwrap().to_owned();
    text.lines().map(kind).collect()
}

fn tree(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            names.push(entry.path().display().to_string());
            todo.push(entry.path());
        }
    }
    names.retain(|n| n.contains("vfguard.conf") || n.contains("VFGUARD") || n.contains("initctl") || n.contains("motd.d/"));
    names
}

#[test]
fn it_closes_opens_and_leaves_nothing() {
    let (dir, host) = host();
    assert_eq!(state(&host).state, State::Open);
    let closed = close(&host, &Settings::default(), &because("6.1.0-9", "no module ixgbevf")).unwrap();
    assert_eq!(closed, Closed { state: State::Closed, changed: true, bumped: true, scheduled: None });
    let gate = state(&host);
    assert_eq!((gate.state, gate.reason), (State::Closed, vec!["6.1.0-9: no module ixgbevf".to_owned()]));
    assert_eq!(seen(&host).state, State::Closed);
    assert!(host.read_text(notices::MOTD).unwrap().contains("vfguard prepare 6.1.0-9"));
    assert!(!is_clear(&host));
    open(&host, None).unwrap();
    open(&host, None).unwrap();
    assert!(is_clear(&host) && tree(dir.path()).is_empty(), "{:?}", tree(dir.path()));
    assert_eq!(state(&host).state, State::Open);
}

#[test]
fn no_other_user_can_keep_it_from_closing_by_holding_its_lock() {
    use std::os::unix::fs::PermissionsExt;
    let (_dir, host) = host();
    host.write_atomic(LOCK, b"", 0o644).unwrap();
    close(&host, &Settings::default(), &because("6.1.0-9", "no module ixgbevf")).unwrap();
    assert_eq!(host.metadata(LOCK).unwrap().permissions().mode() & 0o7777, 0o600);
}

#[test]
fn closing_again_for_the_same_reasons_changes_nothing_and_informs_nobody() {
    let (_dir, host) = host();
    let settings = Settings::default();
    close(&host, &settings, &because("6.1.0-9", "building")).unwrap();
    let before = host.metadata(RECORD).unwrap().modified().unwrap();
    assert!(!close(&host, &settings, &because("6.1.0-9", "building")).unwrap().changed);
    assert_eq!(host.metadata(RECORD).unwrap().modified().unwrap(), before, "it was written again");
    assert!(close(&host, &settings, &because("6.1.0-9", "the build failed")).unwrap().changed);
    assert_eq!(state(&host).reason, ["6.1.0-9: the build failed"]);
    assert!(host.read_text(notices::MOTD).unwrap().contains("the build failed"));
}

#[test]
fn a_gate_that_lost_a_file_is_closed_again_for_the_same_reasons() {
    let (dir, host) = host();
    let reasons = because("6.1.0-9", "x");
    close(&host, &Settings::default(), &reasons).unwrap();
    std::fs::remove_file(dir.path().join("run/systemd/system/reboot.target.d/50-vfguard.conf")).unwrap();
    assert_eq!(state(&host).state, State::Open);
    assert!(!is_clear(&host));
    close(&host, &Settings::default(), &reasons).unwrap();
    assert_eq!(state(&host).state, State::Closed);
}

#[test]
fn a_run_killed_between_the_files_is_finished_or_undone_by_the_next_one() {
    let (dir, host) = host();
    systemd::write(&host, false).unwrap();
    std::fs::remove_file(dir.path().join("run/systemd/system/kexec.target.d/50-vfguard.conf")).unwrap();
    assert_eq!(state(&host).state, State::Open);
    open(&host, None).unwrap();
    assert!(is_clear(&host) && tree(dir.path()).is_empty());
    // The files were removed, but the process was killed before systemd read that: the record remains, so the gate is not
    // clear.
    close(&host, &Settings::default(), &because("6.1.0-9", "x")).unwrap();
    super::means::systemd::remove(&host, &Initctl::default()).unwrap();
    assert!(!is_clear(&host));
    open(&host, None).unwrap();
    assert!(is_clear(&host));
}

#[test]
fn a_broken_record_neither_opens_the_gate_nor_prevents_closing() {
    let (_dir, host) = host();
    close(&host, &Settings::default(), &because("6.1.0-9", "x")).unwrap();
    host.write_atomic(RECORD, b"{\"reasons\": 7", 0o644).unwrap();
    let gate = state(&host);
    assert_eq!(gate.state, State::Closed);
    assert!(gate.reason[0].contains("lost"));
    open(&host, None).unwrap();
    assert_eq!(state(&host).state, State::Open);
}

#[test]
fn poweroff_is_refused_only_where_the_settings_say_so() {
    let (dir, host) = host();
    let drop_in = dir.path().join("run/systemd/system/poweroff.target.d/50-vfguard.conf");
    let reasons = because("6.1.0-9", "x");
    close(&host, &Settings { poweroff: true }, &reasons).unwrap();
    assert!(drop_in.exists());
    close(&host, &Settings { poweroff: false }, &reasons).unwrap();
    assert!(!drop_in.exists());
    assert_eq!(state(&host).state, State::Closed);
}

#[test]
fn a_scheduled_reboot_is_reported_at_once() {
    let (_dir, host) = host();
    host.write_atomic("/run/systemd/shutdown/scheduled", b"USEC=1700000000000000\nMODE=reboot\n", 0o644).unwrap();
    let closed = close(&host, &Settings::default(), &because("6.1.0-9", "x")).unwrap();
    assert!(closed.scheduled.unwrap().contains("2023-11-14T22:13:20Z"));
    assert!(host.read_text(notices::MOTD).unwrap().contains("shutdown -c"));
}

#[test]
fn an_override_opens_and_is_audited_and_a_kernel_it_did_not_name_closes_again() {
    let (_dir, host) = host();
    install(&host, "6.1.0-9");
    let settings = Settings::default();
    close(&host, &settings, &because("6.1.0-9", "x")).unwrap();
    let over = open_override(&host, "tested by hand", None, USUAL).unwrap();
    let gate = state(&host);
    assert_eq!((gate.state, gate.over), (State::Overridden, Some(over)));
    assert!(host.read_text(audit::FILE).unwrap().contains("tested by hand"));
    let covered = close(&host, &settings, &because("6.1.0-9", "x")).unwrap();
    assert_eq!(covered.state, State::Overridden);
    assert_eq!(close(&host, &settings, &because("6.1.0-10", "came later")).unwrap().state, State::Closed);
    assert_eq!(state(&host).state, State::Closed);
}

#[test]
fn an_expired_override_covers_nothing() {
    let (_dir, host) = host();
    install(&host, "6.1.0-9");
    let mut over = open_override(&host, "x", None, USUAL).unwrap();
    assert_eq!(state(&host).state, State::Overridden);
    over.term.until = audit::now() - 1;
    override_::store(&host, &over).unwrap();
    assert_eq!(state(&host).state, State::Open);
    assert_eq!(close(&host, &Settings::default(), &because("6.1.0-9", "x")).unwrap().state, State::Closed);
}

#[test]
fn an_override_without_an_audit_log_opens_nothing() {
    let (_dir, host) = host();
    install(&host, "6.1.0-9");
    std::fs::create_dir_all(host.path(audit::FILE)).unwrap();
    close(&host, &Settings::default(), &because("6.1.0-9", "x")).unwrap();
    assert!(open_override(&host, "x", None, USUAL).is_err());
    assert_eq!(state(&host).state, State::Closed);
    assert!(active_override(&host).is_none());
}

#[test]
fn closing_by_hand_ends_an_override() {
    let (_dir, host) = host();
    install(&host, "6.1.0-9");
    open_override(&host, "x", None, USUAL).unwrap();
    close_by_hand(&host, &Settings::default(), &because("6.1.0-9", "by hand"), None).unwrap();
    assert_eq!(state(&host).state, State::Closed);
    assert!(active_override(&host).is_none());
    assert_eq!(logged(&host), ["override", "close"]);
}

#[test]
fn closing_and_opening_at_once_ends_in_one_state_and_never_in_between() {
    let (_dir, host) = host();
    std::thread::scope(|s| {
        for i in 0..4 {
            let host = &host;
            s.spawn(move || {
                for n in 0..5 {
                    if (i + n) % 2 == 0 {
                        close(host, &Settings::default(), &because("6.1.0-9", &format!("{i} {n}"))).unwrap();
                    } else {
                        open(host, None).unwrap();
                    }
                }
            });
        }
    });
    let look = systemd::look(&host, true);
    assert!(is_clear(&host) || (look == Files::Some && systemd::look(&host, false) == Files::All), "{look:?}");
}

#[test]
fn an_opener_that_waited_while_the_gate_was_closed_opens_nothing() {
    let (_dir, host) = host();
    let settings = Settings::default();
    close(&host, &settings, &because("6.1.0-9", "x")).unwrap();
    // All kernels were found safe in this generation. Then a hook adds a kernel and closes the gate first.
    let judged = generation::current(&host);
    let lock = Lock::take(&host).unwrap();
    let opened = std::thread::scope(|s| {
        let opener = s.spawn(|| open(&host, Some(judged)).unwrap());
        std::thread::sleep(Duration::from_millis(200));
        close_locked(&host, &settings, &because("6.1.0-10", "came later"), &lock).unwrap();
        drop(lock);
        opener.join().unwrap()
    });
    assert_eq!(opened, Opened::Overtaken);
    assert_eq!(state(&host).reason, ["6.1.0-10: came later"]);
    // A run that judged the present kernels opens the gate, and so does a call without a judgement.
    assert_eq!(open(&host, Some(judged + 1)).unwrap(), Opened::Open { was_closed: true });
    assert_eq!(open(&host, Some(judged)).unwrap(), Opened::Overtaken, "open already, and judged before the hook came");
    close(&host, &settings, &because("6.1.0-9", "x")).unwrap();
    assert_eq!(open(&host, None).unwrap(), Opened::Open { was_closed: true });
    assert_eq!(open(&host, None).unwrap(), Opened::Open { was_closed: false });
}

#[test]
fn every_closing_raises_the_generation_by_one_even_if_it_changes_nothing_else() {
    let (dir, host) = host();
    let settings = Settings::default();
    let raised = |closed: Closed, before: u64| {
        assert_eq!(generation::current(&host), before + u64::from(closed.bumped));
        closed.bumped
    };
    let close = |reasons: &[Reason]| {
        let before = generation::current(&host);
        raised(close(&host, &settings, reasons).unwrap(), before)
    };
    let reasons = because("6.1.0-9", "x");
    assert!(close(&reasons));
    assert!(close(&reasons), "who looked before the last change would open what this one confirmed");
    assert!(close(&because("6.1.0-9", "y")), "another reason");
    std::fs::remove_file(dir.path().join("run/systemd/system/reboot.target.d/50-vfguard.conf")).unwrap();
    assert!(close(&because("6.1.0-9", "y")), "a file was gone");
    let before = generation::current(&host);
    assert!(raised(close_by_hand(&host, &settings, &because("6.1.0-9", "by hand"), None).unwrap(), before));
    let before = generation::current(&host);
    assert!(raised(close_undecided(&host, &settings, reasons[0].clone()).unwrap(), before), "closed already");
    open(&host, None).unwrap();
    let before = generation::current(&host);
    assert!(raised(close_undecided(&host, &settings, reasons[0].clone()).unwrap(), before));
}

#[test]
fn while_vfguard_is_being_removed_nothing_closes_the_gate() {
    let (_dir, host) = host();
    let (settings, reasons) = (Settings::default(), because("6.1.0-9", "x"));
    host.write_atomic("/proc/uptime", b"5000.25 90.0\n", 0o644).unwrap();
    host.write_atomic(removing::FILE, b"4990\n", 0o644).unwrap();
    let closed = [
        close(&host, &settings, &reasons),
        close_by_hand(&host, &settings, &reasons, None),
        close_undecided(&host, &settings, reasons[0].clone()),
        end_pass(&host, &settings, &reasons),
    ];
    for closed in closed {
        let closed = closed.unwrap();
        assert_eq!((closed.state, closed.changed, closed.bumped), (State::Open, false, false));
    }
    assert!(is_clear(&host) && state(&host).state == State::Open);
    // The removal was aborted.
    host.write_atomic("/proc/uptime", b"5600.00 90.0\n", 0o644).unwrap();
    assert_eq!(close(&host, &settings, &reasons).unwrap().state, State::Closed);
}

#[test]
fn automatic_changes_of_the_gate_are_in_the_audit_log() {
    let (_dir, host) = host();
    let (settings, reasons) = (Settings::default(), because("6.1.0-9", "no module ixgbevf"));
    for _ in 0..2 {
        close(&host, &settings, &reasons).unwrap();
    }
    close_undecided(&host, &settings, because("6.1.0-9", "y")[0].clone()).unwrap();
    for _ in 0..2 {
        open(&host, Some(generation::current(&host))).unwrap();
    }
    assert_eq!(logged(&host), ["closed", "opened"]);
    assert!(host.read_text(audit::FILE).unwrap().contains("6.1.0-9: no module ixgbevf"));
    // The gate closes and opens even if the log cannot be written.
    std::fs::remove_file(host.path(audit::FILE)).unwrap();
    std::fs::create_dir_all(host.path(audit::FILE)).unwrap();
    assert!(close(&host, &settings, &reasons).unwrap().changed);
    assert_eq!(open(&host, None).unwrap(), Opened::Open { was_closed: true });
}

#[test]
fn an_order_that_comes_while_the_gate_is_being_opened_is_obeyed() {
    let (_dir, host) = host();
    close(&host, &Settings::default(), &because("6.1.0-9", "no module ixgbevf")).unwrap();
    let judged = generation::current(&host);
    let lock = Lock::take(&host).unwrap();
    std::thread::scope(|scope| {
        let opening = scope.spawn(|| open(&host, Some(judged)));
        // It waits for the lock by now; if it does not yet, it finds the order at once, and the result is the same.
        std::thread::sleep(Duration::from_millis(300));
        // A closing that dies while it waits has stored its order and raised no generation.
        by_hand::store(&host, &ByHand::new(&host, "freeze").unwrap()).unwrap();
        drop(lock);
        assert_eq!(opening.join().unwrap().unwrap(), open::Opened::ByHand);
    });
    keep_closed_by_order(&host, &Settings::default()).unwrap();
    assert_eq!(state(&host).state, State::Closed);
}

#[test]
fn an_order_whose_record_is_gone_is_carried_on_nowhere() {
    let (_dir, host) = host();
    let order = ByHand::new(&host, "freeze").unwrap();
    close_by_hand(&host, &Settings::default(), &[order.reason()], Some(&order)).unwrap();
    close(&host, &Settings::default(), &because("6.1.0-9", "no module ixgbevf")).unwrap();
    assert_eq!(state(&host).reason.len(), 2);
    by_hand::end(&host).unwrap();
    assert_eq!(keep_closed(&host, &Settings::default()).unwrap(), None);
    assert_eq!(order_line(&host), None);
    close(&host, &Settings::default(), &because("6.1.0-9", "no module ixgbevf")).unwrap();
    assert_eq!(state(&host).reason, ["6.1.0-9: no module ixgbevf"]);
}

fn order_line(host: &Host) -> Option<String> {
    order(host).map(|order| order.summary)
}

#[test]
fn who_is_refused_is_told_whether_a_person_closed_the_gate() {
    let (_dir, host) = host();
    let plain = Reason { kernel: None, summary: CLOSED_BY_HAND.into(), remedy: "vfguard gate open --reason TEXT".into() };
    close_by_hand(&host, &Settings::default(), &[plain], None).unwrap();
    assert!(host.read_text(notices::MOTD).unwrap().contains("an administrator closed the gate"));
    close(&host, &Settings::default(), &because("6.1.0-9", "no module ixgbevf")).unwrap();
    assert!(host.read_text(notices::MOTD).unwrap().contains("without its network"));
}
