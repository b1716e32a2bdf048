use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::super::trust_edit::{plan_end, plan_revocation};
use super::*;

fn write(dir: &Path, name: &str, content: &Value) {
    let path = dir.join(name);
    std::fs::write(&path, content.to_string()).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
}

fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    dir
}

fn file_of(signer: &RequestSigner, roles: &[&str]) -> Value {
    json!({
        "key_id": signer.key.key_id().to_string(), "sender": signer.sender, "roles": roles,
        "public_key": signer.key.public_key().to_string(), "revoked_since": null, "comment": "a test",
    })
}

fn with(mut file: Value, name: &str, value: Value) -> Value {
    file[name] = value;
    file
}

#[test]
fn a_fault_in_one_file_takes_no_other_key_away() {
    let dir = directory();
    write(dir.path(), "alice.json", &file_of(&admin(), &["admin"]));
    write(dir.path(), "checks.json", &with(file_of(&checks(), &["checks"]), "roles", json!(["chekcs"])));
    std::fs::write(dir.path().join("notes.txt"), "x").unwrap();
    std::fs::write(dir.path().join(".alice.json.swp"), "x").unwrap();
    let store = TrustStore::load(dir.path()).unwrap();
    assert_eq!(store.len(), 1);
    assert_eq!(store.lookup(&admin().key.key_id()).unwrap().sender, "alice");
    assert!(store.lookup(&checks().key.key_id()).is_none());
    let told: Vec<String> = store.faults().iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("chekcs") && told[1].contains(".json"), "{told:?}");
}

#[test]
fn all_faults_of_a_file_are_told_together() {
    let dir = directory();
    let bad = json!({
        "key_id": checks().key.key_id().to_string(), "sender": "-x", "roles": ["root", 1], "revoked_sinse": 1,
        "public_key": admin().key.public_key().to_string(), "revoked_since": "yesterday",
    });
    write(dir.path(), "bad.json", &bad);
    let store = TrustStore::load(dir.path()).unwrap();
    let told = store.faults()[0].to_string();
    for part in ["revoked_sinse", "-x", "\"root\"", "every role", "not that of public_key", "milliseconds"] {
        assert!(told.contains(part), "{part} is missing in: {told}");
    }
    assert!(store.is_empty());
}

#[test]
fn damaged_files_are_faults() {
    let good = file_of(&admin(), &["admin"]);
    let cases = [
        with(good.clone(), "roles", json!([])),
        with(good.clone(), "roles", json!("admin")),
        with(good.clone(), "public_key", json!("AAAA")),
        with(good.clone(), "key_id", json!("abc")),
        with(good.clone(), "key_id", Value::Null),
        with(good.clone(), "revoked_since", json!(-1)),
        with(good.clone(), "comment", json!(5)),
        json!([]),
    ];
    for case in cases {
        let dir = directory();
        write(dir.path(), "k.json", &case);
        let store = TrustStore::load(dir.path()).unwrap();
        assert_eq!((store.len(), store.faults().len()), (0, 1), "{case}");
    }
    let dir = directory();
    let doubled = good.to_string().replacen('{', "{\"revoked_since\":1,", 1);
    std::fs::write(dir.path().join("k.json"), doubled).unwrap();
    std::fs::create_dir(dir.path().join("sub.json")).unwrap();
    assert_eq!(TrustStore::load(dir.path()).unwrap().faults().len(), 2);
}

#[test]
fn what_others_may_change_is_not_trusted() {
    let dir = directory();
    write(dir.path(), "alice.json", &file_of(&admin(), &["admin"]));
    let file = dir.path().join("alice.json");
    for bad in [0o664, 0o646] {
        std::fs::set_permissions(&file, PermissionsExt::from_mode(bad)).unwrap();
        let store = TrustStore::load(dir.path()).unwrap();
        assert!(store.is_empty() && store.faults()[0].to_string().contains("chmod go-w"));
    }
    for bad in [0o775, 0o757] {
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(bad)).unwrap();
        assert!(TrustStore::load(dir.path()).unwrap_err().to_string().contains("chmod go-w"));
    }
    assert!(TrustStore::load(&dir.path().join("missing")).is_err());
}

#[test]
fn a_forgotten_copy_neither_undoes_a_revocation_nor_adds_a_role() {
    let dir = directory();
    write(dir.path(), "a.json", &with(file_of(&admin(), &["admin", "reader"]), "revoked_since", json!(500)));
    write(dir.path(), "b.json", &file_of(&admin(), &["admin", "nodes"]));
    let store = TrustStore::load(dir.path()).unwrap();
    let key = store.lookup(&admin().key.key_id()).unwrap();
    assert_eq!((key.roles.to_string().as_str(), key.revoked_since), ("admin", Some(Timestamp(500))));
    assert_eq!(store.faults().len(), 1);
    assert!(key.is_valid_at(Timestamp(499)) && !key.is_valid_at(Timestamp(500)));
}

#[test]
fn revoking_a_key_changes_every_file_about_it_and_no_other_and_never_moves_later() {
    let dir = directory();
    write(dir.path(), "a.json", &file_of(&admin(), &["admin"]));
    write(dir.path(), "b.json", &file_of(&admin(), &["admin"]));
    write(dir.path(), "checks.json", &file_of(&checks(), &["checks"]));
    let id = admin().key.key_id();
    std::fs::set_permissions(dir.path().join("b.json"), PermissionsExt::from_mode(0o600)).unwrap();
    let plan = plan_revocation(dir.path(), &id, Timestamp(500)).unwrap();
    assert_eq!(plan.edits.len(), 2);
    assert!(TrustStore::load(dir.path()).unwrap().revoked().next().is_none(), "a plan changes nothing");
    plan.carry_out().unwrap();
    plan_revocation(dir.path(), &id, Timestamp(900)).unwrap().carry_out().unwrap();
    let mode = std::fs::metadata(dir.path().join("b.json")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "the file stays as readable as it was");
    let store = TrustStore::load(dir.path()).unwrap();
    let key = store.lookup(&id).unwrap();
    assert_eq!((key.revoked_since, key.comment.as_deref()), (Some(Timestamp(500)), Some("a test")));
    assert_eq!(store.lookup(&checks().key.key_id()).unwrap().revoked_since, None);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    let unknown = plan_revocation(dir.path(), &SigningKey::generate().unwrap().key_id(), Timestamp(1)).unwrap_err();
    assert!(unknown.to_string().contains("no trust file"), "{unknown}");
}

#[test]
fn a_running_process_takes_changes_in_and_counts_them() {
    let dir = directory();
    write(dir.path(), "alice.json", &file_of(&admin(), &["admin"]));
    let shared = SharedTrustStore::open_polling(dir.path(), Duration::ZERO).unwrap();
    let id = admin().key.key_id();
    assert!(shared.lookup(&id).unwrap().revoked_since.is_none());
    assert_eq!(shared.generation(), 1);

    let seen = |expected: &dyn Fn(&SharedTrustStore) -> bool| {
        // Looking takes some microseconds, and the next look is due twenty times as much later.
        let give_up = std::time::Instant::now() + Duration::from_secs(10);
        while !expected(&shared) {
            assert!(std::time::Instant::now() < give_up, "the change was not noticed");
            std::thread::yield_now();
        }
    };
    write(dir.path(), "alice.json", &with(file_of(&admin(), &["admin"]), "revoked_since", json!(7)));
    seen(&|shared| shared.lookup(&id).unwrap().revoked_since == Some(Timestamp(7)));
    assert_eq!(shared.generation(), 2);
    write(dir.path(), "checks.json", &file_of(&checks(), &["checks"]));
    seen(&|shared| shared.current().len() == 2);
    std::fs::remove_file(dir.path().join("alice.json")).unwrap();
    seen(&|shared| shared.lookup(&id).is_none());
    assert_eq!(shared.generation(), 4);
}

#[test]
fn a_directory_that_cannot_be_read_leaves_the_last_keys_in_force() {
    let outer = directory();
    let dir = outer.path().join("trust");
    std::fs::create_dir(&dir).unwrap();
    std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).unwrap();
    write(&dir, "alice.json", &file_of(&admin(), &["admin"]));
    let shared = SharedTrustStore::open_polling(&dir, Duration::ZERO).unwrap();
    std::fs::rename(&dir, outer.path().join("away")).unwrap();
    let until = std::time::Instant::now() + Duration::from_millis(50);
    while std::time::Instant::now() < until {
        assert_eq!(shared.current().len(), 1);
    }
    std::fs::rename(outer.path().join("away"), &dir).unwrap();
    std::fs::remove_file(dir.join("alice.json")).unwrap();
    let give_up = std::time::Instant::now() + Duration::from_secs(10);
    while !shared.current().is_empty() {
        assert!(std::time::Instant::now() < give_up, "it does not recover");
        std::thread::yield_now();
    }
}

#[test]
fn a_damaged_file_leaves_what_it_said_before_in_force_and_never_more() {
    let dir = directory();
    let file = dir.path().join("alice.json");
    write(dir.path(), "alice.json", &file_of(&admin(), &["admin"]));
    write(dir.path(), "checks.json", &file_of(&checks(), &["checks"]));
    let good = std::fs::read_to_string(&file).unwrap();
    let before = TrustStore::load(dir.path()).unwrap();
    let id = admin().key.key_id();
    let more = with(file_of(&admin(), &["admin", "nodes"]), "comment", json!("more")).to_string();
    let damages: [(&str, &str, u32); 4] = [
        ("half", &good[..good.len() / 2], 0o644),
        ("empty", "", 0o644),
        ("foreign", &more, 0o666),
        ("role", "{}", 0o644),
    ];
    for (name, content, mode) in damages {
        std::fs::write(&file, content).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
        let after = TrustStore::load_after(dir.path(), &before).unwrap();
        assert_eq!(after.lookup(&id), before.lookup(&id), "{name}");
        assert!(after.faults()[0].to_string().contains("stays in force"), "{name}: {:?}", after.faults());
        // Also when it stays damaged, and what other files say is taken in all the same.
        let since = Timestamp(500);
        plan_revocation(dir.path(), &checks().key.key_id(), since).unwrap().carry_out().unwrap();
        let later = TrustStore::load_after(dir.path(), &after).unwrap();
        assert_eq!(later.lookup(&id), before.lookup(&id), "{name}");
        assert_eq!(later.lookup(&checks().key.key_id()).unwrap().revoked_since, Some(since));
        assert!(TrustStore::load(dir.path()).unwrap().lookup(&id).is_none(), "{name}: at a start it trusts nobody");
    }
    std::fs::remove_file(&file).unwrap();
    assert!(TrustStore::load_after(dir.path(), &before).unwrap().lookup(&id).is_none(), "a file that is gone");
}

#[test]
fn a_running_process_says_what_is_wrong_with_its_store() {
    let dir = directory();
    write(dir.path(), "alice.json", &file_of(&admin(), &["admin"]));
    let shared = SharedTrustStore::open_polling(dir.path(), Duration::ZERO).unwrap();
    assert_eq!(shared.report().faults, Vec::<String>::new());
    std::fs::write(dir.path().join("alice.json"), "{").unwrap();
    let until = |expected: &dyn Fn(&TrustReport) -> bool| {
        let give_up = std::time::Instant::now() + Duration::from_secs(10);
        while !expected(&shared.report()) {
            assert!(std::time::Instant::now() < give_up, "{:?}", shared.report());
            std::thread::yield_now();
        }
    };
    until(&|report| report.keys == 1 && report.faults.len() == 1);
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
    until(&|report| report.keys == 1 && report.faults.len() == 2 && report.faults[0].contains("chmod go-w"));
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    write(dir.path(), "alice.json", &with(file_of(&admin(), &["admin"]), "revoked_since", json!(7)));
    until(&|report| report.faults.is_empty() && report.revoked == 1);
}

#[test]
fn keys_overlap_while_one_follows_another() {
    let dir = directory();
    let next = RequestSigner { key: SigningKey::generate().unwrap(), ..admin() };
    write(dir.path(), "alice.json", &file_of(&admin(), &["admin"]));
    write(dir.path(), "alice-2.json", &with(file_of(&next, &["admin"]), "not_before", json!(100)));
    plan_end(dir.path(), &admin().key.key_id(), Timestamp(200)).unwrap().carry_out().unwrap();
    plan_end(dir.path(), &admin().key.key_id(), Timestamp(900)).unwrap().carry_out().unwrap();
    let store = TrustStore::load(dir.path()).unwrap();
    assert!(store.faults().is_empty(), "{:?}", store.faults());
    let valid = |signer: &RequestSigner, at: i64| {
        store
            .lookup(&signer.key.key_id())
            .unwrap()
            .check_valid(Timestamp(at), Timestamp(at))
            .map_err(|error| error.kind())
    };
    for (at, old, new) in [(99, true, false), (100, true, true), (200, true, true), (201, false, true)] {
        assert_eq!((valid(&admin(), at).is_ok(), valid(&next, at).is_ok()), (old, new), "at {at}");
    }
    assert_eq!(valid(&admin(), 201), Err("out_of_time"));
    write(
        dir.path(),
        "alice-2.json",
        &with(with(file_of(&next, &["admin"]), "not_before", json!(2)), "not_after", json!(1)),
    );
    assert!(TrustStore::load(dir.path()).unwrap().faults()[0].to_string().contains("never valid"));
}

#[test]
fn a_thief_who_signs_with_an_earlier_date_is_refused_because_it_arrives_too_late() {
    let key = TrustedKey { revoked_since: Some(Timestamp(500)), ..trusted(&admin(), "admin") };
    assert!(key.check_valid(Timestamp(499), Timestamp(499)).is_ok());
    assert_eq!(key.check_valid(Timestamp(499), Timestamp(500)).unwrap_err().kind(), "revoked");
    assert_eq!(key.check_valid(Timestamp(500), Timestamp(499)).unwrap_err().kind(), "revoked");
}

#[test]
fn between_two_looks_the_directory_is_left_alone() {
    let dir = directory();
    write(dir.path(), "alice.json", &file_of(&admin(), &["admin"]));
    let shared = SharedTrustStore::open_polling(dir.path(), Duration::from_secs(3600)).unwrap();
    std::fs::remove_file(dir.path().join("alice.json")).unwrap();
    assert_eq!(shared.current().len(), 1);
}

#[test]
fn a_key_placed_a_moment_ago_is_looked_for_but_strangers_cannot_make_it_look_all_the_time() {
    let dir = directory();
    let shared = SharedTrustStore::open_polling(dir.path(), Duration::from_secs(3600)).unwrap();
    write(dir.path(), "alice.json", &file_of(&admin(), &["admin"]));
    assert_eq!((shared.current().len(), shared.looked_again().len()), (0, 1));
    write(dir.path(), "checks.json", &file_of(&checks(), &["checks"]));
    let asked = std::time::Instant::now();
    while shared.looked_again().len() == 1 {
        assert!(asked.elapsed() < Duration::from_secs(10), "it does not look again");
        std::thread::yield_now();
    }
    assert!(asked.elapsed() > Duration::from_millis(100), "it looks whenever it is asked: {:?}", asked.elapsed());
}
