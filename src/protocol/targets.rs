//! Which nodes a check is for.

use std::collections::BTreeMap;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::names::NodeName;
use crate::text::display_safe_to;

use super::policy::Targets;

/// Most patterns one check may have.
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

    /// Whether a node of this name with these labels is meant. Compiles the patterns every time: where many nodes are
    /// asked about, make one [`TargetMatcher`].
    ///
    /// # Errors
    /// As [`Targets::validate`].
    pub fn matches(&self, node: &NodeName, labels: &BTreeMap<String, String>) -> Result<bool, TargetsError> {
        Ok(TargetMatcher::new(self)?.matches(node, labels))
    }
}

/// Targets made ready to match many nodes.
#[derive(Debug, Clone)]
pub struct TargetMatcher {
    targets: Targets,
    patterns: GlobSet,
}

impl TargetMatcher {
    /// Compiles `targets`.
    ///
    /// # Errors
    /// As [`Targets::validate`].
    pub fn new(targets: &Targets) -> Result<Self, TargetsError> {
        if targets.patterns.len() > MAX_PATTERNS {
            return Err(TargetsError::TooMany(targets.patterns.len()));
        }
        let mut set = GlobSetBuilder::new();
        for pattern in &targets.patterns {
            set.add(compile(pattern)?);
        }
        // Together they can exceed the size limit of the matcher although each alone does not.
        let patterns = set.build().map_err(|error| fault("(all together)", &error.kind().to_string()))?;
        Ok(Self { targets: targets.clone(), patterns })
    }

    /// Whether a node of this name with these labels is meant. Empty lists match nobody; labels match a node that
    /// carries all of them, with exactly these values.
    #[must_use]
    pub fn matches(&self, node: &NodeName, labels: &BTreeMap<String, String>) -> bool {
        let wanted = &self.targets.labels;
        self.targets.all
            || self.targets.nodes.contains(node)
            || self.patterns.is_match(node.as_str())
            || (!wanted.is_empty() && wanted.iter().all(|(key, value)| labels.get(key) == Some(value)))
    }
}

fn compile(pattern: &str) -> Result<globset::Glob, TargetsError> {
    if pattern.is_empty() || pattern.len() > MAX_PATTERN_LENGTH {
        return Err(fault(pattern, "it has to have 1 to 255 characters"));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-*?[]{},!^".contains(c);
    if !pattern.chars().all(allowed) {
        return Err(fault(pattern, "it holds a character that no node name has"));
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
