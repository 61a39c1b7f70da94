//! The machine-readable description of the service: OpenAPI 3.1, made from the routes and from the types behind them.
//!
//! Paths, parameters and who may call come from [`routes()`]; bodies come from the catalogue of commands, queries and rows,
//! the same that `tasklog commands` prints. What a route has beyond that is said once, in `Shape`.

use std::collections::BTreeMap;

use axum::response::{IntoResponse, Response};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};
use tasklog_projections::{Kind, TABLES, TableDef};

use super::{
    answer::Answer,
    auth::Access,
    routes::{Param, Place, Route, routes},
};
use crate::{
    show::ask::STORE_QUERIES,
    tables::SIDES,
    task_api::{self, ErrorBody, TaskView, Tasks},
    wire::AT_MS_MAX,
};

/// The kinds of problems.
const KINDS: [&str; 21] = [
    "not_found",
    "already_exists",
    "conflict",
    "invalid",
    "not_permitted",
    "lease_lost",
    "unavailable",
    "not_confirmed",
    "diverged",
    "corrupt",
    "schema_ahead",
    "read_only",
    "malformed",
    "unauthorized",
    "method_not_allowed",
    "timeout",
    "too_large",
    "media_type",
    "busy",
    "internal",
    "not_acceptable",
];
/// The statuses that a problem may have.
const PROBLEMS: [(u16, &str); 11] = [
    (400, "the request makes no sense"),
    (401, "a token is needed"),
    (403, "not with this token, or not here"),
    (404, "there is no such thing"),
    (405, "not with this method"),
    (408, "the body did not come in time"),
    (409, "something else is there than expected"),
    (413, "larger than the bound"),
    (415, "unsupported media type"),
    (422, "the command cannot be done"),
    (503, "the store did not answer, or there is no room; Retry-After says when to ask again"),
];

/// `GET /openapi.json`
pub(crate) async fn openapi() -> Response {
    Answer::json(document().to_string()).into_response()
}

/// The document.
#[must_use]
pub fn document() -> Value {
    let mut schemas = Schemas::new();
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for route in routes() {
        let operation = operation(&route, &mut schemas);
        let path = paths.entry(path_of(route.path)).or_default();
        path.insert(route.method.to_ascii_lowercase(), operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "tasklog",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "An event-sourced task registry over HTTP.",
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "paths": paths,
        "components": {
            "schemas": schemas.finish(),
            "responses": responses(),
            "headers": {
                "Tasklog-Position": {
                    "description": "what the answer reflects: everything through this position",
                    "schema": { "type": "integer", "minimum": 0 },
                },
                "Retry-After": { "description": "seconds", "schema": { "type": "integer", "minimum": 0 } },
            },
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "where the service has tokens" },
            },
        },
    })
}

/// A path as OpenAPI writes it: what takes the rest of the path is a parameter like others.
fn path_of(path: &str) -> String {
    path.replace("{*", "{")
}

fn operation(route: &Route, schemas: &mut Schemas) -> Value {
    let shape = Shape::of(route, schemas);
    let mut answers = Map::new();
    answers.insert("200".into(), shape.answer);
    let reads_body = shape.body.is_some();
    for (status, _) in PROBLEMS {
        let only_with_body = matches!(status, 408 | 409 | 413 | 415);
        // Whoever reads on after an event that was lost is told so.
        let reads_on = status == 409 && route.path == "/v1/events";
        if only_with_body && !reads_body && !reads_on || status == 401 && route.access == Access::Open {
            continue;
        }
        let response = match (shape.meilisearch, status) {
            (true, 400 | 404) => json!({ "$ref": format!("#/components/responses/Meilisearch{status}") }),
            _ => json!({ "$ref": format!("#/components/responses/Problem{status}") }),
        };
        answers.insert(status.to_string(), response);
    }
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.about,
        "parameters": route.params.iter().flat_map(|param| parameters(route, param)).collect::<Vec<_>>(),
        "responses": answers,
        // Without tokens in the service, none is needed.
        "security": if route.access == Access::Open { json!([]) } else { json!([{}, { "token": [] }]) },
    });
    if let Some(body) = shape.body {
        operation["requestBody"] = body;
    }
    operation
}

/// `GET /v1/tables/{table}` is `get_v1_tables_table`.
fn operation_id(route: &Route) -> String {
    let words = route.path.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let words: Vec<_> = std::iter::once(route.method.to_ascii_lowercase()).chain(words.map(str::to_owned)).collect();
    words.join("_")
}

fn parameters(route: &Route, param: &Param) -> Vec<Value> {
    let place = match param.place {
        Place::Path => "path",
        Place::Query => "query",
        Place::Header => "header",
    };
    let one = |name: &str, schema: Value| {
        json!({
            "name": name, "in": place, "description": param.about, "required": param.place == Place::Path,
            "schema": schema,
        })
    };
    if param.name == "COLUMN" {
        // Any column of any table: a table that has no such column says so.
        let mut columns: Vec<_> = TABLES.iter().flat_map(|table| table.columns).map(|column| column.name).collect();
        columns.sort_unstable();
        columns.dedup();
        return columns.into_iter().map(|name| one(name, json!({ "type": "string" }))).collect();
    }
    if (param.place, param.name) == (Place::Query, "args") {
        let mut parameter = one(param.name, Value::Null);
        if let Some(members) = parameter.as_object_mut() {
            members.remove("schema");
            members.insert("content".into(), json!({ "application/json": { "schema": query_args() } }));
        }
        return vec![parameter];
    }
    vec![one(param.name, parameter_schema(route, param))]
}

fn parameter_schema(route: &Route, param: &Param) -> Value {
    let is_task_api = route.path.starts_with("/tasks");
    let position = json!({ "type": "integer", "minimum": 0, "maximum": i64::MAX });
    match (param.place, param.name) {
        (Place::Path | Place::Query, "table") => {
            json!({ "type": "string", "enum": TABLES.map(|table| table.name) })
        }
        (Place::Path, "name") => json!({ "type": "string", "enum": query_names() }),
        (Place::Path, _) => json!({ "type": "string", "minLength": 1 }),
        (Place::Header, "Idempotency-Key") => uuid(json!("string")),
        (Place::Header, _) | (Place::Query, "after") => position,
        (Place::Query, "limit" | "from") if is_task_api => json!({ "type": "integer", "minimum": 0 }),
        (Place::Query, "limit") => json!({ "type": "integer", "minimum": 1, "maximum": 1_000 }),
        (Place::Query, "reverse") => json!({ "type": "boolean" }),
        (Place::Query, "at") => moment(),
        (Place::Query, "cursor") => json!({ "type": "string", "minLength": 1 }),
        (Place::Query, "statuses") => list(&["enqueued", "processing", "succeeded", "failed", "canceled"].join("|")),
        (Place::Query, "types") => list(&task_api::TYPES.join("|")),
        (Place::Query, "uids" | "batchUids" | "canceledBy") => list("[0-9]{1,18}"),
        (Place::Query, "indexUids") => list("[A-Za-z0-9_-]{1,512}"),
        (Place::Query, _) if is_task_api => json!({ "type": "string", "pattern": format!("^{DAY}({TIME})?$") }),
        _ => json!({ "type": "string" }),
    }
}

/// A position, how long ago, or an RFC 3339 time.
fn moment() -> Value {
    let ago: String = ["w", "d", "h", "m", "s", "ms"].map(|unit| format!("([0-9]{{1,5}}{unit})?")).concat();
    json!({
        "type": "string",
        "anyOf": [
            { "pattern": "^[0-9]{1,18}$" },
            { "pattern": format!("^-{ago}$"), "minLength": 2 },
            { "pattern": format!("^{DAY}{TIME}$") },
        ],
        "examples": ["17", "-15m"],
    })
}

/// A UUID as text. A pattern, because a format is a remark to many validators.
fn uuid(kind: Value) -> Value {
    json!({ "type": kind, "format": "uuid", "pattern": "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$" })
}

/// A day of these centuries; of February 28.
const DAY: &str = "[12][0-9]{3}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|\
                   02-(0[1-9]|1[0-9]|2[0-8]))";
/// What makes a day an RFC 3339 time.
const TIME: &str = "T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])";

/// Items, separated by commas; or all.
fn list(item: &str) -> Value {
    json!({ "type": "string", "pattern": format!("^(\\*|({item})(,({item}))*)$") })
}

fn query_names() -> Vec<&'static str> {
    let of_tables = SIDES.iter().flat_map(|side| side.queries).map(|query| query.name);
    of_tables.chain(STORE_QUERIES).collect()
}

/// What a route takes and answers.
struct Shape {
    body: Option<Value>,
    answer: Value,
    /// Whether it refuses as Meilisearch does.
    meilisearch: bool,
}

impl Shape {
    fn of(route: &Route, schemas: &mut Schemas) -> Self {
        let json_body =
            |schema: Value| json!({ "required": true, "content": { "application/json": { "schema": schema } } });
        let plain = |answer: Value| Self { body: None, answer, meilisearch: false };
        match (route.method, route.path) {
            ("POST", "/v1/commands") => {
                let mut answer = answer(true, "application/json", json!({ "$ref": "#/components/schemas/Reply" }));
                let line =
                    json!({ "type": "string", "description": "one answer a line, as `tasklog apply` prints them" });
                answer["content"]["application/x-ndjson"] = json!({ "schema": line });
                let mut body = json_body(json!({ "$ref": "#/components/schemas/Command" }));
                let lines = json!({ "type": "string", "description": "one command or transaction a line" });
                body["content"]["application/x-ndjson"] = json!({ "schema": lines });
                Self { body: Some(body), answer, meilisearch: false }
            }
            ("POST", "/v1/transactions") => Self {
                body: Some(json_body(json!({ "$ref": "#/components/schemas/Transaction" }))),
                answer: answer(true, "application/json", json!({ "$ref": "#/components/schemas/Reply" })),
                meilisearch: false,
            },
            ("GET", "/v1/tables/{table}") => plain(answer(true, "application/json", rows_page())),
            ("GET", "/v1/tables/{table}/{*key}") => {
                plain(answer(true, "application/json", json!({ "$ref": "#/components/schemas/Row" })))
            }
            ("POST", "/v1/queries/{name}") => Self {
                body: Some(json_body(query_args())),
                answer: answer(true, "application/json", json!({})),
                meilisearch: false,
            },
            ("GET", "/v1/events") => {
                let mut answer = answer(true, "application/json", events_page());
                answer["content"]["text/event-stream"] = json!({ "schema": { "type": "string" } });
                plain(answer)
            }
            ("GET", "/v1/history/{table}/{*key}") => plain(answer(true, "application/json", steps())),
            ("GET", "/tasks") => {
                let schema = schemas.of::<Tasks>();
                Self { body: None, answer: answer(true, "application/json", schema), meilisearch: true }
            }
            ("GET", "/tasks/{uid}") => {
                let schema = schemas.of::<TaskView>();
                schemas.of::<ErrorBody>();
                Self { body: None, answer: answer(true, "application/json", schema), meilisearch: true }
            }
            ("GET", "/metrics") => plain(answer(false, "text/plain", json!({ "type": "string" }))),
            ("GET", "/readyz") => plain(answer(true, "application/json", json!({ "type": "object" }))),
            _ => plain(answer(false, "application/json", json!({}))),
        }
    }
}

fn answer(positioned: bool, media: &str, schema: Value) -> Value {
    let mut answer = json!({ "description": "the answer", "content": { media: { "schema": schema } } });
    if positioned {
        answer["headers"] = json!({ "Tasklog-Position": { "$ref": "#/components/headers/Tasklog-Position" } });
    }
    answer
}

fn rows_page() -> Value {
    json!({
        "type": "object", "required": ["rows", "next"],
        "properties": {
            "rows": { "type": "array", "items": { "$ref": "#/components/schemas/Row" } },
            "next": { "type": ["string", "null"], "description": "the cursor of the next page; null after the last one" },
        },
    })
}

fn events_page() -> Value {
    json!({
        "type": "object", "required": ["events", "next_after", "head"],
        "properties": {
            "events": { "type": "array", "items": { "$ref": "#/components/schemas/Event" } },
            "next_after": { "type": "integer", "minimum": 0 },
            "head": { "type": "integer", "minimum": 0 },
        },
    })
}

fn steps() -> Value {
    json!({
        "type": "object", "required": ["steps"],
        "properties": { "steps": { "type": "array", "items": { "type": "object" } } },
    })
}

fn query_args() -> Value {
    let mut shapes: Vec<_> = SIDES
        .iter()
        .flat_map(|side| side.queries)
        .map(|query| json!({ "$ref": format!("#/components/schemas/query.{}", query.name) }))
        .collect();
    shapes.push(json!({ "type": "object" }));
    json!({ "anyOf": shapes })
}

fn responses() -> Value {
    let mut responses = Map::new();
    for (status, about) in PROBLEMS {
        let mut problem = json!({
            "description": about,
            "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
        });
        if status == 503 {
            problem["headers"] = json!({ "Retry-After": { "$ref": "#/components/headers/Retry-After" } });
        }
        if matches!(status, 400 | 404) {
            let mut refused = problem.clone();
            refused["content"]["application/json"] = json!({ "schema": { "$ref": "#/components/schemas/ErrorBody" } });
            responses.insert(format!("Meilisearch{status}"), refused);
        }
        responses.insert(format!("Problem{status}"), problem);
    }
    Value::Object(responses)
}

/// The schemas that operations refer to.
struct Schemas {
    generator: SchemaGenerator,
    own: Map<String, Value>,
}

impl Schemas {
    fn new() -> Self {
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
    fn of<T: JsonSchema>(&mut self) -> Value {
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
        let items = json!({ "type": "array", "minItems": 1, "maxItems": 1_000, "items": { "oneOf": items } });
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

    fn finish(mut self) -> Value {
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
    let text = json!({ "type": ["string", "null"], "maxLength": 1_024, "pattern": r"^[^\x00-\x1f\x7f-\x9f]*$" });
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

fn problem() -> Value {
    json!({
        "type": "object", "required": ["type", "title", "status", "detail", "kind"],
        "properties": {
            "type": { "type": "string", "format": "uri" }, "title": { "type": "string" },
            "status": { "type": "integer" }, "detail": { "type": "string" },
            "kind": { "type": "string", "enum": KINDS },
            "expected": { "type": "string" }, "actual": { "type": "string" },
        },
    })
}

#[cfg(test)]
#[path = "openapi_tests.rs"]
mod tests;
