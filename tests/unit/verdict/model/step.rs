//! The steps that may happen to the machine of the model.

use super::machine::kernels::Random;
use super::{name, Model};

/// Special modes of a boot on the command line; mostly none.
const WORDS: [&str; 7] = ["", "", "", "", "single", "systemd.unit=system-update.target", "vfguard=off"];

#[derive(Clone, Debug)]
pub enum Step {
    /// A package installs a kernel and makes it the default, with or without a driver for the card.
    Install {
        kernel: String,
        good: bool,
    },
    /// The same by a package that does not move the default.
    Add {
        kernel: String,
        good: bool,
    },
    Remove(String),
    /// The driver is installed late, or somebody removes it.
    Driver(String, bool),
    /// An admin sets the default.
    Default(String),
    /// An admin sets a one-shot default.
    Once(String),
    /// An admin sets a fallback kernel, or none.
    Fallback(Option<String>),
    Hook,
    KilledHook(u64),
    Override(Option<String>),
    CloseByHand,
    Decline(String),
    Accept(String),
    Later(i64),
    Clock(i64),
    /// `mode = "observe"` is set or removed.
    Observe(bool),
    /// With this word on the kernel command line.
    Reboot(&'static str),
}

impl Step {
    /// An update is declined. Then a later kernel is installed that no package makes the default: first without a driver, then with one.
    pub fn declined_and_later() -> Vec<Step> {
        let (update, later) = (name(11), name(12));
        vec![
            Step::Install { kernel: update.clone(), good: false },
            Step::Hook,
            Step::Decline(update.clone()),
            // It is not promoted, even though it drives the card now.
            Step::Driver(update, true),
            Step::Hook,
            Step::Add { kernel: later.clone(), good: false },
            Step::Hook,
            Step::Driver(later, true),
            Step::Hook,
        ]
    }

    pub fn choose(model: &Model, random: &mut Random) -> Step {
        let names: Vec<String> = model.kernels.values().map(|(k, _)| k.clone()).collect();
        let any = random.of(&names).clone();
        match random.below(29) {
            0..=2 => {
                let (kernel, good) = (name(model.next_number), random.below(3) == 0);
                if random.below(3) == 0 {
                    Step::Add { kernel, good }
                } else {
                    Step::Install { kernel, good }
                }
            }
            3 if names.len() > 1 => Step::Remove(any),
            3..=6 => Step::Driver(any, random.below(4) != 0),
            7 => Step::Default(any),
            8 => Step::Once(any),
            9..=13 => Step::Hook,
            14 => Step::KilledHook(random.below(9000)),
            15..=16 => Step::Override((random.below(2) == 0).then_some(any)),
            17 => Step::CloseByHand,
            18 => Step::Decline(any),
            19 => Step::Accept(any),
            20..=21 => Step::Later(*random.of(&[70, 700, 7000])),
            22 => Step::Clock(*random.of(&[-90_000, -700, 700, 90_000])),
            23 => Step::Observe(random.below(3) == 0),
            24 => Step::Fallback((random.below(3) == 0).then_some(any)),
            _ => Step::Reboot(WORDS[random.below(WORDS.len() as u64) as usize]),
        }
    }
}
