//! Hostile output of plugins, parameters of checks and schemas of adapters.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::adapter::schema;
use crate::fuzz::bounds::grows_with_its_input;
use crate::fuzz::{Memory, Target, fuzz};
use crate::names::NodeName;

const MEMORY: Memory = Memory { per_byte: 150, fixed: 64 * 1024 };

fn is_shown_safely(text: &str) {
    assert!(!text.chars().any(char::is_control) && text.chars().count() <= crate::text::MAX_FOREIGN_TEXT, "{text:?}");
}

#[test]
fn output_of_nagios_plugins() {
    let seeds = [
        "DISK OK - free space: / 3326 MB (56%); | /=2643MB;5948;5958;0;5968\n/boot 68 MB\n",
        "TCP CRITICAL - \u{1f600}",
        "",
    ];
    let seeds = seeds.iter().map(|text| text.as_bytes().to_vec()).collect();
    let words = ["OK", "CRITICAL", "|", "\n", "\r\n", "\u{1b}[2J", "\u{202e}", "\0"];
    let judge = |stdout: &[u8]| is_shown_safely(&output::first_line(stdout));
    fuzz(&Target { name: "nagios", seeds, words: &words, memory: MEMORY, judge: &judge });
}

#[test]
fn json_lines() {
    let seeds = [
        concat!(
            "{\"node\":\"compute-1\",\"status\":\"pass\",\"verified_at\":\"2026-01-01T00:00:00Z\",\"boot\":\"x\"}\n",
            "{\"node\":\"compute-2\",\"status\":\"fail\",\"reason\":\"r\",\"verified_at\":1795320000123,\"self_reported\":true}\n"
        ),
        "{\"node\":\"compute-1\",\"status\":\"timeout\"}",
    ];
    let seeds = seeds.iter().map(|text| text.as_bytes().to_vec()).collect();
    let words = [
        "node",
        "status",
        "pass",
        "fail",
        "error",
        "verified_at",
        "boot",
        "reason",
        "self_reported",
        "\n",
        "9999-12-31T23:59:60Z",
    ];
    let judge = |stdout: &[u8]| {
        let (lines, bad) = output::json_lines(stdout);
        let written =
            stdout.split(|byte| *byte == b'\n').filter(|line| !line.iter().all(u8::is_ascii_whitespace)).count();
        assert_eq!(lines.len() + bad, written, "a line is a result or a bad line");
        for line in lines {
            is_shown_safely(&line.reason);
            assert!(NodeName::new(line.node.as_str()).is_ok());
        }
    };
    fuzz(&Target { name: "json_lines", seeds, words: &words, memory: MEMORY, judge: &judge });
}

#[test]
fn large_output_takes_time_in_proportion() {
    for (shape, part) in [
        ("good lines", "{\"node\":\"n\",\"status\":\"pass\"}\n"),
        ("members that say nothing", "{\"node\":\"n\",\"x\":[{\"\":0}],\"status\":\"pass\"}\n"),
        ("empty lines", "\n"),
        ("one long line", "x"),
        ("escapes", "\u{7}"),
        ("bad bytes", "\u{fffd}\n"),
    ] {
        let made = |size: usize| part.repeat(size / part.len()).into_bytes();
        grows_with_its_input(shape, 20_000, 16, made, |stdout| {
            drop(output::first_line(stdout));
            drop(output::json_lines(stdout));
        });
        let one_line = |size: usize| {
            format!("{{\"node\":\"n\",\"verified_at\":[{}0]}}", "{\"\":0},".repeat(size / 7)).into_bytes()
        };
        grows_with_its_input("values where a time is due", 20_000, 128, one_line, |stdout| {
            drop(output::json_lines(stdout))
        });
    }
}

#[test]
fn parameters_of_a_check() {
    let folder = tempfile::tempdir().unwrap();
    let command = build(Settings { plugin_dir: folder.path().to_owned(), ..Settings::default() }).unwrap();
    let validator = schema::compile(&command.parameter_schema()).unwrap();
    let seeds = vec![
        br#"{"plugin":"tcp_service","arguments":{"port":22,"tls":true}}"#.to_vec(),
        br#"{"plugin":"closed_ports"}"#.to_vec(),
    ];
    let judge = |text: &[u8]| {
        let Ok(parameters) = serde_json::from_slice::<Value>(text) else { return };
        match schema::check(&validator, &parameters) {
            Ok(()) => {
                let plugin = parameters["plugin"].as_str().unwrap();
                assert!(
                    !plugin.contains(['/', '.', '\0']) && !plugin.starts_with('-') && plugin.len() <= 48,
                    "{plugin:?}"
                );
            }
            Err(fault) => assert!(!fault.chars().any(char::is_control) && fault.len() < 8192, "{fault:?}"),
        }
        if let Err(fault) = command.validate(&parameters) {
            assert!(!fault.chars().any(char::is_control), "{fault:?}");
        }
    };
    let words = ["plugin", "arguments", "../x", "/etc/passwd", "-x", "a\nb", "tcp_service"];
    fuzz(&Target {
        name: "parameters",
        seeds,
        words: &words,
        memory: Memory { per_byte: 400, fixed: 512 * 1024 },
        judge: &judge,
    });
}

#[test]
fn schemas_of_adapters() {
    let folder = tempfile::tempdir().unwrap();
    let command = build(Settings { plugin_dir: folder.path().to_owned(), ..Settings::default() }).unwrap();
    let pattern = json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$", "maxLength": 9},
        "b": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"anyOf": [{"type": "integer"}, {"$ref": "#/$defs/b"}]}}, "required": ["a"]});
    let seeds = vec![command.parameter_schema().to_string().into_bytes(), pattern.to_string().into_bytes()];
    let values = [
        json!({"a": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", "b": "\u{1b}[2J", "\u{1b}": 1}),
        json!(null),
        json!([1, 1.0, 1e300]),
    ];
    let judge = |text: &[u8]| {
        let Ok(value) = serde_json::from_slice::<Value>(text) else { return };
        if let Ok(validator) = schema::compile(&value) {
            for value in &values {
                if let Err(fault) = schema::check(&validator, value) {
                    assert!(!fault.chars().any(char::is_control) && fault.len() < 8192, "{fault:?}");
                }
            }
        }
    };
    let words = [
        "$ref",
        "#",
        "#/$defs/b",
        "http://127.0.0.1:9/x",
        "file:///etc/passwd",
        "pattern",
        "(a{1000}){1000}",
        "(?R)",
        "type",
        "properties",
        "allOf",
        "anyOf",
        "not",
        "$dynamicRef",
        "$id",
        "enum",
        "const",
        "multipleOf",
        "unevaluatedProperties",
        "items",
    ];
    // A pattern may be compiled up to the limit of the package that reads patterns.
    fuzz(&Target {
        name: "schemas",
        seeds,
        words: &words,
        memory: Memory { per_byte: 2_000, fixed: 32 << 20 },
        judge: &judge,
    });
}
