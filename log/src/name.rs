use std::{fmt, ops::Deref, sync::Arc};

/// A table name or an event type: static where the program wrote it, shared where it was read from a log.
#[derive(Clone)]
pub struct Name(Repr);

#[derive(Clone)]
enum Repr {
    Static(&'static str),
    Shared(Arc<str>),
}

impl Deref for Name {
    type Target = str;
    fn deref(&self) -> &str {
        match &self.0 {
            Repr::Static(text) => text,
            Repr::Shared(text) => text,
        }
    }
}

impl From<&'static str> for Name {
    fn from(text: &'static str) -> Self {
        Self(Repr::Static(text))
    }
}

impl From<Arc<str>> for Name {
    fn from(text: Arc<str>) -> Self {
        Self(Repr::Shared(text))
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Name {}

impl std::hash::Hash for Name {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// How many distinct names an [`Interner`] remembers before it starts over.
const INTERNED_NAMES_MAX: usize = 256;

/// Remembers the few names a log repeats, so that a read allocates each of them once.
#[derive(Default)]
pub(crate) struct Interner(Vec<Name>);

impl Interner {
    pub(crate) fn name(&mut self, text: &str) -> Name {
        if let Some(known) = self.0.iter().find(|name| &***name == text) {
            return known.clone();
        }
        if self.0.len() == INTERNED_NAMES_MAX {
            self.0.clear();
        }
        let name = Name::from(Arc::<str>::from(text));
        self.0.push(name.clone());
        name
    }
}
