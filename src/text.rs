//! Text made by nodes, plugins and verifiers, made safe to show.

/// Longest text from outside that is stored or shown, in characters.
pub const MAX_FOREIGN_TEXT: usize = 255;

/// `text` with control, bidirectional and other invisible formatting characters escaped, cut to [`MAX_FOREIGN_TEXT`] characters.
#[must_use]
pub fn display_safe(text: &str) -> String {
    display_safe_to(text, MAX_FOREIGN_TEXT)
}

/// Like [`display_safe`], cut to `max` characters; a cut text ends in `…`.
#[must_use]
pub fn display_safe_to(text: &str, max: usize) -> String {
    // Nearly every text is safe and short: then it is only looked at and copied.
    if !text.chars().any(is_unsafe) && (text.len() <= max || text.chars().count() <= max) {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut length = 0;
    for c in text.chars() {
        let escaped = is_unsafe(c).then(|| c.escape_default());
        length += escaped.as_ref().map_or(1, ExactSizeIterator::len);
        if length > max {
            while out.chars().count() >= max {
                out.pop();
            }
            if max > 0 {
                out.push('…');
            }
            break;
        }
        match escaped {
            Some(escaped) => out.extend(escaped),
            None => out.push(c),
        }
    }
    out
}

/// Control characters, and the format characters that reorder or hide text (Unicode's bidi controls, zero-width and tags).
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(u32::from(c),
            0x00AD | 0x061C | 0x180E | 0x200B..=0x200F | 0x2028..=0x202E | 0x2060..=0x206F | 0xFEFF | 0xFFF9..=0xFFFB | 0xE0000..=0xE007F)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn control_and_bidi_characters_cannot_reach_a_terminal() {
        assert_eq!(display_safe("ok\u{1b}[31m\u{202e}"), "ok\\u{1b}[31m\\u{202e}");
        assert_eq!(display_safe("grün"), "grün");
    }

    #[test]
    fn long_text_is_cut_to_the_limit() {
        let shown = display_safe(&"\u{7}".repeat(1000));
        assert!(shown.chars().count() <= MAX_FOREIGN_TEXT, "{}", shown.chars().count());
        assert!(shown.ends_with('…'));
        assert_eq!(display_safe(&"x".repeat(255)).len(), 255);
    }
}
