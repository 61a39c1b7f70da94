use tasklog_log::{Event, Position, StoreError};
use tasklog_projections::{Table, TableEvent};

use crate::rejection::Error;

/// Events at the end of a chain that are looked at, until one is found that can be read.
const LOOK_BACK_MAX: usize = 1_000;

/// Where the events of an entity's chain are.
pub(crate) trait Events {
    /// An event of the log; `checked` if its checksum must be right.
    fn event(&mut self, position: Position, checked: bool) -> Result<Event, Error>;

    /// Whether replays pass over an event.
    fn is_quarantined(&mut self, position: Position) -> Result<bool, Error>;
}

/// The last event of an entity, which a tombstone names. One that cannot be read, and that replays pass over for that, counts
/// as if it were not there: then it is the one before it, or none.
///
/// # Errors
/// `corrupt`, naming the position, for one that cannot be read and is not quarantined; the chain's.
pub(crate) fn last_event<T: Table>(chain: &mut dyn Events, rev: Position) -> Result<Option<T::Event>, Error> {
    let mut at = rev;
    for _ in 0..LOOK_BACK_MAX {
        let read = chain.event(at, true).and_then(|event| {
            T::Event::decode(&event.event_type, event.type_version, &event.payload)
                .map_err(|error| StoreError::corrupt(at, error.to_string()).into())
        });
        match read {
            Err(Error::Store(StoreError::Corrupt { .. })) if chain.is_quarantined(at)? => {}
            read => return read.map(Some),
        }
        match chain.event(at, false)?.prev.filter(|prev| *prev < at) {
            Some(prev) => at = prev,
            None => return Ok(None),
        }
    }
    let why = format!("the {LOOK_BACK_MAX} events of its entity through {rev} cannot be read");
    Err(StoreError::corrupt(at, why).into())
}
