use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::{Deref, DerefMut},
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;

use crate::{Cell, Field, Hash32, Kind};

/// The longest JSON value a column accepts, in bytes of its text.
pub const JSON_BYTES_MAX: usize = 1 << 20;
/// The deepest nesting a column accepts.
pub const JSON_DEPTH_MAX: usize = 128;

/// One JSON value as the text that was given, byte for byte.
///
/// In arguments and output it is the value itself; in payloads it is a string, so that no store re-encodes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Json(Box<str>);

impl Json {
    /// Takes a text that is one JSON value.
    ///
    /// # Errors
    /// A sentence about where the text stops being JSON.
    pub fn parse(text: &str) -> Result<Self, String> {
        let raw: Box<RawValue> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        Ok(Self(raw.get().into()))
    }

    /// From a value this program built; its text is canonical.
    #[must_use]
    pub fn from_value(value: &serde_json::Value) -> Self {
        // serde_json's map is sorted and its compact form is the canonical one.
        Self(value.to_string().into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text in canonical form: sorted keys, no spaces, numbers as spelled.
    ///
    /// # Errors
    /// A sentence: too long, too deep, or a key that stands twice in one object.
    pub fn canonical(&self) -> Result<String, String> {
        canonical(&self.0)
    }

    /// SHA-256 of the canonical form: equal content, equal digest.
    ///
    /// # Errors
    /// As [`Json::canonical`].
    pub fn digest(&self) -> Result<Hash32, String> {
        Ok(Hash32::of(self.canonical()?.as_bytes()))
    }

    /// Whether both have the same canonical form. A value beyond the bounds equals only its own text.
    #[must_use]
    pub fn same_content(&self, other: &Self) -> bool {
        self == other || matches!((self.canonical(), other.canonical()), (Ok(a), Ok(b)) if a == b)
    }

    /// As a tree, for looking into it. Not for comparing: numbers may lose their spelling here.
    ///
    /// # Errors
    /// A sentence, if the nesting is deeper than a tree may be.
    pub fn to_value(&self) -> Result<serde_json::Value, String> {
        serde_json::from_str(&self.0).map_err(|error| error.to_string())
    }

    /// Whether the value is an object.
    #[must_use]
    pub fn is_object(&self) -> bool {
        self.0.starts_with('{')
    }

    /// Whether the value is an array.
    #[must_use]
    pub fn is_array(&self) -> bool {
        self.0.starts_with('[')
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
            raw.serialize(serializer)
        } else {
            serializer.serialize_str(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let raw = Box::<RawValue>::deserialize(deserializer)?;
            Ok(Self(raw.get().into()))
        } else {
            Ok(Self(Box::<str>::deserialize(deserializer)?))
        }
    }
}

impl JsonSchema for Json {
    fn schema_name() -> Cow<'static, str> {
        "Json".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "any JSON value, kept byte for byte" })
    }
}

impl Field for Json {
    const KIND: Kind = Kind::Json;
    fn to_cell(&self) -> Cell<'_> {
        Cell::Text(Cow::Borrowed(&self.0))
    }
    fn from_cell(cell: Cell<'_>) -> Result<Self, String> {
        match cell {
            Cell::Text(text) => Ok(Self(text.into())),
            other => Err(format!("expected JSON text, found {other:?}")),
        }
    }
}

/// A JSON object that a fold builds: stored in canonical form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JsonMap<V>(pub BTreeMap<String, V>);

impl<V> Default for JsonMap<V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<V> Deref for JsonMap<V> {
    type Target = BTreeMap<String, V>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<V> DerefMut for JsonMap<V> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<V: Serialize + for<'de> Deserialize<'de>> Field for JsonMap<V> {
    const KIND: Kind = Kind::Json;
    fn to_cell(&self) -> Cell<'_> {
        if self.0.is_empty() {
            return Cell::Text(Cow::Borrowed("{}"));
        }
        // Keys are strings and values are numbers, words or texts: nothing here that JSON cannot hold.
        let text = serde_json::to_string(&self.0).expect("a map of strings to plain values is JSON");
        Cell::Text(Cow::Owned(text))
    }
    fn from_cell(cell: Cell<'_>) -> Result<Self, String> {
        match cell {
            Cell::Text(text) if text == "{}" => Ok(Self::default()),
            Cell::Text(text) => serde_json::from_str(&text).map_err(|error| error.to_string()),
            other => Err(format!("expected a JSON object, found {other:?}")),
        }
    }
}

/// A JSON array that a fold builds: stored in canonical form. Elements that are structs declare their fields sorted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JsonList<V>(pub Vec<V>);

impl<V> Default for JsonList<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V> Deref for JsonList<V> {
    type Target = Vec<V>;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<V> DerefMut for JsonList<V> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<V: Serialize + for<'de> Deserialize<'de>> Field for JsonList<V> {
    const KIND: Kind = Kind::Json;
    fn to_cell(&self) -> Cell<'_> {
        // Elements are numbers, words, texts or structs of them: nothing here that JSON cannot hold.
        let text = serde_json::to_string(&self.0).expect("a list of plain values is JSON");
        Cell::Text(Cow::Owned(text))
    }
    fn from_cell(cell: Cell<'_>) -> Result<Self, String> {
        match cell {
            Cell::Text(text) => serde_json::from_str(&text).map_err(|error| error.to_string()),
            other => Err(format!("expected a JSON array, found {other:?}")),
        }
    }
}

/// The canonical form of a JSON text: object keys sorted by their bytes, no spaces, strings with the shortest escapes,
/// numbers as spelled.
///
/// # Errors
/// A sentence: not JSON, longer than [`JSON_BYTES_MAX`], deeper than [`JSON_DEPTH_MAX`], or a key twice in one object.
pub fn canonical(text: &str) -> Result<String, String> {
    if text.len() > JSON_BYTES_MAX {
        return Err(format!("json_bytes_max: at most {JSON_BYTES_MAX} bytes, found {}", text.len()));
    }
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut out = String::with_capacity(text.len());
    write_canonical(raw, 0, &mut out)?;
    Ok(out)
}

// Each level parses its children as raw texts, so a value is scanned once per level: bounded by depth x size.
fn write_canonical(raw: &RawValue, depth: usize, out: &mut String) -> Result<(), String> {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'{' | b'[') if depth == JSON_DEPTH_MAX => {
            Err(format!("json_depth_max: nested at most {JSON_DEPTH_MAX} deep"))
        }
        Some(b'{') => {
            let Members(mut members) = parse(text)?;
            members.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            out.push('{');
            for (index, (key, value)) in members.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(&key, out)?;
                out.push(':');
                write_canonical(value, depth + 1, out)?;
            }
            out.push('}');
            Ok(())
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = parse(text)?;
            out.push('[');
            for (index, item) in items.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_canonical(item, depth + 1, out)?;
            }
            out.push(']');
            Ok(())
        }
        Some(b'"') => write_string(&parse::<Cow<'_, str>>(text)?, out),
        _ => {
            out.push_str(text);
            Ok(())
        }
    }
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn write_string(text: &str, out: &mut String) -> Result<(), String> {
    out.push_str(&serde_json::to_string(text).map_err(|error| error.to_string())?);
    Ok(())
}

struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members: Vec<(String, &RawValue)> = Vec::new();
                let mut seen = BTreeSet::new();
                while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
                    if !seen.insert(key.clone()) {
                        return Err(de::Error::custom(format!("the key {key:?} stands twice in one object")));
                    }
                    members.push((key, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn canonical_form_sorts_keys_and_keeps_numbers_as_spelled() {
        let text = r#" { "b" : [1.0, 1e2, 18446744073709551615, 9007199254740993], "a\u0041" : "\u00e9\/" } "#;
        assert_eq!(canonical(text).unwrap(), r#"{"aA":"é/","b":[1.0,1e2,18446744073709551615,9007199254740993]}"#);
    }

    #[test]
    fn duplicate_keys_depth_and_length_are_refused() {
        assert!(canonical(r#"{"a":{"x":1,"x":2}}"#).unwrap_err().contains("twice"));
        assert!(canonical(r#"{"x":1,"\u0078":2}"#).unwrap_err().contains("twice"));
        let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(canonical(&deep(JSON_DEPTH_MAX)).is_ok());
        assert!(canonical(&deep(JSON_DEPTH_MAX + 1)).unwrap_err().contains("json_depth_max"));
        assert!(canonical(&format!("\"{}\"", "x".repeat(JSON_BYTES_MAX - 2))).is_ok());
        assert!(canonical(&format!("\"{}\"", "x".repeat(JSON_BYTES_MAX - 1))).unwrap_err().contains("json_bytes_max"));
    }

    #[test]
    fn json_keeps_its_bytes_through_arguments_and_payloads() {
        let json: Json = serde_json::from_str("{ \"b\" : 1.50 ,\t\"a\":[ ] }").unwrap();
        assert_eq!(json.as_str(), "{ \"b\" : 1.50 ,\t\"a\":[ ] }");
        let packed = rmp_serde::to_vec_named(&json).unwrap();
        assert_eq!(rmp_serde::from_slice::<Json>(&packed).unwrap(), json);
        assert_eq!(serde_json::to_string(&json).unwrap(), json.as_str());
    }
}
