//! Somebody answers in the place of a server: believed is only what the server's role has signed for this very question.

use std::sync::Arc;

use serde_json::{Value, json};
use spice::bus::{Dispatcher, Disposition, Incoming, Reply, Service};
use spice::clock::Timestamp;
use spice::protocol::{Level, MemberState, Mode, PoolState, Snapshot};
use spice::rpc::table::Topic;
use spice::rpc::{Identity, Kind};
use spice::security::{DocumentKind, ReplyOutcome, RequestParts, SignedDocument, sign_reply, verify_request};

use super::attacker::now;
use super::*;
use crate::cloud::{deployment, object};

/// How the impostor vouches for its answers.
#[derive(Clone)]
enum Vouches {
    NotAtAll,
    /// With the key of another role, stolen.
    With(Arc<Identity>),
}

/// Takes calls from the queue of Nodes and answers what suits it.
struct Impostor(Vouches, tokio::sync::mpsc::UnboundedSender<String>);

#[async_trait::async_trait]
impl Dispatcher for Impostor {
    async fn dispatch(&self, incoming: Incoming) -> Disposition {
        let method = incoming.request.method.clone();
        let answer = match method.as_str() {
            "pool_snapshot" => {
                let nonce = incoming.request.args["nonce"].as_str().unwrap().to_owned();
                json!({ "document": snapshot(&self.0, nonce) })
            }
            _ => json!([{ "name": "node-1", "trust": "trusted" }]),
        };
        let mut reply = Reply::ok(answer.clone());
        if let (Vouches::With(identity), Some(id)) = (&self.0, &incoming.msg_id) {
            // It read the question, so it can bind its answer to it as Nodes would.
            let parts = RequestParts {
                exchange: &incoming.exchange,
                topic: &incoming.topic,
                server: None,
                fanout: false,
                namespace: None,
                method: &method,
                version: incoming.version.as_deref(),
                args: &incoming.request.args,
            };
            let auth = &incoming.request.context["spice_auth"];
            let question =
                verify_request(&parts, auth, &identity.trust.current(), &deployment(), identity.clock.now()).unwrap();
            let signature = sign_reply(&identity.signer, id, &question.digest, ReplyOutcome::Result(&answer)).unwrap();
            reply = reply.extra("spice_auth", signature);
        }
        let _ = self.1.send(method);
        Disposition::Reply(reply)
    }
}

/// Everybody is trusted, it says.
fn snapshot(vouches: &Vouches, nonce: String) -> Value {
    let state =
        MemberState { level: Level::Trusted, expires_at: now().plus(Duration::from_secs(3600)), overridden: false };
    let members = ["node-1", "node-2"].map(|node| (NodeName::new(node).unwrap(), state));
    let pool = PoolState { mode: Mode::Enforce, max_silence_ms: 600_000, members: members.into() };
    let snapshot = Snapshot {
        deployment: deployment(),
        epoch: now().0 + 1_000_000,
        version: 1,
        nonce,
        pools: [("default".parse().unwrap(), pool)].into(),
        sent_at: now(),
        not_after: Timestamp(now().0 + 60_000),
    };
    let key = match vouches {
        Vouches::With(identity) => identity.key.clone(),
        Vouches::NotAtAll => spice::security::SigningKey::generate().unwrap(),
    };
    json!(SignedDocument::sign(DocumentKind::Snapshot, &snapshot, &key).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_an_impostor_reach_neither_an_administrator_nor_a_pool_file() {
    let mut cloud = compromise(Cloud::one_process_each("").await).await;
    cloud.stop("nodes").await;
    cloud.stop("pool").await;
    for vouches in [
        Vouches::NotAtAll,
        Vouches::With(cloud.identity("adapter-openattestation")),
        Vouches::With(cloud.identity("admin")),
    ] {
        let (told, mut asked) = tokio::sync::mpsc::unbounded_channel();
        let bus = cloud.lab.bus("impostor");
        let service = Service::rpc("spice", "spice-nodes", "impostor");
        let serving = bus.serve(service, Arc::new(Impostor(vouches, told))).await.unwrap();

        let error = cloud.as_holder_of("admin").call(Topic::Nodes, "node_list", object(json!({}))).await.unwrap_err();
        assert_eq!(error.kind, Kind::Unauthorized, "{error}");

        // A cache that starts asks whoever is there, again and again.
        cloud.start("pool", &["--role", "pool"]).await;
        let mut snapshots = 0;
        while snapshots < 2 {
            snapshots += u32::from(crate::lab::Soon::soon(&mut asked).await == "pool_snapshot");
        }
        assert_eq!(cloud.pool_file()["node-1"].0, 'u', "the file is as the true Nodes left it");
        cloud.stop("pool").await;
        serving.stop(Duration::from_secs(1)).await;
        bus.close().await;
    }
    cloud.start("nodes", &["--role", "nodes"]).await;
    cloud.start("pool", &["--role", "pool"]).await;
    goes_on_unimpressed(&cloud).await;
}
