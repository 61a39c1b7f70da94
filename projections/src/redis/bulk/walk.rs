use tasklog_log::{
    StoreError,
    redis::{Part, Parts, Wire},
};

use super::{
    Bulk, failed,
    page::{Elements, Page, Values},
    strange,
};
use crate::{
    TableDef,
    redis::{RedisView, Role},
};

/// Keys and elements asked for at once.
const PAGE_ELEMENTS: usize = 1_000;

/// A walk over the keys under the prefix, or over the elements of one of them.
#[derive(Clone, Debug)]
pub struct KeyWalk {
    /// Whose elements; none for the keys themselves.
    pub of: Option<(&'static TableDef, Role)>,
    /// The key.
    pub name: String,
    at: At,
}

/// Where a walk stands.
#[derive(Clone, Debug)]
enum At {
    /// The cursor of SCAN or a relative.
    Cursor(u64),
    /// Behind a member of a sorted set whose scores are all 0: cheaper than ZSCAN for the server, and without scores.
    Member(Option<Vec<u8>>),
    End,
}

impl KeyWalk {
    /// Over the keys under the prefix.
    #[must_use]
    pub fn keys() -> Self {
        Self { of: None, name: String::new(), at: At::Cursor(0) }
    }

    /// Over the elements of a key; none for one that is looked at as a whole.
    #[must_use]
    pub fn elements(table: &'static TableDef, role: Role, name: String) -> Option<Self> {
        role.scan()?;
        let at = if matches!(role, Role::Index(_)) { At::Member(None) } else { At::Cursor(0) };
        Some(Self { of: Some((table, role)), name, at })
    }

    /// Whether there are further pages.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        !matches!(self.at, At::End)
    }
}

impl Bulk<'_> {
    /// Asks for the next page of a walk.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn ask(&mut self, walk: &KeyWalk) -> Result<(), StoreError> {
        self.packed.clear();
        let (key, count) = (walk.name.as_bytes(), PAGE_ELEMENTS.to_string());
        let count = count.as_bytes();
        let scan = walk.of.as_ref().and_then(|(_, role)| role.scan());
        match (&walk.at, scan) {
            (At::Cursor(cursor), Some((scan, _))) => {
                let cursor = cursor.to_string();
                Wire::pack(&mut self.packed, &[scan.as_bytes(), key, cursor.as_bytes(), b"COUNT", count]);
            }
            (At::Cursor(cursor), None) => {
                let (cursor, pattern) = (cursor.to_string(), pattern(self.view.names.prefix()));
                let words = [b"SCAN", cursor.as_bytes(), b"MATCH", pattern.as_bytes(), b"COUNT", count];
                Wire::pack(&mut self.packed, &words);
            }
            (At::Member(behind), _) => {
                // Order by members is of no use if a score is another one.
                Wire::pack(&mut self.packed, &[b"ZCOUNT", key, b"-inf", b"(0"]);
                Wire::pack(&mut self.packed, &[b"ZCOUNT", key, b"(0", b"+inf"]);
                let from = behind.as_ref().map_or_else(|| b"-".to_vec(), |member| [b"(", &member[..]].concat());
                Wire::pack(&mut self.packed, &[b"ZRANGEBYLEX", key, &from, b"+", b"LIMIT", b"0", count]);
            }
            (At::End, _) => {}
        }
        self.send()
    }

    /// The next page of the walk, which was asked for.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn page(&mut self, walk: &mut KeyWalk) -> Result<Page, StoreError> {
        match walk.at {
            At::Member(_) => self.members(walk),
            At::Cursor(_) => self.scanned(walk),
            At::End => Ok(Page::Elements(Elements::default())),
        }
    }

    fn members(&mut self, walk: &mut KeyWalk) -> Result<Page, StoreError> {
        let mut ordered = true;
        for _ in 0..2 {
            ordered &= Parts::of(self.receive()?).next() == Some(Part::Number(0));
        }
        let Self { view, wire, .. } = self;
        let answer = wire.answer().map_err(|error| failed(view, error))?;
        if let Some(why) = wrong_type(view, answer)? {
            walk.at = At::End;
            return Ok(Page::WrongType(why));
        }
        if !ordered {
            walk.at = At::Cursor(0);
            return Ok(Page::Elements(Elements::default()));
        }
        let Some(Part::List(count)) = Parts::of(answer).next() else { return Err(strange()) };
        let elements = Elements::of(answer, 1, Values::Zeros)?;
        walk.at = match elements.iter().last().filter(|_| count == PAGE_ELEMENTS) {
            Some((last, _)) => At::Member(Some(last.to_vec())),
            None => At::End,
        };
        Ok(Page::Elements(elements))
    }

    fn scanned(&mut self, walk: &mut KeyWalk) -> Result<Page, StoreError> {
        let Self { view, wire, .. } = self;
        let answer = wire.answer().map_err(|error| failed(view, error))?;
        if let Some(why) = wrong_type(view, answer)? {
            walk.at = At::End;
            return Ok(Page::WrongType(why));
        }
        let mut parts = Parts::of(answer);
        let (Some(Part::List(2)), Some(Part::Bytes(next)), Some(Part::List(_))) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(strange());
        };
        let next = std::str::from_utf8(next).ok().and_then(|next| next.parse().ok()).ok_or_else(strange)?;
        walk.at = if next == 0 { At::End } else { At::Cursor(next) };
        let pairs = walk.of.as_ref().and_then(|(_, role)| role.scan()).is_some_and(|(_, pairs)| pairs);
        Ok(Page::Elements(Elements::of(answer, 3, if pairs { Values::Follow } else { Values::None })?))
    }
}

/// What the server says of a key of a wrong type, if it says so.
fn wrong_type(view: &RedisView, answer: &[u8]) -> Result<Option<String>, StoreError> {
    match Parts::of(answer).next() {
        Some(Part::Error(why)) => match why.strip_prefix(b"WRONGTYPE ") {
            Some(why) => Ok(Some(String::from_utf8_lossy(why).into_owned())),
            None => Err(failed(view, Wire::error(why))),
        },
        _ => Ok(None),
    }
}

/// What MATCH must be for the keys under a prefix.
fn pattern(prefix: &str) -> String {
    let mut pattern = String::new();
    for c in prefix.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push_str(":*");
    pattern
}
