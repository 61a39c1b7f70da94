use std::time::Instant;

use serde_json::json;
use tasklog_log::{Position, note::VerifierKey};

use super::{
    Context, Ended,
    output::{self, GOOD, number},
    proof_files::{CheckpointFile, refused, signed, told},
};
use crate::Error;

/// `verify --against`: computes the root of what a checkpoint covers from the events themselves.
pub(super) fn verify(
    context: &Context,
    CheckpointFile { note, stated }: &CheckpointFile,
    key: Option<&VerifierKey>,
) -> Result<Ended, Error> {
    let by = match signed(note, key) {
        Ok(by) => by,
        Err(why) => {
            refused(context, &format!("the checkpoint: {why}"))?;
            return Ok(Ended::Refused);
        }
    };
    let store = context.open_to_read()?;
    let began = Instant::now();
    let bar = output::progress(Some(stated.size), "events");
    let against = store.verify_against(stated, |position| bar.set_position(position.0));
    bar.finish_and_clear();
    let (against, seconds) = (against?, began.elapsed().as_secs_f64());
    if let Some(why) = &against.problem {
        refused(context, why)?;
        return Ok(Ended::Refused);
    }
    if context.out.json {
        let value = json!({
            "ok": true, "size": stated.size, "root": stated.root.to_string(), "head": against.head, "signature": by,
            "taken_from_kept_hashes_through": against.taken, "seconds": seconds,
        });
        context.out.line(value.to_string())?;
        return Ok(Ended::Well);
    }
    let goes_on = match against.head.0 {
        head if head == stated.size => "ends there".to_owned(),
        head => format!("goes on to event {}", number(head)),
    };
    context.out.line(format!(
        "{}✓{} unchanged: events 1 to {} are those of the checkpoint; the log {goes_on}, in {seconds:.1} s",
        GOOD.render(),
        GOOD.render_reset(),
        number(stated.size),
    ))?;
    context.out.line(format!("  checkpoint: {}; {by}", told(stated)))?;
    if against.taken > Position::ZERO {
        context.out.line(format!(
            "  events 1 to {} are not all in the log: the hashes that were kept stand for them",
            number(against.taken.0)
        ))?;
    }
    Ok(Ended::Well)
}
