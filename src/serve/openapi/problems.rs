//! How the service refuses: statuses and kinds of problems.

use serde_json::{Map, Value, json};

/// The kinds of problems.
const KINDS: [&str; 19] = [
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
];
/// The statuses that a problem may have.
pub(super) const PROBLEMS: [(u16, &str); 11] = [
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

pub(super) fn responses() -> Value {
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

pub(super) fn problem() -> Value {
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
