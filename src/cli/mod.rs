//! The command line: one file per verb, which declares its arguments and calls one function.

mod act;
mod completions;
mod man;
pub mod page;
mod read;

use self::act::{accept, decline, gate, prepare, reboot, reconcile, rehearse};
use self::read::{check, doctor, next_boot, status, verify};
use crate::config::Config;
use crate::error::{self, Exit};
use crate::host::files::freeze;
use crate::host::notices;
use crate::host::{sys, Host};
use crate::print;
use crate::report::progress::Show;
use crate::report::{human, json};
use crate::text::{printable, Text};
use anyhow::Result;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use nix::sys::signal::Signal;
use nix::sys::stat::{umask, Mode};
use std::ffi::OsString;
use std::path::PathBuf;

/// Keeps a kernel update from locking you out of a machine whose only way in is an SR-IOV VF NIC.
#[derive(Parser)]
#[command(name = "vfguard", bin_name = "vfguard", version, long_version = LONG_VERSION, max_term_width = 100, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// The output of `--version`; `-V` prints a part of it.
const LONG_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\nbuilt by ", env!("VFGUARD_TOOLCHAIN"));

const EXIT_CODES: &str =
    "Exit codes: 0 done, or safe; 1 could not do or decide (refuses); 2 wrong usage; 3 unsafe (refuses); \
4 another run holds the lock. Treat anything but 0 as a refusal to reboot.";

/// Options of every verb.
#[derive(clap::Args, Clone, Debug)]
pub struct Global {
    /// Take every path of the machine below DIR; nothing outside it is read or changed, no service is spoken to (rehearse asks the
    /// host's package manager)
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// Read FILE instead of /etc/vfguard/config.toml and its fragments
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to print: text for people or one JSON object
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t = Format::Human)]
    pub format: Format,
    /// Print only refusals and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say more: infos, paths, times
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
    /// When to colour
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = Color::Auto)]
    pub color: Color,
    /// No progress bars
    #[arg(long, global = true)]
    pub no_progress: bool,
}

/// `--format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text for people.
    Human,
    /// One JSON object on stdout.
    Json,
}

/// `--color`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Subcommand)]
enum Verb {
    /// What every hook calls: judge; if not all is safe, close the gate, hold the boot default, prepare, judge again
    Reconcile(reconcile::Args),
    /// Fetch, build, verify and install the driver for kernels
    Prepare(prepare::Args),
    /// The check before a reboot; changes nothing
    Check(check::Args),
    /// Say whether a module file would load in a kernel
    Verify(verify::Args),
    /// Say which kernel boots next and how that is known
    NextBoot(next_boot::Args),
    /// Show kernels, devices, modules, the gate, the boot default and the last log
    Status(status::Args),
    /// Show, close or open what refuses a reboot
    Gate(gate::Args),
    /// Check, then reboot
    Reboot(reboot::Args),
    /// Skip a kernel: it is held off, and nothing is refused on its account; or a device that is gone for good
    Decline(decline::Args),
    /// Take back that a kernel is declined
    Accept(accept::Args),
    /// Do the whole job for a kernel in a scratch directory; the host stays untouched
    Rehearse(rehearse::Args),
    /// Say whether the guard itself is installed, wired and able to build
    Doctor,
    /// Print the manual page (roff)
    Man(man::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
}

/// Passed to every verb.
pub struct Context {
    /// The machine.
    pub host: Host,
    /// Its settings.
    pub config: Config,
    /// The global options.
    pub global: Global,
}

impl Context {
    /// Opens the machine and reads its configuration.
    ///
    /// # Errors
    /// Those of [`Host::new`] and [`Config::load`].
    pub fn new(global: &Global) -> Result<Context> {
        let host = Host::new(&global.root)?;
        let config = Config::load(&host, global.config.as_deref())?;
        Ok(Context { host, config, global: global.clone() })
    }

    /// Whether to print JSON.
    pub fn json(&self) -> bool {
        self.global.format == Format::Json
    }

    /// Whether text on stdout is coloured.
    pub fn colour(&self) -> bool {
        match self.global.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                let dumb = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
                !dumb && std::env::var_os("NO_COLOR").is_none() && print::out_is_terminal()
            }
        }
    }

    /// How to show progress: a bar only on a terminal and for people, unless told otherwise.
    pub fn progress(&self) -> Show {
        match self.lines() {
            Show::Lines if !self.global.no_progress && print::err_is_terminal() => Show::Bar,
            other => other,
        }
    }

    /// The same without bars: for hooks, whose output goes through a package manager.
    pub fn lines(&self) -> Show {
        if self.json() || self.global.quiet {
            Show::Nothing
        } else {
            Show::Lines
        }
    }

    /// The style of text for people.
    pub fn style(&self) -> human::Style {
        human::Style { colour: self.colour(), verbose: self.global.verbose }
    }

    /// # Errors
    /// When this would change the live machine and the caller is not root.
    pub fn must_be_root(&self, what: &str) -> Result<()> {
        if self.host.is_live() && !nix::unistd::geteuid().is_root() {
            return Err(error::advise(
                format!("{what} needs root on this machine"),
                "run it with sudo, or in a tree of your own with --root",
            ));
        }
        Ok(())
    }

    /// Prints a line for people; not in JSON and not when quiet.
    pub fn say(&self, line: &str) {
        if !self.json() && !self.global.quiet {
            print::line(line);
        }
    }
}

/// The whole command definition, for the manual page and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// The write permission of the group and of other users.
const OTHERS: Mode = Mode::S_IWGRP.union(Mode::S_IWOTH);

/// Parses, runs, and reports an error; the value is the exit code.
pub fn main(args: Vec<OsString>) -> Exit {
    // A run continues if its terminal goes away. To end it, press Ctrl-C or send SIGTERM.
    sys::outlive(&[Signal::SIGHUP, Signal::SIGXFSZ]);
    // Whatever the caller's umask is, other users must not be able to write the files that are created here. Further bits of
    // the caller's umask stay set.
    let asked = umask(OTHERS);
    umask(asked | OTHERS);
    let wants_json = asks_for_json(&args);
    let plain = args.iter().skip(1).map(|a| a.to_string_lossy()).all(|a| printable(&a) == a);
    let cli = match Cli::command().try_get_matches_from(args).and_then(|m| Cli::from_arg_matches(&m)) {
        Ok(cli) => cli,
        Err(e) => {
            let text = e.render().to_string();
            if !e.use_stderr() {
                print::out(&Text::document(&text));
                return Exit::Done;
            }
            // The message may repeat an argument that contains line breaks; then all of it is printed as one line.
            let line = if plain { text.lines().next().unwrap_or_default() } else { &text };
            let line = printable(line.trim_start_matches("error: "));
            if wants_json {
                json::error(line.trim(), "see `vfguard --help`").print();
            }
            if wants_json || !plain {
                print::note(&line);
            } else {
                print::err(&Text::document(&text));
            }
            return Exit::Usage;
        }
    };
    match run(&cli) {
        Ok(exit) => exit,
        Err(e) => {
            let message = printable(&format!("{e:#}"));
            let remedy = error::remedy(&e).unwrap_or("run the same with -v; `vfguard status` shows the machine").to_owned();
            if cli.global.format == Format::Json {
                json::error(message.trim(), &remedy).print();
            }
            print::note(&format!("{message}; {remedy}"));
            error::exit(&e)
        }
    }
}

fn run(cli: &Cli) -> Result<Exit> {
    let global = &cli.global;
    // Before anything that may write to a file system that a killed run left frozen. An error is reported after the verb,
    // since printing can block if the reader is stuck.
    let thawed = Host::new(&global.root).ok().filter(Host::is_live).map_or(Ok(()), |host| freeze::thaw_left(&host));
    let exit = verb(cli, global);
    notices::complain(thawed);
    exit
}

fn verb(cli: &Cli, global: &Global) -> Result<Exit> {
    match &cli.verb {
        Verb::Reconcile(args) => gate::or_closed(global, |context| reconcile::run(context, args)),
        Verb::Prepare(args) => prepare::run(&Context::new(global)?, args),
        Verb::Check(args) => check::run(&Context::new(global)?, args),
        Verb::Verify(args) => verify::run(&Context::new(global)?, args),
        Verb::NextBoot(args) => next_boot::run(&Context::new(global)?, args),
        Verb::Status(args) => status::run(&Context::new(global)?, args),
        Verb::Gate(args) => gate::run(&gate::context(global)?, args),
        Verb::Reboot(args) => reboot::run(&Context::new(global)?, args),
        Verb::Decline(args) => decline::run(&Context::new(global)?, args),
        Verb::Accept(args) => accept::run(&Context::new(global)?, args),
        Verb::Rehearse(args) => rehearse::run(&Context::new(global)?, args),
        Verb::Doctor => {
            doctor::run(&gate::context(global)?, Config::load(&Host::new(&global.root)?, global.config.as_deref()).err())
        }
        Verb::Man(args) => man::run(args),
        Verb::Completions(args) => completions::run(args),
    }
}

/// Whether the arguments ask for JSON; it works even if they cannot be parsed.
fn asks_for_json(args: &[OsString]) -> bool {
    args.iter().any(|a| a == "--format=json") || args.windows(2).any(|w| w[0] == "--format" && w[1] == "json")
}
