//! GRUB legacy's default, moved by `default=` in its menu.

use super::{add_number, default, parse, resolve, resolve_text, MAX_MENU};
use crate::boot::kept;
use crate::boot::loader::{Asked, BootLoader, Family, Loader, Places};
use crate::boot::steps::mark;
use crate::boot::steps::plan::{no_entry, real, Move, Purpose, Step, Way};
use crate::boot::steps::told::HoldMark;
use crate::boot::{Candidate, NextBoot, Source};
use crate::error::Remedy;
use crate::host::{files, Host};
use crate::kernel::KernelRelease;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Where GRUB legacy is found: Red Hat's reads grub.conf; the GRUB of a paravirtual guest's hypervisor reads menu.lst, usually a link to
/// it. The name that an installed GRUB reads is compiled into its stage2.
pub(in crate::boot) const FAMILY: Family = Family {
    configs: &["/boot/grub/grub.conf", "/boot/grub/menu.lst", "/boot/boot/grub/menu.lst"],
    on_efi: |_, directory| vec![directory.join("grub.conf")],
    installed: |host| host.exists("/boot/grub/stage2"),
    make,
};

/// GRUB 0.97 with its menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::boot) struct Legacy {
    config: PathBuf,
    /// Copies of it under the other names: the answer is the same whichever is read, and a move changes all of them.
    copies: Vec<PathBuf>,
}

/// Menus with the same entries and the same answer are one loader. The answers are compared because with `default=saved` in both, the
/// numbers saved beside them could differ. If the answers differ and one menu has our mark, a move was made in some of the files only, and
/// has to be made in the others too.
fn make(host: &Host, configs: Vec<PathBuf>) -> Vec<Loader> {
    let mut found: Vec<(Vec<u8>, NextBoot, Legacy)> = Vec::new();
    for config in configs {
        let bytes = files::read_bounded(&host.path(&config), MAX_MENU).unwrap_or_default();
        let answer = resolve(host, &config);
        let marked = |path: &Path| mark::in_text(host, path).is_some();
        let same = |(other, theirs, legacy): &&mut (Vec<u8>, NextBoot, Legacy)| {
            !bytes.is_empty()
                && lasting(other).eq(lasting(&bytes))
                && (agree(theirs, &answer) || marked(&config) || legacy.files().any(|file| marked(file)))
        };
        match found.iter_mut().find(same) {
            Some((.., legacy)) => legacy.copies.push(config),
            None => found.push((bytes, answer, Legacy { config, copies: Vec::new() })),
        }
    }
    found.into_iter().map(|(.., legacy)| Loader::Legacy(legacy)).collect()
}

/// The lines that no move changes.
fn lasting(menu: &[u8]) -> impl Iterator<Item = &[u8]> {
    let moved = |line: &&[u8]| sets_default(line) || kept::is_kept(line) || line.starts_with(mark::COMMENT.as_bytes());
    menu.split_inclusive(|b| *b == b'\n').filter(move |line| !moved(line))
}

fn agree(a: &NextBoot, b: &NextBoot) -> bool {
    let kernels = |answer: &NextBoot| answer.kernels.iter().map(|c| (c.kernel.clone(), c.role)).collect::<Vec<_>>();
    kernels(a) == kernels(b)
}

impl BootLoader for Legacy {
    fn config(&self) -> &Path {
        &self.config
    }

    fn resolve(&self, host: &Host) -> (NextBoot, Places) {
        let answer = self.answer(|file| resolve(host, file));
        (answer, Places { files: self.files().cloned().collect(), ..Places::default() })
    }

    fn menu(&self, host: &Host) -> Vec<Candidate> {
        let mut answer = NextBoot::new(Source::Unknown);
        let text = host.read_text(&self.config).unwrap_or_default();
        (0..parse(&text).titles.len()).for_each(|n| add_number(host, &self.config, &mut answer, &text, n));
        answer.kernels
    }

    fn plans(&self, host: &Host, to: &KernelRelease, _entry: Option<&str>, purpose: Purpose) -> Vec<Result<Move>> {
        let back = || self.each(|file| edit(host, file, |_, head| Ok(kept::given_back(head, sets_default))));
        let moved =
            || self.each(|file| edit(host, file, |menu, head| moved(host, file, (menu, head), to, purpose).map(Some)));
        (purpose == Purpose::Promotion).then(back).into_iter().chain([moved()]).collect()
    }

    fn plan_clear_once(&self, _host: &Host, _asked: &Asked) -> Result<Move> {
        anyhow::bail!("GRUB legacy has nothing set for one boot")
    }

    fn preview(&self, host: &Host, plan: &Move) -> NextBoot {
        self.answer(|file| {
            let at = real(host, file);
            match plan.steps.iter().find(|step| step.at == at) {
                Some(step) => {
                    let text = String::from_utf8_lossy(step.after.as_deref().unwrap_or_default());
                    resolve_text(host, file, &text)
                }
                None => resolve(host, file),
            }
        })
    }

    fn mark(&self, host: &Host, _asked: &Asked) -> Option<HoldMark> {
        mark::in_text(host, &self.config)
    }

    fn always_marks(&self) -> bool {
        false
    }

    fn unheld(&self, _host: &Host, _asked: &Asked) -> Option<NextBoot> {
        None
    }

    fn plans_unmarked(&self, host: &Host, _asked: &Asked, _held: &KernelRelease) -> Vec<Result<Move>> {
        vec![self.each(|file| edit(host, file, |_, head| Ok(Some(kept::unmarked(head)))))]
    }

    fn named(&self, host: &Host, _asked: &Asked) -> Option<(Vec<u8>, Option<String>)> {
        let text = host.read(&self.config).ok()?;
        let menu = parse(&String::from_utf8_lossy(&text));
        // Without `default=` the first entry is the default.
        let (number, _) = default(host, &self.config, &menu, &mut NextBoot::new(Source::GrubLegacy));
        let copies = self.copies.iter().map(|copy| host.read(copy).unwrap_or_default());
        let all = std::iter::once(text).chain(copies).collect::<Vec<_>>().concat();
        (!menu.titles.is_empty()).then(|| (all, Some(number.to_string())))
    }

    fn untimed(&self, _host: &Host, _asked: &Asked) -> Vec<u8> {
        Vec::new()
    }

    fn settable(&self, host: &Host) -> Result<PathBuf> {
        host.read(&self.config).remedy(format!("reading {}", self.config.display()), self.remedy(host))?;
        Ok(self.config.clone())
    }

    fn remedy(&self, _host: &Host) -> String {
        format!("set default= in {} by hand", self.config.display())
    }

    fn once_remedy(&self, _host: &Host) -> String {
        "vfguard next-boot".into()
    }
}

impl Legacy {
    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.config).chain(&self.copies)
    }

    /// What boots according to all files. None if they differ: a move made in only some of the files has no effect.
    fn answer(&self, resolve: impl Fn(&Path) -> NextBoot) -> NextBoot {
        let mut answer = resolve(&self.config);
        if let Some(other) = self.copies.iter().find(|copy| !agree(&resolve(copy), &answer)) {
            answer.kernels.clear();
            let (config, other) = (self.config.display(), other.display());
            answer.doubt(
                format!("{config} and {other} disagree, and which of them GRUB reads is not known"),
                format!("cp -p {config} {other}, or the other way, or remove the one that is not used"),
            );
        }
        answer
    }

    /// One plan for all files.
    fn each(&self, plan: impl Fn(&Path) -> Result<Move>) -> Result<Move> {
        let plans = self.files().map(|file| plan(file)).collect::<Result<Vec<_>>>()?;
        Ok(Move { steps: plans.into_iter().flat_map(|plan| plan.steps).collect(), note: None })
    }
}

fn sets_default(line: &[u8]) -> bool {
    word(line) == b"default"
}

fn word(line: &[u8]) -> &[u8] {
    line.trim_ascii_start().split(|byte| b" \t=\r\n".contains(byte)).next().unwrap_or_default()
}

/// Changes a menu's head, the lines before the first title: a default counts only there. `change` gets the whole menu and the head.
fn edit(host: &Host, config: &Path, change: impl FnOnce(&[u8], &[u8]) -> Result<Option<Vec<u8>>>) -> Result<Move> {
    let at = real(host, config);
    let before = files::read_bounded(&at, MAX_MENU).with_context(|| format!("reading {}", config.display()))?;
    let lines = before.split_inclusive(|byte| *byte == b'\n').take_while(|line| word(line) != b"title");
    let (head, entries) = before.split_at(lines.map(<[u8]>::len).sum());
    let after = change(&before, head)?.map(|head| [&head, entries].concat());
    Ok(Move::one(Step { at, way: Way::Replace, before: Some(before), after }))
}

/// The head with the default on `to`.
fn moved(host: &Host, config: &Path, (menu, head): (&[u8], &[u8]), to: &KernelRelease, purpose: Purpose) -> Result<Vec<u8>> {
    let text = String::from_utf8_lossy(menu);
    let at = (0..parse(&text).titles.len()).find(|n| {
        let mut answer = NextBoot::new(Source::GrubLegacy);
        add_number(host, config, &mut answer, &text, *n);
        let whole =
            |c: &Candidate| c.stops.is_none() && c.kernel == *to && c.initrds.iter().all(|initrd| host.exists(initrd));
        answer.certain && answer.kernels.iter().any(whole)
    });
    let ours = format!("default={}\n", at.ok_or_else(|| no_entry(to))?);
    Ok(match purpose.comment(to) {
        Some(mark) => kept::held(Some(head), sets_default, &(mark + &ours)),
        None => kept::set(head, sets_default, &ours),
    })
}
