use clap::Args;
use serde_json::json;
use tasklog_log::note::VerifierKey;

use super::{
    Context, Ended,
    events::show,
    mask::Mask,
    output::{GOOD, number},
    proof_files::{self, CheckpointFile, refused, signed, told},
};
use crate::{
    Error,
    proof::{ConsistencyProof, InclusionProof, Proof},
};

/// Check a proof file against a checkpoint, without the store.
///
/// Nothing but the two files is read. What is proved is as good as the checkpoint: keep it yourself, or let --key check who
/// has signed it.
#[derive(Args)]
pub(crate) struct Check {
    /// The proof file, made by tasklog prove; - for standard input
    #[arg(value_name = "PROOFFILE", value_parser = proof_files::proof)]
    proof: Proof,
    /// The checkpoint that the proof is for
    #[arg(long, value_name = "FILE", value_parser = proof_files::checkpoint)]
    checkpoint: CheckpointFile,
    /// The verifier key that must have signed the checkpoint
    #[arg(long, value_name = "VERIFIERKEY", value_parser = proof_files::verifier_key)]
    key: Option<VerifierKey>,
    /// The older checkpoint that you kept; a proof of consistency about another one is refused
    #[arg(long, value_name = "FILE", value_parser = proof_files::checkpoint)]
    older: Option<CheckpointFile>,
}

impl Check {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        let Self { proof, checkpoint, key, older } = &self;
        let by = match self.why_not() {
            Ok(by) => by,
            Err(why) => {
                refused(context, &why)?;
                return Ok(Ended::Refused);
            }
        };
        match proof {
            Proof::Inclusion(proof) => inclusion(context, proof, checkpoint, &by)?,
            Proof::Consistency(proof) => consistency(context, proof, checkpoint, &by, key.as_ref(), older.is_some())?,
        }
        Ok(Ended::Well)
    }

    /// Who has signed the checkpoint; or why nothing is proved.
    fn why_not(&self) -> Result<String, String> {
        let Self { proof, checkpoint: CheckpointFile { note, stated }, key, older } = self;
        let by = signed(note, key.as_ref()).map_err(|why| format!("the checkpoint: {why}"))?;
        proof.check(stated).map_err(|error| error.to_string())?;
        match (proof, older) {
            (Proof::Inclusion(_), Some(_)) => Err("the proof is about an event and has no older checkpoint".into()),
            (Proof::Consistency(proof), Some(mine)) if proof.stated() != mine.stated => {
                Err(format!("the proof is about another older checkpoint: {}", told(&proof.stated())))
            }
            _ => Ok(by),
        }
    }
}

fn proved(context: &Context, what: &str, checkpoint: &CheckpointFile, by: &str) -> Result<(), Error> {
    context.out.line(format!("{}✓{} proved: {what}", GOOD.render(), GOOD.render_reset()))?;
    context.out.line(format!("  checkpoint: {}; {by}", told(&checkpoint.stated)))
}

fn inclusion(context: &Context, proof: &InclusionProof, checkpoint: &CheckpointFile, by: &str) -> Result<(), Error> {
    let Some(event) = proof.event() else { return Ok(()) };
    if context.out.json {
        let value = json!({
            "ok": true, "kind": "inclusion", "origin": proof.origin, "size": proof.size, "position": event.position,
            "root": checkpoint.stated.root.to_string(), "signature": by,
        });
        context.out.line(value.to_string())?;
    } else {
        let (size, origin) = (number(proof.size), &proof.origin);
        let what = format!("this is event {} of the {size} events of {origin}", event.position);
        proved(context, &what, checkpoint, by)?;
    }
    show(context, &mut Mask::new(context.out.show_sensitive), &proof.commit, event)
}

fn consistency(
    context: &Context,
    proof: &ConsistencyProof,
    checkpoint: &CheckpointFile,
    by: &str,
    key: Option<&VerifierKey>,
    is_mine: bool,
) -> Result<(), Error> {
    let older = proof.stated();
    let older_by = match signed(&proof.older, key) {
        _ if is_mine => "the one you gave".to_owned(),
        Ok(by) => by,
        Err(why) => format!("{why}: compare it with your own, or give it as --older"),
    };
    if context.out.json {
        let value = json!({
            "ok": true, "kind": "consistency", "origin": proof.origin, "size": proof.size,
            "root": checkpoint.stated.root.to_string(), "signature": by, "older_size": older.size,
            "older_root": older.root.to_string(), "older_signature": older_by,
        });
        return context.out.line(value.to_string());
    }
    let what = format!(
        "the first {} of the {} events are those of the older checkpoint, unchanged and in order",
        number(older.size),
        number(proof.size)
    );
    proved(context, &what, checkpoint, by)?;
    context.out.line(format!("  older checkpoint: {}; {older_by}", told(&older)))
}
