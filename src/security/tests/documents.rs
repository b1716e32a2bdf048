use crate::protocol::{Heartbeat, RunOrder, Ticket};

use super::super::document::Content;
use super::*;

pub(super) fn ticket() -> Ticket {
    Ticket {
        deployment: deployment(),
        order: RunOrder { epoch: 1_795_320_000_000, run: 17 },
        batch: 1,
        attempt: 1,
        check: "boot".parse().unwrap(),
        check_id: "0123".into(),
        revision: 3,
        adapter: "openattestation".parse().unwrap(),
        nodes: vec!["compute-1".parse().unwrap(), "compute-2".parse().unwrap()],
        issued_at: SIGNED_AT,
        deadline: Timestamp(SIGNED_AT.0 + 60_000),
    }
}

fn by_checks(key: &TrustedKey) -> bool {
    key.roles.satisfies(&Role::Checks)
}

#[test]
fn a_ticket_opens_as_what_was_signed_for_this_deployment_only() {
    let document = SignedDocument::seal(&ticket(), &checks().key).unwrap();
    let sent = serde_json::to_string(&document).unwrap();
    let document: SignedDocument = serde_json::from_str(&sent).unwrap();
    let (opened, key): (Ticket, _) = document.open_for(&deployment(), &store(), SIGNED_AT, by_checks).unwrap();
    assert_eq!((opened, key.sender.as_str()), (ticket(), "checks"));
    let other = DeploymentId::new("other-cloud").unwrap();
    assert_eq!(
        document.open_for::<Ticket>(&other, &store(), SIGNED_AT, by_checks).unwrap_err().kind(),
        "wrong_deployment"
    );
}

#[test]
fn a_ticket_by_a_key_without_the_role_is_refused() {
    let document = SignedDocument::seal(&ticket(), &admin().key).unwrap();
    let refused = document.open_for::<Ticket>(&deployment(), &store(), SIGNED_AT, by_checks);
    assert_eq!(refused.unwrap_err().kind(), "forbidden");
    let unknown = document.open_for::<Ticket>(&deployment(), &TrustStore::default(), SIGNED_AT, by_checks);
    assert_eq!(unknown.unwrap_err().kind(), "unknown_key");
}

#[test]
fn revocation_voids_what_was_signed_from_then_on() {
    let document = SignedDocument::seal(&ticket(), &checks().key).unwrap();
    let open =
        |since: i64| document.open_for::<Ticket>(&deployment(), &revoked(Timestamp(since)), Timestamp(0), by_checks);
    assert!(open(SIGNED_AT.0 + 1).is_ok());
    assert_eq!(open(SIGNED_AT.0).unwrap_err().kind(), "revoked");
}

#[test]
fn a_document_of_one_kind_is_never_taken_for_another() {
    let mut document = SignedDocument::seal(&ticket(), &checks().key).unwrap();
    let refused = document.open_for::<Heartbeat>(&deployment(), &store(), SIGNED_AT, |_| true);
    assert_eq!(refused.unwrap_err().kind(), "wrong_target");
    document.kind = DocumentKind::Heartbeat;
    let relabelled = document.open_for::<Heartbeat>(&deployment(), &store(), SIGNED_AT, |_| true);
    assert_eq!(relabelled.unwrap_err().kind(), "bad_signature");
}

#[test]
fn signed_text_is_still_parsed_strictly() {
    let key = checks().key;
    for body in [r#"{"a":1,"a":2}"#, r#"{"a":1.5}"#, "{} {}", "{}"] {
        let covered = format!("spice-document-v1\nticket\n{body}");
        let signature =
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, key.sign(covered.as_bytes()).unwrap());
        let document =
            SignedDocument { kind: DocumentKind::Ticket, body: body.into(), key_id: key.key_id(), signature };
        let refused = document.open_for::<Ticket>(&deployment(), &store(), SIGNED_AT, by_checks);
        assert_eq!(refused.unwrap_err().kind(), "malformed", "{body}");
    }
}

#[test]
fn size_is_bounded_when_signing_and_when_opening() {
    let mut large = ticket();
    large.check_id = "x".repeat(DocumentKind::Ticket.max_body());
    let refused = SignedDocument::seal(&large, &checks().key);
    assert!(matches!(refused, Err(SignError::TooLarge { .. })));
    let mut document = SignedDocument::seal(&ticket(), &checks().key).unwrap();
    document.body = "x".repeat(DocumentKind::Ticket.max_body() + 1);
    let refused = document.open_for::<Ticket>(&deployment(), &store(), SIGNED_AT, by_checks);
    assert_eq!(refused.unwrap_err().kind(), "malformed");
    assert_eq!(Ticket::KIND, DocumentKind::Ticket);
}

proptest! {
    #[test]
    fn any_change_of_any_character_of_a_document_breaks_it(place: prop::sample::Index, to in any::<char>()) {
        let document = SignedDocument::seal(&ticket(), &checks().key).unwrap();
        let mut characters: Vec<char> = document.body.chars().collect();
        let place = place.index(characters.len());
        prop_assume!(characters[place] != to);
        characters[place] = to;
        let changed = SignedDocument { body: characters.into_iter().collect(), ..document };
        let refused = changed.open_for::<Ticket>(&deployment(), &store(), SIGNED_AT, by_checks);
        prop_assert_eq!(refused.unwrap_err().kind(), "bad_signature");
    }

    #[test]
    fn any_change_of_a_signature_breaks_it(place: prop::sample::Index, to in "[A-Za-z0-9+/=]") {
        let document = SignedDocument::seal(&ticket(), &checks().key).unwrap();
        let place = place.index(document.signature.len());
        let mut signature = document.signature.clone();
        signature.replace_range(place..=place, &to);
        prop_assume!(signature != document.signature);
        let changed = SignedDocument { signature, ..document };
        prop_assert!(changed.open_for::<Ticket>(&deployment(), &store(), SIGNED_AT, by_checks).is_err());
    }
}

#[test]
fn a_snapshot_is_written_in_the_order_in_which_it_is_signed() {
    use crate::protocol::{Level, MemberState, Mode, PoolState, Snapshot};
    let member = MemberState { level: Level::Trusted, expires_at: SIGNED_AT, overridden: false };
    let members = ["compute-1", "Compute.2", "compute-10"].map(|name| (name.parse().unwrap(), member)).into();
    let pool = PoolState { mode: Mode::Enforce, max_silence_ms: 1, members };
    let snapshot = Snapshot {
        deployment: deployment(),
        epoch: 1,
        nonce: "0123456789abcdef".into(),
        not_after: SIGNED_AT,
        pools: [("default".parse().unwrap(), pool.clone()), ("Gold".parse().unwrap(), pool)].into(),
        sent_at: SIGNED_AT,
        version: 2,
    };
    let written = serde_json::to_vec(&snapshot).unwrap();
    assert_eq!(written, canonicalize(&serde_json::to_value(&snapshot).unwrap()).unwrap());
    assert!(super::super::strict::is_in_order(&written), "else a tree of values is held beside it");
}
