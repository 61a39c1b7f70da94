//! One route as an operation: what it takes, what it answers, and how it refuses.

use serde_json::{Map, Value, json};

use super::{
    parameters::parameters,
    problems::PROBLEMS,
    schemas::{Schemas, query_args},
};
use crate::{
    serve::{auth::Access, routes::Route},
    task_api::{ErrorBody, TaskView, Tasks},
};

pub(super) fn operation(route: &Route, schemas: &mut Schemas) -> Value {
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
pub(super) fn operation_id(route: &Route) -> String {
    let words = route.path.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let words: Vec<_> = std::iter::once(route.method.to_ascii_lowercase()).chain(words.map(str::to_owned)).collect();
    words.join("_")
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
