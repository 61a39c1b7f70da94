use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use tasklog_log::Position;

/// One column's value on its way into or out of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell<'a> {
    /// Neither the empty string nor 0.
    Null,
    /// INTEGER
    Integer(i64),
    /// TEXT
    Text(Cow<'a, str>),
    /// BLOB
    Blob(Cow<'a, [u8]>),
}

impl Cell<'_> {
    /// The same value, owning its bytes.
    #[must_use]
    pub fn into_owned(self) -> Cell<'static> {
        match self {
            Self::Null => Cell::Null,
            Self::Integer(value) => Cell::Integer(value),
            Self::Text(text) => Cell::Text(Cow::Owned(text.into_owned())),
            Self::Blob(bytes) => Cell::Blob(Cow::Owned(bytes.into_owned())),
        }
    }
}

impl<'a> From<&'a str> for Cell<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<i64> for Cell<'_> {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

// The order of an index, as SQLite has it: NULL, then integers, then text byte by byte, then blobs.
impl PartialOrd for Cell<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Cell<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let rank = |cell: &Cell<'_>| match cell {
            Cell::Null => 0,
            Cell::Integer(_) => 1,
            Cell::Text(_) => 2,
            Cell::Blob(_) => 3,
        };
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => a.cmp(b),
            (Self::Text(a), Self::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Self::Blob(a), Self::Blob(b)) => a.cmp(b),
            _ => rank(self).cmp(&rank(other)),
        }
    }
}

/// A stored row, column by column.
pub trait Cells {
    /// The value of the column with this index.
    ///
    /// # Errors
    /// A sentence about what is stored there.
    fn cell(&self, index: usize) -> Result<Cell<'_>, String>;
}

impl Cells for [Cell<'_>] {
    fn cell(&self, index: usize) -> Result<Cell<'_>, String> {
        match self.get(index) {
            Some(Cell::Null) => Ok(Cell::Null),
            Some(Cell::Integer(value)) => Ok(Cell::Integer(*value)),
            Some(Cell::Text(text)) => Ok(Cell::Text(Cow::Borrowed(text))),
            Some(Cell::Blob(bytes)) => Ok(Cell::Blob(Cow::Borrowed(bytes))),
            None => Err(format!("no column {index}")),
        }
    }
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Signed 64-bit.
    Integer,
    /// 0 or 1.
    Bool,
    /// UTF-8.
    Text,
    /// TEXT with one JSON value.
    Json,
    /// 32 raw bytes; lowercase hex outside SQLite.
    Hash,
}

/// One column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name on every backend.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Whether NULL is a value.
    pub nullable: bool,
    /// Whether it is part of the key.
    pub key: bool,
}

/// A Rust type that a column can hold.
pub trait Field: Sized {
    /// The column's kind.
    const KIND: Kind;
    /// Whether NULL is a value.
    const NULLABLE: bool = false;
    /// As the column holds it.
    fn to_cell(&self) -> Cell<'_>;
    /// From the column.
    ///
    /// # Errors
    /// A sentence: what was expected, what was found.
    fn from_cell(cell: Cell<'_>) -> Result<Self, String>;
}

fn unexpected<T>(expected: &str, found: &Cell<'_>) -> Result<T, String> {
    Err(format!("expected {expected}, found {found:?}"))
}

impl Field for i64 {
    const KIND: Kind = Kind::Integer;
    fn to_cell(&self) -> Cell<'_> {
        Cell::Integer(*self)
    }
    fn from_cell(cell: Cell<'_>) -> Result<Self, String> {
        match cell {
            Cell::Integer(value) => Ok(value),
            other => unexpected("an integer", &other),
        }
    }
}

impl Field for Position {
    const KIND: Kind = Kind::Integer;
    fn to_cell(&self) -> Cell<'_> {
        Cell::Integer(self.to_i64())
    }
    fn from_cell(cell: Cell<'_>) -> Result<Self, String> {
        let value = i64::from_cell(cell)?;
        Self::from_i64(value).ok_or_else(|| format!("expected a position, found {value}"))
    }
}

impl Field for bool {
    const KIND: Kind = Kind::Bool;
    fn to_cell(&self) -> Cell<'_> {
        Cell::Integer(i64::from(*self))
    }
    fn from_cell(cell: Cell<'_>) -> Result<Self, String> {
        match cell {
            Cell::Integer(0) => Ok(false),
            Cell::Integer(1) => Ok(true),
            other => unexpected("0 or 1", &other),
        }
    }
}

impl Field for String {
    const KIND: Kind = Kind::Text;
    fn to_cell(&self) -> Cell<'_> {
        Cell::Text(Cow::Borrowed(self))
    }
    fn from_cell(cell: Cell<'_>) -> Result<Self, String> {
        match cell {
            Cell::Text(text) => Ok(text.into_owned()),
            other => unexpected("text", &other),
        }
    }
}

impl<T: Field> Field for Option<T> {
    const KIND: Kind = T::KIND;
    const NULLABLE: bool = true;
    fn to_cell(&self) -> Cell<'_> {
        self.as_ref().map_or(Cell::Null, T::to_cell)
    }
    fn from_cell(cell: Cell<'_>) -> Result<Self, String> {
        match cell {
            Cell::Null => Ok(None),
            other => T::from_cell(other).map(Some),
        }
    }
}

/// A SHA-256: 32 raw bytes in a BLOB column and in payloads, 64 lowercase hex digits everywhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash32(pub [u8; 32]);

impl Hash32 {
    /// The hash of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// Lowercase hex.
    #[must_use]
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }

    /// From exactly 64 lowercase hex digits.
    ///
    /// # Errors
    /// A sentence about what is wrong with `text`.
    pub fn from_hex(text: &str) -> Result<Self, String> {
        // What was found is not shown: it may be the secret that should have been hashed.
        let refused = || format!("expected 64 lowercase hex digits, found {} bytes of something else", text.len());
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(refused());
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| refused())?;
        Ok(Self(bytes))
    }
}

impl Field for Hash32 {
    const KIND: Kind = Kind::Hash;
    fn to_cell(&self) -> Cell<'_> {
        Cell::Blob(Cow::Borrowed(&self.0))
    }
    fn from_cell(cell: Cell<'_>) -> Result<Self, String> {
        match &cell {
            Cell::Blob(bytes) => bytes.as_ref().try_into().map(Self).or_else(|_| unexpected("32 bytes", &cell)),
            other => unexpected("32 bytes", other),
        }
    }
}

impl Serialize for Hash32 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&self.to_hex())
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Hash32 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Hash32;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("64 lowercase hex digits")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Hash32, E> {
                Hash32::from_hex(text).map_err(E::custom)
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Hash32, E> {
                bytes.try_into().map(Hash32).map_err(|_| E::invalid_length(bytes.len(), &"32 bytes"))
            }
        }
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(Visitor)
        } else {
            deserializer.deserialize_bytes(Visitor)
        }
    }
}

impl JsonSchema for Hash32 {
    fn schema_name() -> Cow<'static, str> {
        "Hash32".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9a-f]{64}$", "description": "SHA-256, lowercase hex" })
    }
}

/// Declares an enum whose values are words: a TEXT column, a string in payloads and arguments.
#[macro_export]
macro_rules! words {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[schemars(inline)]
        pub enum $name { $($(#[$vmeta])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// The word that columns, payloads and arguments hold.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    other => Err(format!("expected one of {:?}, found {other:?}", [$($word),+])),
                }
            }
        }

        impl $crate::Field for $name {
            const KIND: $crate::Kind = $crate::Kind::Text;
            fn to_cell(&self) -> $crate::Cell<'_> {
                self.as_str().into()
            }
            fn from_cell(cell: $crate::Cell<'_>) -> Result<Self, String> {
                match cell {
                    $crate::Cell::Text(text) => text.parse(),
                    other => Err(format!("expected one of {:?}, found {other:?}", [$($word),+])),
                }
            }
        }
    };
}
