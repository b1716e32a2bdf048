//! What a server uses stays as it was made: queues bound, exchanges there, nobody else at its queues.
//!
//! Consumers are told when their queue is deleted, but not when it is unbound or its exchange is gone: nothing arrives any
//! more, and nothing says why. Who may do everything on a virtual host can do that, and can take messages out of our queues.

use std::time::Duration;

use super::connection::Link;
use super::declare::renew;
use super::error::BusError;
use super::service::Service;
use super::topology::{OWN_WORK_TOPICS, Object};
use crate::text::display_safe;

/// How often it is looked after.
const PERIOD: Duration = Duration::from_secs(10);

/// Looks after `objects` for as long as the connection lasts; does not return before.
pub(crate) async fn keep(link: &Link, service: &Service, objects: &[Object]) {
    let mut complained = false;
    loop {
        tokio::time::sleep(PERIOD).await;
        let mut fault = None;
        for object in objects {
            match renew(link, object).await {
                Ok(Some(consumers)) => fault = fault.or_else(|| strangers(service, object, consumers)),
                Ok(None) => {}
                Err(error @ BusError::Refused { code: 403 | 405 | 406, .. }) => {
                    fault.get_or_insert(("refused", display_safe(&error.to_string())));
                }
                // Gone, or on its way: the session ends, and the next one makes everything anew.
                Err(_) => {}
            }
        }
        if let Some((reason, why)) = &fault {
            metrics::counter!("spice_bus_tampered_total", "topic" => service.topic.clone(), "reason" => *reason)
                .increment(1);
            if !complained {
                tracing::warn!(bus.topic = %display_safe(&service.topic), reason, "what this server uses on the message broker is not as it should be: {why}");
            }
        }
        complained = fault.is_some();
    }
}

/// Somebody else consumes from a queue that has one consumer.
fn strangers(service: &Service, object: &Object, consumers: u32) -> Option<(&'static str, String)> {
    let Object::Queue(queue) = object else { return None };
    let ours_alone = OWN_WORK_TOPICS.contains(&service.topic.as_str()) && queue.name == service.topic;
    (ours_alone && consumers > 1).then(|| {
        let why = format!(
            "queue {} has {consumers} consumers and should have one: somebody takes messages out of it. See `rabbitmqctl \
             list_consumers`, and who has rights in this virtual host with `tools/rabbitmq-permissions --check`",
            display_safe(&queue.name)
        );
        ("consumers", why)
    })
}
