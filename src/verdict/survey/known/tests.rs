use super::*;
use proptest::prelude::*;

const VF: &str = "pci:v00008086d000010ED";
const ENA: &str = "pci:v00001D0Fd0000EC20";

fn known(address: &str, modalias: &str, boot: &str) -> Known {
    let driver = if modalias == VF { "ixgbevf" } else { "ena" };
    Known {
        address: address.into(),
        modalias: modalias.into(),
        interface: Some(format!("eth{address}")),
        driver: Some(driver.into()),
        module: None,
        binding: Binding::OutOfTree,
        masters: vec![],
        made: vec![],
        since: boot.into(),
        seen: boot.into(),
        missed: vec![],
    }
}

/// One look in a boot, with these devices in use; `routed` are the addresses that carry the default route.
fn look(before: Vec<Known>, now: &[(&str, &str)], boot: &str, routed: &[&str]) -> (Devices, Vec<String>) {
    let here = now.iter().map(|(address, modalias)| known(address, modalias, boot)).collect();
    let mut devices = merged(before, here, &[], boot);
    let lines = outlived(&mut devices, &[], |known| routed.contains(&known.address.as_str()));
    (devices, lines)
}

fn missed(devices: &Devices) -> Vec<&str> {
    devices.gone.iter().flat_map(|known| known.missed.iter().map(String::as_str)).collect()
}

#[test]
fn a_boot_without_a_device_counts_once_and_a_boot_with_it_resets_the_count() {
    let before = look(vec![], &[("3", VF)], "a", &[]).0.list();
    // It disappeared during a boot in which it had been there.
    let (devices, _) = look(before, &[], "a", &[]);
    assert_eq!(missed(&devices), Vec::<&str>::new());
    let (devices, _) = look(devices.list(), &[], "b", &[]);
    let (devices, _) = look(devices.list(), &[], "b", &[]);
    let (devices, lines) = look(devices.list(), &[], "c", &[]);
    assert_eq!((missed(&devices), lines.len()), (vec!["b", "c"], 0));
    let (devices, _) = look(devices.list(), &[("3", VF)], "c", &[]);
    assert_eq!((devices.gone.len(), &devices.here[0].missed, devices.here[0].since.as_str()), (0, &vec![], "a"));
    let (devices, _) = look(devices.list(), &[], "d", &[]);
    assert_eq!(missed(&devices), ["d"]);
}

#[test]
fn after_three_boots_without_a_device_it_is_gone_if_another_one_works() {
    let before = look(vec![], &[("3", VF), ("5", ENA)], "a", &[]).0.list();
    let (devices, _) = look(before, &[("5", ENA)], "b", &["5"]);
    let (devices, _) = look(devices.list(), &[("5", ENA)], "c", &["5"]);
    let (dropped, lines) = look(devices.list(), &[("5", ENA)], "d", &["5"]);
    assert_eq!((dropped.list().len(), lines.len()), (1, 1));
    assert!(lines[0].starts_with("eth3 (3, ixgbevf) is not counted any more"), "{lines:?}");
    // A machine that is cut off is restarted again and again, so its boots do not count.
    for now in [vec![], vec![("5", ENA)]] {
        let mut list = devices.list();
        for boot in 0..3 * MAX_MISSED {
            let (devices, lines) = look(list, &now, &boot.to_string(), &[]);
            assert!(devices.gone.iter().any(|known| known.address == "3") && lines.is_empty(), "{lines:?}");
            assert!(devices.gone.iter().all(|known| known.missed.len() <= MAX_MISSED));
            list = devices.list();
        }
    }
}

#[test]
fn a_later_device_that_carries_the_default_route_replaces_a_missing_one() {
    let before = look(vec![], &[("3", VF)], "a", &[]).0.list();
    let (devices, lines) = look(before.clone(), &[("5", ENA)], "b", &["5"]);
    assert_eq!(devices.list(), [known("5", ENA, "b")]);
    assert_eq!(lines, ["eth3 (3, ixgbevf) is gone; eth5 (5, ena) works in its place: if it comes back it counts again"]);
    // Not before the later device works, and not within the boot in which the other one was there: that is a hot-plug.
    let (devices, lines) = look(before.clone(), &[("5", ENA)], "b", &[]);
    assert_eq!((missed(&devices), lines.len()), (vec!["b"], 0));
    assert_eq!(look(before, &[("5", ENA)], "a", &["5"]).0.gone.len(), 1);
    // The later device came in an earlier boot than this one, and works now.
    assert_eq!(look(devices.list(), &[("5", ENA)], "c", &["5"]).0.gone.len(), 0);
}

#[test]
fn a_device_without_a_driver_is_not_gone_even_if_others_work() {
    let mut list = look(vec![], &[("3", VF)], "a", &[]).0.list();
    let idle = [("3".to_owned(), VF.to_owned())];
    for boot in ["b", "c", "d", "e"] {
        let mut devices = merged(list, vec![known("5", ENA, boot)], &idle, boot);
        assert_eq!((outlived(&mut devices, &idle, |_| true), missed(&devices)), (vec![], vec![]));
        list = devices.list();
    }
}

#[test]
fn a_device_that_was_there_beside_the_missing_one_does_not_replace_it() {
    let before = look(vec![], &[("3", VF), ("5", ENA)], "a", &["5"]).0.list();
    let (devices, lines) = look(before, &[("5", ENA)], "b", &["5"]);
    assert_eq!((devices.gone.len(), lines.len()), (1, 0));
}

#[test]
fn a_device_at_another_address_is_back_and_stands_for_one_missing_device() {
    let before = look(vec![], &[("3", VF), ("4", VF)], "a", &[]).0.list();
    let (devices, _) = look(before, &[("4", VF)], "b", &[]);
    assert_eq!((devices.here[0].since.as_str(), devices.gone[0].address.as_str()), ("a", "3"));
    let (devices, _) = look(devices.list(), &[("4", VF), ("7", VF)], "b", &[]);
    assert_eq!(devices.gone, []);
    assert!(devices.here.iter().all(|known| known.since == "a"));
}

#[test]
fn without_boot_ids_only_a_person_drops_a_device() {
    let mut list = look(vec![], &[("3", VF)], "unknown", &[]).0.list();
    for _ in 0..2 * BOOTS {
        list = look(list, &[("5", ENA)], "unknown", &["5"]).0.list();
    }
    assert_eq!(list.len(), 2);
}

#[test]
fn of_too_many_devices_those_of_a_kind_that_is_kept_are_dropped_first() {
    let mut all: Vec<Known> = (0..200).map(|n| known(&format!("{n:03}"), VF, "a")).collect();
    all.push(known("999", ENA, "a"));
    let list = bounded(all);
    assert_eq!((list.len(), list[0].address.as_str(), list[MAX_DEVICES - 1].modalias.as_str()), (MAX_DEVICES, "000", ENA));
    assert_eq!(bounded((0..200).map(|n| known("1", &format!("{n:03}"), "a")).collect()).len(), MAX_DEVICES);
}

#[test]
fn an_unreadable_record_is_lost_and_a_record_without_devices_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::new(dir.path()).unwrap();
    let lost = || Memory::look(&host, &[], |_| Binding::OutOfTree, true).is_lost();
    assert!(lost());
    for (text, is_lost) in [("", true), ("{\"devices\": [{}]}", true), ("{\"devices\": []}", false)] {
        host.write_atomic(RECORD, text.as_bytes(), 0o644).unwrap();
        assert_eq!(lost(), is_lost, "{text}");
    }
}

#[test]
fn what_another_run_wrote_meanwhile_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::new(dir.path()).unwrap();
    host.write_atomic(BOOT_ID, b"a\n", 0o644).unwrap();
    let (vf, ena) = (known("3", VF, "a"), known("5", ENA, "a"));
    write(&host, vec![vf.clone()]).unwrap();
    let seen = |known: &Known| vec![Device { present: true, ..known.device() }];
    let look = |devices: &[Device]| Memory::look(&host, devices, |_| Binding::OutOfTree, true);
    // One run looks while only the ENA is there; meanwhile a person declines the VF, and another run sees a third device.
    let early = look(&seen(&ena));
    assert_eq!(early.gone(), std::slice::from_ref(&vf));
    forget(&host, &vf).unwrap();
    let third = known("7", "pci:other", "a");
    let raised = generation::current(&host);
    look(&seen(&third)).store(&host, false).unwrap();
    assert_eq!(generation::current(&host), raised + 1, "whoever judged without the third device may go on");
    look(&seen(&third)).store(&host, false).unwrap();
    assert_eq!(generation::current(&host), raised + 1, "nothing is new");
    early.store(&host, false).unwrap();
    assert_eq!(read(&host).unwrap(), [ena, third]);
}

proptest! {
    /// For any sequence of devices, none is dropped without a line, and none that is in use counts as missing.
    #[test]
    fn a_device_is_in_use_or_missing_or_dropped_with_a_line(steps in prop::collection::vec((0u8..4, 0u8..16, 0u8..16), 1..12)) {
        let mut list: Vec<Known> = Vec::new();
        for (boot, present, routed) in steps {
            let all = [("3", VF), ("4", VF), ("5", ENA), ("6", "pci:other")];
            let now: Vec<_> = all.iter().enumerate().filter(|(bit, _)| present >> bit & 1 == 1).map(|(_, d)| *d).collect();
            let routed: Vec<_> = all.iter().enumerate().filter(|(bit, _)| routed >> bit & 1 == 1).map(|(_, d)| d.0).collect();
            let boot = boot.to_string();
            let before = list.clone();
            let (devices, lines) = look(list, &now, &boot, &routed);
            prop_assert_eq!(devices.here.len(), now.len());
            let of = |modalias: &str, list: &[Known]| list.iter().filter(|k| k.modalias == modalias).count();
            let mut dropped = 0;
            for modalias in [VF, ENA, "pci:other"] {
                let (had, have) = (of(modalias, &before), of(modalias, &devices.here));
                let gone = of(modalias, &devices.gone);
                prop_assert!(had.saturating_sub(have) >= gone);
                dropped += had.saturating_sub(have) - gone;
            }
            prop_assert_eq!(dropped, lines.len());
            let works = devices.here.iter().any(|k| routed.contains(&k.address.as_str()));
            prop_assert!(devices.gone.iter().all(|k| (k.missed.len() < BOOTS || !works) && !k.missed.contains(&k.seen)));
            // Looking again changes nothing, so nothing is written.
            let again = look(devices.list(), &now, &boot, &routed);
            prop_assert_eq!((again.0.list(), again.1.len()), (devices.list(), 0));
            list = devices.list();
        }
    }
}
