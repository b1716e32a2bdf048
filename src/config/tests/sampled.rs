//! The table of options, and the sample that is written from it.

use super::*;

const COMMITTED: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/etc/spice/spice.conf.sample"));

#[test]
fn the_committed_sample_is_what_the_table_says() {
    if std::env::var_os("SPICE_WRITE_SAMPLE").is_some() {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("etc/spice/spice.conf.sample");
        std::fs::write(path, sample()).unwrap();
        return;
    }
    assert!(
        COMMITTED == sample(),
        "etc/spice/spice.conf.sample is out of date: SPICE_WRITE_SAMPLE=1 cargo test --lib sampled"
    );
}

#[test]
fn the_sample_loads_and_so_does_it_with_every_default_written_out() {
    load(&sample()).unwrap();
    let is_option = |line: &str| {
        line.starts_with('#') && OPTIONS.iter().any(|spec| line[1..].starts_with(&format!("{} =", spec.name)))
    };
    let written_out: Vec<_> = sample()
        .lines()
        .map(|line| line.strip_prefix('#').filter(|_| is_option(line)).unwrap_or(line).to_owned())
        .collect();
    let (settings, warnings) = load(&written_out.join("\n")).unwrap_or_else(|faults| panic!("{}", shown(&faults)));
    assert_eq!(warnings, []);
    assert_eq!(settings, load(&sample()).unwrap().0);
}

#[test]
fn every_example_is_a_value_the_option_takes() {
    for spec in OPTIONS {
        if let Some(example) = spec.example {
            let outcome = with(&format!("[{}]\n{} = {example}\n", spec.section, spec.name));
            let pairs = spec.name.contains("_cert_file") || spec.name.contains("_key_file") || spec.name == "auth_url";
            assert!(outcome.is_ok() || pairs, "[{}] {}", spec.section, spec.name);
        }
    }
}

#[test]
fn every_option_is_read_by_some_setting() {
    for spec in OPTIONS {
        // No kind but a list takes a reference to nothing.
        let text = shown(&with(&format!("[{}]\n{} = $nothing\n", spec.section, spec.name)).expect_err(spec.name));
        assert!(text.contains(&format!("[{}] {}", spec.section, spec.name)), "{text}");
    }
}

#[test]
fn names_are_unique_and_helped() {
    for (index, spec) in OPTIONS.iter().enumerate() {
        assert!(spec.help.ends_with('.') && spec.help.len() > 10, "{}", spec.name);
        let same = |other: &&OptionSpec| other.section == spec.section && other.name == spec.name;
        assert_eq!(OPTIONS.iter().position(|other| same(&other)), Some(index));
        let first = OPTIONS.iter().position(|other| other.section == spec.section).unwrap();
        assert!(
            OPTIONS[first..=index].iter().all(|other| other.section == spec.section),
            "[{}] is in two places",
            spec.section
        );
        assert!(!spec.secret || spec.example.is_none_or(|example| example.contains("PASSWORD") || example == "SECRET"));
    }
}
