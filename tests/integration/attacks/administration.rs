//! Who may administer: nobody by being on the bus, no machine by its key, and no operator alone where trust is loosened.

use serde_json::{Value, json};
use spice::rpc::Kind;
use spice::rpc::table::Topic;

use super::cloud_with_a_compromised_node;
use crate::cloud::{Cloud, deployment, object};

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_machines_may_not_administer_and_an_operator_may_not_loosen() {
    let cloud = cloud_with_a_compromised_node("").await;
    for name in ["adapter-openattestation", "pool", "checks", "nodes", "nova"] {
        let args = object(json!({ "name": "node-1", "reason": "let me in" }));
        let error = cloud.as_holder_of(name).call(Topic::Nodes, "node_release", args).await.unwrap_err();
        assert_eq!(error.kind, Kind::Forbidden, "{name}: {error}");
        assert!(error.message.contains("takes the role"), "{name}: {error}");
    }
    let disable = json!({ "name": "attestation", "changes": { "pools": { "default": "advisory" } } });
    let error = cloud.try_admin(Topic::Checks, "check_update", disable).await.unwrap_err();
    assert_eq!(error.kind, Kind::Conflict);
    assert!(error.message.contains("loosens") && error.message.contains("confirm"), "{error}");
    assert_eq!(cloud.level("node-1").await, "untrusted");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unmodified_oslo_client_is_refused_unsigned_and_served_signed() {
    let cloud = cloud_with_a_compromised_node("").await;
    let mut peer = cloud.lab.peer(&[]).await;
    let call = json!({ "do": "call", "exchange": "spice", "topic": "spice-nodes", "method": "node_list", "args": {} });
    let refused = peer.command(call).await;
    assert_eq!(refused["exc_type"], "Unauthorized", "{refused}");
    assert!(refused["value"].as_str().unwrap().contains("not signed"), "{refused}");

    let schedule = json!({ "cron": "15 2 * * *", "zone": "Europe/Berlin" });
    let check = json!({ "name": "nightly", "adapter": "openattestation", "schedule": schedule });
    let made = signed_python_call(&cloud, "spice-checks", "check_create", &[("check", &check)]).await;
    assert_eq!(made["effective_schedule"]["zone"], "Europe/Berlin");
    assert_eq!(made["next_runs"].as_array().unwrap().len(), 5);
    let listed = signed_python_call(&cloud, "spice-nodes", "node_list", &[]).await;
    assert_eq!(listed.as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_laboratory_may_allow_unsigned_administration_and_says_so() {
    let cloud = Cloud::in_one_process("[security]\nunsigned_admin = true\n").await;
    let mut peer = cloud.lab.peer(&[]).await;
    let call = json!({ "do": "call", "exchange": "spice", "topic": "spice-nodes", "method": "node_create", "args": { "name": "n1" } });
    assert_eq!(peer.succeed(call).await["name"], "n1");
    let status = cloud.admin(Topic::Nodes, "status", json!({})).await;
    assert_eq!(status["unsigned_admin"], true);
    // What machines do is signed all the same.
    let call =
        json!({ "do": "call", "exchange": "spice", "topic": "spice-nodes", "method": "node_inventory", "args": {} });
    assert_eq!(peer.command(call).await["exc_type"], "Unauthorized");
}

/// The unmodified oslo.messaging with our signer, as `python -m spice_client`.
async fn signed_python_call(cloud: &Cloud, topic: &str, method: &str, args: &[(&str, &Value)]) -> Value {
    let output = tokio::process::Command::new(crate::lab::python().await)
        .env("PYTHONPATH", crate::lab::root().join("plugins/client"))
        .args(["-W", "ignore", "-m", "spice_client", "--transport-url", &cloud.lab.transport_url()])
        .args(["--key", cloud.state().join("keys/admin.pem").to_str().unwrap()])
        .args(["--sender", "admin", "--deployment", deployment().as_str(), topic, method])
        .args(args.iter().map(|(name, value)| format!("{name}={value}")))
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
