#![allow(clippy::unwrap_used, clippy::panic)]
use super::*;

fn queue(object: Object) -> Queue {
    match object {
        Object::Queue(queue) => queue,
        Object::Exchange(exchange) => panic!("{exchange:?}"),
    }
}

fn exchange(object: Object) -> Exchange {
    match object {
        Object::Exchange(exchange) => exchange,
        Object::Queue(queue) => panic!("{queue:?}"),
    }
}

fn arguments(queue: &Queue) -> Vec<String> {
    queue.arguments.inner().iter().map(|(name, value)| format!("{name}={value:?}")).collect()
}

#[test]
fn shared_objects_have_the_flags_of_each_option_set() {
    let default = RabbitOptions::default();
    let durable = RabbitOptions { amqp_durable_queues: true, ..RabbitOptions::default() };
    let auto_delete = RabbitOptions { amqp_auto_delete: true, ..RabbitOptions::default() };
    let quorum = RabbitOptions {
        rabbit_quorum_queue: true,
        rabbit_quorum_delivery_limit: 3,
        rabbit_transient_quorum_queue: true,
        ..RabbitOptions::default()
    };
    for (options, is_durable, is_auto_delete) in
        [(&default, false, false), (&durable, true, false), (&auto_delete, false, true), (&quorum, true, false)]
    {
        let control = exchange(control_exchange(options, "spice"));
        let topic = queue(topic_queue(options, "spice", "t.s"));
        assert_eq!((control.durable, control.auto_delete, control.fanout), (is_durable, is_auto_delete, false));
        assert_eq!((topic.durable, topic.auto_delete, topic.exclusive), (is_durable, is_auto_delete, false));
        assert_eq!(topic.binding, Some(("spice".to_owned(), "t.s".to_owned())));
        assert!(exchange(fanout_exchange(options, "t")).auto_delete);
    }
    assert!(arguments(&queue(topic_queue(&default, "spice", "t"))).is_empty());
    let limits = arguments(&queue(topic_queue(&quorum, "spice", "t")));
    assert_eq!(limits.len(), 2);
    assert_eq!(limits[0], "x-delivery-limit=LongInt(3)");
    assert!(!exchange(fanout_exchange(&default, "t")).durable && exchange(fanout_exchange(&quorum, "t")).durable);
}

#[test]
fn no_transient_queue_of_ours_is_shared() {
    for object in [fanout_queue("t", "id"), reply_queue("reply_x")] {
        let queue = queue(object);
        assert!(queue.exclusive && !queue.durable && arguments(&queue).is_empty());
    }
}

#[test]
fn work_is_durable_whatever_the_options_and_only_our_own_queues_have_arguments_of_our_own() {
    let default = RabbitOptions::default();
    assert!(exchange(work_exchange("spice_work")).durable);
    let adapter = queue(work_queue(&default, "spice_work", "spice-adapter-command", 7));
    assert!(adapter.durable && arguments(&adapter).is_empty());
    for topic in OWN_WORK_TOPICS {
        let own = queue(work_queue(&default, "spice_work", topic, 7));
        assert!(own.durable);
        let arguments = arguments(&own);
        assert!(arguments.contains(&"x-max-length=LongInt(7)".to_owned()), "{arguments:?}");
        assert_eq!(arguments.len(), 3);
    }
    let quorum =
        RabbitOptions { rabbit_quorum_queue: true, rabbit_quorum_delivery_limit: 3, ..RabbitOptions::default() };
    let own = queue(work_queue(&quorum, "spice_work", OWN_WORK_TOPICS[0], 7));
    assert!(own.is_quorum() && !arguments(&own).iter().any(|argument| argument.starts_with("x-delivery-limit")));
}

#[test]
fn only_a_durable_object_of_the_deployment_falls_back_to_a_transient_one() {
    let durable = RabbitOptions { amqp_durable_queues: true, ..RabbitOptions::default() };
    let quorum = RabbitOptions { rabbit_quorum_queue: true, ..RabbitOptions::default() };
    assert_eq!(
        topic_queue(&durable, "x", "t").transient_fallback(),
        Some(topic_queue(&RabbitOptions::default(), "x", "t"))
    );
    assert!(control_exchange(&quorum, "x").transient_fallback().is_some());
    assert_eq!(topic_queue(&quorum, "x", "t").transient_fallback(), None);
    assert_eq!(topic_queue(&RabbitOptions::default(), "x", "t").transient_fallback(), None);
    assert_eq!(work_exchange("spice_work").transient_fallback(), None);
    assert_eq!(work_queue(&durable, "spice_work", OWN_WORK_TOPICS[0], 1).transient_fallback(), None);
}
