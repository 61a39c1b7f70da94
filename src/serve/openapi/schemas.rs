//! The schemas that operations refer to: those of the types behind commands, queries and rows, and a few that no type has.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};
use tasklog_projections::{Kind, TABLES, TableDef};

use super::problems::problem;
use crate::{engine::TRANSACT_COMMANDS_MAX, tables::SIDES, text::META_BYTES_MAX, wire::AT_MS_MAX};

/// The schemas that operations refer to.
pub(super) struct Schemas {
    generator: SchemaGenerator,
    own: Map<String, Value>,
}

impl Schemas {
    pub(super) fn new() -> Self {
        let generator = SchemaSettings::draft2020_12()
            .with(|settings| settings.definitions_path = "/components/schemas".into())
            .into_generator();
        let mut schemas = Self { generator, own: Map::new() };
        schemas.add_commands();
        schemas.add_rows();
        schemas.own.insert("Event".into(), event());
        schemas.own.insert("Problem".into(), problem());
        schemas
    }

    /// A reference to a type's schema.
    pub(super) fn of<T: JsonSchema>(&mut self) -> Value {
        self.generator.subschema_for::<T>().to_value()
    }

    /// The schema of one type of the catalogue, whose definitions stand beside it.
    fn put(&mut self, name: String, schema: schemars::Schema) {
        let mut value = schema.to_value();
        if let Some(object) = value.as_object_mut() {
            object.remove("$schema");
            if let Some(Value::Object(definitions)) = object.remove("$defs") {
                for (inner, mut schema) in definitions {
                    let inner = format!("{name}.{inner}");
                    point(&mut schema, &name);
                    self.own.insert(inner, schema);
                }
            }
        }
        point(&mut value, &name);
        self.own.insert(name, value);
    }

    fn add_commands(&mut self) {
        let mut commands = Vec::new();
        let mut items = Vec::new();
        let mut answers = Vec::new();
        for command in SIDES.iter().flat_map(|side| side.commands) {
            let (args, adds) = (format!("args.{}", command.name), format!("answer.{}", command.name));
            self.put(args.clone(), (command.args)());
            self.put(adds.clone(), (command.answer)());
            let needs_args = (command.args)().get("required").is_some();
            let mut shape = json!({ "$ref": format!("#/components/schemas/{args}") });
            if !needs_args {
                shape = json!({ "anyOf": [shape, { "type": "null" }] });
            }
            let said = json!({ "command": { "const": command.name }, "args": shape });
            let required = if needs_args { json!(["command", "args"]) } else { json!(["command"]) };
            items.push(closed(&said, &required));
            commands.push(closed(&with_options(said), &required));
            answers.push(json!({ "$ref": format!("#/components/schemas/{adds}") }));
        }
        for query in SIDES.iter().flat_map(|side| side.queries) {
            self.put(format!("query.{}", query.name), (query.args)());
        }
        self.own.insert("Command".into(), json!({ "oneOf": commands }));
        let items =
            json!({ "type": "array", "minItems": 1, "maxItems": TRANSACT_COMMANDS_MAX, "items": { "oneOf": items } });
        let transact = with_options(json!({ "transact": items }));
        self.own.insert("Transaction".into(), closed(&transact, &json!(["transact"])));
        self.own.insert("Reply".into(), reply(answers));
    }

    fn add_rows(&mut self) {
        let mut rows = Vec::new();
        for table in TABLES {
            let name = format!("row.{}", table.name);
            self.own.insert(name.clone(), row(table));
            rows.push(json!({ "$ref": format!("#/components/schemas/{name}") }));
        }
        self.own.insert("Row".into(), json!({ "anyOf": rows }));
    }

    pub(super) fn finish(mut self) -> Value {
        for (name, schema) in self.generator.take_definitions(true) {
            self.own.insert(name, schema);
        }
        Value::Object(self.own)
    }
}

/// References into a schema's own definitions lead to where those were put.
fn point(value: &mut Value, name: &str) {
    match value {
        Value::Object(members) => {
            for (member, value) in members {
                match value {
                    Value::String(to) if member == "$ref" => {
                        if let Some(inner) = to.strip_prefix("#/$defs/") {
                            *to = format!("#/components/schemas/{name}.{inner}");
                        }
                    }
                    value => point(value, name),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| point(item, name)),
        _ => {}
    }
}

/// An object with these members and no others.
fn closed(properties: &Value, required: &Value) -> Value {
    json!({ "type": "object", "required": required, "properties": properties, "additionalProperties": false })
}

/// These members, and what every command and transaction may be told.
fn with_options(mut properties: Value) -> Value {
    let text =
        json!({ "type": ["string", "null"], "maxLength": META_BYTES_MAX, "pattern": r"^[^\x00-\x1f\x7f-\x9f]*$" });
    for name in ["actor", "reason", "request_id"] {
        properties[name] = text.clone();
    }
    properties["command_id"] = uuid(json!(["string", "null"]));
    properties["command_id"]["not"] = json!({ "const": uuid::Uuid::nil() });
    let term = json!({ "type": "integer", "minimum": i64::MIN, "maximum": i64::MAX });
    let mut lease = closed(&json!({ "scope": { "type": "string" }, "term": term }), &json!(["scope", "term"]));
    lease["type"] = json!(["object", "null"]);
    properties["lease"] = lease;
    properties["at_ms"] = json!({
        "type": ["integer", "null"], "minimum": 0, "maximum": AT_MS_MAX,
        "description": "ms since its start, in a store that was created for a recording; ignored in others",
    });
    properties
}

/// The arguments of a query; which of them, its name says.
pub(super) fn query_args() -> Value {
    let mut shapes: Vec<_> = SIDES
        .iter()
        .flat_map(|side| side.queries)
        .map(|query| json!({ "$ref": format!("#/components/schemas/query.{}", query.name) }))
        .collect();
    shapes.push(json!({ "type": "object" }));
    json!({ "anyOf": shapes })
}

fn reply(answers: Vec<Value>) -> Value {
    let rev = json!({ "type": ["integer", "null"] });
    json!({
        "type": "object", "required": ["changed", "commit_id", "position", "rev"],
        "properties": {
            "changed": { "type": "boolean" }, "commit_id": uuid(json!(["string", "null"])),
            "position": { "type": "integer", "minimum": 0 }, "rev": rev, "repeated": { "type": "boolean" },
            "replies": { "type": "array", "items": { "anyOf": answers } },
        },
    })
}

fn row(table: &TableDef) -> Value {
    let mut properties = Map::new();
    for column in table.columns {
        let masked = table.sensitive.contains(&column.name);
        let kind = match column.kind {
            Kind::Json => None,
            _ if masked => Some("string"),
            Kind::Integer | Kind::Bool => Some("integer"),
            Kind::Text | Kind::Hash => Some("string"),
        };
        let schema = match kind {
            Some(kind) if column.nullable => json!({ "type": [kind, "null"] }),
            Some(kind) => json!({ "type": kind }),
            None => json!({}),
        };
        properties.insert(column.name.into(), schema);
    }
    properties.insert("rev".into(), json!({ "type": "integer" }));
    let required: Vec<_> = properties.keys().cloned().collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

fn event() -> Value {
    let text = json!({ "type": "string" });
    json!({
        "type": "object",
        "required": ["position", "commit_id", "recorded_at", "actor", "table", "key", "type", "type_version", "payload"],
        "properties": {
            "position": { "type": "integer" }, "commit_id": uuid(json!("string")),
            "recorded_at": { "type": "integer" }, "actor": text, "reason": { "type": ["string", "null"] },
            "request_id": { "type": ["string", "null"] }, "table": text, "key": text, "type": text,
            "type_version": { "type": "integer" }, "prev": { "type": ["integer", "null"] }, "payload": {},
        },
    })
}

/// A UUID as text. A pattern, because a format is a remark to many validators.
pub(super) fn uuid(kind: Value) -> Value {
    json!({ "type": kind, "format": "uuid", "pattern": "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$" })
}
