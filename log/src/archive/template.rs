//! Keys hold random ids as text, which costs twice their bytes at best. Here a key is a template and the ids in it.

use uuid::Uuid;

/// The length of a UUID as text.
const UUID_TEXT_BYTES: usize = 36;
/// What stands in a template for an id. No key has it: control characters are not allowed there; a text that has one is
/// its own template.
const PLACE: char = '\u{0}';
/// So many ids of one text are taken out; further ones stay where they are.
const IDS_MAX: usize = 4;

/// A text without the UUIDs in it, and these.
pub(super) struct Parts {
    /// With [`PLACE`] where an id was.
    pub(super) template: String,
    /// In order.
    pub(super) ids: Vec<Uuid>,
}

/// Takes the UUIDs out of a text: those written in lower case with hyphens, as they are written back.
pub(super) fn split(text: &str) -> Parts {
    let mut parts = Parts { template: String::new(), ids: Vec::new() };
    if text.contains(PLACE) {
        parts.template.push_str(text);
        return parts;
    }
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let id = (parts.ids.len() < IDS_MAX).then(|| rest.get(..UUID_TEXT_BYTES).and_then(canonical)).flatten();
        let taken = match id {
            Some(id) => {
                parts.ids.push(id);
                parts.template.push(PLACE);
                UUID_TEXT_BYTES
            }
            None => {
                parts.template.push(first);
                first.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    parts
}

fn canonical(text: &str) -> Option<Uuid> {
    let id = Uuid::try_parse(text).ok()?;
    let mut buffer = Uuid::encode_buffer();
    (*id.hyphenated().encode_lower(&mut buffer) == *text).then_some(id)
}

/// How many ids a template has.
pub(super) fn places(template: &str) -> usize {
    template.matches(PLACE).count()
}

/// The text again.
pub(super) fn join(template: &str, ids: &[Uuid]) -> String {
    let mut text = String::with_capacity(template.len() + ids.len() * UUID_TEXT_BYTES);
    let mut ids = ids.iter();
    for part in template.split_inclusive(PLACE) {
        match part.strip_suffix(PLACE) {
            Some(before) => {
                text.push_str(before);
                match ids.next() {
                    Some(id) => text.push_str(id.hyphenated().encode_lower(&mut Uuid::encode_buffer())),
                    None => text.push(PLACE),
                }
            }
            None => text.push_str(part),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back() {
        let id = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";
        let texts = [
            String::new(),
            "plain".into(),
            id.into(),
            format!("mtask-{id}"),
            format!("{id}/{id}{id}é"),
            format!("{}{id}", "é".repeat(20)),
            id.to_uppercase(),
            id.replace('-', ""),
            format!("{{{id}}}"),
            format!("{id}\u{0}{id}"),
            format!("{id}{id}{id}{id}{id}{id}"),
        ];
        for text in texts {
            let parts = split(&text);
            // A template without ids stands for itself.
            let joined = if parts.ids.is_empty() { parts.template.clone() } else { join(&parts.template, &parts.ids) };
            assert_eq!(joined, text);
            assert!(parts.ids.is_empty() || places(&parts.template) == parts.ids.len());
        }
        assert_eq!(split(&format!("mtask-{id}")).template, "mtask-\u{0}");
    }
}
