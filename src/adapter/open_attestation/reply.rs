//! A verifier's reply, in the dialects of OpenAttestation 1.x and 2.x: read so that one bad entry spoils one host.

use std::collections::HashMap;

use serde_json::Value;

use crate::clock::Timestamp;
use crate::names::NodeName;
use crate::text::display_safe_to;

use super::vtime;

/// What the verifier said about one host, or why its entry cannot be used.
pub(super) type Verdict = Result<Said, String>;

/// A readable entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) level: Level,
    /// When the verifier judged; only `timeout`, `pending` and `other` may come without.
    pub(super) at: Option<Timestamp>,
}

/// The trust levels of both dialects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Level {
    Trusted,
    Untrusted,
    Unknown,
    Timeout,
    Pending,
    Other(String),
}

/// The verdicts about the hosts in `asked`; hosts the reply leaves out are left out, entries for other hosts are ignored.
///
/// # Errors
/// A sentence, when the reply as a whole cannot be understood.
pub(super) fn read(body: &[u8], asked: &[NodeName]) -> Result<HashMap<NodeName, Verdict>, String> {
    let mut verdicts = HashMap::new();
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(verdicts);
    }
    let reply: Value = serde_json::from_slice(body)
        .map_err(|error| format!("the verifier's answer is not JSON ({})", display_safe_to(&error.to_string(), 80)))?;
    let entries = match reply {
        Value::Null => return Ok(verdicts),
        Value::Object(mut members) => match members.remove("hosts") {
            None | Some(Value::Null) => return Ok(verdicts),
            Some(Value::Array(entries)) => entries,
            // The mapped notation of 1.x writes a list of one as the bare element.
            Some(entry @ Value::Object(_)) if entry.get("host_name").is_some() => vec![entry],
            Some(_) => return Err("the verifier's answer has no list of hosts in `hosts`".to_owned()),
        },
        _ => return Err("the verifier's answer is not a JSON object".to_owned()),
    };
    for entry in entries {
        // Names are compared exactly: a name that differs in case or spaces is another host.
        let Some(node) =
            entry.get("host_name").and_then(Value::as_str).and_then(|n| asked.iter().find(|a| a.as_str() == n))
        else {
            continue;
        };
        let verdict = read_entry(&entry);
        match verdicts.get(node) {
            None => {
                verdicts.insert(node.clone(), verdict);
            }
            Some(earlier) if *earlier == verdict => {}
            Some(_) => {
                let told = "the verifier's answer names this host twice and contradicts itself".to_owned();
                verdicts.insert(node.clone(), Err(told));
            }
        }
    }
    Ok(verdicts)
}

fn read_entry(entry: &Value) -> Verdict {
    let Some(level) = entry.get("trust_lvl").and_then(Value::as_str) else {
        return Err("the verifier's entry for this host has no trust level".to_owned());
    };
    let level = match level {
        "trusted" => Level::Trusted,
        "untrusted" => Level::Untrusted,
        "unknown" => Level::Unknown,
        "timeout" => Level::Timeout,
        "pending" => Level::Pending,
        other => Level::Other(display_safe_to(other, 40)),
    };
    let at = match entry.get("vtime") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(vtime::parse(text).ok_or_else(|| {
            format!("the verifier's entry for this host has an unreadable time {:?}", display_safe_to(text, 48))
        })?),
        Some(_) => return Err("the verifier's entry for this host has a time that is no text".to_owned()),
    };
    if at.is_none() && matches!(level, Level::Trusted | Level::Untrusted) {
        return Err("the verifier's entry for this host does not say when it was judged".to_owned());
    }
    Ok(Said { level, at })
}

/// An error body of either dialect as `CODE: message`, safe to show; `None` where it is neither.
pub(super) fn error_text(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let text = |name: &str| match value.get(name) {
        Some(Value::String(text)) => Some(display_safe_to(text, 120)),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    // The internal faults of 1.x have a speaking name beside a code that repeats the HTTP status.
    let code = text("name").or_else(|| text("error_code")).or_else(|| text("code"));
    match (code, text("error_message").or_else(|| text("message"))) {
        (Some(code), Some(message)) => Some(format!("{code}: {message}")),
        (code, message) => code.or(message),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn names(list: &[&str]) -> Vec<NodeName> {
        list.iter().map(|n| NodeName::new(n).unwrap()).collect()
    }

    fn one(body: &str) -> Verdict {
        read(body.as_bytes(), &names(&["node1"])).unwrap().remove("node1").unwrap()
    }

    #[test]
    fn both_dialects_are_read() {
        let old = r#"{"hosts":[{"host_name":"node1","trust_lvl":"trusted","vtime":"2012-09-09T05:10:40-04:00",
                     "pcr_values":{"number":"0","value":"aa"}}]}"#;
        assert_eq!(one(old), Ok(Said { level: Level::Trusted, at: Some(Timestamp(1_347_181_840_000)) }));
        let new = r#"{"hosts":[{"host_name":"node1","trust_lvl":"untrusted","vtime":"2016-02-29T22:29:26.365+0000"}]}"#;
        assert_eq!(one(new).unwrap().level, Level::Untrusted);
        assert_eq!(one(r#"{"hosts":[{"host_name":"node1","trust_lvl":"pending"}]}"#).unwrap().level, Level::Pending);
        assert_eq!(one(r#"{"hosts":{"host_name":"node1","trust_lvl":"unknown"}}"#).unwrap().level, Level::Unknown);
    }

    #[test]
    fn one_bad_entry_spoils_one_host() {
        let body = r#"{"hosts":[17,null,{"host_name":5},{"host_name":"a","trust_lvl":"trusted","vtime":17},
            {"host_name":"b","trust_lvl":"trusted"},{"host_name":"c"},{"host_name":"d","trust_lvl":"trusted","vtime":"soon"},
            {"host_name":"e","trust_lvl":"trusted","vtime":"2016-02-29T22:29:26Z"}]}"#;
        let verdicts = read(body.as_bytes(), &names(&["a", "b", "c", "d", "e", "f"])).unwrap();
        for bad in ["a", "b", "c", "d"] {
            assert!(verdicts[bad].is_err(), "{bad}");
        }
        assert!(verdicts["e"].is_ok());
        assert!(!verdicts.contains_key("f"));
    }

    #[test]
    fn other_names_and_contradictions_are_not_believed() {
        let entry = |name: &str, level: &str| {
            format!(r#"{{"host_name":"{name}","trust_lvl":"{level}","vtime":"2016-02-29T22:29:26Z"}}"#)
        };
        let body = format!(
            "{{\"hosts\":[{},{},{},{}]}}",
            entry("a", "trusted"),
            entry("A", "untrusted"),
            entry("a ", "untrusted"),
            entry("a", "trusted")
        );
        let verdicts = read(body.as_bytes(), &names(&["a"])).unwrap();
        assert_eq!(verdicts["a"].as_ref().unwrap().level, Level::Trusted);
        for order in [["trusted", "untrusted"], ["untrusted", "trusted"]] {
            let body =
                format!("{{\"hosts\":[{},{},{}]}}", entry("a", order[0]), entry("a", order[1]), entry("a", order[0]));
            assert!(read(body.as_bytes(), &names(&["a"])).unwrap()["a"].is_err());
        }
    }

    #[test]
    fn a_reply_that_is_none_is_told_apart_from_an_empty_one() {
        for empty in ["", " ", "null", "{}", r#"{"hosts":null}"#, r#"{"hosts":[]}"#] {
            assert!(read(empty.as_bytes(), &names(&["a"])).unwrap().is_empty(), "{empty}");
        }
        for garbage in ["<html>", "[]", "17", r#"{"hosts":{"a":{}}}"#, r#"{"hosts":"a"}"#, "{\"hosts\":[", "\u{fffd}"] {
            assert!(read(garbage.as_bytes(), &names(&["a"])).is_err(), "{garbage}");
        }
    }

    #[test]
    fn error_bodies_are_shown_safely() {
        assert_eq!(
            error_text(br#"{"error_code":"AS_HOST_NOT_FOUND","error_message":"Host 'x' not found."}"#).unwrap(),
            "AS_HOST_NOT_FOUND: Host 'x' not found."
        );
        let fault = br#"{"code":"500","name":"AttestationServersFault","message":"bad\u001b[2J","detail":"stack"}"#;
        assert_eq!(error_text(fault).unwrap(), "AttestationServersFault: bad\\u{1b}[2J");
        assert_eq!(error_text(b"<html>"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&body, &names(&["a"]));
            let _ = error_text(&body);
        }
    }
}
