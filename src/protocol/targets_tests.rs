#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn patterns(texts: &[&str]) -> Targets {
    Targets { patterns: texts.iter().map(|t| (*t).to_owned()).collect(), ..Targets::default() }
}

#[test]
fn empty_targets_match_nobody() {
    assert!(!Targets::default().matches(&node("n1"), &labels(&[("a", "b")])).unwrap());
}

#[test]
fn any_list_that_matches_is_enough() {
    let targets = Targets {
        nodes: [node("n1")].into(),
        patterns: ["gpu-*".to_owned()].into(),
        labels: labels(&[("zone", "a"), ("tier", "1")]),
        ..Targets::default()
    };
    let matches = |name: &str, pairs: &[(&str, &str)]| targets.matches(&node(name), &labels(pairs)).unwrap();
    assert!(matches("n1", &[]));
    assert!(matches("gpu-7.example.org", &[]));
    assert!(matches("x", &[("zone", "a"), ("tier", "1"), ("more", "")]));
    assert!(!matches("x", &[("zone", "a")]), "all labels are needed");
    assert!(!matches("x", &[("zone", "a"), ("tier", "2")]));
    assert!(!matches("N1", &[]) && !matches("GPU-7", &[]), "names are compared exactly");
}

#[test]
fn a_pattern_covers_the_whole_name() {
    let targets = patterns(&["compute-[0-9]", "kvm{1,2}"]);
    let matches = |name: &str| targets.matches(&node(name), &BTreeMap::new()).unwrap();
    assert!(matches("compute-3") && matches("kvm2"));
    assert!(!matches("compute-33") && !matches("xcompute-3") && !matches("kvm3"));
}

#[test]
fn patterns_no_name_can_match_are_refused_with_a_sentence() {
    for bad in ["", "a/b", "a b", "[", "{a", "a\\*", "\u{202e}x", "ä*", &"x".repeat(256)] {
        let error = patterns(&[bad]).validate().expect_err(bad).to_string();
        assert!(error.contains("wildcards") && !error.contains('\u{202e}'), "{error}");
    }
    let many: Vec<String> = (0..=MAX_PATTERNS).map(|i| format!("n{i}-*")).collect();
    let targets = Targets { patterns: many.into_iter().collect(), ..Targets::default() };
    assert_eq!(targets.validate(), Err(TargetsError::TooMany(MAX_PATTERNS + 1)));
}
