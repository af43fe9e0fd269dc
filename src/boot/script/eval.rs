//! Running a script with bounded steps (GRUB's `grub-core/script/execute.c`, `normal/main.c`, `kern/env.c`).

use super::lexer::{Part, Word};
use super::menu::{Body, Choice, Entry};
use super::parser::{parse, Block, Command};
use crate::boot::image::{self, TREE};
use crate::host::{files, Host};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Commands run before a script counts as endless: 10,000 entries of 20 commands each, and room.
const MAX_STEPS: u64 = 400_000;
/// GRUB's own `MAX_RECURSION_DEPTH` is 100; less here, for the stack of a thread.
const MAX_DEPTH: usize = 60;
/// A variable longer than this only grows.
const MAX_VALUE: usize = 64 << 10;
/// A grub.cfg of 10,000 entries is 8 MB.
const MAX_SCRIPT: u64 = 32 << 20;

/// Whose rules say what a default means and how entries are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavor {
    /// GNU GRUB, and Red Hat's before Fedora 30 and EL8.
    Upstream,
    /// rhboot/grub2 since Fedora 30 and EL8.
    Fedora,
    /// Not known: both are tried.
    Unknown,
}

/// How Boot Loader Specification entries are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By file name; `+` sorts as its own sign (Fedora 31, EL9 and later).
    Name,
    /// By the `version` key if every entry has one, then by file name; `+` separates (EL8, Fedora 30).
    Version,
    /// Not known: both are tried.
    Unknown,
}

/// What a simulation cannot change.
pub struct World<'a> {
    /// The machine.
    pub host: &'a Host,
    /// Whose rules.
    pub flavor: Flavor,
    /// How entries are sorted.
    pub order: Order,
    /// Whether the firmware is UEFI.
    pub efi: bool,
    /// Whether GRUB can write its environment block.
    pub writable: bool,
}

/// A remark of a simulation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Whether it makes the answer uncertain.
    pub doubt: bool,
    /// What was seen.
    pub message: String,
    /// What mends it.
    pub remedy: String,
}

/// The variables of each environment file, as GRUB would leave them.
pub type EnvFiles = BTreeMap<PathBuf, Vec<(String, String)>>;

/// What one boot comes to.
pub struct Outcome {
    /// What GRUB starts; none if it starts nothing by itself.
    pub choice: Option<Choice>,
    /// What it starts if that fails.
    pub fallbacks: Vec<Choice>,
    /// The environment files after it.
    pub env: EnvFiles,
    /// GRUB calls this boot one of its own (`boot_once`).
    pub once: bool,
    /// The environment file that a plain `load_env` reads.
    pub env_file: Option<PathBuf>,
    /// The configuration read last, below the root.
    pub file: PathBuf,
    /// Whether `blscfg` was run.
    pub bls: bool,
    /// What was remarked.
    pub remarks: Vec<Remark>,
}

/// Why a block was left before its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// An entry was started.
    Booted(Box<Choice>),
    /// Nothing will be started.
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
    pub missing: Option<String>,
    pub cmdline: String,
    pub initrds: Vec<String>,
    /// Xen or another first stage was named: the next `module` is the kernel.
    pub multiboot: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// Contexts, the innermost last; a value and whether it is exported.
    contexts: Vec<HashMap<String, (String, bool)>>,
    pub env: EnvFiles,
    pub env_file: Option<PathBuf>,
}

/// One simulated boot.
pub struct Machine<'a> {
    pub(super) world: &'a World<'a>,
    pub(super) state: State,
    pub(super) functions: HashMap<String, Block>,
    pub(super) scopes: Vec<Vec<String>>,
    pub(super) menus: Vec<Vec<Entry>>,
    pub(super) path: Vec<String>,
    pub(super) loaded: Option<Loaded>,
    pub(super) fallback_choices: Vec<Choice>,
    /// The kernels of all entries, where they and not the default are asked for.
    pub(super) surveyed: Option<Vec<Choice>>,
    pub(super) bls: bool,
    pub(super) file: PathBuf,
    pub(super) line: usize,
    remarks: Vec<Remark>,
    steps: u64,
    depth: usize,
}

impl<'a> Machine<'a> {
    /// Boots once with the configuration `config` (below the root) as GRUB's own; `env` are the environment files as an
    /// earlier boot left them (none are read from disk where it names them).
    pub fn boot(world: &'a World<'a>, config: &Path, env: EnvFiles) -> Outcome {
        let mut machine = Machine::new(world, config, env);
        let stop = machine.run(config);
        machine.outcome(stop)
    }

    /// What every entry of every menu would start, in the order of the menus.
    pub fn survey(world: &'a World<'a>, config: &Path) -> Vec<Choice> {
        let mut machine = Machine::new(world, config, EnvFiles::new());
        machine.surveyed = Some(Vec::new());
        machine.run(config);
        machine.surveyed.unwrap_or_default()
    }

    fn new(world: &'a World<'a>, config: &Path, env: EnvFiles) -> Machine<'a> {
        let mut machine = Machine {
            world,
            state: State { contexts: vec![HashMap::new()], env, env_file: None },
            functions: HashMap::new(),
            scopes: Vec::new(),
            menus: vec![Vec::new()],
            path: Vec::new(),
            loaded: None,
            fallback_choices: Vec::new(),
            surveyed: None,
            bls: false,
            file: config.to_owned(),
            line: 0,
            remarks: Vec::new(),
            steps: 0,
            depth: 0,
        };
        machine.firmware(config);
        machine
    }

    fn run(&mut self, config: &Path) -> Stop {
        match self.run_file(config) {
            Ok(_) => {
                let menu = self.menus.pop().unwrap_or_default();
                self.start(menu)
            }
            Err(stop) => stop,
        }
    }

    /// What is set before the first line is read.
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

    fn outcome(mut self, stop: Stop) -> Outcome {
        // Set in the context of the configuration, and not exported to a submenu's.
        let set = |c: &HashMap<String, (String, bool)>| c.get("boot_once").is_some_and(|(v, _)| v == "true");
        let once = self.state.contexts.iter().any(set);
        let choice = match stop {
            Stop::Booted(choice) => Some(*choice),
            Stop::Dead(why) => {
                self.doubt(why, "look at the file, or write it anew with grub2-mkconfig (update-grub)");
                None
            }
            Stop::Return(_) | Stop::Break(_) | Stop::Continue(_) => None,
        };
        Outcome {
            choice,
            fallbacks: self.fallback_choices,
            env: self.state.env,
            once,
            env_file: self.state.env_file,
            file: self.file,
            bls: self.bls,
            remarks: self.remarks,
        }
    }

    fn remark(&mut self, doubt: bool, message: String, remedy: String) {
        let message = format!("{}:{}: {message}", self.file.display(), self.line);
        let remark = Remark { doubt, message, remedy };
        if self.remarks.len() < super::super::MAX_PROBLEMS && !self.remarks.contains(&remark) {
            self.remarks.push(remark);
        }
    }

    pub(super) fn doubt(&mut self, message: impl Into<String>, remedy: impl Into<String>) {
        self.remark(true, message.into(), remedy.into());
    }

    pub(super) fn note(&mut self, message: impl Into<String>, remedy: impl Into<String>) {
        self.remark(false, message.into(), remedy.into());
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.state.contexts.last()?.get(name).map(|(v, _)| v.as_str())
    }

    pub(super) fn set(&mut self, name: &str, mut value: String) {
        if value.len() > MAX_VALUE {
            self.doubt(format!("the variable {name} grows without end"), "look at the loop that sets it");
            value.clear();
        }
        if let Some(context) = self.state.contexts.last_mut() {
            match context.get_mut(name) {
                Some(old) => old.0 = value,
                None => {
                    context.insert(name.to_owned(), (value, false));
                }
            }
        }
    }

    pub(super) fn set_exported(&mut self, name: &str, value: String) {
        self.set(name, value);
        self.export(name);
    }

    pub(super) fn export(&mut self, name: &str) {
        if let Some(context) = self.state.contexts.last_mut() {
            context.entry(name.to_owned()).or_default().1 = true;
        }
    }

    pub(super) fn unset(&mut self, name: &str) {
        if let Some(context) = self.state.contexts.last_mut() {
            context.remove(name);
        }
    }

    /// A new context holds the exported variables only.
    pub(super) fn open_context(&mut self) {
        let outer = self.state.contexts.last().cloned().unwrap_or_default();
        self.state.contexts.push(outer.into_iter().filter(|(_, (_, exported))| *exported).collect());
    }

    pub(super) fn close_context(&mut self) {
        if self.state.contexts.len() > 1 {
            self.state.contexts.pop();
        }
    }

    /// Runs a configuration file in the present context and menu. That it cannot be read is a doubt.
    pub(super) fn run_file(&mut self, path: &Path) -> Result<i32, Stop> {
        let text = match files::read_bounded(&self.world.host.path(path), MAX_SCRIPT) {
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

    fn run_text(&mut self, text: &str) -> Result<i32, Stop> {
        let (commands, mistakes) = parse(text);
        for mistake in mistakes {
            self.line = mistake.line;
            self.doubt(
                format!("{}; GRUB skips what it cannot read", mistake.what),
                format!("mend that line of {}", self.file.display()),
            );
        }
        self.run_block(&commands)
    }

    pub(super) fn run_body(&mut self, entry: &Entry) -> Result<i32, Stop> {
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

    fn step(&mut self) -> Result<(), Stop> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return Err(Stop::Dead(format!("{}:{}: a loop without end", self.file.display(), self.line)));
        }
        Ok(())
    }

    fn run_command(&mut self, command: &Command) -> Result<i32, Stop> {
        self.step()?;
        let status = match command {
            Command::Simple { words, block, line } => {
                self.line = *line;
                self.simple(words, block.as_ref())?
            }
            Command::If { arms, otherwise } => {
                let mut run = otherwise;
                for (condition, body) in arms {
                    if self.run_block(condition)? == 0 {
                        run = body;
                        break;
                    }
                }
                if run.is_empty() {
                    0
                } else {
                    self.run_block(run)?
                }
            }
            Command::For { variable, words, body, line } => {
                self.line = *line;
                let mut status = 0;
                for value in self.expand(words) {
                    if value.contains(['*', '?']) {
                        self.doubt("a for over file names", "name the files one by one");
                    }
                    self.set(variable, value);
                    match self.looped(body)? {
                        Some(s) => status = s,
                        None => break,
                    }
                }
                status
            }
            Command::While { condition, body, until } => {
                let mut status = 0;
                loop {
                    self.step()?;
                    if (self.run_block(condition)? == 0) == *until {
                        break;
                    }
                    match self.looped(body)? {
                        Some(s) => status = s,
                        None => break,
                    }
                }
                status
            }
            Command::Function { name, body } => {
                self.functions.insert(name.clone(), body.clone());
                0
            }
        };
        self.set("?", status.to_string());
        Ok(status)
    }

    /// One turn of a loop; none if it ends the loop.
    fn looped(&mut self, body: &Block) -> Result<Option<i32>, Stop> {
        match self.run_block(body) {
            Ok(status) => Ok(Some(status)),
            Err(Stop::Break(n)) if n > 1 => Err(Stop::Break(n - 1)),
            Err(Stop::Break(_)) => Ok(None),
            Err(Stop::Continue(n)) if n > 1 => Err(Stop::Continue(n - 1)),
            Err(Stop::Continue(_)) => Ok(Some(0)),
            Err(stop) => Err(stop),
        }
    }

    fn simple(&mut self, words: &[Word], block: Option<&Block>) -> Result<i32, Stop> {
        let mut args = self.expand(words);
        if args.is_empty() {
            return Ok(0);
        }
        let invert = args[0] == "!";
        if invert {
            args.remove(0);
            if args.is_empty() {
                return Ok(1);
            }
        }
        let name = args.remove(0);
        let status = match self.builtin(&name, &args, block) {
            Some(result) => result?,
            None => match self.functions.get(&name).cloned() {
                Some(body) => self.call(&body, args)?,
                None => {
                    match name.split_once('=') {
                        Some((variable, value)) => self.set(variable, value.to_owned()),
                        None => self.unknown(&name),
                    }
                    return Ok(0);
                }
            },
        };
        Ok(if invert { i32::from(status == 0) } else { status })
    }

    fn call(&mut self, body: &Block, args: Vec<String>) -> Result<i32, Stop> {
        self.scopes.push(args);
        let result = self.run_block(body);
        self.scopes.pop();
        match result {
            Err(Stop::Return(status)) => Ok(status),
            other => other,
        }
    }

    fn value(&self, name: &str) -> Vec<String> {
        let scope = self.scopes.last();
        match name {
            "#" => vec![scope.map_or(0, Vec::len).to_string()],
            "*" | "@" => scope.cloned().unwrap_or_default(),
            _ if name.starts_with(|c: char| c.is_ascii_digit()) => {
                let at = name.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
                at.and_then(|i| scope?.get(i)).into_iter().cloned().collect()
            }
            _ => self.get(name).into_iter().map(str::to_owned).collect(),
        }
    }

    /// Words to arguments: a quoted piece makes an argument even if empty, an unquoted variable is split at white space.
    pub(super) fn expand(&self, words: &[Word]) -> Vec<String> {
        let mut args = Vec::new();
        for word in words {
            let mut current: Option<String> = None;
            for part in word {
                match part {
                    Part::Text(text) if text.is_empty() => {}
                    Part::Text(text) | Part::Quoted(text) => current.get_or_insert_default().push_str(text),
                    Part::Variable { name, quoted: true } => {
                        let value = self.value(name);
                        if name == "@" {
                            for (i, v) in value.into_iter().enumerate() {
                                if i > 0 {
                                    args.extend(current.take());
                                }
                                current.get_or_insert_default().push_str(&v);
                            }
                        } else {
                            current.get_or_insert_default().push_str(&value.join(" "));
                        }
                    }
                    Part::Variable { name, quoted: false } => {
                        let joined = self.value(name).join(" ");
                        for (i, piece) in joined.split_ascii_whitespace().enumerate() {
                            if i > 0 {
                                args.extend(current.take());
                            }
                            current.get_or_insert_default().push_str(piece);
                        }
                    }
                }
            }
            args.extend(current);
        }
        args
    }

    /// Where a path that the script names lies below the root, if it does.
    pub(super) fn locate(&self, spec: &str) -> Option<PathBuf> {
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
        image::locate(self.world.host, spec)
    }
}
