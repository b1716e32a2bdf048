//! What is wrong with a configuration, and where.

use std::fmt;

use crate::text::display_safe;

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A line of a file, counted from 1; 0 is the file as a whole.
    File {
        /// The file's path as given, made safe.
        path: String,
        /// The line.
        line: usize,
    },
    /// A variable of the environment.
    Environment(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: 0 } => f.write_str(path),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// One thing that keeps a configuration from being used, as a sentence that says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFault {
    /// Where it was written, if anywhere.
    pub origin: Option<Origin>,
    /// The sentence; never holds a secret.
    pub message: String,
}

/// One thing that works and deserves a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Where it was written, if anywhere.
    pub origin: Option<Origin>,
    /// The sentence; never holds a secret.
    pub message: String,
}

impl ConfigFault {
    pub(super) fn new(origin: Option<Origin>, message: impl AsRef<str>) -> Self {
        Self { origin, message: safe_sentence(message.as_ref()) }
    }
}

impl Warning {
    pub(super) fn new(origin: Option<Origin>, message: impl AsRef<str>) -> Self {
        Self { origin, message: safe_sentence(message.as_ref()) }
    }
}

/// Our own sentences may be long; the foreign parts in them were cut where they were quoted.
fn safe_sentence(text: &str) -> String {
    crate::text::display_safe_to(text, 1000)
}

/// A foreign word, quoted for a sentence.
pub(super) fn quoted(text: &str) -> String {
    format!("{:?}", display_safe(text).chars().take(80).collect::<String>())
}

fn show(f: &mut fmt::Formatter<'_>, origin: Option<&Origin>, message: &str) -> fmt::Result {
    match origin {
        Some(origin) => write!(f, "{origin}: {message}"),
        None => f.write_str(message),
    }
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, self.origin.as_ref(), &self.message)
    }
}

impl std::error::Error for ConfigFault {}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, self.origin.as_ref(), &self.message)
    }
}
