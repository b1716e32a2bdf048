//! JSON as peers in Python write it, read without losing anything quietly.
//!
//! Python writes `NaN`, `Infinity` and integers of any size. The first two are no JSON, and the last would silently become a
//! rounded float here. A text with any of them is *inexact*: it is refused, but read far enough to say so to the caller.

use std::borrow::Cow;

use serde_json::Value;

/// Why a text was refused.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Unreadable {
    /// Not JSON, or nested too deeply.
    Syntax(String),
    /// JSON but for numbers that cannot be held exactly; here with null in their place.
    Inexact(Value),
}

/// Reads `text`.
pub(crate) fn parse(text: &str) -> Result<Value, Unreadable> {
    let exact = without_inexact_numbers(text);
    let value = serde_json::from_str(&exact).map_err(|error| Unreadable::Syntax(error.to_string()))?;
    match exact {
        Cow::Borrowed(_) => Ok(value),
        Cow::Owned(_) => Err(Unreadable::Inexact(value)),
    }
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

    #[test]
    fn ordinary_json_is_read_as_it_is() {
        let text = r#"{"a": [1, -2.5e3, 18446744073709551615, -9223372036854775808], "NaN \" 99999999999999999999": "Infinity"}"#;
        assert_eq!(
            parse(text),
            Ok(json!({"a": [1, -2.5e3, u64::MAX, i64::MIN], "NaN \" 99999999999999999999": "Infinity"}))
        );
    }

    #[test]
    fn what_python_writes_beyond_json_is_refused_but_readable() {
        for token in ["NaN", "Infinity", "-Infinity", "18446744073709551616", "-9223372036854775809", "1e999", "-1E400"]
        {
            let text = format!(r#"{{"_msg_id": "m", "x": [{token}], "y": {token}}}"#);
            assert_eq!(
                parse(&text),
                Err(Unreadable::Inexact(json!({"_msg_id": "m", "x": [null], "y": null}))),
                "{token}"
            );
        }
    }

    #[test]
    fn depth_is_bounded() {
        assert!(matches!(parse(&"[".repeat(100_000)), Err(Unreadable::Syntax(_))));
        assert!(matches!(parse("{\"a\": \"\\"), Err(Unreadable::Syntax(_))));
    }

    proptest! {
        #[test]
        fn any_text_is_judged_without_a_panic(text in "\\PC{0,60}|[\\[\\]{}:,\"\\\\0-9eE.+NaInfity-]{0,60}") {
            let _ = parse(&text);
        }

        #[test]
        fn integers_are_exact_or_refused(number in any::<i128>()) {
            match parse(&number.to_string()) {
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
