//! One element of an argument vector, with placeholders. A value never becomes more than this one argument.

use serde_json::{Map, Value};

use crate::text::display_safe_to;

/// Longest argument after filling, in bytes.
const MAX_ARGUMENT: usize = 16 << 10;

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// Text as it stands.
    Text(String),
    /// `{name}`.
    Value(String),
}

/// A text with `{name}` placeholders; `{{` and `}}` are braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Piece>);

impl Template {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let shown = || format!("{:?}", display_safe_to(text, 80));
        if text.contains('\0') {
            return Err(format!("{} has a NUL character", shown()));
        }
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            match c {
                '{' | '}' if rest.peek() == Some(&c) => {
                    rest.next();
                    plain.push(c);
                }
                '{' => {
                    let mut name = String::new();
                    loop {
                        match rest.next() {
                            Some('}') => break,
                            Some(c) if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' => name.push(c),
                            _ => return Err(format!("{} has a placeholder that is not {{name}}", shown())),
                        }
                    }
                    if !plain.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut plain)));
                    }
                    pieces.push(Piece::Value(name));
                }
                '}' => return Err(format!("{} has a lone }}: write }}}}", shown())),
                c => plain.push(c),
            }
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self(pieces))
    }

    pub(super) fn pieces(&self) -> &[Piece] {
        &self.0
    }

    pub(super) fn has_placeholder(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Value(_)))
    }

    /// The argument with `values` and `node` filled in.
    pub(super) fn fill(&self, values: &Map<String, Value>, node: Option<&str>) -> Result<String, String> {
        let mut filled = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Value(name) => {
                    let value = match (name.as_str(), values.get(name)) {
                        ("node", _) => node.ok_or("there is no {node} in this style")?.to_owned(),
                        (_, Some(Value::String(text))) => text.clone(),
                        (_, Some(value @ (Value::Number(_) | Value::Bool(_)))) => value.to_string(),
                        _ => return Err(format!("argument {name} is missing")),
                    };
                    if value.chars().any(char::is_control) {
                        return Err(format!("argument {name} has control characters"));
                    }
                    // At the start of an argument it could be taken for an option.
                    if filled.is_empty() && value.starts_with('-') {
                        return Err(format!("argument {name} must not begin with `-` where it stands by itself"));
                    }
                    filled.push_str(&value);
                }
            }
        }
        if filled.len() > MAX_ARGUMENT {
            return Err(format!("an argument is longer than {MAX_ARGUMENT} bytes"));
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn fill(template: &str, value: &str) -> Result<String, String> {
        let values = json!({"v": value});
        Template::parse(template).unwrap().fill(values.as_object().unwrap(), Some("node1"))
    }

    #[test]
    fn values_stay_inside_their_argument() {
        assert_eq!(fill("--x={v}", "a b; $(rm) {node} -y").unwrap(), "--x=a b; $(rm) {node} -y");
        assert_eq!(fill("{{{v}}}@{node}", "1").unwrap(), "{1}@node1");
        assert_eq!(fill("--x={v}", "-5").unwrap(), "--x=-5");
        assert!(fill("{v}", "-rf").is_err());
        assert!(fill("{v}", "a\nb").is_err() && fill("x{v}", "a\0").is_err());
    }

    #[test]
    fn an_empty_value_before_another_cannot_smuggle_an_option_in() {
        let values = json!({"a": "", "b": "-o"});
        assert!(Template::parse("{a}{b}").unwrap().fill(values.as_object().unwrap(), None).is_err());
    }

    #[test]
    fn broken_templates_are_refused() {
        for bad in ["{", "}", "{a", "{A}", "{a b}", "a}b", "\0"] {
            assert!(Template::parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_filled_argument_never_begins_with_a_dash_from_a_value(value in ".{0,20}") {
            if let Ok(filled) = fill("{v}", &value) {
                prop_assert!(!filled.starts_with('-') && !filled.contains('\0'));
                prop_assert_eq!(filled, value);
            }
        }

        #[test]
        fn parsing_never_panics(text in ".{0,40}") {
            let _ = Template::parse(&text);
        }
    }
}
