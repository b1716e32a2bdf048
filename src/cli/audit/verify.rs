//! `spicectl audit verify`.

use std::path::Path;

use serde_json::{Value, json};

use super::{RECORDS, page};
use crate::chain::{Break, Head, Link, Verifier};
use crate::cli::connection::Session;
use crate::cli::error::{CliError, Exit};
use crate::cli::output::{Field, OutputArgs, field};
use crate::cli::progress::Progress;
use crate::nodes::record::RecordFilter;
use crate::rpc::table::Topic;
use crate::store::Database;

const VERIFIED: &[Field] = &[field("record"), field("entries"), field("head"), field("verdict")];

/// NUMBER:HASH, a head that was noted.
///
/// # Errors
/// A sentence where it is none.
pub fn expected(text: &str) -> Result<Head, String> {
    let no_head = || "write NUMBER:HASH as `audit verify` shows them".to_owned();
    let (seq, hash) = text.split_once(':').ok_or_else(no_head)?;
    let seq = seq.parse().ok().filter(|seq| *seq > 0).ok_or_else(no_head)?;
    let hex = !hash.is_empty() && hash.len() <= 64 && hash.chars().all(|c| c.is_ascii_hexdigit());
    hex.then(|| Head { seq, hash: hash.to_ascii_lowercase() }).ok_or_else(no_head)
}

/// How far a record was followed, and whether a head noted earlier was met.
struct Followed<'a> {
    verifier: Verifier,
    expect: Option<&'a Head>,
}

impl<'a> Followed<'a> {
    fn new(expect: Option<&'a Head>) -> Self {
        Self { verifier: Verifier::default(), expect }
    }

    fn follow(&mut self, link: &Link) -> Result<(), Break> {
        self.verifier.follow(link)?;
        match self.expect {
            Some(expect) if expect.seq == link.seq && !link.hash.starts_with(&expect.hash) => {
                let what = format!("it is not the one that was noted: its hash is {}", link.hash);
                Err(Break { seq: link.seq, what })
            }
            _ => Ok(()),
        }
    }

    /// `head`: what the service says is the end, which must be where this ends.
    fn end(self, head: Option<&Head>) -> Result<Head, Break> {
        let ours = self.verifier.head().clone();
        if let Some(expect) = self.expect.filter(|expect| expect.seq > ours.seq) {
            let what = format!("it was noted, but the record ends with entry {}", ours.seq);
            return Err(Break { seq: expect.seq, what });
        }
        match head {
            Some(head) if *head != ours => {
                let what = format!(
                    "the database ends with entry {} {}, the service says {} {}",
                    ours.seq, ours.hash, head.seq, head.hash
                );
                Err(Break { seq: ours.seq.min(head.seq).saturating_add(1), what })
            }
            _ => Ok(ours),
        }
    }
}

async fn one(
    session: &Session,
    record: &str,
    topic: Topic,
    method: &str,
    expect: Option<&Head>,
) -> Result<Result<Head, Break>, CliError> {
    let mut followed = Followed::new(expect);
    let mut filter = json!({});
    let mut progress = Progress::new("audit verify");
    loop {
        let (links, head) = page(session, topic, method, &mut filter).await?;
        if links.is_empty() {
            // What there is was read after the head, so nothing can be missing behind it.
            return Ok(followed.end(Some(&head)));
        }
        for link in &links {
            if let Err(found) = followed.follow(link) {
                return Ok(Err(found));
            }
        }
        let done = followed.verifier.head().seq;
        progress.at(u64::try_from(done).unwrap_or(0), u64::try_from(head.seq.max(done)).unwrap_or(0), record);
    }
}

/// Verifies the records of the service.
///
/// # Errors
/// What the service says, or where a record is broken.
pub async fn service(session: &Session, expect: Option<&Head>, output: &OutputArgs) -> Result<Exit, CliError> {
    let mut rows = Vec::new();
    for (record, topic, method) in RECORDS {
        let expect = expect.filter(|_| topic == Topic::Nodes);
        rows.push(verdict(record, &one(session, record, topic, method, expect).await?));
    }
    conclude(rows, output)
}

/// Verifies what records an SQLite file has.
///
/// # Errors
/// A file that is none, or where a record is broken.
pub async fn file(file: &Path, expect: Option<&Head>, output: &OutputArgs) -> Result<Exit, CliError> {
    let at_fault = |error: crate::store::StoreError| CliError::local(format!("{}: {error}", file.display()));
    if !file.is_file() {
        return Err(CliError::local(format!("there is no file {}", file.display())));
    }
    let database = Database::open(&format!("sqlite://{}", file.display()), "").await.map_err(at_fault)?;
    let mut rows = Vec::new();
    for (record, ..) in RECORDS {
        let is_trust = record == "trust";
        let mut followed = Followed::new(expect.filter(|_| is_trust));
        let verified = loop {
            let after = followed.verifier.head().seq;
            let links = match is_trust {
                true => crate::nodes::record::links(&database, &after_entry(after)).await,
                false => crate::checks::audit::links(&database, after, i64::MAX).await,
            };
            let links = links.map_err(at_fault)?;
            if links.is_empty() {
                break followed.end(None);
            }
            if let Err(found) = links.iter().try_for_each(|link| followed.follow(link)) {
                break Err(found);
            }
        };
        // A role's database has an empty table for the record of the other one.
        if !matches!(&verified, Ok(head) if head.seq == 0) {
            rows.push(verdict(record, &verified));
        }
    }
    database.close().await;
    conclude(rows, output)
}

fn after_entry(seq: i64) -> RecordFilter {
    RecordFilter { after: seq, ..RecordFilter::default() }
}

fn verdict(record: &str, verified: &Result<Head, Break>) -> Value {
    match verified {
        Ok(head) => {
            json!({ "record": record, "entries": head.seq, "head": format!("{}:{}", head.seq, head.hash), "verdict": "intact" })
        }
        Err(found) => json!({ "record": record, "entries": found.seq - 1, "verdict": format!("BROKEN at {found}") }),
    }
}

fn conclude(rows: Vec<Value>, output: &OutputArgs) -> Result<Exit, CliError> {
    let broken = rows.iter().any(|row| row.get("verdict").and_then(Value::as_str) != Some("intact"));
    output.list(&Value::Array(rows), VERIFIED)?;
    if !broken {
        return Ok(Exit::Done);
    }
    Err(CliError {
        exit: Exit::Refused,
        message: "a record is not what was written; what stands before the entry named can be relied on".to_owned(),
        hint: Some("keep a copy of the database as it is, and find out who could write to it".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::chain::{BEGINNING, hash};

    fn first() -> Link {
        let text = json!({ "seq": 1, "at": 5, "previous": BEGINNING }).to_string();
        Link { seq: 1, node: None, at: 5, hash: hash(&text), text }
    }

    fn end(expect: Option<&Head>, head: Option<&Head>) -> Result<Head, Break> {
        let mut followed = Followed::new(expect);
        followed.follow(&first())?;
        followed.end(head)
    }

    #[test]
    fn a_head_that_was_noted_or_signed_has_to_be_met() {
        let hash = first().hash;
        let head = |seq: i64, hash: &str| Head { seq, hash: hash.to_owned() };
        assert!(end(Some(&head(1, &hash[..6])), Some(&head(1, &hash))).is_ok());
        assert!(end(Some(&head(1, "000000")), None).unwrap_err().what.contains("not the one that was noted"));
        assert!(end(Some(&head(9, "000000")), None).unwrap_err().what.contains("ends with entry 1"));
        assert!(end(None, Some(&head(1, BEGINNING))).unwrap_err().what.contains("the service says"));
        assert!(end(None, Some(&head(2, BEGINNING))).is_err(), "cut off at its end");
    }

    #[test]
    fn a_head_is_a_number_and_a_hash() {
        assert_eq!(expected("12:ABC").unwrap(), Head { seq: 12, hash: "abc".to_owned() });
        for wrong in ["12", "0:abc", ":abc", "12:", "12:xyz", "-1:abc"] {
            assert!(expected(wrong).is_err(), "{wrong}");
        }
    }
}
