//! Running commands one by one with bounded steps (GRUB's `grub-core/script/execute.c`).

use super::eval::{Machine, Stop};
use super::syntax::lexer::Word;
use super::syntax::parser::{Block, Command};

/// The number of commands after which a script counts as endless: 10,000 entries of 20 commands each, doubled.
const MAX_STEPS: u64 = 400_000;

impl Machine<'_> {
    fn step(&mut self) -> Result<(), Stop> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return Err(Stop::Dead(format!("{}:{}: a loop without end", self.file.display(), self.line)));
        }
        self.within_budget()
    }

    pub(super) fn run_command(&mut self, command: &Command) -> Result<i32, Stop> {
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
                for value in self.expand(words)? {
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

    /// Runs the body of a loop once; none if that ends the loop.
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
        let mut args = self.expand(words)?;
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
}
