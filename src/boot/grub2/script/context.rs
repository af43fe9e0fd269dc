//! Variables, their contexts and the words made from them (GRUB's `grub-core/kern/env.c`, `normal/context.c`, `script/argv.c`), and the
//! remarks of a simulation.

use super::eval::{Machine, Stop};
use super::syntax::lexer::{Part, Word};
use super::world::Remark;
use crate::boot::grub2::ITEM;
use crate::boot::MAX_PROBLEMS;
use std::borrow::Cow;
use std::collections::HashMap;

/// A longer variable is one that keeps growing.
const MAX_VALUE: usize = 64 << 10;

impl Machine<'_> {
    fn remark(&mut self, doubt: bool, message: String, remedy: String) {
        let message = format!("{}:{}: {message}", self.file.display(), self.line);
        let remark = Remark { doubt, message, remedy };
        if self.remarks.len() < MAX_PROBLEMS && !self.remarks.contains(&remark) {
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
        self.spend(name.len() + value.len() + ITEM);
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

    /// A new context contains only the exported variables.
    pub(super) fn open_context(&mut self) {
        let exported = self.state.contexts.last().into_iter().flatten().filter(|(_, (_, exported))| *exported);
        let inner: HashMap<_, _> = exported.map(|(name, value)| (name.clone(), value.clone())).collect();
        let size = inner.iter().map(|(name, (value, _))| name.len() + value.len() + ITEM).sum();
        self.state.contexts.push(inner);
        self.spend(size);
    }

    pub(super) fn close_context(&mut self) {
        if self.state.contexts.len() > 1 {
            self.state.contexts.pop();
        }
    }

    fn value(&self, name: &str) -> Vec<Cow<'_, str>> {
        let scope = self.scopes.last();
        match name {
            "#" => vec![scope.map_or(0, Vec::len).to_string().into()],
            "*" | "@" => scope.into_iter().flatten().map(Cow::from).collect(),
            _ if name.starts_with(|c: char| c.is_ascii_digit()) => {
                let at = name.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
                at.and_then(|i| scope?.get(i)).into_iter().map(Cow::from).collect()
            }
            _ => self.get(name).into_iter().map(Cow::from).collect(),
        }
    }

    /// Expands words to arguments: a quoted piece makes an argument even if empty, an unquoted variable is split at white space.
    ///
    /// # Errors
    /// If that exceeds the limit of the simulation.
    pub(super) fn expand(&mut self, words: &[Word]) -> Result<Vec<String>, Stop> {
        let mut args = Args { room: self.budget.left(), ..Args::default() };
        for word in words {
            if !self.expand_word(word, &mut args) {
                break;
            }
        }
        self.spend(args.taken);
        self.within_budget()?;
        Ok(args.done)
    }

    /// Returns whether there was room for it.
    fn expand_word(&self, word: &Word, args: &mut Args) -> bool {
        for part in word {
            if args.taken > args.room {
                return false;
            }
            match part {
                Part::Text(text) if text.is_empty() => {}
                Part::Text(text) | Part::Quoted(text) => args.add(text),
                Part::Variable { name, quoted: true } => {
                    for (i, value) in self.value(name).iter().enumerate() {
                        match name.as_str() {
                            "@" if i > 0 => args.end(),
                            _ if i > 0 => args.add(" "),
                            _ => {}
                        }
                        args.add(value);
                    }
                    if name != "@" {
                        args.add("");
                    }
                }
                Part::Variable { name, quoted: false } => {
                    let values = self.value(name);
                    for (i, piece) in values.iter().flat_map(|value| value.split_ascii_whitespace()).enumerate() {
                        if i > 0 {
                            args.end();
                        }
                        args.add(piece);
                    }
                }
            }
        }
        args.end();
        args.taken <= args.room
    }
}

/// Arguments under construction; beyond their limit nothing is added.
#[derive(Default)]
struct Args {
    done: Vec<String>,
    current: Option<String>,
    room: usize,
    taken: usize,
}

impl Args {
    fn add(&mut self, text: &str) {
        self.taken += text.len() + if self.current.is_none() { ITEM } else { 0 };
        if self.taken <= self.room {
            self.current.get_or_insert_default().push_str(text);
        }
    }

    fn end(&mut self) {
        self.done.extend(self.current.take());
    }
}
