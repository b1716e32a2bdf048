//! `spicectl audit`: the record of trust and the record of changed definitions, verified, exported, shown.

mod verify;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::chain::{Head, Link};
use crate::cli::connection::{ConnectionArgs, Session, with_session};
use crate::cli::error::{CliError, Exit, unexpected};
use crate::cli::output::{Field, OutputArgs, field, print};
use crate::cli::values;
use crate::clock::Timestamp;
use crate::names::NodeName;
use crate::rpc::table::Topic;

/// The record of trust and the record of changes.
#[derive(Debug, Args)]
pub struct AuditCommand {
    #[command(flatten)]
    output: OutputArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Verifies that nothing in the records was changed, put in or taken out
    #[command(after_help = "\
Every hash and every link is followed, and the end compared with the head that the service signs. The exit code is 2 where a
record is broken. Who can write to the database can also make a whole new record: note the heads shown here elsewhere, and have
them looked for later.
Example: the records of the service, which must contain a head noted a month ago:
  spicectl audit verify --expect 1402:5f8c0e
Example: a backup of the database of Nodes, without a service:
  spicectl audit verify --database /backup/spice-nodes.sqlite")]
    Verify {
        /// Verify this SQLite file of Nodes or Checks instead of asking the service
        #[arg(long, value_name = "FILE")]
        database: Option<PathBuf>,
        /// A head of the record of trust noted earlier, NUMBER:HASH; the beginning of the hash will do
        #[arg(long, value_name = "NUMBER:HASH", value_parser = verify::expected)]
        expect: Option<Head>,
    },
    /// Writes the record of trust as JSON lines, oldest first, each with its hash
    #[command(
        after_help = "Example:\n  spicectl audit export --node compute-1 --since 2026-11-01 --output record.jsonl"
    )]
    Export {
        /// Only of this node
        #[arg(long)]
        node: Option<NodeName>,
        /// Not before: 2026-11-22T02:30:00+01:00, or "2026-11-22 02:30" in UTC
        #[arg(long, value_name = "TIME", value_parser = values::time)]
        since: Option<Timestamp>,
        /// Not after
        #[arg(long, value_name = "TIME", value_parser = values::time)]
        until: Option<Timestamp>,
        /// The record of changed checks, profiles, pools and windows instead
        #[arg(long, conflicts_with = "node")]
        definitions: bool,
        /// Write to this file instead of standard output
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Lists who changed which check, profile, pool or window
    #[command(after_help = "Example:\n  spicectl audit list -f json")]
    List {
        /// At most so many, the latest
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
}

const CHANGES: &[Field] = &[
    field("at"),
    field("sender"),
    field("action"),
    field("kind"),
    field("name"),
    field("changes"),
    field("policy"),
    field("confirmed"),
];

/// Where a record is asked for.
const RECORDS: [(&str, Topic, &str); 2] =
    [("trust", Topic::Nodes, "record_list"), ("definitions", Topic::Checks, "audit_list")];

impl AuditCommand {
    /// Carries the command out.
    ///
    /// # Errors
    /// What is at fault here, what the service says, or where a record is broken.
    pub async fn carry_out(self, connection: &ConnectionArgs) -> Result<Exit, CliError> {
        let Self { output, verb } = self;
        if let Verb::Verify { database: Some(file), expect } = &verb {
            return verify::file(file, expect.as_ref(), &output).await;
        }
        with_session(connection, async |session| verb.carry_out(session, &output).await).await
    }
}

impl Verb {
    async fn carry_out(self, session: &Session, output: &OutputArgs) -> Result<Exit, CliError> {
        match self {
            Self::Verify { expect, .. } => verify::service(session, expect.as_ref(), output).await,
            Self::Export { node, since, until, definitions, output: file } => {
                let (_, topic, method) = RECORDS[usize::from(definitions)];
                let mut out: Box<dyn Write> = match &file {
                    Some(file) => Box::new(std::io::BufWriter::new(File::create(file).map_err(|e| cannot(file, &e))?)),
                    None => Box::new(Printed),
                };
                let shown = file.unwrap_or_else(|| "standard output".into());
                let mut filter = match definitions {
                    true => json!({}),
                    false => json!({ "node": node, "since": since, "until": until }),
                };
                loop {
                    let (links, _) = page(session, topic, method, &mut filter).await?;
                    if links.is_empty() {
                        break;
                    }
                    for link in &links {
                        if !within(link, since, until) {
                            continue;
                        }
                        writeln!(out, "{}", line(link)).map_err(|error| cannot(&shown, &error))?;
                    }
                }
                out.flush().map_err(|error| cannot(&shown, &error))?;
                Ok(Exit::Done)
            }
            Self::List { limit } => {
                let (_, topic, method) = RECORDS[1];
                let (_, head) = page(session, topic, method, &mut json!({ "limit": 1 })).await?;
                let skipped = head.seq.saturating_sub(i64::try_from(limit).unwrap_or(i64::MAX)).max(0);
                let mut filter = json!({ "after": skipped });
                let mut rows = Vec::new();
                loop {
                    let (links, _) = page(session, topic, method, &mut filter).await?;
                    if links.is_empty() {
                        break;
                    }
                    rows.extend(links.iter().map(change));
                }
                rows.reverse();
                output.list(&Value::Array(rows), CHANGES)?;
                Ok(Exit::Done)
            }
        }
    }
}

/// Standard output, with a reader that may have seen enough.
struct Printed;

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        print(&String::from_utf8_lossy(bytes)).map_err(|error| std::io::Error::other(error.message))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn cannot(file: &Path, error: &std::io::Error) -> CliError {
    CliError::local(format!("{} cannot be written: {error}", file.display()))
}

fn within(link: &Link, since: Option<Timestamp>, until: Option<Timestamp>) -> bool {
    since.is_none_or(|since| link.at >= since.0) && until.is_none_or(|until| link.at <= until.0)
}

/// A line of the export: the entry as it was hashed, with its hash and its time in words.
fn line(link: &Link) -> Value {
    let mut entry: Value = serde_json::from_str(&link.text).unwrap_or_else(|_| json!({ "unreadable": link.text }));
    entry["hash"] = json!(link.hash);
    entry["time"] = json!(Timestamp(link.at).to_string());
    entry
}

fn change(link: &Link) -> Value {
    let mut entry = line(link);
    entry["at"] = json!(Timestamp(link.at).to_string());
    if let Some(changes) = entry.get("changes").and_then(Value::as_object) {
        let told = changes.iter().map(|(name, pair)| {
            let of = |index: usize| pair.get(index).cloned().unwrap_or_default();
            (name.clone(), Value::String(format!("{} -> {}", of(0), of(1))))
        });
        entry["changes"] = Value::Object(told.collect());
    }
    entry
}

/// The next page, and where the record ends. `filter` goes on behind it.
async fn page(
    session: &Session,
    topic: Topic,
    method: &str,
    filter: &mut Value,
) -> Result<(Vec<Link>, Head), CliError> {
    let answer = match topic {
        Topic::Nodes => session.nodes(method, filter.clone()).await?,
        _ => session.checks(method, filter.clone()).await?,
    };
    let part = |name: &str| answer.get(name).cloned().unwrap_or_default();
    let links: Vec<Link> = serde_json::from_value(part("entries")).map_err(|_| unexpected("record"))?;
    let head: Head = serde_json::from_value(part("head")).map_err(|_| unexpected("head of the record"))?;
    let before = filter.get("after").and_then(Value::as_i64).unwrap_or(0);
    if let Some(last) = links.last() {
        // A service that does not go on would be asked for ever.
        if last.seq <= before {
            return Err(unexpected("further entries"));
        }
        filter["after"] = json!(last.seq);
    }
    Ok((links, head))
}
