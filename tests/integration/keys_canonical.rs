//! What one language signs the other must read as the same bytes, and what one refuses the other must refuse: random texts,
//! good and damaged, read by our parser and by the Python client's.

use std::io::Write;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;
use spice::security::{canonicalize, parse_strict};

use crate::lab::{python, root};

const TEXTS: u32 = 6_000;

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-20..20_i64).prop_map(|near| Value::from(9_007_199_254_740_991_i64 + near)),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[\\u{0}-\\u{20}\\u{7f}-\\u{a0}\\u{d7f0}-\\u{e010}\\u{fff0}-\\u{10010}\"\\\\/]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 24, 4, |inner| {
        let name = prop_oneof![any::<String>(), "[a-c\\u{e000}\\u{1f600}]{0,2}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..4).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// A text that is JSON, nearly JSON, or not at all.
fn text() -> impl Strategy<Value = Vec<u8>> {
    let whole = value().prop_map(|value| value.to_string().into_bytes());
    let pretty = value().prop_map(|value| serde_json::to_vec_pretty(&value).unwrap());
    let cut = (value(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(value, place, byte)| {
        let mut text = value.to_string().into_bytes();
        let place = place.index(text.len());
        text[place] = byte;
        text
    });
    let tokens = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"a\"",
        "\"\\u0061\"",
        "\"\\ud800\"",
        "\"\\ud83d\\ude00\"",
        "1",
        "-0",
        "0",
        "01",
        "1.0",
        "1e2",
        "9007199254740991",
        "9007199254740992",
        "-9007199254740992",
        "NaN",
        "Infinity",
        "-Infinity",
        "null",
        "true",
        "false",
        " ",
        "\n",
        "\u{feff}",
        "\u{a0}",
        "\"\u{1}\"",
        "'a'",
        "//",
        "1_0",
        "0x1",
        "+1",
        ".5",
        "5.",
        "99999999999999999999999",
    ]);
    let soup = prop::collection::vec(tokens, 0..8).prop_map(|tokens| tokens.concat().into_bytes());
    let members = prop::collection::vec(("[ab]|\\\\u006[12]", 0..3_u8), 0..4).prop_map(|members| {
        let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", members.join(",")).into_bytes()
    });
    let deep = (28..36_usize, any::<bool>()).prop_map(|(depth, lists)| {
        let (open, close, inner) = if lists { ("[", "]", "") } else { ("{\"a\":", "}", "0") };
        (open.repeat(depth) + inner + &close.repeat(depth)).into_bytes()
    });
    let trailing =
        (value(), "[ \\n\\t{}\\[\\]0a,]{0,2}").prop_map(|(value, more)| (value.to_string() + &more).into_bytes());
    let noise = prop::collection::vec(any::<u8>(), 0..6);
    prop_oneof![
        4 => whole, 1 => pretty, 3 => cut, 2 => soup, 1 => members, 1 => deep, 1 => trailing, 1 => noise
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn both_languages_read_the_same_texts_as_the_same_bytes_and_refuse_the_same_ones() {
    let python = python().await;
    let mut runner = TestRunner::new(Config::default());
    let texts: Vec<Vec<u8>> = (0..TEXTS).map(|_| text().new_tree(&mut runner).unwrap().current()).collect();
    let questions: String = texts.iter().map(|text| hex::encode(text) + "\n").collect();
    let answers = tokio::task::spawn_blocking(move || {
        let mut peer = Command::new(python)
            .arg(root().join("tests/python/canonical_peer.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = peer.stdin.take().unwrap();
        let writing = std::thread::spawn(move || stdin.write_all(questions.as_bytes()));
        let output = peer.wait_with_output().unwrap();
        writing.join().unwrap().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    })
    .await
    .unwrap();
    let (mut read, mut refused) = (0, 0);
    assert_eq!(answers.lines().count(), texts.len());
    for (text, theirs) in texts.iter().zip(answers.lines()) {
        let ours = parse_strict(text).ok().map(|value| hex::encode(canonicalize(&value).unwrap()));
        let shown = String::from_utf8_lossy(text);
        assert_eq!(ours.as_deref().unwrap_or("refused"), theirs, "{shown:?} {text:?}");
        *(if ours.is_some() { &mut read } else { &mut refused }) += 1;
    }
    assert!(read > TEXTS / 10 && refused > TEXTS / 10, "{read} read, {refused} refused: the texts are one-sided");
}
