//! How much memory the values of a JSON text will take, counted before they are made.
//!
//! `serde_json` has no limit of its own, and a text of small values takes up to a hundred times its size, which a limit on the text says nothing about.

/// What one value in a list or object takes at most, in bytes: its place in a list that has just grown.
const VALUE_BYTES: usize = 96;
/// What an object takes beside its members: a leaf of the tree that `serde_json` keeps them in.
const OBJECT_BYTES: usize = 640;

/// The memory that the values of `text` take at most, in bytes, their texts not counted. Does not otherwise judge the text.
pub(crate) fn room_for(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut room: usize = 0;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at = match byte {
            b'"' => end_of_string(bytes, at),
            _ => at + 1,
        };
        room += match byte {
            b'{' => OBJECT_BYTES,
            b'[' | b',' => VALUE_BYTES,
            _ => 0,
        };
    }
    room
}

/// The position after the string that starts at `start`.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_objects_and_members_count_and_texts_do_not() {
        let text = format!("[{}0]", "{\"a,[{\":0},".repeat(10));
        assert_eq!(room_for(&text), 10 * (OBJECT_BYTES + VALUE_BYTES) + VALUE_BYTES);
        assert_eq!(room_for("\"[[[\\\"{{{"), 0);
    }
}
