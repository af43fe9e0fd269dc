use super::*;
use crate::boot::{Candidate, Source};
use crate::verdict::judge::{KernelReport, Role};

const OLD: &str = "6.1.0-53";
const NEW: &str = "6.1.0-54";
const ALL: Rights = Rights { close: true, hold: true, promote: true, open: true };

fn kernel(name: &str) -> KernelRelease {
    name.parse().unwrap()
}

fn report(name: &str, verdict: Verdict) -> KernelReport {
    KernelReport {
        kernel: kernel(name),
        role: Role::Next,
        verdict,
        devices: vec![],
        modules: vec![],
        findings: vec![],
        attempts: None,
    }
}

fn judgement(kernels: &[(&str, Verdict)]) -> Judgement {
    let kernels: Vec<_> = kernels.iter().map(|(name, verdict)| report(name, *verdict)).collect();
    Judgement { verdict: kernels.iter().map(|k| k.verdict).max().unwrap_or(Verdict::Unknown), kernels }
}

fn next(kernels: &[(&str, BootRole)]) -> NextBoot {
    let candidate = |(name, role): &(&str, BootRole)| Candidate {
        kernel: kernel(name),
        role: *role,
        entry: String::new(),
        why: String::new(),
        cmdline: String::new(),
        initrds: vec![],
        unified: false,
        absent: false,
        stops: None,
    };
    let mut next = NextBoot::new(Source::Grub2);
    next.kernels = kernels.iter().map(candidate).collect();
    next
}

/// What a test varies. Everything else describes a machine without a hold and with an open gate.
struct Case {
    rights: Rights,
    judgement: Judgement,
    next: NextBoot,
    wanted: Option<KernelRelease>,
    declined: bool,
    declined_next: bool,
    held: bool,
    clear: bool,
    excused: Option<Vec<KernelRelease>>,
    hold_target: Option<KernelRelease>,
}

impl Case {
    fn new(kernels: &[(&str, Verdict)], boots: &[(&str, BootRole)]) -> Case {
        Case {
            rights: ALL,
            judgement: judgement(kernels),
            next: next(boots),
            wanted: None,
            declined: false,
            declined_next: false,
            held: false,
            clear: true,
            excused: None,
            hold_target: Some(kernel(OLD)),
        }
    }

    fn plan(&self) -> Act {
        let facts = Situation {
            rights: self.rights,
            judgement: &self.judgement,
            work: &[],
            next: &self.next,
            wanted: self.wanted.as_ref(),
            declined: self.declined,
            declined_next: self.declined_next,
            held: self.held,
            clear: self.clear,
            excused: self.excused.as_deref(),
            hold_target: &|| self.hold_target.clone(),
        };
        plan(&facts).act
    }

    /// The default is held on OLD, and NEW is wanted and safe.
    fn held() -> Case {
        let safe = [(OLD, Verdict::Safe), (NEW, Verdict::Safe)];
        Case { held: true, wanted: Some(kernel(NEW)), clear: false, ..Case::new(&safe, &[(OLD, BootRole::Next)]) }
    }

    /// NEW boots next and is not safe.
    fn bad() -> Case {
        Case::new(&[(NEW, Verdict::Unsafe)], &[(NEW, BootRole::Next)])
    }
}

fn refusal(close: bool, end_once: bool, hold: Hold) -> Act {
    Act::Refuse(Refusal { close, end_once, hold })
}

fn on(name: &str) -> Hold {
    Hold::On(kernel(name))
}

#[test]
fn nothing_is_done_where_all_is_safe_and_neither_gate_nor_hold_is_in_force() {
    let rest = Case::new(&[(OLD, Verdict::Safe)], &[(OLD, BootRole::Next)]);
    assert_eq!(rest.plan(), Act::Rest);
    let closed = Case { clear: false, ..rest };
    assert_eq!(closed.plan(), Act::Allow { end: End::Leave, open: true });
}

#[test]
fn a_hold_ends_with_the_judged_kernel_and_stays_where_the_default_may_not_be_moved() {
    assert_eq!(Case::held().plan(), Act::Allow { end: End::Promote(kernel(NEW)), open: true });
    let moved = Case { wanted: None, clear: true, ..Case::held() };
    assert_eq!(moved.plan(), Act::Allow { end: End::Forget, open: false });
    let early = Case { rights: Rights::new(Mode::Enforce, Place::Normal, true, false), ..Case::held() };
    assert_eq!(early.plan(), Act::Allow { end: End::Leave, open: true });
}

#[test]
fn while_packages_change_nothing_is_promoted_or_opened_but_unsafe_kernels_are_still_refused() {
    let meanwhile = |case: Case| Case { rights: ALL.meanwhile(), ..case };
    assert_eq!(meanwhile(Case::held()).plan(), Act::Allow { end: End::Leave, open: false });
    assert_eq!(meanwhile(Case::bad()).plan(), refusal(true, false, on(OLD)));
    let turned = Case { judgement: judgement(&[(OLD, Verdict::Unsafe), (NEW, Verdict::Safe)]), ..Case::held() };
    assert_eq!(meanwhile(turned).plan(), refusal(true, false, on(OLD)));
}

#[test]
fn a_hold_that_keeps_a_declined_kernel_off_stays_silently_and_ends_for_a_later_kernel() {
    let declined = Case { declined: true, wanted: None, clear: true, ..Case::held() };
    assert_eq!(declined.plan(), Act::Rest);
    let closed = Case { clear: false, ..declined };
    assert_eq!(closed.plan(), Act::Allow { end: End::Leave, open: true });
    // The kernel that boots must still be safe.
    let bad = Case { judgement: judgement(&[(OLD, Verdict::Unsafe)]), hold_target: Some(kernel(NEW)), ..closed };
    assert_eq!(bad.plan(), refusal(true, false, on(NEW)));
    // A later kernel is wanted instead.
    let later = Case { declined: false, wanted: Some(kernel("6.1.0-55")), ..Case::held() };
    assert_eq!(later.plan(), Act::Allow { end: End::Promote(kernel("6.1.0-55")), open: true });
}

#[test]
fn a_safe_declined_kernel_that_boots_next_is_moved_off_the_default_and_refuses_nothing() {
    let back = || Case { declined_next: true, ..Case::new(&[(NEW, Verdict::Safe)], &[(NEW, BootRole::Next)]) };
    let off = End::KeepOff(kernel(OLD));
    assert_eq!(back().plan(), Act::Allow { end: off.clone(), open: false });
    assert_eq!(Case { clear: false, ..back() }.plan(), Act::Allow { end: off, open: true });
    // It stays where no other kernel is known to be good, or where the default may not be moved.
    assert_eq!(Case { hold_target: None, ..back() }.plan(), Act::Rest);
    assert_eq!(Case { hold_target: Some(kernel(NEW)), ..back() }.plan(), Act::Rest);
    // Somebody moved the default from the held kernel to the declined one.
    assert_eq!(Case { held: true, ..back() }.plan(), Act::Allow { end: End::Forget, open: false });
    assert_eq!(Case { rights: Rights::new(Mode::Observe, Place::Normal, false, false), ..back() }.plan(), Act::Rest);
    assert_eq!(Case { rights: Rights::new(Mode::Enforce, Place::Normal, true, false), ..back() }.plan(), Act::Rest);
    let mut uncertain = back();
    uncertain.next.loader_certain = false;
    assert_eq!(uncertain.plan(), Act::Rest);
    // An unsafe one is refused like any other kernel.
    assert_eq!(Case { judgement: judgement(&[(NEW, Verdict::Unsafe)]), ..back() }.plan(), refusal(true, false, on(OLD)));
}

#[test]
fn an_unsafe_kernel_is_refused_by_gate_and_hold() {
    assert_eq!(Case::bad().plan(), refusal(true, false, on(OLD)));
    let unknown = Case { judgement: judgement(&[(NEW, Verdict::Unknown)]), ..Case::bad() };
    assert_eq!(unknown.plan(), refusal(true, false, on(OLD)));
    let once = [(NEW, BootRole::Once), (OLD, BootRole::Next)];
    let once = Case::new(&[(NEW, Verdict::Unsafe), (OLD, Verdict::Safe)], &once);
    assert_eq!(once.plan(), refusal(true, true, Hold::Leave));
    let fallback = [(OLD, BootRole::Next), (NEW, BootRole::Fallback)];
    let fallback = Case::new(&[(OLD, Verdict::Safe), (NEW, Verdict::Unsafe)], &fallback);
    assert_eq!(fallback.plan(), refusal(true, false, Hold::Leave));
    // A kernel that was not judged is not known to be safe.
    let unjudged = Case { next: next(&[("6.1.0-55", BootRole::Next)]), ..Case::bad() };
    assert_eq!(unjudged.plan(), refusal(true, false, on(OLD)));
}

#[test]
fn gate_and_hold_each_need_their_right_and_without_both_rights_nothing_is_refused() {
    let close = Rights { hold: false, ..ALL };
    let hold = Rights { close: false, ..ALL };
    assert_eq!(Case { rights: close, ..Case::bad() }.plan(), refusal(true, false, Hold::Leave));
    assert_eq!(Case { rights: hold, ..Case::bad() }.plan(), refusal(false, false, on(OLD)));
    for rights in [
        Rights::new(Mode::Observe, Place::Normal, false, false),
        Rights::new(Mode::Enforce, Place::Off, false, false),
        Rights::new(Mode::Enforce, Place::Container, false, false),
        Rights::new(Mode::Enforce, Place::Normal, false, true),
    ] {
        assert_eq!(Case { rights, ..Case::bad() }.plan(), Act::Tell);
    }
    assert_eq!(Rights::new(Mode::Enforce, Place::Normal, false, false), ALL);
    let rescue = Rights { close: false, ..ALL };
    assert_eq!(Rights::new(Mode::Enforce, Place::Rescue, false, false), rescue);
}

#[test]
fn a_held_kernel_that_is_no_longer_safe_is_replaced_by_a_safe_wanted_kernel() {
    let turned =
        |rights| Case { rights, judgement: judgement(&[(OLD, Verdict::Unsafe), (NEW, Verdict::Safe)]), ..Case::held() };
    let promoted = Hold::Promote(kernel(NEW));
    assert_eq!(turned(ALL).plan(), refusal(true, false, promoted.clone()));
    assert_eq!(Case { hold_target: None, ..turned(ALL) }.plan(), refusal(true, false, promoted));
    // Early in a boot nothing is promoted.
    assert_eq!(turned(Rights { promote: false, ..ALL }).plan(), refusal(true, false, on(OLD)));
    let both = Case { judgement: judgement(&[(OLD, Verdict::Unsafe), (NEW, Verdict::Unsafe)]), ..Case::held() };
    assert_eq!(both.plan(), refusal(true, false, on(OLD)));
}

#[test]
fn an_override_lets_through_only_the_kernels_that_it_names() {
    let covered = Case { excused: Some(vec![kernel(NEW)]), ..Case::bad() };
    assert_eq!(covered.plan(), Act::Tell);
    for excused in [vec![], vec![kernel(OLD)]] {
        assert_eq!(Case { excused: Some(excused), ..Case::bad() }.plan(), refusal(true, false, on(OLD)));
    }
}

#[test]
fn the_gate_closes_where_the_default_cannot_be_moved_and_the_plan_says_why() {
    let mut uncertain = Case::bad();
    uncertain.next.loader_certain = false;
    assert_eq!(uncertain.plan(), refusal(true, false, Hold::Cannot(Hindrance::Uncertain)));
    let nowhere = Case { hold_target: None, ..Case::bad() };
    assert_eq!(nowhere.plan(), refusal(true, false, Hold::Cannot(Hindrance::NoHoldTarget)));
}

#[test]
fn without_a_verdict_only_the_running_kernel_is_known_to_work() {
    let both = next(&[(NEW, BootRole::Once), (NEW, BootRole::Next)]);
    let running = kernel(OLD);
    assert_eq!(hold_running(&both, Some(&running), &[]), Refusal { close: true, end_once: true, hold: on(OLD) });
    let settled = next(&[(OLD, BootRole::Next)]);
    assert_eq!(hold_running(&settled, Some(&running), &[]), Refusal { close: true, end_once: false, hold: Hold::Leave });
    assert_eq!(hold_running(&both, None, &[]).hold, Hold::Cannot(Hindrance::NoHoldTarget));
    // The default stays if it is trusted.
    let trusted = [kernel(NEW)];
    assert_eq!(hold_running(&both, Some(&running), &trusted), Refusal { close: true, end_once: false, hold: Hold::Leave });
    assert_eq!(hold_running(&both, None, &trusted).hold, Hold::Leave);
    assert_eq!(undecided(ALL, false), Rights { promote: false, open: false, ..ALL });
    assert_eq!(undecided(ALL, true), Rights { close: false, hold: false, promote: false, open: false });
}
