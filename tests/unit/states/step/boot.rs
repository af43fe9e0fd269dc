//! The boot default under its lock: a run that refuses holds it, a run that found all safe promotes.

use super::gate::opening;
use super::run::{carry_out, look_again, next_round, refuse_rest};
use crate::actor::{Actor, End, Pc, Phase, Plan, Who};
use crate::real;
use crate::scene::{Mutation, Scene};
use crate::world::{Card, Env, Hold, Lock, Vars, World};

/// One step that changes the boot default; `None` if the actor is elsewhere.
pub fn step(scene: &Scene, world: &mut World, who: Who) -> Option<bool> {
    Some(match world.at(who).pc {
        Pc::HoldLock => hold(scene, world, who),
        Pc::HoldWrite => write_hold(scene, world, who),
        Pc::HoldSync => {
            world.sync_env();
            world.go(who, Pc::HoldCheck)
        }
        Pc::HoldCheck => check_hold(scene, world, who),
        Pc::Forget => forget(scene, world, who),
        Pc::ForgetSync => {
            (world.kept_env, world.kept_hold) = (world.env, world.hold);
            world.drop_lock(Lock::Boot, who);
            carry_out(scene, world, who)
        }
        Pc::PromoteLock => promote(scene, world, who),
        // Only with a guard removed: record and mark are removed before the default moves.
        Pc::PromoteForget => {
            release(scene, world);
            (world.kept_env, world.kept_hold) = (world.env, world.hold);
            world.actor(who).env = world.env;
            world.go(who, Pc::PromoteWrite)
        }
        Pc::PromoteWrite => write_promotion(scene, world, who),
        Pc::PromoteSync => {
            world.sync_env();
            world.go(who, Pc::PromoteCheck)
        }
        Pc::PromoteCheck => check_promotion(scene, world, who),
        Pc::PromoteRecord => {
            world.remove_hold(scene);
            if scene.syncs() {
                world.go(who, Pc::PromoteRecordSync)
            } else {
                promoted(scene, world, who)
            }
        }
        Pc::PromoteRecordSync => {
            world.kept_hold = world.hold;
            promoted(scene, world, who)
        }
        _ => return None,
    })
}

/// Whether the actor waits, since another tool is writing the block: that takes less than a millisecond, and vfguard waits up to a hundred.
pub fn waits_for_writer(scene: &Scene, world: &World) -> bool {
    world.is_being_written() && !scene.without(Mutation::HalfWrittenIsReal)
}

/// Whether the actor waits before it checks its move, until a tool that read the old block has written.
fn waits_for_rewriting(scene: &Scene, world: &World) -> bool {
    world.is_rewritten() && !scene.without(Mutation::LooksOnlyOnce)
}

/// Reads the files again under the boot lock. The record is written first, and synced.
fn hold(scene: &Scene, world: &mut World, who: Who) -> bool {
    let waits = scene.without(Mutation::HoldWaitsForBuild) && world.at(who).phase == Phase::First;
    if waits && !world.take(Lock::Write, who) {
        return false;
    }
    if !world.take(Lock::Boot, who) {
        return false;
    }
    let Plan::Refuse { once, hold: to, .. } = world.at(who).plan else { return give_up_hold(scene, world, who) };
    if waits_for_writer(scene, world) {
        return false;
    }
    let Env::Whole(mut vars) = world.env else { return give_up_hold(scene, world, who) };
    if once && vars.once.is_some() {
        vars = real::edit(vars, Vars { once: None, ..vars });
        world.write_env(scene, Env::Whole(vars));
        world.sync_env();
    }
    let Some(to) = to else { return give_up_hold(scene, world, who) };
    if scene.fixed_default {
        if scene.without(Mutation::FailedHoldWrites) {
            // Written, found to have no effect, and undone.
            world.write_env(scene, world.env);
        }
        return give_up_hold(scene, world, who);
    }
    let before = world.hold;
    let told = real::held_off(world.installed, world.env, before, world.declined).map(|off| off.kernel);
    let lasting = real::boots(world.installed, world.env).1;
    let record = before.filter(|hold| hold.held == to);
    let marked = vars.mark.is_some_and(|(held, _)| held == to);
    let wanted = match (lasting == to, record, told) {
        // Record and mark belong together: if one is lost, it is written again.
        (true, Some(record), _) if !marked => record.wanted,
        (true, None, Some(wanted)) if marked => {
            world.write_hold(Some(Hold { held: to, wanted }));
            return give_up_hold(scene, world, who);
        }
        (true, _, _) => return give_up_hold(scene, world, who),
        (false, _, Some(wanted)) => wanted,
        (false, _, None) => lasting,
    };
    let hold = Hold { held: to, wanted };
    world.write_hold(Some(hold));
    let actor = world.actor(who);
    if actor.pc == Pc::HoldLock {
        actor.before = before;
    }
    (actor.env, actor.hold) = (Env::Whole(vars), Some(hold));
    world.go(who, Pc::HoldWrite)
}

fn write_hold(scene: &Scene, world: &mut World, who: Who) -> bool {
    let actor = *world.at(who);
    if world.env != actor.env && !scene.without(Mutation::MovesWhatItDidNotRead) {
        // Somebody set a default since, so that kernel is wanted.
        return hold(scene, world, who);
    }
    let Some(vars) = held_vars(&actor) else {
        // The block cannot be written, so nothing is held.
        world.write_hold(actor.before);
        return give_up_hold(scene, world, who);
    };
    world.write_env(scene, Env::Whole(vars));
    world.go(who, if scene.syncs() { Pc::HoldSync } else { Pc::HoldCheck })
}

/// Another tool may have overwritten the move with what it had read before; then the actor writes again.
fn check_hold(scene: &Scene, world: &mut World, who: Who) -> bool {
    if waits_for_rewriting(scene, world) {
        return false;
    }
    if held_vars(world.at(who)).map(Env::Whole) == Some(world.env) {
        world.drop_lock(Lock::Boot, who);
        return refuse_rest(scene, world, who);
    }
    if scene.without(Mutation::MovesWhatItDidNotRead) {
        world.actor(who).env = world.env;
        return world.go(who, Pc::HoldWrite);
    }
    hold(scene, world, who)
}

/// The block that a hold writes, from the block that was read.
fn held_vars(actor: &Actor) -> Option<Vars> {
    let (Env::Whole(vars), Some(hold)) = (actor.env, actor.hold) else { return None };
    Some(real::edit(vars, Vars { saved: hold.held, mark: Some((hold.held, hold.wanted)), ..vars }))
}

fn give_up_hold(scene: &Scene, world: &mut World, who: Who) -> bool {
    world.drop_lock(Lock::Boot, who);
    refuse_rest(scene, world, who)
}

/// Whether somebody moved the default away from the held kernel. A block that is being written does not tell.
pub fn stale(scene: &Scene, world: &World, env: Env, hold: Option<Hold>) -> bool {
    if env == Env::Empty && scene.without(Mutation::HalfWrittenIsReal) {
        return hold.is_some_and(|hold| real::boots(world.installed, env).1 != hold.held);
    }
    hold.is_some() && real::has_ended(world.installed, env, hold)
}

fn forget(scene: &Scene, world: &mut World, who: Who) -> bool {
    if !world.take(Lock::Boot, who) {
        return false;
    }
    let again = scene.without(Mutation::HalfWrittenIsReal) || stale(scene, world, world.env, world.hold);
    if !again {
        world.drop_lock(Lock::Boot, who);
        return carry_out(scene, world, who);
    }
    release(scene, world);
    if scene.syncs() {
        return world.go(who, Pc::ForgetSync);
    }
    world.drop_lock(Lock::Boot, who);
    carry_out(scene, world, who)
}

/// Ends a hold and leaves the default where it is.
pub fn release(scene: &Scene, world: &mut World) {
    if let Env::Whole(vars @ Vars { mark: Some(_), .. }) = world.env {
        world.write_env(scene, Env::Whole(real::edit(vars, Vars { mark: None, ..vars })));
    }
    world.remove_hold(scene);
}

fn promote(scene: &Scene, world: &mut World, who: Who) -> bool {
    if waits_for_writer(scene, world) {
        return false;
    }
    if !world.take(Lock::Boot, who) {
        return false;
    }
    let actor = *world.at(who);
    if actor.overtaken && !scene.without(Mutation::PromotesWhatIsWanted) {
        world.drop_lock(Lock::Boot, who);
        return next_round(scene, world, who);
    }
    let Plan::Allow { end, open } = actor.plan else { return promoted(scene, world, who) };
    let believes = world.env == Env::Empty && scene.without(Mutation::HalfWrittenIsReal);
    let declined = world.skipped(scene, world.declined);
    let off = real::held_off(world.installed, world.env, world.hold, declined).filter(|_| !believes);
    let found = off.and_then(|off| off.wanted);
    match (end, found) {
        (End::Leave, _) => promoted(scene, world, who),
        (End::Forget, None) => {
            if stale(scene, world, world.env, world.hold) {
                release(scene, world);
                (world.kept_env, world.kept_hold) = (world.env, world.hold);
            }
            promoted(scene, world, who)
        }
        (End::Promote(judged), Some(found)) if judged == found || scene.without(Mutation::PromotesWhatIsWanted) => {
            // The card as it was judged: a card that was given up may be back at any moment.
            let counts = world.remembered || world.card == Card::Late || world.at(who).card;
            world.seen.promoted_unproven |= counts && !world.drives.has(found);
            world.seen.promoted_declined |= world.declined.has(found);
            let env = world.env;
            let actor = world.actor(who);
            (actor.env, actor.plan) = (env, Plan::Allow { end: End::Promote(found), open });
            world.go(who, if scene.without(Mutation::RecordEndsFirst) { Pc::PromoteForget } else { Pc::PromoteWrite })
        }
        // Another kernel is wanted now: the hold stays, and the gate opens on what was judged.
        (End::Promote(_) | End::Forget, _) => promoted(scene, world, who),
    }
}

fn write_promotion(scene: &Scene, world: &mut World, who: Who) -> bool {
    let actor = *world.at(who);
    if world.env != actor.env && !scene.without(Mutation::MovesWhatItDidNotRead) {
        return promote(scene, world, who);
    }
    match (actor.env, actor.plan) {
        (Env::Whole(vars), Plan::Allow { end: End::Promote(to), .. }) if world.installed.has(to) => {
            world.write_env(scene, Env::Whole(real::edit(vars, Vars { saved: to, mark: None, ..vars })));
            world.go(who, if scene.syncs() { Pc::PromoteSync } else { Pc::PromoteCheck })
        }
        // It has no boot entry any more.
        _ => promoted(scene, world, who),
    }
}

fn check_promotion(scene: &Scene, world: &mut World, who: Who) -> bool {
    if waits_for_rewriting(scene, world) {
        return false;
    }
    let Actor { plan, env: before, .. } = *world.at(who);
    match (world.env, plan) {
        (Env::Whole(vars), Plan::Allow { end: End::Promote(to), .. }) if vars.saved == to && vars.mark.is_none() => {
            if world.installed.has(to) {
                return world.go(who, Pc::PromoteRecord);
            }
            // It would not boot, so everything is undone.
            world.write_env(scene, before);
            world.sync_env();
            promoted(scene, world, who)
        }
        (Env::Whole(_), _) => {
            world.actor(who).env = world.env;
            promote(scene, world, who)
        }
        (Env::Empty, _) => promoted(scene, world, who),
    }
}

fn promoted(scene: &Scene, world: &mut World, who: Who) -> bool {
    world.drop_lock(Lock::Boot, who);
    match world.at(who).plan {
        Plan::Allow { open: true, .. } => world.go(who, opening(scene)),
        Plan::Rest | Plan::Tell | Plan::Refuse { .. } | Plan::Allow { open: false, .. } => look_again(world, who),
    }
}
