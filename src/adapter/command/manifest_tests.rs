#![allow(clippy::unwrap_used, clippy::panic)]
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::*;

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(dir.path().join("prog"), "#!/bin/true\n").unwrap();
        Self(dir)
    }

    /// A sound manifest with `changes` laid over it, loaded.
    fn load(&self, changes: Value) -> Result<Manifest, String> {
        let mut manifest = json!({
            "name": "p", "program": "prog", "sha256": "0".repeat(64), "style": "nagios", "timeout_s": 10,
            "exit_codes": {"1": "fail"},
            "parameters": {
                "port": {"type": "integer", "min": 1, "max": 65535, "required": true},
                "mode": {"type": "string", "enum": ["a", "b"], "default": "a"},
                "word": {"type": "string", "pattern": "x|y+"},
                "loud": {"type": "boolean"}
            },
            "argv": ["-H", "{node}", "--port={port}", "{mode}", {"when": "word", "argv": ["-w", "{word}"]}, {"when": "loud", "argv": ["-v"]}]
        });
        for (name, value) in changes.as_object().unwrap() {
            manifest[name] = value.clone();
        }
        let path = self.0.path().canonicalize().unwrap();
        std::fs::write(path.join("p.json"), manifest.to_string()).unwrap();
        std::fs::set_permissions(path.join("p.json"), std::fs::Permissions::from_mode(0o644)).unwrap();
        Manifest::load(&path, "p")
    }
}

fn refused(changes: Value) -> String {
    match Dir::new().load(changes.clone()) {
        Ok(_) => panic!("accepted: {changes}"),
        Err(fault) => fault,
    }
}

#[test]
fn arguments_fill_the_template_one_for_one() {
    let dir = Dir::new();
    let manifest = dir.load(json!({})).unwrap();
    let argv = |given: Value| manifest.argv(&manifest.arguments(&given)?, Some("n1"));
    assert_eq!(argv(json!({"port": 5})).unwrap(), ["prog", "-H", "n1", "--port=5", "a"]);
    assert_eq!(
        argv(json!({"port": 5, "mode": "b", "word": "yy", "loud": true})).unwrap(),
        ["prog", "-H", "n1", "--port=5", "b", "-w", "yy", "-v"]
    );
    assert_eq!(argv(json!({"port": 5, "loud": false})).unwrap().len(), 5);
    for bad in [
        json!({}),
        json!({"port": "5"}),
        json!({"port": 0}),
        json!({"port": 5, "mode": "c"}),
        json!({"port": 5, "word": "xz"}),
        json!({"port": 5, "word": "x\n"}),
        json!({"port": 5, "other": 1}),
        json!({"port": 5, "node": "n2"}),
        json!([]),
    ] {
        assert!(argv(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn a_value_that_could_be_an_option_is_refused_when_the_check_is_registered() {
    let dir = Dir::new();
    let manifest =
        dir.load(json!({"parameters": {"v": {"type": "string", "required": true}}, "argv": ["{v}"]})).unwrap();
    assert!(manifest.arguments(&json!({"v": "-x"})).unwrap_err().contains("must not begin"));
    assert!(manifest.arguments(&json!({"v": "x -y"})).is_ok());
}

#[test]
fn exit_codes_cannot_turn_trouble_into_a_pass() {
    let manifest = Dir::new().load(json!({})).unwrap();
    let meaning: Vec<Status> = [0, 1, 2, 3, 4, 126, 127, 255].into_iter().map(|c| manifest.outcome(c)).collect();
    assert_eq!(meaning[..4], [Status::Pass, Status::Fail, Status::Fail, Status::Error]);
    assert!(meaning[4..].iter().all(|s| *s == Status::Error));
    assert!(refused(json!({"exit_codes": {}})).contains("what 1"));
    for bad in [
        json!({"1": "fail", "3": "pass"}),
        json!({"1": "fail", "2": "pass"}),
        json!({"1": "fail", "256": "fail"}),
        json!({"1": "fail", "-1": "fail"}),
    ] {
        refused(json!({"exit_codes": bad}));
    }
}

#[test]
fn unsound_manifests_are_refused_with_a_reason() {
    assert!(refused(json!({"surprise": 1})).contains("surprise"));
    assert!(refused(json!({"name": "q"})).contains("name"));
    assert!(refused(json!({"sha256": "AB"})).contains("sha256"));
    assert!(refused(json!({"program": "../prog"})).contains("program"));
    assert!(refused(json!({"program": "none"})).contains("cannot be found"));
    assert!(refused(json!({"argv": ["{nobody}"]})).contains("not declared"));
    assert!(refused(json!({"argv": ["{word}"]})).contains("may be missing"));
    assert!(refused(json!({"timeout_s": 0})).contains("timeout_s"));
    assert!(refused(json!({"environment": {"LD_PRELOAD": "/x"}})).contains("LD_PRELOAD"));
    assert!(refused(json!({"environment": {"PATH": "/tmp"}})).contains("PATH"));
    assert!(
        refused(json!({"parameters": {"n": {"type": "string", "pattern": "("}}, "argv": []})).contains("parameters")
    );
    assert!(
        refused(json!({"parameters": {"n": {"type": "integer", "min": 1, "max": 2, "default": 3}}, "argv": []}))
            .contains("default")
    );
    assert!(refused(json!({"style": "jsonl", "exit_codes": {}})).contains("{node}"));
}

#[test]
fn a_shell_is_only_allowed_with_a_fixed_command() {
    let shell = json!({"program": "/bin/sh", "argv": ["-c", "exit {port}"]});
    assert!(refused(shell).contains("runs other programs"));
    let negate = json!({"program": "/bin/sh", "argv": ["-c", "true", {"when": "loud", "argv": ["x"]}]});
    assert!(refused(negate).contains("runs other programs"));
    Dir::new().load(json!({"program": "/bin/sh", "argv": ["-c", "exit 0"]})).unwrap();
}

#[test]
fn a_plugin_name_cannot_lead_out_of_the_directory() {
    let dir = Dir::new();
    dir.load(json!({})).unwrap();
    for name in ["", "../p", "/etc/passwd", "p.json", ".p", "P", "p/../p", "-p", "p\0"] {
        let fault = Manifest::load(&dir.0.path().canonicalize().unwrap(), name).err().unwrap();
        assert!(fault.contains("no plugin name"), "{fault}");
    }
}
