//! `admin_sessions`: admin page logins.
//!
//! A login lives for a fixed time and can be revoked before its end. A revoked row stays until then, so that every pod
//! that looks it up sees the revocation.

use crate::{At, Impossible, Index, Table, TableDef, Tombstones, events, row, words};

row! {
    /// One login of the admin page.
    pub struct AdminSessionRow dies at expires_at {
        key {
            /// random id, sealed inside the cookie
            session_id: String,
        }
        /// double-submit token, new per login
        csrf_token: String,
        /// SHA-256 of the admin key used, lowercase hex
        admin_key_hash: String,
        /// ms: login
        created_at: i64,
        /// ms: end, whatever happens
        expires_at: i64,
        /// whether it was logged out
        revoked: bool,
        /// the browser, as it calls itself
        user_agent: Option<String>,
        /// where the login came from
        source_ip: Option<String>,
    }
}

words! {
    /// Why a login was revoked.
    pub enum RevokedWhy {
        /// the user asked
        Logout = "logout",
        /// somebody else asked
        Operator = "operator",
        /// the admin key is another one now
        KeyRotated = "key_rotated",
    }
}

events! {
    /// What happens to logins.
    pub enum AdminSessionEvent {
        /// Somebody logged in.
        "admin_session_opened" v1 => AdminSessionOpened {
            /// double-submit token
            csrf_token: String,
            /// SHA-256 of the admin key used, lowercase hex
            admin_key_hash: String,
            /// ms
            created_at: i64,
            /// ms
            expires_at: i64,
            /// the browser
            user_agent: Option<String>,
            /// where the login came from
            source_ip: Option<String>,
        },
        /// The login no longer holds.
        "admin_session_revoked" v1 => AdminSessionRevoked {
            /// ms
            revoked_at: i64,
            /// why
            why: RevokedWhy,
        },
    }
}

/// The table.
pub struct AdminSessions;

/// The table at run time.
pub static DEF: TableDef = TableDef::of::<AdminSessions>();

impl Table for AdminSessions {
    const NAME: &'static str = "admin_sessions";
    const SCHEMA_VERSION: u32 = 2;
    const TOMBSTONES: Tombstones = Tombstones::Short;
    const INDEXES: &'static [Index] = &[Index::named("expires", &["expires_at"])];
    const SENSITIVE: &'static [&'static str] =
        &["session_id", "csrf_token", "admin_key_hash", "user_agent", "source_ip"];
    const KEY_PREFIX: &'static str = "admin_session";
    type Row = AdminSessionRow;
    type Event = AdminSessionEvent;

    fn def() -> &'static TableDef {
        &DEF
    }

    fn evolve(
        row: Option<AdminSessionRow>,
        event: AdminSessionEvent,
        at: &At<'_>,
    ) -> Result<Option<AdminSessionRow>, Impossible> {
        match event {
            AdminSessionEvent::AdminSessionOpened(event) => opened(row, event, at),
            AdminSessionEvent::AdminSessionRevoked(_) => {
                let mut row = row.ok_or_else(|| Impossible::no_row("admin_session_revoked"))?;
                if row.revoked {
                    return Err(Impossible("admin_session_revoked on a session that is revoked".into()));
                }
                row.revoked = true;
                Ok(Some(row))
            }
        }
    }
}

fn opened(
    row: Option<AdminSessionRow>,
    event: AdminSessionOpened,
    at: &At<'_>,
) -> Result<Option<AdminSessionRow>, Impossible> {
    if row.is_some() {
        return Err(Impossible::row_exists("admin_session_opened"));
    }
    Ok(Some(AdminSessionRow {
        session_id: at.key.into(),
        csrf_token: event.csrf_token,
        admin_key_hash: event.admin_key_hash,
        created_at: event.created_at,
        expires_at: event.expires_at,
        revoked: false,
        user_agent: event.user_agent,
        source_ip: event.source_ip,
    }))
}

#[cfg(test)]
#[path = "admin_sessions_tests.rs"]
mod tests;
