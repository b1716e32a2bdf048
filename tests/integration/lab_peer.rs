//! A process with the real oslo.messaging, driven from here.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::lab::{Oslo, PATIENCE, root};

/// A process with the real oslo.messaging; see `tests/python/oslo_peer.py`. Killed when dropped.
pub struct Peer {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    /// What its server or listener received and nobody has asked for yet.
    events: std::collections::VecDeque<Value>,
}

impl Peer {
    /// Starts the newest on any transport.
    pub async fn start(url: &str, options: &[&str]) -> Self {
        Self::start_as(Oslo::Newest, url, options).await
    }

    /// Starts a certain one on any transport.
    pub async fn start_as(oslo: Oslo, url: &str, options: &[&str]) -> Self {
        let python = oslo.python().await;
        let mut command = Command::new(python);
        command.arg(root().join("tests/python/oslo_peer.py")).args(["--url", url]).env("PYTHONWARNINGS", "ignore");
        for option in options {
            command.args(["--option", option]);
        }
        // A group of its own: use_queue_manager looks for the leader of its group, and ours may be gone.
        command.process_group(0).kill_on_drop(true);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the peer runs");
        let stdin = child.stdin.take().expect("stdin");
        let lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        let mut peer = Self { child, stdin, lines, events: std::collections::VecDeque::new() };
        assert_eq!(peer.answer().await["answer"], "ready");
        peer
    }

    /// Obeys one command and returns the line with its outcome, `answer` or `error`.
    pub async fn command(&mut self, command: Value) -> Value {
        self.send(command).await;
        self.answer().await
    }

    /// Gives a command without waiting for its outcome; [`Peer::answer`] does.
    pub async fn send(&mut self, command: Value) {
        self.stdin.write_all(format!("{command}\n").as_bytes()).await.expect("the peer listens");
        self.stdin.flush().await.expect("the peer listens");
    }

    /// The outcome of the oldest command still unanswered.
    pub async fn answer(&mut self) -> Value {
        loop {
            let line = self.line().await;
            if line.get("event").is_none() {
                return line;
            }
            self.events.push_back(line);
        }
    }

    /// The next thing its server or listener received.
    pub async fn event(&mut self) -> Value {
        if let Some(event) = self.events.pop_front() {
            return event;
        }
        let line = self.line().await;
        assert!(line.get("event").is_some(), "an event was expected, not {line}");
        line
    }

    /// Drops what its server or listener received and nobody asked for.
    pub fn forget_events(&mut self) {
        self.events.clear();
    }

    /// Like [`Peer::command`], for commands that must succeed.
    pub async fn succeed(&mut self, command: Value) -> Value {
        let mut line = self.command(command.clone()).await;
        assert!(line.get("error").is_none(), "{command}: {line}");
        line["answer"].take()
    }

    /// Its process id.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    async fn line(&mut self) -> Value {
        let line = tokio::time::timeout(2 * PATIENCE, self.lines.next_line()).await.expect("the peer speaks in time");
        serde_json::from_str(&line.expect("text").expect("the peer lives")).expect("JSON")
    }
}
