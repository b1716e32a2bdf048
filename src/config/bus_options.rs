//! Settings as the options the bus is started with: one conversion, for the service and the command line.

use crate::bus::{BusOptions, Declare, NotificationOptions, Transport};

use super::secret::Secret;
use super::sections::{BusSettings, DeclareSetting};
use super::settings::Settings;

impl Settings {
    /// SPICE's own bus as these settings have it.
    #[must_use]
    pub fn bus_options(&self) -> BusOptions {
        self.bus_options_of(Transport::Control)
    }

    /// Where a transport is; SPICE's own bus where it has none of its own.
    #[must_use]
    pub fn transport_url(&self, transport: Transport) -> &Secret<String> {
        match transport {
            Transport::Control => &self.bus.transport_url,
            Transport::Agents => &self.agents.transport_url,
            Transport::Notifications => &self.notifications.transport_url,
            Transport::Nova => self.nova.transport_url.as_ref().unwrap_or(&self.bus.transport_url),
        }
    }

    /// The bus of a transport as these settings have it.
    #[must_use]
    pub fn bus_options_of(&self, transport: Transport) -> BusOptions {
        let BusSettings { transport_url: _, rpc_response_timeout, rpc_ping_enabled, rabbit } = &self.bus;
        BusOptions {
            transport,
            transport_url: self.transport_url(transport).reveal().clone(),
            rabbit: rabbit.clone(),
            rpc_response_timeout: *rpc_response_timeout,
            rpc_ping_enabled: *rpc_ping_enabled,
            notifications: NotificationOptions {
                exchange: self.notifications.exchange.clone(),
                topics: self.notifications.topics.clone(),
                declare: match self.notifications.declare {
                    DeclareSetting::Passive => Declare::Passive,
                    DeclareSetting::Active => Declare::Active,
                },
            },
            ..BusOptions::default()
        }
    }
}
