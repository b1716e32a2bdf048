//! Making exchanges and queues, each on a channel of its own.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};

use super::connection::Link;
use super::error::{BusError, from_lapin};
use super::topology::{Object, Queue};

/// Declares `object` unless that was done on this connection.
pub(crate) async fn ensure(link: &Link, object: &Object) -> Result<(), BusError> {
    let label = object.label();
    if !link.is_declared(&label) {
        declare(link, object).await?;
        link.set_declared(label);
    }
    Ok(())
}

/// Makes sure of an object that a server of ours uses: whoever may do everything on a virtual host can unbind queues and
/// delete exchanges without the consumer noticing. Gives the number of a queue's consumers.
pub(crate) async fn renew(link: &Link, object: &Object) -> Result<Option<u32>, BusError> {
    match object {
        // Made anew it would have no consumer; that it is gone is noticed by the one it had.
        Object::Queue(queue) if queue.exclusive => {
            let about = |error: lapin::Error| from_lapin(&error, &object.label());
            let channel = link.connection.create_channel().await.map_err(about)?;
            bind(&channel, queue).await?;
            let _ = channel.close(200, "OK".into()).await;
            Ok(None)
        }
        _ => declare(link, object).await,
    }
}

/// Declares `object`; where the broker has it from peers that do not use durable queues, as those have it. Gives the number
/// of a queue's consumers.
pub(crate) async fn declare(link: &Link, object: &Object) -> Result<Option<u32>, BusError> {
    match declare_exactly(link, object).await {
        Err(BusError::Refused { code: 406, .. }) if object.transient_fallback().is_some() => {
            let Some(fallback) = object.transient_fallback() else {
                return Ok(None);
            };
            tracing::warn!(
                "{} exists and is not durable, although the options ask for it; it is used as it is",
                object.label()
            );
            declare_exactly(link, &fallback).await
        }
        outcome => outcome,
    }
}

async fn declare_exactly(link: &Link, object: &Object) -> Result<Option<u32>, BusError> {
    let label = object.label();
    let about = |error: lapin::Error| from_lapin(&error, &label);
    // A channel of its own: a refused declaration closes it.
    let channel = link.connection.create_channel().await.map_err(about)?;
    let mut consumers = None;
    match object {
        Object::Exchange(exchange) => {
            let kind = if exchange.fanout { ExchangeKind::Fanout } else { ExchangeKind::Topic };
            let options = ExchangeDeclareOptions {
                passive: exchange.passive,
                durable: exchange.durable,
                auto_delete: exchange.auto_delete,
                internal: false,
                nowait: false,
            };
            channel
                .exchange_declare(short(&exchange.name)?, kind, options, FieldTable::default())
                .await
                .map_err(about)?;
        }
        Object::Queue(queue) => {
            let options = QueueDeclareOptions {
                passive: false,
                durable: queue.durable,
                exclusive: queue.exclusive,
                auto_delete: queue.auto_delete,
                nowait: false,
            };
            let declared =
                channel.queue_declare(short(&queue.name)?, options, queue.arguments.clone()).await.map_err(about)?;
            consumers = Some(declared.consumer_count());
            bind(&channel, queue).await?;
        }
    }
    let _ = channel.close(200, "OK".into()).await;
    Ok(consumers)
}

/// Binds a queue where it belongs.
async fn bind(channel: &Channel, queue: &Queue) -> Result<(), BusError> {
    let Some((exchange, key)) = &queue.binding else { return Ok(()) };
    let bound = channel.queue_bind(
        short(&queue.name)?,
        short(exchange)?,
        short(key)?,
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    bound.await.map_err(|error| from_lapin(&error, &format!("queue {:?}", queue.name)))
}

/// `text` as AMQP's short string, which has at most 255 bytes.
pub(crate) fn short(text: &str) -> Result<ShortString, BusError> {
    ShortString::try_new(text).map_err(|_| {
        BusError::Options(format!(
            "{:?} is too long for the name of an exchange, queue, topic or server: at most 255 bytes",
            crate::text::display_safe_to(text, 40)
        ))
    })
}
