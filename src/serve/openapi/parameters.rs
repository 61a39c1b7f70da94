//! The parameters of a route, with patterns that are as strict as the service.

use serde_json::{Value, json};
use tasklog_projections::TABLES;

use super::schemas::{query_args, uuid};
use crate::{
    serve::{
        asked::PAGE_ITEMS_MAX,
        routes::{Param, Place, Route},
    },
    show::ask::STORE_QUERIES,
    tables::SIDES,
    task_api,
};

pub(super) fn parameters(route: &Route, param: &Param) -> Vec<Value> {
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
        (Place::Query, "limit") => json!({ "type": "integer", "minimum": 1, "maximum": PAGE_ITEMS_MAX }),
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
