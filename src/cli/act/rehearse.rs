//! `vfguard rehearse [KERNEL]`: all steps of a build in a scratch root.

use crate::cli::read::check;
use crate::cli::Context;
use crate::driver::{self, Digest};
use crate::error::{advise_exit, Exit, Remedy};
use crate::finding::Verdict;
use crate::flow::rehearse::{self, Choice, Chosen, PassedOver, Rehearsal};
use crate::host::devices::pci;
use crate::host::files::trust;
use crate::host::Host;
use crate::kernel::KernelRelease;
use crate::packages::Freshness;
use crate::print;
use crate::report::{json, progress};
use crate::text::Text;
use crate::verdict::judge::KernelReport;
use anyhow::Result;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// The kernel; else the newest installed one whose headers are here. Only its headers are needed: they are taken from this
    /// machine, else downloaded (not installed) with the package manager, whose lists are refreshed first; also with --root it is
    /// the host's package manager that is asked
    #[arg(conflicts_with = "available")]
    kernel: Option<KernelRelease>,
    /// The newest kernel whose headers the package manager offers, of the distribution's own series and flavour
    #[arg(long)]
    available: bool,
    /// Rehearse this driver; else the one that this machine needs (more than one: name it), else ixgbevf
    #[arg(long, value_name = "NAME")]
    driver: Option<String>,
    /// Build this archive (.tar.gz, .tar.xz or .tar) instead of the recipe's release
    #[arg(long, value_name = "FILE", requires = "sha256")]
    source: Option<PathBuf>,
    /// The SHA-256 that the archive must have
    #[arg(long, value_name = "HEX", requires = "source")]
    sha256: Option<Digest>,
    /// Why the archive stands in for the recipe's release, for the report's first line
    #[arg(long, value_name = "TEXT", requires = "source")]
    reason: Option<String>,
    /// Work in DIR, which must be empty or absent and yours, and keep it; else in a temporary directory that is removed
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
}

#[derive(Serialize)]
struct RehearsalReport<'a> {
    verdict: Verdict,
    provenance: &'a str,
    headers: &'a str,
    own_device: bool,
    stages: Vec<Stage>,
    kernels: [&'a KernelReport; 1],
    gate: &'a str,
    /// None if the package manager was not needed.
    lists: Option<&'a Freshness>,
    passed_over: &'a [PassedOver],
    update_installs: Option<&'a KernelRelease>,
}

#[derive(Serialize)]
struct Stage {
    name: String,
    seconds: f64,
}

/// Rehearses and reports.
///
/// # Errors
/// When there is no kernel or driver to rehearse, or the scratch root cannot be created; the first line of the error if
/// something could not be downloaded.
pub fn run(context: &Context, args: &Args) -> Result<Exit> {
    let host = &context.host;
    let recipes = driver::recipes(host)?;
    let needed =
        pci::devices_if_any(host).remedy("looking at the devices of /sys/bus/pci", "see to what cannot be read there")?;
    let required = |r: &&driver::Recipe| context.config.drivers.required.contains(&r.name);
    let here: Vec<&str> = recipes
        .iter()
        .filter(|r| {
            required(r)
                || needed
                    .iter()
                    .any(|d| driver::recipe::claiming(&recipes, &d.modalias).is_some_and(|own| own.name == r.name))
        })
        .map(|r| r.name.as_str())
        .collect();
    let name = match (&args.driver, here.as_slice()) {
        (Some(name), _) => name,
        (None, []) => driver::recipe::DEFAULT,
        (None, [only]) => only,
        // Only one of them would be judged, and the others would not be checked.
        (None, [first, ..]) => {
            let kernel = args.kernel.as_ref().map(|k| format!("{k} ")).unwrap_or_default();
            let offer = if args.available { "--available " } else { "" };
            let source = args.source.as_ref().zip(args.sha256.as_ref());
            let source = source.map(|(f, hex)| format!(" --source {} --sha256 {hex}", f.display())).unwrap_or_default();
            return Err(advise_exit(
                Exit::Usage,
                format!("this machine needs more than one driver, and a rehearsal is for one: {}", here.join(", ")),
                format!(
                    "name it, and rehearse the others after it: vfguard rehearse {kernel}{offer}--driver {first}{source}"
                ),
            ));
        }
    };
    let recipe = recipes.iter().find(|r| r.name == name).ok_or_else(|| {
        let known: Vec<&str> = recipes.iter().map(|r| r.name.as_str()).collect();
        crate::error::advise(
            format!("there is no recipe with `name = \"{name}\"`"),
            format!("name one of {}, or add one in /etc/vfguard/drivers.d", known.join(", ")),
        )
    })?;
    let choice = match (&args.kernel, args.available) {
        (Some(kernel), _) => Choice::Kernel(kernel.clone()),
        (None, true) => Choice::Available,
        (None, false) => Choice::NewestInstalled,
    };
    let scratch = scratch(host, args.scratch.as_deref())?;
    let progress = progress::new(context.progress());
    let source = args.source.clone().zip(args.sha256);
    let chosen = rehearse::choose(host, &context.config.rehearse, &choice, progress.as_ref())?;
    let rehearsal = rehearse::rehearse(host, &context.config, scratch.path(), &chosen, recipe, source, progress.as_ref())?;
    report(context, args, recipe, &chosen, &rehearsal)
}

/// The scratch root. Only the caller can put anything into it.
enum Scratch {
    Kept(PathBuf),
    Removed(tempfile::TempDir),
}

impl Scratch {
    fn path(&self) -> &Path {
        match self {
            Scratch::Kept(path) => path,
            Scratch::Removed(dir) => dir.path(),
        }
    }
}

fn scratch(host: &Host, wanted: Option<&Path>) -> Result<Scratch> {
    // Without namespaces the build user must be able to pass through it.
    let mode = if driver::sandbox::containment(host).level.has_namespaces() { 0o700 } else { 0o711 };
    if let Some(dir) = wanted {
        return Ok(Scratch::Kept(trust::own_dir(dir, mode)?));
    }
    let dir = trust::temporary("vfguard-rehearsal-")?;
    trust::own_dir(dir.path(), mode)?;
    Ok(Scratch::Removed(dir))
}

fn report(context: &Context, args: &Args, recipe: &driver::Recipe, chosen: &Chosen, rehearsal: &Rehearsal) -> Result<Exit> {
    let kernel = &rehearsal.report;
    let provenance = rehearse::provenance(recipe, &rehearsal.archive, args.reason.as_deref());
    let mut stages =
        vec![Stage { name: format!("headers ({})", rehearsal.headers), seconds: rehearsal.layout.as_secs_f64() }];
    if let Ok(prepared) = &rehearsal.prepared {
        stages.extend(
            prepared.stages.iter().map(|(name, time)| Stage { name: name.to_string(), seconds: time.as_secs_f64() }),
        );
    }
    let gate = match kernel.verdict {
        Verdict::Safe => "would be open: a reboot into this kernel keeps the network",
        Verdict::Unknown | Verdict::Unsafe => "would be closed: a reboot would be refused and the boot default held",
    };
    if context.json() {
        let report = RehearsalReport {
            verdict: kernel.verdict,
            provenance: &provenance,
            headers: rehearsal.headers,
            own_device: rehearsal.own_device,
            stages,
            kernels: [kernel],
            gate,
            lists: chosen.lists.as_ref(),
            passed_over: &chosen.passed_over,
            update_installs: chosen.update_installs.as_ref(),
        };
        json::object(&report).print();
        return Ok(check::exit(kernel.verdict));
    }
    let style = context.style();
    let mut text = Text::of(&provenance);
    of_choice(chosen, &mut text);
    if !rehearsal.own_device {
        text.line("this machine has no such device: one of the recipe's stands in");
    }
    for stage in &stages {
        text.line(&format!("  {:8.2} s  {}", stage.seconds, stage.name));
    }
    text.append(&style.kernel(kernel));
    if context.config.sign.key.is_some() {
        text.line("not signed: a rehearsal does not use sign.key, `vfguard prepare` does");
    }
    if let Err(e) = &rehearsal.prepared {
        text.line(&format!("not prepared: {e:#}"));
        if let Some(remedy) = crate::error::remedy(e) {
            text.line(&format!("  to mend it: {remedy}"));
        }
    }
    text.line(&format!("the gate {gate}"));
    print::out(&text);
    Ok(check::exit(kernel.verdict))
}

/// Which kernel it is and why it was chosen.
fn of_choice(chosen: &Chosen, text: &mut Text) {
    text.line(&format!("kernel {}", chosen.kernel));
    if let Some(lists) = &chosen.lists {
        text.line(&format!("package lists: {lists}"));
    }
    for passed in &chosen.passed_over {
        text.line(&format!("passed over {}: {}", passed.kernel, passed.why));
    }
    if let Some(own) = &chosen.update_installs {
        text.line(&format!("{}: its headers are on offer; an update still installs {own}", chosen.kernel));
    }
}
