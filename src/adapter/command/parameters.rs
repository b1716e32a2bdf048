//! The parameters a manifest declares: their types as JSON Schema, their defaults.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::adapter::schema;

use super::manifest::range;

/// Longest text a parameter may allow, in characters.
const MAX_TEXT: u32 = 4096;

/// A parameter's type.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Parameter {
    String {
        /// The whole text must match it.
        pattern: Option<String>,
        #[serde(rename = "enum")]
        one_of: Option<Vec<String>>,
        max_length: Option<u32>,
        #[serde(default)]
        required: bool,
        default: Option<String>,
        #[serde(default)]
        description: String,
    },
    Integer {
        min: i64,
        max: i64,
        #[serde(default)]
        required: bool,
        default: Option<i64>,
        #[serde(default)]
        description: String,
    },
    Boolean {
        #[serde(default)]
        required: bool,
        default: Option<bool>,
        #[serde(default)]
        description: String,
    },
}

impl Parameter {
    /// Whether every check has a value for it.
    pub(super) fn is_always_there(&self) -> bool {
        match self {
            Self::String { required, default, .. } => *required || default.is_some(),
            Self::Integer { required, default, .. } => *required || default.is_some(),
            Self::Boolean { required, default, .. } => *required || default.is_some(),
        }
    }
}

/// The JSON Schema of a check's arguments, and the defaults.
pub(super) fn arguments_schema(
    parameters: &BTreeMap<String, Parameter>,
) -> Result<(Value, Map<String, Value>), String> {
    let (mut properties, mut required, mut defaults) = (Map::new(), Vec::new(), Map::new());
    for (name, parameter) in parameters {
        let plain =
            name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_')) && (1..=48).contains(&name.len());
        if !plain || name == "node" {
            return Err(format!(
                "parameters: {:?} is no parameter name (a-z 0-9 _, not `node`)",
                crate::text::display_safe_to(name, 64)
            ));
        }
        let (property, needed, default) = match parameter {
            Parameter::String { pattern, one_of, max_length, required, default, description } => {
                let longest = max_length.unwrap_or(256);
                range(&format!("parameters.{name}.max_length"), longest.into(), 1, MAX_TEXT.into())?;
                let mut property = json!({"type": "string", "maxLength": longest, "description": description});
                if let (Some(pattern), Value::Object(property)) = (pattern, &mut property) {
                    // The whole text, whatever the author's alternatives look like.
                    property.insert("pattern".into(), format!("^(?:{pattern})$").into());
                }
                if let (Some(one_of), Value::Object(property)) = (one_of, &mut property) {
                    property.insert("enum".into(), one_of.clone().into());
                }
                (property, *required, default.clone().map(Value::from))
            }
            Parameter::Integer { min, max, required, default, description } => {
                let property = json!({"type": "integer", "minimum": min, "maximum": max, "description": description});
                (property, *required, default.map(Value::from))
            }
            Parameter::Boolean { required, default, description } => {
                (json!({"type": "boolean", "description": description}), *required, default.map(Value::from))
            }
        };
        properties.insert(name.clone(), property);
        if needed {
            required.push(name.clone());
        }
        if let Some(default) = default {
            defaults.insert(name.clone(), default);
        }
    }
    let schema =
        json!({"type": "object", "additionalProperties": false, "properties": properties, "required": required});
    let validator = schema::compile(&schema).map_err(|fault| format!("parameters: {fault}"))?;
    for (name, value) in &defaults {
        let alone = json!({name: value});
        let fits = validator.iter_errors(&alone).all(|error| error.instance_path().to_string().is_empty());
        if !fits {
            return Err(format!("parameters.{name}.default does not fit its own type"));
        }
    }
    Ok((schema, defaults))
}
