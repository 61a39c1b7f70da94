//! What `tasklog serve` is told about its place in a deployment.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use crate::serve::{
    DutySettings,
    deployment::{Values, check},
};

/// The part of the command line that is about a deployment.
#[derive(Args)]
#[command(next_help_heading = "Deployment")]
pub(super) struct DeploymentArgs {
    /// The pod's name: what it, or the orchestrator beside it, calls itself as holder of leases; host and process by default
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pod: Option<String>,
    /// The deployment's values as a JSON object; the service does not start if they break a rule
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Leave pruning, purging and requeueing to other processes
    #[arg(long)]
    no_duties: bool,
    /// How often old tasks and jobs are looked for
    #[arg(long, value_name = "SECONDS", default_value_t = DutySettings::new("").prune_interval.as_secs(),
        value_parser = clap::value_parser!(u64).range(1..))]
    prune_interval_s: u64,
    /// How often dead claims and delegated jobs are looked for
    #[arg(long, value_name = "SECONDS", default_value_t = DutySettings::new("").requeue_interval.as_secs(),
        value_parser = clap::value_parser!(u64).range(1..))]
    requeue_interval_s: u64,
}

impl DeploymentArgs {
    /// Why the service does not start, if the values break a rule.
    pub(super) fn refuse(&self) -> Result<(), String> {
        let Some(file) = &self.config else { return Ok(()) };
        let values = Values::read(file).map_err(|error| format!("--config: {error}"))?;
        let broken: Vec<_> = check(&values).iter().map(ToString::to_string).collect();
        if broken.is_empty() { Ok(()) } else { Err(broken.join("\n")) }
    }

    /// The pod's name.
    pub(super) fn pod(&self) -> String {
        self.pod.clone().unwrap_or_else(unique)
    }

    /// The duties, unless they are left to others. Two processes of one pod must not hold leases under one name.
    pub(super) fn duties(&self) -> Option<DutySettings> {
        let settings = DutySettings {
            prune_interval: Duration::from_secs(self.prune_interval_s),
            requeue_interval: Duration::from_secs(self.requeue_interval_s),
            ..DutySettings::new(unique())
        };
        (!self.no_duties).then_some(settings)
    }
}

fn unique() -> String {
    let system = rustix::system::uname();
    format!("{}-{}", system.nodename().to_string_lossy(), std::process::id())
}
