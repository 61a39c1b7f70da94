use std::io;

use serde_json::json;

use super::{
    actor::{Actor, Day},
    admins, canaries, cursors, indexes, jobs,
    leases::{self, Keeper},
    lifecycle,
    line::Line,
    mistakes::Mistakes,
    settings,
    world::INDEXES,
    writes::Clients,
};
use crate::store::RECORDING_FROM;

/// Tasks that are taken over from a node that worked alone until yesterday.
const IMPORTED: u64 = 5;
const HOUR_MS: u64 = 3_600_000;

/// What is there in the morning, and everyone who does something during the day.
pub(super) fn open(day: &mut Day<'_>) -> io::Result<()> {
    import_tasks(day)?;
    Keeper::begin(day)?;
    indexes::begin(day)?;
    settings::begin(day);
    canaries::begin(day)?;
    admins::begin(day)?;
    cursors::begin(day);
    jobs::begin(day);
    day.later(1_000, Clients);
    day.later(90_000, Mistakes::default());
    for (hour, what) in ONCE {
        day.later(hour * HOUR_MS, Once(what));
    }
    Ok(())
}

/// What happens once, at an hour of the day.
const ONCE: [(u64, Deed); 7] = [
    (3, lifecycle::tune),
    (5, indexes::rename_alias),
    (6, leases::abandon),
    (7, leases::give_up),
    (12, settings::drop_and_remake),
    (18, admins::drop_page),
    (21, canaries::start_over),
];

type Deed = fn(&mut Day<'_>) -> io::Result<()>;

struct Once(Deed);

impl Actor for Once {
    fn act(&mut self, day: &mut Day<'_>) -> io::Result<Option<u64>> {
        (self.0)(day)?;
        Ok(None)
    }
}

fn import_tasks(day: &mut Day<'_>) -> io::Result<()> {
    for uid in 0..IMPORTED {
        let created_at = RECORDING_FROM - 3_600_000 + uid.cast_signed() * 60_000;
        let args = json!({
            "miroir_id": format!("mtask-old-{uid}"), "node_id": "meili-0", "task_uid": uid, "status": "succeeded",
            "created_at": created_at, "started_at": created_at + 20, "finished_at": created_at + 900,
            "index_uid": INDEXES[0],
        });
        day.say(&Line::one("tasks.import", args).by("alice").because("took over meili-0"))?;
    }
    Ok(())
}
