use super::*;
use crate::config::AcceptInTree;
use crate::finding::{Code, Severity};
use crate::host::devices::pci::Device;
use crate::verdict::judge::tests::{bad, device, kernel, module, verdict};
use crate::verdict::judge::{judge_kernel, Binding, KernelEvidence, ModuleEvidence, Origin, Role};

#[test]
fn a_master_excuses_its_own_port_and_no_other_device() {
    let master = || vec![Master { name: "bond0".into(), kind: Kind::Bond, min_links: 1, early: false, lacks: None }];
    let named = |need: &Need, address: &str, interface: &str| {
        let device = Device { address: address.into(), interface: Some(interface.into()), ..need.device.clone().unwrap() };
        Need { device: Some(device), masters: master(), ..need.clone() }
    };
    let mut evidence = kernel(Binding::OutOfTree, vec![module(Origin::Prebuilt, vec![bad()])]);
    let lost = named(&evidence.needs[0], "0000:00:03.0", "eth0");
    let other = Need { recipe: None, candidates: vec![module(Origin::InTree, vec![])], ..lost.clone() };
    evidence.needs = vec![lost.clone(), named(&other, "0000:00:04.0", "eth1")];
    assert_eq!(verdict(&evidence, AcceptInTree::Auto), (Verdict::Safe, true), "a build is still wanted");
    // A device without a master needs the same file, so both have the same finding.
    let alone = Need { masters: vec![], ..named(&lost, "0000:00:05.0", "eth2") };
    evidence.needs.push(alone);
    assert_eq!(verdict(&evidence, AcceptInTree::Auto).0, Verdict::Unsafe);
    evidence.needs.pop();
    // A module that may be loaded and do harm is worse than none.
    evidence.needs[0].candidates[0].findings.push(Finding::new(Fact::NotElf, "its struct module", "x"));
    assert_eq!(verdict(&evidence, AcceptInTree::Auto).0, Verdict::Unsafe);
    evidence.needs[0] = lost;
    for spoil in [
        (|need| need.link = Link::Unknown) as fn(&mut Need),
        |need| need.missing = true,
        |need| need.device.as_mut().unwrap().driver = None,
        |need| need.candidates.clear(),
        |need| need.masters[0].name = "bond1".into(),
        |need| need.device.as_mut().unwrap().address = "0000:00:03.0".into(),
    ] {
        let mut spoilt = evidence.clone();
        spoil(&mut spoilt.needs[1]);
        assert_eq!(verdict(&spoilt, AcceptInTree::Auto).0, Verdict::Unsafe, "{:?}", spoilt.needs[1]);
    }
    evidence.needs[0].masters[0].lacks = Some("bonding".into());
    assert_eq!(verdict(&evidence, AcceptInTree::Auto).0, Verdict::Unsafe);
}

/// bond0 with a port whose module is refused and another port that is driven.
fn bonded(refused: ModuleEvidence) -> KernelEvidence {
    let mut evidence = kernel(Binding::OutOfTree, vec![refused]);
    let mut lost = evidence.needs.remove(0);
    lost.masters = vec![Master { name: "bond0".into(), kind: Kind::Bond, min_links: 1, early: false, lacks: None }];
    let device = Device { address: "0000:00:04.0".into(), interface: Some("eth1".into()), ..device(Some("ena")) };
    let own = module(Origin::InTree, vec![]);
    let other = Need { device: Some(device), recipe: None, candidates: vec![own], ..lost.clone() };
    evidence.needs = vec![lost, other];
    evidence
}

#[test]
fn a_master_excuses_only_a_module_that_is_certainly_not_loaded() {
    let with = |fact| {
        let finding = Finding::new(fact, "x", "y");
        assert!(finding.refuses(), "{fact:?}");
        verdict(&bonded(module(Origin::Prebuilt, vec![finding])), AcceptInTree::Auto).0
    };
    for fact in [Fact::ModuleMissing, Fact::WrongArch, Fact::SymbolCrc, Fact::SymbolMissing, Fact::Unsigned] {
        assert_eq!(with(fact), Verdict::Safe, "{fact:?}");
    }
    for fact in [
        Fact::ModuleUnreadable,
        Fact::VermagicRelease,
        Fact::VermagicFlags,
        Fact::SymbolUnversioned,
        Fact::SymbolRestricted,
        Fact::VersionsMissing,
        Fact::DependencyMissing,
        Fact::DepmodStale,
        Fact::Blacklisted,
        Fact::SymversMissing,
    ] {
        assert_eq!(with(fact), Verdict::Unsafe, "{fact:?}");
    }
}

#[test]
fn an_unwanted_driver_that_is_loaded_anyway_is_not_a_lost_device() {
    let evidence = bonded(module(Origin::InTree, vec![]));
    assert_eq!(verdict(&evidence, AcceptInTree::Auto), (Verdict::Unsafe, true));
    assert_eq!(verdict(&evidence, AcceptInTree::Always), (Verdict::Safe, false));
}

#[test]
fn a_missing_device_with_the_name_of_the_other_port_changes_nothing() {
    let mut evidence = bonded(module(Origin::Prebuilt, vec![bad()]));
    let mut gone = Need { missing: true, candidates: vec![], ..evidence.needs[1].clone() };
    let device = gone.device.as_mut().unwrap();
    (device.address, device.present) = ("0000:00:09.0".into(), false);
    gone.masters.clear();
    evidence.needs.push(gone.clone());
    let told = |evidence: &KernelEvidence| {
        let (report, _) = judge_kernel(evidence, Role::Next, AcceptInTree::Auto);
        report.findings.into_iter().filter(|f| f.code == Code::DeviceRedundant).collect::<Vec<_>>()
    };
    assert!(told(&evidence).iter().any(|f| f.severity() == Severity::Warning && f.detail.ends_with("by eth1")));
    // A device that is there under that name does.
    let there = evidence.needs[2].device.as_mut().unwrap();
    there.present = true;
    assert!(told(&evidence).iter().all(|f| f.severity() == Severity::Info), "{:?}", told(&evidence));
}

#[test]
fn a_refusal_comes_with_the_reason_why_the_master_does_not_count() {
    let told = |spoil: fn(&mut KernelEvidence)| {
        let mut evidence = bonded(module(Origin::Prebuilt, vec![bad()]));
        spoil(&mut evidence);
        let (report, work) = judge_kernel(&evidence, Role::Next, AcceptInTree::Auto);
        assert_eq!(report.verdict, Verdict::Unsafe);
        let told: Vec<_> = report.findings.iter().filter(|f| f.code == Code::DeviceRedundant).collect();
        assert!(told.len() == 1 && told[0].severity() == Severity::Info && !work.does_without, "{told:?}");
        told[0].detail.clone()
    };
    for (spoil, why) in [
        ((|e| e.needs[0].masters[0].lacks = Some("bonding".into())) as fn(&mut KernelEvidence), "6.1 cannot load bonding"),
        (|e| e.needs[1].link = Link::Down, "no other port of it has a link and a driver of 6.1"),
        (|e| e.needs[0].masters[0].min_links = 2, "it wants 2 links, and only eth1 is left under 6.1"),
        (|e| e.needs[0].masters[0].kind = Kind::Other, "nothing says that its ports lead to one network"),
    ] {
        let (told, kind) = (told(spoil), if why.starts_with("nothing") { "of another kind" } else { "bond" });
        assert_eq!(told, format!("eth0 (0000:00:03.0): its master bond0 ({kind}) does not count: {why}"));
    }
}
