//! Why the broker refuses an exchange or queue that exists with other properties, in words an operator can act on.

use super::topology::Object;
use crate::text::display_safe;

/// What `words`, the broker's own, say about `object`: which property differs, how, and what to change. `None`: they say something else.
pub(crate) fn explain(object: &Object, words: &str) -> Option<String> {
    let difference = Difference::read(words)?;
    let Difference { property, wanted, found } = difference;
    let remedy = remedy(object, property, found);
    Some(format!(
        "it exists with {} = {}, wanted is {}; {remedy}, or remove it while nobody uses it",
        display_safe(property),
        display_safe(found),
        display_safe(wanted)
    ))
}

/// How an object differs from what was declared.
#[derive(Debug, PartialEq, Eq)]
struct Difference<'a> {
    property: &'a str,
    wanted: &'a str,
    /// `none` when the object has no such argument.
    found: &'a str,
}

impl<'a> Difference<'a> {
    /// Reads `inequivalent arg 'P' for queue 'N' in vhost 'V': received W but current is F`.
    fn read(words: &'a str) -> Option<Self> {
        let (_, rest) = words.split_once("inequivalent arg '")?;
        let (property, rest) = rest.split_once('\'')?;
        // Names may hold anything, these words included: what follows the last of them is the broker's.
        let (_, values) = rest.rsplit_once(": received ")?;
        let (wanted, found) = values.split_once(" but current is ")?;
        Some(Self { property, wanted: value(wanted), found: value(found) })
    }
}

/// `'true'`, `none` or `the value 'quorum' of type 'longstr'`.
fn value(words: &str) -> &str {
    words.split('\'').nth(1).unwrap_or(words)
}

/// What makes our declaration agree with the object as it is.
fn remedy(object: &Object, property: &str, found: &str) -> String {
    let (follows_options, fanout) = match object {
        Object::Exchange(exchange) => (exchange.follows_options, exchange.fanout),
        Object::Queue(queue) => (queue.follows_options, false),
    };
    let is_set = found != "none" && found != "false";
    let set = |option: &str| {
        let value = if is_set { found } else { "0" };
        format!("set {option} = {value} in [oslo_messaging_rabbit] as its other users have it")
    };
    let switch =
        |option: &str| format!("set {option} = {is_set} in [oslo_messaging_rabbit] as its other users have it");
    match property {
        "x-queue-type" => switch("rabbit_quorum_queue"),
        "x-delivery-limit" => set("rabbit_quorum_delivery_limit"),
        "x-max-in-memory-length" => set("rabbit_quorum_max_memory_length"),
        "x-max-in-memory-bytes" => set("rabbit_quorum_max_memory_bytes"),
        "durable" if follows_options && fanout => switch("rabbit_transient_quorum_queue"),
        "durable" if follows_options && is_set => {
            "set amqp_durable_queues = true (or rabbit_quorum_queue = true) in [oslo_messaging_rabbit] as its other users have it"
                .to_owned()
        }
        "durable" if follows_options => {
            "set amqp_durable_queues and rabbit_quorum_queue to false in [oslo_messaging_rabbit] as its other users have it"
                .to_owned()
        }
        "durable" => "work is always durable: set amqp_durable_queues = true for whoever else declares it".to_owned(),
        "auto_delete" if follows_options && !fanout => switch("amqp_auto_delete"),
        "type" => "something else uses this name: choose another virtual host".to_owned(),
        _ => "have whoever else declares it use the same settings".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::bus::options::RabbitOptions;
    use crate::bus::topology::{control_exchange, fanout_exchange, topic_queue, work_exchange};
    use proptest::prelude::*;

    #[test]
    fn every_difference_names_the_option_that_removes_it() {
        let options = RabbitOptions::default();
        let (exchange, queue) = (control_exchange(&options, "x"), topic_queue(&options, "x", "q"));
        let (fanout, work) = (fanout_exchange(&options, "t"), work_exchange("spice_work"));
        for (object, property, values, says) in [
            (
                &exchange,
                "durable",
                "received 'false' but current is 'true'",
                "durable = true, wanted is false; set amqp_durable_queues = true (or rabbit_quorum_queue = true)",
            ),
            (
                &queue,
                "durable",
                "received 'true' but current is 'false'",
                "durable = false, wanted is true; set amqp_durable_queues and rabbit_quorum_queue to false",
            ),
            (&fanout, "durable", "received 'false' but current is 'true'", "set rabbit_transient_quorum_queue = true"),
            (&work, "durable", "received 'true' but current is 'false'", "work is always durable"),
            (&queue, "auto_delete", "received 'false' but current is 'true'", "set amqp_auto_delete = true"),
            (
                &queue,
                "x-queue-type",
                "received none but current is the value 'quorum' of type 'longstr'",
                "x-queue-type = quorum, wanted is none; set rabbit_quorum_queue = true",
            ),
            (
                &queue,
                "x-queue-type",
                "received the value 'quorum' of type 'longstr' but current is none",
                "x-queue-type = none, wanted is quorum; set rabbit_quorum_queue = false",
            ),
            (
                &queue,
                "x-delivery-limit",
                "received the value '5' of type 'signedint' but current is none",
                "set rabbit_quorum_delivery_limit = 0",
            ),
            (
                &queue,
                "x-delivery-limit",
                "received none but current is the value '7' of type 'signedint'",
                "set rabbit_quorum_delivery_limit = 7",
            ),
            (&exchange, "type", "received 'topic' but current is 'direct'", "another virtual host"),
            (&queue, "x-foo", "received none but current is the value '1' of type 'signedint'", "the same settings"),
        ] {
            let words =
                format!("PRECONDITION_FAILED - inequivalent arg '{property}' for queue 'q' in vhost '/': {values}");
            let text = explain(object, &words).unwrap();
            assert!(text.contains(says), "{text}");
        }
    }

    #[test]
    fn names_cannot_pass_for_the_brokers_words() {
        let words = "PRECONDITION_FAILED - inequivalent arg 'durable' for queue ': received 'x' but current is 'y' in vhost '/': received 'true' but current is 'false'";
        assert_eq!(
            Difference::read(words).unwrap(),
            Difference { property: "durable", wanted: "true", found: "false" }
        );
        assert_eq!(Difference::read("PRECONDITION_FAILED - invalid property 'auto-delete' for queue 'q'"), None);
    }

    proptest! {
        #[test]
        fn any_words_are_read_without_a_panic(words in "(inequivalent arg ')?\\PC{0,60}(: received )?\\PC{0,20}( but current is )?\\PC{0,20}") {
            if let Some(text) = explain(&work_exchange("spice_work"), &words) {
                prop_assert!(!text.chars().any(char::is_control));
            }
        }
    }
}
