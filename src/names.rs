//! Names that come from outside, validated once where they enter.
//!
//! Every name starts with a letter or digit, so it can never be taken for an option, a hidden file or a path, and holds
//! only characters that mean the same in a shell, a URL, a file name, a routing key and a terminal.

use std::fmt;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is no valid name; the sentence is meant for the person who typed it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {shown:?} is not valid: use 1 to {max} characters out of {alphabet}, starting with a letter or digit")]
pub struct NameError {
    kind: &'static str,
    shown: String,
    max: usize,
    alphabet: &'static str,
}

fn validate(
    kind: &'static str,
    text: &str,
    max: usize,
    allowed: fn(char) -> bool,
    alphabet: &'static str,
) -> Result<(), NameError> {
    let starts_well = text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if starts_well && text.len() <= max && text.chars().all(allowed) {
        return Ok(());
    }
    // Shown escaped and short: the text may be hostile.
    let shown = crate::text::display_safe_to(text, 64);
    Err(NameError { kind, shown, max, alphabet })
}

/// Reads a text and makes a name of it; names are read by the thousand, so no copy is made in between.
struct Text<N>(fn(&str) -> Result<N, NameError>);

impl<N> Visitor<'_> for Text<N> {
    type Value = N;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<N, E> {
        (self.0)(text).map_err(E::custom)
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $max:literal, $allowed:expr, $alphabet:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// Validates `text`.
            ///
            /// # Errors
            /// [`NameError`] when it is empty, too long, or has a character outside the alphabet.
            pub fn new(text: &str) -> Result<Self, NameError> {
                validate($kind, text, $max, $allowed, $alphabet)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Text(Self::new))
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(&text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

fn dotted(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

fn snake(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'
}

name_type!(
    /// A node: what Nova calls the hypervisor (`hypervisor_hostname`). Trust belongs to it.
    NodeName, "node name", 255, dotted, "A-Z a-z 0-9 . _ -"
);
name_type!(
    /// The name of a check definition.
    CheckName, "check name", 64, dotted, "A-Z a-z 0-9 . _ -"
);
name_type!(
    /// The name of a schedule profile.
    ProfileName, "profile name", 64, dotted, "A-Z a-z 0-9 . _ -"
);
name_type!(
    /// The name of a maintenance window.
    WindowName, "window name", 64, dotted, "A-Z a-z 0-9 . _ -"
);
name_type!(
    /// The name of a pool.
    PoolName, "pool name", 64, dotted, "A-Z a-z 0-9 . _ -"
);
name_type!(
    /// The kind of check an adapter can carry out; the same word in configuration, logs, queues and roles.
    AdapterName, "adapter name", 48, snake, "a-z 0-9 _"
);
name_type!(
    /// A deployment: all signed content names it, so nothing signed for one cloud is believed in another.
    DeploymentId, "deployment id", 64, dotted, "A-Z a-z 0-9 . _ -"
);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn hostile_names_are_refused_and_shown_escaped() {
        for bad in ["", "-rf", ".hidden", "a b", "a/b", "a\u{202e}b", "a\nb", "ä", &"x".repeat(256)] {
            let error = NodeName::new(bad).expect_err(bad).to_string();
            assert!(!error.contains('\n') && !error.contains('\u{202e}'), "{error}");
        }
        assert!(NodeName::new("compute-1.example.org").is_ok());
        assert!(AdapterName::new("Open-Attestation").is_err());
    }

    #[test]
    fn a_name_from_the_wire_is_validated() {
        assert!(serde_json::from_str::<NodeName>("\"-x\"").is_err());
        assert_eq!(serde_json::to_string(&NodeName::new("n1").unwrap()).unwrap(), "\"n1\"");
    }
}
