//! The pool file as the Nova filter understands it (`plugins/nova/POOLFILE.md`).

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::clock::Timestamp;
use crate::security::keys::sha256;

/// What the filter takes a node for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    Trusted,
    Override,
    Untrusted,
    Unknown,
}

/// The pool `default` as the filter has it at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    pub epoch: i64,
    pub version: i64,
    pub levels: BTreeMap<String, Taken>,
    /// The file's own limits have been passed: nobody is trusted.
    pub silent: bool,
}

fn unsealed(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let (seal, rest) = text.split_once('\n')?;
    let seal: Value = serde_json::from_str(seal).ok()?;
    let good = seal["length"].as_u64() == u64::try_from(rest.len()).ok()
        && seal["sha256"].as_str() == Some(&hex::encode(sha256(rest.as_bytes())));
    good.then(|| rest.to_owned())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// What the filter makes of the folder now; `None` where there is no pool file.
pub(super) fn read(folder: &Path, utc: Timestamp, boottime: Duration) -> Option<View> {
    let pool = unsealed(&folder.join("pool"))?;
    let mut lines = pool.lines();
    let header: Value = serde_json::from_str(lines.next()?).ok()?;
    let nodes: Vec<&str> = lines.next()?.split(' ').filter(|name| !name.is_empty()).collect();
    let number = |of: &Value, name: &str| of[name].as_i64();
    let version = (number(&header, "epoch")?, number(&header, "version")?);
    let passed = millis(boottime) - number(&header, "boottime_ms")?;
    let now = utc.0.max(number(&header, "written_at_ms")? + passed);
    let alive = unsealed(&folder.join("pool.alive")).and_then(|text| serde_json::from_str::<Value>(&text).ok());
    let silence = alive.and_then(|alive| {
        let at = (number(&alive, "epoch")?, number(&alive, "version")?);
        let passed = millis(boottime) - number(&alive, "boottime_ms")?;
        (at <= version).then_some(passed.max(utc.0 - number(&alive, "heard_at_ms")?))
    });
    let mut view = View { epoch: version.0, version: version.1, levels: BTreeMap::new(), silent: false };
    for pool in header["pools"].as_array()? {
        let (levels, expiries) = (lines.next()?, lines.next()?);
        if pool["name"] != "default" {
            continue;
        }
        view.silent = passed < 0 || silence.is_none_or(|silence| silence > number(pool, "max_silence_ms").unwrap_or(0));
        for (at, node) in nodes.iter().enumerate() {
            let expiry = i64::from_str_radix(expiries.get(at * 16..at * 16 + 16)?, 16).ok()?;
            let taken = match levels.as_bytes().get(at)? {
                b't' if !view.silent && expiry > now => Taken::Trusted,
                b'o' if !view.silent && expiry > now => Taken::Override,
                b'u' => Taken::Untrusted,
                _ => Taken::Unknown,
            };
            view.levels.insert((*node).to_owned(), taken);
        }
    }
    Some(view)
}
