//! Hostile answers of a verifier.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::reply::{self, Level};
use crate::fuzz::bounds::grows_with_its_input;
use crate::fuzz::{Memory, Target, fuzz};
use crate::names::NodeName;

const WORDS: &[&str] = &[
    "hosts",
    "host_name",
    "trust_lvl",
    "trusted",
    "untrusted",
    "unknown",
    "timeout",
    "pending",
    "vtime",
    "node1",
    "node2",
    "2016-02-29T22:29:26.365+0000",
    "2016-02-30T22:29:26Z",
    "error_code",
    "error_message",
    "code",
    "name",
    "message",
];

fn asked() -> Vec<NodeName> {
    ["node1", "node2"].iter().map(|name| NodeName::new(name).unwrap()).collect()
}

#[test]
fn answers() {
    let seeds = [
        r#"{"hosts":[{"host_name":"node1","trust_lvl":"untrusted","vtime":"2012-09-09T05:10:40-04:00","pcr_values":{"number":"0","value":"aa"}},{"host_name":"node2","trust_lvl":"unknown","vtime":"2016-02-29T22:29:26.365+0000"}]}"#,
        r#"{"hosts":{"host_name":"node2","trust_lvl":"pending"}}"#,
        r#"{"error_code":"AS_HOST_NOT_FOUND","error_message":"Host 'x' not found."}"#,
        r#"{"code":"500","name":"AttestationServersFault","message":"bad","detail":"stack"}"#,
        "",
    ];
    let seeds = seeds.iter().map(|text| text.as_bytes().to_vec()).collect();
    let asked = asked();
    let judge = |body: &[u8]| {
        if let Some(text) = reply::error_text(body) {
            assert!(!text.chars().any(char::is_control) && text.len() < 2048, "{text:?}");
        }
        match reply::read(body, &asked) {
            Ok(verdicts) => {
                for (node, verdict) in verdicts {
                    assert!(asked.contains(&node), "nobody asked about {node}");
                    match verdict {
                        Ok(said) if matches!(said.level, Level::Trusted | Level::Untrusted) => {
                            assert!(said.at.is_some(), "judged, but nobody knows when");
                            // No entry says so by accident: the words must stand there.
                            assert!(String::from_utf8_lossy(body).contains("trusted"));
                        }
                        Ok(_) => {}
                        Err(why) => assert!(!why.chars().any(char::is_control), "{why:?}"),
                    }
                }
            }
            Err(why) => assert!(!why.chars().any(char::is_control), "{why:?}"),
        }
    };
    let memory = Memory { per_byte: 200, fixed: 64 * 1024 };
    fuzz(&Target { name: "open_attestation", seeds, words: WORDS, memory, judge: &judge });
}

#[test]
fn large_answers_take_time_in_proportion() {
    let asked = asked();
    for (shape, part) in [
        ("one host again and again", r#"{"host_name":"node1","trust_lvl":"trusted","vtime":"2016-02-29T22:29:26Z"},"#),
        ("contradictions", r#"{"host_name":"node1","trust_lvl":"a"},{"host_name":"node1","trust_lvl":"b"},"#),
        ("other hosts", r#"{"host_name":"x"},"#),
        ("no hosts", "0,"),
        ("nothing", r#"{"":0},"#),
    ] {
        let made = |size: usize| format!("{{\"hosts\":[{}0]}}", part.repeat(size / part.len())).into_bytes();
        grows_with_its_input(shape, 20_000, 128, made, |body| {
            drop(reply::read(body, &asked));
            drop(reply::error_text(body));
        });
    }
}
