//! Configuration files as written: oslo.config's INI, line by line, nothing interpreted yet.
//!
//! The format is oslo's own: `key = value` or `key: value` below a `[section]`; `#` and `;` start a comment at the beginning
//! of a line; an indented line continues the value; a value in quotes loses them; a repeated key adds a value. A general INI
//! reader is no help here: those looked at stop at the first fault, forget lines, or read a line without `=` as part of the
//! next key.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::fault::{ConfigFault, Origin, quoted};
use crate::text::display_safe;

/// Largest file read. A full sample is a fiftieth of it.
pub(super) const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// Most assignments, most files in a folder, most faults reported.
const MAX_ENTRIES: usize = 10_000;
const MAX_FILES: usize = 1_000;
pub(super) const MAX_FAULTS: usize = 100;

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
        let mut section: Option<String> = None;
        // The value being read, which indented lines continue.
        let mut open: Option<usize> = None;
        for (number, line) in text.split('\n').enumerate().map(|(index, line)| (index + 1, line.trim_end())) {
            if line.is_empty() {
                open = None;
            } else if line.starts_with([' ', '\t']) {
                match open.and_then(|index| self.entries.get_mut(index)) {
                    Some(entry) => {
                        entry.value.push('\n');
                        entry.value.push_str(line.trim_start());
                    }
                    None => self
                        .fault(place(path, number), "an indented line continues a value, but there is none above it"),
                }
            } else if line.starts_with(['#', ';']) {
                open = None;
            } else if let Some(name) = line.strip_prefix('[') {
                open = None;
                section = self.section(name, path, number);
            } else {
                open = self.assignment(line, section.as_deref(), path, number);
            }
        }
    }

    fn section(&mut self, rest: &str, path: &Path, line: usize) -> Option<String> {
        let name = rest.strip_suffix(']').filter(|name| !name.is_empty());
        if name.is_none() {
            self.fault(place(path, line), "a section is written [name]");
        }
        // What follows a broken header belongs nowhere, and is not reported a second time.
        Some(name.unwrap_or_default().to_owned())
    }

    fn assignment(&mut self, line: &str, section: Option<&str>, path: &Path, number: usize) -> Option<usize> {
        let origin = place(path, number);
        let Some(at) = line.find(['=', ':']) else {
            // Not quoted: the line may be the second half of a password.
            self.fault(origin, "no = in this line: an option is written name = value, a comment starts with #");
            return None;
        };
        let (key, value) = (line.get(..at)?.trim_end(), line.get(at + 1..)?.trim());
        if key.is_empty() {
            self.fault(origin, "there is no option name before the =");
            return None;
        }
        let Some(section) = section else {
            self.fault(
                origin,
                format!("option {} stands before the first section; put [DEFAULT] above it", quoted(key)),
            );
            return None;
        };
        if section.is_empty() {
            return None;
        }
        if self.entries.len() >= MAX_ENTRIES {
            self.fault(origin, format!("more than {MAX_ENTRIES} options"));
            return None;
        }
        let (section, key, value) = (section.to_owned(), key.to_owned(), unquoted(value).to_owned());
        self.entries.push(Entry { section, key, value, origin });
        Some(self.entries.len() - 1)
    }
}

fn unquoted(value: &str) -> &str {
    ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote)).unwrap_or(value)
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
