//! A message as it came from the broker, and what becomes of it there: acknowledged, given back, or thrown away.
//!
//! Through the channel and not through lapin's `Acker`: that one hands the word to a task, which hands it to the connection's thread and starts
//! a further task to say that it was written. At a thousand calls a second those detours are a good part of what a call costs.

use futures_util::FutureExt;
use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicNackOptions, BasicRejectOptions};

/// A message that waits for our word.
pub(crate) struct Arrived {
    pub delivery: Delivery,
    channel: Channel,
}

impl Arrived {
    /// `channel` is the one it was delivered on.
    pub(crate) fn new(delivery: Delivery, channel: Channel) -> Self {
        Self { delivery, channel }
    }

    /// Acknowledges it as soon as the connection's thread comes to it; false when the channel is gone, so that the broker delivers it again.
    pub(crate) fn acknowledge_soon(&self) -> bool {
        // The first poll hands it over; what follows would only wait until it was written.
        let handed_over = self.channel.basic_ack(self.delivery.delivery_tag, BasicAckOptions::default()).now_or_never();
        !matches!(handed_over, Some(Err(_)))
    }

    /// Acknowledges it; false when that could not be written, so that the broker delivers it again.
    pub(crate) async fn acknowledge(&self) -> bool {
        self.channel.basic_ack(self.delivery.delivery_tag, BasicAckOptions::default()).await.is_ok()
    }

    /// Lets the broker deliver it again.
    pub(crate) async fn give_back(&self) {
        let options = BasicNackOptions { requeue: true, multiple: false };
        let _ = self.channel.basic_nack(self.delivery.delivery_tag, options).await;
    }

    /// Throws it away.
    pub(crate) async fn refuse(&self) {
        let _ = self.channel.basic_reject(self.delivery.delivery_tag, BasicRejectOptions { requeue: false }).await;
    }
}
