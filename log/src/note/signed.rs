use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{PrivateKey, VerifierKey};

/// The longest note that is read.
pub const NOTE_BYTES_MAX: usize = 1 << 20;
/// The most signatures that a note may have.
const SIGNATURES_MAX: usize = 100;
/// What a signature line begins with.
const SIGNATURE_PREFIX: &str = "\u{2014} ";
/// The bytes of a key hash before a signature.
const KEY_HASH_BYTES: usize = 4;

/// Why a text is no note, or a note is not signed as it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not the form of a note.
    #[error("no note: {0}")]
    Malformed(&'static str),
    /// The key has not signed it.
    #[error("no signature of {name} (key hash {hash:08x}): it is {}", signed_by(found))]
    Unsigned {
        /// Whose signature was looked for.
        name: String,
        /// By which key.
        hash: u32,
        /// Who has signed it.
        found: Vec<String>,
    },
    /// There is a signature that claims to be the key's and is not.
    #[error("the signature of {name} is wrong: text or signature was changed")]
    Forged {
        /// Whose signature it claims to be.
        name: String,
    },
}

fn signed_by(names: &[String]) -> String {
    if names.is_empty() { "not signed".into() } else { format!("signed by {}", names.join(", ")) }
}

/// One signature line of a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Who claims to have signed.
    pub name: String,
    /// Which key of that name.
    pub key_hash: [u8; KEY_HASH_BYTES],
    /// What the key's algorithm makes of it.
    pub bytes: Vec<u8>,
}

/// A text, and who has signed it. Without signatures it is read and written as the bare text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

impl Note {
    /// An unsigned note.
    ///
    /// # Errors
    /// [`NoteError::Malformed`] for a text that does not end with a line feed, or has control characters.
    pub fn new(text: impl Into<String>) -> Result<Self, NoteError> {
        let text = text.into();
        if !text.ends_with('\n') {
            return Err(NoteError::Malformed("its text does not end with a line feed"));
        }
        if text.chars().any(|c| c.is_control() && c != '\n') {
            return Err(NoteError::Malformed("it has control characters"));
        }
        Ok(Self { text, signatures: Vec::new() })
    }

    /// What is signed, with the line feed at its end.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// In the order of their lines; none of them is checked by that.
    #[must_use]
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// Adds the key's signature.
    pub fn sign(&mut self, key: &PrivateKey) {
        let verifier = key.verifier();
        self.signatures.push(Signature {
            name: verifier.name().into(),
            key_hash: verifier.hash(),
            bytes: key.sign(&self.text),
        });
    }

    /// Checks that the key has signed the text.
    ///
    /// # Errors
    /// [`NoteError::Unsigned`] or [`NoteError::Forged`].
    pub fn verify(&self, key: &VerifierKey) -> Result<(), NoteError> {
        let is_mine = |one: &&Signature| one.name == key.name() && one.key_hash == key.hash();
        let Some(mine) = self.signatures.iter().find(is_mine) else {
            return Err(NoteError::Unsigned {
                name: key.name().into(),
                hash: u32::from_be_bytes(key.hash()),
                found: self.signatures.iter().map(|one| one.name.clone()).collect(),
            });
        };
        if key.verifies(&self.text, &mine.bytes) {
            return Ok(());
        }
        Err(NoteError::Forged { name: key.name().into() })
    }
}

impl FromStr for Note {
    type Err = NoteError;
    fn from_str(text: &str) -> Result<Self, NoteError> {
        if text.len() > NOTE_BYTES_MAX {
            return Err(NoteError::Malformed("it is longer than 1 MiB"));
        }
        // The text itself may have empty lines: the last one parts it from its signatures.
        let Some((before, lines)) = text.rsplit_once("\n\n") else { return Self::new(text) };
        let mut note = Self::new(format!("{before}\n"))?;
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Malformed("its last line has no end"))?;
        for line in lines.split('\n') {
            note.signatures
                .push(signature(line).ok_or(NoteError::Malformed("a line after the empty one is no signature"))?);
            if note.signatures.len() > SIGNATURES_MAX {
                return Err(NoteError::Malformed("it has more than 100 signatures"));
            }
        }
        Ok(note)
    }
}

fn signature(line: &str) -> Option<Signature> {
    let (name, base64) = line.strip_prefix(SIGNATURE_PREFIX)?.split_once(' ')?;
    let bytes = STANDARD.decode(base64).ok()?;
    let (key_hash, bytes) = bytes.split_first_chunk()?;
    let well_formed = !name.is_empty() && !name.contains('+') && !bytes.is_empty();
    well_formed.then(|| Signature { name: name.into(), key_hash: *key_hash, bytes: bytes.to_vec() })
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        for (at, Signature { name, key_hash, bytes }) in self.signatures.iter().enumerate() {
            let parting = if at == 0 { "\n" } else { "" };
            let signature = STANDARD.encode([&key_hash[..], bytes].concat());
            writeln!(f, "{parting}{SIGNATURE_PREFIX}{name} {signature}")?;
        }
        Ok(())
    }
}
