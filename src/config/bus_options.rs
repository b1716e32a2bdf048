//! Settings as the options the bus is started with: one conversion, for the service and the command line.

use crate::bus::{BusOptions, Declare, NotificationOptions};

use super::sections::{BusSettings, DeclareSetting};
use super::settings::Settings;

impl Settings {
    /// The bus as these settings have it.
    #[must_use]
    pub fn bus_options(&self) -> BusOptions {
        let BusSettings { transport_url, rpc_response_timeout, rpc_ping_enabled, rabbit } = &self.bus;
        BusOptions {
            transport_url: transport_url.reveal().clone(),
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
