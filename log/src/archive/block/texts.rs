//! Columns of texts: what is alike is kept once as a template, with the ids that stood in it apart.
//!
//! Actors, reasons and request ids are mostly those of the commit before, and keys differ in their ids only. A text is
//! written as a form: that there is none, the same as before, a new template, or one that was used already.

use std::{collections::HashMap, sync::Arc};

use uuid::Uuid;

use crate::archive::{
    bytes::{Malformed, Taker, put_number, put_text},
    template::{self, Parts},
};

/// A text that is not there; of a key: the one of the entity's previous event.
pub(super) const FORM_NONE: u64 = 0;
/// The text of the commit or event before.
pub(super) const FORM_SAME: u64 = 1;
/// The first template that was not used yet.
const FORM_NEW: u64 = 2;
/// Template `n` is this and `n`.
const FORM_KNOWN: u64 = 3;

/// Texts as templates and the ids in them.
#[derive(Default)]
pub(super) struct Texts {
    /// With the number of their ids: a text that looks like a template has none.
    pub(super) templates: Vec<(String, usize)>,
    known: HashMap<(String, usize), usize>,
    pub(super) ids: Vec<Uuid>,
}

impl Texts {
    fn put(&mut self, forms: &mut Vec<u8>, text: &str) {
        let Parts { template, ids } = template::split(text);
        let template = (template, ids.len());
        match self.known.get(&template) {
            Some(at) => put_number(forms, FORM_KNOWN + *at as u64),
            None => {
                put_number(forms, FORM_NEW);
                self.known.insert(template.clone(), self.templates.len());
                self.templates.push(template);
            }
        }
        self.ids.extend(ids);
    }

    /// Puts a text with its form; `before` is the one of the commit or event before, if there is one before.
    pub(super) fn put_optional(&mut self, forms: &mut Vec<u8>, text: Option<&str>, before: Option<Option<&str>>) {
        match text {
            None => put_number(forms, FORM_NONE),
            Some(_) if before == Some(text) => put_number(forms, FORM_SAME),
            Some(text) => self.put(forms, text),
        }
    }

    /// The column of the templates.
    pub(super) fn list(&self) -> Vec<u8> {
        let mut list = Vec::new();
        for (template, ids) in &self.templates {
            put_text(&mut list, template.as_bytes());
            put_number(&mut list, *ids as u64);
        }
        list
    }
}

/// Texts as they are read: the templates, and the ids that were not used yet.
pub(super) struct KnownTexts<'b> {
    templates: Vec<(&'b str, usize)>,
    used: usize,
    ids: &'b [Uuid],
}

impl<'b> KnownTexts<'b> {
    pub(super) fn new(list: &'b [u8], count: usize, ids: &'b [Uuid]) -> Result<Self, Malformed> {
        let mut from = Taker(list);
        let mut templates = Vec::new();
        for _ in 0..count {
            let template = from.text()?;
            let ids = from.count(ids.len())?;
            if ids > 0 && template::places(template) != ids {
                return Err(Malformed("a text has another number of ids"));
            }
            templates.push((template, ids));
        }
        from.end()?;
        Ok(Self { templates, used: 0, ids })
    }

    /// The text of a form that is neither [`FORM_NONE`] nor [`FORM_SAME`].
    pub(super) fn text(&mut self, form: u64) -> Result<String, Malformed> {
        let at = match form.checked_sub(FORM_KNOWN) {
            Some(known) => usize::try_from(known).unwrap_or(usize::MAX),
            None => {
                self.used += 1;
                self.used - 1
            }
        };
        let (template, ids) = *self.templates.get(at).ok_or(Malformed("it has no such text"))?;
        if ids == 0 {
            return Ok(template.to_owned());
        }
        let (own, rest) = self.ids.split_at_checked(ids).ok_or(Malformed("it has too few ids"))?;
        self.ids = rest;
        Ok(template::join(template, own))
    }

    /// There must be no id left.
    pub(super) fn end(self) -> Result<(), Malformed> {
        if self.ids.is_empty() { Ok(()) } else { Err(Malformed("ids are left over")) }
    }
}

/// A column of texts that are often repeated, each of them allocated once in a row.
pub(super) struct SharedTexts<'b> {
    forms: Taker<'b>,
    last: Option<Arc<str>>,
}

impl<'b> SharedTexts<'b> {
    pub(super) fn new(column: &'b [u8]) -> Self {
        Self { forms: Taker(column), last: None }
    }

    pub(super) fn next(&mut self, texts: &mut KnownTexts<'_>) -> Result<Option<Arc<str>>, Malformed> {
        self.last = match self.forms.number()? {
            FORM_NONE => None,
            FORM_SAME => self.last.take(),
            form => Some(texts.text(form)?.into()),
        };
        Ok(self.last.clone())
    }

    pub(super) fn end(self) -> Result<(), Malformed> {
        self.forms.end()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// An archive could not be sealed any more once a reason was a NUL and another one an id: the NUL, which is what stands
    /// in a template for an id, was taken for the template of the id, and the block did not give back what it was made of.
    #[test]
    fn a_text_that_looks_like_a_template_is_none() {
        let id = "0198c7a2-7f3e-7000-8000-0123456789ab";
        let given = ["\0", id, "a\0b", &format!("a{id}b"), "\0", id];
        let (mut texts, mut forms) = (Texts::default(), Vec::new());
        for text in given {
            texts.put_optional(&mut forms, Some(text), None);
        }
        let list = texts.list();
        let mut known = KnownTexts::new(&list, texts.templates.len(), &texts.ids).unwrap();
        let mut column = SharedTexts::new(&forms);
        for text in given {
            assert_eq!(column.next(&mut known).unwrap().as_deref(), Some(text));
        }
        column.end().unwrap();
        known.end().unwrap();
    }
}
