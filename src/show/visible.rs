//! Text that others have stored, made safe to look at: whoever may write a command chooses names and reasons, and must not
//! be able to begin a line of somebody's audit trail or talk to their terminal.

use std::borrow::Cow;

/// A text with everything that a terminal obeys instead of showing written out: control characters (line ends and escape
/// among them), separators of lines and paragraphs, and what turns the direction of writing around.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    replaced(text, obeyed, |c, shown| match c {
        '\n' => shown.push_str("\\n"),
        '\r' => shown.push_str("\\r"),
        '\t' => shown.push_str("\\t"),
        c => shown.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
    })
}

/// A JSON text that says the same with escapes, where a terminal would obey a character: below U+0020 JSON itself sees to
/// that. What stands outside of its strings is left alone.
pub(crate) fn visible_json(text: &str) -> Cow<'_, str> {
    replaced(text, |c| c >= '\u{7f}' && obeyed(c), |c, shown| shown.push_str(&format!("\\u{:04x}", u32::from(c))))
}

fn replaced(text: &str, wanted: impl Fn(char) -> bool, write: impl Fn(char, &mut String)) -> Cow<'_, str> {
    // Nearly every text, and quicker to see than its characters.
    if text.bytes().all(|byte| (b' '..0x7f).contains(&byte)) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if wanted(c) { write(c, &mut shown) } else { shown.push(c) }
    }
    shown.into()
}

fn obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_written_out_and_everything_else_stays() {
        assert_eq!(visible("a\nb\r\tc\u{1b}[2J\u{7}\u{7f}\u{9b}"), "a\\nb\\r\\tc\\u{1b}[2J\\u{7}\\u{7f}\\u{9b}");
        assert_eq!(
            visible("\u{202e}x\u{2066}\u{2028}\u{200f}\u{61c}"),
            "\\u{202e}x\\u{2066}\\u{2028}\\u{200f}\\u{61c}"
        );
        for plain in ["", "plain", r"C:\new", "Grüße, 東京 👩‍🚀 → ✓ …"] {
            assert_eq!(visible(plain), plain);
        }
    }

    #[test]
    fn json_with_escapes_says_the_same() {
        let value = serde_json::json!({ "a\u{9b}": "x\u{7f}\u{202e}\u{2028}\n\u{1b}[2J ü" });
        let text = value.to_string();
        let shown = visible_json(&text);
        assert!(!shown.chars().any(obeyed), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).ok(), Some(value));
    }
}
