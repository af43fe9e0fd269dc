//! systemd-boot's default, moved by the variable or by loader.conf.

use super::{add, configured, entries, files, release, resolve_with, Entry, MAX_FILE};
use crate::boot::efi;
use crate::boot::hold::mark;
use crate::boot::hold::plan::{no_entry, real, Plan, Purpose, Step, Way};
use crate::boot::hold::told::Told;
use crate::boot::image;
use crate::boot::kept;
use crate::boot::loader::{Asked, BootLoader, Places};
use crate::boot::{Candidate, NextBoot, Role, Source};
use crate::error::Remedy;
use crate::host::Host;
use crate::kernel::KernelRelease;
use anyhow::{Context, Result};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// systemd-boot with the top of its EFI system partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::boot) struct SystemdBoot(pub PathBuf);

impl BootLoader for SystemdBoot {
    fn config(&self) -> &Path {
        &self.0
    }

    fn resolve(&self, host: &Host) -> (NextBoot, Places) {
        (resolve_with(host, &self.0, None), Places { files: files(&self.0), ..Places::default() })
    }

    fn menu(&self, host: &Host) -> Vec<Candidate> {
        let mut answer = NextBoot::new(Source::Unknown);
        let entries = entries(host, &self.0, &mut answer);
        entries.iter().for_each(|e| add(host, &mut answer, Role::Next, e, String::new()));
        answer.kernels
    }

    fn plans(&self, host: &Host, to: &KernelRelease, _entry: Option<&str>, purpose: Purpose) -> Vec<Result<Plan>> {
        let variable = efi::Choice::Default.read(host).is_ok_and(|value| value.is_some());
        let back = (purpose == Purpose::Promotion && !variable)
            .then(|| self.edit(host, |text| kept::given_back(text.unwrap_or_default(), sets_default)));
        back.into_iter().chain([self.plan(host, to, purpose)]).collect()
    }

    fn plan_clear_once(&self, host: &Host, _asked: &Asked) -> Result<Plan> {
        let before = efi::Choice::OneShot.read(host)?;
        Ok(Plan::one(Step { at: PathBuf::new(), way: Way::Bootctl(efi::Choice::OneShot), before, after: None }))
    }

    fn preview(&self, host: &Host, plan: &Plan) -> NextBoot {
        resolve_with(host, &self.0, Some(plan))
    }

    fn mark(&self, host: &Host, _asked: &Asked) -> Option<Told> {
        mark::in_text(host, &self.settings())
    }

    /// A variable of the firmware holds no comment.
    fn always_marks(&self) -> bool {
        false
    }

    fn unheld(&self, _host: &Host, _asked: &Asked) -> Option<NextBoot> {
        None
    }

    fn plans_unmarked(&self, host: &Host, _asked: &Asked, _held: &KernelRelease) -> Vec<Result<Plan>> {
        vec![self.edit(host, |text| text.map(kept::unmarked))]
    }

    fn named(&self, host: &Host, _asked: &Asked) -> Option<(Vec<u8>, Option<String>)> {
        let name = match efi::loader_string(host, efi::Choice::Default.name()).ok()? {
            None => configured(host, &self.0).ok()?,
            set => set,
        };
        Some((name.clone().unwrap_or_default().into_bytes(), name))
    }

    fn untimed(&self, host: &Host, _asked: &Asked) -> Vec<u8> {
        efi::Choice::Default.read(host).ok().flatten().unwrap_or_default()
    }

    fn settable(&self, host: &Host) -> Result<PathBuf> {
        let directory = self.0.join("loader");
        host.read_dir(&directory).remedy(format!("reading {}", directory.display()), self.remedy(host))?;
        Ok(self.settings())
    }

    fn remedy(&self, _host: &Host) -> String {
        "bootctl set-default, by hand".into()
    }

    fn once_remedy(&self, _host: &Host) -> String {
        "bootctl set-oneshot ''".into()
    }
}

fn sets_default(line: &[u8]) -> bool {
    line.trim_ascii_start().split(u8::is_ascii_whitespace).next() == Some(b"default")
}

impl SystemdBoot {
    fn plan(&self, host: &Host, to: &KernelRelease, purpose: Purpose) -> Result<Plan> {
        let top = &self.0;
        let mut answer = NextBoot::new(Source::SystemdBoot);
        let entries = entries(host, top, &mut answer);
        let whole = |e: &&Entry| e.initrds.iter().all(|initrd| image::locate(host, initrd).is_some());
        let mut of_kernel = entries.iter().filter(|e| release(host, e).as_ref() == Some(to)).filter(whole);
        let entry = of_kernel.next().ok_or_else(|| no_entry(to))?;
        // Where the variable is set it counts before loader.conf.
        if let Some(before) = efi::Choice::Default.read(host)? {
            let after = Some(efi::value(&entry.id, Some(&before)));
            return Ok(Plan::one(Step {
                at: entry.id.clone().into(),
                way: Way::Bootctl(efi::Choice::Default),
                before: Some(before),
                after,
            }));
        }
        let ours = format!("default {}\n", entry.id);
        self.edit(host, |text| {
            Some(match purpose.comment(to) {
                Some(mark) => kept::held(text, sets_default, &(mark + &ours)),
                None => kept::set(text.unwrap_or_default(), sets_default, &ours),
            })
        })
    }

    /// A change of loader.conf.
    fn edit(&self, host: &Host, change: impl FnOnce(Option<&[u8]>) -> Option<Vec<u8>>) -> Result<Plan> {
        let at = real(host, &self.settings());
        let before = match crate::host::files::read_bounded(&at, MAX_FILE) {
            Ok(text) => Some(text),
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Err(e) => return Err(e).with_context(|| format!("reading {}", self.settings().display())),
        };
        let after = change(before.as_deref());
        Ok(Plan::one(Step { at, way: Way::Replace, before, after }))
    }

    fn settings(&self) -> PathBuf {
        self.0.join("loader/loader.conf")
    }
}
