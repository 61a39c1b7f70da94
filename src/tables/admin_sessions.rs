//! `admin_sessions`: login, logout, and the check on every request of the admin page.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use subtle::{Choice, ConstantTimeEq};
use tasklog_log::Millis;
use tasklog_projections::{
    Cell, Hash32, PAGE_ROWS_MAX,
    tables::admin_sessions::{
        AdminSessionOpened, AdminSessionRevoked, AdminSessionRow, AdminSessions, DEF, RevokedWhy,
    },
    words,
};

use crate::{
    command::Command,
    decision::Decision,
    meters,
    query::{Query, Reader},
    rejection::{Error, Rejection},
    tables::{Nothing, living, side},
    text,
};

side! {
    /// `admin_sessions`
    pub struct AdminSessionsHandle for DEF as admin_sessions {
        commands {
            open(Open),
            revoke(Revoke),
            revoke_all(RevokeAll),
        }
        queries {
            validate(Validate),
            count(Count),
        }
    }
}

/// The longest user agent a row holds, in bytes, before it is cut.
pub const USER_AGENT_BYTES_MAX: usize = 512;
/// The largest number of rows that revoking all works on.
pub const REVOKE_LIMIT: u64 = 10_000;

/// Opens a session. The caller has checked the login limit and the admin key.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// At least 128 random bits; minted if absent.
    pub session_id: Option<String>,
    /// Double-submit token, new per login; minted if absent.
    pub csrf_token: Option<String>,
    /// SHA-256 of the admin key used.
    pub admin_key_hash: Hash32,
    /// The browser; cut at 512 bytes.
    pub user_agent: Option<String>,
    /// Where the login came from.
    pub source_ip: Option<String>,
}

/// The session as opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Opened {
    /// The session.
    pub session_id: String,
    /// Double-submit token.
    pub csrf_token: String,
    /// ms: its end.
    pub expires_at: Millis,
}

impl Command for Open {
    const NAME: &'static str = "admin_sessions.open";
    const ABOUT: &'static str = "Opens a session of the admin page";
    type Answer = Opened;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Opened, Error> {
        let session_id = self.session_id.clone().unwrap_or_else(|| cx.mint_secret());
        let csrf_token = self.csrf_token.clone().unwrap_or_else(|| cx.mint_secret());
        text::key("session_id", &session_id)?;
        text::key("csrf_token", &csrf_token)?;
        cx.subject::<AdminSessions>(&session_id);
        if cx.get::<AdminSessions>(&session_id)?.is_some() {
            return Err(Rejection::already_exists("an admin session of this id is live").into());
        }
        let created_at = cx.now();
        let expires_at = created_at + cx.config().admin_session_ttl_ms;
        let event = AdminSessionOpened {
            csrf_token: csrf_token.clone(),
            admin_key_hash: self.admin_key_hash.to_hex(),
            created_at,
            expires_at,
            user_agent: self.user_agent.as_deref().map(|text| text::cut(text, USER_AGENT_BYTES_MAX)),
            source_ip: self.source_ip.clone(),
        };
        cx.emit::<AdminSessions>(&session_id, event)?;
        cx.note(meters::Count::AdminSessionOpened);
        Ok(Opened { session_id, csrf_token, expires_at })
    }
}

words! {
    /// Why one session is revoked.
    pub enum RevokeWhy {
        /// the user asked
        Logout = "logout",
        /// somebody else asked
        Operator = "operator",
    }
}

impl From<RevokeWhy> for RevokedWhy {
    fn from(why: RevokeWhy) -> Self {
        match why {
            RevokeWhy::Logout => Self::Logout,
            RevokeWhy::Operator => Self::Operator,
        }
    }
}

/// Revokes a session.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// The session.
    pub session_id: String,
    /// Why.
    pub why: RevokeWhy,
}

impl Command for Revoke {
    const NAME: &'static str = "admin_sessions.revoke";
    const ABOUT: &'static str = "Revokes a session of the admin page";
    type Answer = Nothing;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<Nothing, Error> {
        let Self { session_id, why } = self;
        cx.subject::<AdminSessions>(session_id);
        let Some(row) = cx.get::<AdminSessions>(session_id)? else {
            return Err(Rejection::not_found("no live admin session of this id").into());
        };
        if !row.revoked {
            let event = AdminSessionRevoked { revoked_at: cx.now(), why: (*why).into() };
            cx.emit::<AdminSessions>(session_id, event)?;
        }
        Ok(Nothing {})
    }
}

words! {
    /// Why all sessions are revoked.
    pub enum RevokeAllWhy {
        /// the admin key is another one now
        KeyRotated = "key_rotated",
        /// somebody asked
        Operator = "operator",
    }
}

impl From<RevokeAllWhy> for RevokedWhy {
    fn from(why: RevokeAllWhy) -> Self {
        match why {
            RevokeAllWhy::KeyRotated => Self::KeyRotated,
            RevokeAllWhy::Operator => Self::Operator,
        }
    }
}

/// Revokes all sessions, up to 10,000 in one call.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeAll {
    /// Except those that were opened with the admin key of this hash.
    pub keep_admin_key_hash: Option<Hash32>,
    /// Why.
    pub why: RevokeAllWhy,
    /// How many are revoked already.
    #[serde(skip)]
    #[doc(hidden)]
    pub revoked: u64,
}

impl RevokeAll {
    /// All sessions, except those that were opened with the admin key of this hash.
    #[must_use]
    pub fn new(keep_admin_key_hash: Option<Hash32>, why: RevokeAllWhy) -> Self {
        Self { keep_admin_key_hash, why, revoked: 0 }
    }
}

/// The outcome of revoking all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RevokeAllAnswer {
    /// How many sessions were revoked.
    pub revoked: u64,
    /// Whether work is left.
    pub more: bool,
}

impl Command for RevokeAll {
    const NAME: &'static str = "admin_sessions.revoke_all";
    const ABOUT: &'static str = "Revokes all sessions of the admin page";
    const CHUNKED: bool = true;
    type Answer = RevokeAllAnswer;

    fn decide(&mut self, cx: &mut Decision<'_>) -> Result<RevokeAllAnswer, Error> {
        let room = cx.room_for(REVOKE_LIMIT.saturating_sub(self.revoked));
        // One more than there is room for tells whether work is left.
        let mut victims = revocable(cx, self.keep_admin_key_hash, room + 1)?;
        let more = victims.len() > room;
        victims.truncate(room);
        for victim in victims {
            let event = AdminSessionRevoked { revoked_at: cx.now(), why: self.why.into() };
            cx.emit::<AdminSessions>(&victim.session_id, event)?;
            self.revoked += 1;
        }
        if more && self.revoked < REVOKE_LIMIT {
            cx.more();
        }
        Ok(RevokeAllAnswer { revoked: self.revoked, more })
    }
}

/// Up to `limit` live sessions that are not revoked and were not opened with the key to keep. Every round begins at the
/// first session again, so that none can be passed over.
fn revocable(cx: &mut Decision<'_>, keep: Option<Hash32>, limit: usize) -> Result<Vec<Arc<AdminSessionRow>>, Error> {
    let keep = keep.map(Hash32::to_hex);
    let mut victims = Vec::new();
    let mut page = living::scan("expires", cx.now());
    loop {
        let found = cx.scan::<AdminSessions>(&page)?;
        let last = found.last().filter(|_| found.len() == PAGE_ROWS_MAX).cloned();
        victims.extend(found.into_iter().filter(|row| !row.revoked && keep.as_ref() != Some(&row.admin_key_hash)));
        victims.truncate(limit);
        let Some(last) = last.filter(|_| victims.len() < limit) else { return Ok(victims) };
        page = page.after(vec![Cell::Integer(last.expires_at), Cell::Text(last.session_id.clone().into())]);
    }
}

/// Whether a cookie is good: its session is live and not revoked, and key hash and token are the session's.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Validate {
    /// The session.
    pub session_id: String,
    /// SHA-256 of the admin key as it is now.
    pub admin_key_hash: Hash32,
    /// The token that came with the request; not compared if absent.
    pub csrf_token: Option<String>,
}

impl Query for Validate {
    const NAME: &'static str = "admin_sessions.validate";
    const ABOUT: &'static str = "Whether a cookie is good; a missing session is not";
    type Answer = bool;

    fn answer(&self, read: &Reader<'_>) -> Result<bool, Error> {
        let Some(row) = read.get::<AdminSessions>(&self.session_id)? else { return Ok(false) };
        let same_key = row.admin_key_hash.as_bytes().ct_eq(self.admin_key_hash.to_hex().as_bytes());
        let same_token = match &self.csrf_token {
            Some(token) => row.csrf_token.as_bytes().ct_eq(token.as_bytes()),
            None => Choice::from(1),
        };
        Ok((same_key & same_token & Choice::from(u8::from(!row.revoked))).into())
    }
}

/// How many live sessions there are, revoked ones included.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Count {}

impl Query for Count {
    const NAME: &'static str = "admin_sessions.count";
    const ABOUT: &'static str = "How many live sessions there are, revoked ones included";
    type Answer = u64;

    fn answer(&self, read: &Reader<'_>) -> Result<u64, Error> {
        read.count::<AdminSessions>(&living::scan("expires", read.now()))
    }
}

#[cfg(test)]
#[path = "admin_sessions_tests.rs"]
mod tests;
