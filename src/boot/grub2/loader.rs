//! GRUB 2's default, moved by `saved_entry` in its environment file or, where grub.cfg has a default of its own, by [`custom`].

use super::custom::{self, Custom, Kind};
use super::mkconfig::{teach, unteach};
use super::pick::pick;
use super::script::embedded::is_program;
use super::script::world::Planned;
use super::script::Choice;
use super::{add, resolve_with, survey, unwritable, Seen};
use crate::boot::choose::efi_config;
use crate::boot::grubenv;
use crate::boot::image;
use crate::boot::loader::{Asked, BootLoader, Places};
use crate::boot::steps::mark;
use crate::boot::steps::plan::{no_entry, real, Move, Purpose, Step, Way};
use crate::boot::steps::told::HoldMark;
use crate::boot::{BootRole, Candidate, NextBoot, Source};
use crate::error::{advise, Remedy};
use crate::host::Host;
use crate::kernel::KernelRelease;
use anyhow::Result;
use std::path::{Path, PathBuf};

/// Appended to a command: the setting that has the same effect.
pub const OR_EDIT: &str = " # or boot.edit_grub_defaults = true in /etc/vfguard/config.toml";

/// GRUB 2 with its grub.cfg, or with its program if that reads no grub.cfg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::boot) struct Grub2(pub PathBuf);

impl BootLoader for Grub2 {
    fn config(&self) -> &Path {
        &self.0
    }

    fn resolve(&self, host: &Host) -> (NextBoot, Places) {
        let seen = self.seen(host, &Planned::new());
        let mut places = self.places(&seen);
        places.files = seen.first.files;
        if !places.files.contains(&places.custom) {
            places.files.push(places.custom.clone());
        }
        (seen.answer, places)
    }

    fn menu(&self, host: &Host) -> Vec<Candidate> {
        let mut answer = NextBoot::new(Source::Unknown);
        let choices = self.choices(host);
        let whole = choices.iter().filter(|c| c.failed.is_none());
        whole.for_each(|c| add(host, &mut answer, BootRole::Next, c, "", &|_| false));
        answer.kernels
    }

    fn plans(&self, host: &Host, to: &KernelRelease, entry: Option<&str>, purpose: Purpose) -> Vec<Result<Move>> {
        let seen = self.seen(host, &Planned::new());
        let places = self.places(&seen);
        let choices = self.choices(host);
        let choice = pick(host, &choices, to, entry).ok_or_else(|| no_entry(to));
        let custom = custom::read(host, &places.custom);
        let block = custom.as_ref().ok().filter(|custom| custom.has_block());
        if purpose == Purpose::Promotion {
            // Removing the block restores the default of the configuration, which it never changed; a saved default is restored as well.
            // Setting the wanted kernel by name comes last.
            let unblocked = block.map(|block| unblocked(host, &places, block, &[]));
            let restored = self.restored(host, &places, block);
            let saved = choice.and_then(|choice| saved(host, &places, block, choice, to, purpose, None));
            return unblocked.into_iter().chain(restored).chain([saved]).collect();
        }
        let choice = match choice {
            Ok(choice) => choice,
            Err(e) => return vec![Err(e)],
        };
        let former = former(host, &places, seen.answer.lasting().map(|c| &c.kernel), purpose);
        // If there is no room to record the previously saved default, the hold does without that record.
        let saved = saved(host, &places, block, choice, to, purpose, former.as_deref())
            .or_else(|_| saved(host, &places, block, choice, to, purpose, None));
        // A file that grub.cfg does not read prevents nothing.
        let read = seen.first.files.contains(&places.custom);
        let blocked = match custom {
            Ok(custom) if read || custom.content.is_none() => Some(blocked(host, &places, &custom, choice, to, purpose)),
            Ok(_) => None,
            Err(e) => Some(Err(e)),
        };
        [saved].into_iter().chain(blocked).collect()
    }

    fn plan_clear_once(&self, host: &Host, asked: &Asked) -> Result<Move> {
        edit_env(host, &asked.places.env_file, &[("next_entry", None), ("prev_saved_entry", None)]).map(Move::one)
    }

    fn preview(&self, host: &Host, plan: &Move) -> NextBoot {
        self.seen(host, &planned(host, plan)).answer
    }

    fn mark(&self, host: &Host, asked: &Asked) -> Option<HoldMark> {
        let custom = custom::read(host, &asked.places.custom).ok();
        if let Some(told) = custom.and_then(|custom| custom.mark()) {
            return Some(told);
        }
        let block = whole_env(host, &asked.places.env_file)?;
        let held = grubenv::get(&block, mark::MARK)?.parse().ok()?;
        let wanted = grubenv::get(&block, mark::MARK_WANTED).and_then(|w| w.parse().ok());
        let entry = || grubenv::get(&block, mark::MARK_ENTRY).filter(|e| !e.is_empty());
        Some(HoldMark { held, wanted: wanted.or_else(|| self.started_by(host, &entry()?)) })
    }

    fn always_marks(&self) -> bool {
        true
    }

    fn unheld(&self, host: &Host, asked: &Asked) -> Option<NextBoot> {
        let custom = custom::read(host, &asked.places.custom).ok().filter(|custom| custom.mark().is_some());
        if let Some(custom) = custom {
            let planned = Planned::from([(host.name(&custom.at), custom.without())]);
            return Some(self.seen(host, &planned).answer);
        }
        // If nothing was saved before, or the first entry's number, a newer kernel becomes the default by itself. A tool that saves a
        // kernel's name moves the default itself.
        let environment = whole_env(host, &asked.places.env_file)?;
        grubenv::get(&environment, mark::MARK)?;
        let former = grubenv::get(&environment, mark::MARK_ENTRY)?;
        let is_first = matches!(former.as_str(), "" | "0");
        let plan = self.restored(host, &asked.places, None).filter(|_| is_first)?.ok()?;
        Some(self.preview(host, &plan))
    }

    fn ends_one_way(&self, host: &Host, asked: &Asked) -> bool {
        custom::read(host, &asked.places.custom).is_ok_and(|custom| custom.mark().is_some())
    }

    fn plans_unmarked(&self, host: &Host, asked: &Asked, held: &KernelRelease) -> Vec<Result<Move>> {
        let places = &asked.places;
        let custom = custom::read(host, &places.custom).ok().filter(Custom::has_block);
        let Some(custom) = custom else {
            return unmarked_env(host, places).map(|step| Ok(Move::one(step))).into_iter().collect();
        };
        let choices = self.choices(host);
        let choice = pick(host, &choices, held, None);
        let saved = choice.map(|choice| saved(host, places, Some(&custom), choice, held, Purpose::Promotion, None));
        saved.into_iter().chain([unblocked(host, places, &custom, &[])]).collect()
    }

    fn named(&self, host: &Host, asked: &Asked) -> Option<(Vec<u8>, Option<String>)> {
        let env_file = &asked.places.env_file;
        let block = whole_env(host, env_file).or_else(|| (!real(host, env_file).exists()).then(Vec::new))?;
        let saved = grubenv::get(&block, "saved_entry").filter(|v| !v.is_empty());
        // Otherwise the default of the configuration itself.
        let name = saved.or_else(|| self.seen(host, &Planned::new()).default.filter(|v| !v.is_empty()));
        let custom = host.read(&asked.places.custom).unwrap_or_default();
        Some(([block, custom].concat(), name))
    }

    /// GRUB writes its environment past the file system, without new file times.
    fn untimed(&self, host: &Host, asked: &Asked) -> Vec<u8> {
        host.read(&asked.places.env_file).unwrap_or_default()
    }

    /// Tries it in memory: after a move, the default has to be the one that was set. This also works with only one kernel.
    fn settable(&self, host: &Host) -> Result<PathBuf> {
        let seen = self.seen(host, &Planned::new());
        let menu = self.menu(host);
        let next = seen.answer.lasting().map(|c| &c.kernel);
        let to = menu.iter().map(|c| &c.kernel).find(|k| Some(*k) != next).or(next);
        let to = to.ok_or_else(|| advise("no boot entry starts a kernel", "install a kernel package again"))?;
        let choices = self.choices(host);
        let selector = pick(host, &choices, to, None).map(|c| c.selector.clone());
        let mut failed = None;
        for plan in self.plans(host, to, None, Purpose::Hold(None)) {
            match plan {
                Ok(plan) if self.seen(host, &planned(host, &plan)).default == selector => {
                    return Ok(plan.steps.first().map_or_else(PathBuf::new, |step| host.name(&step.at)));
                }
                Ok(_) => {}
                Err(e) => failed = failed.or(Some(e)),
            }
        }
        Err(failed.unwrap_or_else(|| {
            let file = seen.first.file.display();
            advise(
                format!("{file} starts neither a saved default nor one that custom.cfg sets, so it could not be held"),
                self.remedy(host),
            )
        }))
    }

    fn remedy(&self, host: &Host) -> String {
        if is_program(&self.0) {
            return "sdbootutil set-default ID, with one of sdbootutil list-entries".into();
        }
        let first = self.seen(host, &Planned::new()).first;
        let config = first.file;
        let write = if config.starts_with("/boot/grub") {
            "update-grub".to_owned()
        } else {
            format!("grub2-mkconfig -o {}", config.display())
        };
        let or = if first.bls { "" } else { OR_EDIT };
        format!("echo GRUB_DEFAULT=saved >>/etc/default/grub && {write}{or}")
    }

    fn teach(&self, host: &Host, to: &KernelRelease) -> Option<Result<()>> {
        host.is_live().then(|| teach(self, host, to))?
    }

    fn unteach(&self, host: &Host) -> Option<String> {
        host.is_live().then(|| unteach(self, host))?
    }

    fn once_remedy(&self, host: &Host) -> String {
        if is_program(&self.0) {
            return "bootctl set-oneshot ''".into();
        }
        format!("{} - unset next_entry", grubenv::tool(&self.seen(host, &Planned::new()).first.file))
    }
}

impl Grub2 {
    pub(super) fn seen(&self, host: &Host, planned: &Planned) -> Seen {
        resolve_with(host, &self.0, efi_config(host, &self.0), planned)
    }

    pub(super) fn choices(&self, host: &Host) -> Vec<Choice> {
        self.choices_with(host, &Planned::new())
    }

    pub(super) fn choices_with(&self, host: &Host, planned: &Planned) -> Vec<Choice> {
        survey(host, &self.0, efi_config(host, &self.0), planned)
    }

    /// The files beside the grub.cfg that is really run: a grub.cfg on an EFI partition may only load it.
    pub(super) fn places(&self, seen: &Seen) -> Places {
        Places {
            env_file: seen.first.env_file.clone().unwrap_or_else(|| self.0.with_file_name("grubenv")),
            custom: seen.first.file.with_file_name(custom::NAME),
            files: Vec::new(),
        }
    }

    /// A promotion that restores the previously saved default, if it is known. None if the kernel that was held off is gone, since the
    /// saved name is gone with it.
    fn restored(&self, host: &Host, places: &Places, block: Option<&Custom>) -> Option<Result<Move>> {
        let environment = whole_env(host, &places.env_file)?;
        let former = grubenv::get(&environment, mark::MARK_ENTRY)?;
        let held_off: Option<KernelRelease> = grubenv::get(&environment, mark::MARK_WANTED).and_then(|w| w.parse().ok());
        if held_off.is_some_and(|kernel| self.menu(host).iter().all(|c| c.kernel != kernel)) {
            return None;
        }
        let saved = Some(former.as_str()).filter(|former| !former.is_empty());
        let [held, wanted, entry] = mark::variables(None, None);
        Some(saving(host, places, block, &[("saved_entry", saved), held, wanted, entry]))
    }

    /// The kernel that the entry of this id or title starts.
    fn started_by(&self, host: &Host, entry: &str) -> Option<KernelRelease> {
        let choices = self.choices(host);
        let choice = choices.into_iter().find(|c| c.failed.is_none() && (c.selector == entry || c.entry == entry))?;
        image::look(host, choice.image.as_deref()?).release
    }
}

pub(super) fn planned(host: &Host, plan: &Move) -> Planned {
    plan.steps.iter().map(|step| (host.name(&step.at), step.after.clone())).collect()
}

/// The previously saved default, empty if there was none; none if unknown. During a hold it comes from the mark. With `Unattended`, the
/// shell script, which writes that hold, looks for itself.
fn former(host: &Host, places: &Places, lasting: Option<&KernelRelease>, purpose: Purpose) -> Option<String> {
    let block = whole_env(host, &places.env_file)?;
    let held = grubenv::get(&block, mark::MARK).and_then(|held| held.parse().ok());
    if held.is_some() && held.as_ref() == lasting {
        return grubenv::get(&block, mark::MARK_ENTRY);
    }
    let saved = || grubenv::get(&block, "saved_entry").unwrap_or_default();
    matches!(purpose, Purpose::Hold(_)).then(saved)
}

/// A move by `saved_entry`. A block in custom.cfg is removed.
fn saved(
    host: &Host,
    places: &Places,
    block: Option<&Custom>,
    choice: &Choice,
    to: &KernelRelease,
    purpose: Purpose,
    former: Option<&str>,
) -> Result<Move> {
    let held = purpose.hold().map(|_| to.as_str());
    let wanted = purpose.hold().flatten().map(KernelRelease::as_str);
    let [held, wanted, (entry, _)] = mark::variables(held, wanted);
    let selector = Some(choice.selector.as_str());
    let mut changes = vec![("saved_entry", selector), ("prev_saved_entry", None), held, wanted, (entry, former)];
    // If GRUB cannot clear the one-shot default, it acts as the default.
    let stuck = purpose.hold().is_some() && unwritable(host).is_some();
    if stuck || matches!(purpose, Purpose::Unattended(_)) {
        changes.push(("next_entry", None));
    }
    saving(host, places, block, &changes)
}

fn saving(host: &Host, places: &Places, block: Option<&Custom>, changes: &[(&str, Option<&str>)]) -> Result<Move> {
    match block {
        Some(block) => unblocked(host, places, block, changes),
        None => edit_env(host, &places.env_file, changes).map(Move::one),
    }
}

/// A hold by a block in custom.cfg; a mark in the environment belongs to an earlier hold and is removed.
fn blocked(
    host: &Host,
    places: &Places,
    custom: &Custom,
    choice: &Choice,
    to: &KernelRelease,
    purpose: Purpose,
) -> Result<Move> {
    let kind = if matches!(purpose, Purpose::Unattended(_)) { Kind::Unattended } else { Kind::Hold };
    let after = custom.with(kind, to, purpose.hold().flatten(), &choice.selector).ok_or_else(|| unnamed(choice))?;
    let steps = [step(custom, Some(after))].into_iter().chain(unmarked_env(host, places)).collect();
    Ok(Move { steps, note: custom.note.clone() })
}

/// Removes the block and the mark in the environment, which also gets other `changes`.
fn unblocked(host: &Host, places: &Places, custom: &Custom, changes: &[(&str, Option<&str>)]) -> Result<Move> {
    let env = match changes {
        [] => unmarked_env(host, places),
        changes => Some(edit_env(host, &places.env_file, changes)?),
    };
    let steps = [step(custom, custom.without())].into_iter().chain(env).collect();
    Ok(Move { steps, note: None })
}

fn step(custom: &Custom, after: Option<Vec<u8>>) -> Step {
    Step { at: custom.at.clone(), way: Way::Replace, before: custom.content.clone(), after }
}

fn unnamed(choice: &Choice) -> anyhow::Error {
    advise(
        format!("the boot entry {:?} has a name that cannot be written into custom.cfg", choice.entry),
        "give the entry a plain title (GRUB_DISTRIBUTOR in /etc/default/grub)",
    )
}

/// The step that removes a mark from the environment, if there is one.
fn unmarked_env(host: &Host, places: &Places) -> Option<Step> {
    let block = whole_env(host, &places.env_file)?;
    grubenv::get(&block, mark::MARK)?;
    edit_env(host, &places.env_file, &mark::variables(None, None)).ok()
}

/// Works out an edit of GRUB's environment file: in place, so that GRUB's own block list and links to the file stay valid.
pub(super) fn edit_env(host: &Host, name: &Path, changes: &[(&str, Option<&str>)]) -> Result<Step> {
    let at = real(host, name);
    let tool = grubenv::tool(name);
    let create = format!("{tool} {} create", name.display());
    if !at.exists() {
        let mut empty = grubenv::SIGNATURE.to_vec();
        empty.resize(grubenv::SIZE, b'#');
        return Ok(Step { at, way: Way::Replace, before: None, after: Some(grubenv::edit(&empty, changes)?) });
    }
    let before = grubenv::read(&at).remedy(format!("reading {}", name.display()), create.clone())?;
    if grubenv::get(&before, "env_block").is_some_and(|v| !v.is_empty()) {
        return Err(advise(
            format!("{} keeps its variables outside the file system (env_block)", name.display()),
            format!("{tool} - set saved_entry=…, by hand"),
        ));
    }
    let remedy = match grubenv::variables(&before) {
        // Variables of other tools may be the kernels' command line (EL8).
        Ok(_) => format!("{tool} {0} list; {tool} {0} unset NAME, for what nobody needs", name.display()),
        Err(_) => format!("rm {}; {create}", name.display()),
    };
    let after = grubenv::edit(&before, changes).remedy(format!("editing {}", name.display()), remedy)?;
    Ok(Step { at, way: Way::InPlace, before: Some(before), after: Some(after) })
}

/// GRUB's environment, if the block is whole.
fn whole_env(host: &Host, env_file: &Path) -> Option<Vec<u8>> {
    grubenv::read(&real(host, env_file)).ok().filter(|block| grubenv::is_whole(block))
}
