//! The properties P1 to P9. Those about the result of a run hold in quiet states: every run, every unit and every tool has ended.

use super::actor::{Actor, Pc, Who, ALL};
use super::model;
use super::scene::Scene;
use super::step::run;
use super::world::{Card, Env, World, K};
use stateright::Property;

/// P7: starts of the watch after one event from outside, with all that a run itself writes.
pub const MAX_STARTS: u8 = 4;
/// More steps than any run takes.
const STEPS: usize = 400;

pub const P1: &str = "P1: quiet and open: all that may boot is safe, or an override covers it";
pub const P2: &str = "P2: a default on an unproven kernel is held, whoever holds the build lock";
pub const P3: &str = "P3: all safe and quiet: open in the end";
pub const P4: &str = "P4: a wanted kernel is promoted, declined or still recorded";
pub const P5: &str = "P5: only what was judged is promoted, with the devices of the hold";
pub const P6: &str = "P6: a reboot is refused whole or completes";
pub const P7: &str = "P7: without an event from outside the watch starts a bounded number of times";
pub const P8: &str = "P8: waiting has no circle, and after removal the gate is open for good";
pub const P9: &str = "P9: a declined kernel is not promoted, and a later one that is safe is";

pub fn all() -> Vec<Property<Scene>> {
    vec![
        Property::always(P1, |scene: &Scene, world: &World| !world.seen.opened_over && open_is_safe(scene, world)),
        Property::always(P2, unproven_is_held),
        Property::always(P3, safe_opens),
        Property::always(P4, wanted_is_known),
        Property::always(P5, |_, world: &World| !world.seen.promoted_unproven),
        Property::always(P6, |_, world: &World| !world.seen.reboot_refused),
        Property::always(P7, |_, world: &World| world.seen.starts <= MAX_STARTS),
        Property::always(P8, |scene: &Scene, world: &World| !is_stuck(scene, world) && removed_is_open(world)),
        Property::always(P9, |scene: &Scene, world: &World| {
            !world.seen.promoted_declined && later_is_promoted(scene, world)
        }),
    ]
}

fn is_quiet(world: &World) -> bool {
    ALL.into_iter().all(|who| world.is_idle(who)) && !world.heard && !world.lost && world.pass.is_none()
}

/// Quiet, except for a build and those that wait for it.
fn is_quiet_but_for_builds(scene: &Scene, world: &World) -> bool {
    let builds = ALL.into_iter().any(|who| world.at(who).pc == Pc::Build);
    if !builds {
        return is_quiet(world);
    }
    let waits = |who: Who| matches!(world.at(who).pc, Pc::Idle | Pc::Build) || !can_step(scene, world, who);
    ALL.into_iter().all(waits) && !(world.heard && world.is_idle(Who::Watch)) && !world.lost && world.pass.is_none()
}

fn can_step(scene: &Scene, world: &World, who: Who) -> bool {
    let choices = if run::has_choice(world.at(who).pc) { [false, true].as_slice() } else { &[false] };
    choices.iter().any(|second| model::step(scene, &mut world.clone(), who, *second))
}

fn uncovered(world: &World, env: Env) -> bool {
    let over = world.over.unwrap_or_default();
    world.may_boot(env).iter().any(|k| !world.is_good(k) && !over.has(k))
}

fn open_is_safe(scene: &Scene, world: &World) -> bool {
    world.gate.loaded
        || world.removing
        || world.seen.unheard
        || !uncovered(world, world.env)
        || !is_quiet_but_for_builds(scene, world)
}

fn unproven_is_held(scene: &Scene, world: &World) -> bool {
    let held = |env| env == Env::Empty || !uncovered(world, env);
    let refuge = world.installed.has(world.running);
    (held(world.env) && held(world.kept_env))
        || world.removing
        || !refuge
        || world.seen.unheard
        || scene.fixed_default
        || world.env == Env::Empty
        || !is_quiet_but_for_builds(scene, world)
}

/// From a quiet state: after the timer has started the watch and every actor has ended, the gate is open.
fn safe_opens(scene: &Scene, world: &World) -> bool {
    let gate = world.gate;
    if (!gate.loaded && !gate.files && gate.record.is_none()) || world.removing || world.env == Env::Empty {
        return true;
    }
    let next = world.may_boot(world.env).with(world.wanted());
    let counted = if world.kexec { world.installed } else { next };
    let safe = |k: K| world.drives.has(k) || (world.card != Card::Here && !world.remembered);
    if !counted.iter().all(safe) || !is_quiet(world) {
        return true;
    }
    let end = settled(scene, world);
    is_quiet(&end) && !end.gate.loaded && end.gate.record.is_none()
}

/// The state after every actor has ended, and the timer has run once.
fn settled(scene: &Scene, world: &World) -> World {
    let mut world = world.clone();
    *world.actor(Who::Run) = Actor { pc: Pc::Raise, ..Actor::default() };
    for _ in 0..STEPS {
        let any = ALL.into_iter().any(|who| {
            !world.is_idle(who)
                && (model::step(scene, &mut world, who, false)
                    || (run::has_choice(world.at(who).pc) && model::step(scene, &mut world, who, true)))
        });
        if !any && !model::watch(&mut world) {
            break;
        }
    }
    world
}

fn wanted_is_known(_: &Scene, world: &World) -> bool {
    let lost = !world.installed.has(world.intent) || world.env == Env::Empty;
    lost || world.removed || world.wanted() == world.intent || !is_quiet(world)
}

/// If the update is declined and held off, and a later kernel drives the card: from a quiet state, the later one becomes the default.
fn later_is_promoted(scene: &Scene, world: &World) -> bool {
    let skips = world.declined.has(K::New) && world.held_off().is_some_and(|off| off.kernel == K::New);
    let later = world.installed.has(K::Newest) && world.drives.has(K::Newest) && !world.declined.has(K::Newest);
    if !skips || !later || world.removing || world.kexec || world.env == Env::Empty || !is_quiet(world) {
        return true;
    }
    let end = settled(scene, world);
    !is_quiet(&end) || end.boots(end.env) == K::Newest
}

fn is_stuck(scene: &Scene, world: &World) -> bool {
    // Only these ever wait.
    let may_wait = |pc| {
        use Pc::*;
        matches!(
            pc,
            Queued
                | TakeWrite
                | WaitWorker
                | CloseLock
                | HoldLock
                | HoldCheck
                | Forget
                | PromoteLock
                | PromoteCheck
                | OpenLock
                | OverrideLock
                | DeclineLock
                | RebootBoot
                | RebootPass
                | RemoveLock
                | PrepareLock
                | Look
                | Read
        )
    };
    let alive: Vec<Who> = ALL.into_iter().filter(|who| !world.is_idle(*who)).collect();
    !alive.is_empty()
        && alive.iter().all(|who| may_wait(world.at(*who).pc))
        && !alive.iter().any(|who| can_step(scene, world, *who))
}

fn removed_is_open(world: &World) -> bool {
    let gate = world.gate;
    !world.removed || !is_quiet(world) || (!gate.loaded && !gate.files)
}
