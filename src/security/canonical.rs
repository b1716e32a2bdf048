//! One JSON text per value (RFC 8785). How signed text is read: [`super::strict`].
//!
//! Signed content holds integers within ±(2^53 - 1), text, booleans, null, lists and objects: numbers that every JSON
//! library writes and reads the same way. Anything else is refused on both sides, so that what was verified and what is
//! used cannot differ.

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::text::display_safe_to;

/// Deepest nesting of lists and objects in signed content; a scalar has depth 0.
pub const MAX_DEPTH: usize = 32;

/// The largest integer, positive or negative, in signed content: 2^53 - 1.
pub const MAX_INTEGER: i64 = 9_007_199_254_740_991;

/// Why a value cannot be signed, or a signed text is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalError {
    /// A number with a fraction or an exponent, NaN or infinity.
    #[error("signed content cannot hold the number {0}: use an integer, or text")]
    Float(String),
    /// An integer that some JSON libraries would round.
    #[error("signed content cannot hold the integer {0}: it is beyond 2^53 - 1; use text")]
    Range(String),
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("signed content is nested deeper than {MAX_DEPTH} levels; flatten it")]
    Depth,
    /// The text is no JSON, names a member twice, or has something after the value.
    #[error("not valid JSON for signed content: {0}")]
    Syntax(String),
}

/// The canonical text (RFC 8785) of `value`, as the canonicaliser package writes it. `Names` says where `serde_json` writes the same.
///
/// # Errors
/// [`CanonicalError`] for numbers other than integers within ±[`MAX_INTEGER`], and for nesting beyond [`MAX_DEPTH`].
pub fn canonicalize(value: &Value) -> Result<Vec<u8>, CanonicalError> {
    let mut names = Names::Plain;
    check(value, 0, &mut names)?;
    write(value, names)
}

/// The canonicaliser sorts and copies every member, which costs many times what writing them does. `serde_json` writes texts and integers
/// as RFC 8785 asks; it leaves members in the order it finds them, which is right where their names are ASCII and in order already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    /// All of them are ASCII and in order.
    Plain,
    /// The canonicaliser has to put them in order.
    Any,
}

/// The value of a member of a text that is signed, borrowed where it may be large.
#[derive(Clone, Copy, Serialize)]
#[serde(untagged)]
pub(super) enum Part<'a> {
    Text(&'a str),
    OptionalText(Option<&'a str>),
    Integer(i64),
    Bool(bool),
    Value(&'a Value),
    Object(&'a Map<String, Value>),
}

/// The canonical text of an object of these members, without copying them into one.
pub(super) fn canonicalize_members<const N: usize>(members: [(&str, Part<'_>); N]) -> Result<Vec<u8>, CanonicalError> {
    let mut members = members;
    members.sort_unstable_by_key(|(name, _)| *name);
    let mut names = if members.iter().all(|(name, _)| name.is_ascii()) { Names::Plain } else { Names::Any };
    for (_, part) in &members {
        match part {
            Part::Text(_) | Part::OptionalText(_) | Part::Bool(_) => {}
            Part::Integer(integer) => check(&Value::from(*integer), 1, &mut names)?,
            Part::Value(value) => check(value, 1, &mut names)?,
            Part::Object(object) => check_object(object, 1, &mut names)?,
        }
    }
    write(&Members(&members), names)
}

/// Members as one object.
struct Members<'a>(&'a [(&'a str, Part<'a>)]);

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, part)| (name, part)))
    }
}

fn write(content: &impl Serialize, names: Names) -> Result<Vec<u8>, CanonicalError> {
    let written = match names {
        Names::Plain => serde_json::to_vec(content),
        Names::Any => serde_json_canonicalizer::to_vec(content),
    };
    written.map_err(|error| CanonicalError::Syntax(display_safe_to(&error.to_string(), 200)))
}

/// What the canonicaliser would write, but other libraries might read differently: it rounds large integers.
fn check(value: &Value, depth: usize, names: &mut Names) -> Result<(), CanonicalError> {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
        Value::Number(number) => match number.as_i64() {
            Some(integer) if integer.unsigned_abs() <= MAX_INTEGER.unsigned_abs() => Ok(()),
            None if number.is_f64() => Err(CanonicalError::Float(number.to_string())),
            _ => Err(CanonicalError::Range(number.to_string())),
        },
        Value::Array(items) => {
            deeper(depth)?;
            items.iter().try_for_each(|item| check(item, depth + 1, names))
        }
        Value::Object(object) => check_object(object, depth, names),
    }
}

fn check_object(object: &Map<String, Value>, depth: usize, names: &mut Names) -> Result<(), CanonicalError> {
    deeper(depth)?;
    let mut last = "";
    for (name, value) in object {
        if !name.is_ascii() || name.as_str() < last {
            *names = Names::Any;
        }
        last = name;
        check(value, depth + 1, names)?;
    }
    Ok(())
}

fn deeper(depth: usize) -> Result<(), CanonicalError> {
    if depth >= MAX_DEPTH { Err(CanonicalError::Depth) } else { Ok(()) }
}
