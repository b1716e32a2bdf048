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

fn matcher(targets: &Targets) -> TargetMatcher {
    TargetMatcher::new(targets).unwrap()
}

fn placed(aggregates: &[&str], zone: Option<&str>) -> Placement {
    Placement { aggregates: aggregates.iter().map(|name| (*name).to_owned()).collect(), zone: zone.map(str::to_owned) }
}

#[test]
fn aggregates_and_zones_are_matched_by_globs_whatever_they_are_called() {
    let targets: Targets =
        serde_json::from_value(serde_json::json!({ "aggregates": ["gpu-*", "rack 7/a"], "zones": ["eu-?"] })).unwrap();
    let matcher = matcher(&targets);
    let matches = |placement: Placement| matcher.matches(&node("n1"), &BTreeMap::new(), &placement);
    assert!(matches(placed(&["other", "gpu-large"], None)) && matches(placed(&["rack 7/a"], Some("us"))));
    assert!(matches(placed(&[], Some("eu-1"))));
    assert!(
        !matches(placed(&["GPU-large", "rack 7", "eu-1"], Some("gpu-large"))),
        "each kind is compared with its own"
    );
    assert!(!matches(placed(&[], Some("eu-12"))) && !matches(Placement::default()));
    let by_name = TargetMatcher::new(&patterns(&["eu-1"])).unwrap();
    assert!(!by_name.matches(&node("n1"), &BTreeMap::new(), &placed(&["eu-1"], Some("eu-1"))));
}

#[test]
fn globs_of_aggregates_that_no_name_can_match_are_refused() {
    for bad in ["", "[", "a\\*", "\u{202e}x", "a\nb", &"x".repeat(256)] {
        let targets = Targets { aggregates: [bad.to_owned()].into(), ..Targets::default() };
        let error = targets.validate().expect_err(bad).to_string();
        assert!(error.contains("wildcards") && !error.contains('\u{202e}'), "{error}");
        let targets = Targets { zones: [bad.to_owned()].into(), ..Targets::default() };
        assert!(targets.validate().is_err(), "{bad:?}");
    }
}

#[test]
fn empty_targets_match_nobody() {
    assert!(!matcher(&Targets::default()).matches(&node("n1"), &labels(&[("a", "b")]), &Placement::default()));
}

#[test]
fn any_list_that_matches_is_enough() {
    let targets = Targets {
        nodes: [node("n1")].into(),
        patterns: ["gpu-*".to_owned()].into(),
        labels: labels(&[("zone", "a"), ("tier", "1")]),
        ..Targets::default()
    };
    let matcher = matcher(&targets);
    let matches =
        |name: &str, pairs: &[(&str, &str)]| matcher.matches(&node(name), &labels(pairs), &Placement::default());
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
    let matcher = matcher(&targets);
    let matches = |name: &str| matcher.matches(&node(name), &BTreeMap::new(), &Placement::default());
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
