//! The times OpenAttestation and its relatives write: when the verifier judged.

use chrono::{DateTime, FixedOffset, NaiveDateTime};

use crate::clock::Timestamp;

/// Longest text looked at; the longest real one has 35 characters.
const MAX_TEXT: usize = 64;

/// Formats with an offset; `%z` takes `+0000` and `+00:00`, `%.f` takes a fraction or none.
const WITH_OFFSET: [&str; 2] = ["%Y-%m-%dT%H:%M:%S%.f%z", "%Y-%m-%d %H:%M:%S%.f%z"];
/// Formats without, taken as UTC; the last is the C locale's `%c`, as Mt. Wilson sent it.
const WITHOUT_OFFSET: [&str; 3] = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%a %b %e %H:%M:%S %Y"];

/// The time `text` means, or `None` where it is in none of the known formats.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if text.len() > MAX_TEXT {
        return None;
    }
    let utc = text.strip_suffix(['Z', 'z']);
    if let Some(text) = utc {
        return WITHOUT_OFFSET[..2].iter().find_map(|format| naive(text, format));
    }
    WITH_OFFSET
        .iter()
        .find_map(|format| DateTime::<FixedOffset>::parse_from_str(text, format).ok())
        .map(|at| Timestamp::from_datetime(&at))
        .or_else(|| WITHOUT_OFFSET.iter().find_map(|format| naive(text, format)))
}

fn naive(text: &str, format: &str) -> Option<Timestamp> {
    NaiveDateTime::parse_from_str(text, format).ok().map(|at| Timestamp::from_datetime(&at.and_utc()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_known_format_means_the_same_moment() {
        let expected = Timestamp(1_347_181_840_000);
        for text in [
            "2012-09-09T05:10:40-04:00",
            "2012-09-09T09:10:40Z",
            "2012-09-09T09:10:40+0000",
            "2012-09-09T09:10:40+00:00",
            "2012-09-09T09:10:40",
            "2012-09-09 09:10:40",
            "2012-09-09T09:10:40.000+0000",
            "2012-09-09T11:10:40.0+0200",
            "Sun Sep  9 09:10:40 2012",
            "Sun Sep 9 09:10:40 2012",
        ] {
            assert_eq!(parse(text), Some(expected), "{text}");
        }
        assert_eq!(parse("2016-02-29T22:29:26.365+0000"), Some(Timestamp(1_456_784_966_365)));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "now",
            "0",
            "2012-09-09",
            "2012-13-09T09:10:40Z",
            "1347181840",
            "Mon Sep  9 09:10:40 2012",
            &"2".repeat(1000),
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,80}") {
            let _ = parse(&text);
        }

        #[test]
        fn what_was_written_is_read(ms in 0i64..4_102_444_800_000) {
            let at = Timestamp(ms).to_utc().unwrap();
            prop_assert_eq!(parse(&at.format("%Y-%m-%dT%H:%M:%S%.3f%z").to_string()), Some(Timestamp(ms)));
            prop_assert_eq!(parse(&at.to_rfc3339()), Some(Timestamp(ms)));
        }
    }
}
