//! The record of a hold, and what record, mark and boot loader say together.

use crate::boot::declined;
use crate::boot::loader::Asked;
use crate::boot::steps::told::{self, HoldMark};
use crate::boot::{choose, Candidate, NextBoot};
use crate::host::Host;
use crate::kernel::{installed, KernelRelease};
use anyhow::Result;
use serde::{Deserialize, Serialize};

/// The record of a hold, below the root.
pub const RECORD: &str = "/var/lib/vfguard/records/hold.json";

/// A current hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The kernel that would boot without the hold, declined kernels skipped; the held kernel if none is left.
    pub wanted: KernelRelease,
    /// The wanted kernel's entry.
    pub entry: String,
    /// The kernel that the default is held on.
    pub held: KernelRelease,
    /// When, as RFC 3339.
    pub when: String,
    /// Why.
    pub why: String,
    /// The declined kernel that the hold keeps from booting, where nothing else is wanted. Not stored in this record: declined kernels have
    /// their own list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declined: Option<KernelRelease>,
}

/// The kernel that a hold keeps from booting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldOff {
    /// The kernel that would boot without it.
    pub kernel: KernelRelease,
    /// The wanted kernel: the same or, if that is declined, a newer one. None if the hold stays because the other kernel is declined.
    pub wanted: Option<KernelRelease>,
}

impl Hold {
    /// Reads the record, if there is a readable one.
    pub fn read(host: &Host) -> Option<Hold> {
        serde_json::from_slice(&host.read(RECORD).ok()?).ok()
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let since = if self.when.is_empty() { String::new() } else { format!(" since {}", self.when) };
        match &self.declined {
            Some(declined) => format!("boot default: held on {}{since}: {declined} is declined", self.held),
            None => format!("boot default: held on {} instead of {}{since}: {}", self.held, self.wanted, self.why),
        }
    }

    pub(super) fn told(&self) -> HoldMark {
        HoldMark { held: self.held.clone(), wanted: Some(self.declined.as_ref().unwrap_or(&self.wanted).clone()) }
    }

    pub(super) fn write(&self, host: &Host) -> Result<()> {
        let wanted = self.declined.as_ref().unwrap_or(&self.wanted).clone();
        let record = Hold { wanted, declined: None, ..self.clone() };
        host.write_atomic(RECORD, &serde_json::to_vec_pretty(&record)?, 0o644)
    }
}

/// What record and mark say about a hold, and what starts.
pub(super) struct Seen {
    pub record: Option<Hold>,
    told: Option<HoldMark>,
    pub mark: Option<HoldMark>,
    pub lasting: Option<KernelRelease>,
    asked: Option<Asked>,
}

impl Seen {
    pub fn new(host: &Host, now: &NextBoot) -> Seen {
        let record = Hold::read(host);
        let told = record.as_ref().map(Hold::told);
        // With `boot.loader = "none"` the loader was not asked, but a hold from before that setting may still be on.
        let asked = now.asked.clone().or_else(|| choose::resolve(host).asked);
        let mark = asked.as_ref().and_then(|asked| asked.loader.mark(host, asked));
        Seen { record, told, mark, lasting: now.lasting().map(|c| c.kernel.clone()), asked }
    }

    /// The kernel that the default is held on, if a hold is on.
    pub fn held(&self) -> Option<&KernelRelease> {
        told::believed(self.told.as_ref(), self.mark.as_ref(), self.lasting.as_ref()).next().map(|told| &told.held)
    }

    pub fn has_ended(&self) -> bool {
        told::has_ended(self.told.as_ref(), self.mark.as_ref(), self.lasting.as_ref())
    }

    /// What the current hold keeps from booting, and what is wanted.
    pub fn held_off(&self, host: &Host) -> Option<HeldOff> {
        let loader = &self.asked.as_ref()?.loader;
        let installed = |kernel: &KernelRelease| installed::image(host, kernel).is_some();
        let menu = || std::iter::once_with(|| loader.menu(host)).flatten().map(|c| c.kernel);
        let told = told::wanted_of(self.told.as_ref(), self.mark.as_ref(), self.lasting.as_ref(), installed, menu())?;
        // What the loader's files say takes precedence: another kernel may have been installed since.
        let by_files = self.unheld(host).map(|c| c.kernel).filter(installed);
        let said = by_files.is_some() && self.asked.as_ref().is_some_and(|asked| loader.ends_one_way(host, asked));
        let declined = declined::read(host);
        let is_declined = |kernel: &KernelRelease| declined.iter().any(|d| d.kernel == *kernel);
        let kernel = by_files.filter(|kernel| said || !is_declined(kernel)).unwrap_or(told);
        let wanted = match (is_declined(&kernel), said) {
            (false, _) => Some(kernel.clone()),
            // Ending the hold can lead to no other kernel.
            (true, true) => None,
            (true, false) => {
                let may = |kernel: &KernelRelease| installed(kernel) && !is_declined(kernel);
                told::instead_of(&kernel, self.held(), may, menu())
            }
        };
        Some(HeldOff { kernel, wanted })
    }

    /// What would boot without the current hold, if the loader's files say it.
    pub fn unheld(&self, host: &Host) -> Option<Candidate> {
        let asked = self.asked.as_ref()?;
        let answer = asked.loader.unheld(host, asked).filter(|answer| answer.loader_certain)?;
        answer.lasting().cloned()
    }
}
