//! Values as people write them on the command line: parameters, targets, labels, durations, times.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use serde_json::Value;

use crate::checks::definition::Overlap;
use crate::clock::Timestamp;
use crate::names::{CheckName, NodeName, PoolName};
use crate::protocol::{Requirement, Targets};
use crate::text::display_safe_to;

fn quoted(text: &str) -> String {
    format!("{:?}", display_safe_to(text, 64))
}

/// `KEY=VALUE` for a check's parameters. The value is JSON where it parses as an integer, boolean, list, object or quoted
/// text, else the text itself; fractions stay text, because signed content holds no fractions.
///
/// # Errors
/// A sentence when there is no key.
pub fn parameter(text: &str) -> Result<(String, Value), String> {
    let (key, value) = key_value(text)?;
    let parsed = serde_json::from_str::<Value>(&value).ok().filter(|parsed| match parsed {
        // A fraction or a number too large to be signed stays as it was written.
        Value::Number(_) => crate::security::canonicalize(parsed).is_ok() && !value.contains(['.', 'e', 'E']),
        Value::Null => false,
        _ => true,
    });
    Ok((key, parsed.unwrap_or(Value::String(value))))
}

/// A JSON object.
///
/// # Errors
/// A sentence when it is none, or holds a fraction.
pub fn json_object(text: &str) -> Result<serde_json::Map<String, Value>, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("this is no JSON: {error}"))?;
    crate::security::canonicalize(&value).map_err(|error| error.to_string())?;
    match value {
        Value::Object(members) => Ok(members),
        _ => Err("write a JSON object such as {\"hosts\": 2}".to_owned()),
    }
}

/// `KEY=VALUE`, as text.
///
/// # Errors
/// A sentence when there is no `=` or no key.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{} is not KEY=VALUE", quoted(text))),
    }
}

/// `KEY=VALUE`, neither empty.
///
/// # Errors
/// A sentence when it is not.
pub fn label(text: &str) -> Result<(String, String), String> {
    key_value(text).and_then(|(key, value)| match value.is_empty() {
        true => Err(format!("label {} has no value; write KEY=VALUE", quoted(text))),
        false => Ok((key, value)),
    })
}

/// One `--target`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `all`
    All,
    /// `node:NAME`
    Node(NodeName),
    /// `pattern:GLOB`
    Pattern(String),
    /// `label:KEY=VALUE`
    Label(String, String),
    /// `aggregate:GLOB`
    Aggregate(String),
    /// `zone:GLOB`
    Zone(String),
}

/// One `--target`.
///
/// # Errors
/// A sentence that names the forms there are.
pub fn target(text: &str) -> Result<Target, String> {
    match text.split_once(':') {
        None if text == "all" => Ok(Target::All),
        Some(("node", name)) => NodeName::new(name).map(Target::Node).map_err(|error| error.to_string()),
        Some(("pattern", glob)) => {
            let alone = Targets { patterns: [glob.to_owned()].into(), ..Targets::default() };
            alone.validate().map(|()| Target::Pattern(glob.to_owned())).map_err(|error| error.to_string())
        }
        Some(("label", pair)) => label(pair).map(|(key, value)| Target::Label(key, value)),
        Some(("aggregate", glob)) => {
            let alone = Targets { aggregates: [glob.to_owned()].into(), ..Targets::default() };
            alone.validate().map(|()| Target::Aggregate(glob.to_owned())).map_err(|error| error.to_string())
        }
        Some(("zone", glob)) => {
            let alone = Targets { zones: [glob.to_owned()].into(), ..Targets::default() };
            alone.validate().map(|()| Target::Zone(glob.to_owned())).map_err(|error| error.to_string())
        }
        _ => Err(format!(
            "{} is no target: use all, node:NAME, pattern:GLOB, label:KEY=VALUE, aggregate:GLOB or zone:GLOB",
            quoted(text)
        )),
    }
}

/// All targets together; `None` if none was given.
#[must_use]
pub fn targets(given: &[Target]) -> Option<Targets> {
    if given.is_empty() {
        return None;
    }
    let mut targets = Targets::default();
    for target in given.iter().cloned() {
        match target {
            Target::All => targets.all = true,
            Target::Node(name) => drop(targets.nodes.insert(name)),
            Target::Pattern(glob) => drop(targets.patterns.insert(glob)),
            Target::Label(key, value) => drop(targets.labels.insert(key, value)),
            Target::Aggregate(glob) => drop(targets.aggregates.insert(glob)),
            Target::Zone(glob) => drop(targets.zones.insert(glob)),
        }
    }
    Some(targets)
}

/// `POOL`, `POOL=required` or `POOL=advisory`.
///
/// # Errors
/// A sentence for a bad name or another word.
pub fn pool(text: &str) -> Result<(PoolName, Requirement), String> {
    let (name, requirement) = text.split_once('=').unwrap_or((text, "required"));
    let requirement = match requirement {
        "required" => Requirement::Required,
        "advisory" => Requirement::Advisory,
        other => return Err(format!("{} is neither required nor advisory", quoted(other))),
    };
    Ok((PoolName::new(name).map_err(|error| error.to_string())?, requirement))
}

/// Pools by name; the last word about one counts.
#[must_use]
pub fn pools(given: &[(PoolName, Requirement)]) -> Option<BTreeMap<PoolName, Requirement>> {
    (!given.is_empty()).then(|| given.iter().cloned().collect())
}

/// `skip` or `queue`.
///
/// # Errors
/// A sentence for another word.
pub fn overlap(text: &str) -> Result<Overlap, String> {
    match text {
        "skip" => Ok(Overlap::Skip),
        "queue" => Ok(Overlap::Queue),
        other => Err(format!("{} is neither skip nor queue", quoted(other))),
    }
}

/// A limit of batches, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxBatches(pub Option<i64>);

/// A number, or `none`.
///
/// # Errors
/// A sentence for anything else.
pub fn max_batches(text: &str) -> Result<MaxBatches, String> {
    match text {
        "none" => Ok(MaxBatches(None)),
        number => match number.parse() {
            Ok(most) => Ok(MaxBatches(Some(most))),
            Err(_) => Err(format!("{} is neither a number nor none", quoted(text))),
        },
    }
}

/// A check to run after, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct After(pub Option<CheckName>);

/// # Errors
/// A sentence when it is no name.
pub fn after(text: &str) -> Result<After, String> {
    match text {
        "none" => Ok(After(None)),
        name => name.parse().map(|name| After(Some(name))).map_err(|error| format!("{error}")),
    }
}

/// The checks named; `None` where nothing was given.
#[must_use]
pub fn all_of(given: &[After]) -> Option<BTreeSet<CheckName>> {
    (!given.is_empty()).then(|| given.iter().filter_map(|After(name)| name.clone()).collect())
}

/// Seconds: a whole number, or one followed by `s`, `m`, `h` or `d`.
///
/// # Errors
/// A sentence when it is neither, or longer than a hundred years.
pub fn seconds(text: &str) -> Result<i64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => 0,
    };
    let value = number.parse::<i64>().ok().and_then(|number| number.checked_mul(factor));
    match value {
        Some(value) if factor > 0 && value <= 36_525 * 86_400 => Ok(value),
        _ => Err(format!("{} is no duration: write seconds, or a number with s, m, h or d, such as 90s", quoted(text))),
    }
}

/// A time: RFC 3339, or date and time in UTC without a zone, or a date (its beginning, in UTC).
///
/// # Errors
/// A sentence when it is none of these.
pub fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(Timestamp::from_datetime(&at));
    }
    let naive = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"]
        .iter()
        .find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())
        .or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0));
    naive.map(|at| Timestamp::from_datetime(&at.and_utc())).ok_or_else(|| {
        format!("{} is no time: write 2026-11-22T13:00:00Z, or \"2026-11-22 13:00\" in UTC", quoted(text))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_parameter_is_json_only_where_that_can_be_signed() {
        let value = |text: &str| parameter(text).unwrap().1;
        assert_eq!(value("n=3"), json!(3));
        assert_eq!(value("n=-3"), json!(-3));
        assert_eq!(value("n=true"), json!(true));
        assert_eq!(value("n={\"a\": [1]}"), json!({"a": [1]}));
        assert_eq!(value("n=\"3\""), json!("3"));
        assert_eq!(value("n=1.5"), json!("1.5"));
        assert_eq!(value("n=1e3"), json!("1e3"));
        assert_eq!(value("n=007"), json!("007"));
        assert_eq!(value("n=12345678901234567890"), json!("12345678901234567890"));
        assert_eq!(value("n=null"), json!("null"));
        assert_eq!(value("n="), json!(""));
        assert_eq!(value("args=-w 5 -c=3"), json!("-w 5 -c=3"));
        assert!(parameter("=3").is_err() && parameter("n").is_err());
        assert!(json_object("{\"a\": 1.5}").is_err());
    }

    #[test]
    fn targets_add_up_and_a_bad_one_names_the_forms() {
        let given: Vec<Target> =
            ["node:n1", "pattern:c-*", "label:rack=r1", "label:row=a:b", "aggregate:gpu *", "zone:eu-*"]
                .iter()
                .map(|text| target(text).unwrap())
                .collect();
        let targets = targets(&given).unwrap();
        assert!(!targets.all);
        assert_eq!(targets.labels["row"], "a:b");
        assert!(targets.aggregates.contains("gpu *") && targets.zones.contains("eu-*"));
        for bad in ["", "n1", "node:-x", "pattern:[", "label:rack", "label:rack=", "ALL", "aggregate:", "zone:["] {
            assert!(target(bad).is_err(), "{bad}");
        }
        assert_eq!(super::targets(&[]), None);
    }

    #[test]
    fn pools_are_required_unless_said_otherwise() {
        assert_eq!(pool("gold").unwrap().1, Requirement::Required);
        assert_eq!(pool("gold=advisory").unwrap().1, Requirement::Advisory);
        assert!(pool("gold=maybe").is_err() && pool("-x").is_err());
    }

    #[test]
    fn overlap_and_limits_are_understood_or_refused() {
        assert_eq!(overlap("queue"), Ok(Overlap::Queue));
        assert_eq!((max_batches("none"), max_batches("4")), (Ok(MaxBatches(None)), Ok(MaxBatches(Some(4)))));
        assert_eq!(all_of(&[]), None);
        assert_eq!(all_of(&[after("none").unwrap()]), Some(BTreeSet::new()));
        assert_eq!(all_of(&[after("boot").unwrap()]), Some(["boot".parse().unwrap()].into()));
        assert!(after("no name").is_err());
        assert!(overlap("wait").is_err() && max_batches("").is_err());
    }

    #[test]
    fn durations_and_times_are_understood_or_refused() {
        assert_eq!(seconds("90"), Ok(90));
        assert_eq!(seconds("5m"), Ok(300));
        assert_eq!(seconds("2d"), Ok(172_800));
        for bad in ["", "m", "-5", "1.5h", "5 m", "99999999999999999999", "9999999999d"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
        assert_eq!(time("1970-01-01T01:00:00+01:00"), Ok(Timestamp(0)));
        assert_eq!(time("1970-01-01 00:01"), Ok(Timestamp(60_000)));
        assert_eq!(time("1970-01-02"), Ok(Timestamp(86_400_000)));
        assert!(time("yesterday").is_err());
    }

    proptest! {
        #[test]
        fn nothing_typed_makes_a_parser_panic(text in ".*") {
            let _ = (parameter(&text), target(&text), seconds(&text), time(&text), pool(&text), label(&text));
        }
    }
}
