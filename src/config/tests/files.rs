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
fn later_files_win_and_folders_are_read_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("main"), format!("{MINIMAL}[checks]\nbatch_size = 1\nmax_recasts = 1\nmax_outstanding = 1\n"))
        .unwrap();
    std::fs::write(path("20.conf"), "[checks]\nbatch_size = 20\n").unwrap();
    std::fs::write(path("10.conf"), "[checks]\nbatch_size = 10\nmax_recasts = 10\n").unwrap();
    std::fs::write(path("30.conf.bak"), "[checks]\nbatch_size = 30\n").unwrap();
    std::fs::write(path(".40.conf"), "[checks]\nbatch_size = 40\n").unwrap();
    let sources = Sources { files: vec![path("main")], dirs: vec![dir.path().to_owned()], env: vec![] };
    let (settings, warnings) = Settings::load(&sources).unwrap();
    assert_eq!((settings.checks.batch_size, settings.checks.max_recasts, settings.checks.max_outstanding), (20, 10, 1));
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
