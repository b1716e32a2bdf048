//! Configuration files as written: oslo.config's INI, nothing interpreted yet.
//!
//! The `rust-ini` package reads them, told to do as oslo.config does: `key = value` or `key: value` below a `[section]`; `#`
//! and `;` start a comment at the beginning of a line; an indented line continues the value; a repeated key adds a value;
//! backslashes mean nothing. `lines` says where things stand and which lines it must not be given. What it cannot be told
//! is done here: only quotes around a whole value are taken off.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ini::{Ini, ParseOption};

use super::fault::{ConfigFault, Origin, quoted};
use super::lines::Lines;
use crate::text::display_safe;

/// Largest file read. A full sample is a fiftieth of it.
pub(super) const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// Most assignments, most files in a folder, most faults reported.
const MAX_ENTRIES: usize = 10_000;
const MAX_FILES: usize = 1_000;
pub(super) const MAX_FAULTS: usize = 100;

/// How `rust-ini` is told to read.
const READ_AS_OSLO: ParseOption = ParseOption {
    enabled_quote: false,
    enabled_escape: false,
    enabled_indented_mutiline_value: true,
    enabled_preserve_key_leading_whitespace: false,
};

/// One assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub section: String,
    pub key: String,
    pub value: String,
    pub origin: Origin,
}

/// All that was written, in the order in which it counts: later wins.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub entries: Vec<Entry>,
    pub faults: Vec<ConfigFault>,
    /// Files that everybody on the machine may read.
    pub world_readable: Vec<String>,
}

impl Written {
    fn fault(&mut self, origin: Origin, message: impl AsRef<str>) {
        // A binary file has a fault on every line; nobody reads a million of them.
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(ConfigFault::new(Some(origin), message));
        }
    }

    /// Reads `files` in order, then the `*.conf` of each folder, sorted by name.
    pub(super) fn read(files: &[PathBuf], dirs: &[PathBuf]) -> Self {
        let mut written = Self::default();
        for file in files {
            written.read_file(file);
        }
        for dir in dirs {
            match list(dir) {
                Ok(found) => found.iter().for_each(|file| written.read_file(file)),
                Err(problem) => written.fault(place(dir, 0), problem),
            }
        }
        written
    }

    fn read_file(&mut self, path: &Path) {
        match load(path) {
            Ok((text, mode)) => {
                if mode & 0o004 != 0 {
                    self.world_readable.push(display_safe(&path.to_string_lossy()));
                }
                self.parse(&text, path);
            }
            Err((line, problem)) => self.fault(place(path, line), problem),
        }
    }

    /// Reads the text of one file.
    pub(super) fn parse(&mut self, text: &str, path: &Path) {
        let mut lines = Lines::of(&text.replace("\r\n", "\n"));
        for (line, problem) in std::mem::take(&mut lines.faults) {
            self.fault(place(path, line), problem);
        }
        if self.entries.len() + lines.options > MAX_ENTRIES {
            self.fault(place(path, 0), format!("more than {MAX_ENTRIES} options"));
            return;
        }
        match Ini::load_from_str_opt(&lines.sound, READ_AS_OSLO) {
            Ok(ini) => self.take(&ini, &mut lines, path),
            // Its sentences hold nothing of the text.
            Err(error) => self.fault(place(path, error.line), format!("cannot be read from here on: {}", error.msg)),
        }
    }

    fn take(&mut self, ini: &Ini, lines: &mut Lines, path: &Path) {
        let mut found = Vec::new();
        for (section, options) in ini.iter().filter_map(|(name, options)| Some((name?, options))) {
            // The nameless section stands for a header that was reported.
            for (key, value) in options.iter().filter(|_| !section.is_empty()) {
                match lines.take(section, key) {
                    Some(line) => found.push((line, section, key, value)),
                    None => {
                        let what = format!("option {} cannot be told from the lines around it", quoted(key));
                        self.fault(place(path, 0), what);
                    }
                }
            }
        }
        for line in lines.left() {
            self.fault(place(path, line), "this option cannot be told from the lines around it");
        }
        found.sort_by_key(|(line, ..)| *line);
        self.entries.extend(found.into_iter().map(|(line, section, key, value)| Entry {
            section: section.to_owned(),
            key: key.to_owned(),
            value: unquoted(value),
            origin: place(path, line),
        }));
    }
}

/// Without the quotes around its first line, if they are a pair.
fn unquoted(value: &str) -> String {
    let (first, rest) = value.split_at(value.find('\n').unwrap_or(value.len()));
    let bare = ['"', '\''].iter().find_map(|quote| first.strip_prefix(*quote)?.strip_suffix(*quote));
    format!("{}{rest}", bare.unwrap_or(first))
}

fn place(path: &Path, line: usize) -> Origin {
    Origin::File { path: display_safe(&path.to_string_lossy()), line }
}

fn list(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let unreadable = |error: std::io::Error| format!("cannot list this folder: {error}");
    let mut found = Vec::new();
    for item in fs::read_dir(dir).map_err(unreadable)? {
        let path = item.map_err(unreadable)?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|extension| extension == "conf") {
            found.push(path);
        }
        if found.len() > MAX_FILES {
            return Err(format!("more than {MAX_FILES} *.conf files"));
        }
    }
    found.sort();
    Ok(found)
}

/// The text of a file and its mode; or the line (0 for none) and what is wrong.
fn load(path: &Path) -> Result<(String, u32), (usize, String)> {
    let cannot = |error: std::io::Error| (0, format!("cannot read this file: {error}"));
    // Asked before opening: opening a pipe would wait for a writer for ever.
    let meta = fs::metadata(path).map_err(cannot)?;
    if !meta.is_file() {
        return Err((0, "this is not a regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    fs::File::open(path).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)).map_err(cannot)?;
    decode(bytes).map(|text| (text, meta.mode()))
}

/// The bytes of a file as text.
pub(super) fn decode(bytes: Vec<u8>) -> Result<String, (usize, String)> {
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
        return Err((0, format!("larger than {MAX_FILE_BYTES} bytes: this is no configuration file")));
    }
    let line_of = |bytes: &[u8]| 1 + bytes.iter().filter(|byte| **byte == b'\n').count();
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err((1, "starts with a byte order mark; save the file as UTF-8 without it".to_owned()));
    }
    let foreign = |byte: &u8| (*byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r')) || *byte == 0x7f;
    if let Some(at) = bytes.iter().position(foreign) {
        return Err((
            line_of(bytes.get(..at).unwrap_or_default()),
            "holds a control character: is it a text file?".to_owned(),
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        (line_of(error.as_bytes().get(..good).unwrap_or_default()), "is not UTF-8 text".to_owned())
    })
}
