//! The transports of one process: a bus for each, shared where two of them are the same broker, account and virtual host.

use anyhow::Context;

use crate::bus::{Bus, Transport};
use crate::config::Settings;

/// The buses of a process, started when first asked for.
pub struct Transports {
    name: String,
    open: Vec<(Transport, String, Bus)>,
}

impl Transports {
    /// For a process called `name`, which is shown to the broker's operators.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), open: Vec::new() }
    }

    /// The bus of `transport`, as `settings` have it: the one that is open already where the URL is the same. Connecting goes on in the
    /// background, for ever; [`Bus::broker`] says how it goes. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the options cannot be used; names the transport.
    pub fn bus(&mut self, settings: &Settings, transport: Transport) -> anyhow::Result<Bus> {
        let url = settings.transport_url(transport).reveal();
        if let Some((_, _, bus)) = self.open.iter().find(|(_, open, _)| open == url) {
            return Ok(bus.clone());
        }
        let name = match transport {
            Transport::Control => self.name.clone(),
            Transport::Agents | Transport::Notifications | Transport::Nova => {
                format!("{} {}", self.name, transport.as_str())
            }
        };
        let bus = Bus::start(settings.bus_options_of(transport), &name)
            .with_context(|| format!("starting the bus of {}", transport.as_str()))?;
        self.open.push((transport, url.clone(), bus.clone()));
        Ok(bus)
    }

    /// Closes every bus, the last opened first.
    pub async fn close(self) {
        for (_, _, bus) in self.open.into_iter().rev() {
            bus.close().await;
        }
    }
}
