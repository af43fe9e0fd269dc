//! One simulated boot: its input, its result, and the files that it reads (GRUB's `grub-core/normal/main.c`).

use super::budget::{Budget, READ};
use super::menu::{Body, Choice, MenuEntry};
use super::syntax::parser::{parse, Block};
use super::world::{Remark, World};
use crate::boot::grub2::ITEM;
use crate::boot::image::{self, TREE};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// GRUB's own `MAX_RECURSION_DEPTH` is 100; this is less because of the stack of a thread.
const MAX_DEPTH: usize = 60;
/// A grub.cfg of 10,000 entries is 8 MB.
const MAX_SCRIPT: u64 = 32 << 20;

/// The variables of each environment file, as GRUB would leave them.
pub type EnvFiles = BTreeMap<PathBuf, Vec<(String, String)>>;

/// The result of one boot.
pub struct Simulated {
    /// What GRUB starts; none if it starts nothing by itself.
    pub choice: Option<Choice>,
    /// What it starts if that fails.
    pub fallbacks: Vec<Choice>,
    /// The environment files after the boot.
    pub env: EnvFiles,
    /// Whether GRUB sets `boot_once` in this boot.
    pub once: bool,
    /// The environment file that a plain `load_env` reads.
    pub env_file: Option<PathBuf>,
    /// The configuration that was read last, below the root.
    pub file: PathBuf,
    /// The value of the outermost menu's `default`, if it was set.
    pub default: Option<String>,
    /// The configurations that were read, with their directories, and the directories of entries, below the root.
    pub files: Vec<PathBuf>,
    /// Whether `blscfg` was run.
    pub bls: bool,
    /// The remarks.
    pub remarks: Vec<Remark>,
}

/// Why a block was left before its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// An entry was started.
    Booted(Box<Choice>),
    /// Nothing is started.
    Dead(String),
    /// `return`.
    Return(i32),
    /// `break N`.
    Break(u32),
    /// `continue N`.
    Continue(u32),
}

/// What is loaded and waits for `boot`.
#[derive(Clone, Debug, Default)]
pub(super) struct Loaded {
    pub image: Option<String>,
    pub device: String,
    pub missing: Option<String>,
    /// The kernel is on a partition that is not visible here.
    pub elsewhere: bool,
    pub cmdline: String,
    pub initrds: Vec<String>,
    /// Xen or another first stage was named: the next `module` is the kernel.
    pub multiboot: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// Contexts, the innermost last; each value with whether it is exported.
    pub contexts: Vec<HashMap<String, (String, bool)>>,
    pub env: EnvFiles,
    pub env_file: Option<PathBuf>,
}

/// One simulated boot.
pub struct Machine<'a> {
    pub(super) world: &'a World<'a>,
    pub(super) state: State,
    pub(super) functions: HashMap<String, Block>,
    pub(super) scopes: Vec<Vec<String>>,
    pub(super) menus: Vec<Vec<MenuEntry>>,
    pub(super) path: Vec<String>,
    /// The names by which a default would select the path; empty where none does.
    pub(super) names: Vec<String>,
    pub(super) loaded: Option<Loaded>,
    pub(super) fallback_choices: Vec<Choice>,
    /// The kernels of all entries, in a survey; none in a boot.
    pub(super) surveyed: Option<Vec<Choice>>,
    pub(super) bls: bool,
    pub(super) file: PathBuf,
    pub(super) files: Vec<PathBuf>,
    pub(super) line: usize,
    pub(super) default: Option<String>,
    /// How many of the entries that lead here ask for a password.
    pub(super) locks: usize,
    pub(super) remarks: Vec<Remark>,
    pub(super) steps: u64,
    pub(super) budget: Budget,
    depth: usize,
}

impl<'a> Machine<'a> {
    /// Boots once with the configuration `config` (below the root) as GRUB's own; `env` has the environment files as an earlier boot left
    /// them (a file in it is not read from disk).
    pub fn boot(world: &'a World<'a>, config: &Path, env: EnvFiles) -> Simulated {
        let mut machine = Machine::new(world, config, env);
        let stop = machine.run(config);
        machine.outcome(stop)
    }

    /// What every entry of every menu would start, in the order of the menus; and the environment file that a plain `load_env` reads.
    pub fn survey(world: &'a World<'a>, config: &Path) -> (Vec<Choice>, Option<PathBuf>) {
        let mut machine = Machine::new(world, config, EnvFiles::new());
        machine.surveyed = Some(Vec::new());
        machine.run(config);
        (machine.surveyed.unwrap_or_default(), machine.state.env_file)
    }

    pub(super) fn new(world: &'a World<'a>, config: &Path, env: EnvFiles) -> Machine<'a> {
        let mut machine = Machine {
            world,
            state: State { contexts: vec![HashMap::new()], env, env_file: None },
            functions: HashMap::new(),
            scopes: Vec::new(),
            menus: vec![Vec::new()],
            path: Vec::new(),
            names: Vec::new(),
            loaded: None,
            fallback_choices: Vec::new(),
            surveyed: None,
            bls: false,
            file: config.to_owned(),
            files: Vec::new(),
            line: 0,
            default: None,
            locks: 0,
            remarks: Vec::new(),
            steps: 0,
            budget: Budget::default(),
            depth: 0,
        };
        machine.firmware(config);
        machine
    }

    pub(super) fn run(&mut self, config: &Path) -> Stop {
        let read = if super::embedded::is_program(config) { self.run_program(config) } else { self.run_file(config) };
        match read {
            Ok(_) => {
                let menu = self.menus.pop().unwrap_or_default();
                self.start(menu)
            }
            Err(stop) => stop,
        }
    }

    /// The variables that are set before the first line is read.
    fn firmware(&mut self, config: &Path) {
        let directory = config.parent().unwrap_or(Path::new("/")).display().to_string();
        let prefix = format!("({TREE}){directory}");
        for (name, value) in [
            ("root", "hd0"),
            ("prefix", prefix.as_str()),
            ("cmdpath", prefix.as_str()),
            ("grub_cpu", if self.world.efi { "x86_64" } else { "i386" }),
            ("grub_platform", if self.world.efi { "efi" } else { "pc" }),
            ("feature_chainloader_bpb", "y"),
            ("feature_ntldr", "y"),
            ("feature_platform_search_hint", "y"),
            ("feature_default_font_path", "y"),
            ("feature_all_video_module", "y"),
            ("feature_menuentry_id", "y"),
            ("feature_menuentry_options", "y"),
            ("feature_200_final", "y"),
            ("feature_nativedisk_cmd", "y"),
            ("feature_timeout_style", "y"),
        ] {
            self.set_exported(name, value.to_owned());
        }
    }

    fn outcome(mut self, stop: Stop) -> Simulated {
        // It is set in the configuration's context, and not exported to a submenu's.
        let set = |c: &HashMap<String, (String, bool)>| c.get("boot_once").is_some_and(|(v, _)| v == "true");
        let once = self.state.contexts.iter().any(set);
        // A result of only a part of the configuration does not count.
        let stop = self.within_budget().err().unwrap_or(stop);
        let choice = match stop {
            Stop::Booted(choice) => Some(*choice),
            Stop::Dead(why) => {
                self.doubt(why, "look at the file, or write it anew with grub2-mkconfig (update-grub)");
                None
            }
            Stop::Return(_) | Stop::Break(_) | Stop::Continue(_) => None,
        };
        Simulated {
            choice,
            fallbacks: self.fallback_choices,
            env: self.state.env,
            once,
            env_file: self.state.env_file,
            file: self.file,
            default: self.default,
            files: self.files,
            bls: self.bls,
            remarks: self.remarks,
        }
    }

    /// Runs a configuration file in the present context and menu. A file that cannot be read is a doubt.
    pub(super) fn run_file(&mut self, path: &Path) -> Result<i32, Stop> {
        // A file that is looked for beside it may appear later.
        self.looked_into(path.parent().unwrap_or(path));
        self.looked_into(path);
        self.spend(READ);
        self.within_budget()?;
        let text = match self.world.read(path, MAX_SCRIPT) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(e) => {
                self.doubt(format!("reading {}: {e}", path.display()), format!("make {} a readable file", path.display()));
                return Ok(0);
            }
        };
        let directory = path.parent().unwrap_or(Path::new("/")).display().to_string();
        let outer = (self.file.clone(), self.line, self.get("config_directory").map(str::to_owned));
        self.file = path.to_owned();
        self.set_exported("config_file", format!("({TREE}){}", path.display()));
        self.set_exported("config_directory", format!("({TREE}){directory}"));
        let result = self.run_text(&text);
        if result.is_ok() {
            (self.file, self.line) = (outer.0, outer.1);
            match outer.2 {
                Some(directory) => self.set("config_directory", directory),
                None => self.unset("config_directory"),
            }
        }
        result
    }

    /// Records an input of the answer.
    pub(super) fn looked_into(&mut self, path: &Path) {
        self.spend(self.files.len());
        if self.files.iter().all(|file| file != path) {
            self.files.push(path.to_owned());
        }
    }

    fn run_text(&mut self, text: &str) -> Result<i32, Stop> {
        self.spend(text.len());
        let (commands, mistakes) = parse(text, &mut self.budget);
        for mistake in mistakes {
            self.line = mistake.line;
            self.doubt(
                format!("{}; GRUB skips what it cannot read", mistake.what),
                format!("mend that line of {}", self.file.display()),
            );
        }
        self.run_block(&commands)
    }

    pub(super) fn run_body(&mut self, entry: &MenuEntry) -> Result<i32, Stop> {
        self.spend(entry.args.iter().map(|arg| arg.len() + ITEM).sum());
        self.scopes.push(entry.args.clone());
        let result = match &entry.body {
            Body::Block(block) => self.run_block(&block.clone()),
            Body::Source(source) => {
                let outer = (self.file.clone(), self.line);
                self.file = PathBuf::from(format!("/boot/loader/entries/{}.conf", entry.id));
                let result = self.run_text(source);
                (self.file, self.line) = outer;
                result
            }
        };
        self.scopes.pop();
        result
    }

    pub(super) fn run_block(&mut self, block: &Block) -> Result<i32, Stop> {
        self.depth += 1;
        let result = if self.depth > MAX_DEPTH {
            Err(Stop::Dead(format!("{}:{}: commands call each other without end", self.file.display(), self.line)))
        } else {
            let mut status = 0;
            let mut result = Ok(());
            for command in block.iter() {
                match self.run_command(command) {
                    Ok(s) => status = s,
                    Err(stop) => {
                        result = Err(stop);
                        break;
                    }
                }
            }
            result.map(|()| status)
        };
        self.depth -= 1;
        result
    }

    /// The path below the root of a file that the script names, if it has one.
    pub(super) fn locate(&mut self, spec: &str) -> Option<PathBuf> {
        if !spec.starts_with(['(', '/']) {
            return None;
        }
        let whole;
        let spec = match self.get("root") {
            Some(TREE) if spec.starts_with('/') => {
                whole = format!("({TREE}){spec}");
                &whole
            }
            _ => spec,
        };
        let found = image::locate_among(spec, &|path| self.world.exists(path))?;
        if crate::boot::grub2::crosses(self.world.host, &found) {
            self.note(
                format!("{} is a link into another file system, which GRUB does not follow", found.display()),
                format!("put the file itself in the place of the link {}", found.display()),
            );
            return None;
        }
        Some(found)
    }
}
