use tasklog_log::{
    StoreError,
    redis::{Part, Parts},
};

use super::strange;
use crate::redis::Element;

/// A page of a walk.
pub enum Page {
    /// What was found.
    Elements(Elements),
    /// The key is of a wrong type; what the server says of it.
    WrongType(String),
}

/// The elements of a page.
#[derive(Default)]
pub struct Elements {
    /// As it was received.
    answer: Vec<u8>,
    /// Parts before the first element.
    head: usize,
    values: Values,
}

/// What the values of elements are.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Values {
    /// There are none.
    #[default]
    None,
    /// Scores that are 0.
    Zeros,
    /// They follow their elements.
    Follow,
}

impl Elements {
    pub(super) fn of(answer: &[u8], head: usize, values: Values) -> Result<Self, StoreError> {
        let mut words = 0_usize;
        for part in Parts::of(answer).skip(head) {
            if !matches!(part, Part::Bytes(_)) {
                return Err(strange());
            }
            words += 1;
        }
        if values == Values::Follow && !words.is_multiple_of(2) {
            return Err(strange());
        }
        Ok(Self { answer: answer.to_vec(), head, values })
    }

    /// Each, with its value; an empty one where there is none.
    pub fn iter(&self) -> impl Iterator<Item = Element<'_>> {
        let words = Parts::of(&self.answer).skip(self.head);
        let mut words = words.map_while(|part| if let Part::Bytes(bytes) = part { Some(bytes) } else { None });
        let values = self.values;
        std::iter::from_fn(move || {
            let element = words.next()?;
            Some(match values {
                Values::None => (element, &[][..]),
                Values::Zeros => (element, &b"0"[..]),
                Values::Follow => (element, words.next()?),
            })
        })
    }
}
