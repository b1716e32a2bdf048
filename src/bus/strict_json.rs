//! JSON as peers in Python write it, read without losing anything quietly.
//!
//! Python writes `NaN`, `Infinity` and integers of any size. The first two are no JSON, and the last would silently become a
//! rounded float here. A text with any of them is *inexact*: it is refused, but read far enough to say so to the caller.
//!
//! A text of small values takes up to a hundred times its size in memory, which its limit says nothing about: what its values
//! will take is counted before they are made.

use std::borrow::Cow;

use serde_json::Value;

/// What one value in a list or object takes at most, in bytes: its place in a list that has just grown.
const VALUE_BYTES: usize = 96;
/// What an object takes beside its members: a leaf of the tree that `serde_json` keeps them in.
const OBJECT_BYTES: usize = 640;

/// Why a text was refused.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Unreadable {
    /// Its values would take more memory than allowed.
    TooMuch,
    /// Not JSON, or nested too deeply.
    Syntax(String),
    /// JSON but for numbers that cannot be held exactly; here with null in their place.
    Inexact(Value),
}

/// Reads `text`, whose values (their texts not counted) may take `room` bytes of memory.
pub(crate) fn parse(text: &str, room: usize) -> Result<Value, Unreadable> {
    if room_for(text) > room {
        return Err(Unreadable::TooMuch);
    }
    let exact = without_inexact_numbers(text);
    let value = serde_json::from_str(&exact).map_err(|error| Unreadable::Syntax(error.to_string()))?;
    match exact {
        Cow::Borrowed(_) => Ok(value),
        Cow::Owned(_) => Err(Unreadable::Inexact(value)),
    }
}

/// The memory that the values of `text` take at most, in bytes, their texts not counted. Does not otherwise judge the text.
pub(crate) fn room_for(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut room: usize = 0;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at = match byte {
            b'"' => end_of_string(bytes, at),
            _ => at + 1,
        };
        room += match byte {
            b'{' => OBJECT_BYTES,
            b'[' | b',' => VALUE_BYTES,
            _ => 0,
        };
    }
    room
}

/// `text` with null for every number that Rust cannot hold exactly; borrowed when there is none. Does not otherwise judge the text.
fn without_inexact_numbers(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut replaced: Option<String> = None;
    let mut copied = 0;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => at = end_of_string(bytes, at),
            b'-' | b'0'..=b'9' | b'N' | b'I' => {
                let end = end_of_token(bytes, at);
                if text.get(at..end).is_some_and(is_inexact) {
                    let out = replaced.get_or_insert_with(String::new);
                    out.push_str(text.get(copied..at).unwrap_or_default());
                    out.push_str("null");
                    copied = end;
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    match replaced {
        Some(mut out) => {
            out.push_str(text.get(copied..).unwrap_or_default());
            Cow::Owned(out)
        }
        None => Cow::Borrowed(text),
    }
}

/// The position after the string that starts at `start`.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn end_of_token(bytes: &[u8], start: usize) -> usize {
    let rest = bytes.get(start..).unwrap_or_default();
    start
        + rest
            .iter()
            .position(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')))
            .unwrap_or(rest.len())
}

fn is_inexact(token: &str) -> bool {
    if matches!(token, "NaN" | "Infinity" | "-Infinity") {
        return true;
    }
    if token.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        // 18 digits always fit into 64 bits.
        token.len() > 18 && token.parse::<i64>().is_err() && token.parse::<u64>().is_err()
    } else {
        token.parse::<f64>().is_ok_and(f64::is_infinite)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const ROOM: usize = 64 * 1024;

    #[test]
    fn values_that_would_take_too_much_are_not_made() {
        let text = format!("[{}0]", "{\"a,[{\":0},".repeat(10));
        let needed = room_for(&text);
        assert_eq!(needed, 10 * (OBJECT_BYTES + VALUE_BYTES) + VALUE_BYTES);
        assert!(parse(&text, needed).is_ok());
        assert_eq!(parse(&text, needed - 1), Err(Unreadable::TooMuch));
    }

    #[test]
    fn ordinary_json_is_read_as_it_is() {
        let text = r#"{"a": [1, -2.5e3, 18446744073709551615, -9223372036854775808], "NaN \" 99999999999999999999": "Infinity"}"#;
        assert_eq!(
            parse(text, ROOM),
            Ok(json!({"a": [1, -2.5e3, u64::MAX, i64::MIN], "NaN \" 99999999999999999999": "Infinity"}))
        );
    }

    #[test]
    fn what_python_writes_beyond_json_is_refused_but_readable() {
        for token in ["NaN", "Infinity", "-Infinity", "18446744073709551616", "-9223372036854775809", "1e999", "-1E400"]
        {
            let text = format!(r#"{{"_msg_id": "m", "x": [{token}], "y": {token}}}"#);
            assert_eq!(
                parse(&text, ROOM),
                Err(Unreadable::Inexact(json!({"_msg_id": "m", "x": [null], "y": null}))),
                "{token}"
            );
        }
    }

    #[test]
    fn depth_is_bounded() {
        assert!(matches!(parse(&"[".repeat(100_000), usize::MAX), Err(Unreadable::Syntax(_))));
        assert!(matches!(parse("{\"a\": \"\\", ROOM), Err(Unreadable::Syntax(_))));
    }

    proptest! {
        #[test]
        fn any_text_is_judged_without_a_panic(text in "\\PC{0,60}|[\\[\\]{}:,\"\\\\0-9eE.+NaInfity-]{0,60}") {
            let _ = parse(&text, ROOM);
        }

        #[test]
        fn integers_are_exact_or_refused(number in any::<i128>()) {
            match parse(&number.to_string(), ROOM) {
                Ok(value) => prop_assert_eq!(value.to_string(), number.to_string()),
                Err(Unreadable::Inexact(value)) => {
                    prop_assert!(value.is_null());
                    prop_assert!(i64::try_from(number).is_err() && u64::try_from(number).is_err());
                }
                Err(other) => panic!("{other:?}"),
            }
        }
    }
}
