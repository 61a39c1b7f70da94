//! What `tasklog serve` says of itself: log lines, and spans where somebody collects them.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing_subscriber::{EnvFilter, Layer, Registry, layer::SubscriberExt, util::SubscriberInitExt};

/// The part of the command line that is about logs and traces.
#[derive(Args)]
pub(super) struct LogArgs {
    /// How log lines are written to standard error; TASKLOG_LOG chooses which (such as info,tasklog::requests=debug)
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
    /// The OpenTelemetry collector that spans of requests are sent to, such as http://localhost:4318; or
    /// OTEL_EXPORTER_OTLP_ENDPOINT
    #[cfg(feature = "otel")]
    #[arg(long, value_name = "URL")]
    otlp_endpoint: Option<String>,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// What is kept until nothing is said any more: dropping it sends the spans that are left.
pub(super) struct Saying {
    #[cfg(feature = "otel")]
    _traces: Option<crate::serve::Traces>,
}

impl LogArgs {
    /// What the service has to say goes to standard error, with its time. Called once, before anything is logged.
    #[cfg(not(feature = "otel"))]
    pub(super) fn begin(&self, filter: EnvFilter) -> Saying {
        let _ = Registry::default().with(filter).with(self.lines()).try_init();
        Saying {}
    }

    /// What the service has to say goes to standard error, with its time, and spans to their collector. Called once, before
    /// anything is logged.
    #[cfg(feature = "otel")]
    pub(super) fn begin(&self, filter: EnvFilter) -> Saying {
        use clap::{CommandFactory, error::ErrorKind};

        let traces = crate::serve::Traces::to(self.otlp_endpoint.as_deref()).unwrap_or_else(|error| {
            let causes = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            super::Cli::command().error(ErrorKind::ValueValidation, format!("{error}{causes}")).exit()
        });
        let no_spans = format!("{}=off", crate::serve::SPANS).parse().expect("a target and a level are a directive");
        let filter = filter.add_directive(no_spans);
        let _ = match &traces {
            None => Registry::default().with(filter).with(self.lines()).try_init(),
            Some(traces) => {
                let lines = self.lines().with_filter(filter);
                Registry::default().with(lines).with(traces.layer()).try_init()
            }
        };
        Saying { _traces: traces }
    }

    fn lines<S>(&self) -> Box<dyn Layer<S> + Send + Sync>
    where
        S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
    {
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let lines = lines.with_ansi(std::io::stderr().is_terminal());
        match self.log_format {
            LogFormat::Text => lines.boxed(),
            LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
        }
    }
}
