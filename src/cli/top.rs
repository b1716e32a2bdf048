//! `spicectl top`: trust, runs and results as they change. Asks both roles every few seconds; what it shows of the past is what it saw.

mod draw;
mod view;

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use crossterm::event::{Event, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use futures_util::StreamExt;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::widgets::Widget;
use serde_json::{Value, json};

use crate::cli::connection::{ConnectionArgs, Session, with_session};
use crate::cli::error::{CliError, Exit};
use crate::cli::findings::{Answers, PoolFile};
use crate::cli::output::print;
use crate::clock::SystemClock;
use crate::rpc::table::Topic;
use view::{Look, View};

/// How long a role may take to answer; the view says then that it does not.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most nodes asked for at each level.
const WORST: usize = 50;
/// Between the two looks of `--once`, from which it knows how many results come.
const BETWEEN: Duration = Duration::from_secs(1);

/// `top`.
#[derive(Debug, Args)]
#[command(after_help = "\
q, Esc or Ctrl-C ends it. NO_COLOR=1 shows it without colours.
Example: one picture, for a script or a ticket:
  spicectl top --once")]
pub struct TopCommand {
    /// Look every so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    interval: u64,
    /// Print one picture and end
    #[arg(long)]
    once: bool,
    /// The picture's width for --once [default: the terminal's, else 80]
    #[arg(long, value_name = "COLUMNS", requires = "once", value_parser = clap::value_parser!(u16).range(40..=500))]
    width: Option<u16>,
    /// The picture's height for --once
    #[arg(long, value_name = "ROWS", requires = "once", default_value_t = 24, value_parser = clap::value_parser!(u16).range(10..=200))]
    height: u16,
}

impl TopCommand {
    /// Shows the view until the user has enough.
    ///
    /// # Errors
    /// There is no terminal, or the broker is not reached at first; what goes wrong later is shown.
    pub async fn carry_out(self, connection: &ConnectionArgs) -> Result<Exit, CliError> {
        let on_a_terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
        if !self.once && !on_a_terminal {
            return Err(CliError::local("there is no terminal to show this in").hint("use --once for one picture"));
        }
        let (settings, _) = connection.settings()?;
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let view = View::new(settings.deployment.to_string(), Duration::from_secs(self.interval), colours);
        let folder = settings.pool.run_dir;
        with_session(connection, async |session| {
            let look = async || look(session, PoolFile::of(&folder)).await;
            match self.once {
                true => self.once(view, look).await,
                false => self.live(view, look).await,
            }
        })
        .await
    }

    async fn once(&self, mut view: View, look: impl AsyncFn() -> Look) -> Result<Exit, CliError> {
        view.take(look().await);
        tokio::time::sleep(BETWEEN).await;
        view.take(look().await);
        let width = self.width.or_else(|| Some(crossterm::terminal::size().ok()?.0)).unwrap_or(80).max(40);
        let area = Rect::new(0, 0, width, self.height);
        let mut buffer = Buffer::empty(area);
        (&view).render(area, &mut buffer);
        print(&draw::plain(&buffer))?;
        Ok(view.silent().unwrap_or(Exit::Done))
    }

    async fn live(&self, mut view: View, look: impl AsyncFn() -> Look) -> Result<Exit, CliError> {
        let told = |error: std::io::Error| CliError::local(format!("the terminal cannot be used: {error}"));
        let mut terminal = ratatui::try_init().map_err(told)?;
        // However this ends, the terminal is given back as it was; a panic does so by ratatui's own hook.
        let _restored = Restored;
        let mut events = EventStream::new();
        let interval = Duration::from_secs(self.interval);
        let pause = std::cell::Cell::new(Duration::ZERO);
        let next = async || {
            tokio::time::sleep(pause.replace(interval)).await;
            look().await
        };
        let mut looking = Box::pin(next());
        loop {
            terminal.draw(|frame| frame.render_widget(&view, frame.area())).map_err(told)?;
            tokio::select! {
                found = &mut looking => {
                    view.take(found);
                    looking = Box::pin(next());
                }
                event = events.next() => match event {
                    Some(Ok(Event::Key(key))) if is_end(&key) => return Ok(Exit::Done),
                    // Whatever else happened, above all another size: the picture is drawn again.
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(told(error)),
                    None => return Ok(Exit::Done),
                },
            }
        }
    }
}

/// Gives the terminal back.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn is_end(key: &KeyEvent) -> bool {
    let interrupt = key.modifiers.contains(KeyModifiers::CONTROL) && matches!(key.code, KeyCode::Char('c' | 'd'));
    key.kind == KeyEventKind::Press && (interrupt || matches!(key.code, KeyCode::Char('q' | 'Q') | KeyCode::Esc))
}

async fn look(session: &Session, pool_file: Option<PoolFile>) -> Look {
    let nodes_at = async |level: &str| -> Vec<Value> {
        let args = json!({ "level": level, "limit": WORST });
        let nodes = session.call(Topic::Nodes, "node_list", args, PATIENCE).await;
        nodes.ok().and_then(|nodes| nodes.as_array().cloned()).unwrap_or_default()
    };
    let (answers, untrusted, unknown) =
        tokio::join!(Answers::ask(session, PATIENCE, pool_file), nodes_at("untrusted"), nodes_at("unknown"));
    let worst = untrusted.into_iter().chain(unknown).collect();
    Look { answers, worst, at: SystemClock::shared().now(), taken: tokio::time::Instant::now() }
}

#[cfg(test)]
#[path = "top/tests.rs"]
mod tests;
