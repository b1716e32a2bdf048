//! Configuration: oslo.config-style files into validated settings, in three steps.
//!
//! | step | file | gives |
//! |---|---|---|
//! | as written | `file`, `lines` | every assignment with its place, and what is no assignment |
//! | as meant | `options`, `table`, `values`, `references` | the one table of options; values of the right type and range |
//! | as used | `settings`, `bus_settings`, `sections`, `bus_options` | typed settings per section, contradictions between options found |
//!
//! Files are read once, strictly: unknown options and all other faults are reported together, each with its place. The
//! sample file comes from the same table (`sample`), so it cannot name an option that does not exist.

mod bus_options;
mod bus_settings;
mod fault;
mod file;
mod lines;
mod options;
mod references;
mod sample;
mod secret;
mod sections;
mod settings;
mod suggest;
mod table;
mod values;

#[cfg(test)]
mod tests;

pub use fault::{ConfigFault, Origin, Warning};
pub use options::{BUILT_IN_ADAPTERS, Kind, OptionSpec, Role};
pub use sample::sample;
pub use secret::Secret;
pub use sections::{
    AdapterSettings, AgentsSettings, BusSettings, CloudAccount, CommandSettings, DatabaseSettings, DeclareSetting,
    MetricsSettings, NodesSettings, NotificationSettings, NovaSettings, OpenAttestationSettings, OpenStackSettings,
    PoolSettings, ResultsSetting, SecuritySettings, SpicectlSettings,
};
pub use settings::{Settings, Sources};
pub use table::OPTIONS;
