//! `vfguard verify MODULE --kernel KERNEL`: will this file load there?

use super::Context;
use crate::driver;
use crate::error::{advise, Exit, Remedy};
use crate::finding::{Finding, Verdict};
use crate::host::{files, pci};
use crate::kernel::{installed, KernelRelease};
use crate::module::{self, Module, Target};
use crate::report::json;
use anyhow::Result;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// The module file (.ko, .ko.gz, .ko.xz, .ko.zst), wherever it lies
    module: PathBuf,
    /// The kernel that it is to load in
    #[arg(long, value_name = "KERNEL")]
    kernel: KernelRelease,
}

#[derive(Serialize)]
struct Report<'a> {
    verdict: Verdict,
    kernel: &'a KernelRelease,
    module: Summary<'a>,
    findings: &'a [Finding],
}

#[derive(Serialize)]
struct Summary<'a> {
    path: &'a Path,
    #[serde(flatten)]
    module: Option<&'a Module>,
}

/// Reads, verifies, reports.
///
/// # Errors
/// When the file cannot be read, or nothing at all is known about the kernel.
pub fn run(context: &Context, args: &Args) -> Result<Exit> {
    let host = &context.host;
    let below = host.path(&args.module);
    let path = if args.module.is_absolute() && below.exists() { below } else { args.module.clone() };
    let bytes = files::read_bounded(&path, crate::host::MAX_FILE)
        .remedy(format!("reading {}", args.module.display()), "name a readable module file; `modinfo -n NAME` finds one")?;
    let target = Target::load(host, &args.kernel);
    if !target.is_known() && !host.is_dir(installed::modules_dir(&args.kernel)) {
        return Err(advise(
            format!("nothing is known about kernel {0}: neither /lib/modules/{0} nor its headers are there", args.kernel),
            "install the kernel or its headers, or name an installed one (`ls /lib/modules`)",
        ));
    }
    let (module, findings) = match Module::read(&bytes) {
        Ok(module) => {
            let recipes = driver::recipes(host)?;
            let devices = pci::devices(host).unwrap_or_default();
            let recipe = recipes.iter().find(|r| r.modules.contains(&module.name));
            let meant: Vec<_> = devices.iter().filter(|d| recipe.is_some_and(|r| r.claims(&d.modalias))).collect();
            let findings = module::verify(&module, &target, &meant);
            (Some(module), findings)
        }
        Err(finding) => (None, vec![finding]),
    };
    let verdict = Verdict::of(&findings);
    if context.json() {
        let module = Summary { path: &args.module, module: module.as_ref() };
        super::print(&json::object(&Report { verdict, kernel: &args.kernel, module, findings: &findings }));
    } else if verdict != Verdict::Safe || !context.global.quiet {
        super::print(&text(context, args, module.as_ref(), verdict, &findings));
    }
    Ok(super::check::exit(verdict))
}

fn text(context: &Context, args: &Args, module: Option<&Module>, verdict: Verdict, findings: &[Finding]) -> String {
    let style = context.style();
    let mut text = format!("{} on {}: {}\n", args.module.display(), args.kernel, style.verdict(verdict));
    if let Some(module) = module {
        let version = module.version.as_deref().unwrap_or("no version");
        let vermagic = module.vermagic.as_deref().unwrap_or("none");
        text += &format!("  module {}, {version}, vermagic {}\n", module.name, vermagic.trim());
    }
    // All of them, infos too: the answer to a question about one file.
    findings.iter().for_each(|f| text += &style.finding(f, "  "));
    text
}
