use super::super::reply::ExpectedReply;
use super::*;

const DIGEST: [u8; 32] = [7; 32];

fn expected<'a>(deployment: &'a DeploymentId, role: &'a Role) -> ExpectedReply<'a> {
    ExpectedReply { deployment, request_id: "m1", request_digest: &DIGEST, role }
}

#[test]
fn an_answer_is_believed_only_from_the_role_that_was_asked() {
    let (deployment, result) = (deployment(), json!({"checks": []}));
    let auth = sign_reply(&checks(), "m1", &DIGEST, ReplyOutcome::Result(&result)).unwrap();
    let verify = |role: Role, store: &TrustStore| {
        verify_reply(&auth, &expected(&deployment, &role), ReplyOutcome::Result(&result), store, SIGNED_AT)
    };
    assert_eq!(verify(Role::Checks, &store()).unwrap().sender, "checks");
    assert_eq!(verify(Role::Nodes, &store()).unwrap_err().kind(), "forbidden");
    assert_eq!(verify(Role::Checks, &TrustStore::default()).unwrap_err().kind(), "unknown_key");
    assert_eq!(verify(Role::Checks, &revoked(Timestamp(0))).unwrap_err().kind(), "revoked");
}

#[test]
fn an_unsigned_answer_and_one_to_another_request_are_refused() {
    let (deployment, result) = (deployment(), json!(true));
    let expected = expected(&deployment, &Role::Checks);
    let outcome = ReplyOutcome::Result(&result);
    assert_eq!(verify_reply(&Value::Null, &expected, outcome, &store(), SIGNED_AT).unwrap_err().kind(), "unsigned");
    for (id, digest) in [("m2", DIGEST), ("m1", [8; 32])] {
        let auth = sign_reply(&checks(), id, &digest, outcome).unwrap();
        assert_eq!(verify_reply(&auth, &expected, outcome, &store(), SIGNED_AT).unwrap_err().kind(), "bad_signature");
    }
}

#[test]
fn a_result_cannot_be_passed_off_as_a_failure() {
    let (deployment, text) = (deployment(), json!("no such check"));
    let auth = sign_reply(&checks(), "m1", &DIGEST, ReplyOutcome::Failure(&text)).unwrap();
    let expected = expected(&deployment, &Role::Checks);
    assert!(verify_reply(&auth, &expected, ReplyOutcome::Failure(&text), &store(), SIGNED_AT).is_ok());
    let swapped = verify_reply(&auth, &expected, ReplyOutcome::Result(&text), &store(), SIGNED_AT);
    assert_eq!(swapped.unwrap_err().kind(), "bad_signature");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_change_of_anything_in_a_reply_breaks_its_signature(result in content()) {
        let deployment = deployment();
        let expected = expected(&deployment, &Role::Checks);
        let auth = sign_reply(&checks(), "m1", &DIGEST, ReplyOutcome::Result(&result)).unwrap();
        let store = store();
        prop_assert!(verify_reply(&auth, &expected, ReplyOutcome::Result(&result), &store, SIGNED_AT).is_ok());
        for mutant in mutants(&result) {
            prop_assert!(verify_reply(&auth, &expected, ReplyOutcome::Result(&mutant), &store, SIGNED_AT).is_err(), "{}", mutant);
        }
        for mutant in mutants(&auth) {
            prop_assert!(verify_reply(&mutant, &expected, ReplyOutcome::Result(&result), &store, SIGNED_AT).is_err(), "{}", mutant);
        }
    }
}
