//! What a read is told beside its path: parameters, and the moment it is about.

use axum::{
    extract::{FromRequestParts, Path, rejection::PathRejection},
    http::{HeaderMap, HeaderName, request::Parts},
};
use tasklog_log::Position;
use tasklog_projections::{TABLES, TableDef, table};

use super::{answer::Answer, auth::Caller, problem::Problem, state::App};
use crate::{Error, TaskStore, show::mask::Mask, store::When};

/// Items of a page, unless the request says how many.
const PAGE_ITEMS_DEFAULT: u64 = 100;
/// Items of a page.
pub(crate) const PAGE_ITEMS_MAX: u64 = 1_000;
/// A read waits until the store has it.
pub(crate) const MIN_POSITION: HeaderName = HeaderName::from_static("tasklog-min-position");

/// What a request is told beside its path and its body.
pub(crate) struct Asked {
    pub(crate) app: App,
    pub(crate) caller: Caller,
    pub(crate) headers: HeaderMap,
    pub(crate) params: Params,
}

impl FromRequestParts<App> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let caller = parts.extensions.get::<Caller>().copied();
        let params = Params::parse(parts.uri.query().unwrap_or_default())?;
        Ok(Self {
            app: app.clone(),
            // The guard puts it there for every route; without one, nobody may anything.
            caller: caller.unwrap_or(Caller { writes: false, sees_sensitive: false }),
            headers: parts.headers.clone(),
            params,
        })
    }
}

impl Asked {
    /// A mask for one answer to this caller.
    pub(crate) fn mask(&self) -> Mask {
        Mask::new(self.caller.sees_sensitive)
    }

    /// Waits for the position that the request wants to read.
    pub(crate) async fn reach(&self) -> Result<(), Problem> {
        match number(&self.headers, &MIN_POSITION)? {
            Some(position) => self.app.reach(position).await,
            None => Ok(()),
        }
    }

    /// Reads the store as of the moment that `at` names, on a thread that may block. `look` answers the text of a JSON value,
    /// or none for "no such thing", and what it reflects.
    pub(crate) async fn read(
        mut self,
        missing: impl FnOnce() -> String,
        look: impl FnOnce(&TaskStore, &mut Mask) -> Result<(Option<String>, Position), Error> + Send + 'static,
    ) -> Result<Answer, Problem> {
        let at = self.params.when()?;
        self.params.finish()?;
        self.reach().await?;
        let mut mask = self.mask();
        let read = move |store: &TaskStore| look(store, &mut mask);
        let read = match at {
            Some(when) => self.app.blocking_at(when, read).await,
            None => self.app.blocking(read).await,
        };
        let (found, position) = read.map_err(|problem| problem.at(self.app.seen()))?;
        if at.is_none() {
            self.app.saw(position);
        }
        match found {
            Some(text) => Ok(Answer::json(text).at(position)),
            None => Err(Problem::not_found(missing()).at(position)),
        }
    }
}

/// A header that holds a position.
pub(crate) fn number(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Position>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let position = value.to_str().ok().and_then(|text| text.parse::<u64>().ok());
    let position = position.filter(|position| i64::try_from(*position).is_ok());
    position.map(|position| Some(Position(position))).ok_or_else(|| {
        Problem::malformed(format!(
            "{name}: expected a position, found {:?}",
            String::from_utf8_lossy(value.as_bytes())
        ))
    })
}

/// The parts of a path, decoded.
pub(crate) fn path<T>(path: Result<Path<T>, PathRejection>) -> Result<T, Problem> {
    path.map(|Path(parts)| parts).map_err(|error| Problem::malformed(format!("the path: {}", error.body_text())))
}

/// A table by its name in a path.
pub(crate) fn table_named(name: &str) -> Result<&'static TableDef, Problem> {
    table(name).ok_or_else(|| {
        let names: Vec<_> = TABLES.iter().map(|table| table.name).collect();
        Problem::not_found(format!("no table {name:?}; the tables are {}", names.join(", ")))
    })
}

/// The parameters of a query string.
#[derive(Debug)]
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    fn parse(query: &str) -> Result<Self, Problem> {
        let mut params: Vec<(String, String)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if params.iter().any(|(known, _)| *known == name) {
                return Err(Problem::malformed(format!("{name}: given twice")));
            }
            params.push((name, value));
        }
        Ok(Self(params))
    }

    /// Takes a parameter out.
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Takes a number out.
    pub(crate) fn take_number(&mut self, name: &str) -> Result<Option<u64>, Problem> {
        let Some(text) = self.take(name) else { return Ok(None) };
        let number = text.parse::<u64>().ok().filter(|number| i64::try_from(*number).is_ok());
        number.map(Some).ok_or_else(|| Problem::malformed(format!("{name}: expected a number, found {text:?}")))
    }

    /// Takes the size of a page out.
    pub(crate) fn take_limit(&mut self) -> Result<usize, Problem> {
        match self.take_number("limit")?.unwrap_or(PAGE_ITEMS_DEFAULT) {
            limit @ 1..=PAGE_ITEMS_MAX => Ok(usize::try_from(limit).unwrap_or(1)),
            limit => Err(Problem::malformed(format!("limit: 1 to {PAGE_ITEMS_MAX}, found {limit}"))),
        }
    }

    /// Takes the moment out that a read is about.
    pub(crate) fn when(&mut self) -> Result<Option<When>, Problem> {
        let Some(text) = self.take("at") else { return Ok(None) };
        text.parse().map(Some).map_err(|error: crate::store::ParseWhenError| Problem::malformed(format!("at: {error}")))
    }

    /// Puts a parameter back.
    pub(crate) fn put(&mut self, name: &str, value: Option<String>) {
        self.0.extend(value.map(|value| (name.to_owned(), value)));
    }

    /// What is left.
    pub(crate) fn rest(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.0)
    }

    /// Refuses what nobody took.
    pub(crate) fn finish(&self) -> Result<(), Problem> {
        match self.0.first() {
            Some((name, _)) => Err(Problem::malformed(format!("{name}: this path has no such parameter"))),
            None => Ok(()),
        }
    }
}

/// Percent-decoding that says what it does not understand.
fn decode(text: &str) -> Result<String, Problem> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let hex = rest.get(..2).and_then(|pair| hex::decode(pair).ok());
                let [byte] = hex.as_deref().unwrap_or_default() else {
                    return Err(Problem::malformed(format!(
                        "the query string: {text:?} has a % without two hex digits"
                    )));
                };
                bytes.push(*byte);
                rest = &rest[2..];
            }
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| Problem::malformed(format!("the query string: {text:?} is not UTF-8")))
}
