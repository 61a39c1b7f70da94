//! Texts that quote positions which are not known yet: in a batch of a shared store, rows hold places until they are written.

use std::ops::Range;

use tasklog_log::Position;

/// Whether a text quotes a place. One that does so by chance makes its command wait for the next batch, and nothing else.
pub(crate) fn is_quoted(text: &str) -> bool {
    places(text).next().is_some()
}

/// The text with the positions that its places would have had.
pub(crate) fn placed(text: &str, position: impl Fn(u64) -> Position) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut at = 0;
    for place in places(text) {
        shown.push_str(&text[at..place.start]);
        if let Some(place) = text[place.clone()].parse().ok().and_then(|number| Position(number).as_provisional()) {
            shown.push_str(&position(place).to_string());
        }
        at = place.end;
    }
    shown.push_str(&text[at..]);
    shown
}

/// Where whole numbers stand that are places.
fn places(text: &str) -> impl Iterator<Item = Range<usize>> {
    let is_place = |number: &str| number.parse().is_ok_and(|number| Position(number).as_provisional().is_some());
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + text[at..].find(|c: char| c.is_ascii_digit())?;
        let length = text[start..].find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len() - start);
        at = start + length;
        Some(start..at)
    })
    .filter(move |range| is_place(&text[range.clone()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_numbers_that_are_places_are_replaced() {
        let position = |place| Position(10 + place);
        let place = Position::provisional(3).0;
        let text = format!("claim {place} until 5, found {place}0, at {place}");
        assert!(is_quoted(&text) && !is_quoted("claim 7 until 1700000000000, 99999999999999999999999"));
        assert_eq!(placed(&text, position), format!("claim 13 until 5, found {place}0, at 13"));
        assert_eq!(placed("é 5", position), "é 5");
    }
}
