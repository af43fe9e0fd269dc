//! The scenes, each with so few actors that every order of their steps can be explored.

use super::actor::{Deed, Who};
use super::property::{P1, P2, P4, P5, P6, P7, P8, P9};
use super::scene::{Mutation, Scene, Start};
use super::world::{Set, K};

/// A run that only decides, or one of a timer.
const DECIDE: (Who, Deed) = (Who::Run, Deed::Decide);
/// A package manager brings the update, makes it the default and calls its hook.
const INSTALL: (Who, Deed) = (Who::Package, Deed::Install(K::New));
/// A package manager installs a kernel for which no build succeeds.
const NEWEST: (Who, Deed) = (Who::Package, Deed::Install(K::Newest));
/// A tool rewrites grubenv for other reasons.
const REWRITE: (Who, Deed) = (Who::Foreign, Deed::Rewrite);

/// A run opens the gate while a kernel is installed, and may die meanwhile. No default can be held, so only the gate protects.
fn opening() -> Scene {
    Scene {
        name: "opening",
        start: Start::Closed(K::New),
        fixed_default: true,
        good: Set::of(&[K::New]),
        deeds: vec![DECIDE, NEWEST],
        mortal: vec![Who::Run],
        kills: 1,
        ..Scene::default()
    }
}

/// A default is set without a hook while a run opens and another one decides.
fn unhooked() -> Scene {
    Scene {
        name: "unhooked",
        start: Start::Closed(K::New),
        fixed_default: true,
        installed: Set::of(&[K::Newest]),
        good: Set::of(&[K::New]),
        deeds: vec![DECIDE, (Who::Foreign, Deed::Default(K::Newest)), (Who::Person, Deed::Decide)],
        ..Scene::default()
    }
}

/// The same where the gate is closed for the kernel that is set.
fn set_back() -> Scene {
    Scene { name: "set back", start: Start::Closed(K::Newest), ..unhooked() }
}

/// A build by hand while a kernel is installed.
fn preparing() -> Scene {
    Scene { name: "prepare", start: Start::Held, deeds: vec![(Who::Person, Deed::Prepare), NEWEST], ..Scene::default() }
}

/// An update whose package manager or hook is killed; the path unit notices the rest.
fn crashing() -> Scene {
    Scene {
        name: "crash",
        deeds: vec![INSTALL],
        builds: Set::default(),
        watch: true,
        worker: true,
        mortal: vec![Who::Package],
        kills: 1,
        ..Scene::default()
    }
}

/// A default that is set without a hook, and units that are killed.
fn crashing_units() -> Scene {
    Scene {
        name: "crash of a unit",
        installed: Set::of(&[K::New]),
        deeds: vec![(Who::Foreign, Deed::Default(K::New))],
        watch: true,
        worker: true,
        mortal: vec![Who::Watch, Who::Worker, Who::FailClosed],
        kills: 1,
        ..Scene::default()
    }
}

/// An update whose worker is killed.
fn crashing_worker() -> Scene {
    Scene {
        name: "crash of the worker",
        deeds: vec![INSTALL],
        worker: true,
        mortal: vec![Who::Worker, Who::FailClosed],
        kills: 1,
        ..Scene::default()
    }
}

/// A hold and a promotion while other tools write grubenv.
fn beside() -> Scene {
    Scene {
        name: "beside",
        start: Start::Held,
        installed: Set::of(&[K::Newest]),
        good: Set::of(&[K::New]),
        deeds: vec![DECIDE, REWRITE],
        mortal: vec![Who::Run],
        kills: 1,
        ..Scene::default()
    }
}

/// An update while another tool writes grubenv.
fn update() -> Scene {
    Scene { name: "update", deeds: vec![INSTALL, REWRITE, DECIDE], builds: Set::default(), ..Scene::default() }
}

/// The wanted kernel is removed during its promotion.
fn removal() -> Scene {
    Scene {
        name: "removal",
        start: Start::Held,
        installed: Set::of(&[K::Newest]),
        good: Set::of(&[K::New]),
        deeds: vec![DECIDE, (Who::Package, Deed::Remove(K::New))],
        mortal: vec![Who::Run],
        kills: 1,
        ..Scene::default()
    }
}

/// A kernel is installed while another one is built for.
fn building() -> Scene {
    Scene { name: "building", deeds: vec![INSTALL, (Who::Run, Deed::Install(K::Newest))], worker: true, ..Scene::default() }
}

/// A kernel is loaded for kexec.
fn kexec() -> Scene {
    Scene { name: "kexec", deeds: vec![INSTALL, DECIDE], kexecs: 2, ..Scene::default() }
}

/// The card disappears and comes back, and the power is cut.
fn cards() -> Scene {
    Scene {
        name: "cards",
        start: Start::Held,
        builds: Set::default(),
        deeds: vec![DECIDE],
        cards: 2,
        cuts: 2,
        patience: 2,
        ..Scene::default()
    }
}

/// A boot in which the card appears late and is not remembered.
fn late() -> Scene {
    Scene {
        name: "late",
        start: Start::Held,
        builds: Set::default(),
        forgotten: true,
        late: true,
        cuts: 1,
        ..Scene::default()
    }
}

/// `vfguard reboot --held` while another run decides.
fn reboot() -> Scene {
    Scene {
        name: "reboot",
        start: Start::Held,
        deeds: vec![DECIDE, (Who::Person, Deed::RebootHeld)],
        mortal: vec![Who::Person],
        kills: 1,
        ..Scene::default()
    }
}

/// An override that ends while a kernel is installed.
fn overriding() -> Scene {
    Scene {
        name: "override",
        start: Start::Closed(K::New),
        fixed_default: true,
        deeds: vec![(Who::Person, Deed::Override), NEWEST],
        ..Scene::default()
    }
}

/// A person declines, and the power is cut.
fn declining() -> Scene {
    Scene {
        name: "decline",
        start: Start::Held,
        deeds: vec![(Who::Person, Deed::Decline), DECIDE],
        cuts: 1,
        ..Scene::default()
    }
}

/// A person declines a kernel, and a later one is installed by a package that does not move the default.
fn skipping() -> Scene {
    Scene {
        name: "a later kernel",
        start: Start::Held,
        good: Set::of(&[K::New, K::Newest]),
        deeds: vec![(Who::Person, Deed::Decline), DECIDE, (Who::Package, Deed::Add(K::Newest))],
        ..Scene::default()
    }
}

/// An update, its build and its promotion, and power cuts.
fn power() -> Scene {
    Scene { name: "power", deeds: vec![INSTALL], worker: true, cuts: 1, ..Scene::default() }
}

/// A kernel is installed before the network is up.
fn early() -> Scene {
    Scene { name: "early", deeds: vec![INSTALL], worker: true, network: false, ..Scene::default() }
}

/// The package is removed while the worker runs.
fn leaving() -> Scene {
    Scene {
        name: "leaving",
        start: Start::Held,
        builds: Set::of(&[K::New, K::Newest]),
        worker: true,
        deeds: vec![NEWEST, (Who::Person, Deed::RemovePackage)],
        ..Scene::default()
    }
}

/// Defaults that are set without a hook, and the path unit that notices them.
fn watching() -> Scene {
    Scene {
        name: "watch",
        start: Start::Quiet,
        installed: Set::of(&[K::New, K::Newest]),
        good: Set::of(&[K::New]),
        deeds: vec![(Who::Foreign, Deed::Default(K::Newest)), (Who::Person, Deed::Default(K::New))],
        watch: true,
        worker: true,
        ..Scene::default()
    }
}

/// A one-shot default is set.
fn once() -> Scene {
    Scene {
        name: "once",
        installed: Set::of(&[K::New]),
        deeds: vec![(Who::Foreign, Deed::Once(K::New))],
        watch: true,
        worker: true,
        ..Scene::default()
    }
}

/// A default that is set without a hook and cannot be held.
fn stubborn() -> Scene {
    Scene {
        name: "stubborn",
        installed: Set::of(&[K::Newest]),
        fixed_default: true,
        deeds: vec![(Who::Foreign, Deed::Default(K::Newest))],
        watch: true,
        worker: true,
        ..Scene::default()
    }
}

/// All scenes. `full`: with more events in each, and with the long ones.
pub fn all(full: bool) -> Vec<Scene> {
    let usual = vec![
        opening(),
        unhooked(),
        set_back(),
        beside(),
        update(),
        removal(),
        building(),
        preparing(),
        kexec(),
        cards(),
        late(),
        reboot(),
        overriding(),
        declining(),
        skipping(),
        power(),
        early(),
        leaving(),
        watching(),
        once(),
        stubborn(),
        crashing_worker(),
    ];
    if !full {
        return usual;
    }
    let more = [crashing(), crashing_units()];
    usual.into_iter().map(larger).chain(more).collect()
}

/// The same with another tool that writes grubenv, and one more of each event.
fn larger(mut scene: Scene) -> Scene {
    if scene.deeds.iter().all(|(who, _)| *who != Who::Foreign) {
        scene.deeds.push(REWRITE);
    }
    if scene.worker {
        scene.mortal.extend([Who::Worker, Who::FailClosed]);
        scene.kills += 1;
    }
    for more in [&mut scene.cuts, &mut scene.cards, &mut scene.kexecs].into_iter().filter(|n| **n > 0) {
        *more += 1;
    }
    scene
}

/// Which property is violated in which scene without which guard.
pub fn mutations() -> Vec<(Mutation, Scene, &'static str)> {
    use Mutation::*;
    vec![
        (ComparesOutsideLock, opening(), P1),
        (ClosingDoesNotRaise, unhooked(), P1),
        (OverrideEndsUnseen, overriding(), P1),
        (WorkerDoesNotWaitForWatch, watching(), P1),
        (HoldWaitsForBuild, building(), P2),
        (KexecEndsHold, kexec(), P2),
        (MovesWhatItDidNotRead, building(), P4),
        (SameClosingDoesNotRaise, set_back(), P1),
        (LooksOnlyOnce, update(), P2),
        (HalfWrittenIsReal, beside(), P4),
        (RecordEndsFirst, power(), P4),
        (DeclineIsNotSynced, declining(), P4),
        (DeclinePins, skipping(), P9),
        (DeclinedIsWanted, skipping(), P9),
        (AbsentDeviceForgotten, cards(), P5),
        (BootPromotes, late(), P5),
        (FoundDeviceDoesNotRaise, cards(), P5),
        (PromotesWhatIsWanted, removal(), P5),
        (OpensForReboot, reboot(), P6),
        (FailedHoldWrites, stubborn(), P7),
        (NoRemovingStamp, leaving(), P8),
        (WorkerWaitsForNetwork, early(), P8),
    ]
}
