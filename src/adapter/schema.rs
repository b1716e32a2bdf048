//! JSON Schemas of parameters: compiled without any look at network or files, faults told as one sentence.

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;

use crate::text::display_safe_to;

/// Faults told at once; a person fixes them one by one anyway.
const MAX_FAULTS: usize = 5;
/// Longest text of one fault, in characters: a schema's message repeats the value it complains about.
const MAX_FAULT_TEXT: usize = 160;

/// Compiles `schema` (draft 2020-12). References lead nowhere outside the schema, and patterns cannot backtrack.
///
/// # Errors
/// A sentence, when it is no valid schema.
pub(crate) fn compile(schema: &Value) -> Result<Validator, String> {
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .offline()
        .with_pattern_options(PatternOptions::regex())
        .build(schema)
        .map_err(|error| display_safe_to(&error.to_string(), MAX_FAULT_TEXT))
}

/// What is wrong with `value`, or nothing.
///
/// # Errors
/// One sentence naming up to five faults and where they are.
pub(crate) fn check(validator: &Validator, value: &Value) -> Result<(), String> {
    let mut faults = validator.iter_errors(value).map(|error| {
        let place = error.instance_path().to_string();
        let place = if place.is_empty() { String::new() } else { format!("{}: ", display_safe_to(&place, 80)) };
        format!("{place}{}", display_safe_to(&error.to_string(), MAX_FAULT_TEXT))
    });
    let shown: Vec<String> = faults.by_ref().take(MAX_FAULTS).collect();
    if shown.is_empty() {
        return Ok(());
    }
    let more = if faults.next().is_some() { "; and more" } else { "" };
    Err(format!("{}{more}", shown.join("; ")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn faults_are_told_together_and_escaped() {
        let schema = json!({"type": "object", "additionalProperties": false, "properties": {"a": {"type": "integer"}}});
        let validator = compile(&schema).unwrap();
        check(&validator, &json!({"a": 1})).unwrap();
        let told = check(&validator, &json!({"a": "x", "\u{1b}[31m": 1})).unwrap_err();
        assert!(told.contains("/a") && told.contains("u{1b}") && !told.contains('\u{1b}'), "{told}");
    }

    #[test]
    fn a_reference_to_the_network_is_refused_not_fetched() {
        assert!(compile(&json!({"$ref": "http://127.0.0.1:9/schema.json"})).is_err());
    }
}
