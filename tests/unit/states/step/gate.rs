//! The gate under its lock: a run that refuses closes it, a run that found all safe opens it.

use super::run;
use crate::actor::{Actor, Pc, Who};
use crate::scene::{Mutation, Scene};
use crate::world::{Lock, Set, World};

/// One step at the gate; `None` if the actor is elsewhere.
pub fn step(scene: &Scene, world: &mut World, who: Who) -> Option<bool> {
    Some(match world.at(who).pc {
        Pc::CloseLock => close(scene, world, who),
        Pc::CloseFiles => {
            world.gate.files = true;
            world.go(who, Pc::CloseLoad)
        }
        Pc::CloseLoad => closed(scene, world, who),
        // Only with a guard removed: compares the generation before it waits for the lock.
        Pc::OpenCompare => {
            if world.at(who).overtaken {
                run::next_round(scene, world, who)
            } else {
                world.go(who, Pc::OpenLock)
            }
        }
        Pc::OpenLock => open(scene, world, who),
        Pc::OpenLoad => {
            world.gate.loaded = false;
            world.go(who, Pc::OpenRecord)
        }
        Pc::OpenRecord => opened(world, who),
        _ => return None,
    })
}

/// The first step of an opening.
pub fn opening(scene: &Scene) -> Pc {
    if scene.without(Mutation::ComparesOutsideLock) {
        Pc::OpenCompare
    } else {
        Pc::OpenLock
    }
}

fn open(scene: &Scene, world: &mut World, who: Who) -> bool {
    if !world.take(Lock::Gate, who) {
        return false;
    }
    let Actor { overtaken, contradicted, .. } = *world.at(who);
    if overtaken && !scene.without(Mutation::ComparesOutsideLock) {
        world.drop_lock(Lock::Gate, who);
        return run::next_round(scene, world, who);
    }
    world.seen.opened_over |= contradicted;
    world.gate.files = false;
    if scene.kills == 0 {
        // No other actor sees the steps between.
        return opened(world, who);
    }
    world.go(who, Pc::OpenLoad)
}

/// The record is removed last, so that it is still there if the opener is killed.
fn opened(world: &mut World, who: Who) -> bool {
    (world.gate.loaded, world.gate.record) = (false, None);
    world.drop_lock(Lock::Gate, who);
    run::look_again(world, who)
}

fn close(scene: &Scene, world: &mut World, who: Who) -> bool {
    if !world.take(Lock::Gate, who) {
        return false;
    }
    let refused = world.at(who).refused;
    let undecided = who == Who::FailClosed;
    let covers = |set: Option<Set>| set.is_some_and(|set| undecided || refused.within(set));
    let leaving = world.removing && !scene.without(Mutation::NoRemovingStamp);
    if covers(world.over) || covers(world.pass) || leaving {
        world.drop_lock(Lock::Gate, who);
        return run::refuse_rest(scene, world, who);
    }
    world.contradict(who);
    let gate = world.gate;
    let same = gate.files && gate.loaded && (gate.record == Some(refused) || (undecided && gate.record.is_some()));
    // A closing that finds the gate closed raises as well: a run that judged before it must not open after it.
    let silent = scene.without(Mutation::ClosingDoesNotRaise) || (same && scene.without(Mutation::SameClosingDoesNotRaise));
    if !silent {
        world.raise(who);
    }
    if same {
        world.drop_lock(Lock::Gate, who);
        return run::refuse_rest(scene, world, who);
    }
    world.gate.record = Some(if undecided { gate.record.unwrap_or_default() } else { refused });
    if scene.kills == 0 {
        world.gate.files = true;
        return closed(scene, world, who);
    }
    world.go(who, Pc::CloseFiles)
}

fn closed(scene: &Scene, world: &mut World, who: Who) -> bool {
    (world.gate.loaded, world.over, world.pass) = (true, None, None);
    world.drop_lock(Lock::Gate, who);
    run::refuse_rest(scene, world, who)
}
