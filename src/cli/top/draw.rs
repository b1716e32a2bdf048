//! The picture. It fits 80 columns and 24 rows; what does not fit a smaller terminal is left out from the bottom.

use std::collections::VecDeque;

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Sparkline, Widget};
use serde_json::Value;

use super::view::{Look, View, count, text};
use crate::cli::findings::{About, verdict};
use crate::cli::show::span;

/// Most lines for what is wrong, and for pools.
const MOST: (usize, usize) = (4, 6);
/// Columns of a pool's words, before its picture.
const POOL_WORDS: u16 = 60;

/// The text of a picture, without colours and without the blanks at the ends of lines.
pub fn plain(buffer: &Buffer) -> String {
    let mut lines = String::new();
    for y in buffer.area.top()..buffer.area.bottom() {
        let line: String = (buffer.area.left()..buffer.area.right())
            .filter_map(|x| buffer.cell((x, y)).map(ratatui::buffer::Cell::symbol))
            .collect();
        lines.push_str(line.trim_end());
        lines.push('\n');
    }
    let end = lines.trim_end().len();
    lines.truncate(end);
    lines + "\n"
}

impl Widget for &View {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let Some(look) = &self.last else {
            return Paragraph::new(format!("SPICE {}: asking both roles ...", self.deployment)).render(area, buffer);
        };
        let rows = |lines: usize, most: usize| u16::try_from(lines.min(most)).unwrap_or(0);
        let [title, wrong, pools, results, rest] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(1 + rows(self.findings.len(), MOST.0)),
            Constraint::Length(1 + rows(self.trust.len().max(1), MOST.1)),
            Constraint::Length(2),
            Constraint::Fill(1),
        ])
        .areas(area);
        self.title(look, title, buffer);
        self.wrong(wrong, buffer);
        self.pools(look, pools, buffer);
        self.results(look, results, buffer);
        let [runs, worst] = Layout::vertical([Constraint::Fill(1), Constraint::Fill(1)]).areas(rest);
        self.runs(look, runs, buffer);
        self.worst(look, worst, buffer);
    }
}

impl View {
    fn style(&self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    fn heading(&self, text: &str, area: Rect, buffer: &mut Buffer) {
        let style = if self.colours { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        buffer.set_style(Rect { height: area.height.min(1), ..area }, style);
        line(area, 0, text, style, buffer);
    }

    fn title(&self, look: &Look, area: Rect, buffer: &mut Buffer) {
        let at = look.at.to_utc().map(|at| at.format("%H:%M:%S UTC").to_string()).unwrap_or_default();
        let keys = format!("every {}s, q ends ", self.interval.as_secs());
        self.heading(&format!("SPICE {}  {at}", self.deployment), area, buffer);
        let wide = u16::try_from(keys.len()).unwrap_or(0);
        if area.height > 0 && area.width > wide + 40 {
            buffer.set_string(area.right() - wide, area.y, &keys, Style::new());
        }
    }

    fn wrong(&self, area: Rect, buffer: &mut Buffer) {
        let worst = self.findings.first().map(|finding| finding.about);
        let colour = |about| match about {
            Some(About::Service) => Color::Red,
            Some(About::Hosts) => Color::Yellow,
            Some(About::Note) => Color::Cyan,
            None => Color::Green,
        };
        let mut lines = vec![Line::styled(verdict(&self.findings), self.style(colour(worst)))];
        for finding in &self.findings {
            let text = format!("{}: {}", finding.about.label(), finding.text);
            lines.push(Line::styled(text, self.style(colour(Some(finding.about)))));
        }
        Paragraph::new(lines).render(area, buffer);
    }

    fn pools(&self, look: &Look, area: Rect, buffer: &mut Buffer) {
        let words = "POOL            MODE     TRUSTED UNTRUST UNKNOWN  OLDEST";
        self.heading(&format!("{words:<width$}TRUSTED OVER TIME", width = usize::from(POOL_WORDS)), area, buffer);
        let pools = look.answers.nodes.as_ref().ok().and_then(|nodes| nodes.get("pools")?.as_array());
        let Some(pools) = pools else {
            return line(area, 1, "role nodes does not answer", self.style(Color::Red), buffer);
        };
        for (pool, y) in pools.iter().zip(1..area.height) {
            let oldest = pool.get("oldest_evidence_s").and_then(Value::as_u64).map(span).unwrap_or_default();
            let words = format!(
                "{:<15.15} {:<8.8} {:>7} {:>7} {:>7} {:>7}",
                text(pool, "name"),
                text(pool, "mode"),
                count(pool, "trusted"),
                count(pool, "untrusted"),
                count(pool, "unknown"),
                oldest,
            );
            let well = count(pool, "untrusted") + count(pool, "expiring") == 0;
            line(area, y, &words, self.style(if well { Color::Reset } else { Color::Yellow }), buffer);
            if let Some(series) = self.trust.get(&text(pool, "name")) {
                self.curve(series, 1000, right_of(area, POOL_WORDS, y), buffer);
            }
        }
    }

    /// The end of a series as far as it fits.
    fn curve(&self, series: &VecDeque<u64>, max: u64, area: Rect, buffer: &mut Buffer) {
        let fits = series.len().saturating_sub(usize::from(area.width));
        let shown: Vec<u64> = series.iter().skip(fits).copied().collect();
        Sparkline::default().data(shown).max(max.max(1)).style(self.style(Color::Green)).render(area, buffer);
    }

    fn results(&self, look: &Look, area: Rect, buffer: &mut Buffer) {
        let words = match (self.rates.back(), self.by_status.is_empty()) {
            (Some(rate), false) => {
                let by: Vec<String> = ["pass", "fail", "error", "timeout"]
                    .iter()
                    .map(|status| format!("{status} {:.1}", self.by_status.get(*status).copied().unwrap_or(0.0)))
                    .collect();
                format!("RESULTS/S {rate:>6}  {}", by.join("  "))
            }
            _ => "RESULTS/S not known yet".to_owned(),
        };
        line(area, 0, &words, Style::new().add_modifier(Modifier::BOLD), buffer);
        let most = self.rates.iter().copied().max().unwrap_or(0);
        self.curve(&self.rates, most, right_of(area, POOL_WORDS, 0), buffer);
        let checks = match &look.answers.checks {
            Err(_) => "role checks does not answer".to_owned(),
            Ok(checks) => {
                let behind = checks.get("behind").and_then(Value::as_object).into_iter().flatten();
                let behind: Vec<String> =
                    behind.map(|(check, by)| format!("{check} +{}", span(by.as_u64().unwrap_or(0)))).collect();
                let behind = if behind.is_empty() { "none".to_owned() } else { behind.join(", ") };
                format!("AWAITED {}  LATE {}  BEHIND {behind}", count(checks, "outstanding"), count(checks, "late"))
            }
        };
        line(area, 1, &checks, Style::new(), buffer);
    }

    fn runs(&self, look: &Look, area: Rect, buffer: &mut Buffer) {
        self.heading("RUN OF CHECK           STARTED           DONE  OUTCOMES", area, buffer);
        for (run, y) in look.answers.runs.iter().zip(1..area.height) {
            let outcomes = run.get("outcomes").and_then(Value::as_object).into_iter().flatten();
            let outcomes: Vec<String> = outcomes.map(|(status, count)| format!("{status} {count}")).collect();
            let bad = ["fail", "error", "timeout"].iter().any(|bad| run.pointer(&format!("/outcomes/{bad}")).is_some());
            let started = text(run, "started_at");
            let words = format!(
                "{:<22.22} {:<8.8} {:>13}  {}",
                text(run, "check"),
                started.get(11..19).unwrap_or(&started),
                format!("{}/{}", count(run, "done"), count(run, "nodes")),
                outcomes.join(" "),
            );
            line(area, y, &words, self.style(if bad { Color::Yellow } else { Color::Reset }), buffer);
        }
    }

    fn worst(&self, look: &Look, area: Rect, buffer: &mut Buffer) {
        self.heading("NODE                   LEVEL      WHY (pool default)", area, buffer);
        if look.worst.is_empty() {
            line(area, 1, "every node is trusted, or there is none", Style::new(), buffer);
        }
        for (node, y) in look.worst.iter().zip(1..area.height) {
            let colour = if text(node, "trust") == "untrusted" { Color::Red } else { Color::Yellow };
            let words = Line::from(vec![
                Span::raw(format!("{:<22.22} ", text(node, "name"))),
                Span::styled(format!("{:<10.10} ", text(node, "trust")), self.style(colour)),
                Span::raw(text(node, "reason")),
            ]);
            words.render(Rect { y: area.y + y, height: 1, ..area }, buffer);
        }
    }
}

fn line(area: Rect, y: u16, text: &str, style: Style, buffer: &mut Buffer) {
    if y < area.height {
        buffer.set_stringn(area.x, area.y + y, text, usize::from(area.width), style);
    }
}

fn right_of(area: Rect, columns: u16, y: u16) -> Rect {
    let columns = columns.min(area.width);
    Rect {
        x: area.x + columns,
        y: area.y + y,
        width: area.width - columns,
        height: 1.min(area.height.saturating_sub(y)),
    }
}
