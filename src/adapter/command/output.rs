//! What a program said, read as a result. Nothing in it can break more than the line it is in.

use serde::Deserialize;
use serde_json::Value;

use crate::clock::Timestamp;
use crate::names::NodeName;
use crate::protocol::Status;
use crate::text::display_safe;

/// The first line of a Nagios plugin's output, without performance data.
pub(super) fn first_line(stdout: &[u8]) -> String {
    let text = String::from_utf8_lossy(stdout);
    let line = text.trim_start().lines().next().unwrap_or_default();
    display_safe(line.split('|').next().unwrap_or_default().trim())
}

/// One JSON line that could be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) node: NodeName,
    pub(super) status: Status,
    pub(super) reason: String,
    pub(super) verified_at: Option<Timestamp>,
    pub(super) boot: Option<String>,
    pub(super) self_reported: bool,
}

/// All lines that could be read, and how many could not.
pub(super) fn json_lines(stdout: &[u8]) -> (Vec<Line>, usize) {
    let mut bad = 0;
    let mut lines = Vec::new();
    for line in stdout.split(|byte| *byte == b'\n') {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        match json_line(line) {
            Some(line) => lines.push(line),
            None => bad += 1,
        }
    }
    (lines, bad)
}

fn json_line(line: &[u8]) -> Option<Line> {
    #[derive(Deserialize)]
    struct Written {
        node: NodeName,
        status: Status,
        #[serde(default)]
        reason: String,
        #[serde(default)]
        verified_at: Option<Value>,
        #[serde(default)]
        boot: Option<String>,
        #[serde(default)]
        self_reported: bool,
    }
    let written: Written = serde_json::from_slice(line).ok()?;
    let verified_at = match written.verified_at {
        None => None,
        Some(Value::Number(ms)) => Some(Timestamp(ms.as_i64()?)),
        Some(Value::String(text)) => Some(Timestamp::from_datetime(&chrono::DateTime::parse_from_rfc3339(&text).ok()?)),
        Some(_) => return None,
    };
    Some(Line {
        node: written.node,
        status: written.status,
        reason: display_safe(&written.reason),
        verified_at,
        boot: written.boot,
        self_reported: written.self_reported,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn performance_data_and_further_lines_are_cut() {
        assert_eq!(first_line(b"\nDISK OK - free | /=5;6\nlong text"), "DISK OK - free");
        assert_eq!(first_line(b"\x1b[31mred\xff"), "\\u{1b}[31mred\u{fffd}");
        assert_eq!(first_line(b""), "");
    }

    #[test]
    fn bad_lines_are_counted_and_the_others_stand() {
        let text = concat!(
            "{\"node\":\"a\",\"status\":\"pass\",\"verified_at\":\"2026-01-01T00:00:00Z\",\"extra\":1}\n",
            "not json\n{\"node\":\"-x\",\"status\":\"pass\"}\n{\"node\":\"b\",\"status\":\"great\"}\n",
            "{\"node\":\"d\",\"status\":\"pass\",\"verified_at\":\"soon\"}\n\n",
            "{\"node\":\"c\",\"status\":\"fail\",\"reason\":\"r\",\"verified_at\":5,\"boot\":\"x\"}"
        );
        let (lines, bad) = json_lines(text.as_bytes());
        assert_eq!(bad, 4);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].verified_at, Some(Timestamp(1_767_225_600_000)));
        assert_eq!((lines[1].status, lines[1].verified_at), (Status::Fail, Some(Timestamp(5))));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = first_line(&bytes);
            let _ = json_lines(&bytes);
        }
    }
}
