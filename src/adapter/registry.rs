//! The one list of built-in providers.

use std::sync::Arc;

use super::{Provider, command, open_attestation};

/// What the configuration says about providers; a section that is missing is a provider not offered here.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Section `[openattestation]`.
    pub openattestation: Option<open_attestation::Settings>,
    /// Section `[command]`.
    pub command: Option<command::Settings>,
}

/// A provider, or the sentence why it cannot be offered.
pub type Built = Result<Arc<dyn Provider>, String>;

/// `None` where the configuration does not name the provider.
type Build = fn(&Settings) -> Option<Built>;

const BUILT_IN: &[(&str, Build)] = &[
    (open_attestation::NAME, |settings| settings.openattestation.clone().map(open_attestation::build)),
    (command::NAME, |settings| settings.command.clone().map(command::build)),
];

/// The names of all built-in providers, configured or not.
pub fn names() -> impl Iterator<Item = &'static str> {
    BUILT_IN.iter().map(|(name, _)| *name)
}

/// Every configured provider. One that cannot start stays in the list with its reason, so that status can show it while
/// the others work.
#[must_use]
pub fn build_all(settings: &Settings) -> Vec<(&'static str, Built)> {
    BUILT_IN.iter().filter_map(|(name, build)| Some((*name, build(settings)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::AdapterName;

    #[test]
    fn every_name_is_a_valid_adapter_name_and_unique() {
        let mut seen: Vec<&str> = names().collect();
        assert!(seen.iter().all(|name| AdapterName::new(name).is_ok()));
        seen.dedup();
        assert_eq!(seen.len(), BUILT_IN.len());
        assert!(build_all(&Settings::default()).is_empty());
    }
}
