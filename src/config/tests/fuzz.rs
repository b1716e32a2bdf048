//! Configuration files that somebody, or something, damaged.

use super::super::file::decode;
use super::*;
use crate::fuzz::bounds::grows_with_its_input;
use crate::fuzz::{Memory, Target, fuzz};

/// Every option as the sample shows it, none of them a comment.
fn everything_written_out() -> String {
    let option = |line: &str| OPTIONS.iter().any(|spec| line.starts_with(&format!("#{} =", spec.name)));
    let lines: Vec<String> =
        sample().lines().map(|line| if option(line) { line[1..].to_owned() } else { line.to_owned() }).collect();
    lines.join("\n")
}

fn read(bytes: &[u8]) -> Option<Loaded> {
    decode(bytes.to_vec()).ok().map(|text| load(&text))
}

#[test]
fn a_damaged_file_gives_settings_or_faults() {
    let few = "[DEFAULT]\ntransport_url = rabbit://spice:geheim@h:5672/\n# c\n[spice]\ndeployment = cloud-1\n\
               [command]\nuser = $sender\nconcurrency : 4\n[pool]\nrun_dir = /a/${user}\n  b\n";
    let seeds = vec![MINIMAL.as_bytes().to_vec(), few.as_bytes().to_vec()];
    let mut words: Vec<&str> = OPTIONS.iter().map(|spec| spec.name).collect();
    words.extend(OPTIONS.iter().map(|spec| spec.section));
    words.extend([
        "\n[",
        "]\n",
        " = ",
        "\n  ",
        "$",
        "${",
        "}",
        "$$",
        "\\",
        "\r\n",
        "\"",
        "%",
        "-1",
        "99999999999999999999",
        "..",
    ]);
    let judge = |bytes: &[u8]| match read(bytes) {
        Some(Err(faults)) => {
            assert!(!faults.is_empty() && faults.len() <= 2 * super::super::file::MAX_FAULTS, "{}", faults.len());
            let text = shown(&faults);
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
            assert!(!faults.iter().any(|fault| fault.message.contains("missing in the table")), "{text}");
        }
        Some(Ok((settings, _))) => assert!(!format!("{settings:?}").contains("geheim"), "a secret is shown"),
        None => {}
    };
    let memory = Memory { per_byte: 600, fixed: 512 * 1024 };
    fuzz(&Target { name: "configuration", seeds, words: &words, memory, judge: &judge });
    judge(everything_written_out().as_bytes());
}

#[test]
fn a_large_file_takes_time_in_proportion() {
    let shapes: &[(&str, &str)] = &[
        ("comments", "# c\n"),
        ("one option again and again", "user = a\n"),
        ("sections", "[a]\n"),
        ("continued lines", "  x\n"),
        ("rubbish", "x\n"),
        ("references", "user = $user\n"),
        ("one line", "x"),
        ("quotes", "user = \"'\n"),
    ];
    for (shape, line) in shapes {
        let made =
            |size: usize| format!("{MINIMAL}[command]\nuser = y\n{}", line.repeat(size / line.len())).into_bytes();
        grows_with_its_input(shape, 8_000, 300, made, |bytes| drop(read(bytes)));
    }
}
