use std::{fmt, path::PathBuf, str::FromStr};

use tasklog_log::redis::{RedisUrl, RedisUrlError};

use crate::rejection::{Error, Rejection};

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// `sqlite:PATH`
    Sqlite(PathBuf),
    /// `memory:`
    Memory,
    /// `redis://host:port/db?prefix=…` or `rediss://…`
    Redis(Box<RedisUrl>),
}

/// A text that names no store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseUrlError {
    /// No kind of store.
    #[error("{0:?} names no store: expected sqlite:PATH, memory: or redis://HOST:PORT/DB")]
    Unknown(String),
    /// A store in Redis, and what is wrong with it.
    #[error(transparent)]
    Redis(#[from] RedisUrlError),
}

impl FromStr for StoreUrl {
    type Err = ParseUrlError;
    fn from_str(text: &str) -> Result<Self, ParseUrlError> {
        match text.split_once(':') {
            // SQLite's name for a store in memory: here it would be a file of that name.
            Some(("sqlite", ":memory:")) => Err(ParseUrlError::Unknown(text.into())),
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::Sqlite(path.trim_start_matches("//").into())),
            Some(("memory", "")) => Ok(Self::Memory),
            Some(("redis" | "rediss", _)) => Ok(Self::Redis(Box::new(text.parse()?))),
            _ => Err(ParseUrlError::Unknown(text.into())),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Memory => f.write_str("memory:"),
            Self::Redis(url) => url.fmt(f),
        }
    }
}

impl From<ParseUrlError> for Error {
    fn from(error: ParseUrlError) -> Self {
        Rejection::invalid(error.to_string()).into()
    }
}
