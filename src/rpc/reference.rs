//! The RPC reference, written from the table of methods, so that it cannot say anything else.

use std::fmt::Write;

use crate::rpc::error::Kind;
use crate::rpc::table::{Class, METHODS, Topic, VERSION};
use crate::rpc::{EXCHANGE, WORK_EXCHANGE};

const TOPICS: [Topic; 6] = [Topic::Checks, Topic::Nodes, Topic::Pool, Topic::Adapter, Topic::Results, Topic::Events];

/// The whole reference, as Markdown.
#[must_use]
pub fn reference() -> String {
    let mut text = format!(
        "# RPC reference\n\n\
         Written from the table of methods (`src/rpc/table.rs`); a test holds the two together. Every endpoint has version {VERSION} \
         and no namespace. Requests are signed (plugins/client/README.md); a key calls what its roles in the server's trust \
         store allow. Arguments with a question mark may be left out; unknown ones are refused.\n\n\
         Errors reach an oslo.messaging caller as `RemoteError` with one of these `exc_type`: "
    );
    let kinds = [
        (Kind::BadRequest, "the request is wrong"),
        (Kind::NotFound, "what it names does not exist"),
        (Kind::Conflict, "it contradicts what exists, or lacks a confirmation"),
        (Kind::Unauthorized, "not signed, or not by a key that is known"),
        (Kind::Forbidden, "signed by a key that may not do this"),
        (Kind::Unavailable, "not now; again later"),
        (Kind::Internal, "the service's own fault; its log says why"),
    ];
    let kinds: Vec<String> = kinds.iter().map(|(kind, what)| format!("`{}` ({what})", kind.class())).collect();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}.", kinds.join(", "));
    for topic in TOPICS {
        let exchange = match topic {
            Topic::Adapter | Topic::Results | Topic::Events => WORK_EXCHANGE,
            _ => EXCHANGE,
        };
        let name = if topic == Topic::Adapter { "spice-adapter-<name>" } else { topic.as_str() };
        let _ = writeln!(text, "\n## `{name}` (exchange `{exchange}`)\n");
        let _ = writeln!(text, "| method | arguments | role | delivery | what it does |\n|---|---|---|---|---|");
        for method in METHODS.iter().filter(|method| method.topic == topic) {
            let delivery = match method.class {
                Class::Call => "call",
                Class::Cast => "cast",
                Class::Publication => "fanout",
                Class::Work => "work",
            };
            let args = if method.args.is_empty() { "-" } else { method.args };
            let role = method.allowed.describe();
            let _ = writeln!(text, "| `{}` | {args} | {role} | {delivery} | {} |", method.name, method.summary);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    #[test]
    fn the_committed_reference_is_what_the_table_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/rpc/REFERENCE.md");
        let now = super::reference();
        if std::env::var_os("SPICE_WRITE_SAMPLE").is_some() {
            std::fs::write(path, &now).unwrap();
        }
        assert!(
            std::fs::read_to_string(path).is_ok_and(|committed| committed == now),
            "run: SPICE_WRITE_SAMPLE=1 cargo test --lib reference"
        );
    }
}
