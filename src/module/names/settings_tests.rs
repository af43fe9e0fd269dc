use super::super::interface_findings;
use super::super::tests::{device, root};
use crate::finding::{Code, Severity};

const MAC: (&str, &str) = ("sys/bus/pci/devices/0000:00:03.0/net/eth0/address", "0a:1b:2c:3d:4e:5f\n");
const HELPER: (&str, &str) = ("usr/lib/udev/rules.d/60-net.rules", "");

/// Whether a missing `net.ifnames=0` is unsafe on a machine with these files, not only a warning.
fn unsafe_with(files: &[(&str, &str)]) -> bool {
    let (_dir, host) = root(&[&[("proc/cmdline", "ro net.ifnames=0"), MAC], files].concat());
    let findings = interface_findings(&host, &device(), "ixgbevf", "ro");
    assert_eq!((findings.len(), findings[0].code), (1, Code::InterfaceRename));
    findings[0].severity() == Severity::Unsafe
}

/// Each file is as the distribution's tools or cloud-init write it.
#[test]
fn settings_that_refer_to_the_interface_only_by_its_name_need_the_word() {
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
        ("etc/netplan/01.yaml", "network:\n  ethernets:\n    all:\n      match: {name: \"eth*\"}\n      dhcp4: true\n"),
        ("etc/netplan/01.yaml", "network:\n  ethernets:\n    all: {match: {name: eth*}, dhcp4: true}\n"),
        ("etc/dhcpcd.conf", "hostname\ninterface eth0\nstatic ip_address=10.0.0.2/24\n"),
        ("etc/dhcpcd.conf", "  interface\teth0 # the first\n\tmetric 100\n"),
        ("etc/dhcpcd.conf", "allowinterfaces eth0 wlan0\n"),
        ("etc/dhcpcd.conf", "allowinterfaces wlan0,eth*\n"),
        // It would configure the interface under another name, or the other way round.
        ("etc/dhcpcd.conf", "denyinterfaces eth0\n"),
        ("etc/dhcpcd.conf", "denyinterfaces veth* en*\n"),
    ] {
        assert!(unsafe_with(&[(path, text)]), "{path}: {text}");
    }
    let sourced = ("etc/network/interfaces", "source /srv/net/*.cfg\n");
    assert!(unsafe_with(&[sourced, ("srv/net/a.cfg", "iface eth0 inet dhcp\n")]));
    assert!(!unsafe_with(&[sourced, ("srv/net/a.not", "iface eth0 inet dhcp\n")]));
}

#[test]
fn settings_that_identify_the_card_in_another_way_do_not_need_the_word() {
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
        ("etc/netplan/01.yaml", "network:\n  ethernets:\n    all: {match: {name: \"e*\"}, dhcp4: true}\n"),
        ("etc/dhcpcd.conf", "hostname\nclientid\npersistent\noption rapid_commit\nslaac private\n"),
        ("etc/dhcpcd.conf", "#interface eth0\n#static ip_address=10.0.0.2/24\ninterface eth1\nnoipv6\n"),
        ("etc/dhcpcd.conf", "allowinterfaces e*\ndenyinterfaces veth* docker0\n"),
    ] {
        assert!(!unsafe_with(&[(path, text)]), "{path}: {text}");
    }
}

/// Netplan's file of Debian's cloud images (/etc/netplan/90-default.yaml).
const DEBIAN: &str = "network:\n    version: 2\n    ethernets:\n        all-en:\n            match:\n                name: en*\n            \
                      dhcp4: true\n            dhcp4-overrides:\n                use-domains: true\n            dhcp6: true\n            \
                      dhcp6-overrides:\n                use-domains: true\n        all-eth:\n            match:\n                \
                      name: eth*\n            dhcp4: true\n            dhcp4-overrides:\n                use-domains: true\n            \
                      dhcp6: true\n            dhcp6-overrides:\n                use-domains: true\n";

/// Patterns count together only if they have the same settings.
#[test]
fn patterns_with_the_same_settings_count_together() {
    let netplan = |name: &str, says: &str| {
        format!("network:\n  ethernets:\n    a:\n      match:\n        name: {name}\n      {says}\n")
    };
    let network = |name: &str, says: &str| format!("[Match]\nName={name}\n{says}\n");
    let keyfile = |id: &str, name: &str, says: &str| {
        format!("[connection]\nid={id}\nuuid={id}\ntype=ethernet\n[match]\ninterface-name={name}\n[ipv4]\n{says}\n")
    };
    let (one, two) = ("etc/netplan/1.yaml", "etc/netplan/2.yaml");
    let (first, second) = ("etc/systemd/network/1.network", "etc/systemd/network/2.network");
    let (a, b) =
        ("etc/NetworkManager/system-connections/a.nmconnection", "etc/NetworkManager/system-connections/b.nmconnection");
    let (auto, dhcpcd) = ("etc/network/interfaces", "etc/dhcpcd.conf");
    let dhcp = "[Network]\nDHCP=yes";
    for (files, refused) in [
        (vec![("etc/netplan/90-default.yaml", DEBIAN.to_owned())], false),
        (vec![("etc/netplan/90-default.yaml", DEBIAN.replacen("dhcp6: true", "dhcp6: false", 1))], true),
        (vec![("etc/netplan/90-default.yaml", DEBIAN.replace("en*", "ens*"))], true),
        (vec![(one, netplan("en*", "dhcp4: true")), (two, netplan("eth*", "dhcp4: true"))], false),
        (vec![(one, netplan("en*", "dhcp4: true")), (two, netplan("eth*", "addresses: [10.0.0.2/24]"))], true),
        (vec![(one, netplan("en*", "dhcp4: true")), (two, netplan("eth0", "dhcp4: true"))], true),
        (vec![(first, network("en*", dhcp)), (second, network("eth*", dhcp))], false),
        (vec![(first, network("en*", dhcp)), (second, network("eth*", "[Network]\nAddress=10.0.0.2/24"))], true),
        (vec![(first, network("en*", "Driver=ena\n[Network]\nDHCP=yes")), (second, network("eth*", dhcp))], true),
        (vec![(first, network("en*", dhcp)), (second, network("eth0", dhcp))], true),
        (vec![(first, network("en*", dhcp)), (one, netplan("eth*", "dhcp4: true"))], true),
        (vec![(a, keyfile("a", "en*", "method=auto")), (b, keyfile("b", "eth*", "method=auto"))], false),
        (vec![(a, keyfile("a", "en*", "method=auto")), (b, keyfile("b", "eth*", "method=manual"))], true),
        (vec![(auto, "allow-hotplug /en*\nallow-hotplug /eth*\n".into())], false),
        (vec![(auto, "allow-hotplug /en* /eth*\n".into())], false),
        (vec![(auto, "auto /en*=net\nauto /eth*=net\niface net inet dhcp\n".into())], false),
        (vec![(auto, "auto /en*=a\nauto /eth*=b\niface a inet dhcp\niface b inet manual\n".into())], true),
        (vec![(auto, "auto /en*\nallow-hotplug /eth*\n".into())], true),
        (vec![(auto, "iface /en* inet6 auto\n autoconf 1\niface /eth* inet6 auto\n autoconf 1\n".into())], false),
        (vec![(auto, "iface /en* inet6 auto\n autoconf 1\niface /eth* inet6 auto\n autoconf 0\n".into())], true),
        (vec![(one, "network: {ethernets: {a: {match: {name: e*}}, b: {match: {name: eth*}}}}\n".into())], true),
        (vec![(one, "network: {ethernets: {a: {match: {name: e*}}}}\n".into())], false),
        (vec![(auto, "allow-hotplug /en*\n".into()), ("etc/network/interfaces.d/b", "allow-hotplug /eth*\n".into())], false),
        (vec![(auto, "allow-hotplug /en*\nallow-hotplug /eth*\niface eth0 inet dhcp\n".into())], true),
        (vec![(dhcpcd, "allowinterfaces en* eth*\n".into())], false),
        (vec![(dhcpcd, "allowinterfaces eth0,en*\n".into())], false),
    ] {
        let named: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        assert_eq!(unsafe_with(&named), refused, "{files:?}");
    }
}

#[test]
fn a_name_from_another_source_is_kept() {
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

/// systemd.link(5): only the first matching file in the order of their names counts.
#[test]
fn only_the_first_matching_link_file_gives_the_name() {
    let known = ("etc/network/interfaces", "iface eth0 inet dhcp\n");
    let own = "[Match]\nMACAddress=0a:1b:2c:3d:4e:5f\n[Link]\nName=eth0\n";
    let pin = ("etc/systemd/network/20-eth0.link", own);
    let usual = "[Match]\nOriginalName=*\n[Link]\nNamePolicy=keep kernel database onboard slot path\n";
    let usb = ("usr/lib/systemd/network/73-usb-net-by-mac.link", "[Match]\nPath=*-usb-*\n[Link]\nNamePolicy=mac\n");
    let policy = |matched: &str| format!("[Match]\n{matched}\n[Link]\nNamePolicy=path\n");
    for (path, text, kept) in [
        ("usr/lib/systemd/network/99-default.link", usual.to_owned(), true),
        ("etc/systemd/network/99-default.link", usual.to_owned(), true),
        ("usr/lib/systemd/network/10-all.link", policy("OriginalName=*"), false),
        ("etc/systemd/network/10-all.link", policy("OriginalName=eth*"), false),
        ("etc/systemd/network/10.link", policy("MACAddress=0a:1b:2c:3d:4e:00"), true),
        ("etc/systemd/network/10.link", policy("MACAddress=0a:1b:2c:3d:4e:00\nMACAddress=0a1b.2c3d.4e5f"), false),
        (
            "etc/systemd/network/10.link",
            policy("MACAddress=0a:1b:2c:3d:4e:5f\nMACAddress=\nMACAddress=0a:1b:2c:3d:4e:00"),
            true,
        ),
        ("etc/systemd/network/10.link", policy("Driver=virtio_net ena"), true),
        ("etc/systemd/network/10.link", policy("Driver=ixgbe*"), false),
        ("etc/systemd/network/10.link", policy("Driver=!ixgbevf"), true),
        ("etc/systemd/network/10.link", policy("Type=wlan"), true),
        ("etc/systemd/network/10.link", policy("Type=ether"), false),
        ("usr/lib/systemd/network/10-ve.link", policy("Kind=veth"), true),
        ("etc/systemd/network/10.link", policy("Path=platform-*"), false),
        ("etc/systemd/network/10.link", policy("Path=pci-0000:00:04.0"), true),
        ("etc/systemd/network/10.link", policy("OriginalName=eth1"), true),
        // Unknown whether this matches.
        ("etc/systemd/network/10.link", policy("Property=ID_X=1"), false),
        ("etc/systemd/network/10.link", policy("KernelVersion=>=6.1"), false),
        ("etc/systemd/network/10.link", policy("Virtualization=container\nType=wlan"), true),
        ("etc/systemd/network/10.link", "[Link]\nMTUBytes=9000\n".into(), false),
        // This gives no name, and no later file does.
        ("etc/systemd/network/10.link", "[Match]\nOriginalName=*\n[Link]\nMTUBytes=9000\n".into(), false),
        ("etc/systemd/network/10.link", String::new(), true),
        ("etc/systemd/network/10.link.d/a.conf", policy("OriginalName=*"), true),
        ("run/systemd/network/10.link", policy("OriginalName=*"), false),
        ("run/systemd/network/10-netplan-eth0.link", own.replace("MAC", "PermanentMAC"), true),
        ("run/systemd/network/10-netplan-eth1.link", own.replace("5f", "00").replace("eth0", "eth1"), true),
        ("usr/lib/systemd/network/20-eth0.link", policy("OriginalName=*"), true),
        ("etc/systemd/network/20-eth0.link.d/a.conf", "[Link]\nNamePolicy=path\n".into(), false),
        ("usr/lib/systemd/network/20-eth0.link.d/a.conf", "[Link]\nName=lan0\n".into(), false),
        ("etc/systemd/network/20-eth0.link.d/a.conf", "[Link]\nMTUBytes=9000\n".into(), true),
    ] {
        assert_eq!(!unsafe_with(&[known, pin, usb, (path, &text)]), kept, "{path}: {text}");
    }
    let run = ("run/systemd/network/20-eth0.link", own);
    assert!(unsafe_with(&[known, run]), "what is in /run may be gone at the next boot");
    let policy = own.replace("Name=", "NamePolicy=path\nName=");
    assert!(unsafe_with(&[known, (pin.0, &policy)]), "a policy counts before the name");
}

#[test]
fn a_masked_link_file_decides_nothing() {
    let pin = ("etc/systemd/network/20-eth0.link", "[Match]\nMACAddress=0a:1b:2c:3d:4e:5f\n[Link]\nName=eth0\n");
    let all = "[Match]\nOriginalName=*\n[Link]\nNamePolicy=path\n";
    let known = ("etc/network/interfaces", "iface eth0 inet dhcp\n");
    let (dir, host) = root(&[("proc/cmdline", "net.ifnames=0"), MAC, known, pin, ("usr/lib/systemd/network/10.link", all)]);
    let severity = || interface_findings(&host, &device(), "ixgbevf", "ro")[0].severity();
    assert_eq!(severity(), Severity::Unsafe);
    let mask = |name: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("/dev/null", path).unwrap();
    };
    mask("run/systemd/network/10.link");
    assert_eq!(severity(), Severity::Unsafe, "what is in /run may be gone at the next boot");
    mask("etc/systemd/network/10.link");
    assert_eq!(severity(), Severity::Warning);
    mask("etc/udev/rules.d/80-net-setup-link.rules");
    let biosdevname = dir.path().join("usr/sbin/biosdevname");
    std::fs::create_dir_all(biosdevname.parent().unwrap()).unwrap();
    std::fs::write(biosdevname, "").unwrap();
    let findings = interface_findings(&host, &device(), "ixgbevf", "net.ifnames=0 biosdevname=1");
    assert_eq!(findings[0].severity(), Severity::Unsafe, "no .link file counts without that rule");
}

#[test]
fn another_link_file_gives_the_name_if_only_the_default_one_is_masked() {
    let known = ("etc/network/interfaces", "iface eth0 inet dhcp\n");
    for (text, severity) in [
        ("[Match]\nOriginalName=*\n[Link]\nNamePolicy=path\n", Severity::Unsafe),
        ("[Match]\nMACAddress=0a:1b:2c:3d:4e:00\n[Link]\nNamePolicy=path\n", Severity::Warning),
    ] {
        let (dir, host) = root(&[("proc/cmdline", "net.ifnames=0"), MAC, known, ("etc/systemd/network/10.link", text)]);
        std::os::unix::fs::symlink("/dev/null", dir.path().join("etc/systemd/network/99-default.link")).unwrap();
        assert_eq!(interface_findings(&host, &device(), "ixgbevf", "ro")[0].severity(), severity, "{text}");
    }
}

#[test]
fn a_udev_rule_counts_only_with_all_its_terms() {
    let known = ("etc/network/interfaces", "iface eth0 inet dhcp\n");
    let vendor = ("sys/bus/pci/devices/0000:00:03.0/vendor", "0x8086\n");
    let mac = "ATTR{address}==\"0a:1b:2c:3d:4e:5f\"";
    let name = "NAME=\"eth0\"";
    for (rule, kept) in [
        (format!("{mac}, {name}"), true),
        (format!("ACTION==\"add|change\", {mac}, {name}"), true),
        (format!("ACTION==\"remove\", {mac}, {name}"), false),
        (format!("ACTION!=\"remove\" {mac} {name}, RUN+=\"/bin/sh -c 'a, b'\""), true),
        (format!("SUBSYSTEM==\"net\", DRIVERS==\"?*\", {mac}, {name}"), true),
        (format!("DRIVERS==\"ixgbevf\", {mac}, {name}"), true),
        (format!("DRIVERS==\"other\", {mac}, {name}"), false),
        (format!("SUBSYSTEM==\"usb\", {mac}, {name}"), false),
        (format!("KERNEL==\"eth*\", {mac}, {name}"), true),
        (format!("KERNEL==\"wlan*\", {mac}, {name}"), false),
        (format!("ATTR{{type}}==\"1\", ATTR{{dev_id}}==\"0x0\", {mac}, {name}"), true),
        (format!("ATTR{{type}}==\"32\", {mac}, {name}"), false),
        (format!("ATTR{{dev_id}}==\"0x1\", {mac}, {name}"), false),
        (format!("SUBSYSTEMS==\"pci\", ATTRS{{vendor}}==\"0x8086\", {mac}, {name}"), true),
        (format!("ATTRS{{vendor}}==\"0x15b3\", {mac}, {name}"), false),
        // The conditions do not match the same parent.
        (format!("DRIVERS==\"?*\", ATTRS{{address}}==\"0a:1b:2c:3d:4e:5f\", {name}"), false),
        (format!("ATTRS{{address}}==\"0a:1b:2c:3d:4e:5f\", {name}"), true),
        // Unknown whether this matches.
        (format!("ENV{{net.ifnames}}==\"0\", {mac}, {name}"), false),
        (format!("PROGRAM=\"/bin/x\", {mac}, {name}"), false),
        (format!("ATTR{{mtu}}==\"1500\", {mac}, {name}"), false),
        (format!("SUBSYSTEM!=\"net\", GOTO=\"end\"\n{mac}, {name}\nLABEL=\"end\""), true),
        (format!("ENV{{X}}==\"1\", GOTO=\"end\"\n{mac}, {name}\nLABEL=\"end\""), false),
        (format!("GOTO=\"end\"\nACTION==\"add\"\nLABEL=\"end\"\n{mac}, {name}"), true),
    ] {
        assert_eq!(!unsafe_with(&[known, vendor, ("etc/udev/rules.d/70.rules", &rule)]), kept, "{rule}");
    }
    let ifname = format!("{mac}, {name}\n");
    assert!(unsafe_with(&[known, ("run/udev/rules.d/80-ifname.rules", &ifname)]), "dracut made it of the word that is lost");
}

#[test]
fn an_added_word_removes_the_slot_name() {
    let mut card = device();
    card.interface = Some("ens3".into());
    for (text, severity) in [
        ("[Match]\nName=ens3\n", Severity::Unsafe),
        ("[Match]\nName=en*\n", Severity::Unsafe),
        ("[Match]\nName=e*\n", Severity::Warning),
    ] {
        let (_dir, host) = root(&[("proc/cmdline", "ro"), ("etc/systemd/network/10.network", text)]);
        let findings = interface_findings(&host, &card, "ixgbevf", "ro net.ifnames=0");
        assert_eq!((findings.len(), findings[0].severity()), (1, severity), "{text}");
    }
}

#[test]
fn words_of_the_command_line_and_unreadable_files_count_too() {
    let (dir, host) = root(&[("proc/cmdline", "net.ifnames=0"), MAC]);
    let severity = |cmdline: &str| interface_findings(&host, &device(), "ixgbevf", cmdline)[0].severity();
    assert_eq!(severity("ip=10.0.0.2::10.0.0.1:255.255.255.0::eth0:none"), Severity::Unsafe);
    assert_eq!((severity("ip=dhcp"), severity("bootdev=eth0")), (Severity::Warning, Severity::Unsafe));
    // A file that is too large cannot be read with any permission, also as root.
    let at = dir.path().join("etc/NetworkManager/system-connections");
    std::fs::create_dir_all(&at).unwrap();
    std::fs::File::create(at.join("huge")).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(severity("ro"), Severity::Unsafe);
}
