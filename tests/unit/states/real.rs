//! Where the model calls the real program: the decision, the judgement, and the environment block. Answers are cached, since the same few
//! questions are asked many thousand times.

use super::actor::{End, Plan, Who};
use super::scene::{Mutation, Scene};
use super::world::{Env, Hold, Set, Vars, World, K, KERNELS};
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;
use std::thread::LocalKey;
use vfguard::boot::grubenv;
use vfguard::boot::told::{self, HoldMark};
use vfguard::boot::{self, Candidate, NextBoot, Source};
use vfguard::config::Mode;
use vfguard::finding::{Fact, Finding, Verdict};
use vfguard::flow::plan::{self, Refusal, Rights, Situation};
use vfguard::host::place::Place;
use vfguard::kernel::KernelRelease;
use vfguard::verdict::judge::{self, judge, KernelReport};

type Kept<Q, A> = RefCell<HashMap<Q, A>>;

thread_local! {
    static DECIDED: Kept<Question, (Plan, Set)> = RefCell::default();
    static HELD_OFF: Kept<(Set, Env, Option<Hold>, Set), Option<HeldOff>> = RefCell::default();
    static ENDED: Kept<(Set, Env, Option<Hold>), bool> = RefCell::default();
    static EDITED: Kept<(Vars, Vars), Vars> = RefCell::default();
}

fn kept<Q: Hash + Eq + Copy, A: Copy>(answers: &'static LocalKey<Kept<Q, A>>, question: Q, ask: impl FnOnce() -> A) -> A {
    let known = answers.with_borrow(|all| all.get(&question).copied());
    known.unwrap_or_else(|| {
        let answer = ask();
        answers.with_borrow_mut(|all| all.insert(question, answer));
        answer
    })
}

fn release(k: K) -> KernelRelease {
    let text = match k {
        K::Old => "6.1.0-1",
        K::New => "6.1.0-2",
        K::Newest => "6.1.0-3",
    };
    text.parse().unwrap()
}

fn kernel(release: &str) -> K {
    KERNELS.into_iter().find(|k| self::release(*k).as_str() == release).unwrap()
}

/// The one-shot kernel of the loader and its default; the menu begins with the newest kernel.
pub fn boots(installed: Set, env: Env) -> (Option<K>, K) {
    let first = installed.iter().next_back().unwrap_or(K::Old);
    match env {
        Env::Whole(vars) => {
            let next = if installed.has(vars.saved) { vars.saved } else { first };
            (vars.once.filter(|k| installed.has(*k)), next)
        }
        Env::Empty => (None, first),
    }
}

/// The kernel that a hold keeps off, and the wanted one: `None` if the hold keeps a declined kernel off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldOff {
    pub kernel: K,
    pub wanted: Option<K>,
}

/// The real rules: whether record or mark is believed, and which kernel is wanted instead of a declined one.
pub fn held_off(installed: Set, env: Env, hold: Option<Hold>, declined: Set) -> Option<HeldOff> {
    kept(&HELD_OFF, (installed, env, hold, declined), || {
        let (record, mark, lasting) = told(installed, env, hold);
        let (record, mark, lasting) = (record.as_ref(), mark.as_ref(), lasting.as_ref());
        let menu = || installed.iter().rev().map(release);
        let there = |k: &KernelRelease| installed.has(kernel(k.as_str()));
        let off = told::wanted_of(record, mark, lasting, there, menu())?;
        let held = told::believed(record, mark, lasting).next().map(|told| &told.held);
        let may = |k: &KernelRelease| there(k) && !declined.has(kernel(k.as_str()));
        let wanted =
            if declined.has(kernel(off.as_str())) { told::instead_of(&off, held, may, menu()) } else { Some(off.clone()) };
        Some(HeldOff { kernel: kernel(off.as_str()), wanted: wanted.map(|k| kernel(k.as_str())) })
    })
}

/// Whether a hold is recorded that the default was moved away from.
pub fn has_ended(installed: Set, env: Env, hold: Option<Hold>) -> bool {
    kept(&ENDED, (installed, env, hold), || {
        let (record, mark, lasting) = told(installed, env, hold);
        told::has_ended(record.as_ref(), mark.as_ref(), lasting.as_ref())
    })
}

/// The record and the mark of a hold, and the default, as far as it can be known.
fn told(installed: Set, env: Env, hold: Option<Hold>) -> (Option<HoldMark>, Option<HoldMark>, Option<KernelRelease>) {
    let told = |held, wanted| HoldMark { held: release(held), wanted: Some(release(wanted)) };
    let (mark, lasting) = match env {
        Env::Whole(vars) => (vars.mark.map(|(held, wanted)| told(held, wanted)), Some(boots(installed, env).1)),
        Env::Empty => (None, None),
    };
    (hold.map(|h| told(h.held, h.wanted)), mark, lasting.map(release))
}

/// Changes one block into another with the real editor, and reads it back with the real reader.
pub fn edit(from: Vars, to: Vars) -> Vars {
    kept(&EDITED, (from, to), || {
        let before = block(from);
        let saved = release(to.saved);
        let once = to.once.map(release);
        let mark = to.mark.map(|(held, wanted)| (release(held), release(wanted)));
        let changes = [
            ("saved_entry", Some(saved.as_str())),
            ("next_entry", once.as_ref().map(KernelRelease::as_str)),
            ("vfguard_hold", mark.as_ref().map(|m| m.0.as_str())),
            ("vfguard_wanted", mark.as_ref().map(|m| m.1.as_str())),
        ];
        vars(&grubenv::edit(&before, &changes).unwrap())
    })
}

fn block(vars: Vars) -> Vec<u8> {
    let mut text = format!("saved_entry={}\nkernelopts=root=/dev/vda1 ro\n", release(vars.saved));
    if let Some(once) = vars.once {
        text += &format!("next_entry={}\n", release(once));
    }
    if let Some((held, wanted)) = vars.mark {
        text += &format!("vfguard_hold={}\nvfguard_wanted={}\n", release(held), release(wanted));
    }
    let mut block = [grubenv::SIGNATURE, text.as_bytes()].concat();
    block.resize(grubenv::SIZE, b'#');
    block
}

fn vars(block: &[u8]) -> Vars {
    assert!(grubenv::is_whole(block));
    let all: HashMap<String, String> = grubenv::variables(block).unwrap().0.into_iter().collect();
    assert_eq!(all["kernelopts"], "root=/dev/vda1 ro");
    let get = |name: &str| all.get(name).map(|v| kernel(v));
    Vars {
        saved: kernel(&all["saved_entry"]),
        once: get("next_entry"),
        mark: get("vfguard_hold").zip(get("vfguard_wanted")),
    }
}

/// Everything that a run has seen when it decides.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Question {
    rights: Rights,
    undecided: bool,
    installed: Set,
    safe: Set,
    env: Env,
    hold: Option<Hold>,
    declined: Set,
    /// A hold that keeps a declined kernel off never ends.
    pins: bool,
    kexec: bool,
    running: K,
    over: Option<Set>,
    clear: bool,
    /// A block that is being written is taken for the one that the boot loader finds.
    believes_empty: bool,
    /// A kernel loaded for kexec makes the next boot uncertain.
    kexec_doubts: bool,
}

/// What an actor has to do after its look: the plan, and the refused kernels.
pub fn decide(scene: &Scene, world: &World, who: Who) -> (Plan, Set) {
    let actor = world.at(who);
    let early = who == Who::Boot && !scene.without(Mutation::BootPromotes);
    let removing = world.removing && !scene.without(Mutation::NoRemovingStamp);
    let safe = |k: &K| !actor.card || world.drives.has(*k);
    let question = Question {
        rights: Rights::new(Mode::Enforce, Place::Normal, early, removing),
        undecided: who == Who::FailClosed,
        installed: world.installed,
        safe: world.installed.iter().filter(safe).fold(Set::default(), Set::with),
        env: actor.env,
        hold: actor.hold,
        declined: world.skipped(scene, actor.declined),
        pins: scene.without(Mutation::DeclinePins),
        kexec: world.kexec,
        running: world.running,
        over: world.over,
        clear: world.gate.record.is_none() && !world.gate.files,
        believes_empty: scene.without(Mutation::HalfWrittenIsReal),
        kexec_doubts: scene.without(Mutation::KexecEndsHold),
    };
    kept(&DECIDED, question, || answer(&question))
}

fn answer(q: &Question) -> (Plan, Set) {
    let (next, off) = next_boot(q);
    let off = off.map(|off| HeldOff { wanted: off.wanted.filter(|k| !(q.pins && *k != off.kernel)), ..off });
    let wanted = off.and_then(|off| off.wanted);
    let running = Some(release(q.running)).filter(|_| q.installed.has(q.running));
    if q.undecided {
        let rights = plan::undecided(q.rights, q.over.is_some());
        let refusal = plan::hold_running(&next, running.as_ref(), &[]);
        return (refuse(Refusal { close: rights.close, ..refusal }, rights.hold), Set::default());
    }
    let mut roles: Vec<(K, judge::Role)> = Vec::new();
    for candidate in &next.kernels {
        let role = match candidate.role {
            boot::BootRole::Next => judge::Role::Next,
            boot::BootRole::Once => judge::Role::Once,
            boot::BootRole::Fallback => judge::Role::Fallback,
        };
        roles.push((kernel(candidate.kernel.as_str()), role));
    }
    roles.extend(wanted.map(|k| (k, judge::Role::Wanted)));
    if !next.certain {
        roles.extend(q.installed.iter().map(|k| (k, judge::Role::Installed)));
    }
    let mut reports: Vec<KernelReport> = Vec::new();
    for (k, role) in roles {
        if reports.iter().all(|r| r.kernel != release(k)) {
            reports.push(report(k, role, q.safe.has(k)));
        }
    }
    let why = Finding::new(Fact::BootUnknown, "which kernel boots next is not certain", "vfguard next-boot");
    let judgement = judge(reports, (!next.certain).then_some(&why));
    let refused = judgement.refused().fold(Set::default(), |set, r| set.with(kernel(r.kernel.as_str())));
    let excused: Option<Vec<KernelRelease>> = q.over.map(|over| over.iter().map(release).collect());
    let wanted = wanted.map(release);
    let facts = Situation {
        rights: q.rights,
        judgement: &judgement,
        work: &[],
        next: &next,
        wanted: wanted.as_ref(),
        declined: off.is_some() && wanted.is_none(),
        declined_next: next.lasting().is_some_and(|c| q.declined.has(kernel(c.kernel.as_str()))),
        held: off.is_some() || q.hold.is_some(),
        clear: q.clear,
        excused: excused.as_deref(),
        hold_target: &|| running.clone(),
    };
    let plan = match plan::plan(&facts).act {
        plan::Act::Rest => Plan::Rest,
        plan::Act::Tell => Plan::Tell,
        plan::Act::Allow { end, open } => Plan::Allow {
            end: match end {
                plan::End::Leave => End::Leave,
                plan::End::Promote(k) => End::Promote(kernel(k.as_str())),
                plan::End::Forget => End::Forget,
                plan::End::KeepOff(_) => unreachable!("no scene makes a declined kernel the default again"),
            },
            open,
        },
        plan::Act::Refuse(refusal) => refuse(refusal, true),
    };
    (plan, refused)
}

fn refuse(refusal: Refusal, may_hold: bool) -> Plan {
    let hold = match refusal.hold {
        plan::Hold::On(k) if may_hold => Some(kernel(k.as_str())),
        plan::Hold::Promote(_) => unreachable!("the running kernel of each scene is safe, and it is what is held"),
        plan::Hold::On(_) | plan::Hold::Leave | plan::Hold::Cannot(_) => None,
    };
    Plan::Refuse { close: refusal.close, once: refusal.end_once && may_hold, hold }
}

fn next_boot(q: &Question) -> (NextBoot, Option<HeldOff>) {
    let mut next = NextBoot::new(Source::Grub2);
    let unknown = q.env == Env::Empty && !q.believes_empty;
    next.certain = !(unknown || q.kexec);
    next.loader_certain = !(unknown || (q.kexec && q.kexec_doubts));
    let (once, lasting) = boots(q.installed, q.env);
    if !unknown {
        let candidate = |k, role| Candidate {
            kernel: release(k),
            role,
            entry: String::new(),
            why: String::new(),
            cmdline: String::new(),
            initrds: vec![],
            unified: false,
            absent: false,
            stops: None,
        };
        next.kernels.extend(once.map(|k| candidate(k, boot::BootRole::Once)));
        next.kernels.push(candidate(lasting, boot::BootRole::Next));
    }
    // A run that believes an empty block sees another default than the held one.
    let moved = q.env == Env::Empty && q.believes_empty && q.hold.is_some_and(|h| h.held != lasting);
    (next, held_off(q.installed, q.env, q.hold, q.declined).filter(|_| !moved))
}

fn report(k: K, role: judge::Role, safe: bool) -> KernelReport {
    let missing = || Finding::new(Fact::ModuleMissing, "no module claims the card", "vfguard prepare");
    KernelReport {
        kernel: release(k),
        role,
        verdict: if safe { Verdict::Safe } else { Verdict::Unsafe },
        devices: vec![],
        modules: vec![],
        findings: if safe { vec![] } else { vec![missing()] },
        attempts: None,
    }
}
