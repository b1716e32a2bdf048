//! One failure at a time, and when it was handed to the bus, while passes come in the background at a steady rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{BATCH, Cloud, Maker};

/// In the background one node of each batch fails, always one whose number ends with this; the others only pass, and
/// whoever measures picks from them.
const DIGIT: usize = 9;

/// Results that come all the time.
pub(super) struct Background {
    begun: Instant,
    enough: Arc<AtomicBool>,
    sending: JoinHandle<anyhow::Result<u64>>,
}

impl Cloud {
    /// From now on `rate` results a second, in batches of 200, over all nodes again and again.
    pub(super) fn begin_background(&mut self, rate: u64) -> Value {
        let enough = Arc::new(AtomicBool::new(false));
        let sending = tokio::spawn(send(Arc::clone(&self.maker), rate, Arc::clone(&enough)));
        self.background = Some(Background { begun: Instant::now(), enough, sending });
        json!({ "rate": rate })
    }

    /// No more of that; says how many there were, and in what time.
    pub(super) async fn end_background(&mut self) -> anyhow::Result<Value> {
        let Background { begun, enough, sending } = self.background.take().context("nothing was begun")?;
        enough.store(true, Ordering::Relaxed);
        let seconds = begun.elapsed().as_secs_f64();
        Ok(json!({ "sent": sending.await??, "seconds": seconds }))
    }

    /// Hands over the failure of one node, alone in the latest run; says when, in ns of `CLOCK_MONOTONIC`: just before it went
    /// to the bus, and when the broker had it.
    pub(super) async fn fail(&self, node: u64) -> anyhow::Result<Value> {
        let node = self.maker.nodes.get(usize::try_from(node)?).context("there is no such node")?;
        let order = self.maker.next_run();
        let published = monotonic_ns();
        self.maker.hand_over(order, 1, std::slice::from_ref(node), 0).await?;
        Ok(json!({ "published_ns": published, "confirmed_ns": monotonic_ns() }))
    }
}

async fn send(maker: Arc<Maker>, rate: u64, enough: Arc<AtomicBool>) -> anyhow::Result<u64> {
    let pause = Duration::from_secs_f64(BATCH as f64 / rate.max(1) as f64);
    let mut ticks = tokio::time::interval(pause);
    let mut sent = 0;
    loop {
        let order = maker.next_run();
        let failing = (usize::try_from(order.run)? * 10 + DIGIT) % BATCH;
        for (index, nodes) in maker.nodes.chunks(BATCH).enumerate() {
            ticks.tick().await;
            if enough.load(Ordering::Relaxed) {
                return Ok(sent);
            }
            maker.hand_over(order, index as i64 + 1, nodes, failing).await?;
            sent += nodes.len() as u64;
        }
    }
}

fn monotonic_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}
