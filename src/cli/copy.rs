use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::{
    Context, Ended,
    output::{self, BAD, GOOD, number},
    signals::stop_flag,
};
use crate::{Error, StoreUrl, copy::copy, follow::Note};

/// Copy a store: the log byte for byte, with the same positions, ids and instants, and the tables that follow from it.
///
/// The destination must be empty or a prefix of the source, so a copy that was interrupted is repeated to go on. At the end
/// the digests of both logs and of every table are compared. The destination is an ordinary store: stop the source's
/// writers before the last run, and do not let them begin again.
#[derive(Args)]
pub(crate) struct Copy {
    /// The store to copy
    #[arg(long, value_name = "URL")]
    from: StoreUrl,
    /// Where to
    #[arg(long, value_name = "URL")]
    to: StoreUrl,
}

impl Copy {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        let stop = stop_flag()?;
        let began = Instant::now();
        let bar = output::progress(Some(0), "events");
        let copied = copy(&self.from, &self.to, &stop, &mut |note| {
            if let Note::Progress { at, source, .. } = note {
                bar.set_length(source.position.0);
                bar.set_position(at.position.0);
            }
        });
        bar.finish_and_clear();
        let copied = copied?;
        let ok = copied.compared.iter().all(crate::copy::Compared::equal);
        let (events, seconds) = (copied.head.0 - copied.from.0, began.elapsed().as_secs_f64());
        if context.out.json {
            let compared: Vec<_> = copied
                .compared
                .iter()
                .map(|one| {
                    json!({
                        "part": one.part, "count": one.count, "source": one.source, "destination": one.destination,
                        "equal": one.equal(),
                    })
                })
                .collect();
            let value = json!({
                "ok": ok, "from": copied.from, "head": copied.head, "events": events, "answers": copied.answers,
                "seconds": seconds, "compared": compared,
            });
            context.out.line(value.to_string())?;
        } else {
            let rows: Vec<Vec<String>> = copied
                .compared
                .iter()
                .map(|one| {
                    let verdict = if one.equal() { "equal".into() } else { format!("differs: {}", one.destination) };
                    vec![one.part.to_owned(), number(one.count), one.source.clone(), verdict]
                })
                .collect();
            context.out.table(&["part", "count", "sha256", "destination"], &rows)?;
            let (style, verdict) =
                if ok { (GOOD, "✓ both sides are equal") } else { (BAD, "✗ the two sides differ") };
            context.out.line(format!(
                "{}{verdict}{}: {} events copied to {}, which ends at event {}, and {} kept answers, in {seconds:.1} s",
                style.render(),
                style.render_reset(),
                number(events),
                self.to,
                copied.head,
                number(copied.answers),
            ))?;
        }
        Ok(if ok { Ended::Well } else { Ended::Refused })
    }
}
