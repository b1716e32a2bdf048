//! The roles that ask OpenStack's APIs.

use anyhow::Context;
use std::sync::Arc;

use crate::app::{App, Running, needs};
use crate::bus::Transport;
use crate::config::{CloudAccount, Settings};
use crate::nova::{self, overheard::Notifications};
use crate::openstack::{Account, Place, Session};
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
            session: session(settings)?,
            notifications: notifications.transpose()?,
            interval: wanted.interval,
            health: health.clone(),
        };
        self.running.push(Running::Nova(nova::start(options)));
        health.stands(Standing::Active);
        Ok(())
    }
}

/// The account that the settings name.
fn session(settings: &Settings) -> anyhow::Result<Session> {
    let openstack = &settings.openstack;
    let account =
        openstack.account.as_ref().context("[openstack] names no account: set cloud, or auth_url and password")?;
    let account = match account.clone() {
        CloudAccount::Cloud { name, file } => Account::Cloud { name, file },
        CloudAccount::Password {
            auth_url,
            username,
            password,
            user_domain_name,
            project_name,
            project_domain_name,
        } => {
            let password = password.reveal().as_str().into();
            Account::Password { auth_url, username, password, user_domain_name, project_name, project_domain_name }
        }
    };
    let place = Place {
        region_name: openstack.region_name.clone(),
        interface: openstack.interface.clone(),
        cafile: openstack.cafile.clone(),
    };
    Ok(Session::new(&account, &place)?)
}
