//! How files are read: the format, several of them, folders.

use super::*;

fn entries(text: &str) -> Vec<(String, String, String)> {
    let mut written = Written::default();
    written.parse(text, Path::new("x.conf"));
    assert_eq!(written.faults, []);
    written.entries.into_iter().map(|entry| (entry.section, entry.key, entry.value)).collect()
}

#[test]
fn the_format_is_oslo_configs() {
    // Each row was put through oslo.config 10 as well.
    for (line, key, value) in [
        ("a = b", "a", "b"),
        ("a=b", "a", "b"),
        ("a: b", "a", "b"),
        ("a = b = c", "a", "b = c"),
        ("a = http://x", "a", "http://x"),
        ("a : b = c", "a", "b = c"),
        ("a =", "a", ""),
        ("a = \"b c\"", "a", "b c"),
        ("a = 'b'", "a", "b"),
        ("a = \"b'", "a", "\"b'"),
        ("a = b # c", "a", "b # c"),
        ("a = b\\n", "a", "b\\n"),
        ("a = b\n  c\n\td", "a", "b\nc\nd"),
        ("a = b\r", "a", "b"),
    ] {
        let found = entries(&format!("[s]\n{line}\n"));
        assert_eq!(found, [("s".to_owned(), key.to_owned(), value.to_owned())], "{line}");
    }
    assert_eq!(entries("; c\n# c = d\n\n[s]\n\n"), []);
    assert_eq!(entries("[s]\na = 1\n[t]\na = 2\n[s]\na = 3\n").len(), 3);
}

#[test]
fn what_is_no_assignment_is_a_fault_with_its_line_and_the_rest_is_still_read() {
    let mut written = Written::default();
    written.parse("a = 1\n[s]\n  lost\nplain\n= x\n[t\nb = 2\n[]\n[u]\nc = 3\n", Path::new("x.conf"));
    let text = shown(&written.faults);
    for expected in [
        "x.conf:1: option \"a\" stands before",
        "x.conf:3: an indented",
        "x.conf:4: no =",
        "x.conf:5: there is no option name",
        "x.conf:6: a section is written",
        "x.conf:8: a section is written",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    assert_eq!(written.entries.len(), 1);
}

#[test]
fn what_the_reading_package_would_take_for_something_else_is_a_fault() {
    for (text, line, part) in [
        ("[s]\nlost\na = 1\n", 2, "no ="),
        ("[s]\nlost\n= 1\n", 2, "no ="),
        ("[s]\na = 1\nlost", 3, "no ="),
        ("[s]\na = 1\\\nb = 2\n", 2, "backslash"),
        ("[s]\na\\= 1\nb = 2\n", 2, "backslash"),
        ("[s\\]\na = 1\n", 1, "[name]"),
        ("[s] a = 1\n", 1, "[name]"),
        ("[s]]\na = 1\n", 1, "[name]"),
        ("[s]\n  b = 1\n", 2, "indented"),
        ("[s]\n  lost\n", 2, "indented"),
        ("[s]\n  # lost\n", 2, "indented"),
        ("[s]\na = 1\n# c\n  b = 1\n", 4, "indented"),
        ("[s]\na = 1\n\n  b\n", 4, "indented"),
        ("[s]\na = 1\rb = 2\n", 2, "carriage return"),
    ] {
        let mut written = Written::default();
        written.parse(text, Path::new("x.conf"));
        let faults = shown(&written.faults);
        assert!(faults.contains(&format!("x.conf:{line}: ")) && faults.contains(part), "{text:?}: {faults}");
        assert!(written.entries.iter().all(|entry| entry.value == "1" || entry.value == "2"), "{text:?}: {written:?}");
    }
}

#[test]
fn every_value_keeps_its_line_in_the_order_written() {
    let mut written = Written::default();
    written.parse("[s]\na = 1\n[t]\na = 2\n\n[s]\n# c\nb = 3\na =\n  4\n  5\na: 6\n", Path::new("x.conf"));
    assert_eq!(written.faults, []);
    let found: Vec<_> =
        written.entries.iter().map(|e| format!("{} {}.{}={}", e.origin, e.section, e.key, e.value)).collect();
    assert_eq!(found, ["x.conf:2 s.a=1", "x.conf:4 t.a=2", "x.conf:8 s.b=3", "x.conf:9 s.a=4\n5", "x.conf:12 s.a=6"]);
}

#[test]
fn later_files_win_and_folders_are_read_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(
        path("main"),
        format!("{MINIMAL}[openattestation]\nbatch_size = 1\nconcurrency = 1\ntimeout_s = 1\n"),
    )
    .unwrap();
    std::fs::write(path("20.conf"), "[openattestation]\nbatch_size = 20\n").unwrap();
    std::fs::write(path("10.conf"), "[openattestation]\nbatch_size = 10\nconcurrency = 10\n").unwrap();
    std::fs::write(path("30.conf.bak"), "[openattestation]\nbatch_size = 30\n").unwrap();
    std::fs::write(path(".40.conf"), "[openattestation]\nbatch_size = 40\n").unwrap();
    let sources = Sources { files: vec![path("main")], dirs: vec![dir.path().to_owned()], env: vec![] };
    let (settings, warnings) = Settings::load(&sources).unwrap();
    let oat = settings.openattestation;
    assert_eq!((oat.batch_size, oat.concurrency, oat.timeout.as_secs()), (20, 10, 1));
    assert!(warnings.iter().all(|warning| warning.message.contains("chmod 640")), "{warnings:?}");
}

#[test]
fn missing_files_folders_and_pipes_are_faults() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe.conf");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let absent = dir.path().join("absent");
    let sources = Sources {
        files: vec![absent.clone(), dir.path().to_owned()],
        dirs: vec![dir.path().to_owned(), absent],
        env: vec![],
    };
    let text = shown(&Settings::load(&sources).unwrap_err());
    assert!(text.contains("cannot read this file") && text.contains("cannot list this folder"), "{text}");
    assert_eq!(text.matches("not a regular file").count(), 2, "{text}");
}

#[test]
fn a_password_that_everybody_may_read_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("spice.conf");
    std::fs::write(&file, MINIMAL).unwrap();
    for (mode, warned) in [(0o644, 1), (0o640, 0)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let (_, warnings) = Settings::load(&Sources { files: vec![file.clone()], ..Sources::default() }).unwrap();
        assert_eq!(warnings.len(), warned, "{warnings:?}");
    }
}
