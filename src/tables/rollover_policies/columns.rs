//! What the columns of a policy may hold: two different aliases, a pattern with a date, and what the three JSON columns must
//! say.

use serde::{Deserialize, de::DeserializeOwned};
use tasklog_projections::{Json, tables::rollover_policies::RolloverPolicyRow};

use crate::{rejection::Rejection, text};

pub(super) fn check(row: &RolloverPolicyRow) -> Result<(), Rejection> {
    text::key("name", &row.name)?;
    text::key("write_alias", &row.write_alias)?;
    text::key("read_alias", &row.read_alias)?;
    if row.write_alias == row.read_alias {
        return Err(Rejection::invalid(format!("read_alias: {} is the write alias already", row.read_alias)));
    }
    check_pattern(&row.pattern)?;
    check_triggers(&row.triggers_json)?;
    let Retention { keep_indexes } = parts("retention_json", &row.retention_json)?;
    text::at_least("retention_json: keep_indexes", 1, keep_indexes)?;
    let Template { primary_key, settings_ref } = parts("template_json", &row.template_json)?;
    text::key("template_json: primary_key", &primary_key)?;
    settings_ref.map_or(Ok(()), |settings| text::key("template_json: settings_ref", &settings))
}

/// An index name with at least one date token: letters of a date, `-`, `_` or `.` in braces.
fn check_pattern(pattern: &str) -> Result<(), Rejection> {
    text::key("pattern", pattern)?;
    let refused = || {
        Rejection::invalid(format!(
            "pattern: expected a date token in braces, such as {{YYYY-MM-DD}}, found {pattern:?}"
        ))
    };
    let mut tokens = 0;
    let mut rest = pattern;
    while let Some(at) = rest.find(['{', '}']) {
        let (token, after) = rest[at..].strip_prefix('{').and_then(|open| open.split_once('}')).ok_or_else(refused)?;
        let date = token.contains(['Y', 'M', 'D', 'H']) && token.chars().all(|c| "YMDHms-_.".contains(c));
        if !date {
            return Err(refused());
        }
        tokens += 1;
        rest = after;
    }
    if tokens == 0 { Err(refused()) } else { Ok(()) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Triggers {
    max_docs: Option<u64>,
    max_age: Option<String>,
    max_size_gb: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Retention {
    keep_indexes: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Template {
    primary_key: String,
    settings_ref: Option<String>,
}

/// The members of a JSON object.
fn parts<T: DeserializeOwned>(what: &str, json: &Json) -> Result<T, Rejection> {
    text::object(what, json)?;
    serde_json::from_str(json.as_str()).map_err(|error| Rejection::invalid(format!("{what}: {error}")))
}

fn check_triggers(json: &Json) -> Result<(), Rejection> {
    let Triggers { max_docs, max_age, max_size_gb } = parts("triggers_json", json)?;
    let given = max_docs.is_some() || max_age.is_some() || max_size_gb.is_some();
    let bad = if !given {
        "at least one of max_docs, max_age and max_size_gb"
    } else if max_docs == Some(0) {
        "max_docs: at least 1"
    } else if max_age.is_some_and(|age| !is_duration(&age)) {
        "max_age: a positive number and one of s, m, h, d and w, such as \"7d\""
    } else if max_size_gb.is_some_and(|size| size <= 0.0) {
        "max_size_gb: more than 0"
    } else {
        return Ok(());
    };
    Err(Rejection::invalid(format!("triggers_json: expected {bad}, found {:.200}", json.as_str())))
}

fn is_duration(text: &str) -> bool {
    let number = text.strip_suffix(['s', 'm', 'h', 'd', 'w']);
    number
        .is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()) && number.parse::<u32>().is_ok_and(|n| n > 0))
}
