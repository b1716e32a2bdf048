//! Every set of options a deployment may have: a Python peer and we, with the same set, understand each other and declare the same.

use serde_json::{Map, Value, json};
use spice::bus::{Bus, Declare, Notification, Service, Target};
use spice::clock::Timestamp;

use crate::bus::{args, recorded, request};
use crate::lab::{Lab, Oslo, PATIENCE, Peer, Soon};

/// A set of options, since when oslo.messaging has all of them, and the arguments and flags that its topic queue then has.
struct OptionSet {
    options: Value,
    /// Also in 14.0.
    old: bool,
    queue: Value,
}

fn set(options: Value, old: bool, queue: Value) -> OptionSet {
    OptionSet { options, old, queue }
}

fn sets() -> Vec<OptionSet> {
    let transient = json!({"durable": false, "auto_delete": false, "type": "classic", "arguments": {}});
    let durable = json!({"durable": true, "auto_delete": false, "type": "classic", "arguments": {}});
    let quorum =
        json!({"durable": true, "auto_delete": false, "type": "quorum", "arguments": {"x-queue-type": "quorum"}});
    let limits = json!({"durable": true, "auto_delete": false, "type": "quorum", "arguments":
        {"x-queue-type": "quorum", "x-delivery-limit": 5, "x-max-in-memory-length": 1000, "x-max-in-memory-bytes": 1_048_576}});
    let fleeting = json!({"durable": false, "auto_delete": true, "type": "classic", "arguments": {}});
    vec![
        set(json!({}), true, transient.clone()),
        set(json!({"amqp_durable_queues": true}), true, durable),
        set(json!({"amqp_auto_delete": true}), true, fleeting),
        set(json!({"rabbit_quorum_queue": true}), true, quorum.clone()),
        set(
            json!({"rabbit_quorum_queue": true, "rabbit_quorum_delivery_limit": 5, "rabbit_quorum_max_memory_length": 1000,
                   "rabbit_quorum_max_memory_bytes": 1_048_576}),
            true,
            limits,
        ),
        set(json!({"rabbit_transient_quorum_queue": true}), false, transient.clone()),
        set(json!({"rabbit_quorum_queue": true, "rabbit_transient_quorum_queue": true}), false, quorum.clone()),
        // Servers of Python share one stream for fanout casts; ours have queues of their own on the same exchange.
        set(
            json!({"rabbit_quorum_queue": true, "rabbit_transient_quorum_queue": true, "rabbit_stream_fanout": true,
                   "rabbit_qos_prefetch_count": 5}),
            false,
            quorum,
        ),
        set(json!({"rabbit_qos_prefetch_count": 1, "heartbeat_timeout_threshold": 6}), true, transient.clone()),
        set(json!({"heartbeat_timeout_threshold": 0, "rabbit_login_method": "PLAIN"}), true, transient.clone()),
        set(json!({"rabbit_transient_queues_ttl": 60, "direct_mandatory_flag": false}), true, transient.clone()),
        set(json!({"kombu_compression": "gzip"}), true, transient.clone()),
        set(json!({"kombu_compression": "bzip2", "enable_cancel_on_failover": true}), true, transient.clone()),
        set(json!({"rabbit_ha_queues": true}), true, transient.clone()),
        set(
            json!({"use_queue_manager": true, "hostname": "node1", "processname": "conformance", "rabbit_transient_queues_ttl": 0}),
            false,
            transient,
        ),
    ]
}

/// The set as [`spice::bus::RabbitOptions`] take it.
fn bus(lab: &Lab, options: &Map<String, Value>, name: &str) -> Bus {
    let mut ours = lab.options();
    for (option, value) in options {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        ours.rabbit.set(option, &text).unwrap();
    }
    ours.notifications.exchange = "spice".to_owned();
    ours.notifications.declare = Declare::Active;
    Bus::start(ours, name).unwrap()
}

async fn both_sides(oslo: Oslo, peer: &mut Peer, OptionSet { options, queue, .. }: &OptionSet, python_first: bool) {
    let lab = Lab::new().await;
    let options = args(options.clone());
    let theirs: Map<String, Value> = match oslo {
        Oslo::Newest => options.clone(),
        // Two names were misspelt there.
        Oslo::Debian12 => {
            options.iter().map(|(name, value)| (name.replace("quorum_max", "quroum_max"), value.clone())).collect()
        }
    };
    let command = |command: Value| {
        let mut command = args(command);
        command
            .extend(args(json!({"url": lab.transport_url(), "options": theirs, "exchange": "spice", "timeout": 30})));
        Value::Object(command)
    };
    let (server, client) = (bus(&lab, &options, "server"), bus(&lab, &options, "client"));
    let (dispatcher, mut requests) = recorded();
    let serve = command(json!({"do": "serve", "topic": "checks", "server": "py"}));
    let listen = command(json!({"do": "listen", "topics": ["notifications"]}));
    // Whoever comes second must agree with what the first declared.
    let _serving;
    if python_first {
        peer.succeed(serve).await;
        peer.succeed(listen.clone()).await;
        _serving = server.serve(Service::rpc("spice", "checks", "rs"), dispatcher).await;
    } else {
        _serving = server.serve(Service::rpc("spice", "checks", "rs"), dispatcher).await;
        peer.succeed(serve).await;
    }
    assert!(_serving.is_ok(), "{options:?}: {:?}", _serving.err());
    let found = lab.queue("checks").await;
    for (property, expected) in args(queue.clone()) {
        let mut value = found[&property].clone();
        if let Some(arguments) = value.as_object_mut() {
            arguments.remove("x-ha-policy");
        }
        assert_eq!(value, expected, "{options:?}: {property}");
    }

    let echo = json!({"text": "grün".repeat(1000)});
    let call = command(json!({"do": "call", "topic": "checks", "server": "rs", "method": "echo", "args": echo}));
    assert_eq!(peer.succeed(call).await, echo, "{options:?}");
    requests.soon().await;
    let target = Target::topic("spice", "checks");
    let reply = client.call(&target.clone().server("py"), request("echo", echo.clone()), PATIENCE).await.unwrap();
    assert_eq!(reply.result, Ok(echo), "{options:?}");
    client.cast(&target.fanout(), request("tell", json!({"n": 1}))).await.unwrap();
    let cast = json!({"do": "cast", "topic": "checks", "fanout": true, "method": "tell", "args": {"n": 2}});
    peer.succeed(command(cast)).await;
    for n in [1, 2] {
        assert_eq!(peer.event().await["args"], json!({"n": n}), "{options:?}");
        assert_eq!(requests.soon().await.request.args, args(json!({"n": n})), "{options:?}");
    }
    let notification = Notification {
        message_id: "11111111-2222-4333-8444-555555555555".to_owned(),
        publisher_id: "spice.nodes".to_owned(),
        event_type: "spice.node.trust.changed".to_owned(),
        payload: args(json!({"node": "n1"})),
        timestamp: Timestamp(1_795_316_612_395),
        context: Map::new(),
    };
    client.notify(&notification).await.unwrap();
    if !python_first {
        peer.succeed(listen).await;
    }
    assert_eq!(peer.event().await["payload"], json!({"node": "n1"}), "{options:?}");
    // Left behind, it would look for its virtual host for ever.
    peer.succeed(json!({"do": "stop"})).await;
    lab.remove().await;
}

async fn every_set(oslo: Oslo) {
    let mut peer = Peer::start_as(oslo, "rabbit://", &[]).await;
    for (position, set) in sets().iter().enumerate().filter(|(_, set)| set.old || oslo == Oslo::Newest) {
        both_sides(oslo, &mut peer, set, position % 2 == 0).await;
    }
}

#[tokio::test]
async fn peers_of_the_newest_oslo_agree_with_us_under_every_set_of_options() {
    every_set(Oslo::Newest).await;
}

#[tokio::test]
async fn peers_of_debian_12_agree_with_us_under_every_set_of_options_they_have() {
    every_set(Oslo::Debian12).await;
}
