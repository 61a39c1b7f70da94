use jiff::{Timestamp, civil::Date, tz::TimeZone};
use tasklog_log::Millis;
use tasklog_projections::tables::tasks::TaskStatus;

use super::error::ApiError;

/// Meilisearch's default page.
const LIMIT_DEFAULT: usize = 20;
/// The largest page; a larger one is asked for in vain, and `next` leads on.
pub(super) const LIMIT_MAX: usize = 1_000;
/// Bytes of an index uid.
const INDEX_UID_BYTES_MAX: usize = 512;
/// The task types that Meilisearch knows.
pub const TYPES: [&str; 15] = [
    "documentAdditionOrUpdate",
    "documentEdition",
    "documentDeletion",
    "settingsUpdate",
    "indexCreation",
    "indexDeletion",
    "indexUpdate",
    "indexSwap",
    "taskCancelation",
    "taskDeletion",
    "dumpCreation",
    "snapshotCreation",
    "export",
    "upgradeDatabase",
    "indexCompaction",
];
const STATUSES: [TaskStatus; 5] =
    [TaskStatus::Enqueued, TaskStatus::Processing, TaskStatus::Succeeded, TaskStatus::Failed, TaskStatus::Canceled];
/// Every parameter, as Meilisearch lists them.
pub(super) const PARAMS: [&str; 15] = [
    "limit",
    "from",
    "reverse",
    "batchUids",
    "uids",
    "canceledBy",
    "types",
    "statuses",
    "indexUids",
    "afterEnqueuedAt",
    "beforeEnqueuedAt",
    "afterStartedAt",
    "beforeStartedAt",
    "afterFinishedAt",
    "beforeFinishedAt",
];

/// An open interval of time, in ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Between {
    after: Option<Millis>,
    before: Option<Millis>,
}

impl Between {
    pub(super) fn is_any(&self) -> bool {
        *self == Self::default()
    }

    /// A task without the instant is in no interval.
    pub(super) fn has(&self, at: Option<Millis>) -> bool {
        self.is_any()
            || at.is_some_and(|at| {
                self.after.is_none_or(|after| at > after) && self.before.is_none_or(|before| at < before)
            })
    }
}

/// Which tasks are asked for: the parameters of `GET /tasks`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub(super) limit: usize,
    pub(super) from: Option<u64>,
    pub(super) reverse: bool,
    pub(super) uids: Option<Vec<u64>>,
    pub(super) statuses: Option<Vec<TaskStatus>>,
    pub(super) types: Option<Vec<&'static str>>,
    pub(super) index_uids: Option<Vec<String>>,
    /// Whether a filter was given that no task of this registry passes: it has no batches, and no task that cancels.
    pub(super) nothing: bool,
    pub(super) enqueued: Between,
    pub(super) started: Between,
    pub(super) finished: Between,
}

impl Default for Asked {
    fn default() -> Self {
        let any = Between::default();
        Self {
            limit: LIMIT_DEFAULT,
            from: None,
            reverse: false,
            uids: None,
            statuses: None,
            types: None,
            index_uids: None,
            nothing: false,
            enqueued: any,
            started: any,
            finished: any,
        }
    }
}

impl Asked {
    /// From the parameters of a query string, decoded.
    ///
    /// # Errors
    /// What Meilisearch says to a parameter that it does not know, or to a value that it cannot have.
    pub fn parse(params: impl IntoIterator<Item = (String, String)>) -> Result<Self, ApiError> {
        let mut asked = Self::default();
        for (name, value) in params {
            asked.take(&name, &value)?;
        }
        Ok(asked)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), ApiError> {
        match name {
            "limit" => {
                let limit = integer("invalid_task_limit", name, value)?;
                self.limit = usize::try_from(limit).unwrap_or(LIMIT_MAX).min(LIMIT_MAX);
            }
            "from" => self.from = Some(integer("invalid_task_from", name, value)?),
            "reverse" => {
                let why = || format!("could not parse `{value}` as a boolean, expected either `true` or `false`");
                self.reverse = value.parse().map_err(|_| ApiError::invalid("invalid_task_reverse", name, why()))?;
            }
            "uids" => self.uids = items(value, |item| integer("invalid_task_uids", name, item))?,
            "statuses" => self.statuses = items(value, |item| status(name, item))?,
            "types" => self.types = items(value, |item| kind(name, item))?,
            "indexUids" => self.index_uids = items(value, |item| index_uid(name, item))?,
            "canceledBy" => self.nothing |= integers("invalid_task_canceled_by", name, value)?,
            "batchUids" => self.nothing |= integers("invalid_batch_uids", name, value)?,
            "afterEnqueuedAt" => self.enqueued.after = instant("invalid_task_after_enqueued_at", name, value)?,
            "beforeEnqueuedAt" => self.enqueued.before = instant("invalid_task_before_enqueued_at", name, value)?,
            "afterStartedAt" => self.started.after = instant("invalid_task_after_started_at", name, value)?,
            "beforeStartedAt" => self.started.before = instant("invalid_task_before_started_at", name, value)?,
            "afterFinishedAt" => self.finished.after = instant("invalid_task_after_finished_at", name, value)?,
            "beforeFinishedAt" => self.finished.before = instant("invalid_task_before_finished_at", name, value)?,
            _ => return Err(ApiError::unknown_param(name, &PARAMS)),
        }
        Ok(())
    }
}

/// The items of a list, separated by commas; none for `*`, which is all of them.
fn items<T>(value: &str, item: impl FnMut(&str) -> Result<T, ApiError>) -> Result<Option<Vec<T>>, ApiError> {
    if value == "*" {
        return Ok(None);
    }
    value.split(',').map(str::trim).map(item).collect::<Result<_, _>>().map(Some)
}

/// Whether a list of integers was given, and not `*`.
fn integers(code: &'static str, name: &str, value: &str) -> Result<bool, ApiError> {
    Ok(items(value, |item| integer(code, name, item))?.is_some())
}

fn integer(code: &'static str, name: &str, text: &str) -> Result<u64, ApiError> {
    // As Meilisearch: 32 bits, here 64, since positions have as many.
    text.parse().map_err(|_| ApiError::invalid(code, name, format!("could not parse `{text}` as a positive integer")))
}

fn status(name: &str, text: &str) -> Result<TaskStatus, ApiError> {
    STATUSES.into_iter().find(|status| status.as_str().eq_ignore_ascii_case(text)).ok_or_else(|| {
        let known = listed(&STATUSES.map(TaskStatus::as_str));
        let why = format!("`{text}` is not a valid task status. Available statuses are {known}.");
        ApiError::invalid("invalid_task_statuses", name, why)
    })
}

fn kind(name: &str, text: &str) -> Result<&'static str, ApiError> {
    TYPES.into_iter().find(|kind| kind.eq_ignore_ascii_case(text)).ok_or_else(|| {
        let why = format!("`{text}` is not a valid task type. Available types are {}.", listed(&TYPES));
        ApiError::invalid("invalid_task_types", name, why)
    })
}

fn index_uid(name: &str, text: &str) -> Result<String, ApiError> {
    let legal = !text.is_empty()
        && text.len() <= INDEX_UID_BYTES_MAX
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if legal {
        return Ok(text.to_owned());
    }
    let why = format!(
        "`{text}` is not a valid index uid. Index uid can be an integer or a string containing only alphanumeric \
         characters, hyphens (-) and underscores (_), and can not be more than 512 bytes."
    );
    Err(ApiError::invalid("invalid_index_uid", name, why))
}

/// An instant, or the begin of a day.
fn instant(code: &'static str, name: &str, text: &str) -> Result<Option<Millis>, ApiError> {
    if text == "*" {
        return Ok(None);
    }
    let day = || text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok().map(|day| day.timestamp());
    // A plus sign that was not escaped has become a space.
    let at = text.replace(' ', "+").parse::<Timestamp>().ok().or_else(day);
    let at = at.ok_or_else(|| {
        let why =
            format!("`{text}` is an invalid date-time. It should follow the YYYY-MM-DD or RFC 3339 date-time format.");
        ApiError::invalid(code, name, why)
    })?;
    Ok(Some(at.as_millisecond()))
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
