//! The picture on a terminal that is only in memory, and what it shows of the past.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;

use super::*;
use crate::clock::Timestamp;

fn looked(seconds: u64, start: tokio::time::Instant, passed: u64, trusted: u64) -> Look {
    let pool = json!({"name": "default", "mode": "enforce", "nodes": 100, "trusted": trusted, "untrusted": 100 - trusted,
                      "unknown": 0, "expiring": 0, "overridden": 0, "oldest_evidence_s": 75, "max_silence_s": 600});
    let nodes = json!({"epoch": 1, "policy_number": 3, "pools": [pool], "results": {"pass": passed, "fail": 4}});
    let checks =
        json!({"policy_number": 3, "adapters": {"command": 1}, "outstanding": 12, "late": 0, "behind": {"boot": 61}});
    let run = json!({"run": "1-1", "check": "boot", "started_at": "2026-11-22T04:11:31.637Z", "finished": true, "nodes": 100,
                     "done": 100, "outcomes": {"pass": trusted, "fail": 100 - trusted}});
    let worst = (trusted..100).map(|node| {
        json!({"name": format!("node-{node}"), "trust": "untrusted", "reason": "check boot failed: \u{1b}[31mred"})
    });
    let answers = Answers { checks: Ok(checks), nodes: Ok(nodes), runs: vec![run], pool_file: None };
    Look {
        answers,
        worst: worst.collect(),
        at: Timestamp(1_795_320_000_000),
        taken: start + Duration::from_secs(seconds),
    }
}

fn watched(colours: bool) -> View {
    let start = tokio::time::Instant::now();
    let mut view = View::new("cloud-1".to_owned(), Duration::from_secs(2), colours);
    for (second, trusted) in [(0, 100), (2, 100), (4, 50), (6, 98)] {
        view.take(looked(second, start, 1000 + second * 20, trusted));
    }
    view
}

fn drawn(view: &View, width: u16, height: u16) -> TestBackend {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| frame.render_widget(view, frame.area())).unwrap();
    terminal.backend().clone()
}

#[test]
fn eighty_columns_and_twenty_four_rows_show_everything() {
    let screen = draw::plain(drawn(&watched(false), 80, 24).buffer());
    for part in [
        "SPICE cloud-1",
        "q ends",
        "WARNING: check boot should have run 61s ago",
        "default         enforce       98       2       0     75s",
        "██▄▇",
        "RESULTS/S     20  pass 20.0  fail 0.0",
        "AWAITED 12  LATE 0  BEHIND boot +61s",
        "boot                   04:11:31       100/100  fail 2 pass 98",
        "node-98                untrusted  check boot failed",
    ] {
        assert!(screen.contains(part), "{part}\n{screen}");
    }
    assert!(screen.lines().count() <= 24 && screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
    assert!(!screen.contains('\u{1b}'), "what nodes say stays text: {screen}");
}

#[test]
fn any_size_can_be_drawn() {
    for (width, height) in [(1, 1), (10, 3), (40, 10), (79, 23), (300, 90)] {
        drawn(&watched(true), width, height);
        drawn(&View::new("c".to_owned(), Duration::from_secs(2), true), width, height);
    }
}

#[test]
fn without_colours_there_are_none() {
    let coloured = |view: &View| {
        drawn(view, 80, 24).buffer().content.iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
    };
    assert!(coloured(&watched(true)));
    assert!(!coloured(&watched(false)));
}

#[test]
fn a_restart_of_nodes_or_its_silence_invents_no_results() {
    let start = tokio::time::Instant::now();
    let mut view = watched(false);
    let known = view.rates.len();
    let mut restarted = looked(8, start, 5, 98);
    restarted.answers.nodes.as_mut().unwrap()["epoch"] = json!(2);
    view.take(restarted);
    assert_eq!(view.rates.len(), known);
    assert!(draw::plain(drawn(&view, 80, 24).buffer()).contains("RESULTS/S not known yet"));
    let mut silent = looked(10, start, 5, 98);
    silent.answers.nodes = Err(CliError::unavailable("x"));
    silent.answers.checks = Err(CliError::unavailable("x"));
    view.take(silent);
    let screen = draw::plain(drawn(&view, 80, 24).buffer());
    assert!(
        screen.contains("role nodes does not answer") && screen.contains("role checks does not answer"),
        "{screen}"
    );
    assert_eq!(view.silent(), Some(Exit::Unavailable));
}
