use super::super::tests::{device, root};
use super::super::{interface_findings, Code};
use crate::finding::Severity;

const MAC: (&str, &str) = ("sys/bus/pci/devices/0000:00:03.0/net/eth0/address", "0a:1b:2c:3d:4e:5f\n");
const HELPER: (&str, &str) = ("usr/lib/udev/rules.d/60-net.rules", "");

/// What a lost `net.ifnames=0` is for a machine with these files: unsafe, or a warning.
fn unsafe_with(files: &[(&str, &str)]) -> bool {
    let (_dir, host) = root(&[&[("proc/cmdline", "ro net.ifnames=0"), MAC], files].concat());
    let findings = interface_findings(&host, &device(), "ixgbevf", "ro");
    assert_eq!((findings.len(), findings[0].code), (1, Code::InterfaceRename));
    findings[0].severity == Severity::Unsafe
}

/// Each file as the distribution's tools or cloud-init write it.
#[test]
fn settings_that_know_the_interface_by_its_name_alone_need_the_word() {
    for (path, text) in [
        ("etc/sysconfig/network-scripts/ifcfg-eth0", "DEVICE=eth0\nBOOTPROTO=dhcp\nONBOOT=yes\nTYPE=Ethernet\n"),
        ("etc/sysconfig/network-scripts/ifcfg-eth0", "DEVICE=\"eth0\"\nNAME='System eth0'\n"),
        ("etc/sysconfig/network-scripts/ifcfg-System_eth0", "TYPE=Ethernet\nDEVICE=eth0 # first\n"),
        ("etc/sysconfig/network-scripts/ifcfg-eth0", "TYPE=Ethernet\nBOOTPROTO=dhcp\n"),
        ("etc/sysconfig/network-scripts/ifcfg-eth0", "DEVICE=eth0\nHWADDR=0A:1B:2C:3D:4E:5F\n"),
        ("etc/sysconfig/network/ifcfg-eth0", "BOOTPROTO='dhcp'\nSTARTMODE='auto'\n"),
        (
            "etc/NetworkManager/system-connections/eth0.nmconnection",
            "[connection]\nid=eth0\nuuid=1\ntype=ethernet\ninterface-name=eth0\n\n[ipv4]\nmethod=auto\n",
        ),
        ("etc/NetworkManager/system-connections/Wired connection 1", "[connection]\ntype=ethernet\ninterface-name=eth0\n"),
        (
            "etc/NetworkManager/system-connections/a.nmconnection",
            "[connection]\ntype=ethernet\n[match]\ninterface-name=eth*;\n",
        ),
        ("etc/NetworkManager/system-connections/v.nmconnection", "[connection]\ntype=vlan\n[vlan]\nid=5\nparent=eth0\n"),
        ("etc/systemd/network/10-eth0.network", "[Match]\nName=eth0\n\n[Network]\nDHCP=yes\n"),
        ("etc/systemd/network/10-eth.network", "[Match]\nName=eth*\n[Network]\nDHCP=yes\n"),
        ("etc/systemd/network/10-cloud-init-eth0.network", "[Match]\nMACAddress=0a:1b:2c:3d:4e:5f\nName=eth0\n"),
        ("usr/lib/systemd/network/80-image.network.d/10.conf", "[Match]\nName=eth0\n"),
        (
            "etc/netplan/01.yaml",
            "network:\n  version: 2\n  renderer: networkd\n  ethernets:\n    eth0:\n      dhcp4: true\n",
        ),
        ("etc/netplan/01.yaml", "network: {version: 2, ethernets: {eth0: {dhcp4: true}}}\n"),
        ("etc/netplan/01.yaml", "network:\n    ethernets:\n        \"eth0\": {dhcp4: true}\n"),
        (
            "etc/netplan/01.yaml",
            "network:\n  ethernets:\n    all:\n      match:\n        name: \"eth*\"\n      dhcp4: true\n",
        ),
        ("etc/network/interfaces", "auto lo\niface lo inet loopback\n\nallow-hotplug eth0\niface eth0 inet dhcp\n"),
        ("etc/network/interfaces", "auto lo eth0\n"),
        ("etc/network/interfaces", "auto /eth*\n"),
        ("etc/network/interfaces.d/50-cloud-init", "auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet dhcp\n"),
    ] {
        assert!(unsafe_with(&[(path, text)]), "{path}: {text}");
    }
    let sourced = ("etc/network/interfaces", "source /srv/net/*.cfg\n");
    assert!(unsafe_with(&[sourced, ("srv/net/a.cfg", "iface eth0 inet dhcp\n")]));
    assert!(!unsafe_with(&[sourced, ("srv/net/a.not", "iface eth0 inet dhcp\n")]));
}

#[test]
fn settings_that_find_the_card_otherwise_do_not() {
    for (path, text) in [
        ("etc/sysconfig/network-scripts/ifcfg-primary", "TYPE=Ethernet\nHWADDR=0a:1b:2c:3d:4e:5f\nONBOOT=yes\n"),
        ("etc/sysconfig/network-scripts/ifcfg-eth0", "TYPE=Ethernet\nHWADDR=0a:1b:2c:3d:4e:5f\n"),
        ("etc/sysconfig/network-scripts/ifcfg-eth1", "DEVICE=eth1\n"),
        ("etc/sysconfig/network-scripts/ifcfg-eth0.rpmsave", "DEVICE=eth0\n"),
        (
            "etc/NetworkManager/system-connections/a.nmconnection",
            "[connection]\ntype=ethernet\n[ethernet]\nmac-address=0A:1B:2C:3D:4E:5F\n",
        ),
        ("etc/NetworkManager/system-connections/a.nmconnection", "[connection]\nid=any\ntype=ethernet\n"),
        (
            "etc/NetworkManager/system-connections/a.nmconnection",
            "[connection]\ntype=ethernet\n[match]\ninterface-name=e*\npath=pci-0000:00:03.0;\n",
        ),
        ("etc/systemd/network/10.network", "[Match]\nName=en* eth*\n[Network]\nDHCP=yes\n"),
        ("etc/systemd/network/10.network", "[Match]\nName=e*\n"),
        ("etc/systemd/network/10.network", "[Match]\nName=!docker0 lo\n"),
        ("etc/systemd/network/10.network", "[Match]\nMACAddress=0a:1b:2c:3d:4e:5f\n[Network]\nAddress=10.0.0.2/24\n"),
        ("usr/lib/systemd/network/80-ec2.network", "[Match]\nDriver=ena ixgbevf vif\n[Network]\nDHCP=yes\n"),
        ("etc/systemd/network/10.network", "[Match]\nPath=pci-0000:00:03.0\n"),
        ("etc/systemd/network/10.network", "[Match]\n# Name=eth0\nType=ether\n"),
        ("etc/netplan/01.yaml", "network:\n  ethernets:\n    any:\n      match:\n        name: \"e*\"\n      dhcp4: true\n"),
        (
            "etc/netplan/50-cloud-init.yaml",
            "network:\n    version: 2\n    ethernets:\n        eth0:\n            dhcp4: true\n            match:\n                \
             macaddress: 0a:1b:2c:3d:4e:5f\n            set-name: eth0\n",
        ),
        ("etc/netplan/01.yaml", "network:\n  ethernets:\n    eth0:\n      match: {macaddress: \"0a:1b:2c:3d:4e:5f\"}\n"),
        ("etc/netplan/01.yaml", "network:\n  ethernets:\n    eth1:\n      dhcp4: true\n"),
        ("etc/network/interfaces", "auto lo\niface lo inet loopback\nauto eth1\n# iface eth0 inet dhcp\n"),
        ("etc/network/interfaces", "auto /e*\n"),
    ] {
        assert!(!unsafe_with(&[(path, text)]), "{path}: {text}");
    }
}

#[test]
fn a_name_that_something_else_gives_is_kept() {
    let known = ("etc/network/interfaces", "iface eth0 inet dhcp\n");
    let persistent = "SUBSYSTEM==\"net\", ACTION==\"add\", DRIVERS==\"?*\", ATTR{address}==\"0a:1b:2c:3d:4e:5f\", \
                      ATTR{dev_id}==\"0x0\", ATTR{type}==\"1\", KERNEL==\"eth*\", NAME=\"eth0\"\n";
    for (path, text, kept) in [
        ("etc/udev/rules.d/70-persistent-net.rules", persistent.to_owned(), true),
        ("etc/udev/rules.d/70-persistent-net.rules", format!("# {persistent}"), false),
        ("etc/udev/rules.d/70-persistent-net.rules", persistent.replace("5f", "00"), false),
        ("etc/udev/rules.d/70-persistent-net.rules", persistent.replace("NAME=\"eth0\"", "NAME==\"eth0\""), false),
        ("etc/udev/rules.d/70.rules", "SUBSYSTEM==\"net\", KERNELS==\"0000:00:03.0\", NAME=\"eth0\"\n".into(), true),
        ("etc/systemd/network/10.link", "[Match]\nMACAddress=0A:1B:2C:3D:4E:5F\n[Link]\nName=eth0\n".into(), true),
        ("etc/systemd/network/10.link", "[Match]\nPath=pci-0000:00:03.0\nType=ether\n[Link]\nName=eth0\n".into(), true),
        ("etc/systemd/network/10.link", "[Match]\nPath=pci-0000:00:04.0\n[Link]\nName=eth0\n".into(), false),
        ("etc/systemd/network/10.link", "[Match]\nType=ether\n[Link]\nName=eth0\n".into(), false),
        ("etc/systemd/network/10.link", "[Match]\nMACAddress=0a:1b:2c:3d:4e:5f\n[Link]\nName=lan0\n".into(), false),
    ] {
        assert_eq!(!unsafe_with(&[known, (path, &text)]), kept, "{path}: {text}");
    }
    let address = ("etc/sysconfig/network-scripts/ifcfg-eth0", "DEVICE=eth0\nHWADDR=0A:1B:2C:3D:4E:5F\n");
    assert!(!unsafe_with(&[address, HELPER]), "EL's helper renames by HWADDR");
    let other = ("etc/sysconfig/network-scripts/ifcfg-eth0", "DEVICE=eth0\nHWADDR=0A:1B:2C:3D:4E:00\n");
    assert!(unsafe_with(&[other, HELPER]));
}

#[test]
fn a_word_that_is_added_takes_the_slots_name_away() {
    let mut card = device();
    card.interface = Some("ens3".into());
    for (text, severity) in [
        ("[Match]\nName=ens3\n", Severity::Unsafe),
        ("[Match]\nName=en*\n", Severity::Unsafe),
        ("[Match]\nName=e*\n", Severity::Warning),
    ] {
        let (_dir, host) = root(&[("proc/cmdline", "ro"), ("etc/systemd/network/10.network", text)]);
        let findings = interface_findings(&host, &card, "ixgbevf", "ro net.ifnames=0");
        assert_eq!((findings.len(), findings[0].severity), (1, severity), "{text}");
    }
}

#[test]
fn words_of_the_command_line_and_what_cannot_be_read_count_too() {
    let (dir, host) = root(&[("proc/cmdline", "net.ifnames=0"), MAC]);
    let severity = |cmdline: &str| interface_findings(&host, &device(), "ixgbevf", cmdline)[0].severity;
    assert_eq!(severity("ip=10.0.0.2::10.0.0.1:255.255.255.0::eth0:none"), Severity::Unsafe);
    assert_eq!((severity("ip=dhcp"), severity("bootdev=eth0")), (Severity::Warning, Severity::Unsafe));
    // Too large is an error that no permission lifts.
    let at = dir.path().join("etc/NetworkManager/system-connections");
    std::fs::create_dir_all(&at).unwrap();
    std::fs::File::create(at.join("huge")).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(severity("ro"), Severity::Unsafe);
}
