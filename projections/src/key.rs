/// The longest row key, or part of one, in bytes.
pub const KEY_BYTES_MAX: usize = 512;

/// Checks one part of a row key as a caller gave it: 1 to 512 bytes, no NUL or control characters.
///
/// # Errors
/// A sentence naming `what` and what was wrong with it.
pub fn check_key(what: &str, text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > KEY_BYTES_MAX {
        return Err(format!("{what}: a key has 1 to {KEY_BYTES_MAX} bytes, this one has {}", text.len()));
    }
    if let Some(control) = text.chars().find(|c| c.is_control()) {
        return Err(format!("{what}: a key has no control characters, this one has U+{:04X}", control as u32));
    }
    Ok(())
}

/// The row key of a two-part key: `a/b`, with `/` as `%2F` and `%` as `%25` inside a part.
#[must_use]
pub fn pair(a: &str, b: &str) -> String {
    let mut key = String::with_capacity(a.len() + b.len() + 1);
    escape(a, &mut key);
    key.push('/');
    escape(b, &mut key);
    key
}

/// The parts of a two-part row key.
///
/// # Errors
/// A sentence, if it is none.
pub fn split_pair(key: &str) -> Result<(String, String), String> {
    let refused = || format!("{key:?} is no two-part key: expected a/b, with %2F for / and %25 for % inside a part");
    let (a, b) = key.split_once('/').ok_or_else(refused)?;
    Ok((unescape(a).ok_or_else(refused)?, unescape(b).ok_or_else(refused)?))
}

fn escape(part: &str, key: &mut String) {
    for c in part.chars() {
        match c {
            '%' => key.push_str("%25"),
            '/' => key.push_str("%2F"),
            c => key.push(c),
        }
    }
}

fn unescape(part: &str) -> Option<String> {
    let mut text = String::with_capacity(part.len());
    let mut rest = part;
    while let Some(at) = rest.find(['%', '/']) {
        text.push_str(&rest[..at]);
        match rest.get(at..at + 3)? {
            "%25" => text.push('%'),
            "%2F" => text.push('/'),
            _ => return None,
        }
        rest = &rest[at + 3..];
    }
    text.push_str(rest);
    Some(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_pair_splits_into_its_parts(a in ".{0,20}", b in ".{0,20}") {
            prop_assert_eq!(split_pair(&pair(&a, &b)).unwrap(), (a, b));
        }

        #[test]
        fn splitting_never_panics(text in ".{0,40}") {
            let _ = split_pair(&text);
        }
    }

    #[test]
    fn control_characters_and_lengths_are_refused() {
        assert!(check_key("k", "").is_err());
        assert!(check_key("k", &"x".repeat(513)).is_err());
        assert!(check_key("k", "a\u{0}b").is_err());
        assert!(check_key("k", "a\u{85}b").is_err());
        assert!(check_key("k", "/ %😀").is_ok());
    }
}
