//! Who may do what: bearer tokens, kept as hashes, and read anew when the process is told to.

use std::{fs, path::PathBuf};

use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::problem::Problem;

/// Tokens in one file, one a line.
const TOKENS_MAX: usize = 64;
/// The shortest token that is worth its name.
const TOKEN_BYTES_MIN: usize = 16;
const TOKEN_BYTES_MAX: usize = 4_096;

/// Where tokens come from: files with one token a line, so that an old and a new one hold at the same time while clients
/// change over, and values of the environment.
#[derive(Clone, Default)]
pub struct TokenFiles {
    /// Tokens that read and write.
    pub write: Source,
    /// Tokens that only read.
    pub read: Source,
    /// Tokens that read, write, and see sensitive columns.
    pub sensitive: Source,
}

impl std::fmt::Debug for TokenFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { write, read, sensitive } = self;
        f.debug_struct("TokenFiles")
            .field("write", &write.file)
            .field("read", &read.file)
            .field("sensitive", &sensitive.file)
            .finish()
    }
}

/// A file of tokens, a single one, both, or neither.
#[derive(Clone, Default)]
pub struct Source {
    /// One token a line.
    pub file: Option<PathBuf>,
    /// One more.
    pub value: Option<String>,
}

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Commands as well.
    pub(crate) writes: bool,
    /// Sensitive columns in the clear.
    pub(crate) sees_sensitive: bool,
}

/// What a route asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing.
    Open,
    /// Any token, if there are tokens; nothing on the listener for metrics.
    Metrics,
    /// Any token, if there are tokens.
    Read,
    /// A token that writes, if there are tokens.
    Write,
}

struct Known {
    hash: [u8; 32],
    caller: Caller,
}

/// The tokens that hold now.
#[derive(Default)]
pub(crate) struct Tokens {
    known: Vec<Known>,
    /// Sealed cursors open wherever the same tokens hold.
    seed: Option<[u8; 32]>,
}

impl Tokens {
    /// Reads all files.
    ///
    /// # Errors
    /// Says which file cannot be read, or which line is no token, without showing it.
    pub(crate) fn read(files: &TokenFiles) -> Result<Self, String> {
        let mut tokens = Self::default();
        let caller = |writes, sees_sensitive| Caller { writes, sees_sensitive };
        for (source, caller) in [
            (&files.sensitive, caller(true, true)),
            (&files.write, caller(true, false)),
            (&files.read, caller(false, false)),
        ] {
            for token in source.tokens()? {
                let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
                tokens.seed.get_or_insert(hash);
                tokens.known.push(Known { hash, caller });
            }
        }
        Ok(tokens)
    }

    /// Whether anybody may come without one.
    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Something secret that all processes with the same tokens share.
    pub(crate) fn seed(&self) -> Option<[u8; 32]> {
        self.seed
    }

    /// Who a token stands for. Hashes are compared, all of them and each in constant time: neither the length of a token
    /// nor how much of it was right shows in the time.
    fn caller(&self, token: &[u8]) -> Option<Caller> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        let mut found = None;
        for known in &self.known {
            if bool::from(known.hash.ct_eq(&hash)) && found.is_none() {
                found = Some(known.caller);
            }
        }
        found
    }

    /// Lets a request pass or says why not. `show_sensitive`: everybody who passes sees sensitive columns.
    pub(crate) fn admit(&self, headers: &HeaderMap, access: Access, show_sensitive: bool) -> Result<Caller, Problem> {
        if access == Access::Open || self.is_empty() {
            return Ok(Caller { writes: true, sees_sensitive: show_sensitive });
        }
        let Some(given) = headers.get(header::AUTHORIZATION) else {
            return Err(Problem::unauthorized("send a token: Authorization: Bearer TOKEN"));
        };
        let Some(token) = bearer(given.as_bytes()) else {
            return Err(Problem::unauthorized("expected Authorization: Bearer TOKEN"));
        };
        let Some(caller) = self.caller(token) else {
            return Err(Problem::unauthorized("this token is not known here"));
        };
        if access == Access::Write && !caller.writes {
            return Err(Problem::forbidden("this token only reads; commands need one that writes"));
        }
        Ok(Caller { sees_sensitive: caller.sees_sensitive || show_sensitive, ..caller })
    }
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"Bearer ";
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| token.trim_ascii())
}

impl Source {
    fn tokens(&self) -> Result<Vec<String>, String> {
        let mut tokens = Vec::new();
        if let Some(file) = &self.file {
            let text =
                fs::read_to_string(file).map_err(|error| format!("reading tokens from {}: {error}", file.display()))?;
            for (at, line) in text.lines().enumerate() {
                let line = line.trim();
                if line.is_empty() {
                    continue;
                }
                check(line).map_err(|why| format!("{}, line {}: {why}", file.display(), at + 1))?;
                tokens.push(line.to_owned());
            }
            if tokens.is_empty() {
                return Err(format!("{} has no token", file.display()));
            }
        }
        if let Some(value) = &self.value {
            check(value.trim()).map_err(|why| format!("a token of the environment: {why}"))?;
            tokens.push(value.trim().to_owned());
        }
        if tokens.len() > TOKENS_MAX {
            return Err(format!("{} tokens of one sort; at most {TOKENS_MAX}", tokens.len()));
        }
        Ok(tokens)
    }
}

fn check(token: &str) -> Result<(), String> {
    if !(TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&token.len()) {
        let found = token.len();
        return Err(format!("a token has {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} characters, this one {found}"));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("a token has visible ASCII characters only, no spaces".into());
    }
    Ok(())
}
