use super::super::canonical::{MAX_DEPTH, MAX_INTEGER, Part, canonicalize_members};
use super::super::document::canonical_text;
use super::*;

fn nested(depth: usize) -> String {
    "[".repeat(depth) + &"]".repeat(depth)
}

/// A second opinion: RFC 8785 for content without fractions, in as few words as it takes.
fn by_the_standard(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(by_the_standard).collect::<Vec<_>>().join(",")),
        Value::Object(object) => {
            let mut members: Vec<_> = object.iter().collect();
            members.sort_by_key(|(name, _)| name.encode_utf16().collect::<Vec<_>>());
            let member = |(name, value): (&String, &Value)| format!("{}:{}", json!(name), by_the_standard(value));
            format!("{{{}}}", members.into_iter().map(member).collect::<Vec<_>>().join(","))
        }
        plain => plain.to_string(),
    }
}

#[test]
fn members_are_ordered_by_utf16_units_as_the_standard_says() {
    // U+FB33 sorts after U+1F600 in UTF-16 (surrogates begin at D800), but before it by code point.
    let value = parse_strict("{\"\u{fb33}\":1,\"\u{1f600}\":2,\"a\":3}".as_bytes()).unwrap();
    assert_eq!(String::from_utf8(canonicalize(&value).unwrap()).unwrap(), "{\"a\":3,\"\u{1f600}\":2,\"\u{fb33}\":1}");
}

#[test]
fn numbers_that_libraries_read_differently_are_refused_on_both_sides() {
    for text in ["1.0", "1e3", "-0", "0.1", "9007199254740992", "-9007199254740992", "18446744073709551615", "1e999"] {
        let fault = parse_strict(text.as_bytes()).expect_err(text).to_string();
        assert!(fault.contains("cannot hold") || fault.contains("out of range"), "{text}: {fault}");
        if let Ok(value) = serde_json::from_str::<Value>(text) {
            assert!(canonicalize(&json!({"a": [value]})).is_err(), "{text}");
        }
    }
    for text in [MAX_INTEGER.to_string(), (-MAX_INTEGER).to_string(), "0".into()] {
        assert_eq!(canonicalize(&parse_strict(text.as_bytes()).unwrap()).unwrap(), text.as_bytes());
    }
}

#[test]
fn text_that_two_parsers_could_read_differently_is_refused() {
    let refused = [
        r#"{"a":1,"a":2}"#,
        r#"{"a":{"b":1,"\u0062":2}}"#,
        "{} {}",
        "{}x",
        "NaN",
        "[Infinity]",
        "[1,]",
        "{'a':1}",
        "\u{feff}{}",
        r#""\ud800""#,
        "\"\u{1}\"",
        "// c\n{}",
        "",
        "01",
    ];
    for text in refused {
        assert!(parse_strict(text.as_bytes()).is_err(), "{text}");
    }
    assert!(parse_strict(b"\"\xff\"").is_err());
    assert!(parse_strict(b" { \"a\" : [ 1 , null ] } \n").is_ok());
}

#[test]
fn hostile_text_in_a_fault_is_shown_escaped_and_short() {
    let name = "\u{202e}\u{1b}[31m".repeat(1000);
    let text = format!("{{{0:?}:1,{0:?}:2}}", "x").replace('x', &name.replace('\u{1b}', "\\u001b"));
    let fault = parse_strict(text.as_bytes()).unwrap_err().to_string();
    assert!(fault.len() < 400 && !fault.contains('\u{202e}') && !fault.contains('\u{1b}'), "{fault}");
}

#[test]
fn nesting_is_bounded_the_same_way_for_signing_and_reading() {
    let deepest = parse_strict(nested(MAX_DEPTH).as_bytes()).unwrap();
    assert!(canonicalize(&deepest).is_ok());
    assert!(parse_strict(nested(MAX_DEPTH + 1).as_bytes()).is_err());
    assert_eq!(canonicalize(&json!([deepest])), Err(CanonicalError::Depth));
    assert!(parse_strict(nested(100_000).as_bytes()).is_err());
    assert!(parse_strict("{\"a\":".repeat(100_000).as_bytes()).is_err());
}

/// Written as its members stand, which is in no order.
struct AsItStands(Vec<(String, Value)>);

impl serde::Serialize for AsItStands {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

#[test]
fn content_that_cannot_be_signed_cannot_be_signed_in_any_order_either() {
    let deepest = parse_strict(nested(MAX_DEPTH).as_bytes()).unwrap();
    for bad in [json!(1.0), json!(0.5), json!(MAX_INTEGER + 1), json!(-MAX_INTEGER - 1), json!(u64::MAX), deepest] {
        for names in [["a", "b"], ["b", "a"], ["\u{e9}", "a"]] {
            let content = AsItStands(names.map(|name| (name.to_owned(), bad.clone())).into());
            assert_eq!(
                canonical_text(&content).unwrap_err().to_string(),
                canonicalize(&serde_json::to_value(&content).unwrap()).unwrap_err().to_string(),
                "{names:?}: {bad}"
            );
        }
    }
}

#[test]
fn a_member_written_twice_is_signed_once() {
    for names in [["a", "a"], ["", ""]] {
        let content = AsItStands(names.iter().zip(1..).map(|(name, n)| ((*name).to_owned(), json!(n))).collect());
        let text = canonical_text(&content).unwrap();
        assert!(parse_strict(&text).is_ok(), "{}", String::from_utf8_lossy(&text));
    }
}

proptest! {
    #[test]
    fn content_in_any_order_has_the_canonical_text_of_its_value(members in prop::collection::vec((".{0,3}", content()), 0..6)) {
        let content = AsItStands(members);
        let value = serde_json::to_value(&content).unwrap();
        match canonicalize(&value) {
            Ok(text) => prop_assert_eq!(canonical_text(&content).unwrap(), text),
            Err(error) => prop_assert_eq!(canonical_text(&content).unwrap_err().to_string(), error.to_string()),
        }
        prop_assert_eq!(canonical_text(&value).ok(), canonicalize(&value).ok());
    }
}

proptest! {
    #[test]
    fn canonical_text_reads_back_as_the_same_value_and_the_same_text(value in content()) {
        let text = canonicalize(&value).unwrap();
        let back = parse_strict(&text).unwrap();
        prop_assert_eq!(&back, &value);
        prop_assert_eq!(canonicalize(&back).unwrap(), text);
    }

    #[test]
    fn the_text_is_what_the_standard_says(value in content()) {
        prop_assert_eq!(String::from_utf8(canonicalize(&value).unwrap()).unwrap(), by_the_standard(&value));
    }

    #[test]
    fn members_given_in_parts_are_an_object_of_them(value in content(), text in "\\PC{0,9}", integer in any::<i64>()) {
        let object = json!({"v": value}).as_object().unwrap().clone();
        let parts = [
            ("z", Part::Value(&value)), ("o", Part::Object(&object)), ("text", Part::Text(&text)),
            ("none", Part::OptionalText(None)), ("some", Part::OptionalText(Some(&text))),
            ("integer", Part::Integer(integer)), ("bool", Part::Bool(true)),
        ];
        let whole = json!({
            "z": value, "o": object, "text": text, "none": null, "some": text, "integer": integer, "bool": true,
        });
        prop_assert_eq!(canonicalize_members(parts), canonicalize(&whole));
    }

    #[test]
    fn layout_does_not_matter(value in content()) {
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        prop_assert_eq!(canonicalize(&parse_strict(pretty.as_bytes()).unwrap()), canonicalize(&value));
    }

    #[test]
    fn a_member_named_twice_is_refused_wherever_it_is(name in "\\PC{0,4}", depth in 0usize..MAX_DEPTH) {
        let name = serde_json::to_string(&name).unwrap();
        let text = "[".repeat(depth) + &format!("{{{name}:1,{name}:1}}") + &"]".repeat(depth);
        prop_assert!(parse_strict(text.as_bytes()).is_err());
    }

    #[test]
    fn no_input_makes_the_parser_panic_or_accept_what_cannot_be_signed(text in any::<Vec<u8>>()) {
        if let Ok(value) = parse_strict(&text) {
            prop_assert!(canonicalize(&value).is_ok());
        }
    }
}

proptest! {
    #[test]
    fn the_text_is_the_canonicalisers_whichever_way_it_was_written(value in content(), ascii in "[ -~\\x00-\\x1f\\x7f]{0,9}") {
        let value = json!({ &ascii: value, "plain": { "b": [ascii], "a": -1 } });
        prop_assert_eq!(canonicalize(&value).unwrap(), serde_json_canonicalizer::to_vec(&value).unwrap());
    }
}
