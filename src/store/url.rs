use std::{fmt, path::PathBuf, str::FromStr};

use crate::rejection::{Error, Rejection};

/// Where a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// `sqlite:PATH`
    Sqlite(PathBuf),
    /// `memory:`
    Memory,
}

/// A text that names no store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no store: expected sqlite:PATH or memory:")]
pub struct ParseUrlError(String);

impl FromStr for StoreUrl {
    type Err = ParseUrlError;
    fn from_str(text: &str) -> Result<Self, ParseUrlError> {
        match text.split_once(':') {
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::Sqlite(path.trim_start_matches("//").into())),
            Some(("memory", "")) => Ok(Self::Memory),
            _ => Err(ParseUrlError(text.into())),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Memory => f.write_str("memory:"),
        }
    }
}

impl From<ParseUrlError> for Error {
    fn from(error: ParseUrlError) -> Self {
        Rejection::invalid(error.to_string()).into()
    }
}
