//! How far a long step is: a bar on a terminal, lines in a pipe, nothing when quiet or in JSON.

use crate::cli::Context;
use crate::driver::{Progress, Silent};
use indicatif::{ProgressBar, ProgressStyle};
use std::cell::RefCell;

/// What suits the output.
pub fn new(context: &Context) -> Box<dyn Progress> {
    if context.progress() {
        Box::new(Bar::default())
    } else if context.json() || context.global.quiet {
        Box::new(Silent)
    } else {
        Box::new(Lines)
    }
}

/// A bar that is redrawn.
#[derive(Default)]
struct Bar(RefCell<Option<ProgressBar>>);

impl Progress for Bar {
    fn begin(&self, total: Option<u64>, what: &str) {
        let bar = match total {
            Some(total) => ProgressBar::new(total).with_style(
                ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes} {eta}")
                    .unwrap_or(ProgressStyle::default_bar()),
            ),
            None => ProgressBar::new_spinner().with_style(
                ProgressStyle::with_template("{spinner} {msg} {elapsed}").unwrap_or(ProgressStyle::default_spinner()),
            ),
        };
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(std::time::Duration::from_millis(120));
        *self.0.borrow_mut() = Some(bar);
    }

    fn advance(&self, n: u64) {
        if let Some(bar) = self.0.borrow().as_ref() {
            bar.inc(n);
        }
    }

    fn end(&self) {
        if let Some(bar) = self.0.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }

    fn note(&self, text: &str) {
        match self.0.borrow().as_ref() {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }
}

/// A line when something starts.
struct Lines;

impl Progress for Lines {
    fn begin(&self, _total: Option<u64>, what: &str) {
        eprintln!("vfguard: {what}");
    }
    fn advance(&self, _n: u64) {}
    fn end(&self) {}
    fn note(&self, text: &str) {
        eprintln!("vfguard: {text}");
    }
}
