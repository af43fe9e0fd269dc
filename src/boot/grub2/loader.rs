//! GRUB 2's default, moved by `saved_entry` in its environment file.

use super::script::eval::EnvFiles;
use super::script::Choice;
use super::{add, grubenv, resolve, resolve_with, survey};
use crate::boot::choose::efi_config;
use crate::boot::hold::mark;
use crate::boot::hold::moves::make;
use crate::boot::hold::plan::{is_rescue, no_entry, real, Plan, Purpose, Way};
use crate::boot::hold::told::Told;
use crate::boot::image;
use crate::boot::loader::{Asked, BootLoader};
use crate::boot::{Candidate, NextBoot, Role, Source};
use crate::error::{advise, Remedy};
use crate::host::Host;
use crate::kernel::KernelRelease;
use anyhow::Result;
use std::path::{Path, PathBuf};

/// GRUB 2 with its grub.cfg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::boot) struct Grub2(pub PathBuf);

impl BootLoader for Grub2 {
    fn config(&self) -> &Path {
        &self.0
    }

    fn resolve(&self, host: &Host) -> (NextBoot, PathBuf, Vec<PathBuf>) {
        let seen = resolve(host, &self.0, efi_config(host, &self.0));
        (seen.answer, seen.first.env_file.unwrap_or_else(|| self.usual_env()), seen.first.files)
    }

    fn menu(&self, host: &Host) -> Vec<Candidate> {
        let mut answer = NextBoot::new(Source::Unknown);
        let (choices, _) = survey(host, &self.0, efi_config(host, &self.0));
        let whole = choices.iter().filter(|c| c.failed.is_none());
        whole.for_each(|c| add(host, &mut answer, Role::Next, c, ""));
        answer.kernels
    }

    fn plan(&self, host: &Host, to: &KernelRelease, entry: Option<&str>, purpose: Purpose) -> Result<Plan> {
        let (choices, env_file) = survey(host, &self.0, efi_config(host, &self.0));
        let choice = pick(host, &choices, to, entry).ok_or_else(|| no_entry(to))?;
        let (held, wanted) = match purpose {
            Purpose::Hold(wanted) => (Some(to.as_str()), wanted.map(KernelRelease::as_str)),
            Purpose::Promotion => (None, None),
        };
        let [held, wanted, entry] = mark::variables(held, wanted);
        let changes = [("saved_entry", Some(choice.selector.as_str())), ("prev_saved_entry", None), held, wanted, entry];
        plan_env(host, &env_file.unwrap_or_else(|| self.usual_env()), &changes)
    }

    fn plan_clear_once(&self, host: &Host, asked: &Asked) -> Result<Plan> {
        plan_env(host, &asked.env_file, &[("next_entry", None), ("prev_saved_entry", None)])
    }

    fn preview(&self, host: &Host, plan: &Plan) -> NextBoot {
        let variables = grubenv::variables(&plan.after).map(|(variables, _)| variables).unwrap_or_default();
        let env = EnvFiles::from([(host.name(&plan.at), variables)]);
        resolve_with(host, &self.0, efi_config(host, &self.0), &env).answer
    }

    fn mark(&self, host: &Host, asked: &Asked) -> Option<Told> {
        let block = whole_env(host, &asked.env_file)?;
        let held = grubenv::get(&block, mark::MARK)?.parse().ok()?;
        let wanted = grubenv::get(&block, mark::MARK_WANTED).and_then(|w| w.parse().ok());
        let entry = || grubenv::get(&block, mark::MARK_ENTRY).filter(|e| !e.is_empty());
        Some(Told { held, wanted: wanted.or_else(|| self.started_by(host, &entry()?)) })
    }

    fn always_marks(&self) -> bool {
        true
    }

    fn drop_mark(&self, host: &Host, asked: &Asked) -> Result<()> {
        make(host, plan_env(host, &asked.env_file, &mark::variables(None, None))?).map(|_| ())
    }

    fn named(&self, host: &Host, asked: &Asked) -> Option<(Vec<u8>, Option<String>)> {
        let block = whole_env(host, &asked.env_file)?;
        let name = grubenv::get(&block, "saved_entry").filter(|v| !v.is_empty());
        Some((block, name))
    }

    /// GRUB writes its environment past the file system.
    fn untimed(&self, host: &Host, asked: &Asked) -> Vec<u8> {
        host.read(&asked.env_file).unwrap_or_default()
    }

    fn obeys(&self, host: &Host) -> (PathBuf, bool) {
        (self.0.clone(), host.read_text(&self.0).is_ok_and(|t| t.contains("saved_entry")))
    }

    fn remedy(&self) -> String {
        if self.0.starts_with("/boot/grub") && !self.0.starts_with("/boot/grub2") {
            "set GRUB_DEFAULT=saved in /etc/default/grub and run update-grub".into()
        } else {
            format!("set GRUB_DEFAULT=saved in /etc/default/grub and run grub2-mkconfig -o {}", self.0.display())
        }
    }

    fn once_remedy(&self) -> &'static str {
        "grub2-editenv - unset next_entry"
    }
}

impl Grub2 {
    /// Where the environment file is by GRUB's own custom.
    fn usual_env(&self) -> PathBuf {
        self.0.with_file_name("grubenv")
    }

    /// The kernel that the entry of this name or title starts.
    fn started_by(&self, host: &Host, entry: &str) -> Option<KernelRelease> {
        let (choices, _) = survey(host, &self.0, efi_config(host, &self.0));
        let choice = choices.into_iter().find(|c| c.failed.is_none() && (c.selector == entry || c.entry == entry))?;
        image::look(host, choice.image.as_deref()?).release
    }
}

fn starts(host: &Host, choice: &Choice, to: &KernelRelease) -> bool {
    choice.failed.is_none() && choice.image.as_deref().is_some_and(|i| image::look(host, i).release.as_ref() == Some(to))
}

/// The entry by which to name a kernel: not a rescue one, and rather one whose name holds the release, for a name that stays
/// the same when the next kernel comes.
fn pick(host: &Host, choices: &[Choice], to: &KernelRelease, entry: Option<&str>) -> Option<Choice> {
    let usable = choices.iter().filter(|c| !c.selector.is_empty() && starts(host, c, to));
    let rank = |c: &&Choice| {
        let rescue = is_rescue(&c.cmdline);
        let named = c.selector.contains(to.as_str());
        (Some(c.entry.as_str()) != entry, rescue, !named)
    };
    usable.min_by_key(rank).cloned()
}

/// Works out an edit of GRUB's environment file: in place, so that GRUB's own block list and a link to it stay true.
fn plan_env(host: &Host, name: &Path, changes: &[(&str, Option<&str>)]) -> Result<Plan> {
    let at = real(host, name);
    let create = format!("grub2-editenv {} create", name.display());
    if !at.exists() {
        let mut empty = grubenv::SIGNATURE.to_vec();
        empty.resize(grubenv::SIZE, b'#');
        return Ok(Plan { at, way: Way::Replace, before: None, after: grubenv::edit(&empty, changes)? });
    }
    let before = grubenv::read(&at).remedy(format!("reading {}", name.display()), create.clone())?;
    if grubenv::get(&before, "env_block").is_some_and(|v| !v.is_empty()) {
        return Err(advise(
            format!("{} keeps its variables outside the file system (env_block)", name.display()),
            "grub2-editenv - set saved_entry=…, by hand",
        ));
    }
    let after = grubenv::edit(&before, changes)
        .remedy(format!("editing {}", name.display()), format!("rm {}; {create}", name.display()))?;
    Ok(Plan { at, way: Way::InPlace, before: Some(before), after })
}

/// GRUB's environment, where that is whole.
fn whole_env(host: &Host, env_file: &Path) -> Option<Vec<u8>> {
    grubenv::read(&real(host, env_file)).ok().filter(|block| grubenv::is_whole(block))
}
