//! Texts that two readers understand differently, names that look like others, properties that nobody signed.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};
use spice::rpc::table::Topic;

use super::attacker::{Attacker, Forger, enveloped, properties, request_text};
use super::*;
use crate::cloud::object;

/// A request with results under a ticket for node-2, signed by the key the ticket is for.
fn signed_text(cloud: &Cloud, ticket: &Ticket, said: &Value) -> String {
    let document = signed_by(cloud, "checks", ticket);
    let args = object(json!({ "ticket": document, "results": said }));
    let adapter = Forger::with_key_of(cloud, "adapter-openattestation");
    request_text("record_results", &args, &adapter.auth(Topic::Results, "record_results", &args))
}

/// `text` with the first `from` made `to`; it must be there.
fn altered(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from} in {text}");
    text.replacen(from, to, 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_with_two_meanings_means_what_was_signed_or_nothing() {
    let cloud = cloud_with_a_compromised_node("").await;
    let attacker = Attacker::let_in(&cloud).await;
    let ticket = ticket_for(&cloud, &["node-2"]).await;
    let text = signed_text(&cloud, &ticket, &json!([pass("node-2")]));
    let time = "\"requested_at\":";
    let (open, last) = (text.strip_suffix('}').unwrap(), "\"ticket\":");
    let tricks = [
        ("a member of the arguments twice", altered(&text, last, &format!("\"results\":[],{last}"))),
        ("the same member, spelled otherwise", altered(&text, last, &format!("\"r\\u0065sults\":[],{last}"))),
        (
            "a member of a result twice",
            altered(&text, "\"status\":\"pass\"", "\"status\":\"pass\",\"status\":\"fail\""),
        ),
        ("the arguments twice", format!("{open},\"args\":{{}}}}")),
        ("the method twice", format!("{open},\"method\":\"results_stored\"}}")),
        ("the signature twice", format!("{open},\"_context_spice_auth\":null}}")),
        ("not a number", altered(&text, time, "\"requested_at\":NaN,\"x\":")),
        ("infinity", altered(&text, time, "\"requested_at\":1e999,\"x\":")),
        ("an integer that others round", altered(&text, time, "\"requested_at\":9007199254740993,\"x\":")),
        ("an integer beyond 64 bits", altered(&text, time, "\"requested_at\":99999999999999999999,\"x\":")),
        ("something after the end", text.clone() + " {}"),
        ("a byte order mark", "\u{feff}".to_owned() + &text),
        ("half a surrogate pair", altered(&text, "believe me", "\\ud800")),
        ("another outcome than was signed", altered(&text, "\"pass\"", "\"fail\"")),
        ("another sender", altered(&text, "\"sender\":\"adapter-openattestation\"", "\"sender\":\"adapter-command\"")),
        ("another method", altered(&text, "record_results", "results_stored")),
        (
            "nested without end",
            altered(&text, "\"results\":", &format!("\"results\":{}{},\"x\":", "[".repeat(500), "]".repeat(500))),
        ),
    ];
    for (count, (what, trick)) in tricks.iter().enumerate() {
        attacker.send_text("spice_work", "spice-nodes-results", trick).await;
        let refused = u32::try_from(count).unwrap() + 1;
        eventually(what, async || cloud.lab.depth("spice_work.dead").await == refused).await;
    }
    // Envelopes that are none.
    let count = u32::try_from(tricks.len()).unwrap();
    let bodies: [&[u8]; 5] =
        [b"", b"null", b"[]", b"\x00\xff\xfe", br#"{"oslo.version":"2.0","oslo.message":{"method":"x"}}"#];
    for body in bodies {
        attacker.send("spice_work", "spice-nodes-results", &properties(), body).await;
    }
    await_dead_letters(&cloud, count + 5).await;
    assert_eq!(stored(&cloud, "node-2", ticket.order).await, (0, 0), "nothing of it was taken in");
    // The text as it was signed is as good as ever; also where what counts, the last of its name, is what was signed.
    let decoy = altered(&text, "\"status\":\"pass\"", "\"status\":\"fail\",\"status\":\"pass\"");
    for same in [&decoy, &text] {
        attacker.send_text("spice_work", "spice-nodes-results", same).await;
    }
    eventually("it counts", async || stored(&cloud, "node-2", ticket.order).await == (1, 1)).await;
    goes_on_unimpressed(&cloud).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_looks_like_another_is_another_or_none() {
    let cloud = cloud_with_a_compromised_node("").await;
    let attacker = Attacker::let_in(&cloud).await;
    let ticket = ticket_for(&cloud, &["node-2"]).await;
    let long = "n".repeat(256);
    let no_names = [
        "node-2\u{0}",
        "../node-2",
        "\u{ff4e}ode-2",
        "n\u{043e}de-2",
        "node-2\u{200b}",
        "node 2",
        "",
        "-node-2",
        long.as_str(),
    ];
    for (count, name) in no_names.iter().enumerate() {
        let mut said = json!(pass("node-2"));
        said["node"] = json!(name);
        // Beside a good one: what cannot be read in part is not read at all.
        let text = signed_text(&cloud, &ticket, &json!([pass("node-2"), said]));
        attacker.send_text("spice_work", "spice-nodes-results", &text).await;
        let refused = u32::try_from(count).unwrap() + 1;
        eventually(name, async || cloud.lab.depth("spice_work.dead").await == refused).await;
    }
    assert_eq!(stored(&cloud, "node-2", ticket.order).await, (0, 0));
    // Names of other nodes, if of any: not in the ticket.
    let others = ["NODE-2", "Node-2", "node-2.", "node-2.example.org", "node-20"];
    let text = signed_text(&cloud, &ticket, &others.iter().map(|name| json!(pass(name))).collect());
    attacker.send_text("spice_work", "spice-nodes-results", &text).await;
    let last = signed_text(&cloud, &ticket, &json!([pass("node-2")]));
    attacker.send_text("spice_work", "spice-nodes-results", &last).await;
    eventually("the last one counts", async || stored(&cloud, "node-2", ticket.order).await == (1, 1)).await;
    let names = cloud.admin(Topic::Nodes, "node_list", json!({})).await;
    assert_eq!(names.as_array().unwrap().len(), 2, "{names}");
    for name in others {
        assert_eq!(stored(&cloud, name, ticket.order).await, (0, 0), "{name}");
    }
    // Nor can an administrator be led to register what another would be taken for.
    for name in ["node-1 ", "node-1\u{202e}", "\u{ff4e}ode-1"] {
        let refused = cloud.try_admin(Topic::Nodes, "node_create", json!({ "name": name })).await.unwrap_err();
        assert!(!refused.message.contains('\u{202e}'), "{refused}");
    }
    goes_on_unimpressed(&cloud).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_and_headers_which_nobody_signs_decide_nothing() {
    let cloud = cloud_with_a_compromised_node("").await;
    let attacker = Attacker::let_in(&cloud).await;
    let ticket = ticket_for(&cloud, &["node-2"]).await;
    let text = signed_text(&cloud, &ticket, &json!([pass("node-2")]));
    let body = enveloped(&text);
    let headers = |name: &str, value: &str| {
        let mut table = FieldTable::default();
        table.insert(name.into(), AMQPValue::LongString(value.into()));
        properties().with_headers(table)
    };
    // Refused before anything is read.
    let unread = [
        BasicProperties::default().with_content_type("application/x-python-pickle".into()),
        headers("compression", "bomb"),
    ];
    for other in &unread {
        attacker.send("spice_work", "spice-nodes-results", other, &body).await;
    }
    await_dead_letters(&cloud, 2).await;
    // Said by whoever published, heeded by nobody: one message, once. Also right into the queue, past the exchange.
    for other in [
        properties().with_priority(255).with_message_id("1".into()).with_reply_to("spice-nodes".into()),
        properties().with_correlation_id("x".into()).with_app_id("spice".into()).with_timestamp(u64::MAX),
        properties().with_user_id("guest".into()).with_delivery_mode(2),
        // The body is ASCII, which every encoding writes alike.
        properties().with_content_encoding("rot13".into()),
        headers("x-death", "forever"),
        headers("redelivered", "true"),
        headers("x-spice-reason", "believe me"),
    ] {
        attacker.send("spice_work", "spice-nodes-results", &other, &body).await;
        attacker.send("", "spice-nodes-results", &other, &body).await;
    }
    eventually("it is stored", async || stored(&cloud, "node-2", ticket.order).await.0 > 0).await;
    cloud.lab.await_depth("spice-nodes-results", 0).await;
    assert_eq!(stored(&cloud, "node-2", ticket.order).await, (1, 1));
    assert_eq!(cloud.lab.depth("spice_work.dead").await, 2);
    // Somebody else's user name the broker itself refuses.
    let impersonated = properties().with_user_id("spice-nodes".into());
    let channel = cloud.lab.channel().await;
    channel.confirm_select(Default::default()).await.unwrap();
    let sent = channel.basic_publish(
        "spice_work".into(),
        "spice-nodes-results".into(),
        Default::default(),
        &body,
        impersonated,
    );
    assert!(sent.await.unwrap().await.is_err());
    goes_on_unimpressed(&cloud).await;
}
