//! The record of a hold, and what it, the mark and the boot loader tell together.

use super::told::{self, Told};
use crate::boot::loader::Asked;
use crate::boot::{choose, Candidate, NextBoot};
use crate::host::Host;
use crate::kernel::{installed, KernelRelease};
use anyhow::Result;
use serde::{Deserialize, Serialize};

/// The record of a hold, below the root.
pub const RECORD: &str = "/var/lib/vfguard/records/hold.json";

/// A hold that is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// What would boot without it.
    pub wanted: KernelRelease,
    /// The wanted kernel's entry.
    pub entry: String,
    /// The kernel that the default is held on.
    pub held: KernelRelease,
    /// When, as RFC 3339.
    pub when: String,
    /// Why.
    pub why: String,
}

impl Hold {
    /// The record, if there is one that can be read.
    pub fn read(host: &Host) -> Option<Hold> {
        serde_json::from_slice(&host.read(RECORD).ok()?).ok()
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let since = if self.when.is_empty() { String::new() } else { format!(" since {}", self.when) };
        format!("boot default: held on {} instead of {}{since}: {}", self.held, self.wanted, self.why)
    }

    pub(super) fn told(&self) -> Told {
        Told { held: self.held.clone(), wanted: Some(self.wanted.clone()) }
    }

    pub(super) fn write(&self, host: &Host) -> Result<()> {
        host.write_atomic(RECORD, &serde_json::to_vec_pretty(self)?, 0o644)
    }
}

/// What is told of a hold, and what starts.
pub(super) struct Seen {
    pub record: Option<Hold>,
    told: Option<Told>,
    pub mark: Option<Told>,
    pub lasting: Option<KernelRelease>,
    asked: Option<Asked>,
}

impl Seen {
    pub fn new(host: &Host, now: &NextBoot) -> Seen {
        let record = Hold::read(host);
        let told = record.as_ref().map(Hold::told);
        // What started without a look at the loader (`boot.loader = "none"`) may be held from before.
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

    /// What would boot without the hold, if one is on.
    pub fn wanted(&self, host: &Host) -> Option<KernelRelease> {
        let asked = self.asked.as_ref()?;
        let loader = &asked.loader;
        let installed = |kernel: &KernelRelease| installed::image(host, kernel).is_some();
        let menu = std::iter::once_with(|| loader.menu(host)).flatten().map(|c| c.kernel);
        let told = told::wanted_of(self.told.as_ref(), self.mark.as_ref(), self.lasting.as_ref(), installed, menu)?;
        // Where the files themselves say what would boot, that counts: another kernel may have come since.
        Some(self.unheld(host).map(|c| c.kernel).filter(installed).unwrap_or(told))
    }

    /// What would boot without the hold that is on, where the loader's files say that.
    pub fn unheld(&self, host: &Host) -> Option<Candidate> {
        let asked = self.asked.as_ref()?;
        let answer = asked.loader.unheld(host, asked).filter(|answer| answer.loader_certain)?;
        answer.lasting().cloned()
    }
}
