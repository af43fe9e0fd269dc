//! The hold that is left ready: what vfguard-fail-closed.service writes where vfguard itself does not run.
//!
//! Each run that decides leaves it, so that a hold needs no judgement then, and no room: the first line is `WAY KERNEL CONFIGURATION WHERE`, the rest is
//! what has to stand there. The shell that reads it, packaging/systemd/fail-closed, writes the hold's own lines of it and leaves the
//! others as they are by then: on EL8 they hold the kernels' command line.

use super::choose::{self, Loader};
use super::moves::{self, Plan, Purpose, Way};
use super::{grub2, grubenv, NextBoot};
use crate::config::Mode;
use crate::host::{files, Host};
use crate::kernel::KernelRelease;
use anyhow::Result;
use std::path::Path;

/// Where it is, below the root, in a directory that only root may enter. It is written while there is room, and read when there may be none.
pub const FILE: &str = "/var/lib/vfguard/ready/hold";

/// Leaves a hold on `to` ready, given what boots `now` and, where a hold is on, what is `wanted`; without a kernel that is known to be
/// good, or where it would not take, none. What is there already is not written again.
///
/// # Errors
/// Those of writing. A loader by which nothing could be held is none: then none is left.
pub fn leave(host: &Host, now: &NextBoot, wanted: Option<&KernelRelease>, to: Option<&KernelRelease>) -> Result<()> {
    let wanted = wanted.or(now.lasting().map(|c| &c.kernel));
    let (loaders, _) = choose::loaders(host);
    let planned = to.zip(loaders.first()).and_then(|(to, loader)| Some((to, loader, plan(host, loader, wanted, to).ok()?)));
    let Some((to, loader, plan)) = planned else { return none(host) };
    let way = match plan.way {
        Way::InPlace => "in-place",
        Way::Replace => "replace",
        Way::Bootctl => "bootctl",
    };
    // What the loader reads beside it: with another one, it may not take any more.
    let config = match loader {
        Loader::Grub2(config) | Loader::Legacy(config) => host.identity(config).unwrap_or_else(|_| "none".into()),
        Loader::SystemdBoot(_) => "none".into(),
    };
    let mut content = format!("{way} {to} {config} {}\n", plan.at.display()).into_bytes();
    content.extend(&plan.after);
    if host.read(FILE).is_ok_and(|ready| ready == content) {
        return Ok(());
    }
    if !takes(host, loader, &plan, to) {
        return none(host);
    }
    files::create_dirs(host.path(FILE).parent().unwrap_or(Path::new("/")), 0o700)?;
    host.write_atomic(FILE, &content, 0o600)
}

fn none(host: &Host) -> Result<()> {
    files::remove(&host.path(FILE)).map(drop)
}

/// Whether GRUB would start that kernel then: not where its configuration names a default of its own. The others obey what is written.
fn takes(host: &Host, loader: &Loader, plan: &Plan, to: &KernelRelease) -> bool {
    let Loader::Grub2(config) = loader else { return true };
    let (efi, env) = (choose::efi_config(host, config), moves::env_file(host, config));
    grub2::started_with(host, config, efi, &env, &plan.after).as_ref() == Some(to)
}

/// The mode that the settings say, for the same shell, which does not read them.
const MODE: &str = "/var/lib/vfguard/ready/mode";

/// Leaves the mode ready.
///
/// # Errors
/// Those of writing.
pub fn leave_mode(host: &Host, mode: Mode) -> Result<()> {
    let word = match mode {
        Mode::Enforce => "enforce\n",
        Mode::Observe => "observe\n",
    };
    if host.read_text(MODE).is_ok_and(|left| left == word) {
        return Ok(());
    }
    files::create_dirs(host.path(MODE).parent().unwrap_or(Path::new("/")), 0o700)?;
    host.write_atomic(MODE, word.as_bytes(), 0o600)
}

fn plan(host: &Host, loader: &Loader, wanted: Option<&KernelRelease>, to: &KernelRelease) -> Result<Plan> {
    // Where nothing is held off yet, the shell marks what it takes the place of.
    let mut plan = moves::plan(host, loader, to, None, Purpose::Hold(wanted.filter(|w| *w != to)))?;
    if plan.way == Way::InPlace {
        // What is set for one boot goes as well: nobody is there to judge it.
        plan.after = grubenv::edit(&plan.after, &[("next_entry", None)])?;
    }
    Ok(plan)
}
