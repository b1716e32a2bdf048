//! Stories of configuration files, good and hostile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod files;
mod fuzz;
mod hostile;
mod loading;
mod sampled;

use std::path::{Path, PathBuf};

use super::file::Written;
use super::values::Values;
use super::*;

/// The smallest file that starts.
const MINIMAL: &str = "[DEFAULT]\ntransport_url = rabbit://spice:pw@host:5672/spice\n[spice]\ndeployment = cloud-1\n";

type Loaded = Result<(Settings, Vec<Warning>), Vec<ConfigFault>>;

/// Loads one text as the file `spice.conf`.
fn load(text: &str) -> Loaded {
    let mut written = Written::default();
    written.parse(text, Path::new("spice.conf"));
    Settings::from_values(Values::new(written, &[]))
}

/// Loads the minimal file and `more` below it.
fn with(more: &str) -> Loaded {
    load(&format!("{MINIMAL}{more}"))
}

fn settings(more: &str) -> Settings {
    with(more).unwrap_or_else(|faults| panic!("{more}: {}", shown(&faults))).0
}

fn shown<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The only fault.
fn fault(more: &str) -> String {
    let faults = with(more).expect_err(more);
    assert_eq!(faults.len(), 1, "{}", shown(&faults));
    shown(&faults)
}
