use tasklog_log::{
    Millis, StoreError,
    redis::{Part, Parts, Wire},
};

use super::{Bulk, Notes, OwnKeys, failed};
use crate::{
    RowChange,
    redis::{
        names::{Names, suffix},
        shape::{Shape, Writer, row_hash, shape},
        slot::What,
    },
};

impl Bulk<'_> {
    /// Asks for the rows that creations would make and that are alive at `now`.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn ask_rows(&mut self, page: &[RowChange], now: Millis) -> Result<(), StoreError> {
        self.packed.clear();
        for change in page {
            let (hash, outside) = own_keys(&self.view.names, change, now);
            if let Some(hash) = &hash {
                Wire::pack(&mut self.packed, &[b"HGETALL", hash.as_bytes()]);
                Wire::pack(&mut self.packed, &[b"PEXPIRETIME", hash.as_bytes()]);
            }
            if let Some(outside) = &outside {
                Wire::pack(&mut self.packed, &[b"GET", outside.as_bytes()]);
                Wire::pack(&mut self.packed, &[b"PEXPIRETIME", outside.as_bytes()]);
            }
            self.asked.push_back((hash, outside));
        }
        self.send()
    }

    /// Takes the answers to [`Bulk::ask_rows`] of the same page, notes what the changes put into helpers, and tells which
    /// rows may be wrong.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn rows(
        &mut self,
        page: &[RowChange],
        now: Millis,
        notes: &mut Notes<'_>,
        differs: &mut dyn FnMut(&RowChange),
    ) -> Result<(), StoreError> {
        for change in page {
            let own = self.asked.pop_front().unwrap_or_default();
            if !self.is_as_expected(change, now, &own, notes)? {
                differs(change);
            }
        }
        Ok(())
    }

    fn is_as_expected(
        &mut self,
        change: &RowChange,
        now: Millis,
        (hash, outside): &OwnKeys,
        notes: &mut Notes<'_>,
    ) -> Result<bool, StoreError> {
        let Self { view, wire, words, .. } = self;
        let (names, expiry) = (&view.names, view.expiry);
        // What dead rows have left behind is housekeeping: known, but not needed. So is a short tombstone, of which
        // only a half is wrong.
        let needed = change.after.as_ref().is_none_or(|row| row.is_live(now));
        words.write(&Writer { names, expiry }, change);
        let mut own: Vec<(&[u8], &[u8])> = Vec::with_capacity(24);
        let (mut end, mut outside_text, mut outside_end) = (None, None, None);
        let (hash_key, outside_key) = (hash.as_deref().map(str::as_bytes), outside.as_deref().map(str::as_bytes));
        let is_run = shape(change.table) == Shape::Run;
        // A dead row's own keys were not asked for.
        let unasked = (hash.is_none() && !is_run).then(|| row_hash(names, change.table, &change.key));
        words.places(&mut |place| {
            let is_hash = Some(place.key) == hash_key;
            match place.what {
                What::Field if is_hash => own.push((place.member, place.value)),
                What::Expiry if is_hash => end = Some(place.value),
                What::Expiry if Some(place.key) == outside_key => outside_end = Some(place.value),
                What::Text if Some(place.key) == outside_key => outside_text = Some(place.value),
                What::Field if unasked.as_ref().is_some_and(|key| place.key == key.as_bytes()) => {}
                What::Expiry | What::Text => {}
                _ => notes.place(names, change, &place, needed),
            }
        });
        for key in [hash_key, outside_key].into_iter().flatten() {
            notes.key(change.table, key);
        }
        let mut same = true;
        let mut look = |is_right: &dyn Fn(Parts<'_>) -> bool| -> Result<(), StoreError> {
            let answer = wire.answer().map_err(|error| failed(view, error))?;
            same &= is_right(Parts::of(answer));
            Ok(())
        };
        if hash.is_some() {
            look(&|found| same_fields(&own, found))?;
            look(&|found| same_end(end, found))?;
        }
        if outside.is_some() {
            look(&|mut found| outside_text.is_some() && found.next() == outside_text.map(Part::Bytes))?;
            look(&|found| same_end(outside_end, found))?;
        }
        Ok(same)
    }
}

/// The keys that belong to the row of a creation alone; none if it has none, or is dead.
fn own_keys(names: &Names, change: &RowChange, now: Millis) -> OwnKeys {
    let RowChange { table, key, after, .. } = change;
    if !after.as_ref().is_some_and(|row| row.is_live(now)) {
        return (None, None);
    }
    match shape(table) {
        Shape::Run => (None, None),
        Shape::Hash => (Some(row_hash(names, table, key)), None),
        Shape::Lease | Shape::Cursor => (Some(row_hash(names, table, key)), Some(names.of(table, &suffix(table, key)))),
    }
}

/// Whether a hash has exactly these fields. They are mostly in the order in which they were written.
fn same_fields(expected: &[(&[u8], &[u8])], mut found: Parts<'_>) -> bool {
    if found.next() != Some(Part::List(expected.len() * 2)) {
        return false;
    }
    let mut likely = 0;
    for _ in expected {
        let (Some(Part::Bytes(field)), Some(Part::Bytes(value))) = (found.next(), found.next()) else { return false };
        if expected.get(likely).is_none_or(|(name, _)| *name != field) {
            let Some(at) = expected.iter().position(|(name, _)| *name == field) else { return false };
            likely = at;
        }
        if expected[likely].1 != value {
            return false;
        }
        likely += 1;
    }
    true
}

/// Whether a key expires when it must; -1 says never.
fn same_end(expected: Option<&[u8]>, mut found: Parts<'_>) -> bool {
    let expected = expected.map_or(Some(-1), |text| std::str::from_utf8(text).ok()?.parse::<i64>().ok());
    expected.is_some_and(|expected| found.next() == Some(Part::Number(expected)))
}
