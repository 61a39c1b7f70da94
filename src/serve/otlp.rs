//! Where the spans of requests go: to an OpenTelemetry collector, as protobuf over HTTP (OTLP).
//!
//! ```text
//! request ─► span ends ─► queue ─► one thread: batch ─► POST <endpoint>/v1/traces
//!                           └ full: dropped
//! ```
//!
//! A request puts its span into the queue and goes on; a collector that is slow or gone costs spans, never time. The
//! environment variables are those of OpenTelemetry's specification, read by its SDK.

use std::{
    env,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::http::{Request, Response, Uri};
use bytes::Bytes;
use opentelemetry::{Key, KeyValue, trace::TracerProvider};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{
    OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TIMEOUT, OTEL_EXPORTER_OTLP_TIMEOUT_DEFAULT,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_TIMEOUT, Protocol, SpanExporter, WithExportConfig,
    WithHttpConfig,
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{BatchSpanProcessor, SdkTracerProvider, SpanData},
};
use tracing::{Level, Subscriber};
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};
use ureq::{
    Agent,
    tls::{RootCerts, TlsConfig},
};

use super::spans::SPANS;

/// How long the end of the process waits for spans to be sent.
const FLUSH_MAX: Duration = Duration::from_secs(5);
/// Bytes of a collector's answer.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// What spans are sent to below an endpoint.
const TRACES_PATH: &str = "v1/traces";
/// What the SDK calls a service that has no name.
const NAMELESS: &str = "unknown_service";

/// Why spans cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The endpoint is no address of a collector.
    #[error("{given:?} is no endpoint for traces: expected http://HOST:PORT or https://HOST:PORT")]
    Endpoint {
        /// What was given.
        given: String,
    },
    /// An environment variable says what cannot be done.
    #[error("exporting traces")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Exports spans until it is dropped; then what is queued is sent, as far as five seconds allow.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Spans go to this endpoint, or to the one that OpenTelemetry's environment variables name; without either there are
    /// none.
    ///
    /// # Errors
    /// See [`TraceError`].
    pub fn to(given: Option<&str>) -> Result<Option<Self>, TraceError> {
        let variable = |name: &str| env::var(name).ok();
        let Some(endpoint) = endpoint(given, variable)? else { return Ok(None) };
        let client = Client::new(timeout(variable));
        let cause = Arc::clone(&client.cause);
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint.to_string())
            .build()?;
        let processor =
            BatchSpanProcessor::builder(Reported { exporter, cause, failing: AtomicBool::new(false) }).build();
        let provider = SdkTracerProvider::builder().with_span_processor(processor).with_resource(resource()).build();
        Ok(Some(Self { provider }))
    }

    /// The layer of a subscriber that takes spans, and nothing else.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("tasklog"))
            .with_location(false)
            .with_threads(false)
            .with_level(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false)
            .with_filter(Targets::new().with_target(SPANS, Level::INFO))
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown_with_timeout(FLUSH_MAX) {
            tracing::warn!(%error, "ending without having sent all spans");
        }
    }
}

/// Where spans are sent to: the option and the general variable name a collector, the variable for traces the whole URL.
fn endpoint(given: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Uri>, TraceError> {
    let below = |base: &str| format!("{}/{TRACES_PATH}", base.trim_end_matches('/'));
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let named = given
        .map(below)
        .or_else(|| set(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT))
        .or_else(|| set(OTEL_EXPORTER_OTLP_ENDPOINT).map(|base| below(&base)));
    let Some(named) = named else { return Ok(None) };
    match named.parse::<Uri>() {
        Ok(uri) if matches!(uri.scheme_str(), Some("http" | "https")) => Ok(Some(uri)),
        _ => Err(TraceError::Endpoint { given: named }),
    }
}

/// How long one batch may take to be sent; the SDK does not interrupt whoever sends.
fn timeout(variable: impl Fn(&str) -> Option<String>) -> Duration {
    let ms = |name| variable(name)?.parse().ok().map(Duration::from_millis);
    ms(OTEL_EXPORTER_OTLP_TRACES_TIMEOUT)
        .or_else(|| ms(OTEL_EXPORTER_OTLP_TIMEOUT))
        .unwrap_or(OTEL_EXPORTER_OTLP_TIMEOUT_DEFAULT)
}

/// Who sends the spans: what the environment says, `tasklog` if it says no name.
fn resource() -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let said = Resource::builder().build();
    let name = said.get(&Key::from_static_str("service.name")).map(|name| name.to_string()).unwrap_or_default();
    let name = if name.starts_with(NAMELESS) { "tasklog".to_owned() } else { name };
    let mut attributes = vec![version];
    attributes.extend(said.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())));
    Resource::builder_empty().with_attributes(attributes).with_service_name(name).build()
}

/// Why a batch was not sent, on its way past the exporter.
type Cause = Arc<Mutex<Option<String>>>;

/// An exporter that says once that it fails, not with every batch.
#[derive(Debug)]
struct Reported {
    exporter: SpanExporter,
    /// Why the client could not send the last batch that it could not send.
    cause: Cause,
    failing: AtomicBool,
}

impl opentelemetry_sdk::trace::SpanExporter for Reported {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        match self.exporter.export(batch).await {
            Ok(()) => {
                if self.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("spans are exported again");
                }
            }
            Err(error) => {
                if !self.failing.swap(true, Ordering::Relaxed) {
                    // The exporter says that there was an error, not which.
                    let cause = self.cause.lock().unwrap_or_else(PoisonError::into_inner).take();
                    let error = cause.unwrap_or_else(|| error.to_string());
                    tracing::warn!(%error, "spans are not exported and lost; this is not said again until some are");
                }
            }
        }
        // It is said; the SDK would say it again each time.
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Sends batches. It blocks: whoever sends is a thread of the SDK that does nothing else and has no runtime.
#[derive(Debug)]
struct Client {
    agent: Agent,
    cause: Cause,
}

impl Client {
    fn new(timeout: Duration) -> Self {
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::PlatformVerifier)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // Headers may have a key of the collector, which is for nobody else.
            .max_redirects(0)
            .timeout_global(Some(timeout))
            .tls_config(tls)
            .build();
        Self { agent: Agent::new_with_config(config), cause: Cause::default() }
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ureq::Error> {
        let (parts, body) = request.into_parts();
        let (parts, mut answer) = self.agent.run(Request::from_parts(parts, &*body))?.into_parts();
        let answer = answer.with_config().limit(ANSWER_BYTES_MAX).read_to_vec()?;
        Ok(Response::from_parts(parts, answer.into()))
    }
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        self.send(request).map_err(|error| {
            *self.cause.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
            error.into()
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn found(given: Option<&str>, variables: &[(&str, &str)]) -> Option<String> {
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        endpoint(given, variable).unwrap().map(|uri| uri.to_string())
    }

    #[test]
    fn the_option_comes_before_the_variable_for_traces_and_that_before_the_general_one() {
        let general = (OTEL_EXPORTER_OTLP_ENDPOINT, "http://general:4318");
        let traces = (OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, "http://traces:4318/here");
        assert_eq!(found(Some("http://option:4318/"), &[general, traces]).unwrap(), "http://option:4318/v1/traces");
        assert_eq!(found(None, &[general, traces]).unwrap(), "http://traces:4318/here");
        assert_eq!(found(None, &[general]).unwrap(), "http://general:4318/v1/traces");
        assert_eq!(found(None, &[]), None);
        assert_eq!(found(None, &[(OTEL_EXPORTER_OTLP_ENDPOINT, "")]), None);
    }

    #[test]
    fn an_endpoint_without_a_scheme_is_refused() {
        for given in ["localhost:4318", "grpc://localhost:4317", "", "/here"] {
            endpoint(Some(given), |_| None).unwrap_err();
        }
    }

    #[test]
    fn a_batch_has_as_long_as_the_environment_says() {
        let said = |name: &'static str| move |asked: &str| (asked == name).then(|| "250".to_owned());
        assert_eq!(timeout(said(OTEL_EXPORTER_OTLP_TIMEOUT)), Duration::from_millis(250));
        assert_eq!(timeout(said(OTEL_EXPORTER_OTLP_TRACES_TIMEOUT)), Duration::from_millis(250));
        assert_eq!(timeout(|_| None), Duration::from_secs(10));
    }
}
