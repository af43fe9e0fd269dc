//! A run of vfguard, with a step for each group of system calls: src/flow/reconcile/mod.rs and src/flow/refuse.rs. Steps under the gate's
//! or the boot default's lock are in gate.rs and boot.rs.

use super::{boot, gate, program};
use crate::actor::{Actor, End, Pc, Phase, Plan, Who};
use crate::real;
use crate::scene::Scene;
use crate::world::{Lock, Set, World};

/// How often a run that others overtake starts over.
const MAX_ROUNDS: u8 = 2;

/// Begins a run; the later steps of its actor's program are kept.
pub fn begin(world: &mut World, who: Who) -> bool {
    let Actor { turn, deed, .. } = *world.at(who);
    if world.removed && who != Who::FailClosed {
        // There is no program to call.
        return program::rest(world, who);
    }
    *world.actor(who) = Actor { pc: Pc::Raise, turn, deed, ..Actor::default() };
    true
}

/// Whether there are two possible next steps.
pub fn has_choice(pc: Pc) -> bool {
    matches!(pc, Pc::Refuse | Pc::TakeWrite)
}

/// One step of a run. `second` selects the other choice where there are two. Returns whether there was a step; `None` if the actor is
/// elsewhere.
pub fn step(scene: &Scene, world: &mut World, who: Who, second: bool) -> Option<bool> {
    Some(match world.at(who).pc {
        Pc::Raise => {
            world.raise(who);
            world.go(who, Pc::Look)
        }
        Pc::Look => look(scene, world, who),
        Pc::Read => read(scene, world, who),
        Pc::Judge => judge(scene, world, who),
        Pc::Refuse => refuse(world, who, second),
        Pc::TakeWrite => take_write(scene, world, who, second),
        Pc::Build => build(scene, world, who),
        _ => return None,
    })
}

/// Reads the generation, then the devices.
fn look(scene: &Scene, world: &mut World, who: Who) -> bool {
    // If the card does not change, nothing that matters can happen between this and reading the boot loader's files.
    let at_once = scene.cards == 0 && !scene.late;
    if at_once && boot::waits_for_writer(scene, world) {
        return false;
    }
    world.find_card(scene, who);
    world.look(who);
    let card = world.counts(scene);
    let actor = world.actor(who);
    actor.card = card;
    if actor.phase == Phase::Round {
        actor.came = false;
    }
    if at_once {
        read(scene, world, who)
    } else {
        world.go(who, Pc::Read)
    }
}

/// Reads the boot loader's files, the record of a hold, and the declined kernels.
fn read(scene: &Scene, world: &mut World, who: Who) -> bool {
    if boot::waits_for_writer(scene, world) {
        return false;
    }
    let (env, hold, declined) = (world.env, world.hold, world.declined);
    let actor = world.actor(who);
    (actor.env, actor.hold, actor.declined) = (env, hold, declined);
    world.go(who, Pc::Judge)
}

fn judge(scene: &Scene, world: &mut World, who: Who) -> bool {
    let (plan, refused) = real::decide(scene, world, who);
    let actor = world.actor(who);
    (actor.plan, actor.refused) = (plan, refused);
    (actor.to_close, actor.to_hold) = match plan {
        Plan::Refuse { close, once, hold } => (close, once || hold.is_some()),
        Plan::Rest | Plan::Tell | Plan::Allow { .. } => (false, false),
    };
    let actor = *world.at(who);
    if actor.phase == Phase::Round && boot::stale(scene, world, actor.env, actor.hold) {
        return world.go(who, Pc::Forget);
    }
    carry_out(scene, world, who)
}

fn take_write(scene: &Scene, world: &mut World, who: Who, gives_up: bool) -> bool {
    if gives_up {
        // A run that only decides does not wait for a build.
        return who != Who::Worker && !world.is_free(Lock::Write) && finish(scene, world, who);
    }
    let taken = world.take(Lock::Write, who);
    if taken {
        let actor = world.actor(who);
        (actor.phase, actor.round, actor.pc) = (Phase::Round, 0, Pc::Look);
    }
    taken
}

/// Builds for the refused kernels, after a limited wait for the network.
fn build(scene: &Scene, world: &mut World, who: Who) -> bool {
    if world.network {
        let refused = world.at(who).refused;
        let built = refused.iter().filter(|k| scene.builds.has(*k) && world.installed.has(*k));
        world.drives = built.fold(world.drives, Set::with);
        world.notify(scene);
    }
    let actor = world.actor(who);
    (actor.built, actor.phase) = (true, Phase::Again);
    world.go(who, Pc::Look)
}

/// Carries out the plan of the last look.
pub fn carry_out(scene: &Scene, world: &mut World, who: Who) -> bool {
    let Actor { plan, phase, .. } = *world.at(who);
    match (plan, phase) {
        (Plan::Rest, _) => finish(scene, world, who),
        (Plan::Refuse { .. }, _) => refuse_rest(scene, world, who),
        (Plan::Tell, Phase::First) | (Plan::Allow { .. }, Phase::First) => world.go(who, Pc::TakeWrite),
        (Plan::Allow { .. } | Plan::Tell, Phase::Last) => finish(scene, world, who),
        (Plan::Tell, Phase::Round | Phase::Again) => refused(scene, world, who),
        (Plan::Allow { end: End::Leave, open }, Phase::Round | Phase::Again) => {
            if !open {
                return finish(scene, world, who);
            }
            world.go(who, gate::opening(scene))
        }
        (Plan::Allow { .. }, Phase::Round | Phase::Again) => world.go(who, Pc::PromoteLock),
    }
}

/// Closes the gate and holds the default, in either order: neither waits for the other.
fn refuse(world: &mut World, who: Who, closes_first: bool) -> bool {
    let actor = world.actor(who);
    if closes_first {
        (actor.to_close, actor.pc) = (false, Pc::CloseLock);
    } else {
        (actor.to_hold, actor.pc) = (false, Pc::HoldLock);
    }
    true
}

/// The rest of refusing, then the next step.
pub fn refuse_rest(scene: &Scene, world: &mut World, who: Who) -> bool {
    let Actor { to_hold, to_close, .. } = *world.at(who);
    match (to_hold, to_close) {
        (true, true) => world.go(who, Pc::Refuse),
        (false, false) => refused(scene, world, who),
        (_, closes) => refuse(world, who, closes),
    }
}

/// The step after refusing.
fn refused(scene: &Scene, world: &mut World, who: Who) -> bool {
    let actor = *world.at(who);
    match actor.phase {
        _ if who == Who::FailClosed => finish(scene, world, who),
        Phase::First => world.go(who, Pc::TakeWrite),
        Phase::Round if who == Who::Worker && !actor.built && can_build(scene, world, actor.refused) => {
            world.go(who, Pc::Build)
        }
        Phase::Round | Phase::Again if actor.came => next_round(scene, world, who),
        Phase::Round | Phase::Again => finish(scene, world, who),
        Phase::Last => next_round(scene, world, who),
    }
}

/// Whether there is a build left that is worth a try.
pub fn can_build(scene: &Scene, world: &World, refused: Set) -> bool {
    refused.iter().any(|k| scene.builds.has(k) && world.installed.has(k) && !world.drives.has(k))
}

pub fn next_round(scene: &Scene, world: &mut World, who: Who) -> bool {
    let actor = world.actor(who);
    (actor.round, actor.phase) = (actor.round + 1, Phase::Round);
    if actor.round == MAX_ROUNDS {
        // The gate stays closed, and the run reports that.
        return finish(scene, world, who);
    }
    world.go(who, Pc::Look)
}

pub fn look_again(world: &mut World, who: Who) -> bool {
    world.actor(who).phase = Phase::Last;
    world.go(who, Pc::Look)
}

/// The end of a run; its actor's program goes on.
pub fn finish(scene: &Scene, world: &mut World, who: Who) -> bool {
    world.drop_locks(who);
    program::after_run(scene, world, who)
}
