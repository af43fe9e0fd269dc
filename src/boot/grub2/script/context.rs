//! Variables, their contexts and the words made from them (GRUB's `grub-core/kern/env.c`, `normal/context.c`,
//! `script/argv.c`), and what is remarked on the way.

use super::eval::{Machine, Remark};
use super::lexer::{Part, Word};
use crate::boot::MAX_PROBLEMS;

/// A variable longer than this only grows.
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
}
