//! An answer that is kept for a repeat of its command, before its positions are known.

use tasklog_log::{Position, StoreError};

use crate::command::AnyAnswer;

/// A piece of a kept answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeptPart {
    /// As it stands.
    Text(Vec<u8>),
    /// The decimal number of a place of the batch.
    Place(u64),
}

/// Two sets of made-up positions of equal length: an answer is written with each, and differs exactly where a place stands.
const TRIALS: [u64; 2] = [1_000_000_000_000_000_000, 2_000_000_000_000_000_000];
/// Their length.
const DIGITS: usize = 19;

/// Writes an answer in pieces: `write` completes and writes it with the positions it is given.
pub(crate) fn with_places(
    answers: &mut [Box<dyn AnyAnswer>],
    write: impl Fn(&mut [Box<dyn AnyAnswer>], &dyn Fn(Position) -> Position) -> Result<Vec<u8>, StoreError>,
) -> Result<Vec<KeptPart>, StoreError> {
    let mut trial = |base: u64| {
        write(answers, &|position| match position.as_provisional() {
            Some(place) => Position(base + place),
            None => position,
        })
    };
    let (one, other) = (trial(TRIALS[0])?, trial(TRIALS[1])?);
    pieces(&one, &other).ok_or_else(|| StoreError::corrupt_store("an answer changes its length with its positions"))
}

fn pieces(one: &[u8], other: &[u8]) -> Option<Vec<KeptPart>> {
    if one.len() != other.len() {
        return None;
    }
    let mut parts = Vec::new();
    let (mut begun, mut at) = (0, 0);
    while at < one.len() {
        if one[at] == other[at] {
            at += 1;
            continue;
        }
        let number: u64 = std::str::from_utf8(one.get(at..at + DIGITS)?).ok()?.parse().ok()?;
        parts.push(KeptPart::Text(one[begun..at].to_vec()));
        parts.push(KeptPart::Place(number.checked_sub(TRIALS[0])?));
        at += DIGITS;
        begun = at;
    }
    parts.push(KeptPart::Text(one[begun..].to_vec()));
    Some(parts)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn places_are_found_and_nothing_else() {
        let text = |base: u64| format!(r#"{{"term":{},"user":"1000000000000000007","rev":{}}}"#, base + 3, base + 12);
        let parts = pieces(text(TRIALS[0]).as_bytes(), text(TRIALS[1]).as_bytes()).unwrap();
        let text = |text: &str| KeptPart::Text(text.into());
        assert_eq!(
            parts,
            [
                text(r#"{"term":"#),
                KeptPart::Place(3),
                text(r#","user":"1000000000000000007","rev":"#),
                KeptPart::Place(12),
                text("}"),
            ]
        );
    }
}
