use std::path::PathBuf;

use clap::Args;
use tasklog_log::{Position, merkle::Tree, note::TreeHead};

use super::{
    Context, Ended, output,
    proof_files::{self, CheckpointFile, refused},
};
use crate::{
    Error, Rejection,
    beside::Beside,
    proof::{ConsistencyProof, InclusionProof, Proof},
    show::visible::visible_json,
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
    /// Where to write the proof, which must not be there; that of an event only its owner may read. Standard output if not given
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Prove {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        let store = context.open_to_read()?;
        match store.with_tree(|tree| self.make(tree))? {
            Ok(proof) => {
                let text = visible_json(&proof.to_json()).into_owned();
                match &self.out {
                    None => context.out.verbatim(&text)?,
                    Some(path) => {
                        let beside = Beside::begin(path)?.private(matches!(proof, Proof::Inclusion(_)));
                        std::fs::write(beside.file(), format!("{text}\n"))
                            .map_err(|error| output::io(&format!("writing {}", path.display()), error))?;
                        beside.place()?;
                    }
                }
                Ok(Ended::Well)
            }
            Err(why) => {
                refused(context, &why)?;
                Ok(Ended::Refused)
            }
        }
    }

    /// The proof, or why there is none.
    fn make(&self, tree: &Tree<'_>) -> Result<Result<Proof, String>, Error> {
        for CheckpointFile { stated, .. } in self.checkpoint.iter().chain(&self.consistency) {
            if let Some(why) = why_not(tree, stated)? {
                return Ok(Err(why));
            }
        }
        let size = self.checkpoint.as_ref().map_or(tree.head().position.0, |file| file.stated.size);
        if let Some(CheckpointFile { note, stated }) = &self.consistency {
            if stated.size > size {
                return Ok(Err(format!("the older checkpoint covers {} events, the newer one {size}", stated.size)));
            }
            return Ok(Ok(Proof::Consistency(ConsistencyProof::make(tree, note.clone(), stated, size)?)));
        }
        let position = Position(self.position.unwrap_or_default());
        if position == Position::ZERO || position.0 > size {
            return Err(Rejection::not_found(format!("event {position}: the tree has events 1 to {size}")).into());
        }
        Ok(Ok(Proof::Inclusion(InclusionProof::make(tree, position, size)?)))
    }
}

/// Why nothing of this log can be proved against a checkpoint.
fn why_not(tree: &Tree<'_>, stated: &TreeHead) -> Result<Option<String>, Error> {
    let (head, origin) = (tree.head().position.0, TreeHead::origin_of(tree.head().log.id));
    if stated.origin != origin {
        return Ok(Some(format!("the checkpoint is of {}, this is the log {origin}", stated.origin)));
    }
    if stated.size > head {
        return Ok(Some(format!("the checkpoint covers {} events, the log ends at event {head}", stated.size)));
    }
    let root = tree.root(stated.size)?;
    Ok((root != stated.root).then(|| {
        let TreeHead { size, root: expected, .. } = stated;
        format!(
            "the root of the first {size} events is {root}, the checkpoint states {expected}: run tasklog verify --against it"
        )
    }))
}
