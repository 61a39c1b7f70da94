//! Proof files: what proves that an event is in a log, or that a log has only been added to, in a form that is read
//! without the log. `docs/formats.md` has every field.
//!
//! A proof file is JSON and tasklog's own: the C2SP's `tlog-proof` has no consistency proofs, and no place for an event that
//! a person can read. The hashes in it are those of RFC 6962, so other programs can check them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use tasklog_log::{
    Commit, CommitId, CommitMeta, Event, Millis, Name, Position, StoreError, leaf,
    merkle::{Hash, ProofError, Tree, check_consistency, check_inclusion, leaf_hash},
    note::{Note, TreeHead},
};

/// The version that is written and read.
pub const PROOF_VERSION: u32 = 1;

/// What a proof file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// An event is in the tree of a size.
    Inclusion(InclusionProof),
    /// A tree of a size is the beginning of another one.
    Consistency(ConsistencyProof),
}

/// Proves that an event is the one at its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InclusionProof {
    /// `tasklog/<log id>`
    pub origin: String,
    /// Events of the tree.
    pub size: u64,
    /// The event, with what its leaf has of its commit; the only one of that commit here.
    pub commit: Commit,
    /// From the leaf's sibling to the root's child.
    pub hashes: Vec<Hash>,
}

/// Proves that nothing that an older checkpoint covers has changed since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsistencyProof {
    /// `tasklog/<log id>`
    pub origin: String,
    /// Events of the newer tree.
    pub size: u64,
    /// The older checkpoint as it was given, with its signatures.
    pub older: Note,
    /// In the order of RFC 9162.
    pub hashes: Vec<Hash>,
}

/// Why a proof file proves nothing about a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It is about another log.
    #[error("the proof is about {proof}, the checkpoint about {checkpoint}")]
    Origin {
        /// The proof's.
        proof: String,
        /// The checkpoint's.
        checkpoint: String,
    },
    /// It is about another tree of the log.
    #[error(
        "the proof is for the tree of {proof} events, the checkpoint states that of {checkpoint}: prove it against this checkpoint"
    )]
    Size {
        /// The proof's.
        proof: u64,
        /// The checkpoint's.
        checkpoint: u64,
    },
    /// Its hashes do not lead to the checkpoint's root.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

/// A text that is no proof file.
#[derive(Debug, thiserror::Error)]
pub enum ProofFileError {
    /// No JSON of the right form.
    #[error("no proof file: {0}")]
    Json(#[from] serde_json::Error),
    /// A newer program wrote it.
    #[error("a proof file of version {0}: this program knows {PROOF_VERSION}")]
    Version(u32),
    /// A field that cannot be right.
    #[error("no proof file: field {0}")]
    Field(&'static str),
}

impl InclusionProof {
    /// Proves that the event at `position` is among the first `size` events of a log.
    ///
    /// # Errors
    /// The log's; `corrupt` if the event is not what it was when the tree was kept.
    pub fn make(tree: &Tree<'_>, position: Position, size: u64) -> Result<Self, StoreError> {
        let hashes = tree.inclusion(position, size)?;
        let found = tree.log().event(position)?;
        let (mut commit, index) = found.ok_or_else(|| StoreError::corrupt(position, "missing from the log"))?;
        commit.check(&commit.events[index])?;
        commit.events = vec![commit.events.swap_remove(index)];
        let proof = Self { origin: TreeHead::origin_of(tree.head().log.id), size, commit, hashes };
        let root = tree.root(size)?;
        proof.check_root(&root).map_err(|error| {
            StoreError::corrupt(
                position,
                format!("it is not what it was when the Merkle tree was kept: {error}; run tasklog verify"),
            )
        })?;
        Ok(proof)
    }

    /// The event.
    #[must_use]
    pub fn event(&self) -> Option<&Event> {
        self.commit.events.first()
    }

    fn check_root(&self, root: &Hash) -> Result<(), ProofError> {
        let nothing = || ProofError::OutOfRange { what: "event 0".into(), size: self.size };
        let event = self.event().filter(|event| event.position > Position::ZERO).ok_or_else(nothing)?;
        let leaf = leaf_hash(&leaf(&self.commit.meta, self.commit.recorded_at, event));
        check_inclusion(event.position.before().0, self.size, &leaf, &self.hashes, root)
    }
}

impl ConsistencyProof {
    /// Proves that the tree that `older` states is the beginning of that of the first `size` events of a log.
    ///
    /// # Errors
    /// The log's.
    pub fn make(tree: &Tree<'_>, older: Note, stated: &TreeHead, size: u64) -> Result<Self, StoreError> {
        let hashes = tree.consistency(stated.size, size)?;
        let origin = TreeHead::origin_of(tree.head().log.id);
        Ok(Self { origin, size, older, hashes })
    }
}

impl Proof {
    /// Checks it against what a checkpoint states. The signatures of the checkpoint are for the caller to check.
    ///
    /// # Errors
    /// [`CheckError`], saying why it proves nothing.
    pub fn check(&self, stated: &TreeHead) -> Result<(), CheckError> {
        let (origin, size) = match self {
            Self::Inclusion(proof) => (&proof.origin, proof.size),
            Self::Consistency(proof) => (&proof.origin, proof.size),
        };
        let same = |origin: &String| {
            let other = || CheckError::Origin { proof: origin.clone(), checkpoint: stated.origin.clone() };
            if *origin == stated.origin { Ok(()) } else { Err(other()) }
        };
        same(origin)?;
        if size != stated.size {
            return Err(CheckError::Size { proof: size, checkpoint: stated.size });
        }
        match self {
            Self::Inclusion(proof) => proof.check_root(&stated.root)?,
            Self::Consistency(proof) => {
                let older = proof.stated();
                same(&older.origin)?;
                check_consistency(older.size, stated.size, &proof.hashes, &older.root, &stated.root)?;
            }
        }
        Ok(())
    }

    /// The text of the file.
    #[must_use]
    pub fn to_json(&self) -> String {
        let wire = Wire { tasklog_proof: PROOF_VERSION, body: Body::from(self) };
        serde_json::to_string_pretty(&wire).expect("texts and numbers can be written to memory")
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// [`ProofFileError`]
    pub fn parse(text: &str) -> Result<Self, ProofFileError> {
        #[derive(Deserialize)]
        struct Version {
            tasklog_proof: u32,
        }
        let Version { tasklog_proof: version } = serde_json::from_str(text)?;
        if version != PROOF_VERSION {
            return Err(ProofFileError::Version(version));
        }
        serde_json::from_str::<Wire>(text)?.body.read()
    }
}

impl ConsistencyProof {
    /// What the older checkpoint states.
    ///
    /// # Panics
    /// Never: a note that states nothing is refused when the proof is read or made.
    #[must_use]
    pub fn stated(&self) -> TreeHead {
        self.older.text().parse().expect("the older checkpoint was read when the proof was made")
    }
}

#[derive(Serialize, Deserialize)]
struct Wire {
    tasklog_proof: u32,
    #[serde(flatten)]
    body: Body,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Body {
    Inclusion { origin: String, size: u64, event: Leaf, hashes: Vec<String> },
    Consistency { origin: String, size: u64, older: String, hashes: Vec<String> },
}

/// Everything that a leaf is made of.
#[derive(Serialize, Deserialize)]
struct Leaf {
    position: u64,
    commit_id: CommitId,
    recorded_at: Millis,
    actor: String,
    reason: Option<String>,
    request_id: Option<String>,
    table: String,
    key: String,
    #[serde(rename = "type")]
    event_type: String,
    type_version: u32,
    prev: Option<u64>,
    payload: String,
}

impl From<&Proof> for Body {
    fn from(proof: &Proof) -> Self {
        let texts = |hashes: &[Hash]| hashes.iter().map(Hash::to_string).collect();
        match proof {
            Proof::Inclusion(InclusionProof { origin, size, commit, hashes }) => {
                let event = commit.events.first().map(|event| Leaf::of(commit, event));
                let event = event.expect("a proof of inclusion has its event");
                Self::Inclusion { origin: origin.clone(), size: *size, event, hashes: texts(hashes) }
            }
            Proof::Consistency(ConsistencyProof { origin, size, older, hashes }) => Self::Consistency {
                origin: origin.clone(),
                size: *size,
                older: older.to_string(),
                hashes: texts(hashes),
            },
        }
    }
}

impl Body {
    fn read(self) -> Result<Proof, ProofFileError> {
        let hashes = |texts: Vec<String>| {
            let read = texts.iter().map(|text| Hash::from_base64(text).ok_or(ProofFileError::Field("hashes")));
            read.collect::<Result<Vec<_>, _>>()
        };
        Ok(match self {
            Self::Inclusion { origin, size, event, hashes: texts } => {
                Proof::Inclusion(InclusionProof { origin, size, commit: event.commit()?, hashes: hashes(texts)? })
            }
            Self::Consistency { origin, size, older, hashes: texts } => {
                let older: Note = older.parse().map_err(|_| ProofFileError::Field("older"))?;
                let _: TreeHead = older.text().parse().map_err(|_| ProofFileError::Field("older"))?;
                Proof::Consistency(ConsistencyProof { origin, size, older, hashes: hashes(texts)? })
            }
        })
    }
}

impl Leaf {
    fn of(commit: &Commit, event: &Event) -> Self {
        let CommitMeta { id, actor, reason, request_id } = &commit.meta;
        Self {
            position: event.position.0,
            commit_id: *id,
            recorded_at: commit.recorded_at,
            actor: actor.to_string(),
            reason: reason.as_deref().map(str::to_owned),
            request_id: request_id.as_deref().map(str::to_owned),
            table: event.table.to_string(),
            key: event.key.to_string(),
            event_type: event.event_type.to_string(),
            type_version: event.type_version,
            prev: event.prev.map(|prev| prev.0),
            payload: STANDARD.encode(&event.payload),
        }
    }

    /// The commit, with this event alone.
    fn commit(self) -> Result<Commit, ProofFileError> {
        let name = |text: String| Name::from(std::sync::Arc::<str>::from(text));
        let payload = STANDARD.decode(&self.payload).map_err(|_| ProofFileError::Field("event.payload"))?;
        let meta = CommitMeta {
            id: self.commit_id,
            actor: self.actor.into(),
            reason: self.reason.map(Into::into),
            request_id: self.request_id.map(Into::into),
        };
        let mut event = Event {
            position: Position(self.position),
            table: name(self.table),
            key: self.key.into(),
            event_type: name(self.event_type),
            type_version: self.type_version,
            prev: self.prev.map(Position),
            payload,
            checksum: 0,
        };
        event.checksum = tasklog_log::checksum(&meta, self.recorded_at, &event);
        Ok(Commit { meta, recorded_at: self.recorded_at, events: vec![event] })
    }
}
