//! The model as stateright explores it.

use super::actor::{Actor, Pc, Who, ALL};
use super::property;
use super::scene::Scene;
use super::step::event::{self, Event};
use super::step::{boot, gate, person, program, run};
use super::world::World;
use stateright::{Model, Property};

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// An actor takes its next step.
    Step(Who),
    /// The same with the other choice, where there are two.
    Other(Who),
    /// The deed with this number begins.
    Begin(usize),
    /// The path unit starts the watch.
    Watch,
    Happen(Event),
}

/// Takes one step of an actor. Returns whether there was one.
pub fn step(scene: &Scene, world: &mut World, who: Who, second: bool) -> bool {
    run::step(scene, world, who, second)
        .or_else(|| gate::step(scene, world, who))
        .or_else(|| boot::step(scene, world, who))
        .or_else(|| program::step(scene, world, who))
        .or_else(|| person::step(scene, world, who))
        .unwrap_or(false)
}

/// The path unit starts the watch. Returns whether there was a reason.
pub fn watch(world: &mut World) -> bool {
    if !world.heard || !world.is_idle(Who::Watch) || !world.is_idle(Who::Boot) || world.removing {
        return false;
    }
    world.heard = false;
    world.seen.starts = (world.seen.starts + 1).min(property::MAX_STARTS + 1);
    *world.actor(Who::Watch) = Actor { pc: Pc::Raise, ..Actor::default() };
    true
}

impl Model for Scene {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![self.world()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for who in ALL.into_iter().filter(|who| !world.is_idle(*who)) {
            actions.push(Action::Step(who));
            if run::has_choice(world.at(who).pc) {
                actions.push(Action::Other(who));
            }
        }
        let begins = |i: &usize| world.left.deeds & (1 << i) != 0 && world.is_idle(self.deeds[*i].0);
        actions.extend((0..self.deeds.len()).filter(begins).map(Action::Begin));
        if world.heard {
            actions.push(Action::Watch);
        }
        let mut events = Vec::new();
        event::possible(self, world, &mut events);
        actions.extend(events.into_iter().map(Action::Happen));
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        let world = &mut next;
        let done = match action {
            Action::Step(who) => step(self, world, who, false),
            Action::Other(who) => step(self, world, who, true),
            Action::Begin(i) => {
                world.left.deeds &= !(1 << i);
                world.seen.starts = 0;
                let (who, deed) = self.deeds[i];
                program::begin(world, who, deed)
            }
            Action::Watch => watch(world),
            Action::Happen(event) => event::happen(self, world, event),
        };
        done.then_some(next)
    }

    fn properties(&self) -> Vec<Property<Scene>> {
        property::all()
    }
}
