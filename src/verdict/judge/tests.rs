use super::*;
use crate::finding::{Code, Severity};
use proptest::prelude::*;
use std::path::Path;

pub(super) fn device(driver: Option<&str>) -> Device {
    Device {
        address: "0000:00:03.0".into(),
        modalias: "pci:v00008086d000010EDsv00008086sd00000000bc02sc00i00".into(),
        interface: Some("eth0".into()),
        driver: driver.map(str::to_owned),
        module: driver.map(str::to_owned),
        class: 0x02_0000,
        driver_override: None,
        present: true,
    }
}

pub(super) fn module(origin: Origin, findings: Vec<Finding>) -> ModuleEvidence {
    let path = Some(format!("/lib/modules/6.1/{origin:?}/ixgbevf.ko").into());
    ModuleEvidence { name: "ixgbevf".into(), path, version: None, build_id: None, origin, findings }
}

fn recipe() -> Rc<Recipe> {
    let text = include_str!("../../../packaging/drivers.d/ixgbevf.toml");
    Rc::new(Recipe::parse(text, Path::new("ixgbevf.toml")).unwrap())
}

pub(super) fn bad() -> Finding {
    Finding::new(Fact::SymbolCrc, "90 of 160", "vfguard prepare 6.1")
}

pub(super) fn kernel(binding: Binding, candidates: Vec<ModuleEvidence>) -> KernelEvidence {
    let need = Need {
        device: Some(device(Some("ixgbevf"))),
        recipe: Some(recipe()),
        required: false,
        binding,
        missing: false,
        unbuildable: false,
        masters: vec![],
        link: Link::Up,
        candidates,
    };
    KernelEvidence {
        release: "6.1".parse().unwrap(),
        needs: vec![need],
        findings: vec![],
        proven_by_use: false,
        undecided: None,
    }
}

pub(super) fn verdict(evidence: &KernelEvidence, accept: AcceptInTree) -> (Verdict, bool) {
    let (report, work) = judge_kernel(evidence, Role::Next, accept);
    (report.verdict, !work.builds.is_empty())
}

#[test]
fn an_in_tree_driver_serves_where_one_is_bound_now_and_nothing_is_built() {
    let evidence = kernel(Binding::InTree, vec![module(Origin::InTree, vec![])]);
    assert_eq!(verdict(&evidence, AcceptInTree::Auto), (Verdict::Safe, false));
    let (report, _) = judge_kernel(&evidence, Role::Next, AcceptInTree::Auto);
    assert!(report.findings.iter().any(|f| f.code == Code::InTree && f.severity() == Severity::Info));
}

#[test]
fn where_an_out_of_tree_driver_is_bound_now_the_new_kernel_needs_one() {
    let evidence = kernel(Binding::OutOfTree, vec![module(Origin::InTree, vec![])]);
    assert_eq!(verdict(&evidence, AcceptInTree::Auto), (Verdict::Unsafe, true));
    assert_eq!(verdict(&evidence, AcceptInTree::Always), (Verdict::Safe, false));
    let evidence = kernel(Binding::OutOfTree, vec![module(Origin::Built, vec![])]);
    assert_eq!(verdict(&evidence, AcceptInTree::Auto), (Verdict::Safe, false));
}

#[test]
fn without_a_bound_driver_the_recipes_is_built_and_an_in_tree_one_accepted() {
    let evidence = kernel(Binding::Unbound, vec![module(Origin::InTree, vec![])]);
    assert_eq!(verdict(&evidence, AcceptInTree::Auto), (Verdict::Safe, true));
}

#[test]
fn never_and_required_need_the_recipes_driver() {
    let mut evidence = kernel(Binding::InTree, vec![module(Origin::InTree, vec![])]);
    assert_eq!(verdict(&evidence, AcceptInTree::Never), (Verdict::Unsafe, true));
    evidence.needs[0].required = true;
    assert_eq!(verdict(&evidence, AcceptInTree::Always), (Verdict::Unsafe, true));
}

#[test]
fn fallback_is_like_auto_until_no_release_builds_and_then_accepts_a_proven_in_tree_driver() {
    let own = || module(Origin::InTree, vec![]);
    let built = |findings| module(Origin::Built, findings);
    let poor = || module(Origin::InTree, vec![bad()]);
    for (binding, candidates, tried, expected) in [
        (Binding::OutOfTree, vec![own()], false, (Verdict::Unsafe, true)),
        (Binding::OutOfTree, vec![own()], true, (Verdict::Safe, false)),
        (Binding::OutOfTree, vec![poor()], true, (Verdict::Unsafe, true)),
        (Binding::OutOfTree, vec![], true, (Verdict::Unsafe, true)),
        (Binding::OutOfTree, vec![built(vec![]), own()], true, (Verdict::Safe, false)),
        (Binding::OutOfTree, vec![built(vec![bad()]), own()], true, (Verdict::Safe, false)),
        (Binding::OutOfTree, vec![built(vec![bad()]), own()], false, (Verdict::Unsafe, true)),
        (Binding::InTree, vec![own()], true, (Verdict::Safe, false)),
        (Binding::InTree, vec![own()], false, (Verdict::Safe, false)),
        (Binding::Unbound, vec![own()], false, (Verdict::Safe, true)),
    ] {
        let mut evidence = kernel(binding, candidates);
        evidence.needs[0].unbuildable = tried;
        assert_eq!(verdict(&evidence, AcceptInTree::Fallback), expected, "{evidence:?}");
        let (report, work) = judge_kernel(&evidence, Role::Next, AcceptInTree::Fallback);
        let has_ours = evidence.needs[0].candidates.iter().any(|m| m.origin == Origin::Built && m.findings.is_empty());
        let fell_back = tried && binding == Binding::OutOfTree && expected.0 == Verdict::Safe && !has_ours;
        let told = report.findings.iter().any(|f| f.code == Code::InTreeFallback && f.severity() == Severity::Warning);
        assert_eq!((told, work.does_without), (fell_back, fell_back), "{evidence:?}");
        let names = |f: &Finding| f.code != Code::InTreeFallback || f.remedy.contains(" --driver ixgbevf --source ");
        assert!(report.findings.iter().all(names), "more than one driver may be needed: {report:?}");
        // The other policies do not depend on what was tried.
        for other in [AcceptInTree::Auto, AcceptInTree::Always, AcceptInTree::Never] {
            let mut untried = evidence.clone();
            untried.needs[0].unbuildable = false;
            assert_eq!(verdict(&evidence, other), verdict(&untried, other), "{other:?}");
        }
        evidence.needs[0].required = true;
        assert_eq!(verdict(&evidence, AcceptInTree::Fallback).0 == Verdict::Safe, has_ours, "{evidence:?}");
    }
}

#[test]
fn a_required_driver_without_a_device_is_refused_and_built() {
    let mut evidence = kernel(Binding::Unbound, vec![]);
    evidence.needs[0].required = true;
    evidence.needs[0].device = None;
    assert_eq!(verdict(&evidence, AcceptInTree::Auto), (Verdict::Unsafe, true));
}

#[test]
fn a_device_in_use_that_nothing_claims_is_refused_and_cannot_be_built() {
    let mut evidence = kernel(Binding::InTree, vec![]);
    evidence.needs[0].recipe = None;
    let (report, work) = judge_kernel(&evidence, Role::Next, AcceptInTree::Auto);
    assert_eq!(report.findings[0].code, Code::DeviceUnclaimed);
    assert!(work.builds.is_empty());
}

#[test]
fn a_kernel_that_works_now_is_excused_by_use() {
    let mut evidence = kernel(Binding::OutOfTree, vec![module(Origin::Prebuilt, vec![bad()])]);
    assert_eq!(verdict(&evidence, AcceptInTree::Auto).0, Verdict::Unsafe);
    evidence.proven_by_use = true;
    let (report, _) = judge_kernel(&evidence, Role::Next, AcceptInTree::Auto);
    assert_eq!(report.verdict, Verdict::Safe);
    assert!(report.findings.iter().any(|f| f.code == Code::ProvenByUse && f.severity() == Severity::Warning));
    evidence.findings.push(Finding::new(Fact::InitramfsStale, "gone", "rebuild it"));
    assert_eq!(
        verdict(&evidence, AcceptInTree::Auto).0,
        Verdict::Unsafe,
        "use does not prove what the next boot finds elsewhere"
    );
}

#[test]
fn a_finding_about_a_copy_that_is_not_loaded_is_not_excused() {
    let mut evidence =
        kernel(Binding::OutOfTree, vec![module(Origin::InTree, vec![]), module(Origin::Prebuilt, vec![bad()])]);
    evidence.proven_by_use = true;
    assert_eq!(verdict(&evidence, AcceptInTree::Auto).0, Verdict::Unsafe);
}

#[test]
fn a_hidden_in_tree_driver_is_reported_only_behind_one_that_does_not_load() {
    let hidden = Finding::new(Fact::Shadowed, "modprobe would load another", "depmod");
    assert_eq!(hidden.code, Code::Shadowed);
    let told = |own: Vec<Finding>| {
        let evidence = kernel(Binding::OutOfTree, vec![module(Origin::Built, vec![bad()]), module(Origin::InTree, own)]);
        let (report, _) = judge_kernel(&evidence, Role::Next, AcceptInTree::Auto);
        report.findings.iter().any(|f| f.code == Code::InTree && f.severity() == Severity::Warning)
    };
    assert!(told(vec![hidden.clone()]));
    assert!(!told(vec![hidden, bad()]), "it would not load either");
}

#[test]
fn no_kernel_to_judge_is_unknown() {
    assert_eq!(judge(vec![], None).verdict, Verdict::Unknown);
    assert_eq!(judge(vec![], Some(&Finding::new(Fact::BootUnknown, "x", "y"))).verdict, Verdict::Unknown);
}

#[test]
fn an_uncertain_next_boot_is_a_warning_only_if_all_are_safe() {
    let good =
        judge_kernel(&kernel(Binding::InTree, vec![module(Origin::InTree, vec![])]), Role::Installed, AcceptInTree::Auto).0;
    let (poor, _) = judge_kernel(&kernel(Binding::InTree, vec![]), Role::Installed, AcceptInTree::Auto);
    let why = Finding::new(Fact::BootUnknown, "no boot loader known", "boot.loader = \"none\"");
    assert_eq!(judge(vec![good.clone(), good.clone()], Some(&why)).verdict, Verdict::Safe);
    let judged = judge(vec![good, poor], Some(&why));
    assert_eq!(judged.verdict, Verdict::Unsafe);
    assert!(judged.kernels[1].findings.iter().any(|f| f.code == Code::BootUnknown && f.severity() == Severity::Unsafe));
    assert_eq!(judged.kernels[0].verdict, Verdict::Safe, "a proven kernel stays proven");
}

fn any_module() -> impl Strategy<Value = ModuleEvidence> {
    let origins = prop_oneof![Just(Origin::Built), Just(Origin::Prebuilt), Just(Origin::InTree), Just(Origin::Unknown)];
    (origins, any::<bool>()).prop_map(|(origin, ok)| module(origin, if ok { vec![] } else { vec![bad()] }))
}

fn any_kernel() -> impl Strategy<Value = KernelEvidence> {
    let binding = prop_oneof![Just(Binding::Unbound), Just(Binding::InTree), Just(Binding::OutOfTree)];
    let flags = any::<[bool; 4]>();
    (binding, prop::collection::vec(any_module(), 0..4), flags).prop_map(
        |(binding, candidates, [required, proven, recipe, unbuildable])| {
            let mut evidence = kernel(binding, candidates);
            evidence.needs[0].unbuildable = unbuildable && recipe;
            evidence.needs[0].required = required && recipe;
            evidence.proven_by_use = proven;
            if !recipe {
                evidence.needs[0].recipe = None;
            }
            evidence
        },
    )
}

fn any_policy() -> impl Strategy<Value = AcceptInTree> {
    prop_oneof![
        Just(AcceptInTree::Auto),
        Just(AcceptInTree::Always),
        Just(AcceptInTree::Never),
        Just(AcceptInTree::Fallback)
    ]
}

/// Safer means smaller here: `Safe < Unknown < Unsafe`.
fn safe(evidence: &KernelEvidence, accept: AcceptInTree) -> bool {
    verdict(evidence, accept).0 == Verdict::Safe
}

proptest! {
    #[test]
    fn adding_an_unsafe_finding_never_makes_a_kernel_safer(evidence in any_kernel(), accept in any_policy(), at in any::<prop::sample::Index>()) {
        let before = safe(&evidence, accept);
        let mut kernel_level = evidence.clone();
        kernel_level.findings.push(bad());
        prop_assert!(before || !safe(&kernel_level, accept));
        let mut module_level = evidence.clone();
        let candidates = &mut module_level.needs[0].candidates;
        if !candidates.is_empty() {
            let i = at.index(candidates.len());
            candidates[i].findings.push(Finding::new(Fact::Shadowed, "s", "r"));
            prop_assert!(before || !safe(&module_level, accept));
        }
    }

    #[test]
    fn removing_evidence_never_makes_a_kernel_safer(evidence in any_kernel(), accept in any_policy()) {
        let before = safe(&evidence, accept);
        let mut fewer = evidence.clone();
        fewer.needs[0].candidates.clear();
        prop_assert!(before || !safe(&fewer, accept));
        let mut unproven = evidence.clone();
        unproven.proven_by_use = false;
        prop_assert!(before || !safe(&unproven, accept));
        let mut untried = evidence.clone();
        untried.needs[0].unbuildable = false;
        prop_assert!(before || !safe(&untried, accept));
        let mut undecided = evidence;
        undecided.undecided = Some(bad());
        prop_assert!(!safe(&undecided, accept));
    }

    #[test]
    fn a_machine_is_never_safer_than_its_worst_kernel(kernels in prop::collection::vec(any_kernel(), 0..4), accept in any_policy(), uncertain in any::<bool>()) {
        let reports: Vec<_> = kernels.iter().map(|k| judge_kernel(k, Role::Installed, accept).0).collect();
        let worst = reports.iter().map(|r| r.verdict).max();
        let why = Finding::new(Fact::BootUnknown, "x", "y");
        let judged = judge(reports, uncertain.then_some(&why));
        prop_assert!(Some(judged.verdict) >= worst);
        for kernel in &judged.kernels {
            let refused = kernel.findings.iter().any(Finding::refuses);
            prop_assert_eq!(refused, kernel.verdict == Verdict::Unsafe);
        }
    }
}

#[test]
fn a_missing_device_is_judged_like_any_other_and_reported() {
    let mut evidence = kernel(Binding::OutOfTree, vec![module(Origin::Built, vec![])]);
    evidence.needs[0].missing = true;
    evidence.needs[0].device.as_mut().unwrap().present = false;
    let told = |evidence: &KernelEvidence| {
        let (report, _) = judge_kernel(evidence, Role::Next, AcceptInTree::Auto);
        let told = report.findings.iter().find(|f| f.code == Code::DeviceMissing).cloned().unwrap();
        (report.verdict, told.severity(), report.findings[0].clone(), told)
    };
    let (verdict, severity, _, finding) = told(&evidence);
    assert_eq!((verdict, severity), (Verdict::Safe, Severity::Info));
    assert!(finding.detail.starts_with("eth0 (0000:00:03.0, not there now) was in use"), "{finding:?}");
    assert!(finding.remedy.starts_with("vfguard decline --device 0000:00:03.0"), "{finding:?}");
    // The recorded binding requires an out-of-tree driver. The refusing finding also says how to go on without the device.
    evidence.needs[0].candidates = vec![module(Origin::InTree, vec![])];
    let (verdict, severity, first, _) = told(&evidence);
    assert_eq!((verdict, severity, first.code), (Verdict::Unsafe, Severity::Warning, Code::ModuleMissing));
    assert!(first.remedy.contains("vfguard prepare 6.1") && first.remedy.contains("decline --device"), "{first:?}");
    evidence.needs[0].device.as_mut().unwrap().present = true;
    assert!(told(&evidence).2.detail.contains("without a driver now"));
}
