use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use prometheus::{HistogramVec, IntGauge, Registry, TextEncoder, proto::MetricFamily};

use super::{PREFIX, SHORT_S, gauges, made, opts_of, rebuilds::REBUILDS};
use crate::TaskStore;

/// How long a reading of the gauges is handed out again.
const READING_KEPT: Duration = Duration::from_secs(1);

/// Everything that a process exposes: what the store's writer has counted, what the store's gauges read, and its HTTP side.
pub struct Exposition {
    pod: String,
    http: Registry,
    in_flight: IntGauge,
    requests: HistogramVec,
    reading: Mutex<Reading>,
}

/// The last reading of the gauges.
#[derive(Default)]
struct Reading {
    at: Option<Instant>,
    families: Vec<MetricFamily>,
    counted: gauges::Counted,
}

impl Exposition {
    /// Of a process that holds its leases, or whose orchestrator does, under the name `pod`.
    #[must_use]
    pub fn new(pod: impl Into<String>) -> Self {
        let http = Registry::new();
        let in_flight =
            made(&http, IntGauge::new(format!("{PREFIX}requests_in_flight"), "HTTP requests being answered."));
        let requests = made(
            &http,
            HistogramVec::new(
                opts_of("http_request_seconds", "How long HTTP requests took, by route and status.", SHORT_S),
                &["route", "status"],
            ),
        );
        Self { pod: pod.into(), http, in_flight, requests, reading: Mutex::default() }
    }

    /// A request has come; it is in flight until the answer is dropped.
    #[must_use]
    pub fn request(&self) -> InFlight {
        self.in_flight.inc();
        InFlight { gauge: self.in_flight.clone(), requests: self.requests.clone(), began: Instant::now() }
    }

    /// The text of all metrics. Without a store, while it is being opened, those of the process.
    ///
    /// Reads the store, so it is for threads that may block. If the store does not answer, its gauges are missing.
    pub fn text(&self, store: Option<&TaskStore>) -> String {
        REBUILDS.look();
        let mut families = self.http.gather();
        families.extend(REBUILDS.registry.gather());
        if let Some(store) = store {
            families.extend(store.meters().map(|meters| meters.registry.gather()).unwrap_or_default());
            families.extend(self.gauges(store));
        }
        families.sort_by(|a, b| a.name().cmp(b.name()));
        TextEncoder::new().encode_to_string(&families).unwrap_or_else(|error| {
            tracing::error!(%error, "the metrics have no text");
            String::new()
        })
    }

    fn gauges(&self, store: &TaskStore) -> Vec<MetricFamily> {
        let mut reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if reading.at.is_some_and(|at| at.elapsed() < READING_KEPT) {
            return reading.families.clone();
        }
        let read = gauges::read(store, &self.pod, &mut reading.counted);
        reading.families = read.unwrap_or_else(|error| {
            tracing::warn!(%error, "the gauges were not read");
            Vec::new()
        });
        reading.at = Some(Instant::now());
        reading.families.clone()
    }
}

/// A request that is being answered.
pub struct InFlight {
    gauge: IntGauge,
    requests: HistogramVec,
    began: Instant,
}

impl InFlight {
    /// It was answered with this status. `route` is the pattern of the path, never the path itself.
    pub fn answered(&self, route: &str, status: u16) {
        let took = self.began.elapsed().as_secs_f64();
        self.requests.with_label_values(&[route, &status.to_string()]).observe(took);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}
