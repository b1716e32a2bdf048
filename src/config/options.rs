//! What an option is: one entry of the table from which validation and the sample both come.

use std::fmt;

/// The adapters that are part of SPICE, by the names used everywhere.
pub const BUILT_IN_ADAPTERS: &[&str] = &["openattestation", "command"];

/// Who reads an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Role *checks*.
    Checks,
    /// Role *nodes*.
    Nodes,
    /// Role *adapter*.
    Adapter,
    /// Role *pool*.
    Pool,
    /// Role *nova*.
    Nova,
    /// The command line.
    Spicectl,
}

impl Role {
    /// The word used in `--role` and in messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Checks => "checks",
            Self::Nodes => "nodes",
            Self::Adapter => "adapter",
            Self::Pool => "pool",
            Self::Nova => "nova",
            Self::Spicectl => "spicectl",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What values an option takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Any text on one line.
    Text,
    /// true, false, yes, no, on, off, 1, 0.
    Bool,
    /// A whole number within the limits.
    Int {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// A decimal number within the limits.
    Float {
        /// Smallest.
        min: f64,
        /// Largest.
        max: f64,
    },
    /// An absolute path; empty where none is meant.
    Path,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Texts separated by commas.
    List,
    /// Some of these words, separated by commas.
    ListOf(&'static [&'static str]),
    /// A URL with one of these schemes; empty where none is meant.
    Url(&'static [&'static str]),
}

/// One option.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OptionSpec {
    /// Its section.
    pub section: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Its value when not given; may hold `$name`. Empty: nothing.
    pub default: &'static str,
    /// What it is for, in sentences.
    pub help: &'static str,
    /// What the sample shows instead of the default.
    pub example: Option<&'static str>,
    /// Whether its value may never be shown.
    pub secret: bool,
    /// Whether nothing starts without it.
    pub required: bool,
    /// Who reads it; empty: everybody.
    pub used_by: &'static [Role],
}

impl OptionSpec {
    pub(super) const fn new(
        section: &'static str,
        name: &'static str,
        kind: Kind,
        default: &'static str,
        help: &'static str,
    ) -> Self {
        Self { section, name, kind, default, help, example: None, secret: false, required: false, used_by: &[] }
    }

    pub(super) const fn example(mut self, example: &'static str) -> Self {
        self.example = Some(example);
        self
    }

    pub(super) const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    pub(super) const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    pub(super) const fn used_by(mut self, roles: &'static [Role]) -> Self {
        self.used_by = roles;
        self
    }

    /// The values it takes, for messages and the sample.
    #[must_use]
    pub fn allowed(&self) -> String {
        match self.kind {
            Kind::Text => "text".to_owned(),
            Kind::Bool => "true or false".to_owned(),
            Kind::Int { min, max } => format!("a whole number from {min} to {max}"),
            Kind::Float { min, max } => format!("a number from {min} to {max}"),
            Kind::Path => "an absolute path".to_owned(),
            Kind::Choice(words) => format!("one of {}", words.join(", ")),
            Kind::List => "texts separated by commas".to_owned(),
            Kind::ListOf(words) => format!("some of {}, separated by commas", words.join(", ")),
            Kind::Url(schemes) => format!("a URL starting with {}://", schemes.join(":// or ")),
        }
    }
}
