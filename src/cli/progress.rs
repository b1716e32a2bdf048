//! Showing that something goes on: a bar on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::output::say;

/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Progress of `what`, on standard error.
pub struct Progress {
    what: String,
    bar: Option<ProgressBar>,
    told: Option<(Instant, u64)>,
}

impl Progress {
    /// Begins to show progress.
    pub fn new(what: impl Into<String>) -> Self {
        let what = what.into();
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0).with_message(what.clone());
            // Should the template be no good, the plain bar is as well.
            if let Ok(style) = ProgressStyle::with_template("{msg} [{wide_bar}] {pos}/{len} {elapsed}") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        Self { what, bar, told: None }
    }

    /// `done` of `total` are done; `note` says more.
    pub fn at(&mut self, done: u64, total: u64, note: &str) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
            bar.set_message(if note.is_empty() { self.what.clone() } else { format!("{}: {note}", self.what) });
            return;
        }
        let news = self.told.is_none_or(|(at, told)| told != done && (done >= total || at.elapsed() >= LINE_EVERY));
        if news {
            let note = if note.is_empty() { String::new() } else { format!(" ({note})") };
            say(&format!("{}: {done} of {total}{note}", self.what));
            self.told = Some((Instant::now(), done));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
