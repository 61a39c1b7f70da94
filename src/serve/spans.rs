//! One span per request, in the words of OpenTelemetry's semantic conventions for HTTP.
//!
//! Spans have a target of their own, so that the log can leave them out and the exporter can take them alone: what is logged
//! while a request is answered is no part of its span, and a span is no part of a log line. A path may name a row, so a
//! span has the route and never the path.

use axum::http::{HeaderMap, Method, StatusCode};
use opentelemetry::{Context, propagation::TextMapPropagator};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The target of every span that is exported.
pub const SPANS: &str = "tasklog::spans";

/// Begins the span of a request; its parent is what the `traceparent` header says.
pub(crate) fn begin(method: &Method, route: Option<&str>, headers: &HeaderMap) -> Span {
    let (method, verb) = known(method);
    let name = route.map_or_else(|| verb.to_owned(), |route| format!("{verb} {route}"));
    let span = tracing::info_span!(
        target: SPANS,
        "request",
        otel.name = name,
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
        "error.type" = Empty,
        tasklog.position = Empty,
    );
    if !span.is_disabled() {
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &HeaderExtractor(headers));
        // Refused only if nobody exports spans.
        let _ = span.set_parent(parent);
    }
    span
}

/// Notes how the request ended.
pub(crate) fn end(span: &Span, status: StatusCode, position: Option<u64>) {
    span.record("http.response.status_code", i64::from(status.as_u16()));
    if let Some(position) = position.and_then(|position| i64::try_from(position).ok()) {
        span.record("tasklog.position", position);
    }
    if status.is_server_error() {
        span.record("error.type", status.as_str());
        span.record("otel.status_code", "error");
    }
}

/// The method as an attribute, and in a span's name. Whatever a client makes up has one name, so that there are only so many.
fn known(method: &Method) -> (&str, &str) {
    match method.as_str() {
        name @ ("CONNECT" | "DELETE" | "GET" | "HEAD" | "OPTIONS" | "PATCH" | "POST" | "PUT" | "TRACE") => (name, name),
        _ => ("_OTHER", "HTTP"),
    }
}
