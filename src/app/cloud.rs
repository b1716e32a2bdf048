//! The roles that ask OpenStack's APIs.

use std::sync::Arc;

use crate::app::{App, Running, needs};
use crate::bus::Transport;
use crate::config::Settings;
use crate::nova::{self, overheard::Notifications};
use crate::openstack::Session;
use crate::rpc::Identity;
use crate::telemetry::health::Standing;

impl App {
    pub(super) fn start_nova(&mut self, settings: &Settings, identity: Arc<Identity>) -> anyhow::Result<()> {
        let health = self.watched("nova");
        let wanted = &settings.nova;
        let notifications = wanted.transport_url.as_ref().map(|_| -> anyhow::Result<Notifications> {
            let bus = self.transports.bus(settings, Transport::Nova)?;
            needs::bus(&health, "Nova's broker", &bus);
            Ok(Notifications { bus, exchange: wanted.exchange.clone(), topic: wanted.topic.clone() })
        });
        let options = nova::Options {
            bus: self.bus.clone(),
            identity,
            session: Session::new(&settings.openstack)?,
            notifications: notifications.transpose()?,
            interval: wanted.interval,
            health: health.clone(),
        };
        self.running.push(Running::Nova(nova::start(options)));
        health.stands(Standing::Active);
        Ok(())
    }
}
