//! Where a page of rows ended, as a text that the next request brings back.
//!
//! A cursor holds the values by which the walk is ordered, so that it stands however rows come and go. Where those may be
//! sensitive and the caller does not see them, it is sealed: encrypted with a key that all processes with the same tokens
//! derive.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tasklog_projections::{Cell, Kind, Scan, TableDef};

use super::auth::Tokens;

/// The longest cursor that is looked at: keys have at most 512 bytes each.
const CURSOR_BYTES_MAX: usize = 8 << 10;
const PLAIN: u8 = b'p';
const SEALED: u8 = b's';

/// Opens and seals cursors.
#[derive(Clone, Copy)]
pub(crate) struct CursorKey([u8; 32]);

impl CursorKey {
    /// The key that goes with these tokens; without tokens, one of this process.
    pub(crate) fn of(tokens: &Tokens) -> Self {
        let seed = tokens.seed().unwrap_or_else(|| {
            let mut seed = [0; 32];
            // Without randomness the seed stays fixed: cursors are less secret, not wrong.
            if let Err(error) = getrandom::fill(&mut seed) {
                tracing::error!(%error, "no randomness for the key of cursors");
            }
            seed
        });
        Self(Sha256::new().chain_update(b"tasklog cursor").chain_update(seed).finalize().into())
    }

    fn aead(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&CHACHA20_POLY1305, &self.0).ok().map(LessSafeKey::new)
    }
}

/// Where a page ended.
pub(crate) struct Cursor<'a> {
    pub(crate) table: &'a str,
    pub(crate) index: &'a str,
    pub(crate) cells: &'a [Cell<'a>],
}

/// A cell in a cursor.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Part {
    Null,
    Int(i64),
    Text(String),
    Hex(String),
}

impl Cursor<'_> {
    /// As text.
    pub(crate) fn close(&self, key: &CursorKey, sealed: bool) -> String {
        let parts: Vec<Part> = self
            .cells
            .iter()
            .map(|cell| match cell {
                Cell::Null => Part::Null,
                Cell::Integer(value) => Part::Int(*value),
                Cell::Text(text) => Part::Text(text.clone().into_owned()),
                Cell::Blob(bytes) => Part::Hex(hex::encode(bytes)),
            })
            .collect();
        // Texts and numbers.
        let mut bytes = serde_json::to_vec(&(self.table, self.index, parts)).unwrap_or_default();
        let mut text = vec![PLAIN];
        if sealed {
            text = vec![SEALED];
            let mut nonce = [0; NONCE_LEN];
            let sealed = getrandom::fill(&mut nonce).ok().and_then(|()| key.aead()).and_then(|aead| {
                let nonce = Nonce::assume_unique_for_key(nonce);
                aead.seal_in_place_append_tag(nonce, Aad::empty(), &mut bytes).ok()
            });
            // What cannot be sealed is not told.
            if sealed.is_none() {
                bytes.clear();
            }
            text.extend(nonce);
        }
        text.extend(bytes);
        URL_SAFE_NO_PAD.encode(text)
    }

    /// The values after which the walk `scan` goes on.
    pub(crate) fn open(
        text: &str,
        table: &'static TableDef,
        scan: &Scan<'_>,
        key: &CursorKey,
    ) -> Result<Vec<Cell<'static>>, String> {
        const WRONG: &str = "expected the `next` of a page of this list, from a process with the same tokens";
        let wrong = || WRONG.to_owned();
        if text.len() > CURSOR_BYTES_MAX {
            return Err(wrong());
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong())?;
        let plain = match bytes.split_first().ok_or_else(wrong)? {
            (&PLAIN, rest) => rest.to_vec(),
            (&SEALED, rest) => {
                let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(wrong)?;
                let mut rest = rest.to_vec();
                let aead = key.aead().ok_or_else(wrong)?;
                let nonce = Nonce::assume_unique_for_key(*nonce);
                aead.open_in_place(nonce, Aad::empty(), &mut rest).map_err(|_| wrong())?.to_vec()
            }
            _ => return Err(wrong()),
        };
        let (of, index, parts): (String, String, Vec<Part>) = serde_json::from_slice(&plain).map_err(|_| wrong())?;
        let order = order(table, scan).ok_or_else(wrong)?;
        if of != table.name || index != scan.index || parts.len() != order.len() {
            return Err("it belongs to another list, of another table or with other conditions".into());
        }
        parts.into_iter().zip(order).map(|(part, at)| cell(part, table, at).ok_or_else(wrong)).collect()
    }
}

/// The columns by which a walk goes, without those that its conditions fix.
fn order(table: &'static TableDef, scan: &Scan<'_>) -> Option<Vec<usize>> {
    let own = match scan.index {
        "pk" => &[][..],
        name => table.indexes.iter().find(|index| index.name == name)?.columns,
    };
    let mut order: Vec<usize> = own.iter().filter_map(|name| table.column(name)).collect();
    for (at, _) in table.columns.iter().enumerate().filter(|(_, column)| column.key) {
        if !order.contains(&at) {
            order.push(at);
        }
    }
    Some(order.split_off(scan.equal.len().min(order.len())))
}

fn cell(part: Part, table: &'static TableDef, at: usize) -> Option<Cell<'static>> {
    let column = &table.columns[at];
    match (part, column.kind) {
        (Part::Null, _) if column.nullable => Some(Cell::Null),
        (Part::Int(value), Kind::Integer | Kind::Bool) => Some(Cell::Integer(value)),
        (Part::Text(text), Kind::Text | Kind::Json) => Some(Cell::Text(text.into())),
        (Part::Hex(text), Kind::Hash) => hex::decode(text).ok().map(|bytes| Cell::Blob(bytes.into())),
        _ => None,
    }
}
