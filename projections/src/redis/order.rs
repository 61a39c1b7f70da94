//! Index entries as members of a sorted set: byte strings whose byte order is the order of the index.
//!
//! ```text
//! entry    cell cell ...               the columns of the index's order
//! cell     "0"                         NULL
//!          "1" sign 19 digits          integer; sign "1": the digits are the value, "0": the value + 2^63
//!          "2" bytes 00 01             text, a zero byte in it written 00 ff
//!          "3" hex 00 01               blob
//! ```

use std::ops::Bound;

use crate::{Cell, Scan, TableDef, view::index_order};

/// Beyond everything that goes on after a common beginning.
const BEYOND: u8 = 0xff;

/// Appends a cell.
pub(super) fn put(cell: &Cell<'_>, bytes: &mut Vec<u8>) {
    match cell {
        Cell::Null => bytes.push(b'0'),
        Cell::Integer(value) => {
            let (sign, digits) = match u64::try_from(*value) {
                Ok(value) => (b'1', value),
                // From 0 for the least one up to 2^63 - 1 for -1.
                Err(_) => (b'0', (*value as u64) & (i64::MAX as u64)),
            };
            let mut text = [b'0'; 21];
            text[0] = b'1';
            text[1] = sign;
            let mut rest = digits;
            for at in (2..text.len()).rev() {
                text[at] = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
            bytes.extend_from_slice(&text);
        }
        Cell::Text(text) => {
            bytes.push(b'2');
            for byte in text.bytes() {
                bytes.push(byte);
                if byte == 0 {
                    bytes.push(0xff);
                }
            }
            bytes.extend_from_slice(&[0, 1]);
        }
        Cell::Blob(blob) => {
            bytes.push(b'3');
            bytes.extend_from_slice(hex::encode(blob).as_bytes());
            bytes.extend_from_slice(&[0, 1]);
        }
    }
}

fn put_all(cells: &[Cell<'_>], bytes: &mut Vec<u8>) {
    cells.iter().for_each(|cell| put(cell, bytes));
}

/// The cells of a member; none if it is no member that [`put`] made.
pub(super) fn cells(mut member: &[u8]) -> Option<Vec<Cell<'static>>> {
    let mut cells = Vec::new();
    while let Some((tag, rest)) = member.split_first() {
        let (cell, rest) = match tag {
            b'0' => (Cell::Null, rest),
            b'1' => {
                let (digits, rest) = rest.split_at_checked(20)?;
                let (sign, digits) = std::str::from_utf8(digits).ok()?.split_at(1);
                let value: u64 = digits.parse().ok()?;
                let value = match sign {
                    "1" => i64::try_from(value).ok()?,
                    _ => i64::MIN.wrapping_add_unsigned(value),
                };
                (Cell::Integer(value), rest)
            }
            tag => {
                let (bytes, rest) = terminated(rest)?;
                let text = String::from_utf8(bytes).ok()?;
                match tag {
                    b'2' => (Cell::Text(text.into()), rest),
                    b'3' => (Cell::Blob(hex::decode(text).ok()?.into()), rest),
                    _ => return None,
                }
            }
        };
        cells.push(cell);
        member = rest;
    }
    Some(cells)
}

fn terminated(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut text = Vec::new();
    let mut at = 0;
    loop {
        match (bytes.get(at)?, bytes.get(at + 1)) {
            (0, Some(1)) => return Some((text, &bytes[at + 2..])),
            (0, Some(0xff)) => {
                text.push(0);
                at += 2;
            }
            (0, _) => return None,
            (byte, _) => {
                text.push(*byte);
                at += 1;
            }
        }
    }
}

/// The two ends of a scan as ZRANGEBYLEX takes them; none if nothing can lie between.
pub(super) fn range(table: &TableDef, scan: &Scan<'_>) -> Option<(Vec<u8>, Vec<u8>)> {
    let named = |bound: &Bound<Vec<Cell<'_>>>| match bound {
        Bound::Unbounded => false,
        Bound::Included(cells) | Bound::Excluded(cells) => cells.contains(&Cell::Null),
    };
    if scan.equal.contains(&Cell::Null) || named(&scan.from) || named(&scan.to) {
        return None;
    }
    let mut low = vec![b'['];
    let mut high = vec![b'('];
    put_all(&scan.equal, &mut low);
    put_all(&scan.equal, &mut high);
    let multi = table.multi_indexes.iter().any(|multi| multi.name == scan.index);
    let bounded = scan.from != Bound::Unbounded || scan.to != Bound::Unbounded;
    match &scan.from {
        // NULL is in no range.
        Bound::Unbounded if bounded && !multi => low.push(b'1'),
        Bound::Unbounded => {}
        Bound::Included(cells) => put_all(cells, &mut low),
        Bound::Excluded(cells) => {
            put_all(cells, &mut low);
            low.push(BEYOND);
        }
    }
    match &scan.to {
        Bound::Unbounded => high.push(BEYOND),
        Bound::Included(cells) => {
            put_all(cells, &mut high);
            high.push(BEYOND);
        }
        Bound::Excluded(cells) => put_all(cells, &mut high),
    }
    (low[1..] < high[1..]).then_some((low, high))
}

/// The row key that a member of an index leads to.
pub(super) fn key(table: &TableDef, index: &str, member: &[u8]) -> Option<String> {
    let cells = cells(member)?;
    if table.multi_indexes.iter().any(|multi| multi.name == index) {
        return match cells.get(1)? {
            Cell::Text(key) => Some(key.to_string()),
            _ => None,
        };
    }
    let order = index_order(table, index).ok()?;
    let keys: Option<Vec<_>> = (0..table.columns.len())
        .filter(|column| table.columns[*column].key)
        .map(|column| cells.get(order.iter().position(|at| *at == column)?).cloned())
        .collect();
    Some(table.key_of(&keys?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn cell() -> impl Strategy<Value = Cell<'static>> {
        prop_oneof![
            Just(Cell::Null),
            any::<i64>().prop_map(Cell::Integer),
            prop_oneof![Just(0), Just(-1), Just(i64::MAX), Just(i64::MIN)].prop_map(Cell::Integer),
            "[\\x00-\\x02a-cé😀]{0,4}".prop_map(|text| Cell::Text(text.into())),
            proptest::collection::vec(any::<u8>(), 0..3).prop_map(|blob| Cell::Blob(blob.into())),
        ]
    }

    proptest! {
        #[test]
        fn members_are_ordered_as_their_cells(
            a in proptest::collection::vec(cell(), 2), b in proptest::collection::vec(cell(), 2)
        ) {
            let (mut left, mut right) = (Vec::new(), Vec::new());
            put_all(&a, &mut left);
            put_all(&b, &mut right);
            prop_assert_eq!(left.cmp(&right), a.cmp(&b));
            prop_assert_eq!(cells(&left).unwrap(), a);
        }

        #[test]
        fn foreign_members_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..30)) {
            let _ = cells(&bytes);
        }
    }
}
