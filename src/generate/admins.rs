use std::io;

use serde_json::{Value, json};

use super::{
    actor::{Actor, Day, number},
    indexes::PAGES,
    line::Line,
};
use crate::rejection::RejectionKind;

/// How often somebody logs in, in ms.
const LOGIN_MS: u64 = 900_000;
/// How often the mapping of a key changes.
const TENANT_MS: u64 = 1_800_000;
/// How often a search page changes.
const PAGE_MS: u64 = 2_700_000;
/// When the admin key is replaced.
const KEY_ROTATION_MS: u64 = 13 * 3_600_000;
const BROWSERS: [&str; 3] = ["Mozilla/5.0 (X11; Linux x86_64)", "Mozilla/5.0 (Macintosh)", "curl/8.9"];
const TENANTS: [&str; 6] = ["acme", "globex", "initech", "umbrella", "hooli", "stark"];
const TENANTS_AT_DAWN: u64 = 24;

pub(super) fn begin(day: &mut Day<'_>) -> io::Result<()> {
    day.world.admin_key = day.dice.hex(64);
    for _ in 0..TENANTS_AT_DAWN {
        map_new_key(day)?;
    }
    for page in PAGES {
        set_page(day, page)?;
    }
    day.later(60_000, Logins);
    day.later(KEY_ROTATION_MS, KeyRotation);
    let after = day.pace(TENANT_MS);
    day.later(after, TenantChanges);
    let after = day.pace(PAGE_MS);
    day.later(after, PageChanges);
    Ok(())
}

/// People who log in to the admin page.
struct Logins;

impl Actor for Logins {
    fn act(&mut self, day: &mut Day<'_>) -> io::Result<Option<u64>> {
        let id = day.dice.hex(32);
        let mut args = json!({"session_id": id, "csrf_token": day.dice.hex(16), "admin_key_hash": day.world.admin_key});
        if day.dice.chance(900) {
            args["user_agent"] = Value::from(*day.dice.pick(&BROWSERS));
            args["source_ip"] = format!("10.0.{}.{}", day.dice.below(4), day.dice.below(250)).into();
        }
        let mut line = Line::one("admin_sessions.open", args.clone());
        let answer_lost = day.dice.chance(120);
        if answer_lost {
            line = line.repeatable(&day.dice.uuid());
        }
        day.say(&line)?;
        if answer_lost {
            day.moment();
            day.say(&line)?;
        }
        day.world.admin_session = Some((day.now, args));
        if day.dice.chance(550) {
            let after = day.dice.between(60_000, 3_500_000);
            day.later(after, Logout { id, late: false });
        } else if day.dice.chance(150) {
            day.later(3_600_000, Logout { id, late: true });
        }
        let interval = day.pace(LOGIN_MS);
        Ok(Some(day.dice.about(interval)))
    }
}

/// The end of an admin session by its owner or, if it was forgotten, after its own end.
struct Logout {
    id: String,
    late: bool,
}

impl Actor for Logout {
    fn act(&mut self, day: &mut Day<'_>) -> io::Result<Option<u64>> {
        let why = if day.dice.chance(100) { "operator" } else { "logout" };
        let line = Line::one("admin_sessions.revoke", json!({"session_id": self.id, "why": why}));
        if self.late {
            day.misspeak(RejectionKind::NotFound, &line)?;
        } else {
            day.say(&line)?;
        }
        Ok(None)
    }
}

/// A new admin key: whoever logged in with the old one has to do it again.
struct KeyRotation;

impl Actor for KeyRotation {
    fn act(&mut self, day: &mut Day<'_>) -> io::Result<Option<u64>> {
        day.world.admin_key = day.dice.hex(64);
        let args = json!({"keep_admin_key_hash": day.world.admin_key, "why": "key_rotated"});
        day.say(&Line::one("admin_sessions.revoke_all", args).by("alice").because("key rotated"))?;
        Ok(None)
    }
}

fn map_new_key(day: &mut Day<'_>) -> io::Result<()> {
    let key = day.dice.hex(64);
    day.world.api_keys.push(key.clone());
    let mut args = json!({"api_key_hash": key, "tenant_id": *day.dice.pick(&TENANTS)});
    if day.dice.chance(400) {
        args["group_id"] = day.dice.below(2).into();
    }
    day.say(&Line::one("tenant_map.map", args)).map(drop)
}

/// Keys that come, change hands and go.
struct TenantChanges;

impl Actor for TenantChanges {
    fn act(&mut self, day: &mut Day<'_>) -> io::Result<Option<u64>> {
        match day.dice.below(10) {
            0..4 => map_new_key(day)?,
            4..7 => {
                let args = json!({
                    "api_key_hash": day.dice.pick(&day.world.api_keys), "tenant_id": *day.dice.pick(&TENANTS),
                    "group_id": day.dice.below(2),
                });
                day.say(&Line::one("tenant_map.map", args).by("alice"))?;
            }
            _ => {
                let at = day.dice.below(day.world.api_keys.len() as u64) as usize;
                let key = day.world.api_keys.swap_remove(at);
                day.say(&Line::one("tenant_map.unmap", json!({"api_key_hash": key})).by("alice"))?;
                if day.world.api_keys.is_empty() {
                    map_new_key(day)?;
                }
            }
        }
        let interval = day.pace(TENANT_MS);
        Ok(Some(day.dice.about(interval)))
    }
}

fn set_page(day: &mut Day<'_>, index: &'static str) -> io::Result<()> {
    let sizes = [10, 20, 50];
    let mut args = json!({
        "index_uid": index,
        "config_json": {
            "title": format!("Search {index}"), "template": *day.dice.pick(&["card", "list", "grid", "table"]),
            "facets": ["brand", "price"], "page_size": *day.dice.pick(&sizes), "accent": format!("#{}", day.dice.hex(6)),
        },
        "expected_rev": day.world.pages.get(index),
    });
    if let Some(args) = args.as_object_mut().filter(|_| day.dice.chance(300)) {
        args.remove("expected_rev");
    }
    let line = Line::one("search_ui_config.set", args).by("bob");
    let reply = day.say(&line)?;
    day.world.pages.insert(index, number(&reply["rev"]));
    Ok(())
}

/// Search pages that are redesigned.
struct PageChanges;

impl Actor for PageChanges {
    fn act(&mut self, day: &mut Day<'_>) -> io::Result<Option<u64>> {
        let page = *day.dice.pick(&PAGES);
        set_page(day, page)?;
        let interval = day.pace(PAGE_MS);
        Ok(Some(day.dice.about(interval)))
    }
}

/// An index goes without a search page.
pub(super) fn drop_page(day: &mut Day<'_>) -> io::Result<()> {
    let page = PAGES[3];
    day.world.pages.remove(page);
    day.say(&Line::one("search_ui_config.delete", json!({"index_uid": page})).by("bob")).map(drop)
}
