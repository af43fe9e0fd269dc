//! Finds the cause of a failed build in its output: what make failed at, not just any error that was printed.
//!
//! A failed build ends with lines such as `make[3]: *** [TARGET] Error N`. The first of these names what failed, and the
//! lines before it may show why. Lines of parallel jobs are told apart by the target. Failures that make ignored are marked
//! `(ignored)`. A make that failed deeper after another one had failed shows that the earlier failure did not matter.

use super::cause::{Cause, Diagnosis};
use super::signs::{compilers_error, is_harmless, sign, Weight};
use std::collections::VecDeque;

/// Lines kept from the beginning: the first error explains the ones that follow from it.
const MAX_FIRST: usize = 100;
/// Bytes kept of the warnings that make prints before it fails.
const MAX_PREAMBLE: usize = 4096;
/// How vfguard's own lines in a build log begin.
const OURS: &str = "vfguard: ";
/// Lines kept from the end, where make names what failed.
const MAX_LAST: usize = 300;

/// State of the reader.
#[derive(Debug, Default)]
pub(super) struct Reading {
    lines: usize,
    first: Vec<Kept>,
    last: VecDeque<Kept>,
    /// The C file whose headers cause the compiler's messages.
    including: Option<String>,
    /// Whether the previous line was a compiler message.
    after_message: bool,
    previous: String,
    /// The text of the `$(warning *** …)` lines right before.
    preamble: String,
    failed: Vec<Failed>,
    /// The number of the last line that showed that an earlier failure was ignored.
    since: usize,
}

/// A line that indicates a cause.
#[derive(Debug)]
struct Kept {
    at: usize,
    text: String,
    cause: Cause,
    weight: Weight,
    /// The file that was being compiled, without directory and suffix.
    unit: Option<String>,
}

/// A make that failed.
#[derive(Debug)]
struct Failed {
    at: usize,
    /// The number of the last line before it that showed that an earlier failure was ignored.
    since: usize,
    level: u32,
    /// The target that it could not make, without directory and suffix.
    unit: Option<String>,
    end: End,
    /// The line shown to people if no other line explains the failure.
    shown: String,
}

/// How the failed command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Code(u32),
    Killed,
    /// Make itself failed, or another signal ended the command.
    Other,
}

impl Reading {
    /// Takes the next line.
    pub fn take(&mut self, line: &str) {
        let line = line.trim_end();
        let after_message = std::mem::take(&mut self.after_message);
        // vfguard's own lines about the sandbox do not explain a failure.
        if line.is_empty() || line.starts_with(OURS) {
            return;
        }
        self.lines += 1;
        match spoken(line) {
            Some(Spoken::Warning(text)) => {
                if self.preamble.is_empty() {
                    line.clone_into(&mut self.preamble);
                } else if self.preamble.len() < MAX_PREAMBLE {
                    self.preamble.push(' ');
                    self.preamble.push_str(text);
                }
            }
            Some(Spoken::Failed { level, target, end }) => self.fail(line, level, target, end),
            Some(Spoken::Ignored { level, target, end }) => self.forgive(level, target, end),
            Some(Spoken::Nothing) => {}
            // The compiler quotes the source below its message.
            None if after_message && line.starts_with(' ') => {}
            None => self.look(line),
        }
        if !matches!(spoken(line), Some(Spoken::Warning(_))) {
            self.preamble.clear();
        }
        line.clone_into(&mut self.previous);
    }

    fn fail(&mut self, line: &str, level: u32, target: Option<&str>, end: End) {
        let shown = match (target, &self.previous) {
            (None, _) if self.preamble.is_empty() => line.to_owned(),
            (None, _) => format!("{} {}", self.preamble, line.split_once("*** ").map_or(line, |(_, text)| text)),
            (Some(_), before) if before.is_empty() => line.to_owned(),
            (Some(_), before) => format!("{before} ({line})"),
        };
        if target.is_none() {
            // Make's own message may be the cause: a missing rule, a version that is too old.
            self.look(line);
        }
        if self.failed.len() == MAX_LAST {
            self.failed.remove(0);
        }
        let Reading { lines: at, since, .. } = *self;
        self.failed.push(Failed { at, since, level, unit: target.map(unit_of), end, shown });
    }

    /// An ignored failure. It also drops what belongs to it: the line right before, and the lines about the same files.
    fn forgive(&mut self, level: u32, target: &str, end: End) {
        let mut units = vec![unit_of(target)];
        // Exit code 2 is make's own: a make was called, so the failures below it are ignored with it.
        let mut below = level + 1;
        while end == End::Code(2) && self.failed.last().is_some_and(|f| f.level >= below) {
            let Some(failed) = self.failed.pop() else { break };
            below = failed.level;
            units.extend(failed.unit);
            self.since = self.lines;
        }
        let before = self.lines - 1;
        let counts = |k: &Kept| k.at != before && !k.unit.as_ref().is_some_and(|unit| units.contains(unit));
        self.first.retain(counts);
        self.last.retain(counts);
    }

    fn look(&mut self, line: &str) {
        if let Some(from) = line.strip_prefix("In file included from ").or_else(|| line.trim_start().strip_prefix("from ")) {
            self.including = from.split(':').next().map(str::to_owned);
            return;
        }
        self.after_message =
            [": warning: ", ": note: ", ": error: ", ": fatal error: "].iter().any(|word| line.contains(word));
        if is_harmless(line) {
            return;
        }
        let Some((cause, weight)) = sign(line) else { return };
        let file = compilers_error(line).map(|(file, _)| file);
        let unit = match file {
            Some(file) if file.ends_with(".c") => Some(unit_of(file)),
            Some(file) => Some(unit_of(self.including.as_deref().unwrap_or(file))),
            None => None,
        };
        let kept = Kept { at: self.lines, text: line.trim().to_owned(), cause, weight, unit };
        if self.first.len() < MAX_FIRST {
            self.first.push(kept);
            return;
        }
        if self.last.len() == MAX_LAST {
            self.last.pop_front();
        }
        self.last.push_back(kept);
    }

    /// Finds the cause. `split`: the kernel's headers are two trees, not one.
    pub fn diagnose(&self, split: bool) -> Diagnosis {
        let (leaf, since) = self.leaf();
        if let Some(leaf) = leaf.filter(|f| f.end == End::Killed) {
            return Diagnosis { cause: Cause::Killed, line: leaf.shown.clone(), certain: true };
        }
        let not_run = leaf.is_some_and(|f| matches!(f.end, End::Code(126 | 127)));
        let Some((kept, certain)) = self.decisive(leaf, since, not_run) else {
            let line = leaf.map_or(&self.previous, |f| &f.shown);
            let line = if line.is_empty() { "it printed nothing" } else { line };
            let cause = if not_run { Cause::Tool } else { Cause::Other };
            return Diagnosis { cause, line: line.to_owned(), certain: false };
        };
        // If a symbol table is missing, that explains every undefined symbol, but no other error.
        let hint = self.kept().find(|k| k.weight == Weight::Hint);
        let (kept, cause) = match hint {
            Some(hint) if kept.text.contains("undefined!") => (hint, hint.cause),
            Some(_) | None => (kept, kept.cause),
        };
        let cause = if cause == Cause::Split && !split { Cause::Tree } else { cause };
        Diagnosis { cause, line: kept.text.clone(), certain }
    }

    /// The first of the failures that ended the build, and the number of the line after which its explanation must be. A
    /// make that failed deeper after another one had failed shows that the earlier failure did not matter.
    fn leaf(&self) -> (Option<&Failed>, usize) {
        let mut found: Option<&Failed> = None;
        for failed in self.failed.iter().rev() {
            if found.is_some_and(|f| failed.level < f.level) {
                return (found, found.map_or(0, |f| f.since.max(failed.at)));
            }
            found = Some(failed);
        }
        (found, found.map_or(self.since, |f| f.since))
    }

    fn kept(&self) -> impl DoubleEndedIterator<Item = &Kept> + Clone {
        self.first.iter().chain(&self.last)
    }

    /// The line that shows the cause best, and whether make failed at it for certain.
    fn decisive(&self, leaf: Option<&Failed>, since: usize, not_run: bool) -> Option<(&Kept, bool)> {
        let end = leaf.map_or(usize::MAX, |f| f.at);
        let all = self.kept();
        let window = all.clone().filter(|k| k.at > since && k.at <= end);
        if not_run {
            // Make only says that a program could not be run, not which one. A line that names one for certain counts first,
            // else the last such line.
            let unable = |k: &&Kept| {
                let own = [Cause::Pahole, Cause::Library, Cause::Foreign, Cause::Tree].contains(&k.cause);
                own || matches!(k.weight, Weight::Likely | Weight::NotRun) && k.cause != Cause::Outside
            };
            let known = window.clone().find(|k| unable(k) && k.weight == Weight::Certain);
            if let Some(kept) = known.or_else(|| window.clone().rfind(unable)) {
                return Some((kept, true));
            }
        }
        let certain = |k: &&Kept| k.weight == Weight::Certain;
        let machine = window.clone().find(|k| [Cause::Disk, Cause::Killed].contains(&k.cause) && certain(k));
        let named = || {
            let unit = leaf?.unit.as_ref()?;
            window.clone().find(|k| k.unit.as_ref() == Some(unit) && certain(k))
        };
        let first = || window.clone().find(certain);
        if let Some(kept) = machine.or_else(named).or_else(first) {
            return Some((kept, true));
        }
        let likely = |k: &&Kept| k.weight == Weight::Likely;
        let spoken = window.clone().rfind(|k| likely(k) && k.cause != Cause::Tool);
        let near = spoken.or_else(|| window.clone().rfind(likely)).map(|k| (k, false));
        // With parallel jobs the explanation may have been printed elsewhere. A hint alone is better than nothing.
        near.or_else(|| Some((all.clone().find(certain)?, true)))
            .or_else(|| Some((all.clone().rfind(likely)?, false)))
            .or_else(|| Some((all.clone().find(|k| k.weight == Weight::Hint)?, true)))
    }
}

/// A message of make itself.
enum Spoken<'a> {
    /// `$(warning *** TEXT)`
    Warning(&'a str),
    /// It stopped. `target` is none if the message is about make itself.
    Failed { level: u32, target: Option<&'a str>, end: End },
    /// A recipe line with `-` before it failed.
    Ignored { level: u32, target: &'a str, end: End },
    /// Something else.
    Nothing,
}

fn spoken(line: &str) -> Option<Spoken<'_>> {
    let (who, text) = line.split_once(": ")?;
    if who.is_empty() || who.contains(' ') {
        return None;
    }
    let level = level_of(who);
    if let Some(rest) = text.strip_suffix(" (ignored)") {
        let (target, end) = target_of(rest.strip_prefix("*** ").unwrap_or(rest))?;
        return Some(Spoken::Ignored { level: level?, target, end });
    }
    let text = text.strip_prefix("*** ")?;
    if text.starts_with("Waiting for unfinished jobs") || text.starts_with("Deleting ") {
        return Some(Spoken::Nothing);
    }
    if let Some((target, end)) = target_of(text) {
        return Some(Spoken::Failed { level: level?, target: Some(target), end });
    }
    if !text.ends_with("Stop.") {
        return Some(Spoken::Warning(text));
    }
    // For `$(error …)` of a makefile the level of the make is not printed.
    Some(Spoken::Failed { level: level.unwrap_or(u32::MAX), target: None, end: End::Other })
}

/// The level of a make: `make` is 0, `make[2]` is 2; None if this is the name of a makefile.
fn level_of(who: &str) -> Option<u32> {
    let program = who.rsplit('/').next().unwrap_or(who);
    let Some((name, level)) = program.strip_suffix(']').and_then(|p| p.split_once('[')) else {
        return program.ends_with("make").then_some(0);
    };
    level.parse().ok().filter(|_| name.ends_with("make"))
}

/// The target and the exit status in `[scripts/Makefile.build:250: /build/src/x.o] Error 1`. Before make 3.82 the part with
/// the makefile is absent.
fn target_of(text: &str) -> Option<(&str, End)> {
    let (inside, end) = text.strip_prefix('[')?.split_once("] ")?;
    let target = inside.rsplit(": ").next()?;
    let end = match end.strip_prefix("Error ").and_then(|code| code.split(' ').next()) {
        Some("137") => End::Killed,
        Some(code) => End::Code(code.parse().ok()?),
        None if end.starts_with("Killed") => End::Killed,
        None => End::Other,
    };
    Some((target, end))
}

/// The unit of a file: `x` for `/build/src/x.o`.
fn unit_of(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split('.').next().unwrap_or(name).to_owned()
}

#[cfg(test)]
#[path = "reading_tests.rs"]
mod tests;
