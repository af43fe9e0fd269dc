//! One state machine: gate, hold, override, locks, hooks, worker, watch, package manager, other tools and power cuts, in every order that a
//! small machine allows. docs/states.md describes the protocol. The model calls the real decision, judgement and environment block.
//!
//! Each scene has some of the actors. A second test removes each guard and checks that its property is then violated. `VFGUARD_FULL` runs
//! larger scenes.

mod actor;
mod model;
mod property;
mod real;
mod scene;
mod scenes;
mod step;
mod world;

use model::Action;
use scene::Scene;
use stateright::{Checker, HasDiscoveries, Model};
use std::time::Instant;
use world::World;

/// The limit of an exploration, in states and in transitions.
const LIMIT: usize = 60_000_000;

/// The result of an exploration.
struct Found {
    line: String,
    /// The violated property, the length of the shortest way to it, and the way.
    violation: Option<(&'static str, usize, String)>,
}

fn explore(scene: Scene, looked_for: Option<&'static str>) -> Found {
    let start = Instant::now();
    let name = scene.name;
    let until = looked_for.map_or(HasDiscoveries::AnyFailures, |p| HasDiscoveries::AnyOf([p].into()));
    let checker = scene.checker().finish_when(until).target_state_count(LIMIT).spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    let cut = if checker.state_count() < LIMIT { "" } else { ", not all" };
    let line = format!("{name}: {states} states{cut}, depth {depth}, {:.1} s", start.elapsed().as_secs_f64());
    let mut found = checker.discoveries();
    let property = looked_for.filter(|p| found.contains_key(p)).or(found.keys().next().copied());
    let violation = property.and_then(|p| Some((p, found.remove(p)?))).map(|(property, path)| {
        let steps = path.into_vec();
        let way = steps.iter().map(|(world, action)| told(world, *action)).collect();
        (property, steps.len() - 1, way)
    });
    Found { line, violation }
}

/// Describes the event of a state for people; at the end the state itself.
fn told(world: &World, action: Option<Action>) -> String {
    match action {
        Some(Action::Step(who)) => format!("    {who:?}: {:?}\n", world.at(who).pc),
        Some(Action::Other(who)) => format!("    {who:?}: {:?}, the other way\n", world.at(who).pc),
        Some(action) => format!("    {action:?}\n"),
        None => {
            let World { installed, drives, env, hold, kept_env, kept_hold, gate, over, seen, intent, .. } = world;
            format!(
                "    installed {installed:?}, good {drives:?}, wanted on purpose {intent:?}\n    {env:?} {hold:?}\n    after a power cut \
                 {kept_env:?} {kept_hold:?}\n    {gate:?}, override {over:?}, {:?} running {:?}\n    {seen:?}\n",
                world.card, world.running
            )
        }
    }
}

#[test]
fn no_property_is_violated_in_any_order_of_the_actors() {
    let mut bad = String::new();
    for scene in scenes::all(std::env::var_os("VFGUARD_FULL").is_some()) {
        let found = explore(scene, None);
        println!("{}", found.line);
        if let Some((property, steps, way)) = found.violation {
            bad += &format!("{}\n  {property}, after {steps} steps:\n{way}\n", found.line);
        }
    }
    assert!(bad.is_empty(), "{bad}");
}

#[test]
fn without_its_guard_each_property_is_violated() {
    let mut missing = String::new();
    for (mutation, scene, property) in scenes::mutations() {
        let found = explore(Scene { mutation: Some(mutation), ..scene }, Some(property));
        match found.violation {
            Some((violated, steps, _)) if violated == property => {
                println!("{mutation:?}: {} after {steps} steps ({})", &property[..2], found.line);
            }
            other => missing += &format!("{mutation:?} in {}: {property}: {:?}\n", found.line, other.map(|o| o.0)),
        }
    }
    assert!(missing.is_empty(), "{missing}");
}
