//! Which nodes a check is for.

use std::collections::{BTreeMap, BTreeSet};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};

use crate::names::NodeName;
use crate::text::display_safe_to;

use super::policy::Targets;

/// Where Nova has a node. Filled by hand, or from Nova.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Placement {
    /// The host aggregates it is in.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub aggregates: BTreeSet<String>,
    /// Its availability zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

impl Placement {
    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.aggregates.is_empty() && self.zone.is_none()
    }
}

/// What targets can ask for of a node, beside its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Traits {
    /// Its labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Where Nova has it.
    #[serde(skip_serializing_if = "Placement::is_empty")]
    pub placement: Placement,
}

/// Most patterns of one kind that a check may have.
pub const MAX_PATTERNS: usize = 256;
/// Longest pattern, in bytes; no node name is longer.
pub const MAX_PATTERN_LENGTH: usize = 255;

/// What is wrong with the targets of a check.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetsError {
    /// More than [`MAX_PATTERNS`].
    #[error("a check may have at most {MAX_PATTERNS} target patterns, not {0}: use labels instead")]
    TooMany(usize),
    /// A pattern that no name can match, or that is no glob.
    #[error(
        "target pattern {pattern:?} is not valid: {fault}; use letters, digits, . _ - and the wildcards * ? [a-z] {{a,b}}"
    )]
    Pattern {
        /// The pattern, safe to show.
        pattern: String,
        /// What is wrong with it.
        fault: String,
    },
}

impl Targets {
    /// Checks the patterns.
    ///
    /// # Errors
    /// [`TargetsError`] for the first pattern that is no valid glob over node names.
    pub fn validate(&self) -> Result<(), TargetsError> {
        TargetMatcher::new(self).map(|_| ())
    }
}

/// Targets made ready to match many nodes.
#[derive(Debug, Clone)]
pub struct TargetMatcher {
    targets: Targets,
    patterns: GlobSet,
    aggregates: GlobSet,
    zones: GlobSet,
}

impl TargetMatcher {
    /// Compiles `targets`.
    ///
    /// # Errors
    /// As [`Targets::validate`].
    pub fn new(targets: &Targets) -> Result<Self, TargetsError> {
        Ok(Self {
            targets: targets.clone(),
            patterns: set(&targets.patterns, in_node_name)?,
            // Nova lets these be called almost anything.
            aggregates: set(&targets.aggregates, in_placement)?,
            zones: set(&targets.zones, in_placement)?,
        })
    }

    /// Whether a node of this name with these labels, in this place, is meant. Empty lists match nobody; labels match a
    /// node that carries all of them, with exactly these values.
    #[must_use]
    pub fn matches(&self, node: &NodeName, labels: &BTreeMap<String, String>, placement: &Placement) -> bool {
        let wanted = &self.targets.labels;
        self.targets.all
            || self.targets.nodes.contains(node)
            || self.patterns.is_match(node.as_str())
            || (!wanted.is_empty() && wanted.iter().all(|(key, value)| labels.get(key) == Some(value)))
            || placement.aggregates.iter().any(|aggregate| self.aggregates.is_match(aggregate))
            || placement.zone.as_ref().is_some_and(|zone| self.zones.is_match(zone))
    }

    /// [`TargetMatcher::matches`], given all at once.
    #[must_use]
    pub fn means(&self, node: &NodeName, traits: &Traits) -> bool {
        self.matches(node, &traits.labels, &traits.placement)
    }
}

fn set(patterns: &BTreeSet<String>, allowed: fn(char) -> bool) -> Result<GlobSet, TargetsError> {
    if patterns.len() > MAX_PATTERNS {
        return Err(TargetsError::TooMany(patterns.len()));
    }
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(compile(pattern, allowed)?);
    }
    // Together they can exceed the size limit of the matcher although each alone does not.
    set.build().map_err(|error| fault("(all together)", &error.kind().to_string()))
}

fn in_node_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._-*?[]{},!^".contains(c)
}

fn in_placement(c: char) -> bool {
    c != '\\' && !c.is_control() && crate::text::display_safe(c.encode_utf8(&mut [0; 4])).chars().eq([c])
}

fn compile(pattern: &str, allowed: fn(char) -> bool) -> Result<globset::Glob, TargetsError> {
    if pattern.is_empty() || pattern.len() > MAX_PATTERN_LENGTH {
        return Err(fault(pattern, "it has to have 1 to 255 characters"));
    }
    if !pattern.chars().all(allowed) {
        return Err(fault(pattern, "it holds a character that no such name has"));
    }
    // Names are no paths and Nova compares them exactly, so nothing of a path's or a file system's meaning applies.
    GlobBuilder::new(pattern)
        .literal_separator(false)
        .backslash_escape(false)
        .case_insensitive(false)
        .build()
        .map_err(|error| fault(pattern, &error.kind().to_string()))
}

fn fault(pattern: &str, fault: &str) -> TargetsError {
    TargetsError::Pattern { pattern: display_safe_to(pattern, 64), fault: fault.to_owned() }
}

#[cfg(test)]
#[path = "targets_tests.rs"]
mod tests;
