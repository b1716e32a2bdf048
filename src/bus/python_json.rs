//! JSON as peers in Python write it, of which Rust can hold everything but four things.
//!
//! | Python writes | seen here |
//! |---|---|
//! | `NaN`, `Infinity`, `-Infinity` | the text of it: `"NaN"`, ... |
//! | an integer beyond 64 bits | its digits as text, none lost |
//! | a number too large for a float (`1e999`) | its text |
//! | half of a surrogate pair | U+FFFD |
//!
//! Text, because it can be mistaken for no other number: whoever expects a number refuses it, and whoever passes it on loses nothing. A
//! message that holds such a thing in a place nobody looks at is as good as any other. Nesting is limited to 128 levels.

use std::borrow::Cow;

use serde_json::Value;

use super::room::room_for;

/// What stands for half a surrogate pair.
const REPLACEMENT: &str = "\\ufffd";
/// `\uXXXX`
const ESCAPE: usize = 6;

/// Why a text was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Its values would take more memory than allowed.
    TooMuch,
    /// No JSON, not even in Python, or nested too deeply: what is wrong, and where.
    Syntax(String),
}

/// Reads `text`, whose values (their texts not counted) may take `room` bytes of memory.
///
/// # Errors
/// [`Unreadable`].
pub(crate) fn parse(text: &str, room: usize) -> Result<Value, Unreadable> {
    if room_for(text) > room {
        return Err(Unreadable::TooMuch);
    }
    serde_json::from_str(&as_json(text)).map_err(|error| Unreadable::Syntax(error.to_string()))
}

/// `text` with what Rust cannot hold replaced; borrowed when there is nothing. Does not otherwise judge the text.
fn as_json(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut rewritten = Rewritten { text, out: None, copied: 0 };
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => at = rewritten.string(at),
            b'-' | b'0'..=b'9' | b'N' | b'I' => {
                let end = end_of_token(bytes, at);
                if let Some(token) = text.get(at..end).filter(|token| is_beyond_rust(token)) {
                    rewritten.replace(at, end, &format!("\"{token}\""));
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    rewritten.finish()
}

/// A text and what it became so far.
struct Rewritten<'a> {
    text: &'a str,
    out: Option<String>,
    copied: usize,
}

impl<'a> Rewritten<'a> {
    fn replace(&mut self, from: usize, to: usize, with: &str) {
        let out = self.out.get_or_insert_with(String::new);
        out.push_str(self.text.get(self.copied..from).unwrap_or_default());
        out.push_str(with);
        self.copied = to;
    }

    fn finish(self) -> Cow<'a, str> {
        match self.out {
            Some(mut out) => {
                out.push_str(self.text.get(self.copied..).unwrap_or_default());
                Cow::Owned(out)
            }
            None => Cow::Borrowed(self.text),
        }
    }

    /// Goes over the string that starts at `start`; returns the position after it.
    fn string(&mut self, start: usize) -> usize {
        let bytes = self.text.as_bytes();
        let mut at = start + 1;
        while let Some(&byte) = bytes.get(at) {
            match byte {
                b'"' => return at + 1,
                b'\\' => match (escaped_unit(bytes, at), escaped_unit(bytes, at + ESCAPE)) {
                    (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => at += 2 * ESCAPE,
                    (Some(0xD800..=0xDFFF), _) => {
                        self.replace(at, at + ESCAPE, REPLACEMENT);
                        at += ESCAPE;
                    }
                    _ => at += 2,
                },
                _ => at += 1,
            }
        }
        bytes.len()
    }
}

/// The UTF-16 unit that is escaped at `at`, if one is.
fn escaped_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + ESCAPE)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0_u16, |unit, digit| {
        let digit = u16::try_from(char::from(*digit).to_digit(16)?).ok()?;
        Some((unit << 4) | digit)
    })
}

fn end_of_token(bytes: &[u8], start: usize) -> usize {
    let rest = bytes.get(start..).unwrap_or_default();
    start
        + rest
            .iter()
            .position(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')))
            .unwrap_or(rest.len())
}

fn is_beyond_rust(token: &str) -> bool {
    if matches!(token, "NaN" | "Infinity" | "-Infinity") {
        return true;
    }
    // What is no number (`1-2`, `007`, `-inf`) is left for the parser to refuse.
    let digits = token.strip_prefix('-').unwrap_or(token);
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        // 18 digits always fit into 64 bits.
        digits.len() > 18 && !digits.starts_with('0') && token.parse::<i64>().is_err() && token.parse::<u64>().is_err()
    } else {
        digits.starts_with(|first: char| first.is_ascii_digit()) && token.parse::<f64>().is_ok_and(f64::is_infinite)
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
        let text = format!("[{}0]", "{},".repeat(10));
        assert!(parse(&text, room_for(&text)).is_ok());
        assert_eq!(parse(&text, room_for(&text) - 1), Err(Unreadable::TooMuch));
    }

    #[test]
    fn ordinary_json_is_read_as_it_is() {
        let text = r#"{"a": [1, -2.5e3, 18446744073709551615, -9223372036854775808], "NaN \" 99999999999999999999": "Infinity"}"#;
        assert!(matches!(as_json(text), Cow::Borrowed(_)));
        assert_eq!(
            parse(text, ROOM),
            Ok(json!({"a": [1, -2.5e3, u64::MAX, i64::MIN], "NaN \" 99999999999999999999": "Infinity"}))
        );
    }

    #[test]
    fn numbers_that_only_python_holds_are_text_and_the_rest_of_the_message_is_untouched() {
        for token in ["NaN", "Infinity", "-Infinity", "18446744073709551616", "-9223372036854775809", "1e999", "-1E400"]
        {
            let text = format!(r#"{{"_msg_id": "m", "x": [{token}], "y": {token}}}"#);
            assert_eq!(parse(&text, ROOM), Ok(json!({"_msg_id": "m", "x": [token], "y": token})), "{token}");
        }
    }

    #[test]
    fn half_a_surrogate_pair_is_replaced_and_a_whole_one_kept() {
        for (text, seen) in [
            (r#""a\ud800""#, "a\u{fffd}"),
            (r#""\udc80b""#, "\u{fffd}b"),
            (r#""\ud83d\ude00""#, "\u{1f600}"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}\u{1f600}"),
            (r#""\\ud800""#, "\\ud800"),
            (r#""\ud83dx\ude00""#, "\u{fffd}x\u{fffd}"),
        ] {
            assert_eq!(parse(text, ROOM), Ok(json!(seen)), "{text}");
        }
    }

    #[test]
    fn what_is_not_json_in_python_either_is_refused() {
        for text in [
            "",
            "-NaN",
            "nan",
            "Inf",
            "-inf",
            "[-Inf]",
            "-infinity",
            "Infinity1",
            "007",
            "1-23456789012345678901",
            "\"\\u12",
            "\"\\",
            "{\"a\": \"\\",
        ] {
            assert!(parse(text, ROOM).is_err(), "{text}");
        }
        assert!(parse(&"[".repeat(100_000), usize::MAX).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_judged_without_a_panic(text in "\\PC{0,60}|[\\[\\]{}:,\"\\\\0-9eE.+NaInfityud-]{0,60}") {
            let _ = parse(&text, ROOM);
        }

        #[test]
        fn integers_are_exact(number in any::<i128>()) {
            let text = number.to_string();
            let expected = if i64::try_from(number).is_ok() || u64::try_from(number).is_ok() { text.clone() } else { format!("\"{text}\"") };
            prop_assert_eq!(parse(&text, ROOM).unwrap().to_string(), expected);
        }
    }
}
