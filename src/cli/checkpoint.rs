use clap::Args;
use serde_json::json;
use tasklog_log::{
    StoreError,
    note::{Note, PrivateKey, TreeHead},
};

use super::{Context, Ended, proof_files};
use crate::Error;

/// Print a checkpoint of the log: its id, how many events it has, and the root of their Merkle tree.
///
/// Whoever keeps a checkpoint can later prove with it that nothing it covers was changed (`verify --against`, `prove`,
/// `check`). It is a note in the C2SP's tlog-checkpoint format and contains no payloads. Keep it where whoever can write to
/// the store cannot.
#[derive(Args)]
pub(crate) struct Checkpoint {
    /// Sign it with the private key in this file (see keygen)
    #[arg(long, value_name = "KEYFILE", value_parser = proof_files::private_key)]
    sign: Option<PrivateKey>,
}

impl Checkpoint {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        let store = context.open_to_read()?;
        let stated = store.with_tree(|tree| {
            let head = tree.head();
            Ok(TreeHead::new(head.log, head.position.0, tree.root(head.position.0)?))
        })?;
        let note = Note::new(stated.to_string()).map_err(|error| StoreError::corrupt_store(error.to_string()));
        let mut note = note?;
        if let Some(key) = &self.sign {
            note.sign(key);
        }
        if context.out.json {
            let value = json!({
                "origin": stated.origin, "size": stated.size, "root": stated.root.to_string(), "epoch": stated.epoch(),
                "note": note.to_string(),
            });
            context.out.line(value.to_string())?;
        } else {
            context.out.verbatim(note.to_string().trim_end_matches('\n'))?;
        }
        Ok(Ended::Well)
    }
}
