//! The machine-readable description of the service: OpenAPI 3.1, made from the routes and from the types behind them.
//!
//! Paths, parameters and who may call come from [`routes()`]; bodies come from the catalogue of commands, queries and rows,
//! the same that `tasklog commands` prints. What a route has beyond that is said once, in `operation.rs`.

mod operation;
mod parameters;
mod problems;
mod schemas;

use std::collections::BTreeMap;

use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use self::{operation::operation, problems::responses, schemas::Schemas};
use super::{answer::Answer, routes::routes};

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

#[cfg(test)]
#[path = "openapi_tests.rs"]
mod tests;
