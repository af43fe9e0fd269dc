//! `vfguard prepare [KERNEL…]`: fetch → build → verify → install.

use crate::cli::read::check;
use crate::cli::Context;
use crate::driver::{self, Digest, Recipe};
use crate::error::{advise, advise_exit, Exit};
use crate::flow::reconcile;
use crate::host::devices::pci::Device;
use crate::host::lock::WriteLock;
use crate::kernel::tree::Tree;
use crate::kernel::KernelRelease;
use crate::report::progress;
use crate::verdict::judge::Judged;
use crate::verdict::survey::Survey;
use anyhow::Result;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::rc::Rc;

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
    /// Build this archive (.tar.gz, .tar.xz or .tar) instead of the recipe's release; with --driver where more than one driver is to
    /// be built
    #[arg(long, value_name = "FILE", requires = "sha256")]
    source: Option<PathBuf>,
    /// The SHA-256 that the archive must have
    #[arg(long, value_name = "HEX", requires = "source")]
    sha256: Option<Digest>,
    /// Parallel jobs of make; else from cores and free memory
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    jobs: Option<u32>,
}

/// Prepares each kernel, reports, and opens a closed gate if all kernels are safe now.
///
/// # Errors
/// The first failure, after every kernel was tried.
pub fn run(context: &Context, args: &Args) -> Result<Exit> {
    context.must_be_root("prepare")?;
    let (host, config) = (&context.host, &context.config);
    let survey = Survey::new(host, config)?;
    for kernel in &args.kernels {
        survey.must_be_installed(kernel)?;
    }
    let work = work(&survey, args)?;
    every_option_counts(&survey, args, &work)?;
    let lock = WriteLock::take(host, config.hook.patience())?;
    let progress = progress::new(context.progress());
    let mut failure = None;
    if work.is_empty() {
        context.say(&nothing_to_do(args));
    }
    for (kernel, recipes) in work {
        for recipe in &recipes {
            let devices: Vec<&Device> = survey.devices.iter().filter(|d| recipe.claims(&d.modalias)).collect();
            let source = args.source.clone().zip(args.sha256);
            let request = driver::Request {
                tree: &Tree::of(host, &kernel),
                recipe,
                devices: &devices,
                rebuild: args.rebuild,
                source,
                jobs: args.jobs,
                initrds: survey.initrds(&kernel),
            };
            match driver::prepare(host, config, &lock, &request, progress.as_ref()) {
                Ok(prepared) => {
                    let lines = prepared.summary(&kernel, recipe, context.global.verbose);
                    lines.iter().for_each(|line| context.say(line));
                }
                Err(e) => failure = Some(first(failure, e, context)),
            }
        }
    }
    let outcome = reconcile::judge_again(host, config, lock, progress.as_ref())?;
    if let Some(e) = failure {
        return Err(e);
    }
    outcome.done.iter().for_each(|line| context.say(line));
    if context.json() {
        check::report(context, &outcome.judgement, outcome.gate);
    }
    Ok(Exit::Done)
}

/// Keeps the first failure for the exit code and prints the later ones.
fn first(failure: Option<anyhow::Error>, e: anyhow::Error, context: &Context) -> anyhow::Error {
    match failure {
        Some(first) => {
            context.say(&format!("{e:#}"));
            first
        }
        None => e,
    }
}

/// A kernel with the drivers to build for it.
type Work = (KernelRelease, Vec<Rc<Recipe>>);

/// Which drivers to build for which kernels.
fn work(survey: &Survey, args: &Args) -> Result<Vec<Work>> {
    let named = match &args.driver {
        Some(name) => Some(survey.recipe(name)?),
        None => None,
    };
    if args.kernels.is_empty() && !args.all {
        let Judged { judgement, work } = survey.judged();
        let mut work: Vec<Work> = if args.rebuild {
            let needed: Vec<_> = survey.needed().into_iter().cloned().collect();
            judgement.kernels.into_iter().map(|k| (k.kernel, needed.clone())).collect()
        } else {
            work.into_iter().map(|work| (work.kernel, work.builds)).collect()
        };
        work.iter_mut().for_each(|(_, recipes)| recipes.retain(|r| named.is_none_or(|named| named.name == r.name)));
        work.retain(|(_, recipes)| !recipes.is_empty());
        return Ok(work);
    }
    let recipes = match named {
        Some(recipe) => vec![recipe],
        None => survey.needed(),
    };
    // A person's call always builds something: on a machine without a matching device, ixgbevf, unless the machine has
    // recipes of its own.
    let recipes = match (recipes.is_empty(), survey.foremost().as_slice()) {
        (false, _) => recipes,
        (true, [only]) => vec![*only],
        (true, _) => {
            let names: Vec<&str> = survey.recipes.iter().map(|r| r.name.as_str()).collect();
            return Err(advise(
                "no device of this machine needs a driver",
                format!("name one with --driver ({})", names.join(", ")),
            ));
        }
    };
    let kernels = if args.all { survey.kernels.iter().map(|k| k.release.clone()).collect() } else { args.kernels.clone() };
    let recipes: Vec<Rc<Recipe>> = recipes.into_iter().cloned().collect();
    Ok(kernels.into_iter().map(|k| (k, recipes.clone())).collect())
}

/// An option that would be ignored, or would apply to more than was meant, is an error.
fn every_option_counts(survey: &Survey, args: &Args, work: &[Work]) -> Result<()> {
    let usage = |message: String, remedy: String| Err(advise_exit(Exit::Usage, message, remedy));
    let drivers: BTreeSet<&str> = work.iter().flat_map(|(_, recipes)| recipes).map(|r| r.name.as_str()).collect();
    let source = args.source.as_ref().zip(args.sha256.as_ref()).map(|(file, hex)| {
        // A name with special characters for a shell must be typed by the person.
        let name = file.to_string_lossy();
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._+-".contains(&b));
        format!(" --source {} --sha256 {hex}", if plain { name.as_ref() } else { "FILE" })
    });
    if let (Some(source), true) = (&source, drivers.len() > 1) {
        let names: Vec<&str> = drivers.into_iter().collect();
        let kernels = args.kernels.iter().map(|k| format!(" {k}")).collect::<String>();
        let [all, rebuild] =
            [(args.all, " --all"), (args.rebuild, " --rebuild")].map(|(on, text)| if on { text } else { "" });
        return usage(
            format!("--source is the archive of one driver, and more than one is to be built: {}", names.join(", ")),
            format!("say which one it is: vfguard prepare{kernels}{all}{rebuild} --driver {}{source}", names[0]),
        );
    }
    let (source, true) = (source, args.kernels.is_empty()) else { return Ok(()) };
    let kernel = survey.kernels.first().map_or("KERNEL", |k| k.release.as_str());
    let driver = args.driver.as_ref().map(|name| format!(" --driver {name}")).unwrap_or_default();
    if let (Some(source), true) = (&source, work.is_empty()) {
        return usage(
            format!("{}, so the archive would not be used", nothing_to_do(args)),
            format!("name the kernel to build it for: vfguard prepare {kernel}{driver}{source}"),
        );
    }
    if args.all {
        return Ok(());
    }
    if let Some(name) = args.driver.as_ref().filter(|name| survey.needed().iter().all(|r| r.name != **name)) {
        return usage(
            format!(
                "this machine does not need {name}: no device here is one of its, and drivers.required does not list it"
            ),
            format!("name the kernel to build it all the same: vfguard prepare {kernel}{driver}"),
        );
    }
    Ok(())
}

fn nothing_to_do(args: &Args) -> String {
    match &args.driver {
        _ if args.all => "no kernel is installed, so there is nothing to build for".into(),
        Some(name) => format!("no kernel that may boot next needs {name} built"),
        None => "no kernel that may boot next needs a driver built".into(),
    }
}
