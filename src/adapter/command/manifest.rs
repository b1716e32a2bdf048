//! The manifest of a plugin: what is run, how, and what its answers mean. Written by root, strict in every member.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jsonschema::Validator;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::adapter::schema;
use crate::protocol::Status;

use super::parameters::{Parameter, arguments_schema};
use super::template::{Piece, Template};
use super::{runs_others, trusted_path};

/// Largest manifest, in bytes.
const MAX_MANIFEST: u64 = 64 << 10;

/// How the program is talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Style {
    /// One process per node; the exit code is the answer, the first line its reason.
    Nagios,
    /// One process per batch; a JSON object per line in, a JSON object per line out.
    Jsonl,
}

/// One element of `argv`: a text with placeholders, or more of them that appear under a condition.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum ArgvElement {
    Always(String),
    When(Conditional),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Conditional {
    /// The parameter: given (or defaulted), and not `false`.
    when: String,
    argv: Vec<String>,
}

/// Limits of one process tree.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PluginLimits {
    /// Address space of each process, in MiB.
    pub memory_mb: u64,
    /// Processor time of each process, in seconds.
    pub cpu_s: u64,
    /// Bytes of standard output, and as many of standard error.
    pub output_bytes: usize,
    /// Processes and threads of the plugin's user, on the whole machine.
    pub processes: u64,
    /// Open files of each process.
    pub files: u64,
    /// Largest file it may write, in MiB.
    pub file_mb: u64,
}

impl Default for PluginLimits {
    fn default() -> Self {
        Self { memory_mb: 512, cpu_s: 60, output_bytes: 65_536, processes: 64, files: 64, file_mb: 1 }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    #[serde(default)]
    description: String,
    program: String,
    sha256: String,
    style: Style,
    #[serde(default)]
    parameters: BTreeMap<String, Parameter>,
    #[serde(default)]
    argv: Vec<ArgvElement>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    exit_codes: BTreeMap<String, Outcome>,
    timeout_s: u64,
    #[serde(default)]
    limits: PluginLimits,
    #[serde(default)]
    self_reported: bool,
}

/// What an exit code may mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Pass,
    Fail,
    Error,
}

/// A manifest that was found sound.
pub struct Manifest {
    /// The plugin's name; also the file's, without `.json`.
    pub name: String,
    /// For people.
    pub description: String,
    /// What is run, links followed.
    pub program: PathBuf,
    /// How the program sees itself named: some act by it.
    pub argv0: String,
    /// Digest of its bytes, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// How it is talked to.
    pub style: Style,
    /// Variables fixed by the manifest.
    pub environment: BTreeMap<String, String>,
    /// Its own time limit, in seconds.
    pub timeout_s: u64,
    /// Its limits.
    pub limits: PluginLimits,
    /// Whether its results are a node's own word.
    pub self_reported: bool,
    exit_codes: BTreeMap<i32, Outcome>,
    argv: Vec<(Option<String>, Template)>,
    defaults: Map<String, Value>,
    arguments: Validator,
}

impl Manifest {
    /// Reads and judges the manifest of `plugin` in `dir`, the directory and the way to the program included.
    ///
    /// # Errors
    /// A sentence that says what to change.
    pub fn load(dir: &Path, plugin: &str) -> Result<Self, String> {
        if !is_plugin_name(plugin) {
            return Err(format!(
                "{:?} is no plugin name: use 1 to 48 characters out of a-z 0-9 _ -, starting with a letter or digit",
                crate::text::display_safe_to(plugin, 64)
            ));
        }
        trusted_path::check_directory(dir).map_err(|fault| format!("the plugin directory is not safe: {fault}"))?;
        let path = dir.join(format!("{plugin}.json"));
        let (bytes, _) = trusted_path::read_trusted(&path, MAX_MANIFEST)
            .map_err(|fault| format!("plugin {plugin} has no usable manifest: {fault}"))?;
        let told = |fault: String| format!("manifest {}: {fault}", path.display());
        let written: Written =
            serde_json::from_slice(&bytes).map_err(|error| told(crate::text::display_safe(&error.to_string())))?;
        if written.name != plugin {
            return Err(told("its name is not that of the file".to_owned()));
        }
        Self::judge(written, dir).map_err(told)
    }

    fn judge(written: Written, dir: &Path) -> Result<Self, String> {
        let (program, argv0) = find_program(&written.program, dir)?;
        if written.sha256.len() != 64 || !written.sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err("sha256 is not 64 lower-case hexadecimal digits".to_owned());
        }
        let limits = written.limits;
        range("timeout_s", written.timeout_s, 1, 1200)?;
        range("limits.memory_mb", limits.memory_mb, 16, 65_536)?;
        range("limits.cpu_s", limits.cpu_s, 1, 1200)?;
        range("limits.output_bytes", limits.output_bytes as u64, 1024, 16 << 20)?;
        range("limits.processes", limits.processes, 1, 4096)?;
        range("limits.files", limits.files, 8, 4096)?;
        range("limits.file_mb", limits.file_mb, 0, 65_536)?;
        check_environment(&written.environment)?;
        let argv = read_argv(&written)?;
        if runs_others::is_listed(&program) && argv.iter().any(|(when, t)| when.is_some() || t.has_placeholder()) {
            return Err(format!(
                "{} runs other programs, so argv must be fixed as a whole, without placeholders and conditions: \
                 write a small program that takes the values, or fix them",
                program.display()
            ));
        }
        let (schema, defaults) = arguments_schema(&written.parameters)?;
        Ok(Self {
            name: written.name,
            description: crate::text::display_safe(&written.description),
            program,
            argv0,
            sha256: written.sha256,
            style: written.style,
            environment: written.environment,
            timeout_s: written.timeout_s,
            limits,
            self_reported: written.self_reported,
            exit_codes: read_exit_codes(&written.exit_codes, written.style)?,
            argv,
            defaults,
            arguments: schema::compile(&schema)?,
        })
    }

    /// The arguments of a check with the manifest's defaults filled in.
    ///
    /// # Errors
    /// A sentence, when they do not fit the declared types or a value cannot stand where the template puts it.
    pub fn arguments(&self, given: &Value) -> Result<Map<String, Value>, String> {
        let mut values = self.defaults.clone();
        match given {
            Value::Null => {}
            Value::Object(given) => values.extend(given.clone()),
            _ => return Err("arguments must be an object".to_owned()),
        }
        let whole = Value::Object(values);
        schema::check(&self.arguments, &whole).map_err(|fault| format!("arguments: {fault}"))?;
        let Value::Object(values) = whole else { return Err("arguments must be an object".to_owned()) };
        self.argv(&values, Some("node"))?;
        Ok(values)
    }

    /// The argument vector, the program's name first. `node` is `None` for style JSON lines.
    ///
    /// # Errors
    /// A sentence, when a value would be taken for an option or holds control characters.
    pub fn argv(&self, values: &Map<String, Value>, node: Option<&str>) -> Result<Vec<String>, String> {
        let mut argv = vec![self.argv0.clone()];
        for (when, template) in &self.argv {
            let holds = match when {
                None => true,
                Some(name) => !matches!(values.get(name), None | Some(Value::Bool(false) | Value::Null)),
            };
            if holds {
                argv.push(template.fill(values, node)?);
            }
        }
        Ok(argv)
    }

    /// What an exit code means. A code the manifest does not name is an error, never a pass.
    #[must_use]
    pub fn outcome(&self, code: i32) -> Status {
        match self.exit_codes.get(&code) {
            Some(Outcome::Pass) => Status::Pass,
            Some(Outcome::Fail) => Status::Fail,
            Some(Outcome::Error) | None => Status::Error,
        }
    }
}

/// A plugin's name is part of a path, so it is held to what cannot lead elsewhere.
fn is_plugin_name(name: &str) -> bool {
    (1..=48).contains(&name.len())
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
}

pub(super) fn range(name: &str, value: u64, low: u64, high: u64) -> Result<(), String> {
    if (low..=high).contains(&value) { Ok(()) } else { Err(format!("{name} is {value}: use {low} to {high}")) }
}

/// The real path of the program and the name it is started under.
fn find_program(program: &str, dir: &Path) -> Result<(PathBuf, String), String> {
    let written = Path::new(program);
    let plain =
        written.components().all(|c| matches!(c, std::path::Component::RootDir | std::path::Component::Normal(_)));
    if program.is_empty() || !plain {
        return Err(
            "program must be a path inside the plugin directory or an absolute path, without . and ..".to_owned()
        );
    }
    let full = dir.join(written);
    let resolved = trusted_path::resolve(&full)?;
    if !written.is_absolute() && resolved != full {
        return Err(format!("program {} is a symbolic link: put the file itself there", full.display()));
    }
    trusted_path::check_parents(&resolved)?;
    let name = full.file_name().and_then(|name| name.to_str()).ok_or("program has a name that is no text")?;
    Ok((resolved, name.to_owned()))
}

/// Fixed variables may point a program at its libraries, but not put foreign code into it.
fn check_environment(environment: &BTreeMap<String, String>) -> Result<(), String> {
    const REFUSED: [&str; 6] = ["PATH", "LANG", "GCONV_PATH", "BASH_ENV", "ENV", "IFS"];
    for (name, value) in environment {
        let plain = name.bytes().all(|b| matches!(b, b'A'..=b'Z' | b'0'..=b'9' | b'_')) && name.len() <= 64;
        let starts = name.bytes().next().is_some_and(|b| b.is_ascii_uppercase());
        if !plain || !starts || REFUSED.contains(&name.as_str()) || name.starts_with("LD_") {
            return Err(format!("environment: {:?} is not allowed", crate::text::display_safe_to(name, 64)));
        }
        if value.len() > 4096 || value.chars().any(char::is_control) {
            return Err(format!("environment: the value of {name} is too long or has control characters"));
        }
    }
    Ok(())
}

fn read_exit_codes(written: &BTreeMap<String, Outcome>, style: Style) -> Result<BTreeMap<i32, Outcome>, String> {
    let mut codes = BTreeMap::new();
    if style == Style::Jsonl {
        return if written.is_empty() { Ok(codes) } else { Err("exit_codes belong to style nagios only".to_owned()) };
    }
    codes.extend([(0, Outcome::Pass), (2, Outcome::Fail), (3, Outcome::Error)]);
    for (code, outcome) in written {
        let number: i32 = code.parse().ok().filter(|n| (0..=255).contains(n)).ok_or_else(|| {
            format!("exit_codes: {:?} is no exit code (0 to 255)", crate::text::display_safe_to(code, 16))
        })?;
        let allowed = match number {
            0 | 1 => true,
            3 => *outcome == Outcome::Error,
            _ => *outcome != Outcome::Pass,
        };
        if !allowed {
            return Err(format!(
                "exit_codes: {number} cannot mean that: only 0 and 1 may pass, and 3 is always an error"
            ));
        }
        codes.insert(number, *outcome);
    }
    if !codes.contains_key(&1) {
        return Err(
            "exit_codes must say what 1 (a Nagios WARNING) means: {\"1\": \"pass\"}, \"fail\" or \"error\"".to_owned()
        );
    }
    Ok(codes)
}

fn read_argv(written: &Written) -> Result<Vec<(Option<String>, Template)>, String> {
    let mut argv = Vec::new();
    for element in &written.argv {
        let (when, texts) = match element {
            ArgvElement::Always(text) => (None, std::slice::from_ref(text)),
            ArgvElement::When(conditional) => (Some(conditional.when.clone()), conditional.argv.as_slice()),
        };
        if let Some(name) = &when
            && !written.parameters.contains_key(name)
        {
            return Err(format!("argv: `when` names {name:?}, which is not declared in parameters"));
        }
        for text in texts {
            let template = Template::parse(text).map_err(|fault| format!("argv: {fault}"))?;
            for piece in template.pieces() {
                check_placeholder(piece, when.as_deref(), written)?;
            }
            argv.push((when.clone(), template));
        }
    }
    if argv.len() > 256 {
        return Err("argv has more than 256 elements".to_owned());
    }
    Ok(argv)
}

fn check_placeholder(piece: &Piece, when: Option<&str>, written: &Written) -> Result<(), String> {
    let Piece::Value(name) = piece else { return Ok(()) };
    if name == "node" {
        if written.style == Style::Jsonl {
            return Err(
                "argv: {node} belongs to style nagios only; style jsonl gets its nodes on standard input".to_owned()
            );
        }
        return Ok(());
    }
    let parameter =
        written.parameters.get(name).ok_or_else(|| format!("argv: {{{name}}} is not declared in parameters"))?;
    if parameter.is_always_there() || when == Some(name) {
        return Ok(());
    }
    Err(format!(
        "argv: {{{name}}} may be missing: make it required, give a default, or write {{\"when\": {name:?}, \"argv\": [...]}}"
    ))
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
