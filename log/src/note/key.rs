use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

/// The first byte of key material: Ed25519.
const ALGORITHM_ED25519: u8 = 1;
/// What a private key's text begins with.
const PRIVATE_PREFIX: &str = "PRIVATE+KEY+";

/// A text that is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not the parts of a verifier key.
    #[error("expected <name>+<8 hex digits>+<base64>")]
    Verifier,
    /// Not the parts of a private key.
    #[error("expected PRIVATE+KEY+<name>+<8 hex digits>+<base64>")]
    Private,
    /// A name that cannot stand in a signature line.
    #[error("a key's name has at least one character, and neither spaces nor +")]
    Name,
    /// The key is of another kind.
    #[error("the key is not of Ed25519")]
    Algorithm,
    /// The number in the text is not that of the key.
    #[error("the key's hash does not fit its name and its bytes")]
    Hash,
}

fn check_name(name: &str) -> Result<(), KeyError> {
    let wrong = name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+');
    if wrong { Err(KeyError::Name) } else { Ok(()) }
}

/// The first four bytes of SHA-256 over the name, a line feed and the key's bytes.
fn key_hash(name: &str, public: &VerifyingKey) -> [u8; 4] {
    let digest = Sha256::new_with_prefix(name)
        .chain_update([b'\n', ALGORITHM_ED25519])
        .chain_update(public.as_bytes())
        .finalize();
    [digest[0], digest[1], digest[2], digest[3]]
}

/// `<name>+<hash>+<base64>`: the name, the hash, and the key's bytes without the algorithm. `malformed` if it is not that.
fn parts(text: &str, malformed: KeyError) -> Result<(&str, u32, [u8; 32]), KeyError> {
    let split = || {
        let (name, rest) = text.split_once('+')?;
        let (hash, key) = rest.split_once('+')?;
        let hash = (hash.len() == 8).then(|| u32::from_str_radix(hash, 16).ok()).flatten()?;
        Some((name, hash, STANDARD.decode(key).ok()?))
    };
    let (name, hash, bytes) = split().ok_or(malformed)?;
    check_name(name)?;
    match bytes.split_first() {
        Some((&ALGORITHM_ED25519, key)) => Ok((name, hash, key.try_into().map_err(|_| malformed)?)),
        Some(_) => Err(KeyError::Algorithm),
        None => Err(malformed),
    }
}

/// A key that checks signatures: `<name>+<key hash>+<base64>`, as the note package of Go writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    public: VerifyingKey,
}

impl VerifierKey {
    /// Whose key it is.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What stands before each of its signatures, so that they are found among others.
    #[must_use]
    pub fn hash(&self) -> [u8; 4] {
        key_hash(&self.name, &self.public)
    }

    pub(super) fn verifies(&self, text: &str, signature: &[u8]) -> bool {
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.public.verify_strict(text.as_bytes(), &signature).is_ok())
    }
}

impl FromStr for VerifierKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (name, hash, key) = parts(text, KeyError::Verifier)?;
        let public = VerifyingKey::from_bytes(&key).map_err(|_| KeyError::Verifier)?;
        let key = Self { name: name.into(), public };
        if u32::from_be_bytes(key.hash()) == hash { Ok(key) } else { Err(KeyError::Hash) }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_key(f, &self.name, self.hash(), self.public.as_bytes())
    }
}

fn write_key(f: &mut fmt::Formatter<'_>, name: &str, hash: [u8; 4], key: &[u8; 32]) -> fmt::Result {
    let hash = u32::from_be_bytes(hash);
    write!(f, "{name}+{hash:08x}+{}", STANDARD.encode([&[ALGORITHM_ED25519][..], key].concat()))
}

/// A key that signs: `PRIVATE+KEY+<name>+<key hash>+<base64>`. Its text is the secret; it is not shown by `Debug`.
#[derive(Clone)]
pub struct PrivateKey {
    name: String,
    signing: SigningKey,
}

impl PrivateKey {
    /// The key of a seed that nobody else knows.
    ///
    /// # Errors
    /// [`KeyError::Name`]
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        check_name(name)?;
        Ok(Self { name: name.into(), signing: SigningKey::from_bytes(seed) })
    }

    /// The key that checks what this one signs.
    #[must_use]
    pub fn verifier(&self) -> VerifierKey {
        VerifierKey { name: self.name.clone(), public: self.signing.verifying_key() }
    }

    /// The text that is to be kept secret.
    #[must_use]
    pub fn to_secret_text(&self) -> String {
        struct Secret<'k>(&'k PrivateKey);
        impl fmt::Display for Secret<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(PRIVATE_PREFIX)?;
                write_key(f, &self.0.name, self.0.verifier().hash(), self.0.signing.as_bytes())
            }
        }
        Secret(self).to_string()
    }

    pub(super) fn sign(&self, text: &str) -> Vec<u8> {
        self.signing.sign(text.as_bytes()).to_bytes().to_vec()
    }
}

impl FromStr for PrivateKey {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let text = text.strip_prefix(PRIVATE_PREFIX).ok_or(KeyError::Private)?;
        let (name, hash, seed) = parts(text, KeyError::Private)?;
        let key = Self::from_seed(name, &seed)?;
        if u32::from_be_bytes(key.verifier().hash()) == hash { Ok(key) } else { Err(KeyError::Hash) }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").field("name", &self.name).finish_non_exhaustive()
    }
}
