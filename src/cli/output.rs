//! How answers are shown: tables for people, JSON and YAML of the full answer, or tab-separated values for scripts.
//!
//! Column names are the members' names in the answer, so that `-c` means the same in every format.

use std::io::{self, IsTerminal, Write};

use clap::{Args, ValueEnum};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Map, Value};

use crate::cli::error::{CliError, Exit};
use crate::text::display_safe_to;

/// A terminal that says it is narrower than this does not know its width; a table squeezed into it could not be read.
const NARROWEST: u16 = 40;

/// How to show an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table.
    #[default]
    Table,
    /// JSON, the full answer.
    Json,
    /// YAML, the full answer.
    Yaml,
    /// Values only, separated by tabs; of a single object one value a line.
    Value,
}

/// The options of everything that shows an answer.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// How to show the answer
    #[arg(short, long, value_enum, default_value_t = Format::Table, global = true)]
    pub format: Format,
    /// Show this column only; repeat for several. Any member of the answer can be named
    #[arg(short, long, value_name = "COLUMN", global = true)]
    pub column: Vec<String>,
}

/// A column of a table, or a row of an object's table.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    name: &'static str,
    show: fn(&Value) -> Vec<String>,
}

/// A member shown as it is.
#[must_use]
pub const fn field(name: &'static str) -> Field {
    Field { name, show: pieces }
}

/// A member with a way of its own to be shown: as pieces, each of which takes a line of a table's cell.
#[must_use]
pub const fn shown(name: &'static str, show: fn(&Value) -> Vec<String>) -> Field {
    Field { name, show }
}

impl OutputArgs {
    /// Whether people read it.
    #[must_use]
    pub fn is_table(&self) -> bool {
        self.format == Format::Table
    }

    /// Shows a list, one row an object.
    ///
    /// # Errors
    /// An unknown column, or standard output cannot be written.
    pub fn list(&self, rows: &Value, fields: &[Field]) -> Result<(), CliError> {
        let none = Vec::new();
        let rows = rows.as_array().unwrap_or(&none);
        let chosen = self.chosen(rows, fields)?;
        let text = match self.format {
            Format::Json => json_text(&self.narrowed_list(rows)),
            Format::Yaml => yaml_text(&self.narrowed_list(rows))?,
            Format::Value => rows.iter().map(|row| line(cells(row, &chosen), ",", "\t")).collect(),
            Format::Table => {
                let mut table = new_table(chosen.iter().map(|field| field.0.clone()));
                for row in rows {
                    table.add_row(cells(row, &chosen).map(|cell| cell.join("\n")));
                }
                format!("{table}\n")
            }
        };
        print(&text)
    }

    /// Shows one object.
    ///
    /// # Errors
    /// An unknown column, or standard output cannot be written.
    pub fn object(&self, object: &Value, fields: &[Field]) -> Result<(), CliError> {
        let chosen = self.chosen(std::slice::from_ref(object), fields)?;
        let text = match self.format {
            Format::Json => json_text(&self.narrowed(object)),
            Format::Yaml => yaml_text(&self.narrowed(object))?,
            Format::Value => cells(object, &chosen).map(|cell| line(std::iter::once(cell), ",", "")).collect(),
            Format::Table => {
                let mut table = new_table(["field".to_owned(), "value".to_owned()].into_iter());
                for (field, cell) in chosen.iter().zip(cells(object, &chosen)) {
                    table.add_row([field.0.clone(), cell.join("\n")]);
                }
                format!("{table}\n")
            }
        };
        print(&text)
    }

    /// The columns asked for, or all of `fields`.
    fn chosen(&self, rows: &[Value], fields: &[Field]) -> Result<Vec<(String, Show)>, CliError> {
        if self.column.is_empty() {
            return Ok(fields.iter().map(|field| (field.name.to_owned(), field.show)).collect());
        }
        let find = |wanted: &String| {
            if let Some(field) = fields.iter().find(|field| field.name == wanted) {
                return Ok((wanted.clone(), field.show));
            }
            let members = rows.first().and_then(Value::as_object);
            if members.is_some_and(|members| members.contains_key(wanted)) {
                return Ok((wanted.clone(), pieces as Show));
            }
            let mut known: Vec<&str> = fields.iter().map(|field| field.name).collect();
            known.extend(members.into_iter().flat_map(|members| members.keys().map(String::as_str)));
            known.sort_unstable();
            known.dedup();
            Err(CliError::local(format!("there is no column {:?}", display_safe_to(wanted, 64)))
                .hint(format!("columns are: {}", known.join(", "))))
        };
        self.column.iter().map(find).collect()
    }

    fn narrowed(&self, object: &Value) -> Value {
        if self.column.is_empty() {
            return object.clone();
        }
        let member = |name: &String| (name.clone(), object.get(name).cloned().unwrap_or_default());
        Value::Object(Map::from_iter(self.column.iter().map(member)))
    }

    fn narrowed_list(&self, rows: &[Value]) -> Value {
        rows.iter().map(|row| self.narrowed(row)).collect()
    }

    /// Says in words what was done; in other formats nothing, since there is no answer.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn done(&self, sentence: &str) -> Result<Exit, CliError> {
        if self.is_table() {
            print(&format!("{sentence}\n"))?;
        }
        Ok(Exit::Done)
    }
}

type Show = fn(&Value) -> Vec<String>;

fn cells<'a>(row: &'a Value, chosen: &'a [(String, Show)]) -> impl Iterator<Item = Vec<String>> + 'a {
    chosen.iter().map(|(name, show)| show(row.get(name).unwrap_or(&Value::Null)))
}

fn line(cells: impl Iterator<Item = Vec<String>>, piece: &str, cell: &str) -> String {
    cells.map(|pieces| pieces.join(piece)).collect::<Vec<_>>().join(cell) + "\n"
}

fn new_table(header: impl Iterator<Item = String>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_FULL_CONDENSED).set_header(header);
    // A pipe gets whole lines; a terminal's width is kept to.
    if io::stdout().is_terminal() && table.width().is_some_and(|width| width >= NARROWEST) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table
}

/// A value as text for people: nothing for null, one piece for each element of a list and each member of an object.
#[must_use]
pub fn pieces(value: &Value) -> Vec<String> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(items) => items.iter().map(word).collect(),
        Value::Object(members) => members
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| format!("{}={}", safe(name), word(value)))
            .collect(),
        other => vec![word(other)],
    }
}

/// A value as one word or sentence, safe to show.
#[must_use]
pub fn word(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => safe(text),
        other => safe(&other.to_string()),
    }
}

/// The member `name` as one word.
#[must_use]
pub fn member(value: &Value, name: &str) -> String {
    word(value.get(name).unwrap_or(&Value::Null))
}

/// Foreign text with everything escaped that could move a terminal; nothing is cut.
#[must_use]
pub fn safe(text: &str) -> String {
    display_safe_to(text, usize::MAX)
}

/// Pretty JSON in which no character can move a terminal; it means the same value.
#[must_use]
pub fn json_text(value: &Value) -> String {
    let pretty = serde_json::to_string_pretty(value).unwrap_or_default();
    let mut text = String::with_capacity(pretty.len() + 1);
    for c in pretty.chars() {
        // Outside strings pretty JSON is ASCII and line ends; inside, line ends are escaped already.
        if c == '\n' || c.is_ascii_graphic() || c == ' ' || !is_hostile(c) {
            text.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    text.push('\n');
    text
}

fn is_hostile(c: char) -> bool {
    let mut buffer = [0; 4];
    let alone: &str = c.encode_utf8(&mut buffer);
    safe(alone) != alone
}

/// YAML of a value; on a terminal every text in it is made safe.
///
/// # Errors
/// Never for values of JSON; the error says what could not be written.
pub fn yaml_text(value: &Value) -> Result<String, CliError> {
    let value = if io::stdout().is_terminal() { made_safe(value) } else { value.clone() };
    serde_saphyr::to_string(&value).map_err(|error| CliError::local(format!("this cannot be written as YAML: {error}")))
}

fn made_safe(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(safe(text)),
        Value::Array(items) => items.iter().map(made_safe).collect(),
        Value::Object(members) => members.iter().map(|(name, value)| (safe(name), made_safe(value))).collect(),
        other => other.clone(),
    }
}

/// Writes to standard output. A reader that has gone away has seen enough: no error.
///
/// # Errors
/// Everything else that keeps it from being written, such as a full disk.
pub fn print(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::local(format!("standard output cannot be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes a line to standard error; what becomes of it is nobody's concern.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn asked(columns: &[&str]) -> OutputArgs {
        OutputArgs { format: Format::Json, column: columns.iter().map(|name| (*name).to_owned()).collect() }
    }

    #[test]
    fn a_column_is_any_member_and_a_slip_names_those_there_are() {
        let rows = [json!({"name": "n1", "trust": "trusted", "hidden": 1})];
        let fields = [field("name"), field("trust")];
        assert_eq!(asked(&["hidden"]).chosen(&rows, &fields).unwrap()[0].0, "hidden");
        let error = asked(&["trsut"]).chosen(&rows, &fields).unwrap_err();
        assert_eq!(error.exit, Exit::Local);
        assert_eq!(error.hint.unwrap(), "columns are: hidden, name, trust");
        assert!(asked(&["name"]).chosen(&[], &fields).is_ok(), "an empty list still has its columns");
    }

    #[test]
    fn json_keeps_to_the_columns_asked_for() {
        let row = json!({"name": "n1", "trust": "trusted"});
        assert_eq!(asked(&["trust"]).narrowed(&row), json!({"trust": "trusted"}));
        assert_eq!(asked(&[]).narrowed(&row), row);
    }

    #[test]
    fn pieces_of_an_object_leave_out_what_is_null() {
        assert_eq!(pieces(&json!({"a": 1, "b": null, "c": "x\ty"})), ["a=1", "c=x\\ty"]);
        assert_eq!(pieces(&json!(["n1", 2, {"k": true}])), ["n1", "2", "{\"k\":true}"]);
        assert!(pieces(&Value::Null).is_empty());
    }

    proptest! {
        #[test]
        fn json_text_means_the_same_and_moves_no_terminal(text in "\\PC*|.*|[\u{202e}\u{200b}\u{e0041}a\"\\\\]*") {
            let value = json!({ "text": text, text.clone(): [1, true, null] });
            let shown = json_text(&value);
            prop_assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), value);
            prop_assert!(shown.chars().all(|c| c == '\n' || !is_hostile(c)), "{shown}");
        }

        #[test]
        fn a_word_is_one_safe_line(text in ".*|[\u{202e}\u{1b}\n\t]*") {
            let shown = word(&json!(text));
            prop_assert!(!shown.chars().any(is_hostile), "{shown}");
        }
    }
}
