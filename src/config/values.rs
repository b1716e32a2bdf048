//! Options as meant: one value each, of its type and within its limits, references replaced.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::fault::{ConfigFault, Origin, Warning, quoted};
use super::file::{Entry, MAX_FAULTS, Written};
use super::options::{Kind, OptionSpec};
use super::references::substitute;
use super::suggest::nearest;
use super::table::{OPTIONS, RABBIT, WITHOUT_EFFECT};
use crate::bus::RabbitOptions;

/// References within references followed so far and no further: two options may name each other.
const MAX_DEPTH: usize = 8;
/// References followed for one value: eight levels of a thousand each would be followed for ever.
const MAX_REFERENCES: u32 = 1_000;

/// The last value written for each option, and what was found wrong on the way.
#[derive(Debug, Default)]
pub(super) struct Values {
    written: BTreeMap<(&'static str, &'static str), (String, Origin)>,
    /// References followed for the value being resolved.
    references: Cell<u32>,
    pub faults: Vec<ConfigFault>,
    pub warnings: Vec<Warning>,
}

impl Values {
    /// Merges what was written with the environment, which wins.
    pub(super) fn new(written: Written, env: &[(String, String)]) -> Self {
        let mut values = Self { faults: written.faults, ..Self::default() };
        for entry in written.entries {
            values.take(entry);
        }
        for spec in OPTIONS {
            // oslo.config's own names for the environment.
            let name = format!("OS_{}__{}", spec.section.to_uppercase(), spec.name.to_uppercase());
            if let Some((_, value)) = env.iter().find(|(key, _)| *key == name) {
                values.written.insert((spec.section, spec.name), (value.clone(), Origin::Environment(name)));
            }
        }
        values.missing();
        values.exposed(&written.world_readable);
        values
    }

    fn take(&mut self, entry: Entry) {
        match OPTIONS.iter().find(|spec| spec.section == entry.section && spec.name == entry.key) {
            Some(spec) => {
                self.written.insert((spec.section, spec.name), (entry.value, entry.origin));
            }
            None if is_without_effect(&entry) => {
                let message = format!("[{}] {} has no effect in SPICE", entry.section, entry.key);
                self.warnings.push(Warning::new(Some(entry.origin), message));
            }
            None => {
                let message = unknown(&entry);
                self.fault(Some(entry.origin), message);
            }
        }
    }

    fn missing(&mut self) {
        for spec in OPTIONS.iter().filter(|spec| spec.required) {
            if self.written.get(&(spec.section, spec.name)).is_none_or(|(value, _)| value.is_empty()) {
                let example = spec.example.unwrap_or_default();
                let message =
                    format!("[{}] {} must be set, for instance: {} = {example}", spec.section, spec.name, spec.name);
                self.fault(self.origin(spec.section, spec.name), message);
            }
        }
    }

    fn exposed(&mut self, world_readable: &[String]) {
        for path in world_readable {
            let secret = OPTIONS.iter().filter(|spec| spec.secret).find(|spec| {
                let place = self.written.get(&(spec.section, spec.name));
                place.is_some_and(|(value, origin)| {
                    !value.is_empty() && matches!(origin, Origin::File { path: in_file, .. } if in_file == path)
                })
            });
            if let Some(spec) = secret {
                let origin = Some(Origin::File { path: path.clone(), line: 0 });
                let message =
                    format!("everybody on this machine may read [{}] {} here: chmod 640", spec.section, spec.name);
                self.warnings.push(Warning::new(origin, message));
            }
        }
    }

    /// Adds a fault, up to a bound nobody reads beyond.
    pub(super) fn fault(&mut self, origin: Option<Origin>, message: impl AsRef<str>) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(ConfigFault::new(origin, message));
        }
    }

    /// Adds a fault of one option, at the place where it was written.
    pub(super) fn refuse(&mut self, section: &'static str, name: &'static str, why: impl AsRef<str>) {
        self.fault(self.origin(section, name), format!("[{section}] {name}: {}", why.as_ref()));
    }

    /// Adds a warning about one option.
    pub(super) fn warn(&mut self, section: &'static str, name: &'static str, why: impl AsRef<str>) {
        self.warnings.push(Warning::new(self.origin(section, name), format!("[{section}] {name}: {}", why.as_ref())));
    }

    fn origin(&self, section: &'static str, name: &'static str) -> Option<Origin> {
        self.written.get(&(section, name)).map(|(_, origin)| origin.clone())
    }

    /// The option's value as text, valid for its kind; its default where what was written is not.
    pub(super) fn text(&mut self, section: &'static str, name: &'static str) -> String {
        let Some(spec) = OPTIONS.iter().find(|spec| spec.section == section && spec.name == name) else {
            // A slip of ours, found by any test that loads settings.
            self.fault(None, format!("[{section}] {name} is missing in the table of options"));
            return String::new();
        };
        self.references.set(0);
        let problem = match self.resolve(spec, MAX_DEPTH) {
            Ok(value) if value.is_empty() || !self.written.contains_key(&(section, name)) => return value,
            Ok(value) => match spec.kind.problem(&value) {
                None => return value,
                Some(_) if spec.secret => format!("this is not {}; the value is not shown", spec.allowed()),
                Some(hint) => format!("{} is not {}{hint}", quoted(&value), spec.allowed()),
            },
            Err(problem) => problem,
        };
        self.refuse(section, name, problem);
        substitute(spec.default, |reference| self.reference(spec, reference, MAX_DEPTH)).unwrap_or_default()
    }

    fn resolve(&self, spec: &OptionSpec, depth: usize) -> Result<String, String> {
        let raw = self.written.get(&(spec.section, spec.name)).map_or(spec.default, |(value, _)| value.as_str());
        // An emptied number or switch is no value; an emptied text is.
        let emptied = raw.is_empty()
            && !matches!(spec.kind, Kind::Text | Kind::Path | Kind::Url(_) | Kind::List | Kind::ListOf(_));
        if emptied {
            return Err(format!("has no value; give {}", spec.allowed()));
        }
        let resolved = substitute(raw, |reference| self.reference(spec, reference, depth));
        resolved.map_err(|reference| match reference {
            // What follows a $ in a password is part of the password.
            Some(_) | None if spec.secret => "holds a $ that names no option; write $$ for a $".to_owned(),
            Some(reference) => format!("${reference} names no option, or too many lead on from it; write $$ for a $"),
            None => "is too long, or refers to itself".to_owned(),
        })
    }

    /// The value of `$name` or `$section.name` within `spec`: of its own section, else of [DEFAULT] or [spice].
    fn reference(&self, spec: &OptionSpec, reference: &str, depth: usize) -> Option<String> {
        let depth = depth.checked_sub(1)?;
        self.references.set(self.references.get() + 1);
        if self.references.get() > MAX_REFERENCES {
            return None;
        }
        let find =
            |section: &str, name: &str| OPTIONS.iter().find(|known| known.section == section && known.name == name);
        let target = match reference.split_once('.') {
            Some((section, name)) => find(section, name),
            None => [spec.section, "DEFAULT", "spice"].iter().find_map(|section| find(section, reference)),
        };
        // A secret may go into nothing that is shown.
        let target = target.filter(|target| spec.secret || !target.secret)?;
        self.resolve(target, depth).ok()
    }

    /// See [`Self::text`].
    pub(super) fn flag(&mut self, section: &'static str, name: &'static str) -> bool {
        read_bool(&self.text(section, name)).unwrap_or(false)
    }

    /// A whole number; the table's limits keep it within `T`.
    pub(super) fn number<T: TryFrom<i64> + Default>(&mut self, section: &'static str, name: &'static str) -> T {
        self.text(section, name).parse::<i64>().ok().and_then(|number| T::try_from(number).ok()).unwrap_or_default()
    }

    /// A decimal number.
    pub(super) fn decimal(&mut self, section: &'static str, name: &'static str) -> f64 {
        self.text(section, name).parse().unwrap_or_default()
    }

    /// A whole number of seconds.
    pub(super) fn seconds(&mut self, section: &'static str, name: &'static str) -> Duration {
        Duration::from_secs(self.number(section, name))
    }

    /// A path; `None` where empty.
    pub(super) fn path(&mut self, section: &'static str, name: &'static str) -> Option<PathBuf> {
        Some(self.text(section, name)).filter(|text| !text.is_empty()).map(PathBuf::from)
    }

    /// A list, without empty items and repetitions.
    pub(super) fn list(&mut self, section: &'static str, name: &'static str) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for item in items(&self.text(section, name)) {
            if !found.iter().any(|known| known == item) {
                found.push(item.to_owned());
            }
        }
        found
    }
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', '\n']).map(str::trim).filter(|item| !item.is_empty())
}

pub(super) fn read_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

impl Kind {
    /// `None` where `value` is of this kind; else what may help, to stand behind "is not ...".
    pub(super) fn problem(&self, value: &str) -> Option<String> {
        let plain = |fits: bool| if fits { None } else { Some(String::new()) };
        let line = !value.contains('\n');
        match self {
            Self::Text => plain(line),
            Self::Bool => plain(read_bool(value).is_some()),
            Self::Int { min, max } => plain(value.parse::<i64>().is_ok_and(|number| (*min..=*max).contains(&number))),
            // NaN is within no limits.
            Self::Float { min, max } => plain(value.parse::<f64>().is_ok_and(|number| (*min..=*max).contains(&number))),
            Self::Path => plain(line && value.starts_with('/')),
            Self::Choice(words) => {
                if words.contains(&value) {
                    None
                } else {
                    Some(did_you_mean(value, words))
                }
            }
            Self::List => None,
            Self::ListOf(words) => {
                items(value).find(|item| !words.contains(item)).map(|item| did_you_mean(item, words))
            }
            Self::Url(schemes) => plain(value.split_once("://").is_some_and(|(scheme, _)| {
                let bare = !value.contains(|c: char| c.is_whitespace() || c.is_control());
                bare && schemes.iter().any(|known| known.eq_ignore_ascii_case(scheme))
            })),
        }
    }
}

fn did_you_mean(word: &str, known: &[&str]) -> String {
    nearest(word, known.iter().copied()).map(|near| format!(". Did you mean {near}?")).unwrap_or_default()
}

fn is_without_effect(entry: &Entry) -> bool {
    (entry.section == RABBIT && RabbitOptions::is_without_effect(&entry.key))
        || WITHOUT_EFFECT
            .iter()
            .any(|(section, names)| *section == entry.section && names.contains(&entry.key.as_str()))
}

/// The sentence about an option or a section that does not exist.
fn unknown(entry: &Entry) -> String {
    let names: Vec<_> = OPTIONS.iter().filter(|spec| spec.section == entry.section).map(|spec| spec.name).collect();
    if names.is_empty() {
        let near = nearest(&entry.section, OPTIONS.iter().map(|spec| spec.section));
        let hint = near.map(|section| format!("; did you mean [{section}]?")).unwrap_or_default();
        return format!("there is no section [{}]{hint}", quoted(&entry.section).trim_matches('"'));
    }
    let hint = if let Some(near) = nearest(&entry.key, names) {
        format!("; did you mean {near}?")
    } else if let Some(other) = OPTIONS.iter().find(|spec| spec.name == entry.key) {
        format!("; it belongs into [{}]", other.section)
    } else {
        String::new()
    };
    format!("there is no option {} in [{}]{hint}", quoted(&entry.key), entry.section)
}
