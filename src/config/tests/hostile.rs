//! Files that are none: faults, never panics, never floods.

use proptest::prelude::*;

use super::super::file::{MAX_FAULTS, MAX_FILE_BYTES, decode};
use super::*;

fn load_bytes(bytes: &[u8]) -> Loaded {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("spice.conf");
    std::fs::write(&file, bytes).unwrap();
    Settings::load(&Sources { files: vec![file], ..Sources::default() })
}

#[test]
fn files_that_are_no_text_say_so() {
    let mut big = MINIMAL.as_bytes().to_vec();
    big.resize(10 * 1024 * 1024, b'#');
    for (bytes, part) in [
        (&b"\x7fELF\x02\x01\x01\0\0\0"[..], ":1: holds a control character"),
        (b"[spice]\ndeployment = a\0b\n", ":2: holds a control character"),
        (b"\xef\xbb\xbf[spice]\n", ":1: starts with a byte order mark"),
        (b"\xff\xfe[\0s\0", "control character"),
        (b"[spice]\n\n# gr\xfcn\n", ":3: is not UTF-8"),
        (&big, "larger than"),
        (b"", "transport_url must be set"),
    ] {
        let text = shown(&load_bytes(bytes).unwrap_err());
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn windows_line_ends_are_line_ends() {
    assert!(load_bytes(MINIMAL.replace('\n', "\r\n").as_bytes()).is_ok());
}

#[test]
fn a_file_of_faults_is_not_a_flood() {
    for line in ["x\n", "[\n", "a=b\n", "  y\n", "[q]\nz = 1\n"] {
        let text = line.repeat(usize::try_from(MAX_FILE_BYTES).unwrap() / line.len());
        let faults = load(&text).unwrap_err();
        assert!(faults.len() <= MAX_FAULTS, "{}", faults.len());
    }
}

#[test]
fn references_cannot_fill_the_memory() {
    let many = "$user".repeat(10_000);
    assert!(with(&format!("[command]\nuser = {many}\n")).is_err());
    let fan = "$run_dir$run_dir$run_dir$run_dir$run_dir$run_dir$run_dir$run_dir";
    assert!(with(&format!("[pool]\nrun_dir = /{fan}\n")).is_err());
    // Deep and wide, but every option is named by the next one only.
    let wide = "$exchange".repeat(2_000);
    assert!(with(&format!("[notifications]\nexchange = {}\nproject_id = {wide}\n", "x".repeat(1_000))).is_err());
}

#[test]
fn references_cannot_be_followed_for_ever() {
    let each = |name: &str| format!("${name}").repeat(3_000);
    let text = format!(
        "[spicectl]\nsender =\n[command]\nuser = x{}\n[notifications]\nexchange = x{}\nproject_id = {}\n",
        each("notifications.exchange"),
        each("project_id"),
        each("spicectl.sender"),
    );
    assert!(with(&text).is_err());
}

#[test]
fn hostile_names_are_shown_escaped_and_short() {
    let name = format!("\u{202e}evil\u{1b}{}", "y".repeat(5_000));
    let text = shown(&load(&format!("[{name}]\n{name} = 1\n[spice]\n{name} = 1\n")).unwrap_err());
    assert!(!text.contains(['\u{202e}', '\u{1b}']) && text.len() < 2_000, "{text}");
}

proptest! {
    #[test]
    fn any_bytes_give_settings_or_faults(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(text) = decode(bytes) {
            prop_assert!(load(&text).is_err());
        }
    }

    #[test]
    fn any_text_below_a_good_start_gives_settings_or_faults(text in "([\\[\\]=:;#$ \t\r\n{}\"'.,_a-z0-9\\PC]){0,200}") {
        let _ = with(&text);
    }

    #[test]
    fn no_line_is_lost_or_found_twice(text in "(\\[[a-c]\\]\n|[ab] ?[=:] ?[a-c \\\\\"'#;=\\[\\]]{0,6}\n|[ \t]{0,2}[a-c#;\\\\ ]{0,3}\r?\n){0,12}") {
        let mut written = Written::default();
        written.parse(&text, Path::new("x.conf"));
        let faults = shown(&written.faults);
        prop_assert!(!faults.contains("cannot be"), "{text:?}: {faults}");
    }

    #[test]
    fn any_value_of_any_option_gives_settings_or_faults(
        option in prop::sample::select(OPTIONS), value in "([$\\\\{}.a-z_0-9:/@,-]|\\PC){0,60}",
    ) {
        let outcome = with(&format!("[{}]\n{} = {value}\n", option.section, option.name));
        if let Err(faults) = outcome {
            prop_assert!(faults.iter().all(|fault| !fault.message.contains("missing in the table")), "{faults:?}");
        }
    }
}
