//! Every exchange and queue, with its flags, in one table.
//!
//! | object | name | flags |
//! |---|---|---|
//! | control exchange | as configured | topic; the deployment's options |
//! | topic and server queue | `T`, `T.S` | the deployment's options |
//! | fanout exchange | `T_fanout` | fanout, auto-delete; durable by option |
//! | our fanout queue | `T_fanout_<hex>` | exclusive (nobody else's business, and RabbitMQ 4.3 takes it), auto-delete |
//! | our reply queue | `reply_<hex>` | exclusive |
//! | work exchange | `spice_work` | topic, durable, whatever the options |
//! | work queue a foreign server may declare too | `spice-adapter-<name>` | durable (quorum by option), only oslo's own arguments |
//! | work queue only SPICE declares | [`OWN_WORK_TOPICS`] | durable, bounded, refuses when full, dead letters to the next line |
//! | dead letters | `<work exchange>.dead` | fanout exchange and queue, durable, bounded, oldest dropped |
//! | our queue for notifications of others | `spice-overheard_<hex>` | exclusive, auto-delete; the exchange is theirs and only looked for |
//! | notification queue | `T.info` | the deployment's options; only when told to declare actively |

use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::options::{BusOptions, RabbitOptions};

/// Topics whose work queue only SPICE declares. Whoever sends there declares it too, so that nothing is lost before its
/// consumer ran for the first time; the queue of an adapter is made by the adapter alone, so that its absence is noticed.
pub(crate) const OWN_WORK_TOPICS: &[&str] = &["spice-nodes-results", "spice-checks-events"];

/// How many dead letters are kept.
const MAX_DEAD_LETTERS: i32 = 10_000;

/// Something that is declared.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Object {
    Exchange(Exchange),
    Queue(Queue),
}

impl Object {
    /// For messages and for the cache of what was declared on a connection.
    pub(crate) fn label(&self) -> String {
        match self {
            Self::Exchange(exchange) => format!("exchange {:?}", exchange.name),
            Self::Queue(queue) => format!("queue {:?}", queue.name),
        }
    }

    /// The same object as the broker may have it from peers with other options: not durable. `None` when there is nothing to fall back to.
    /// oslo.messaging does the same, in this direction only.
    pub(crate) fn transient_fallback(&self) -> Option<Self> {
        match self {
            Self::Exchange(exchange) if exchange.follows_options && exchange.durable => {
                Some(Self::Exchange(Exchange { durable: false, ..exchange.clone() }))
            }
            Self::Queue(queue) if queue.follows_options && queue.durable && !queue.is_quorum() => {
                Some(Self::Queue(Queue { durable: false, ..queue.clone() }))
            }
            _ => None,
        }
    }
}

/// An exchange.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Exchange {
    pub name: String,
    pub fanout: bool,
    pub durable: bool,
    pub auto_delete: bool,
    /// Only look whether it is there.
    pub passive: bool,
    /// Its flags are the deployment's choice, not ours.
    pub follows_options: bool,
}

/// A queue with its binding.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Queue {
    pub name: String,
    pub durable: bool,
    pub exclusive: bool,
    pub auto_delete: bool,
    pub arguments: FieldTable,
    /// Exchange and routing key.
    pub binding: Option<(String, String)>,
    pub follows_options: bool,
}

impl Queue {
    fn is_quorum(&self) -> bool {
        self.arguments.inner().contains_key(&ShortString::from("x-queue-type"))
    }
}

/// A topic exchange that oslo.messaging peers declare too.
pub(crate) fn control_exchange(options: &RabbitOptions, name: &str) -> Object {
    Object::Exchange(Exchange {
        name: name.to_owned(),
        fanout: false,
        durable: options.amqp_durable_queues || options.rabbit_quorum_queue,
        auto_delete: options.amqp_auto_delete,
        passive: false,
        follows_options: true,
    })
}

/// An exchange that somebody else makes.
pub(crate) fn expected_exchange(name: &str) -> Object {
    Object::Exchange(Exchange {
        name: name.to_owned(),
        fanout: false,
        durable: false,
        auto_delete: false,
        passive: true,
        follows_options: false,
    })
}

/// A queue that oslo.messaging peers declare too: `T`, `T.S` or a notification queue; bound under its own name.
pub(crate) fn topic_queue(options: &RabbitOptions, exchange: &str, name: &str) -> Object {
    bound_queue(options, exchange, name, name)
}

/// The same with another routing key: the queue of a pool of notification listeners.
pub(crate) fn bound_queue(options: &RabbitOptions, exchange: &str, name: &str, key: &str) -> Object {
    Object::Queue(Queue {
        name: name.to_owned(),
        durable: options.amqp_durable_queues || options.rabbit_quorum_queue,
        exclusive: false,
        auto_delete: options.amqp_auto_delete,
        arguments: quorum_arguments(options, true),
        binding: Some((exchange.to_owned(), key.to_owned())),
        follows_options: true,
    })
}

/// The name of a topic's fanout exchange. It has no control exchange in it: equal topics share it.
pub(crate) fn fanout_name(topic: &str) -> String {
    format!("{topic}_fanout")
}

/// The fanout exchange of a topic.
pub(crate) fn fanout_exchange(options: &RabbitOptions, topic: &str) -> Object {
    Object::Exchange(Exchange {
        name: fanout_name(topic),
        fanout: true,
        durable: options.rabbit_transient_quorum_queue,
        auto_delete: true,
        passive: false,
        follows_options: true,
    })
}

/// A fanout queue of our own. It goes with its consumer: the queue of a server that was stopped, or of a channel that was lost, would fill
/// for as long as the connection lives.
pub(crate) fn fanout_queue(topic: &str, id: &str) -> Object {
    own_exclusive_queue(format!("{topic}_fanout_{id}"), Some((fanout_name(topic), topic.to_owned())), true)
}

/// A reply queue of our own; reached through the default exchange.
pub(crate) fn reply_queue(name: &str) -> Object {
    own_exclusive_queue(name.to_owned(), None, false)
}

/// A queue of our own for notifications of others. Nobody's messages are taken away by it.
pub(crate) fn overheard_queue(exchange: &str, key: &str, name: &str) -> Object {
    own_exclusive_queue(name.to_owned(), Some((exchange.to_owned(), key.to_owned())), true)
}

fn own_exclusive_queue(name: String, binding: Option<(String, String)>, auto_delete: bool) -> Object {
    Object::Queue(Queue {
        name,
        durable: false,
        exclusive: true,
        auto_delete,
        arguments: FieldTable::default(),
        binding,
        follows_options: false,
    })
}

/// The exchange that work goes through.
pub(crate) fn work_exchange(name: &str) -> Object {
    Object::Exchange(durable_exchange(name, false))
}

/// The queue of a work topic.
pub(crate) fn work_queue(options: &RabbitOptions, exchange: &str, topic: &str, max_length: u32) -> Object {
    let own = OWN_WORK_TOPICS.contains(&topic);
    // A delivery limit would lose work that waits for a database to come back, so our own queues have none.
    let mut arguments = quorum_arguments(options, !own);
    if own {
        set_int(&mut arguments, "x-max-length", i32::try_from(max_length).unwrap_or(i32::MAX));
        set_text(&mut arguments, "x-overflow", "reject-publish");
        set_text(&mut arguments, "x-dead-letter-exchange", &dead_letter_name(exchange));
    }
    Object::Queue(Queue {
        name: topic.to_owned(),
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments,
        binding: Some((exchange.to_owned(), topic.to_owned())),
        follows_options: false,
    })
}

/// What must be there before work is sent to `topic`: the queue only where nobody but SPICE declares it.
pub(crate) fn work_needs(options: &BusOptions, exchange: &str, topic: &str) -> Vec<Object> {
    let mut needs = vec![work_exchange(exchange)];
    if OWN_WORK_TOPICS.contains(&topic) {
        needs.extend(dead_letters(&options.rabbit, exchange));
        needs.push(work_queue(&options.rabbit, exchange, topic, options.work_queue_max_length));
    }
    needs
}

/// The name of both the exchange and the queue of a work exchange's dead letters.
pub(crate) fn dead_letter_name(work_exchange: &str) -> String {
    format!("{work_exchange}.dead")
}

/// Where poisonous work is kept.
pub(crate) fn dead_letters(options: &RabbitOptions, work_exchange: &str) -> [Object; 2] {
    let name = dead_letter_name(work_exchange);
    let mut arguments = quorum_arguments(options, false);
    set_int(&mut arguments, "x-max-length", MAX_DEAD_LETTERS);
    let queue = Queue {
        name: name.clone(),
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments,
        binding: Some((name.clone(), String::new())),
        follows_options: false,
    };
    [Object::Exchange(durable_exchange(&name, true)), Object::Queue(queue)]
}

fn durable_exchange(name: &str, fanout: bool) -> Exchange {
    Exchange {
        name: name.to_owned(),
        fanout,
        durable: true,
        auto_delete: false,
        passive: false,
        follows_options: false,
    }
}

/// The arguments that make a queue a quorum queue, where the deployment wants that.
fn quorum_arguments(options: &RabbitOptions, with_limits: bool) -> FieldTable {
    let mut arguments = FieldTable::default();
    if !options.rabbit_quorum_queue {
        return arguments;
    }
    set_text(&mut arguments, "x-queue-type", "quorum");
    if with_limits {
        for (name, limit) in [
            ("x-delivery-limit", options.rabbit_quorum_delivery_limit),
            ("x-max-in-memory-length", options.rabbit_quorum_max_memory_length),
            ("x-max-in-memory-bytes", options.rabbit_quorum_max_memory_bytes),
        ] {
            if limit > 0 {
                set_int(&mut arguments, name, i32::try_from(limit).unwrap_or(i32::MAX));
            }
        }
    }
    arguments
}

fn set_int(arguments: &mut FieldTable, name: &str, value: i32) {
    arguments.insert(ShortString::from(name), AMQPValue::LongInt(value));
}

fn set_text(arguments: &mut FieldTable, name: &str, value: &str) {
    arguments.insert(ShortString::from(name), AMQPValue::LongString(value.into()));
}

#[cfg(test)]
#[path = "topology_tests.rs"]
mod tests;
