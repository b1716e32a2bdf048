//! Whoever reads the bus knows where a reply is awaited. What such a one can answer is not believed.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::json;
use spice::bus::{Dispatcher, Disposition, Incoming, Reply, Service};
use spice::clock::SystemClock;
use spice::rpc::table::Topic;
use spice::rpc::{Identity, Kind, RpcClient};
use spice::security::request::CONTEXT_MEMBER;
use spice::security::{
    ReplyOutcome, RequestParts, SharedTrustStore, SigningKey, bootstrap, sign_reply, verify_request,
};

use crate::cloud::{deployment, object};
use crate::lab::Lab;

/// How the next call is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Truly,
    Unsigned,
    WithKeyOf(&'static str),
    WithAnUnknownKey,
    ForAnotherCall,
    ForAnotherRequest,
    Recorded,
    Changed,
    AsAFailure,
}

/// Stands where Nodes should.
struct Impostor {
    answer: Mutex<Answer>,
    recorded: Mutex<Option<Reply>>,
    keys: std::path::PathBuf,
    trust: Arc<SharedTrustStore>,
}

impl Impostor {
    fn identity(&self, name: &str) -> Identity {
        let key = SigningKey::load(&self.keys.join(format!("{name}.pem"))).unwrap();
        Identity::new(deployment(), name, key, self.trust.clone(), SystemClock::shared())
    }

    fn reply(&self, incoming: &Incoming, answer: Answer) -> Reply {
        let parts = RequestParts {
            exchange: &incoming.exchange,
            topic: &incoming.topic,
            server: None,
            fanout: false,
            namespace: None,
            method: &incoming.request.method,
            version: incoming.version.as_deref(),
            args: &incoming.request.args,
        };
        let auth = &incoming.request.context[CONTEXT_MEMBER];
        let now = spice::clock::Timestamp(chrono::Utc::now().timestamp_millis());
        let mut digest = verify_request(&parts, auth, &self.trust.current(), &deployment(), now).unwrap().digest;
        let mut id = incoming.msg_id.clone().unwrap();
        let mut signer = self.identity("nodes").signer;
        let result = json!({ "nodes": 3 });
        match answer {
            Answer::WithKeyOf(name) => signer = self.identity(name).signer,
            Answer::WithAnUnknownKey => signer.key = SigningKey::generate().unwrap(),
            Answer::ForAnotherCall => id.replace_range(0..1, if id.starts_with('0') { "1" } else { "0" }),
            Answer::ForAnotherRequest => digest[0] ^= 1,
            _ => {}
        }
        let signature = sign_reply(&signer, &id, &digest, ReplyOutcome::Result(&result)).unwrap();
        match answer {
            Answer::Unsigned => Reply::ok(result),
            Answer::Recorded => self.recorded.lock().unwrap().clone().unwrap(),
            Answer::Changed => Reply::ok(json!({ "nodes": 4 })).extra(CONTEXT_MEMBER, signature),
            Answer::AsAFailure => {
                Reply::failure(spice::bus::Failure::spice("NotFound", "no")).extra(CONTEXT_MEMBER, signature)
            }
            _ => Reply::ok(result).extra(CONTEXT_MEMBER, signature),
        }
    }
}

#[async_trait]
impl Dispatcher for Impostor {
    async fn dispatch(&self, incoming: Incoming) -> Disposition {
        let answer = *self.answer.lock().unwrap();
        let reply = self.reply(&incoming, answer);
        if answer == Answer::Truly {
            *self.recorded.lock().unwrap() = Some(reply.clone());
        }
        Disposition::Reply(reply)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_is_believed_only_as_the_role_that_was_asked_signed_it_for_this_very_call() {
    let lab = Lab::new().await;
    let dir = tempfile::tempdir().unwrap();
    bootstrap::create_keys(dir.path(), &deployment(), &["command".parse().unwrap()]).unwrap();
    let trust = SharedTrustStore::open(&dir.path().join("trust")).unwrap();
    let keys = dir.path().join("keys");
    let impostor = Arc::new(Impostor { answer: Mutex::new(Answer::Truly), recorded: Mutex::new(None), keys, trust });
    let bus = lab.bus("impostor");
    let serving = bus.serve(Service::rpc("spice", "spice-nodes", "impostor"), impostor.clone()).await.unwrap();
    let client = RpcClient::new(lab.bus("client"), Arc::new(impostor.identity("admin")));
    let call = async |answer: Answer| {
        *impostor.answer.lock().unwrap() = answer;
        client.call(Topic::Nodes, "status", object(json!({}))).await
    };
    assert_eq!(call(Answer::Truly).await.unwrap(), json!({ "nodes": 3 }));
    let refused = [
        (Answer::Unsigned, "not signed"),
        (Answer::WithKeyOf("checks"), "takes the role nodes"),
        (Answer::WithKeyOf("adapter-command"), "takes the role nodes"),
        (Answer::WithKeyOf("pool"), "takes the role nodes"),
        (Answer::WithKeyOf("admin"), "takes the role nodes"),
        (Answer::WithAnUnknownKey, "not in the trust store"),
        (Answer::ForAnotherCall, "does not fit"),
        (Answer::ForAnotherRequest, "does not fit"),
        (Answer::Recorded, "does not fit"),
        (Answer::Changed, "does not fit"),
        (Answer::AsAFailure, "does not fit"),
    ];
    for (answer, says) in refused {
        let error = call(answer).await.unwrap_err();
        assert_eq!(error.kind, Kind::Unauthorized, "{answer:?}: {error}");
        assert!(error.message.contains(says), "{answer:?}: {error}");
    }
    assert_eq!(call(Answer::Truly).await.unwrap(), json!({ "nodes": 3 }), "and the true one again");
    serving.stop(std::time::Duration::from_secs(5)).await;
    lab.remove().await;
}
