//! References in values: `$name` and its relatives, as oslo.config has them.

/// Longest value after references were replaced: eight references in eight levels could fill the memory.
const MAX_VALUE: usize = 64 * 1024;

/// `text` with `$name`, `${name}` and `$section.name` replaced, `$$` and `\$` as a plain dollar. A dollar before anything else
/// stays, as in oslo.config. The error is the reference that has no value, or `None` for a result too long.
pub(super) fn substitute(text: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, Option<String>> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, after) = (rest.get(..at).unwrap_or_default(), rest.get(at + 1..).unwrap_or_default());
        if let Some(before) = before.strip_suffix('\\') {
            out.push_str(before);
            out.push('$');
            rest = after;
            continue;
        }
        out.push_str(before);
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
            continue;
        }
        let braced = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let (name, tail) = match braced {
            Some((name, tail)) if reference_length(name) == name.len() => (name, tail),
            Some(_) => ("", after),
            None => after.split_at(reference_length(after)),
        };
        if name.is_empty() {
            out.push('$');
        } else {
            out.push_str(&value(name).ok_or_else(|| Some(name.to_owned()))?);
        }
        rest = tail;
        if out.len() > MAX_VALUE {
            return Err(None);
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// How much of the beginning of `text` is an option's name, with at most one dot in it.
fn reference_length(text: &str) -> usize {
    let word = |text: &str| {
        let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if starts { text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len()) } else { 0 }
    };
    let first = word(text);
    match text.get(first..).and_then(|rest| rest.strip_prefix('.')) {
        Some(second) if first > 0 && word(second) > 0 => first + 1 + word(second),
        _ => first,
    }
}
