//! Mutants made of structure: JSON whose values change their type, go, come twice, grow or are nested deeply.

use std::fmt::Write;

use proptest::sample::Index;
use proptest_derive::Arbitrary;
use serde_json::Value;

/// JSON as it can be written, which is more than [`Value`] can hold: members may come twice, numbers be of any size.
#[derive(Debug, Clone)]
pub(crate) enum Tree {
    /// A number, a literal, or anything else.
    Raw(String),
    Text(String),
    /// A text that holds JSON itself, as in oslo.messaging's envelope and in signed documents.
    Inner(Box<Tree>),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

/// One change of one value.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) struct Graft {
    place: Index,
    change: Change,
    with: Index,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) enum Change {
    /// Becomes something strange.
    Strange,
    /// Becomes a text that means something.
    Word,
    /// One of what it holds goes.
    Drop,
    /// One of what it holds comes twice.
    Twice,
    /// What it holds comes another way round.
    Reverse,
    /// One of its names becomes another.
    Rename,
    /// It becomes what another value is.
    Copy,
    /// It is put into lists or objects.
    Nest,
    /// It becomes long.
    Grow,
    /// It becomes a text that holds it, or what its text holds.
    Quote,
}

/// Values that some reader may stumble over.
const STRANGE: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-0",
    "-1",
    "1",
    "2",
    "1.0",
    "1.5",
    "1e0",
    "1e999",
    "-1e999",
    "1e-999",
    "NaN",
    "Infinity",
    "-Infinity",
    "9007199254740991",
    "9007199254740992",
    "-9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "340282366920938463463374607431768211456",
    "[]",
    "{}",
    "[[]]",
    "{\"\":{}}",
    "\"\"",
    "\" \"",
    "\"\\u0000\"",
    "\"\\u001b[2J\"",
    "\"\\u202e\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ud800\"",
    "\"\u{e9}\u{301}\u{1f600}\"",
    "\"../../etc/passwd\"",
    "\"-rf\"",
    "\"true\"",
    "\"0\"",
    "\"9223372036854775808\"",
    "\"2026-02-30T25:61:61Z\"",
    "\"\\\"",
    "01",
    "+1",
    "0x10",
    "'x'",
    "",
];

impl Tree {
    /// A text as a tree; `None` where it is no JSON of lists or objects.
    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(text).ok()?;
        (value.is_object() || value.is_array()).then(|| Self::of(&value))
    }

    fn of(value: &Value) -> Self {
        match value {
            Value::String(text) => match Self::read(text.as_bytes()) {
                Some(inner) => Self::Inner(Box::new(inner)),
                None => Self::Text(text.clone()),
            },
            Value::Array(items) => Self::List(items.iter().map(Self::of).collect()),
            Value::Object(members) => {
                Self::Object(members.iter().map(|(name, value)| (name.clone(), Self::of(value))).collect())
            }
            other => Self::Raw(other.to_string()),
        }
    }

    /// The text; without any check that it is JSON.
    fn text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Raw(text) => out.push_str(text),
            Self::Text(text) => drop(write!(out, "{}", Value::from(text.as_str()))),
            Self::Inner(tree) => drop(write!(out, "{}", Value::from(tree.text()))),
            Self::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { "," });
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (index, (name, value)) in members.iter().enumerate() {
                    let _ = write!(out, "{}{}:", if index == 0 { "" } else { "," }, Value::from(name.as_str()));
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    fn parts(&mut self) -> Vec<&mut Tree> {
        match self {
            Self::Raw(_) | Self::Text(_) => Vec::new(),
            Self::Inner(tree) => vec![tree],
            Self::List(items) => items.iter_mut().collect(),
            Self::Object(members) => members.iter_mut().map(|(_, value)| value).collect(),
        }
    }

    fn size(&mut self) -> usize {
        1 + self.parts().into_iter().map(Self::size).sum::<usize>()
    }

    /// The value at a place, counted from the top.
    fn at(&mut self, mut place: usize) -> Option<&mut Tree> {
        if place == 0 {
            return Some(self);
        }
        place -= 1;
        for part in self.parts() {
            let size = part.size();
            if place < size {
                return part.at(place);
            }
            place -= size;
        }
        None
    }

    fn graft(&mut self, graft: &Graft, words: &[&str]) {
        let size = self.size();
        let other = self.at(graft.with.index(size)).cloned();
        let Some(place) = self.at(graft.place.index(size)) else { return };
        let with = |most: usize| graft.with.index(most);
        match (graft.change, place) {
            (Change::Strange, place) => *place = Self::Raw(STRANGE[with(STRANGE.len())].to_owned()),
            (Change::Word, place) if !words.is_empty() => *place = Self::Text(words[with(words.len())].to_owned()),
            (Change::Drop, Self::List(items)) if !items.is_empty() => drop(items.remove(with(items.len()))),
            (Change::Drop, Self::Object(members)) if !members.is_empty() => drop(members.remove(with(members.len()))),
            (Change::Twice, Self::List(items)) if !items.is_empty() => items.push(items[with(items.len())].clone()),
            (Change::Twice, Self::Object(members)) if !members.is_empty() => {
                members.push(members[with(members.len())].clone());
            }
            (Change::Reverse, Self::List(items)) => items.reverse(),
            (Change::Reverse, Self::Object(members)) => members.reverse(),
            (Change::Rename, Self::Object(members)) if !members.is_empty() => {
                let names = ["", "\u{1b}", "_context_spice_auth", "_msg_id", "\u{e9}"];
                let place = with(members.len());
                members[place].0 = words.get(with(words.len() + 1)).unwrap_or(&names[with(names.len())]).to_string();
            }
            (Change::Copy, place) => *place = other.unwrap_or(Self::Raw("null".to_owned())),
            (Change::Nest, place) => {
                for depth in 0..with(140) {
                    let inner = std::mem::replace(place, Self::Raw(String::new()));
                    let object = depth % 3 == 0;
                    *place = if object { Self::Object(vec![("a".to_owned(), inner)]) } else { Self::List(vec![inner]) };
                }
            }
            (Change::Grow, Self::List(items)) if !items.is_empty() && items.len() < 1000 => {
                let again = items[with(items.len())].clone();
                items.extend(std::iter::repeat_n(again, with(200)));
            }
            (Change::Grow, Self::Object(members)) if !members.is_empty() && members.len() < 1000 => {
                let (name, again) = members[with(members.len())].clone();
                members.extend((0..with(200)).map(|number| (format!("{name}{number}"), again.clone())));
            }
            (Change::Grow, place) => {
                *place = Self::Text(["x", "\u{1f600}", "\u{0}", "\\\""][with(4)].repeat(with(20_000)))
            }
            (Change::Quote, Self::Inner(inner)) => {
                let inner = std::mem::replace(&mut **inner, Self::Raw(String::new()));
                if let Some(place) = self.at(graft.place.index(size)) {
                    *place = inner;
                }
            }
            (Change::Quote, place) => {
                let inner = std::mem::replace(place, Self::Raw(String::new()));
                *place = Self::Inner(Box::new(inner));
            }
            _ => {}
        }
    }
}

/// The text of `tree` after `grafts`, one after the other.
pub(crate) fn grafted(tree: &Tree, grafts: &[Graft], words: &[&str]) -> Vec<u8> {
    let mut tree = tree.clone();
    grafts.iter().for_each(|graft| tree.graft(graft, words));
    tree.text().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_changed_is_written_as_it_was_read() {
        let text = r#"{"a":[1,-2,null,{"b":"\u0001\""}],"c":"{\"d\":[true]}","e":"plain"}"#;
        let tree = Tree::read(text.as_bytes()).unwrap();
        assert_eq!(tree.text(), text);
        let mut tree = tree;
        assert_eq!(tree.size(), 12);
        let names: Vec<String> = (0..12).map(|place| tree.at(place).unwrap().text()).collect();
        assert_eq!(&names[2..4], ["1", "-2"]);
        assert_eq!(names[10], "true");
    }
}
