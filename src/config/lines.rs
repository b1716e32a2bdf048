//! The lines of a configuration file: which of them cannot be meant as they stand, and where each option is written.
//!
//! The package that reads the file stops at its first fault, knows no line numbers of options, and is generous: a line
//! without `=` becomes part of the next name, a backslash at the end swallows the next line. So lines that it would
//! misread are named and left out before it reads the rest, and everything it finds must be found here too.

use std::collections::{BTreeMap, VecDeque};

use super::fault::quoted;
use super::file::MAX_FAULTS;

/// A section's name and an option's.
type Name = (String, String);

/// What was found line by line; lines count from 1.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The text without the faulty lines, every other line at its place.
    pub sound: String,
    /// Faulty lines, and what is wrong with them; bounded.
    pub faults: Vec<(usize, String)>,
    /// How many options there are.
    pub options: usize,
    places: BTreeMap<Name, VecDeque<usize>>,
}

/// What a line is by its looks.
enum Line<'a> {
    Nothing,
    Continuation,
    Section(&'a str),
    Option(&'a str),
}

impl Lines {
    /// Looks through `text`, whose lines end with a line feed alone.
    pub(super) fn of(text: &str) -> Self {
        let mut lines = Self::default();
        let mut section: Option<&str> = None;
        // Whether an indented line would continue a value.
        let mut open = false;
        for (number, line) in text.split('\n').enumerate().map(|(index, line)| (index + 1, line)) {
            let sound = match look(line) {
                Ok(Line::Nothing) => {
                    open = false;
                    Ok(())
                }
                Ok(Line::Continuation) if open => Ok(()),
                Ok(Line::Continuation) => {
                    Err("an indented line continues a value, but there is none above it".to_owned())
                }
                Ok(Line::Section(name)) => {
                    (open, section) = (false, Some(name));
                    Ok(())
                }
                Ok(Line::Option(name)) => {
                    open = section.is_some();
                    lines.option(section, name, number)
                }
                Err(problem) => {
                    open = false;
                    Err(problem.to_owned())
                }
            };
            let broken_header = sound.is_err() && line.starts_with('[');
            if let Err(problem) = sound {
                lines.fault(number, problem);
                if broken_header {
                    // What follows belongs nowhere, and is not reported a second time.
                    section = Some("");
                    lines.sound.push_str("[]");
                }
            } else {
                lines.sound.push_str(line);
            }
            lines.sound.push('\n');
        }
        lines
    }

    fn option(&mut self, section: Option<&str>, name: &str, number: usize) -> Result<(), String> {
        let Some(section) = section else {
            return Err(format!("option {} stands before the first section; put [DEFAULT] above it", quoted(name)));
        };
        if !section.is_empty() {
            self.options += 1;
            self.places.entry((section.to_owned(), name.to_owned())).or_default().push_back(number);
        }
        Ok(())
    }

    fn fault(&mut self, number: usize, problem: String) {
        // A binary file has a fault on every line; nobody reads a million of them.
        if self.faults.len() < MAX_FAULTS {
            self.faults.push((number, problem));
        }
    }

    /// The line of the next option of this name in this section.
    pub(super) fn take(&mut self, section: &str, name: &str) -> Option<usize> {
        self.places.get_mut(&(section.to_owned(), name.to_owned()))?.pop_front()
    }

    /// Lines of options that were not taken.
    pub(super) fn left(&self) -> impl Iterator<Item = usize> {
        self.places.values().flatten().copied()
    }
}

fn look(line: &str) -> Result<Line<'_>, &'static str> {
    if line.trim().is_empty() || line.starts_with(['#', ';']) {
        return Ok(Line::Nothing);
    }
    if line.contains('\r') {
        return Err("holds a carriage return that does not end the line; remove it");
    }
    if line.ends_with('\\') {
        return Err("a line cannot end with a backslash; to continue a value, indent the next line");
    }
    if line.starts_with([' ', '\t']) {
        return Ok(Line::Continuation);
    }
    if let Some(rest) = line.strip_prefix('[') {
        let name = rest.trim_end().strip_suffix(']').filter(|name| !name.contains(['[', ']', '\\'])).map(str::trim);
        return name.filter(|name| !name.is_empty()).map(Line::Section).ok_or("a section is written [name]");
    }
    // Not quoted: the line may be the second half of a password.
    let (name, _) = line
        .split_once(['=', ':'])
        .ok_or("no = in this line: an option is written name = value, a comment starts with #")?;
    match name.trim() {
        "" => Err("there is no option name before the ="),
        name if name.contains('\\') => Err("an option's name holds no backslash"),
        name => Ok(Line::Option(name)),
    }
}
