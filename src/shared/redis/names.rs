use std::{borrow::Cow, net::IpAddr};

use crate::shared::Counter;

/// A part that users choose: `%`, `:` and a leading `_` are escaped, so that no two names meet and none is a helper's.
fn part(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', ':']) && !text.starts_with('_') {
        return Cow::Borrowed(text);
    }
    let mut escaped = text.replace('%', "%25").replace(':', "%3A");
    if escaped.starts_with('_') {
        escaped.replace_range(..1, "%5F");
    }
    Cow::Owned(escaped)
}

/// The keys of the facilities under one prefix, such as `miroir` or `{miroir}`.
pub(super) struct Names {
    prefix: String,
    search_ui: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), search_ui: format!("{prefix}:ratelimit:searchui:") }
    }

    pub(super) fn set_search_ui(&mut self, prefix: &str) {
        prefix.clone_into(&mut self.search_ui);
    }

    pub(super) fn counter(&self, counter: &Counter) -> String {
        match counter {
            Counter::SearchUi(ip) => format!("{}{ip}", self.search_ui),
            Counter::SearchUiSession(ip) => format!("{}session:{ip}", self.search_ui),
        }
    }

    pub(super) fn login(&self, ip: IpAddr) -> String {
        format!("{}:ratelimit:adminlogin:{ip}", self.prefix)
    }

    pub(super) fn backoff(&self, ip: IpAddr) -> String {
        format!("{}:ratelimit:adminlogin:backoff:{ip}", self.prefix)
    }

    pub(super) fn overflow(&self, sink: &str) -> String {
        format!("{}:cdc:overflow:{}", self.prefix, part(sink))
    }

    pub(super) fn overflow_bytes(&self, sink: &str) -> String {
        format!("{}:cdc:overflow_bytes:{}", self.prefix, part(sink))
    }

    pub(super) fn scoped_key(&self, index: &str) -> String {
        format!("{}:search_ui_scoped_key:{}", self.prefix, part(index))
    }

    pub(super) fn scoped_key_index(&self) -> String {
        format!("{}:search_ui_scoped_key:_index", self.prefix)
    }

    pub(super) fn beacon(&self, pod: &str, index: &str) -> String {
        format!("{}:search_ui_scoped_key_observed:{}:{}", self.prefix, part(pod), part(index))
    }

    pub(super) fn revoked(&self) -> String {
        format!("{}:admin_session:revoked", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_names_share_a_key() {
        let names = Names::new("miroir");
        assert_ne!(names.beacon("a:b", "c"), names.beacon("a", "b:c"));
        assert_ne!(names.scoped_key("_index"), names.scoped_key_index());
        assert_eq!(names.scoped_key("_i%:_x"), "miroir:search_ui_scoped_key:%5Fi%25%3A_x");
        assert_ne!(names.overflow("%3A"), names.overflow(":"));
    }
}
