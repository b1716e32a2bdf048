//! The Rust half of `tools/bench bus`, `results`, `latency` and `engine`: a peer that serves, calls and notifies, a cloud's worth of results, and an
//! administrator with an adapter.
//!
//! As the programs do it: a server like `spiced` has a thread for each processor, a client like `spicectl` has one.
//!
//! It is driven by JSON lines on standard input and answers with one line each; it ends with its input.

mod engine;
mod results;
mod rpc;

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::sync::mpsc;

/// Says something to whoever drives this process.
fn say(line: &Value) {
    println!("{line}");
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut runtime = match arguments.first().map(String::as_str) {
        Some("client") => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    runtime.enable_all().build()?.block_on(obey(&arguments))
}

async fn obey(arguments: &[String]) -> anyhow::Result<()> {
    let [part, url, rest @ ..] = arguments else {
        bail!(
            "usage: bench_peer serve|client URL | bench_peer results URL STATE_DIR NODES | bench_peer engine URL STATE_DIR"
        );
    };
    let (reader, mut commands) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if reader.blocking_send(line).is_err() {
                return;
            }
        }
    });
    let mut peer: Box<dyn Peer> = match part.as_str() {
        "serve" => Box::new(rpc::Served::start(url).await?),
        "client" => Box::new(rpc::Caller::start(url).await?),
        "engine" => Box::new(engine::Operator::start(url, rest).await?),
        "results" => Box::new(results::Cloud::start(url, rest).await?),
        other => bail!("there is no {other}"),
    };
    say(&serde_json::json!({ "ready": true }));
    while let Some(line) = commands.recv().await {
        let command = serde_json::from_str(&line).with_context(|| format!("not a command: {line}"))?;
        say(&peer.obey(command).await?);
    }
    Ok(())
}

/// What carries commands out.
#[async_trait::async_trait]
trait Peer {
    async fn obey(&mut self, command: Value) -> anyhow::Result<Value>;
}
