//! The adapters of one process.

use std::path::PathBuf;
use std::sync::Arc;

use crate::adapter::{self, registry};
use crate::app::{App, Running, needs};
use crate::bus::Transport;
use crate::clock::Clock;
use crate::config::{CloudAccount, Settings, Sources};
use crate::rpc::Identity;
use crate::telemetry::health::Standing;

impl App {
    pub(super) async fn start_adapters(
        &mut self,
        settings: &Settings,
        sources: &Sources,
        clock: &Arc<dyn Clock>,
        server: &str,
        identity: &mut dyn FnMut(&str) -> anyhow::Result<Arc<Identity>>,
    ) -> anyhow::Result<()> {
        use anyhow::Context;
        let agents = self.transports.bus(settings, Transport::Agents)?;
        for (name, built) in registry::build_all(&provider_settings(settings, sources)) {
            if !settings.adapter.names.iter().any(|wanted| wanted.as_str() == name) {
                continue;
            }
            let concurrency = u16::try_from(settings.adapter.concurrency).unwrap_or(u16::MAX).max(1);
            let runner = match built.and_then(|provider| adapter::service::wrap(provider, concurrency)) {
                Ok(runner) => runner,
                Err(reason) => {
                    // The others work on; checks of this one say that no adapter lives.
                    tracing::error!(adapter = name, reason, "this adapter cannot be offered here");
                    continue;
                }
            };
            let health = self.watched(&format!("adapter:{name}"));
            needs::bus(&health, "agents' broker", &agents);
            let options = adapter::service::Options {
                bus: self.bus.clone(),
                agents: agents.clone(),
                identity: identity(&format!("adapter-{name}"))?,
                clock: clock.clone(),
                runner,
                batches: concurrency,
                instance: format!("{server}:{}", std::process::id()),
                health: health.clone(),
            };
            let started = adapter::service::start(options).await;
            self.running.push(Running::Adapter(started.with_context(|| format!("starting adapter {name}"))?));
            health.stands(Standing::Active);
        }
        Ok(())
    }
}

/// Providers as the settings have them.
fn provider_settings(settings: &Settings, sources: &Sources) -> registry::Settings {
    let oat = &settings.openattestation;
    let openattestation = oat.url.clone().map(|url| adapter::open_attestation::Settings {
        url,
        insecure_loopback_http: oat.insecure_http,
        ca_file: oat.ca_file.clone(),
        client_cert: oat.client_cert_file.clone(),
        client_key: oat.client_key_file.clone(),
        auth_blob: oat.auth_blob.as_ref().map(|blob| adapter::secret::Secret::new(blob.reveal().clone())),
        request_timeout: oat.timeout,
        max_reply_bytes: oat.max_reply_bytes,
        batch: oat.batch_size,
        concurrency: oat.concurrency,
        ..adapter::open_attestation::Settings::default()
    });
    let listed = |folder: &PathBuf| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let secret_files = listed(&settings.security.key_dir)
        .chain(sources.files.iter().cloned())
        .chain(sources.dirs.iter().flat_map(listed))
        .chain(oat.client_key_file.clone())
        .chain(clouds_files(settings))
        .collect();
    let command = adapter::command::Settings {
        plugin_dir: settings.command.plugin_dir.clone(),
        user: settings.command.user.clone(),
        concurrency: settings.command.max_processes,
        secret_files,
        launcher: None,
    };
    registry::Settings { openattestation, command: Some(command) }
}

/// Files with the password of the account in `[openstack]`, where it is not in our own configuration.
fn clouds_files(settings: &Settings) -> Vec<PathBuf> {
    match &settings.openstack.account {
        Some(CloudAccount::Cloud { file: Some(file), .. }) => vec![file.clone()],
        // Of those that OpenStack's clients read, the ones that are the same for every program of a machine.
        Some(CloudAccount::Cloud { file: None, .. }) => ["clouds.yaml", "clouds.yml", "secure.yaml", "secure.yml"]
            .map(|name| PathBuf::from("/etc/openstack").join(name))
            .into(),
        Some(CloudAccount::Password { .. }) | None => Vec::new(),
    }
}
