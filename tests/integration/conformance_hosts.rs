//! Where the broker is and how to get in: several hosts, a host that dies, TLS, ways to log in, heartbeats.

use std::time::Duration;

use serde_json::json;
use spice::bus::{Bus, BusError, BusOptions, Service, Target};

use crate::bus::{answering, request};
use crate::lab::{Lab, OwnBroker, PATIENCE, Peer, eventually};

fn add() -> spice::bus::Request {
    request("add", json!({"a": 40, "b": 2}))
}

#[tokio::test]
async fn a_dead_host_among_several_does_no_harm_to_us_nor_to_a_python_peer_beside_us() {
    let lab = Lab::new().await;
    let urls = format!("rabbit://guest:guest@127.0.0.1:1,,guest:guest@127.0.0.1:{}/{}", lab.ports.amqp, lab.vhost);
    let bus = Bus::start(BusOptions { transport_url: urls.clone(), ..lab.options() }, "both").unwrap();
    let _serving = bus.serve(Service::rpc("spice", "checks", "rs"), answering()).await.unwrap();
    let mut peer = Peer::start(&urls, &[]).await;
    let call =
        json!({"do": "call", "exchange": "spice", "topic": "checks", "method": "add", "args": {"a": 40, "b": 2}});
    assert_eq!(peer.succeed(call).await, 42);
    let reply = bus.call(&Target::topic("spice", "checks"), add(), PATIENCE).await.unwrap();
    assert_eq!(reply.result, Ok(json!(42)));
    lab.remove().await;
}

#[tokio::test]
async fn when_the_first_host_dies_service_goes_on_at_the_second() {
    let broker = OwnBroker::start().await;
    let first = broker.lab().await;
    // The second takes nobody in before the first is dead: its virtual host is not there.
    let second = Lab::new().await;
    let urls = format!(
        "rabbit://guest:guest@127.0.0.1:{},guest:guest@127.0.0.1:{}/{}",
        first.ports.amqp, second.ports.amqp, first.vhost
    );
    let options = BusOptions { transport_url: urls, ..first.options() };
    let (server, client) = (Bus::start(options.clone(), "server").unwrap(), Bus::start(options, "client").unwrap());
    let _serving = server.serve(Service::rpc("spice", "checks", "rs"), answering()).await.unwrap();
    let target = Target::topic("spice", "checks");
    assert_eq!(client.call(&target, add(), PATIENCE).await.unwrap().result, Ok(json!(42)));

    broker.kill().await;
    let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
    second.manage("PUT", &format!("vhosts/{}", first.vhost), None).await;
    second.manage("PUT", &format!("permissions/{}/guest", first.vhost), Some(all)).await;
    eventually("calls are served by the second", async || {
        client.call(&target, add(), PATIENCE).await.is_ok_and(|reply| reply.result == Ok(json!(42)))
    })
    .await;
    second.manage("DELETE", &format!("vhosts/{}", first.vhost), None).await;
    second.remove().await;
}

/// Options for the TLS listener of the laboratory's broker, reached as `host`.
fn over_tls(lab: &Lab, host: &str, ca: &str, client: &str) -> BusOptions {
    let (port, folder) =
        lab.ports.tls.clone().expect("SPICE_BROKER_AMQPS and SPICE_BROKER_TLS, as tools/broker gives them");
    let file =
        |name: &str| if name.is_empty() { String::new() } else { folder.join(name).to_string_lossy().into_owned() };
    let mut options = BusOptions {
        transport_url: format!("rabbit://guest:guest@{host}:{port}/{}?ssl=1", lab.vhost),
        publish_timeout: Duration::from_secs(3),
        ..lab.options()
    };
    options.rabbit.ssl_ca_file = file(ca);
    if !client.is_empty() {
        options.rabbit.ssl_cert_file = file(&format!("{client}.pem"));
        options.rabbit.ssl_key_file = file(&format!("{client}.key"));
    }
    options
}

#[tokio::test]
async fn tls_verifies_the_broker_by_name_too_and_shows_a_client_certificate() {
    let lab = Lab::new().await;
    let good = over_tls(&lab, "127.0.0.1", "ca.pem", "client");
    let bus = Bus::start(good.clone(), "tls").unwrap();
    let _serving = bus.serve(Service::rpc("spice", "checks", "rs"), answering()).await.unwrap();
    let named = Bus::start(over_tls(&lab, "localhost", "ca.pem", "client"), "tls").unwrap();
    assert!(named.call(&Target::topic("spice", "checks"), add(), PATIENCE).await.unwrap().result.is_ok());
    // A Python peer with the same options.
    let rabbit = &good.rabbit;
    let options = [
        "ssl=true".to_owned(),
        format!("ssl_ca_file={}", rabbit.ssl_ca_file),
        format!("ssl_cert_file={}", rabbit.ssl_cert_file),
        format!("ssl_key_file={}", rabbit.ssl_key_file),
    ];
    let url = good.transport_url.trim_end_matches("?ssl=1");
    let mut peer = Peer::start(url, &options.each_ref().map(String::as_str)).await;
    let call =
        json!({"do": "call", "exchange": "spice", "topic": "checks", "method": "add", "args": {"a": 40, "b": 2}});
    assert_eq!(peer.succeed(call).await, 42);

    // The same broker under a name that its certificate does not have.
    let broker = lab.ports.tls.as_ref().map(|(port, _)| *port).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.2:0").await.unwrap();
    let mut elsewhere = over_tls(&lab, "127.0.0.2", "ca.pem", "client");
    elsewhere.transport_url = elsewhere
        .transport_url
        .replace(&format!(":{broker}/"), &format!(":{}/", listener.local_addr().unwrap().port()));
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut to = tokio::net::TcpStream::connect(("127.0.0.1", broker)).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
            });
        }
    });
    let bad = [
        ("another host name", elsewhere, "certificate not valid for name \"127.0.0.2\""),
        ("no client certificate", over_tls(&lab, "127.0.0.1", "ca.pem", ""), ""),
        ("another authority", over_tls(&lab, "127.0.0.1", "client.pem", "client"), "invalid peer certificate"),
        ("the system's authorities", over_tls(&lab, "127.0.0.1", "", "client"), "invalid peer certificate"),
        ("a missing file", over_tls(&lab, "127.0.0.1", "none.pem", "client"), "none.pem"),
    ];
    let attempts = bad.map(|(what, options, says)| async move {
        let bad = Bus::start(options, "tls").unwrap();
        let error = bad.cast(&Target::topic("spice", "t").fanout(), request("tell", json!({}))).await.unwrap_err();
        assert!(matches!(error, BusError::Disconnected(_)), "{what}: {error}");
        assert!(error.to_string().contains(says), "{what}: {error}");
    });
    futures_util::future::join_all(attempts).await;
    lab.remove().await;
}

#[tokio::test]
async fn each_way_to_log_in_and_each_heartbeat_reaches_the_broker_as_configured() {
    let lab = Lab::new().await;
    let mut kept = Vec::new();
    // 0 leaves it to the broker, which asks for 60 s. Less than what was configured is agreed, since it is noticed late.
    for (method, heartbeat, agreed) in [("PLAIN", 0, 60..=60), ("AMQPLAIN", 7, 3..=7)] {
        let mut options = lab.options();
        options.rabbit.rabbit_login_method = method.to_owned();
        options.rabbit.heartbeat_timeout_threshold = heartbeat;
        let bus = Bus::start(options, method).unwrap();
        bus.reached(PATIENCE).await.unwrap();
        kept.push((bus, method, agreed));
    }
    eventually("the broker shows how they came in", async || {
        let connections = lab.manage("GET", &format!("vhosts/{}/connections", lab.vhost), None).await;
        let shown = |method: &str, agreed: &std::ops::RangeInclusive<u64>| {
            connections.as_array().into_iter().flatten().any(|connection| {
                let name = connection["client_properties"]["connection_name"].as_str().unwrap_or_default();
                name.starts_with(method)
                    && connection["auth_mechanism"] == method
                    && connection["timeout"].as_u64().is_some_and(|seconds| agreed.contains(&seconds))
            })
        };
        kept.iter().all(|(_, method, agreed)| shown(method, agreed))
    })
    .await;

    let refusals = [
        // The broker hangs up on who wants a way that it does not offer.
        ("EXTERNAL", lab.transport_url(), "127.0.0.1"),
        ("PLAIN", lab.transport_url().replace("guest:guest", "guest:geheim"), "ACCESS_REFUSED"),
        ("AMQPLAIN", format!("{}-of-nobody", lab.transport_url()), "-of-nobody"),
    ];
    for (method, transport_url, says) in refusals {
        let mut options = BusOptions { transport_url, ..lab.options() };
        options.rabbit.rabbit_login_method = method.to_owned();
        let bus = Bus::start(options, "refused").unwrap();
        let why = std::sync::Mutex::new(String::new());
        eventually("there is a reason", async || {
            let error = bus.reached(Duration::from_millis(200)).await.unwrap_err();
            *why.lock().unwrap() = error.to_string();
            !error.to_string().contains("not connected yet")
        })
        .await;
        let why = why.into_inner().unwrap();
        assert!(why.contains(says) && !why.contains("geheim"), "{method}: {why}");
    }
    lab.remove().await;
}
