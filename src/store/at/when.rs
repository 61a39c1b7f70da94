use std::{fmt, str::FromStr};

use tasklog_log::{Millis, Position};

/// A moment as people name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// After the event at this position; 0 is before everything.
    Position(Position),
    /// ms since 1970: after the last commit recorded at or before it.
    Time(Millis),
    /// So many ms before the log's clock.
    Ago(Millis),
}

/// A text that names no moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} names no moment: {why}; expected a position, an RFC 3339 time, or how long ago, such as -15m or -2h30m"
)]
pub struct ParseWhenError {
    text: String,
    why: String,
}

impl FromStr for When {
    type Err = ParseWhenError;
    fn from_str(text: &str) -> Result<Self, ParseWhenError> {
        let wrong = |why: String| ParseWhenError { text: text.into(), why };
        if let Some(ago) = text.strip_prefix('-') {
            return length_ms(ago).map(Self::Ago).map_err(wrong);
        }
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let position = text.parse::<i64>().map_err(|_| wrong("the number is too large for a position".into()))?;
            return Ok(Self::Position(Position(position.unsigned_abs())));
        }
        let time: jiff::Timestamp = text.parse().map_err(|error: jiff::Error| wrong(error.to_string()))?;
        Ok(Self::Time(time.as_millisecond()))
    }
}

/// Units of a length of time, longest first, in ms.
const UNITS: [(&str, Millis); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// `2h30m` as ms: numbers with units, each unit at most once, longest first.
fn length_ms(text: &str) -> Result<Millis, String> {
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut sum: Millis = 0;
    while !rest.is_empty() {
        let digits = rest.find(|char: char| !char.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|char: char| !char.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        if number.is_empty() || unit.is_empty() {
            return Err(format!("after the minus sign a number and a unit are expected, found {rest:?}"));
        }
        let length = units.find(|(name, _)| *name == unit).map(|(_, length)| length);
        let length =
            length.ok_or_else(|| format!("no unit {unit:?} is expected there (w, d, h, m, s, ms in this order)"))?;
        let part = number.parse::<Millis>().ok().and_then(|number| number.checked_mul(*length));
        sum = part.and_then(|part| sum.checked_add(part)).ok_or("that is too long ago for a clock")?;
        rest = after;
    }
    if text.is_empty() { Err("after the minus sign nothing follows".into()) } else { Ok(sum) }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Position(position) => write!(f, "event {position}"),
            Self::Time(ms) => match jiff::Timestamp::from_millisecond(*ms) {
                Ok(time) => write!(f, "{time:.3}"),
                Err(_) => write!(f, "{ms} ms"),
            },
            Self::Ago(0) => f.write_str("now"),
            Self::Ago(ms) => {
                let mut left = *ms;
                for (name, length) in UNITS {
                    if left >= length {
                        write!(f, "{}{name}", left / length)?;
                        left %= length;
                    }
                }
                f.write_str(" ago")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn positions_times_and_lengths_are_told_apart() {
        let parsed = |text: &str| text.parse::<When>().unwrap();
        assert_eq!(parsed("4711"), When::Position(Position(4711)));
        assert_eq!(parsed("0"), When::Position(Position::ZERO));
        assert_eq!(parsed("2026-01-01T00:00:01.5Z"), When::Time(1_767_225_601_500));
        assert_eq!(parsed("2026-01-01T01:00:00+01:00"), When::Time(1_767_225_600_000));
        assert_eq!(parsed("-15m"), When::Ago(900_000));
        assert_eq!(parsed("-2h30m"), When::Ago(9_000_000));
        assert_eq!(parsed("-1w1d1h1m1s1ms"), When::Ago(694_861_001));
        assert_eq!(parsed("-1w1d1h1m1s1ms").to_string(), "1w1d1h1m1s1ms ago");
        assert_eq!(parsed("2026-01-01T00:00:00Z").to_string(), "2026-01-01T00:00:00.000Z");
    }

    #[test]
    fn what_names_no_moment_says_why() {
        for (text, why) in [
            ("", "expected a position"),
            ("-", "nothing follows"),
            ("-15", "a number and a unit"),
            ("-m", "a number and a unit"),
            ("-15x", "no unit \"x\""),
            ("-1m1h", "no unit \"h\""),
            ("-9999999999999999999w", "too long ago"),
            ("-99999999999w9999999999999d", "too long ago"),
            ("99999999999999999999", "too large"),
            ("2026-01-01", "expected a position"),
            ("2026-01-01T00:00:00", "expected a position"),
            ("yesterday", "expected a position"),
            ("+5m", "expected a position"),
        ] {
            let error = text.parse::<When>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
