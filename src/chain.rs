//! A record that shows when it was tampered with: every entry's text holds the hash of the entry before it.
//!
//! Nothing can be changed, taken out or put in without changing all hashes after it, and with them the head, which the role
//! that owns the record says in signed messages. Who can write to the database can make another chain; only a head that was
//! noted elsewhere shows that.

use serde::{Deserialize, Serialize};

use crate::security::keys::sha256;

/// The head of an empty record.
pub const BEGINNING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The hash of an entry's text.
#[must_use]
pub fn hash(text: &str) -> String {
    hex::encode(sha256(text.as_bytes()))
}

/// An entry as it is stored: its text, and beside it what the database finds it by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Counts entries, from 1.
    pub seq: i64,
    /// What it is about, where rows are found by that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// When, in Unix milliseconds.
    pub at: i64,
    /// JSON.
    pub text: String,
    /// Of the text.
    pub hash: String,
}

/// The end of a record: how many entries, and the hash of the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// How many entries there are.
    pub seq: i64,
    /// The hash of the last one; [`BEGINNING`] where there is none.
    pub hash: String,
}

/// The first entry at which a record is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {seq}: {what}")]
pub struct Break {
    /// Which entry.
    pub seq: i64,
    /// What is wrong with it.
    pub what: String,
}

/// What every text holds, whatever else it says.
#[derive(Deserialize)]
struct Linked {
    seq: i64,
    at: i64,
    #[serde(default)]
    node: Option<String>,
    previous: String,
}

/// Follows a record from its beginning, entry by entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verifier {
    head: Head,
}

impl Default for Verifier {
    fn default() -> Self {
        Self { head: Head { seq: 0, hash: BEGINNING.to_owned() } }
    }
}

impl Verifier {
    /// Where the record ends, as far as it was followed.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Takes the next entry.
    ///
    /// # Errors
    /// [`Break`]; the record cannot be followed any further.
    pub fn follow(&mut self, link: &Link) -> Result<(), Break> {
        let expected = self.head.seq.saturating_add(1);
        let broken = |what: &str| Err(Break { seq: expected, what: what.to_owned() });
        if link.seq != expected {
            return broken(&format!("it is missing; the next one there is has the number {}", link.seq));
        }
        if hash(&link.text) != link.hash {
            return broken("its text was changed: it does not have the hash that is stored with it");
        }
        let Ok(linked) = serde_json::from_str::<Linked>(&link.text) else {
            return broken("its text cannot be read");
        };
        if linked.seq != link.seq {
            return broken(&format!("its text was written as entry {}", linked.seq));
        }
        if linked.previous != self.head.hash {
            return broken("it does not continue the entry before it: that one was changed, or put in or taken out");
        }
        if linked.at != link.at || (link.node.is_some() && linked.node != link.node) {
            return broken("node or time of its row are not those of its text, so searches pass it over");
        }
        self.head = Head { seq: link.seq, hash: link.hash.clone() };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    /// A record of `count` entries.
    fn chain(count: i64) -> Vec<Link> {
        let mut previous = BEGINNING.to_owned();
        let link = |seq: i64| {
            let text = serde_json::json!({
                "seq": seq, "at": seq * 10, "node": "n1", "cause": "test", "previous": previous,
            })
            .to_string();
            previous = hash(&text);
            Link { seq, node: Some("n1".to_owned()), at: seq * 10, hash: previous.clone(), text }
        };
        (1..=count).map(link).collect()
    }

    fn verified(links: &[Link]) -> Result<Head, Break> {
        let mut verifier = Verifier::default();
        links.iter().try_for_each(|link| verifier.follow(link))?;
        Ok(verifier.head().clone())
    }

    fn sealed(link: &mut Link) {
        link.hash = hash(&link.text);
    }

    #[test]
    fn an_untouched_record_leads_to_its_head() {
        let links = chain(5);
        assert_eq!(verified(&links).unwrap(), Head { seq: 5, hash: links[4].hash.clone() });
        assert_eq!(verified(&[]).unwrap().hash, BEGINNING);
    }

    #[test]
    fn every_way_of_tampering_is_found_at_its_entry() {
        type Case = (fn(&mut Vec<Link>), i64, &'static str);
        let cases: [Case; 9] = [
            (|links| links[2].text = links[2].text.replace("test", "lies"), 3, "was changed"),
            (|links| links[2].hash = BEGINNING.to_owned(), 3, "was changed"),
            (
                |links| {
                    links[2].text = links[2].text.replace("test", "lies");
                    sealed(&mut links[2]);
                },
                4,
                "does not continue",
            ),
            (|links| drop(links.remove(2)), 3, "is missing"),
            (|links| drop(links.remove(0)), 1, "is missing"),
            (
                |links| {
                    links.remove(2);
                    for link in &mut links[2..] {
                        link.seq -= 1;
                    }
                },
                3,
                "was written as entry 4",
            ),
            (|links| links.swap(1, 2), 2, "is missing"),
            (|links| links[3].node = Some("n2".to_owned()), 4, "are not those of its text"),
            (|links| links[3].at = 0, 4, "are not those of its text"),
        ];
        for (tamper, seq, what) in cases {
            let mut links = chain(5);
            tamper(&mut links);
            let found = verified(&links).unwrap_err();
            assert!(found.seq == seq && found.what.contains(what), "{found}; expected {what} at {seq}");
        }
    }

    #[test]
    fn a_record_cut_off_at_its_end_is_only_shown_by_its_head() {
        let links = chain(5);
        assert_ne!(verified(&links[..4]).unwrap(), verified(&links).unwrap());
    }
}
