//! `spiced`: the service. Arguments, logs, settings, run, exit code; everything else is in the library.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use spice::app::{self, Role};
use spice::config::{Settings, Sources};
use spice::telemetry::health::Health;
use spice::telemetry::listener::Listener;
use spice::telemetry::{self, LogOptions, figures, systemd};
use tokio::signal::unix::{SignalKind, signal};

/// Results are read, judged and stored as millions of small values, which one thread makes and another frees; and what a burst took goes back to the system.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// SPICE: scheduled security checks and trusted pools for OpenStack.
///
/// Runs one or more roles. Without --role it runs all of them in this process (nova where the configuration says how to ask it),
/// and makes its own keys when its state directory is empty.
#[derive(Parser)]
#[command(name = "spiced", version)]
struct Arguments {
    /// Roles of this process, separated by commas.
    #[arg(long, value_delimiter = ',', value_enum)]
    role: Vec<Role>,
    /// A configuration file; may be given several times, later ones win.
    #[arg(long, env = "SPICE_CONFIG", default_value = "/etc/spice/spice.conf")]
    config_file: Vec<PathBuf>,
    /// A directory whose *.conf files are read after the configuration files.
    #[arg(long)]
    config_dir: Vec<PathBuf>,
}

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == spice::adapter::command::SUBCOMMAND) {
        spice::adapter::command::launch_main();
    }
    let arguments = Arguments::parse();
    let sources = Sources { files: arguments.config_file, dirs: arguments.config_dir, env: environment() };
    let (settings, warnings) = match Settings::load(&sources) {
        Ok(loaded) => loaded,
        Err(faults) => {
            for fault in faults {
                eprintln!("spiced: {fault}");
            }
            return ExitCode::from(2);
        }
    };
    let filter = std::env::var(telemetry::FILTER_VARIABLE).ok();
    if let Err(error) = telemetry::start(&LogOptions { debug: settings.debug, json: settings.log_json, filter }) {
        eprintln!("spiced: {error}");
        return ExitCode::from(2);
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    // Not from the beginning: as the launcher of a check's program this very program must not start any thread.
    if let Err(error) = tikv_jemalloc_ctl::background_thread::write(true) {
        tracing::warn!(%error, "memory that is not used any more goes back to the system late");
    }
    let roles: BTreeSet<Role> =
        if arguments.role.is_empty() { Role::usual(&settings) } else { arguments.role.into_iter().collect() };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("spiced: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(&settings, &roles, &sources)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The environment; what is no text cannot be an option of ours.
fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

async fn run(settings: &Settings, roles: &BTreeSet<Role>, sources: &Sources) -> anyhow::Result<()> {
    // From here on a signal is heard, also while starting.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let health = Health::default();
    if let Some(address) = settings.metrics.listen {
        let told = |error: &dyn std::fmt::Display| anyhow::anyhow!("[metrics] listen {address}: {error}");
        let counted = figures::install().map_err(|error| told(&error))?;
        let listener = Listener::bind(address, counted, health.clone()).await.map_err(|error| told(&error))?;
        tokio::spawn(listener.serve());
    }
    systemd::status("starting: waits for the broker, if that is away");
    let app = tokio::select! {
        started = app::start(settings, roles, sources, health.clone()) => started?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    tracing::info!(deployment = %settings.deployment, roles = ?roles, "started");
    systemd::ready("serving");
    if let Some(watchdog) = systemd::watchdog(health) {
        tokio::spawn(watchdog);
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    systemd::stopping();
    app.stop().await;
    Ok(())
}
