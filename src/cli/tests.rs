#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use clap::CommandFactory;

use super::*;

fn parse(line: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("spicectl").chain(line.iter().copied()))
}

#[test]
fn the_definition_of_the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_shows_an_example() {
    fn visit(command: &clap::Command, path: &str, without: &mut Vec<String>) {
        let path = format!("{path} {}", command.get_name());
        let mut verbs = command.get_subcommands().filter(|verb| verb.get_name() != "help").peekable();
        if verbs.peek().is_none() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            if !help.contains("Example") || !help.contains("spicectl") {
                without.push(path);
            }
            return;
        }
        verbs.for_each(|verb| visit(verb, &path, without));
    }
    let mut without = Vec::new();
    visit(&Cli::command(), "", &mut without);
    assert!(without.is_empty(), "{without:?}");
}

#[test]
fn lines_people_type_are_understood() {
    for line in [
        "check create boot --adapter openattestation --every 5m --target label:rack=r1 --target node:n1",
        "check create b --adapter command --param warn=-5 --param -x=1 --profile nightly --pool default=advisory",
        "check set boot --fail-after 2 --ttl auto --confirm 3f0c7a9d21be",
        "check run boot --node n1 --node n2 --wait --timeout 2m",
        "check set boot --retries 0 --timeout 90s",
        "window create w --target all --check boot --check b --for 2h --reason -x",
        "window create w --target zone:eu-* --from 2026-11-22 --until 2026-11-23 --reason r",
        "window list -f json",
        "check list -f value -c name -c adapter",
        "node -f json list --pool default --level untrusted",
        "node quarantine n1 --reason --looks-odd",
        "node maintenance n1 --hours 0",
        "node why n1 --at 2026-11-22T02:30:00+01:00",
        "pool set default --mode observe --max-silence 10m --accept-self-report false --dry-run",
        "pool create gold --mode soft",
        "pool delete gold",
        "audit verify --expect 12:abcdef",
        "audit export --node n1 --since 2026-11-22 --output x.jsonl",
        "audit list -f json",
        "adapter list -f json",
        "adapter show command -c schema",
        "run show 1795320000000-17 --wait",
        "key create alice --role operator --role adapter:command --dir /tmp/x",
        "status -f yaml",
        "apply -f - --dry-run --transport-url rabbit://localhost/",
        "export -f cloud.yaml",
        "--deployment cloud-1 config check --config-file a --config-file b",
        "node delete -- n1",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        assert!(parse(&words).is_ok(), "{line}: {}", parse(&words).unwrap_err());
    }
    assert!(parse(&["check", "create", "b", "--adapter", "command", "--cron", "15 2 * * *", "--zone", "UTC"]).is_ok());
}

#[test]
fn names_and_contradictions_are_refused_before_anything_is_asked() {
    for line in [
        "check create -- -rf",
        "check create ../x --adapter command --every 5m",
        "check create b --adapter Open-Attestation --every 5m",
        "check create b --adapter command --every 5m --profile nightly",
        "check create b --adapter command --zone UTC --every 5m",
        "check create b --adapter command --param x=1 --parameters {}",
        "window create w --target all --reason r --cron @daily",
        "window create w --reason r --for 2h",
        "window create w --target all --for 2h",
        "window create w --target all --reason r --for 2h --until 2026-11-22",
        "node override n1 --hours 73 --reason x",
        "node quarantine n1",
        "run show 17",
        "check run b --timeout 5",
        "key create x",
        "node list --level good",
        "result list --limit 0",
        "check set boot --fail-after 2 --confirm",
        "check delete boot --confirm x --dry-run",
        "audit verify --expect 12",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        assert!(parse(&words).is_err(), "{line}");
    }
}
