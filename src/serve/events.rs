//! The audit trail: pages, or a live tail.

use axum::{
    http::{HeaderName, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tasklog_log::{Commit, Event, Position};
use tasklog_projections::TableDef;

use super::{
    asked::{Asked, Params, number, table_named},
    feed::whole,
    problem::Problem,
    tail,
};
use crate::show::events::event_json;

/// A tail goes on after it.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Events read at once.
const READ_EVENTS: usize = 2_000;
/// Events looked at for one page. A page that found fewer than it may have says where it stopped.
const LOOKED_AT_MAX: usize = 100_000;
/// Bytes of payloads after which a page takes no further event.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// Which events.
#[derive(Clone, Default)]
pub(crate) struct Filter {
    table: Option<&'static TableDef>,
    key: Option<String>,
    event_type: Option<String>,
    actor: Option<String>,
}

impl Filter {
    fn take(params: &mut Params) -> Result<Self, Problem> {
        let table = params.take("table").map(|name| table_named(&name)).transpose();
        let table = table.map_err(|_| Problem::malformed("table: there is no such table"))?;
        Ok(Self { table, key: params.take("key"), event_type: params.take("type"), actor: params.take("actor") })
    }

    /// Whether an event is wanted.
    pub(crate) fn wants(&self, commit: &Commit, event: &Event) -> bool {
        self.table.is_none_or(|table| *event.table == *table.name)
            && self.key.as_ref().is_none_or(|key| *event.key == **key)
            && self.event_type.as_ref().is_none_or(|wanted| *event.event_type == **wanted)
            && self.actor.as_ref().is_none_or(|actor| *commit.meta.actor == **actor)
    }
}

/// `GET /v1/events`
pub(crate) async fn events(mut asked: Asked) -> Result<Response, Problem> {
    let filter = Filter::take(&mut asked.params)?;
    let after = Position(asked.params.take_number("after")?.unwrap_or(0));
    // Also a page, which does not use it, refuses one that makes no sense.
    let resumed = number(&asked.headers, &LAST_EVENT_ID)?;
    let accept = asked.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let live = accept.split(',').any(|part| part.split(';').next().unwrap_or_default().trim() == "text/event-stream");
    if live {
        let after = resumed.unwrap_or(after);
        asked.params.finish()?;
        asked.reach().await?;
        return Ok(tail::answer(&asked, filter, after).await?.into_response());
    }
    let limit = asked.params.take_limit()?;
    asked.app.reach_after(after).await?;
    let page = asked.read(String::new, move |store, mask| {
        let (events, next, head) = store.read(|log, view| {
            let head = log.head()?.position;
            let mut found: Vec<Value> = Vec::new();
            let (mut at, mut looked_at, mut bytes) = (after, 0, 0);
            'pages: while at < head && looked_at < LOOKED_AT_MAX {
                let commits = log.read(at, READ_EVENTS)?;
                if commits.is_empty() {
                    break;
                }
                let from = at;
                for commit in &commits {
                    for event in commit.events.iter().filter(|event| event.position > from) {
                        if found.len() == limit || bytes > PAGE_BYTES_MAX {
                            break 'pages;
                        }
                        whole(view, commit, event)?;
                        looked_at += 1;
                        at = event.position;
                        if filter.wants(commit, event) {
                            bytes += event.payload.len();
                            found.push(event_json(mask, commit, event));
                        }
                    }
                }
            }
            Ok((found, at, head))
        })?;
        let text = json!({ "events": events, "next_after": next, "head": head }).to_string();
        Ok((Some(text), head))
    });
    Ok(page.await?.into_response())
}
