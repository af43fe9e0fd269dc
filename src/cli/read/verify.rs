//! `vfguard verify MODULE… --kernel KERNEL`: whether a module file would load in that kernel.

use crate::cli::Context;
use crate::driver;
use crate::error::{advise, Exit, Remedy};
use crate::finding::{Finding, Verdict};
use crate::host::devices::pci;
use crate::host::files;
use crate::kernel::{installed, KernelRelease};
use crate::module::{self, Module, Target};
use crate::print;
use crate::report::json;
use crate::text::Text;
use anyhow::Result;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// The module file (.ko, .ko.gz, .ko.xz, .ko.zst), wherever it lies; or several
    #[arg(required = true)]
    module: Vec<PathBuf>,
    /// The kernel that it is to load in
    #[arg(long, value_name = "KERNEL")]
    kernel: KernelRelease,
}

/// The JSON object for one module.
#[derive(Serialize)]
struct VerifyReport<'a> {
    verdict: Verdict,
    kernel: &'a KernelRelease,
    module: Summary<'a>,
    findings: &'a [Finding],
}

/// The JSON object for several, which are judged together: the worst verdict, and each in the given order.
#[derive(Serialize)]
struct Reports<'a> {
    verdict: Verdict,
    kernel: &'a KernelRelease,
    modules: Vec<VerifyReport<'a>>,
}

#[derive(Serialize)]
struct Summary<'a> {
    path: &'a Path,
    #[serde(flatten)]
    module: Option<&'a Module>,
}

/// A file after reading and judging it.
struct Verified<'a> {
    path: &'a Path,
    module: Option<Module>,
    findings: Vec<Finding>,
}

impl Verified<'_> {
    fn report<'s>(&'s self, kernel: &'s KernelRelease) -> VerifyReport<'s> {
        let module = Summary { path: self.path, module: self.module.as_ref() };
        VerifyReport { verdict: Verdict::of(&self.findings), kernel, module, findings: &self.findings }
    }
}

/// Reads, verifies, reports.
///
/// # Errors
/// When a file cannot be read, or nothing is known about the kernel.
pub fn run(context: &Context, args: &Args) -> Result<Exit> {
    let host = &context.host;
    let mut target = Target::load(host, &args.kernel);
    let recipes = driver::recipes(host)?;
    let devices =
        pci::devices_if_any(host).remedy("looking at the devices of /sys/bus/pci", "see to what cannot be read there")?;
    let mut all = Vec::new();
    let mut read: Vec<(&PathBuf, Result<Module, Finding>)> = Vec::new();
    for path in &args.module {
        let below = host.path(path);
        let real = if path.is_absolute() && below.exists() { below } else { path.clone() };
        let bytes = files::read_bounded(&real, crate::host::MAX_FILE)
            .remedy(format!("reading {}", path.display()), "name a readable module file; `modinfo -n NAME` finds one")?;
        if read.is_empty() && !target.is_known() && !host.is_dir(installed::modules_dir(&args.kernel)) {
            return Err(advise(
                format!(
                    "nothing is known about kernel {0}: neither /lib/modules/{0} nor its headers are there",
                    args.kernel
                ),
                "install the kernel or its headers, or name an installed one (`ls /lib/modules`)",
            ));
        }
        let module = Module::read(&bytes);
        let same = |known: &Module| module.as_ref().is_ok_and(|m| m.name == known.name && m != known);
        if let Some((other, _)) =
            read.iter().find(|(_, known): &&(_, Result<Module, Finding>)| known.as_ref().is_ok_and(same))
        {
            return Err(advise(
                format!("{} and {} are two modules of one name", other.display(), path.display()),
                "verify them one at a time",
            ));
        }
        read.push((path, module));
    }
    // Modules that are given together are installed together: each may import what another one exports.
    target = target.with_beside(read.iter().filter_map(|(_, module)| module.as_ref().ok()));
    for (path, module) in read {
        let (module, findings) = match module {
            Ok(module) => {
                let recipe = recipes.iter().find(|r| r.module() == module.name);
                let meant: Vec<_> = devices.iter().filter(|d| recipe.is_some_and(|r| r.claims(&d.modalias))).collect();
                let findings = module::verify(&module, &target, &meant);
                (Some(module.judged()), findings)
            }
            Err(finding) => (None, vec![finding]),
        };
        all.push(Verified { path, module, findings });
    }
    let verdict = all.iter().map(|v| Verdict::of(&v.findings)).max().unwrap_or(Verdict::Unknown);
    match (context.json(), all.as_slice()) {
        (true, [one]) => json::object(&one.report(&args.kernel)).print(),
        (true, several) => {
            let modules = several.iter().map(|v| v.report(&args.kernel)).collect();
            json::object(&Reports { verdict, kernel: &args.kernel, modules }).print();
        }
        (false, several) => {
            let shown = |v: &&Verified<'_>| !context.global.quiet || Verdict::of(&v.findings) != Verdict::Safe;
            let mut all = Text::default();
            several.iter().filter(shown).for_each(|v| all.append(&text(context, &args.kernel, v)));
            print::out(&all);
        }
    }
    Ok(super::check::exit(verdict))
}

fn text(context: &Context, kernel: &KernelRelease, verified: &Verified<'_>) -> Text {
    let style = context.style();
    let verdict = Verdict::of(&verified.findings);
    let mut text = Text::default();
    text.line_with(&format!("{} on {kernel}: ", verified.path.display()), style.verdict(verdict), "");
    if let Some(module) = &verified.module {
        let version = module.version.as_deref().unwrap_or("no version");
        let vermagic = module.vermagic.as_deref().unwrap_or("none");
        text.line(&format!("  module {}, {version}, vermagic {}", module.name, vermagic.trim()));
    }
    // All findings, also infos, because the question was about one file.
    verified.findings.iter().for_each(|f| text.append(&style.finding(f, "  ")));
    text
}
