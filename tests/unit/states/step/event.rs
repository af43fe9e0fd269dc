//! Hardware, time, and killed actors.

use super::program;
use crate::actor::{Actor, Pc, Who, ALL};
use crate::real;
use crate::scene::{Mutation, Scene};
use crate::world::{Card, Env, Gate, Seen, Vars, World};

/// An actor is killed. For a unit, systemd's reaction to the failure follows.
pub fn die(scene: &Scene, world: &mut World, who: Who) {
    let Actor { turn, pc, .. } = *world.at(who);
    program::rest(world, who);
    match who {
        Who::Worker | Who::Boot | Who::Watch => program::start(world, Who::FailClosed),
        Who::Package | Who::Run | Who::FailClosed | Who::Person | Who::Foreign => {}
    }
    match who {
        // ExecStopPost runs after a crash, too.
        Who::Worker if turn == 0 && !world.removed => {
            *world.actor(who) = Actor { pc: Pc::Raise, turn: 1, ..Actor::default() };
        }
        // The run was killed; the unit's next command hands over.
        Who::Watch if scene.worker && !matches!(pc, Pc::Handover | Pc::Ending) && !world.removing => {
            world.go(who, Pc::Handover);
        }
        _ => {}
    }
}

/// A power cut: changes that were not synced may be there or not.
pub fn cut(scene: &Scene, world: &mut World, keeps_env: bool, keeps_hold: bool) {
    if !keeps_env {
        world.env = world.kept_env;
    }
    if !keeps_hold {
        (world.hold, world.declined) = (world.kept_hold, world.kept_declined);
    }
    // A decline in progress may have been written or not.
    if world.at(Who::Person).pc == Pc::DeclineSync {
        world.intent = world.wanted();
    }
    boot(scene, world);
}

/// The machine boots: /run is empty, and the boot loader uses the one-shot default.
pub fn boot(scene: &Scene, world: &mut World) {
    world.running = world.boots(world.env);
    if let Env::Whole(vars) = world.env {
        world.env = Env::Whole(real::edit(vars, Vars { once: None, ..vars }));
    }
    (world.kept_env, world.kept_hold, world.kept_declined) = (world.env, world.hold, world.declined);
    (world.gate, world.over, world.pass, world.kexec, world.heard) = (Gate::default(), None, None, false, false);
    world.removing &= world.removed;
    (world.locks, world.actors) = (Default::default(), Default::default());
    world.seen = Seen { starts: 0, ..world.seen };
    world.lost = !world.is_good(world.running);
    world.missed = false;
    if scene.late && world.card == Card::Here {
        world.card = Card::Late;
    }
    if world.lost || world.removed {
        return;
    }
    program::start(world, Who::Boot);
    world.heard = scene.watch;
}

/// An event that may happen at any time, if the scene has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    Kill(Who),
    PowerCut { keeps_env: bool, keeps_hold: bool },
    Card(Card),
    Kexec,
    Network,
    OverrideEnds,
    PassEnds,
}

/// All events that are possible in this state.
pub fn possible(scene: &Scene, world: &World, events: &mut Vec<Event>) {
    if world.lost {
        return;
    }
    if world.left.kills > 0 {
        let alive = |who: &Who| {
            scene.mortal.contains(who) && !world.is_idle(*who) && !matches!(world.at(*who).pc, Pc::Queued | Pc::WaitWorker)
        };
        events.extend(ALL.into_iter().filter(alive).map(Event::Kill));
    }
    if world.left.cuts > 0 {
        for keeps_env in [true, false] {
            for keeps_hold in [true, false] {
                let records = (world.hold, world.declined) != (world.kept_hold, world.kept_declined);
                let differs = (keeps_env || world.env != world.kept_env) && (keeps_hold || records);
                if differs {
                    events.push(Event::PowerCut { keeps_env, keeps_hold });
                }
            }
        }
    }
    if world.left.cards > 0 {
        match world.card {
            Card::Here => events.extend([Event::Card(Card::Away), Event::Card(Card::Gone)]),
            Card::Away => events.push(Event::Card(Card::Here)),
            Card::Late | Card::Gone => {}
        }
    }
    if world.left.kexecs > 0 {
        events.push(Event::Kexec);
    }
    if !world.network {
        events.push(Event::Network);
    }
    if world.over.is_some() {
        events.push(Event::OverrideEnds);
    }
    if world.card == Card::Late {
        events.push(Event::Card(Card::Here));
    }
    // A pass survives its reboot only if that was killed.
    if world.pass.is_some() && world.is_idle(Who::Person) {
        events.push(Event::PassEnds);
    }
}

/// Lets an event happen.
pub fn happen(scene: &Scene, world: &mut World, event: Event) -> bool {
    world.seen.starts = 0;
    match event {
        Event::Kill(who) => {
            world.left.kills -= 1;
            die(scene, world, who);
        }
        Event::PowerCut { keeps_env, keeps_hold } => {
            world.left.cuts -= 1;
            cut(scene, world, keeps_env, keeps_hold);
        }
        Event::Card(card) => {
            world.left.cards -= u8::from(world.card != Card::Late);
            world.card = card;
            if card == Card::Here {
                // A udev rule starts the watch. Without it, no run notices for a while that a card that was given up is back.
                world.heard |= scene.watch;
                world.seen.unheard |= !scene.watch && !world.remembered;
            }
        }
        Event::Kexec => {
            world.left.kexecs -= 1;
            world.kexec = !world.kexec;
        }
        // Programs that run before network-online.target delay it.
        Event::Network => {
            if !world.is_idle(Who::Package) {
                return false;
            }
            world.network = true;
        }
        Event::OverrideEnds => {
            world.over = None;
            if !scene.without(Mutation::OverrideEndsUnseen) {
                return timer(world);
            }
        }
        Event::PassEnds => {
            world.pass = None;
            return timer(world);
        }
    }
    true
}

/// A timer starts a run that decides again.
fn timer(world: &mut World) -> bool {
    let free = world.is_idle(Who::Run);
    program::start(world, Who::Run);
    free
}
