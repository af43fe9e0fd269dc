//! What an actor does besides a run of vfguard: package managers and their hooks, systemd units, tools that write grubenv.

use super::run;
use crate::actor::{Actor, Deed, Pc, Who};
use crate::real;
use crate::scene::{Mutation, Scene};
use crate::world::{Card, Env, Vars, World};

/// A deed begins.
pub fn begin(world: &mut World, who: Who, deed: Deed) -> bool {
    if world.lost || (world.removed && who == Who::Person) {
        return false;
    }
    let pc = match deed {
        Deed::Install(_) | Deed::Add(_) | Deed::Remove(_) => Pc::Unpack,
        Deed::Default(_) | Deed::Once(_) | Deed::Rewrite => Pc::EditRead,
        Deed::Decide => Pc::Raise,
        Deed::Override => Pc::OverrideLock,
        Deed::Decline => Pc::DeclineLock,
        Deed::RebootHeld => Pc::RebootLock,
        Deed::Prepare => Pc::PrepareLock,
        Deed::RemovePackage => Pc::Stamp,
    };
    *world.actor(who) = Actor { pc, deed: Some(deed), ..Actor::default() };
    true
}

/// Starts a unit; a running one is joined.
pub fn start(world: &mut World, who: Who) {
    if world.is_idle(who) && !world.removed {
        *world.actor(who) = Actor { pc: Pc::Queued, ..Actor::default() };
    }
}

/// The step after an actor's run.
pub fn after_run(scene: &Scene, world: &mut World, who: Who) -> bool {
    let Actor { turn, deed, refused, .. } = *world.at(who);
    let build = scene.worker && run::can_build(scene, world, refused);
    *world.actor(who) = Actor { turn: turn + 1, deed, ..Actor::default() };
    match who {
        // A hook: the worker builds, and the hook waits for it and decides again.
        Who::Package if turn == 0 && build => {
            start(world, Who::Worker);
            world.go(who, Pc::WaitWorker)
        }
        Who::Watch if scene.worker => world.go(who, Pc::Handover),
        // ExecStopPost: a start request near its end was merged into it.
        Who::Worker if turn == 0 => run::begin(world, who),
        // The unit waits for the devices, but only for a limited time.
        Who::Boot if world.card == Card::Late => {
            world.card = Card::Here;
            rest(world, who)
        }
        Who::Package | Who::Run | Who::Worker | Who::Watch | Who::Boot | Who::FailClosed | Who::Person | Who::Foreign => {
            rest(world, who)
        }
    }
}

/// An actor is done.
pub fn rest(world: &mut World, who: Who) -> bool {
    world.drop_locks(who);
    *world.actor(who) = Actor::default();
    true
}

/// One step of a program; `None` if the actor is elsewhere.
pub fn step(scene: &Scene, world: &mut World, who: Who) -> Option<bool> {
    Some(match world.at(who).pc {
        Pc::Queued => queued(scene, world, who),
        Pc::Unpack => unpack(scene, world, who),
        Pc::WaitWorker => world.is_idle(Who::Worker) && run::begin(world, who),
        Pc::Handover => {
            world.raise(who);
            start(world, Who::Worker);
            world.go(who, Pc::Ending)
        }
        Pc::Ending => rest(world, who),
        Pc::EditRead => {
            world.actor(who).env = world.env;
            match world.env {
                Env::Whole(_) => world.go(who, Pc::EditTruncate),
                // grub-editenv: invalid environment block.
                Env::Empty => edited(world, who),
            }
        }
        Pc::EditTruncate => {
            world.write_env(scene, Env::Empty);
            world.seen.starts = 0;
            world.go(who, Pc::EditWrite)
        }
        Pc::EditWrite => write(scene, world, who),
        _ => return None,
    })
}

/// A unit's job waits for the units that it is ordered after.
fn queued(scene: &Scene, world: &mut World, who: Who) -> bool {
    let waits = who == Who::Worker
        && ((!scene.without(Mutation::WorkerDoesNotWaitForWatch) && !world.is_idle(Who::Watch))
            || (scene.without(Mutation::WorkerWaitsForNetwork) && !world.network));
    if world.removed && who != Who::FailClosed {
        return rest(world, who);
    }
    !waits && run::begin(world, who)
}

/// A package's files are installed or removed.
fn unpack(scene: &Scene, world: &mut World, who: Who) -> bool {
    let installs = match world.at(who).deed {
        Some(Deed::Install(k)) => {
            world.installed = world.installed.with(k);
            true
        }
        Some(Deed::Add(k)) => {
            world.installed = world.installed.with(k);
            // By the rule for the kernel that is wanted instead of a declined one; P9 checks this independently.
            world.intent = world.wanted();
            false
        }
        Some(Deed::Remove(k)) => {
            (world.installed, world.drives) = (world.installed.without(k), world.drives.without(k));
            false
        }
        _ => false,
    };
    world.notify(scene);
    if installs {
        world.go(who, Pc::EditRead)
    } else {
        run::begin(world, who)
    }
}

/// Writes the block as it was read, with the change, and syncs it.
fn write(scene: &Scene, world: &mut World, who: Who) -> bool {
    let Actor { env: Env::Whole(read), deed, .. } = *world.at(who) else { return false };
    let vars = match deed {
        Some(Deed::Install(k) | Deed::Default(k)) => real::edit(read, Vars { saved: k, ..read }),
        Some(Deed::Once(k)) => real::edit(read, Vars { once: Some(k), ..read }),
        _ => read,
    };
    world.write_env(scene, Env::Whole(vars));
    world.sync_env();
    // The kernel that is wanted after that, by the rule of record and mark.
    world.intent = world.wanted();
    world.seen.starts = 0;
    world.seen.unheard |= !scene.watch && matches!(deed, Some(Deed::Default(_) | Deed::Once(_)));
    edited(world, who)
}

/// After the default was set, a package manager calls the hook.
fn edited(world: &mut World, who: Who) -> bool {
    match world.at(who).deed {
        Some(Deed::Install(_)) => run::begin(world, who),
        _ => rest(world, who),
    }
}
