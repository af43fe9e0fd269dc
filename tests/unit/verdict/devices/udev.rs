//! vfguard's udev rules: which devices start the watch.

/// The units that our udev rules start for a device, as far as they use conditions, TEST, GOTO and additions to SYSTEMD_WANTS (udev(7)).
fn udev(keys: &[(&str, &str)], decided: bool) -> Vec<String> {
    let rules = include_str!("../../../../packaging/udev/60-vfguard.rules");
    let (mut wants, mut skip) = (Vec::new(), None);
    for line in rules.lines().filter(|l| !l.starts_with('#')) {
        if skip.is_some_and(|label| line != format!("LABEL=\"{label}\"")) {
            continue;
        }
        skip = None;
        let mut applies = true;
        for part in line.split(", ") {
            let (left, right) = part.split_once('=').unwrap();
            let value = right.trim_start_matches('=').trim_matches('"');
            let key = left.trim_end_matches(['!', '+']);
            let matches = || match key {
                "TEST" => decided && value == "/run/vfguard/generation",
                _ => {
                    keys.iter().any(|(k, v)| *k == key && value.strip_suffix('*').map_or(*v == value, |p| v.starts_with(p)))
                }
            };
            match (left.chars().next_back(), right.starts_with('=')) {
                (Some('!'), _) => applies &= !matches(),
                (_, true) => applies &= matches(),
                _ if !applies || key == "LABEL" => {}
                _ if key == "GOTO" => skip = Some(value),
                _ if key == "ENV{SYSTEMD_WANTS}" => wants.push(value.to_owned()),
                _ => assert_eq!((left, value), ("TAG+", "systemd"), "not known here"),
            }
        }
    }
    wants
}

#[test]
fn a_network_device_after_the_boots_decision_starts_the_watch_and_a_virtual_one_does_not() {
    let card = "/devices/pci0000:00/0000:00:03.0";
    let pci = [("ACTION", "add"), ("SUBSYSTEM", "pci"), ("ATTR{class}", "0x020000"), ("DEVPATH", card)];
    let interface = "/devices/pci0000:00/0000:00:03.0/net/eth0";
    let net = [("ACTION", "add"), ("SUBSYSTEM", "net"), ("DEVPATH", interface)];
    for device in [&pci[..], &net] {
        assert_eq!(udev(device, true), ["vfguard-watch.service"], "{device:?}");
        assert!(udev(device, false).is_empty(), "before the boot's own decision: {device:?}");
        let acted =
            |act: &'static str| device.iter().map(|(k, v)| (*k, if *v == "add" { act } else { v })).collect::<Vec<_>>();
        // udev reports a renamed interface with this action when it is ready.
        assert_eq!(udev(&acted("move"), true), ["vfguard-watch.service"], "{device:?}");
        assert!(udev(&acted("remove"), true).is_empty(), "{device:?}");
    }
    let veth = [("ACTION", "add"), ("SUBSYSTEM", "net"), ("DEVPATH", "/devices/virtual/net/veth1a2b")];
    let disk = [("ACTION", "add"), ("SUBSYSTEM", "pci"), ("ATTR{class}", "0x010802"), ("DEVPATH", card)];
    assert!(udev(&veth, true).is_empty() && udev(&disk, true).is_empty());
}
