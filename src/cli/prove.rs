use std::path::PathBuf;

use clap::Args;
use tasklog_log::Position;

use super::{
    Context, Ended,
    proof_files::{self, CheckpointFile, refused},
};
use crate::{
    Error, Rejection,
    proof::{ConsistencyProof, InclusionProof, Proof},
};

/// Write a proof that an event is in the log, or that the log only grew since a checkpoint.
///
/// The proof is checked by `tasklog check`, without the store. SENSITIVE: a proof of an event contains all of it, with its key
/// and its payload, and nothing in it is masked. A proof of consistency contains hashes only.
#[derive(Args)]
pub(crate) struct Prove {
    /// The event to prove
    #[arg(required_unless_present = "consistency")]
    position: Option<u64>,
    /// The checkpoint that the proof is to be checked against; the log's present end if there is none
    #[arg(long, value_name = "FILE", value_parser = proof_files::checkpoint)]
    checkpoint: Option<CheckpointFile>,
    /// Prove that everything this older checkpoint covers is unchanged
    #[arg(long, value_name = "CHECKPOINTFILE", value_parser = proof_files::checkpoint, conflicts_with = "position")]
    consistency: Option<CheckpointFile>,
    /// Where to write the proof; standard output if not given
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Prove {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        let store = context.open_to_read()?;
        let made = store.with_tree(|tree| {
            let origin = tasklog_log::note::TreeHead::new(tree.head().log, 0, tasklog_log::merkle::Hash::of_nothing()).origin;
            let head = tree.head().position.0;
            for CheckpointFile { stated, .. } in self.checkpoint.iter().chain(&self.consistency) {
                if stated.origin != origin {
                    return Ok(Err(format!("the checkpoint is of {}, this is the log {origin}", stated.origin)));
                }
                if stated.size > head {
                    return Ok(Err(format!("the checkpoint covers {} events, the log ends at event {head}", stated.size)));
                }
                let root = tree.root(stated.size)?;
                if root != stated.root {
                    return Ok(Err(format!(
                        "the root of the first {} events is {root}, the checkpoint states {}: run tasklog verify --against it",
                        stated.size, stated.root
                    )));
                }
            }
            let size = self.checkpoint.as_ref().map_or(head, |file| file.stated.size);
            if let Some(CheckpointFile { note, stated }) = &self.consistency {
                if stated.size > size {
                    return Ok(Err(format!("the older checkpoint covers {} events, the newer one {size}", stated.size)));
                }
                return Ok(Ok(Proof::Consistency(ConsistencyProof::make(tree, note.clone(), stated, size)?)));
            }
            let position = Position(self.position.unwrap_or_default());
            if position == Position::ZERO || position.0 > size {
                let why = format!("event {position}: the tree has events 1 to {size}");
                return Err(Rejection::not_found(why).into());
            }
            Ok(Ok(Proof::Inclusion(InclusionProof::make(tree, position, size)?)))
        })?;
        match made {
            Ok(proof) => {
                proof_files::write(context, self.out.as_deref(), &proof.to_json())?;
                Ok(Ended::Well)
            }
            Err(why) => {
                refused(context, &why)?;
                Ok(Ended::Refused)
            }
        }
    }
}
