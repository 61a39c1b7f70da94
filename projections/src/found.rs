use std::{collections::BTreeMap, ops::Deref, sync::Arc};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser, ser::SerializeMap};
use tasklog_log::Position;

use crate::{Cell, Column, Hash32, Json, Kind, Row, RowObject};

/// A row as a query answers it, with its rev. In JSON: one member per column, and `rev`.
#[derive(Clone, Debug, PartialEq)]
pub struct Found<R> {
    /// The row.
    pub row: Arc<R>,
    /// The position of its last event.
    pub rev: Position,
}

impl<R> Deref for Found<R> {
    type Target = R;
    fn deref(&self) -> &R {
        &self.row
    }
}

/// A cell as JSON: JSON columns as the value itself, hashes as hex.
///
/// # Errors
/// A sentence, if a JSON column does not hold JSON.
pub fn cell_json(column: &Column, cell: &Cell<'_>) -> Result<Json, String> {
    match (cell, column.kind) {
        (Cell::Null, _) => Json::parse("null"),
        (Cell::Integer(value), _) => Json::parse(&value.to_string()),
        (Cell::Text(text), Kind::Json) => Json::parse(text).map_err(|why| format!("column {}: {why}", column.name)),
        (Cell::Text(text), _) => Ok(Json::from_value(&serde_json::Value::from(text.as_ref()))),
        (Cell::Blob(bytes), _) => Ok(Json::from_value(&serde_json::Value::from(hex::encode(bytes)))),
    }
}

/// A cell from its JSON form.
pub(crate) fn json_cell(column: &Column, json: &Json) -> Result<Cell<'static>, String> {
    let wrong = |error: serde_json::Error| format!("column {}: {error}", column.name);
    let text = json.as_str();
    if text == "null" {
        return Ok(Cell::Null);
    }
    Ok(match column.kind {
        Kind::Integer | Kind::Bool => Cell::Integer(serde_json::from_str(text).map_err(wrong)?),
        Kind::Text => Cell::Text(serde_json::from_str::<String>(text).map_err(wrong)?.into()),
        Kind::Json => Cell::Text(text.to_owned().into()),
        Kind::Hash => Cell::Blob(serde_json::from_str::<Hash32>(text).map_err(wrong)?.0.to_vec().into()),
    })
}

/// Any row as a JSON map of its columns and `rev`.
pub fn serialize_row<S: Serializer>(
    columns: &[Column],
    row: &dyn RowObject,
    rev: Position,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(columns.len() + 1))?;
    for (column, cell) in columns.iter().zip(row.cells()) {
        map.serialize_entry(column.name, &cell_json(column, &cell).map_err(ser::Error::custom)?)?;
    }
    map.serialize_entry("rev", &rev)?;
    map.end()
}

impl<R: Row> Serialize for Found<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_row(R::COLUMNS, &*self.row, self.rev, serializer)
    }
}

impl<'de, R: Row> Deserialize<'de> for Found<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let members = BTreeMap::<String, Json>::deserialize(deserializer)?;
        let member = |name: &str| members.get(name).ok_or_else(|| de::Error::custom(format!("no member {name}")));
        let cells = R::COLUMNS
            .iter()
            .map(|column| json_cell(column, member(column.name)?).map_err(de::Error::custom))
            .collect::<Result<Vec<_>, D::Error>>()?;
        let row = R::from_cells(&CellList(&cells)).map_err(de::Error::custom)?;
        let rev = serde_json::from_str(member("rev")?.as_str()).map_err(de::Error::custom)?;
        Ok(Self { row: Arc::new(row), rev })
    }
}

pub(crate) struct CellList<'a>(pub(crate) &'a [Cell<'static>]);

impl crate::Cells for CellList<'_> {
    fn cell(&self, index: usize) -> Result<Cell<'_>, String> {
        self.0.cell(index)
    }
}

impl<R: Row> JsonSchema for Found<R> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        std::any::type_name::<R>().rsplit("::").next().unwrap_or("Row").to_owned().into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut properties = serde_json::Map::new();
        for column in R::COLUMNS {
            let kind = match column.kind {
                Kind::Integer | Kind::Bool => Some("integer"),
                Kind::Text | Kind::Hash => Some("string"),
                Kind::Json => None,
            };
            let schema = match kind {
                Some(kind) if column.nullable => serde_json::json!({ "type": [kind, "null"] }),
                Some(kind) => serde_json::json!({ "type": kind }),
                None => serde_json::json!({}),
            };
            properties.insert(column.name.into(), schema);
        }
        properties.insert("rev".into(), serde_json::json!({ "type": "integer" }));
        json_schema!({ "type": "object", "properties": properties })
    }
}
