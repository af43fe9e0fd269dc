//! `vfguard prepare [KERNEL…]`: fetch → build → verify → install.

use super::{check, Context};
use crate::driver::{self, Digest, Recipe};
use crate::error::{advise, Exit};
use crate::host::lock::WriteLock;
use crate::host::pci::Device;
use crate::kernel::KernelRelease;
use crate::reconcile;
use crate::report::progress;
use crate::survey::Survey;
use anyhow::Result;
use std::path::PathBuf;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    /// The kernels; else those that may boot next and need it
    #[arg(conflicts_with = "all")]
    kernels: Vec<KernelRelease>,
    /// Every installed kernel
    #[arg(long)]
    all: bool,
    /// Build even where a good module is in place
    #[arg(long)]
    rebuild: bool,
    /// Only this driver; else those that this machine needs
    #[arg(long, value_name = "NAME")]
    driver: Option<String>,
    /// Build this archive instead of the recipe's release
    #[arg(long, value_name = "FILE", requires = "sha256")]
    source: Option<PathBuf>,
    /// The SHA-256 that the archive must have
    #[arg(long, value_name = "HEX", requires = "source")]
    sha256: Option<Digest>,
    /// Parallel jobs of make; else from cores and free memory
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    jobs: Option<u32>,
}

/// Prepares each kernel, reports, and opens a closed gate if all is safe now.
///
/// # Errors
/// The first failure, once every kernel was tried.
pub fn run(context: &Context, args: &Args) -> Result<Exit> {
    context.must_be_root("prepare")?;
    let (host, config) = (&context.host, &context.config);
    let survey = Survey::new(host, config)?;
    for kernel in &args.kernels {
        survey.must_be_installed(kernel)?;
    }
    let lock = WriteLock::take(host, config.hook.patience())?;
    let progress = progress::new(context);
    let mut failure = None;
    for (kernel, recipes) in work(&survey, args)? {
        for recipe in recipes {
            let devices: Vec<&Device> = survey.devices.iter().filter(|d| recipe.claims(&d.modalias)).collect();
            let source = args.source.clone().zip(args.sha256);
            let request = driver::Request {
                kernel: &kernel,
                recipe,
                devices: &devices,
                rebuild: args.rebuild,
                source,
                jobs: args.jobs,
                initrds: survey.initrds(&kernel),
            };
            match driver::prepare(host, config, &lock, &request, progress.as_ref()) {
                Ok(prepared) => context.say(&prepared.summary(&kernel, recipe, context.global.verbose)),
                Err(e) => failure = Some(first(failure, e, context)),
            }
        }
    }
    let outcome = reconcile::settle(host, config, lock, progress.as_ref())?;
    if let Some(e) = failure {
        return Err(e);
    }
    outcome.done.iter().for_each(|line| context.say(line));
    if context.json() {
        check::report(context, &outcome.judgement, outcome.gate);
    }
    Ok(Exit::Done)
}

/// Keeps the first failure for the exit code and says the later ones.
fn first(failure: Option<anyhow::Error>, e: anyhow::Error, context: &Context) -> anyhow::Error {
    match failure {
        Some(first) => {
            context.say(&format!("{e:#}"));
            first
        }
        None => e,
    }
}

/// Which drivers for which kernels.
fn work<'s>(survey: &'s Survey, args: &Args) -> Result<Vec<(KernelRelease, Vec<&'s Recipe>)>> {
    let named = match &args.driver {
        Some(name) => Some(survey.recipe(name)?),
        None => None,
    };
    if args.kernels.is_empty() && !args.all {
        let judged = survey.judge();
        let wanting = judged.kernels.into_iter().filter(|k| args.rebuild || !k.builds.is_empty());
        return Ok(wanting
            .map(|k| {
                let recipes = if args.rebuild { survey.needed() } else { survey.named(&k.builds) };
                (k.kernel, named.map_or(recipes, |r| vec![r]))
            })
            .collect());
    }
    let recipes = match named {
        Some(recipe) => vec![recipe],
        None => survey.needed(),
    };
    // By hand always builds: on a machine without the device, the one recipe there is.
    let recipes = match (recipes.is_empty(), survey.recipes.as_slice()) {
        (false, _) => recipes,
        (true, [only]) => vec![only],
        (true, all) => {
            let names: Vec<&str> = all.iter().map(|r| r.name.as_str()).collect();
            return Err(advise(
                "no device of this machine needs a driver",
                format!("name one with --driver ({})", names.join(", ")),
            ));
        }
    };
    let kernels = if args.all { survey.kernels.iter().map(|k| k.release.clone()).collect() } else { args.kernels.clone() };
    Ok(kernels.into_iter().map(|k| (k, recipes.clone())).collect())
}
