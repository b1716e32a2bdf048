//! Logs: set-up, and the names of the fields in use. Beside them [`figures`], what is counted; [`health`], whether this process lives
//! and can work; [`listener`], which serves both; and [`systemd`], which is told.
//!
//! Logs go to standard error, for the journal. A message is a sentence that stands alone; what a program may want to pick out of
//! it stands in dotted fields, whose names are an interface:
//!
//! | field | what |
//! |---|---|
//! | `role` | `checks`, `nodes`, `adapter`, `pool` |
//! | `request.id` | the id of the administrator's request, the same on every role it reaches |
//! | `sender` | who signed, as the trust store knows them |
//! | `method` | the called method |
//! | `check.name`, `check.id`, `check.revision` | a check |
//! | `run` | a run, `epoch-number` |
//! | `batch`, `attempt` | which part of a run, and which try |
//! | `adapter` | the adapter's name |
//! | `node` | a node, by its name |
//! | `pool`, `level`, `cause` | a change of trust |
//! | `policy.number`, `pool.version`, `epoch` | which state of the policy or the pools |
//! | `bus.exchange`, `bus.topic` | where a message went or came from |
//! | `duration_ms`, `count` | measures |
//! | `error` | the cause, in one line |
//!
//! Levels: *error* means that someone should act now; *warn* that someone should look; *info* tells what an administrator did
//! and what changed; *debug* everything else. Never logged: passwords, keys, signatures, nonces, bodies of messages, evidence.
//! Text from nodes, plugins and verifiers goes through [`crate::text::display_safe`] first.

pub mod figures;
pub mod health;
pub mod listener;
pub mod systemd;

use std::io::{IsTerminal, stderr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The variable of the environment that decides what is logged: `info`, `spice=debug,lapin=info`, ...
pub const FILTER_VARIABLE: &str = "SPICE_LOG";

/// How often what anybody on the bus can cause is logged.
const SPARING_PERIOD: Duration = Duration::from_secs(1);

/// Decides when to log what somebody hostile could cause in masses: once a second, with the number of those left out.
#[derive(Debug, Default)]
pub struct Sparingly(Mutex<(Option<Instant>, u64)>);

impl Sparingly {
    /// Whether to log now, and how many were not logged since the last time; `None` to be silent.
    pub fn log(&self) -> Option<u64> {
        let now = Instant::now();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (logged, left_out) = &mut *state;
        if logged.is_some_and(|at| now.duration_since(at) < SPARING_PERIOD) {
            *left_out += 1;
            return None;
        }
        *logged = Some(now);
        Some(std::mem::take(left_out))
    }
}

/// How to log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// `[DEFAULT] debug`: our own messages in detail.
    pub debug: bool,
    /// `[DEFAULT] log_json`.
    pub json: bool,
    /// The value of [`FILTER_VARIABLE`], which outranks `debug`.
    pub filter: Option<String>,
}

impl LogOptions {
    /// The filter in force.
    ///
    /// # Errors
    /// A sentence where [`FILTER_VARIABLE`] cannot be understood: logging less than asked for would go unnoticed.
    pub fn filter(&self) -> Result<EnvFilter, LogError> {
        // lapin logs whole bodies of returned messages, and an error at every orderly close; the bus reports what matters.
        let text = match self.filter.as_deref().map(str::trim) {
            Some(text) if !text.is_empty() => text,
            // Other people's debug messages may hold what ours must not.
            _ if self.debug => "warn,lapin=off,spice=debug,spiced=debug,spicectl=debug",
            _ => "warn,lapin=off,spice=info,spiced=info,spicectl=info",
        };
        EnvFilter::builder()
            .parse(text)
            .map_err(|error| LogError::Filter(crate::text::display_safe(&error.to_string())))
    }
}

/// Why logging could not be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The filter is malformed.
    #[error(
        "SPICE_LOG is not valid ({0}): write a level such as info, or module=level pairs such as spice=debug,lapin=info"
    )]
    Filter(String),
    /// Something else in this process set up logging before.
    #[error("logging was set up twice in this process")]
    Twice,
}

/// Starts logging to standard error for the whole process.
///
/// # Errors
/// [`LogError`] for a malformed filter or a second call.
pub fn start(options: &LogOptions) -> Result<(), LogError> {
    tracing::subscriber::set_global_default(subscriber(options, stderr, stderr().is_terminal())?)
        .map_err(|_| LogError::Twice)
}

/// The subscriber that [`start`] installs, writing to `writer`; tests give a buffer.
///
/// # Errors
/// [`LogError::Filter`].
pub fn subscriber<W>(
    options: &LogOptions,
    writer: W,
    colours: bool,
) -> Result<Box<dyn tracing::Subscriber + Send + Sync>, LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(options.filter()?).with_writer(writer);
    Ok(if options.json {
        Box::new(builder.json().flatten_event(true).with_current_span(true).with_span_list(false).finish())
    } else {
        Box::new(builder.with_ansi(colours).finish())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(options: &LogOptions, log: impl FnOnce()) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = subscriber(options, move || writer.clone(), false).unwrap();
        tracing::subscriber::with_default(subscriber, log);
        String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn json_lines_carry_the_dotted_fields() {
        let options = LogOptions { json: true, ..LogOptions::default() };
        let text = logged(&options, || {
            tracing::info!(target: "spice", { check.name = "boot", node = "n1" }, "The node is no longer trusted.");
        });
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(line["check.name"], "boot");
        assert_eq!(line["message"], "The node is no longer trusted.");
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn the_debug_option_shows_our_details_and_nobody_elses() {
        let say = || {
            tracing::debug!(target: "spice::bus", "ours");
            tracing::debug!(target: "lapin", "theirs");
        };
        assert_eq!(logged(&LogOptions::default(), say), "");
        let text = logged(&LogOptions { debug: true, ..LogOptions::default() }, say);
        assert!(text.contains("ours") && !text.contains("theirs"), "{text}");
    }

    #[test]
    fn the_environment_outranks_the_option_and_a_slip_in_it_is_refused() {
        let with = |filter: &str| LogOptions { debug: true, json: false, filter: Some(filter.to_owned()) };
        let text = logged(&with("spice=error"), || tracing::info!(target: "spice", "quiet"));
        assert_eq!(text, "");
        assert!(with("spice=loud").filter().unwrap_err().to_string().contains("SPICE_LOG"));
        assert!(with("  ").filter().is_ok());
    }
}
