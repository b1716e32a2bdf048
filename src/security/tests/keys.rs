use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::super::bootstrap::{BootstrapError, create_key, create_keys};
use super::*;

fn mode(path: &std::path::Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_saved_key_is_private_and_loads_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pem");
    let key = SigningKey::generate().unwrap();
    key.save(&path).unwrap();
    assert_eq!(mode(&path), 0o600);
    let loaded = SigningKey::load(&path).unwrap();
    assert_eq!(loaded.key_id(), key.key_id());
    assert!(key.public_key().verifies(b"x", &loaded.sign(b"x").unwrap()));
    assert!(key.save(&path).unwrap_err().to_string().contains("exists"));
}

#[test]
fn a_key_others_can_read_is_refused_with_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pem");
    SigningKey::generate().unwrap().save(&path).unwrap();
    for bad in [0o640, 0o604, 0o660, 0o620] {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(bad)).unwrap();
        let fault = SigningKey::load(&path).unwrap_err().to_string();
        assert!(fault.contains("chmod 600") && fault.contains("key.pem"), "{fault}");
    }
}

#[test]
fn keys_made_by_openssl_load_and_openssl_reads_ours() {
    let dir = tempfile::tempdir().unwrap();
    let (theirs, ours) = (dir.path().join("openssl.pem"), dir.path().join("ours.pem"));
    let openssl = |arguments: &[&str]| Command::new("openssl").args(arguments).output().unwrap();
    let made = openssl(&["genpkey", "-algorithm", "ed25519", "-out", theirs.to_str().unwrap()]);
    assert!(made.status.success(), "{made:?}");
    std::fs::set_permissions(&theirs, PermissionsExt::from_mode(0o600)).unwrap();
    let key = SigningKey::load(&theirs).unwrap();
    key.save(&ours).unwrap();
    let shown = openssl(&["pkey", "-in", ours.to_str().unwrap(), "-pubout", "-outform", "DER"]);
    assert!(shown.status.success() && shown.stdout.ends_with(key.public_key().as_raw()));
}

#[test]
fn what_is_no_ed25519_key_is_refused_without_showing_it() {
    let dir = tempfile::tempdir().unwrap();
    let rsa = Command::new("openssl").args(["genpkey", "-algorithm", "x25519"]).output().unwrap().stdout;
    let damaged = ADMIN_PEM.replace("MC4CAQ", "MC4CAR");
    for bad in [rsa.as_slice(), damaged.as_bytes(), b"", b"secret", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"] {
        let path = dir.path().join("bad.pem");
        super::super::files::create_new(&path, 0o600, bad).unwrap();
        let fault = SigningKey::load(&path).unwrap_err().to_string();
        assert!(fault.contains("not an Ed25519 private key") && !fault.contains("secret"), "{fault}");
        std::fs::remove_file(&path).unwrap();
    }
    let fault = SigningKey::load(dir.path()).unwrap_err().to_string();
    assert!(fault.contains("not a regular file"), "{fault}");
}

#[test]
fn debug_output_never_shows_a_key() {
    let shown = format!("{:?} {:?}", admin(), admin().key);
    assert!(shown.contains(&admin().key.key_id().to_string()));
    let secret: String = ADMIN_PEM.lines().nth(1).unwrap().chars().skip(24).collect();
    assert!(!shown.contains(&secret) && shown.len() < 200, "{shown}");
}

#[test]
fn a_key_id_has_one_spelling() {
    let id = admin().key.key_id();
    assert_eq!(id.to_string().parse::<KeyId>().unwrap(), id);
    for bad in [id.to_string().to_uppercase(), format!("{id}0"), "x".into(), String::new()] {
        assert!(bad.parse::<KeyId>().is_err(), "{bad}");
    }
}

#[test]
fn only_the_right_signature_verifies() {
    let (one, two) = (admin().key, checks().key);
    let signature = one.sign(b"message").unwrap();
    assert!(one.public_key().verifies(b"message", &signature));
    assert!(!one.public_key().verifies(b"massage", &signature));
    assert!(!two.public_key().verifies(b"message", &signature));
    assert!(!one.public_key().verifies(b"message", &signature[..63]));
    assert!(!one.public_key().verifies(b"message", &[]));
    assert!(!PublicKey::from_raw([0; 32]).verifies(b"message", &signature));
}

#[test]
fn roles_have_one_text_form_and_only_admin_roles_imply_others() {
    for text in ["admin", "operator", "reader", "checks", "nodes", "adapter:openattestation", "agent:compute-1.example"]
    {
        assert_eq!(text.parse::<Role>().unwrap().to_string(), text);
    }
    for bad in ["", "Admin", "root", "adapter", "adapter:", "adapter:A/B", "agent:", "agent:-x", "checks:x", " admin"] {
        assert!(bad.parse::<Role>().is_err(), "{bad}");
    }
    let ladder = [Role::Reader, Role::Operator, Role::Admin];
    for (held, role) in ladder.iter().enumerate() {
        for (needed, required) in ladder.iter().enumerate() {
            assert_eq!(role.satisfies(required), held >= needed, "{role} for {required}");
        }
    }
    let adapter: Role = "adapter:command".parse().unwrap();
    let other: Role = "adapter:tpm2".parse().unwrap();
    for role in [Role::Checks, Role::Nodes, adapter.clone(), "agent:n1".parse().unwrap()] {
        assert!(!Role::Admin.satisfies(&role) && !role.satisfies(&Role::Reader) && role.satisfies(&role));
    }
    assert!(!adapter.satisfies(&other));
    assert!(!RoleSet::default().satisfies_any(&[]) && !RoleSet::default().satisfies(&Role::Reader));
}

#[test]
fn the_first_start_makes_a_key_per_role_that_a_trust_store_takes() {
    let dir = tempfile::tempdir().unwrap();
    let made = create_keys(dir.path(), &deployment(), &["openattestation".parse().unwrap()]).unwrap();
    let store = TrustStore::load(&dir.path().join("trust")).unwrap();
    assert!(store.faults().is_empty(), "{:?}", store.faults());
    assert_eq!(store.len(), 6);
    for key in &made {
        assert_eq!(mode(&key.key_file), 0o600);
        assert_eq!(SigningKey::load(&key.key_file).unwrap().key_id(), key.key_id);
        let trusted = store.lookup(&key.key_id).unwrap();
        assert_eq!((&trusted.sender, &trusted.roles), (&key.name, &key.roles));
    }
    let again = create_keys(dir.path(), &deployment(), &[]).unwrap_err();
    assert!(matches!(again, BootstrapError::Exists(_)), "{again}");
}

#[test]
fn a_key_is_never_overwritten_and_its_name_is_no_path() {
    let dir = tempfile::tempdir().unwrap();
    create_key(dir.path(), &deployment(), "alice", [Role::Operator]).unwrap();
    let again = create_key(dir.path(), &deployment(), "alice", [Role::Admin]).unwrap_err();
    assert!(matches!(again, BootstrapError::Exists(_)));
    for bad in ["", "../x", "a/b", ".x", "-x"] {
        assert!(matches!(create_key(dir.path(), &deployment(), bad, [Role::Admin]), Err(BootstrapError::Name(_))));
    }
    assert!(matches!(create_key(dir.path(), &deployment(), "bob", []), Err(BootstrapError::NoRole)));
}
