//! Checks of argument values that every table shares.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    marker::PhantomData,
};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use tasklog_log::{Millis, TIME_MS_MAX};
use tasklog_projections::{Hash32, Json, check_key};

use crate::rejection::Rejection;

/// The longest error text a column holds, in bytes.
pub const ERROR_BYTES_MAX: usize = 64 << 10;
/// The longest actor, reason or request id, in bytes.
pub const META_BYTES_MAX: usize = 1 << 10;

/// A key or a part of one: 1 to 512 bytes, no control characters.
///
/// # Errors
/// `invalid`, naming `what`.
pub fn key(what: &str, text: &str) -> Result<(), Rejection> {
    check_key(what, text).map_err(Rejection::invalid)
}

/// An actor, a reason or a request id: at most [`META_BYTES_MAX`], no control characters. Whoever reads the log reads them
/// beside positions and instants, and a line end among them would begin a line that nobody wrote.
///
/// # Errors
/// `invalid`, naming `what`.
pub(crate) fn meta(what: &str, text: &str) -> Result<(), Rejection> {
    if text.len() > META_BYTES_MAX {
        return Err(Rejection::invalid(format!("{what}: at most {META_BYTES_MAX} bytes, found {}", text.len())));
    }
    match text.chars().find(|c| c.is_control()) {
        None => Ok(()),
        Some(control) => {
            let control = u32::from(control);
            Err(Rejection::invalid(format!("{what}: no control characters, this one has U+{control:04X}")))
        }
    }
}

/// An instant: 0 to 2^53 - 1 ms.
///
/// # Errors
/// `invalid`, naming `what`.
pub fn instant(what: &str, ms: Millis) -> Result<(), Rejection> {
    if (0..=TIME_MS_MAX).contains(&ms) {
        return Ok(());
    }
    Err(Rejection::invalid(format!("{what}: an instant is 0 to {TIME_MS_MAX} ms, found {ms}")))
}

/// A number that is at least `least`.
///
/// # Errors
/// `invalid`, naming `what`.
pub fn at_least(what: &str, least: i64, value: i64) -> Result<(), Rejection> {
    if value >= least {
        return Ok(());
    }
    Err(Rejection::invalid(format!("{what}: at least {least}, found {value}")))
}

/// A JSON object within the bounds of a column.
///
/// # Errors
/// `invalid`, naming `what`.
pub fn object(what: &str, json: &Json) -> Result<(), Rejection> {
    bounded(what, json)?;
    if json.is_object() {
        return Ok(());
    }
    Err(Rejection::invalid(format!("{what}: expected a JSON object, found {:.40}", json.as_str())))
}

/// A JSON value within the bounds of a column.
///
/// # Errors
/// `invalid`, naming `what` and the bound.
pub fn bounded(what: &str, json: &Json) -> Result<(), Rejection> {
    json.canonical().map(drop).map_err(|why| Rejection::invalid(format!("{what}: {why}")))
}

/// An error text as a column holds it: cut at a character boundary if it is longer than [`ERROR_BYTES_MAX`], with a
/// digest of the whole.
#[must_use]
pub fn error(text: &str) -> String {
    if text.len() <= ERROR_BYTES_MAX {
        return text.to_owned();
    }
    let end = format!(" [cut, sha256={}]", Hash32::of(text.as_bytes()).to_hex());
    format!("{}{end}", &text[..text.floor_char_boundary(ERROR_BYTES_MAX - end.len())])
}

/// A text of at most `bytes`, cut at a character boundary.
#[must_use]
pub fn cut(text: &str, bytes: usize) -> String {
    text[..text.floor_char_boundary(bytes)].to_owned()
}

/// Arguments: the members of an object. A list of them without their names, which would be taken for one, is refused.
pub(crate) fn arguments<'a, T: Deserialize<'a>>(args: &'a RawValue) -> Result<T, String> {
    if args.get().starts_with('[') {
        return Err("expected an object, found an array".into());
    }
    serde_json::from_str(args.get()).map_err(|error| {
        let text = error.to_string();
        // Counted from where the object begins, not from where its line does.
        match text.rsplit_once(" at line ") {
            Some((what, _)) if error.line() == 1 => format!("{what}, at column {} of the object", error.column()),
            Some((what, _)) => format!("{what}, at line {}, column {} of the object", error.line(), error.column()),
            None => text,
        }
    })
}

/// A map in which no key stands twice: the last one would win, silently.
///
/// # Errors
/// The deserializer's.
pub(crate) fn unique_keys<'de, D: Deserializer<'de>, V: Deserialize<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, V>, D::Error> {
    struct Unique<V>(PhantomData<V>);

    impl<'de, V: Deserialize<'de>> Visitor<'de> for Unique<V> {
        type Value = BTreeMap<String, V>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((key, value)) = entries.next_entry::<String, V>()? {
                match map.entry(key) {
                    Entry::Vacant(free) => free.insert(value),
                    Entry::Occupied(taken) => {
                        return Err(A::Error::custom(format!("duplicate key {:?}", taken.key())));
                    }
                };
            }
            Ok(map)
        }
    }

    deserializer.deserialize_map(Unique(PhantomData))
}
