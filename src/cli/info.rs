use clap::Args;
use tasklog_log::Position;

use super::{
    Context, Ended,
    at::AsOf,
    output::{self, number},
};
use crate::{
    Error, StoreUrl,
    show::info::StoreInfo,
    store::{FollowerReport, SourceSeen},
};

/// Show what the store is and holds.
#[derive(Args)]
pub(crate) struct Info {
    #[command(flatten)]
    as_of: AsOf,
}

impl Info {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        let store = self.as_of.open(context)?;
        let told = StoreInfo::of(&store, &context.url)?;
        if context.out.json {
            context.out.line(told.json().to_string())?;
            return Ok(Ended::Well);
        }
        let StoreInfo {
            info,
            head,
            first,
            began,
            checkpoint,
            counts,
            built,
            following,
            sizes,
            durability,
            keeping,
            ..
        } = told;
        let line = |name: &str, value: String| context.out.line(format!("{name:<12} {value}"));
        line("store", context.url.to_string())?;
        if let Some(following) = &following {
            let since = output::time(following.since);
            line("replica of", format!("{}, since {since}; it takes no commands", following.source))?;
            line("follower", following.report.as_ref().map_or_else(|| "it has not reported yet".to_owned(), reported))?;
        }
        line("log id", format!("{}, epoch {}", info.id, info.epoch))?;
        let none = first > head.position;
        line("events", if none { "none".into() } else { format!("{} to {}", first, head.position) })?;
        if let Some(began) = began {
            line("began with", format!("the snapshot of event {began}; what was before is in its source"))?;
        }
        let newest = match head.position {
            Position::ZERO => "none".into(),
            _ => format!("{} ({})", output::time(head.recorded_at), head.commit),
        };
        line("newest", newest)?;
        line("tables at", format!("event {}", checkpoint.position))?;
        if matches!(context.url, StoreUrl::Sqlite(_)) && store.moment().is_none() {
            line("size", format!("{} bytes, and {} in the write-ahead log", number(sizes.0), number(sizes.1)))?;
        }
        for (name, value) in keeping.lines() {
            line(name, value)?;
        }
        line("durability", durability)?;
        if let Some(recording) = store.recording() {
            line(
                "clock",
                format!("a recording's, from {}; it stands still between commands", output::time(recording.from)),
            )?;
        }
        let rows: Vec<Vec<String>> = counts
            .iter()
            .zip(&built)
            .map(|((name, rows), built)| {
                vec![(*name).to_owned(), number(*rows), built.map_or("-".into(), |built| built.to_string())]
            })
            .collect();
        context.out.line("")?;
        context.out.table(&["table", "rows", "projection"], &rows)?;
        Ok(Ended::Well)
    }
}

/// What a follower last reported.
fn reported(report: &FollowerReport) -> String {
    let FollowerReport { state, why, reported_at, source } = report;
    let lag = source.map_or_else(
        || "it has never seen its source".to_owned(),
        |source| {
            let SourceSeen { seen_at, position, lag_events, lag_ms } = source;
            let (position, lag_events) = (number(position.0), number(lag_events));
            format!("lag {lag_events} events, {lag_ms} ms behind event {position}, seen {}", output::time(seen_at))
        },
    );
    let why = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("{}, {lag}; reported {}{why}", state.as_str(), output::time(*reported_at))
}
