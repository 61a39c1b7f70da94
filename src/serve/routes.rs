//! The one list of what is served.

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware::from_fn_with_state,
    routing::{MethodRouter, get, post},
};

pub use super::auth::Access;
use super::{commands, events, guard, health, history, info, queries, state::App, tables};

/// A route: everything that the router, the documentation and the machine-readable description need to know of it.
pub struct Route {
    /// `GET` or `POST`
    pub method: &'static str,
    /// As axum writes it; `{*key}` takes the rest of the path.
    pub path: &'static str,
    /// One line.
    pub about: &'static str,
    /// What it asks of its caller.
    pub access: Access,
    /// What it may be told beside its body.
    pub params: Vec<Param>,
    pub(crate) handler: MethodRouter<App>,
}

/// Something a route may be told beside its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param {
    /// Where it stands.
    pub place: Place,
    /// Its name.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
}

/// Where a parameter stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the path.
    Path,
    /// In the query string.
    Query,
    /// In a header.
    Header,
}

const fn path(name: &'static str, about: &'static str) -> Param {
    Param { place: Place::Path, name, about }
}

const fn query(name: &'static str, about: &'static str) -> Param {
    Param { place: Place::Query, name, about }
}

const fn header(name: &'static str, about: &'static str) -> Param {
    Param { place: Place::Header, name, about }
}

const TABLE: Param = path("table", "one of the 14 tables");
const KEY: Param =
    path("key", "the row key; a two-part key is written a/b; what is special in a path is percent-encoded");
const AT: Param =
    query("at", "answer as of an earlier moment: a position, an RFC 3339 time, or how long ago, such as -15m");
const MIN_POSITION: Param = header("Tasklog-Min-Position", "wait until the store has this position");
const IDEMPOTENCY_KEY: Param =
    header("Idempotency-Key", "a UUID, the command_id: a repeat within 24 hours answers the first outcome");

/// Everything that is served. The paths are distinct per method.
#[must_use]
pub fn routes() -> Vec<Route> {
    vec![
        Route {
            method: "POST",
            path: "/v1/commands",
            about: "run a command; or a stream of them, one a line, answered line by line",
            access: Access::Write,
            params: vec![IDEMPOTENCY_KEY],
            handler: post(commands::commands),
        },
        Route {
            method: "POST",
            path: "/v1/transactions",
            about: "run several commands as one commit, all or nothing",
            access: Access::Write,
            params: vec![IDEMPOTENCY_KEY],
            handler: post(commands::transactions),
        },
        Route {
            method: "GET",
            path: "/v1/tables/{table}",
            about: "list rows",
            access: Access::Read,
            params: vec![
                TABLE,
                query("COLUMN", "only rows where this column has this value; any column, several are joined by and"),
                query("limit", "at most this many rows: 1 to 1000, 100 if absent"),
                query("cursor", "go on where the page before ended: its `next`"),
                AT,
                MIN_POSITION,
            ],
            handler: get(tables::list),
        },
        Route {
            method: "GET",
            path: "/v1/tables/{table}/{*key}",
            about: "one row",
            access: Access::Read,
            params: vec![TABLE, KEY, AT, MIN_POSITION],
            handler: get(tables::row),
        },
        Route {
            method: "GET",
            path: "/v1/queries/{name}",
            about: "ask a query of the catalogue",
            access: Access::Read,
            params: vec![
                path("name", "such as tasks.unfinished"),
                query("args", "its arguments, a JSON object"),
                AT,
                MIN_POSITION,
            ],
            handler: get(queries::get),
        },
        Route {
            method: "POST",
            path: "/v1/queries/{name}",
            about: "ask a query of the catalogue; its arguments are the body",
            access: Access::Read,
            params: vec![path("name", "such as tasks.unfinished"), AT, MIN_POSITION],
            handler: post(queries::post),
        },
        Route {
            method: "GET",
            path: "/v1/history/{table}/{*key}",
            about: "everything that happened to one row, field by field",
            access: Access::Read,
            params: vec![
                TABLE,
                KEY,
                query("after", "only steps after this position (exclusive): the `next_after` of the page before"),
                query("limit", "at most this many steps: 1 to 1000, 100 if absent"),
                AT,
                MIN_POSITION,
            ],
            handler: get(history::history),
        },
        Route {
            method: "GET",
            path: "/v1/events",
            about: "the audit trail in pages; or, with Accept: text/event-stream, as it goes on",
            access: Access::Read,
            params: vec![
                query("after", "only events after this position (exclusive)"),
                query("limit", "at most this many events: 1 to 1000, 100 if absent; not for a live tail"),
                query("table", "only this table"),
                query("key", "only this row key"),
                query("type", "only this event type"),
                query("actor", "only this actor"),
                header("Last-Event-ID", "a live tail goes on after this position; it goes before `after`"),
                MIN_POSITION,
            ],
            handler: get(events::events),
        },
        Route {
            method: "GET",
            path: "/v1/info",
            about: "what the store is and holds",
            access: Access::Read,
            params: vec![MIN_POSITION],
            handler: get(info::info),
        },
        Route {
            method: "GET",
            path: "/healthz",
            about: "the process is alive",
            access: Access::Open,
            params: vec![],
            handler: get(health::healthz),
        },
        Route {
            method: "GET",
            path: "/readyz",
            about: "the store answers, its log and tables agree, and the process is neither opening it nor stopping",
            access: Access::Open,
            params: vec![],
            handler: get(health::readyz),
        },
    ]
}

/// Which of the two listeners a router is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listener {
    Main,
    /// Health and metrics, open.
    Metrics,
}

/// The router of one listener.
pub(crate) fn router(app: &App, listener: Listener) -> Router {
    let mut router = Router::new();
    for route in routes() {
        let access = match (listener, route.access) {
            (Listener::Metrics, Access::Open | Access::Metrics) => Access::Open,
            (Listener::Metrics, _) => continue,
            (Listener::Main, access) => access,
        };
        let admit = from_fn_with_state((app.clone(), access), guard::admit);
        router = router.route(route.path, route.handler.route_layer(admit));
    }
    router
        .fallback(guard::no_such_path)
        .method_not_allowed_fallback(guard::method_not_allowed)
        .layer(from_fn_with_state(app.clone(), guard::watch))
        // Bodies are bounded where they are read.
        .layer(DefaultBodyLimit::disable())
        .with_state(app.clone())
}

/// The methods of a path, for whoever used another one.
pub(crate) fn allowed(path: &str) -> &'static str {
    let mut allowed: Vec<_> = routes().iter().filter(|route| route.path == path).map(|route| route.method).collect();
    allowed.sort_unstable();
    match &allowed[..] {
        ["POST"] => "POST",
        ["GET"] => "GET, HEAD",
        _ => "GET, HEAD, POST",
    }
}
