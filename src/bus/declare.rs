//! Making exchanges and queues, each on a channel of its own.

use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};

use super::connection::Link;
use super::error::{BusError, from_lapin};
use super::mismatch;
use super::topology::Object;

/// Declares `object` unless that was done on this connection.
pub(crate) async fn ensure(link: &Link, object: &Object) -> Result<(), BusError> {
    let label = object.label();
    if !link.is_declared(&label) {
        declare(link, object).await?;
        link.set_declared(label);
    }
    Ok(())
}

/// Declares `object`; where the broker has it from peers that do not use durable queues, as those have it.
pub(crate) async fn declare(link: &Link, object: &Object) -> Result<(), BusError> {
    match declare_exactly(link, object).await {
        Err(BusError::Refused { code: 406, .. }) if object.transient_fallback().is_some() => {
            let Some(fallback) = object.transient_fallback() else {
                return Ok(());
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

async fn declare_exactly(link: &Link, object: &Object) -> Result<(), BusError> {
    let label = object.label();
    let about = |error: lapin::Error| match from_lapin(&error, &label) {
        BusError::Refused { object: label, code: code @ 406, detail } => {
            let detail = mismatch::explain(object, &detail).unwrap_or(detail);
            BusError::Refused { object: label, code, detail }
        }
        other => other,
    };
    // A channel of its own: a refused declaration closes it.
    let channel = link.connection.create_channel().await.map_err(about)?;
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
            channel.queue_declare(short(&queue.name)?, options, queue.arguments.clone()).await.map_err(about)?;
            if let Some((exchange, key)) = &queue.binding {
                channel
                    .queue_bind(
                        short(&queue.name)?,
                        short(exchange)?,
                        short(key)?,
                        QueueBindOptions::default(),
                        FieldTable::default(),
                    )
                    .await
                    .map_err(about)?;
            }
        }
    }
    let _ = channel.close(200, "OK".into()).await;
    Ok(())
}

/// How many messages wait in a queue for a consumer; `None` where there is no such queue.
pub(crate) async fn waiting(link: &Link, queue: &str) -> Result<Option<u32>, BusError> {
    let label = format!("queue {queue:?}");
    let about = |error: lapin::Error| from_lapin(&error, &label);
    // A channel of its own: asking for a queue that is not there closes it.
    let channel = link.connection.create_channel().await.map_err(about)?;
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    match channel.queue_declare(short(queue)?, options, FieldTable::default()).await.map_err(about) {
        Ok(found) => {
            let _ = channel.close(200, "OK".into()).await;
            Ok(Some(found.message_count()))
        }
        Err(BusError::Refused { code: 404, .. }) => Ok(None),
        Err(error) => Err(error),
    }
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
