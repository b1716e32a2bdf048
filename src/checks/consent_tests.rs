#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::protocol::Level;

const NOW: Timestamp = Timestamp(1_795_320_000_000);

fn raising(nodes: &[&str]) -> Preview {
    let nodes: std::collections::BTreeSet<NodeName> = nodes.iter().map(|node| node.parse().unwrap()).collect();
    let (from, to) = (Level::Unknown, Level::Trusted);
    Preview {
        nodes: 9,
        changes: vec![LevelChange { pool: "default".parse().unwrap(), from, to, count: nodes.len(), nodes }],
    }
}

fn shown(at: Timestamp) -> Shown {
    Shown { at, change: "this".to_owned(), preview: raising(&["n1"]) }
}

#[test]
fn only_what_was_shown_can_be_confirmed_and_only_for_a_while() {
    let previews = Previews::default();
    previews.keep("id".to_owned(), shown(NOW));
    assert_eq!(previews.find("id", "this", NOW.plus(VALID_FOR - Duration::from_millis(1))), Ok(raising(&["n1"])));
    assert!(previews.find("id", "this", NOW.plus(VALID_FOR)).unwrap_err().contains("expired"));
    assert!(previews.find("id", "this", Timestamp(NOW.0 - 1)).unwrap_err().contains("expired"), "the clock went back");
    assert!(previews.find("id", "another", NOW).unwrap_err().contains("another change"));
    assert!(previews.find("guess", "this", NOW).is_err());
    previews.spend("id");
    assert!(previews.find("id", "this", NOW).is_err(), "confirmed once is used up");
}

#[test]
fn previews_are_bounded_and_the_oldest_go_first() {
    let previews = Previews::default();
    for index in 0..3 * MOST_PREVIEWS {
        previews.keep(format!("id{index}"), shown(NOW.plus(Duration::from_millis(index as u64))));
    }
    assert_eq!(previews.0.lock().unwrap().len(), MOST_PREVIEWS);
    let now = NOW.plus(Duration::from_secs(1));
    assert!(previews.find("id0", "this", now).is_err());
    assert!(previews.find(&format!("id{}", 3 * MOST_PREVIEWS - 1), "this", now).is_ok());
}

#[test]
fn an_id_stands_for_the_change_and_for_those_it_raises() {
    let id = id_of("change", &raising(&["n1"]));
    assert_eq!(id, id_of("change", &raising(&["n1"])));
    assert_ne!(id, id_of("other", &raising(&["n1"])));
    assert_ne!(id, id_of("change", &raising(&["n2"])));
    assert_ne!(id, id_of("change", &raising(&[])));
    let mut lowering_too = raising(&["n1"]);
    let lowered = LevelChange { from: Level::Trusted, to: Level::Unknown, ..lowering_too.changes[0].clone() };
    lowering_too.changes.push(lowered);
    assert_eq!(id, id_of("change", &lowering_too), "who is lowered needs no consent");
}

#[test]
fn a_refusal_names_the_first_and_says_how_many() {
    let names: Vec<String> = (0..7).map(|n| format!("n{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let told = raised_in_words(&raising(&names));
    assert_eq!(told, "Of 9 nodes it would raise in pool default 7 from unknown to trusted (n0, n1, n2, n3, n4, ...).");
    assert!(raised_in_words(&Preview { nodes: 3, changes: vec![] }).contains("none would be raised"));
}
