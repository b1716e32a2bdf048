//! Golden vectors: what Python declares under every set of options, and what the broker says when peers disagree.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use lapin::types::AMQPValue;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::mismatch;
use super::options::RabbitOptions;
use super::topology::{self, Exchange, Object, Queue};

#[derive(Deserialize)]
struct DeclaredUnderOptions {
    set: String,
    options: Map<String, Value>,
    objects: Vec<Map<String, Value>>,
}

fn rabbit_options(options: &Map<String, Value>) -> RabbitOptions {
    let mut rabbit = RabbitOptions::default();
    for (name, value) in options {
        rabbit.set(name, &value.as_str().map_or_else(|| value.to_string(), str::to_owned)).unwrap();
    }
    rabbit
}

/// As the captured declarations are written.
fn described(object: &Object) -> Vec<Value> {
    match object {
        Object::Exchange(Exchange { name, fanout, durable, auto_delete, .. }) => {
            let kind = if *fanout { "fanout" } else { "topic" };
            vec![json!({"exchange": name, "type": kind, "durable": durable, "auto_delete": auto_delete})]
        }
        Object::Queue(Queue { name, durable, exclusive, auto_delete, arguments, binding, .. }) => {
            let arguments: Map<String, Value> = arguments
                .inner()
                .iter()
                .map(|(name, value)| {
                    let value = match value {
                        AMQPValue::LongString(text) => json!(text.to_string()),
                        AMQPValue::LongInt(number) => json!(number),
                        other => panic!("{other:?}"),
                    };
                    (name.to_string(), value)
                })
                .collect();
            let (exchange, key) = binding.clone().expect("a binding");
            vec![
                json!({"queue": name, "durable": durable, "exclusive": exclusive, "auto_delete": auto_delete, "arguments": arguments}),
                json!({"bind": name, "exchange": exchange, "routing_key": key}),
            ]
        }
    }
}

#[test]
fn shared_objects_are_declared_as_python_declares_them_under_every_option_set() {
    let captured: Vec<DeclaredUnderOptions> =
        serde_json::from_str(include_str!("fixtures/oslo_declarations.json")).unwrap();
    assert!(captured.len() > 20, "{}", captured.len());
    for DeclaredUnderOptions { set, options, objects } in captured {
        // Ours do not carry it; brokers do not compare it.
        let theirs: Vec<Value> = objects
            .into_iter()
            .map(|mut object| {
                if let Some(arguments) = object.get_mut("arguments").and_then(Value::as_object_mut) {
                    arguments.remove("x-ha-policy");
                }
                Value::Object(object)
            })
            // The one stream that fanout servers share; ours have queues of their own on the same exchange.
            .filter(|object| object["queue"] != "compute_fanout" && object["bind"] != "compute_fanout")
            .collect();
        let rabbit = rabbit_options(&options);
        let mut ours: Vec<Value> = Vec::new();
        for exchange in theirs.iter().filter_map(|object| object["exchange"].as_str()) {
            let object = if exchange.ends_with("_fanout") {
                topology::fanout_exchange(&rabbit, exchange.trim_end_matches("_fanout"))
            } else {
                topology::control_exchange(&rabbit, exchange)
            };
            ours.extend(described(&object));
        }
        for (queue, exchange) in
            theirs.iter().filter_map(|object| Some((object["bind"].as_str()?, object["exchange"].as_str()?)))
        {
            ours.extend(described(&topology::topic_queue(&rabbit, exchange, queue)));
        }
        assert!(theirs.iter().any(|object| object["queue"] == "compute"), "{set}");
        for object in &theirs {
            assert!(ours.contains(object), "{set}: Python declares {object}, we {ours:?}");
        }
    }
}

#[derive(Deserialize)]
struct Mismatch {
    name: String,
    second: Map<String, Value>,
    server: String,
    texts: Vec<String>,
}

#[test]
fn what_the_broker_said_about_mismatches_is_explained_and_falls_back_where_python_does() {
    let captured: Vec<Mismatch> = serde_json::from_str(include_str!("fixtures/oslo_mismatches.json")).unwrap();
    assert_eq!(captured.len(), 12);
    let mut explained = 0;
    for Mismatch { name, second, server, texts } in captured {
        let rabbit = rabbit_options(&second);
        // Python's fallback forgets the flag itself: nobody else asks for a fanout exchange that stays.
        for text in texts.into_iter().filter(|text| !text.contains("'auto_delete' for exchange 'compute_fanout'")) {
            let object = if text.contains("_fanout'") {
                topology::fanout_exchange(&rabbit, "compute")
            } else if text.contains("for exchange") {
                topology::control_exchange(&rabbit, "openstack")
            } else {
                topology::topic_queue(&rabbit, "openstack", "compute")
            };
            let found = mismatch::explain(&object, &text).unwrap_or_else(|| panic!("{name}: {text}"));
            assert!(found.contains("it exists with") && found.contains("; set "), "{name}: {found}");
            explained += 1;
            let wanted_durable = text.contains("received 'true' but current is 'false'") && text.contains("'durable'");
            assert!(!wanted_durable || object.transient_fallback().is_some(), "{name}");
            assert!(server == "fails" || wanted_durable, "{name}");
        }
    }
    assert!(explained > 10, "{explained}");
}
