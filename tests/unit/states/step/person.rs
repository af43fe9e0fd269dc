//! A person's orders: an override, a decline, a reboot into the held kernel, a build, and the removal of vfguard.

use super::program::rest;
use super::{boot, event, run};
use crate::actor::{Actor, Pc, Phase, Who};
use crate::scene::{Mutation, Scene};
use crate::world::{Env, Lock, Set, World, K};

/// One step; `None` if the actor is elsewhere.
pub fn step(scene: &Scene, world: &mut World, who: Who) -> Option<bool> {
    Some(match world.at(who).pc {
        Pc::OverrideLock => {
            let taken = world.take(Lock::Gate, who);
            if taken {
                world.over = Some(world.installed);
                open_files(world, who, Pc::OverrideLoad);
            }
            taken
        }
        Pc::OverrideLoad => open_load(world, who, Pc::OverrideRecord),
        Pc::OverrideRecord => {
            world.gate.record = None;
            rest(world, who)
        }
        Pc::DeclineLock => decline(scene, world, who),
        Pc::DeclineSync => {
            world.intent = world.wanted();
            if !scene.without(Mutation::DeclineIsNotSynced) {
                world.kept_declined = world.declined;
            }
            world.drop_lock(Lock::Boot, who);
            run::begin(world, who)
        }
        Pc::PrepareLock => {
            let taken = world.take(Lock::Write, who);
            if taken {
                let (phase, refused) = (Phase::Round, Set::of(&[K::New]));
                *world.actor(who) = Actor { pc: Pc::Build, phase, refused, ..*world.at(who) };
            }
            taken
        }
        Pc::RebootLock => {
            // Another run holds the lock, so this one gives up.
            let free = world.take(Lock::Write, who);
            if free {
                world.go(who, Pc::RebootBoot)
            } else {
                rest(world, who)
            }
        }
        Pc::RebootBoot => world.take(Lock::Boot, who) && world.go(who, Pc::RebootLook),
        Pc::RebootLook => look(scene, world, who),
        Pc::RebootPass => pass(scene, world, who),
        Pc::RebootLoad => open_load(world, who, Pc::RebootRecord),
        Pc::RebootRecord => {
            world.gate.record = None;
            world.drop_lock(Lock::Gate, who);
            world.go(who, Pc::RebootAsk)
        }
        Pc::RebootAsk if world.gate.loaded => {
            world.seen.reboot_refused = true;
            rest(world, who)
        }
        Pc::RebootAsk => {
            event::boot(scene, world);
            true
        }
        // The package is removed: first the stamp that every closer respects is written, then the units go, and the gate last.
        Pc::Stamp => {
            world.removing = true;
            world.go(who, Pc::StopUnits)
        }
        Pc::StopUnits => {
            for unit in [Who::Boot, Who::Watch, Who::Worker] {
                if !world.is_idle(unit) {
                    event::die(scene, world, unit);
                }
            }
            world.heard = false;
            world.go(who, Pc::RemoveLock)
        }
        Pc::RemoveLock => {
            let taken = world.take(Lock::Gate, who);
            if taken {
                (world.over, world.pass) = (None, None);
                open_files(world, who, Pc::RemoveLoad);
            }
            taken
        }
        Pc::RemoveLoad => open_load(world, who, Pc::RemoveRecord),
        Pc::RemoveRecord => {
            (world.gate.record, world.removed) = (None, true);
            rest(world, who)
        }
        _ => return None,
    })
}

fn open_files(world: &mut World, who: Who, then: Pc) {
    world.gate.files = false;
    world.go(who, then);
}

fn open_load(world: &mut World, who: Who, then: Pc) -> bool {
    world.gate.loaded = false;
    world.go(who, then)
}

fn decline(scene: &Scene, world: &mut World, who: Who) -> bool {
    if boot::waits_for_writer(scene, world) || !world.take(Lock::Boot, who) {
        return false;
    }
    let Some(off) = world.held_off() else {
        world.drop_lock(Lock::Boot, who);
        return run::begin(world, who);
    };
    world.declined = world.declined.with(off.kernel);
    world.go(who, Pc::DeclineSync)
}

/// Whether the held kernel may be rebooted into, and which kernels are still refused.
fn look(scene: &Scene, world: &mut World, who: Who) -> bool {
    world.look(who);
    let safe = |k: K| !world.counts(scene) || world.drives.has(k);
    if world.env == Env::Empty || world.kexec || !world.may_boot(world.env).iter().all(safe) {
        return rest(world, who);
    }
    let refused = Some(world.wanted()).filter(|k| !safe(*k));
    world.actor(who).refused = refused.map_or(Set::default(), |k| Set::of(&[k]));
    world.go(who, Pc::RebootPass)
}

/// Lets its own reboot through, under the gate's lock. The pass names the kernels that are still refused, and covers no others.
fn pass(scene: &Scene, world: &mut World, who: Who) -> bool {
    if !world.take(Lock::Gate, who) {
        return false;
    }
    let Actor { refused, overtaken, .. } = *world.at(who);
    if refused.is_empty() && overtaken {
        // Another run may have come to another verdict.
        return rest(world, who);
    }
    world.pass = Some(refused).filter(|set| !set.is_empty() && !scene.without(Mutation::OpensForReboot));
    open_files(world, who, Pc::RebootLoad);
    true
}
