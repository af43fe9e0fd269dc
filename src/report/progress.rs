//! Progress of a long step: a bar on a terminal, lines in a pipe, nothing when quiet or in JSON.

use crate::host::Host;
use crate::print;
use crate::progress::{Progress, Silent};
use crate::text::{printable, Text};
use indicatif::{ProgressBar, ProgressStyle};
use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How to show progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// A bar that is redrawn.
    Bar,
    /// A line for each step.
    Lines,
    /// Nothing.
    Nothing,
}

/// Creates a progress display.
pub fn new(show: Show) -> Box<dyn Progress> {
    match show {
        Show::Bar => Box::new(Bar::default()),
        Show::Lines => Box::new(Lines),
        Show::Nothing => Box::new(Silent),
    }
}

/// How often a bar is redrawn.
const TICK: Duration = Duration::from_millis(120);

/// Locks it even after a panic: the content is consistent at all times.
fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A bar that is redrawn. Indicatif ignores errors of drawing, also in its ticker thread.
#[derive(Default)]
struct Bar(Mutex<Option<ProgressBar>>);

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
        bar.set_message(printable(what));
        // Indicatif's ticker panics if no thread can be started. In that case leave the bar without one.
        if thread::Builder::new().spawn(|| ()).is_ok_and(|tried| tried.join().is_ok()) {
            bar.enable_steady_tick(TICK);
        }
        *locked(&self.0) = Some(bar);
    }

    fn advance(&self, n: u64) {
        if let Some(bar) = locked(&self.0).as_ref() {
            bar.inc(n);
        }
    }

    fn end(&self) {
        if let Some(bar) = locked(&self.0).take() {
            bar.finish_and_clear();
        }
    }

    fn note(&self, text: &str) {
        match locked(&self.0).as_ref() {
            Some(bar) => bar.println(printable(text)),
            None => print::err(&Text::of(text)),
        }
    }
}

/// Progress that is also written to a file, which other processes follow.
pub struct AlsoToFile {
    lines: Box<dyn Progress>,
    file: Mutex<Option<File>>,
}

impl AlsoToFile {
    /// Shows progress as [`new`] does, and writes it to a new file at `path`, below the root. It is no error if the file
    /// cannot be created.
    pub fn new(host: &Host, show: Show, path: &str) -> AlsoToFile {
        let new = || {
            let place = host.place(path)?;
            host.remove(path)?;
            anyhow::Ok(File::options().write(true).create_new(true).open(place.path())?)
        };
        let file = new().ok();
        AlsoToFile { lines: self::new(show), file: Mutex::new(file) }
    }

    fn put(&self, text: &str) {
        if let Some(file) = locked(&self.file).as_mut() {
            let _ = file.write_all(Text::of(text).as_str().as_bytes());
        }
    }
}

impl Progress for AlsoToFile {
    fn begin(&self, total: Option<u64>, what: &str) {
        self.put(what);
        self.lines.begin(total, what);
    }
    fn advance(&self, n: u64) {
        self.lines.advance(n);
    }
    fn end(&self) {
        self.lines.end();
    }
    fn note(&self, text: &str) {
        self.put(text);
        self.lines.note(text);
    }
}

/// One line at the start of each step.
struct Lines;

impl Progress for Lines {
    fn begin(&self, _total: Option<u64>, what: &str) {
        print::note(what);
    }
    fn advance(&self, _n: u64) {}
    fn end(&self) {}
    fn note(&self, text: &str) {
        print::note(text);
    }
}
