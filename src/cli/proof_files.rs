//! Files of checkpoints, proofs and keys, read while the command line is parsed: one that is malformed is wrong usage.

use std::{fmt::Display, fs::File, io::Read};

use tasklog_log::note::{Note, PrivateKey, TreeHead, VerifierKey};

use super::{
    Context,
    output::{self, BAD},
};
use crate::{Error, proof::Proof, show::visible::visible};

/// The longest file that is read: a payload has up to 16 MiB, a third more in base64.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// A checkpoint file: a note, and what it states.
#[derive(Clone)]
pub(crate) struct CheckpointFile {
    pub(crate) note: Note,
    pub(crate) stated: TreeHead,
}

/// Why a file cannot be used, in the words that parsing it gave: some of them may be the file's.
fn wrong(path: &str, why: impl Display) -> String {
    visible(&format!("{path}: {why}")).into_owned()
}

fn text(path: &str) -> Result<String, String> {
    let read = || {
        let mut text = String::new();
        let raw: Box<dyn Read> = if path == "-" { Box::new(std::io::stdin()) } else { Box::new(File::open(path)?) };
        raw.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
        Ok::<_, std::io::Error>(text)
    };
    read().map_err(|error| wrong(&format!("reading {path}"), error))
}

pub(crate) fn checkpoint(path: &str) -> Result<CheckpointFile, String> {
    let note: Note = text(path)?.parse().map_err(|error| wrong(path, error))?;
    let stated = note.text().parse().map_err(|error| wrong(path, error))?;
    Ok(CheckpointFile { note, stated })
}

pub(crate) fn proof(path: &str) -> Result<Proof, String> {
    Proof::parse(&text(path)?).map_err(|error| wrong(path, error))
}

pub(crate) fn private_key(path: &str) -> Result<PrivateKey, String> {
    text(path)?.trim_end().parse().map_err(|error| wrong(path, error))
}

pub(crate) fn verifier_key(key: &str) -> Result<VerifierKey, String> {
    key.trim().parse().map_err(|error: tasklog_log::note::KeyError| visible(&error.to_string()).into_owned())
}

/// What is known of a checkpoint's signatures, in a few words; the reason if the key did not sign it.
pub(crate) fn signed(note: &Note, key: Option<&VerifierKey>) -> Result<String, String> {
    let Some(key) = key else {
        let names: Vec<_> = note.signatures().iter().map(|signature| &*signature.name).collect();
        return Ok(match &names[..] {
            [] => "not signed".into(),
            names => format!("signature of {} not checked: no --key", names.join(", ")),
        });
    };
    note.verify(key).map_err(|error| error.to_string())?;
    Ok(format!("signed by {} (key hash {:08x})", key.name(), u32::from_be_bytes(key.hash())))
}

/// A checkpoint in one line.
pub(crate) fn told(stated: &TreeHead) -> String {
    let epoch = stated.epoch().map_or_else(String::new, |epoch| format!(", epoch {epoch}"));
    format!("{} events of {}{epoch}, root {}", output::number(stated.size), stated.origin, stated.root)
}

/// Says why a check failed.
pub(crate) fn refused(context: &Context, why: &str) -> Result<(), Error> {
    if context.out.json {
        return context.out.line(serde_json::json!({ "ok": false, "why": why }).to_string());
    }
    context.out.line(format!("{}✗{} {why}", BAD.render(), BAD.render_reset()))
}
