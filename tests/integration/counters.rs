//! What the bus counts, as an operator's Prometheus would see it. Tests share the counters of one process: they may ask for more than before.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

fn recorder() -> &'static PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER.get_or_init(|| PrometheusBuilder::new().install_recorder().unwrap())
}

/// To be called before what is to be counted.
pub fn start() {
    recorder();
}

/// The sum of all series `name` that have all of `labels`, such as `reason="cut"`.
pub fn counted(name: &str, labels: &[&str]) -> f64 {
    let text = recorder().render();
    let series = text.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    });
    series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
