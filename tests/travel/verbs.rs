use serde_json::{Value, json};
use tasklog_testing::RedisServer;

use crate::support::{
    program::{Ended, Store},
    registry::on,
};

const INCIDENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/incident.ndjson");

/// A store that has the incident of the documentation.
struct Incident {
    url: String,
    store: Store,
    _server: Option<std::sync::Arc<RedisServer>>,
}

impl Incident {
    fn all() -> [Self; 2] {
        let file = Store::new();
        let server = RedisServer::shared();
        let redis = format!("{}?prefix={}", server.url(), uuid::Uuid::now_v7());
        let all = [
            Self { url: file.url(), store: file, _server: None },
            Self { url: redis, store: Store::new(), _server: Some(server) },
        ];
        for incident in &all {
            incident.run(&["apply", INCIDENT]).with(0);
        }
        all
    }

    fn run(&self, args: &[&str]) -> Ended {
        on(&self.url, args)
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Vec<Value> {
        let ended = self.run(&[args, &["--json"]].concat()).with(0);
        assert_eq!(ended.err, "", "what is for people stays out of what is for programs");
        ended.json()
    }
}

#[test]
fn every_reading_verb_answers_as_of_an_earlier_moment_and_says_which() {
    for incident in Incident::all() {
        let task = incident.json(&["get", "tasks", "mtask-41", "--at", "14"]);
        assert_eq!((&task[0]["status"], &task[0]["rev"]), (&json!("enqueued"), &json!(10)));
        incident
            .run(&["get", "tasks", "mtask-41", "--at", "2026-01-01T00:01:02.500Z"])
            .with(0)
            .says(&["as of event 15, 2026-01-01T00:01:02.500Z\n"])
            .prints(&[r#"{"meili-0":101,"meili-1":202}"#]);
        let listed = |at: &str| incident.json(&["list", "sessions", "--at", at]).len();
        assert_eq!((listed("1"), listed("8"), listed("-1h"), listed("-1h59m"), listed("0")), (0, 2, 0, 2, 0));
        assert_eq!(incident.json(&["list", "tasks", "--where", "status=failed", "--at", "20"]).len(), 1);
        let unfinished = incident.json(&["query", "tasks.unfinished", "--at", "17"]);
        assert_eq!(unfinished[0].as_array().unwrap().len(), 2);
        let counts = incident.json(&["query", "store.counts", "--at", "17"]);
        assert_eq!((&counts[0]["tasks"], &counts[0]["sessions"]), (&json!(3), &json!(2)));
        assert_eq!(incident.json(&["query", "store.health", "--at", "17"]), [json!(17)]);
        let sql = "SELECT count(*) AS n FROM sessions";
        assert_eq!(incident.json(&["sql", sql, "--at", "-1h59m"]), [json!({ "n": 2 })]);
        assert_eq!(incident.json(&["sql", sql, "--at", "-1h"]), [json!({ "n": 0 })]);
        let info = &incident.json(&["info", "--at", "17"])[0];
        assert_eq!((&info["head"], &info["checkpoint"]), (&json!(17), &json!(17)));
        assert_eq!(info["head_recorded_at"], 1_767_225_663_000_i64);
        let history = incident.json(&["history", "tasks", "mtask-41", "--at", "16"]);
        assert_eq!(
            history.iter().map(|step| step["position"].as_u64().unwrap()).collect::<Vec<_>>(),
            [7, 9, 10, 15, 16]
        );
        let blame = incident.json(&["blame", "tasks", "mtask-41", "--at", "16"]);
        let status = blame.iter().find(|field| field["field"] == "status").unwrap();
        assert_eq!(
            (&status["value"], &status["position"], &status["actor"]),
            (&json!("enqueued"), &json!(7), &json!("router"))
        );
    }
}

#[test]
fn what_names_no_moment_is_refused_with_a_reason() {
    for incident in Incident::all() {
        let get = |at: &str| incident.run(&["get", "tasks", "mtask-41", "--at", at]);
        get("23").with(1).says(&["as of event 23: event 23 is beyond the head: the log ends at event 22"]);
        get("2025-12-31T23:59:59Z")
            .with(1)
            .says(&["nothing yet: the first event was recorded at 2026-01-01T00:00:00.000Z"]);
        get("2026-01-01T02:00:01Z")
            .with(1)
            .says(&["has not come yet: the log's clock stands at 2026-01-01T02:00:00.000Z"]);
        get("-3h").with(1).says(&["nothing yet"]);
        get("soon").with(2).says(&["\"soon\" names no moment", "such as -15m"]);
        get("-5x").with(2).says(&["no unit \"x\""]);
        get("6").with(1).says(&["no row \"mtask-41\" in tasks"]);
        incident.run(&["diff", "9", "3"]).with(1).says(&["event 9 is later than event 3"]);
        incident.run(&["diff", "9"]).with(2);
        incident.run(&["diff", "3", "9", "--key", "a"]).with(1).says(&["name the table as well"]);
        incident.run(&["replay", "--from", "9", "--to", "3"]).with(1).says(&["no event from 9 to 3"]);
        incident.run(&["blame", "tasks", "nobody"]).with(1).says(&["no row \"nobody\" in tasks"]);
        incident.run(&["blame", "sessions", "4e9dcc04f2ce"]).with(1).says(&["no row \"***1\"", "history"]);
    }
}

#[test]
fn a_difference_is_told_field_by_field_with_its_events_and_counts() {
    for incident in Incident::all() {
        let lines = incident.json(&["diff", "14", "-90m"]);
        let (last, rows) = lines.split_last().unwrap();
        assert_eq!(
            *last,
            json!({ "from": 14, "to": 21, "events": 7, "added": 0, "removed": 0, "died": 2, "changed": 2, "unchanged": 0 })
        );
        let task = rows.iter().find(|row| row["key"] == "mtask-41").unwrap();
        assert_eq!((&task["table"], &task["fate"], &task["events"]), (&json!("tasks"), &json!("changed"), &json!(5)));
        assert_eq!(task["fields"]["status"], json!({ "old": "enqueued", "new": "failed" }));
        assert_eq!(task["causes"][0]["position"], 15);
        assert_eq!(task["causes"][0]["reason"], "retry of req-902");
        let one = incident.json(&["diff", "14", "21", "tasks", "--key", "mtask-41"]);
        assert_eq!((&one[0], one.len()), (task, 2));
        assert_eq!(incident.json(&["diff", "14", "21", "jobs"]).len(), 1);
        let same = incident.json(&["diff", "--with", &incident.url]);
        assert_eq!(same, [json!({ "head": 22, "with_head": 22, "only_here": 0, "only_there": 0, "changed": 0 })]);
    }
}

#[test]
fn replaying_in_a_pipe_shows_the_row_before_and_after_each_event() {
    for incident in Incident::all() {
        let steps = incident.json(&[
            "replay",
            "--from",
            "2026-01-01T00:01:02Z",
            "--to",
            "20",
            "--table",
            "tasks",
            "--key",
            "mtask-41",
        ]);
        let positions: Vec<_> = steps.iter().map(|step| step["position"].as_u64().unwrap()).collect();
        assert_eq!(positions, [15, 16, 17, 20]);
        assert_eq!(steps[2]["before"]["status"], "enqueued");
        assert_eq!(steps[2]["after"]["status"], "processing");
        assert_eq!(steps[2]["changes"]["status"], json!({ "old": "enqueued", "new": "processing" }));
        let all = incident.run(&["replay"]).with(0);
        assert_eq!(all.out.lines().filter(|line| line.starts_with('#')).count(), 22);
        let first = &incident.json(&["replay", "--to", "1"])[0];
        assert_eq!((&first["before"], &first["after"]["status"]), (&Value::Null, &json!("enqueued")));
    }
}

#[test]
fn what_is_sensitive_is_masked_in_every_verb_unless_it_is_asked_for() {
    let secrets = ["4e9dcc04f2ce", "b0771c93a5d8"];
    for incident in Incident::all() {
        for args in [
            &["diff", "0", "12", "sessions"][..],
            &["diff", "0", "-1h", "--json"],
            &["replay", "--table", "sessions"],
            &["replay", "--table", "sessions", "--json"],
            &["list", "sessions", "--at", "12"],
            &["blame", "sessions", "4e9dcc04f2ce", "--at", "12"],
            &["history", "sessions", "4e9dcc04f2ce", "--at", "12"],
            &["sql", "SELECT * FROM sessions", "--at", "12"],
        ] {
            let ended = incident.run(args).with(0);
            assert!(!ended.out.is_empty(), "{args:?}");
            for secret in secrets {
                assert!(!ended.out.contains(secret) && !ended.err.contains(secret), "{args:?}: {}", ended.out);
            }
        }
        incident.run(&["diff", "0", "12", "sessions", "--show-sensitive"]).with(0).prints(&secrets);
        incident.run(&["replay", "--table", "sessions", "--show-sensitive"]).with(0).prints(&secrets);
        let sql = incident.run(&["sql", "SELECT session_id FROM origin.sessions", "--at", "12"]);
        assert_ne!(sql.status, Some(0), "{}", sql.out);
        let events = incident.run(&["sql", "SELECT key FROM origin.events", "--at", "12"]);
        assert_ne!(events.status, Some(0), "{}", events.out);
    }
}

#[test]
fn the_events_of_a_file_are_there_in_sql_through_the_moment_and_no_further() {
    let [file, redis] = Incident::all();
    let count = "SELECT count(*) AS n, max(position) AS last FROM events";
    assert_eq!(file.json(&["sql", count, "--at", "15"]), [json!({ "n": 15, "last": 15 })]);
    let why = "SELECT payload ->> '$.why' AS why FROM events WHERE type = 'node_task_replaced'";
    assert_eq!(file.json(&["sql", why, "--at", "15"]).len(), 1);
    assert_eq!(file.json(&["sql", why, "--at", "14"]).len(), 0);
    redis.run(&["sql", count, "--at", "15"]).with(1).says(&["no such table: events"]);
}

#[test]
fn a_fork_answers_what_if_and_leaves_its_source_alone() {
    for incident in Incident::all() {
        let folder = incident.store.folder.path();
        let fork = format!("sqlite:{}", folder.join("what-if.db").display());
        let fix = folder.join("fix.ndjson");
        let report = r#"{"command":"tasks.report_node_statuses","args":{"miroir_id":"mtask-41","reports":[{"node_id":"meili-1","status":"succeeded"}]}}"#;
        std::fs::write(&fix, format!("{report}\n")).unwrap();
        let before = crate::support::registry::dump(&incident.url);
        let made = incident
            .run(&["fork", "--skip", "15,20-21", "--apply", fix.to_str().unwrap(), "--into", &fork, "--json"])
            .with(0)
            .json();
        assert_eq!((&made[0]["through"], &made[0]["head"], &made[0]["left_out"]), (&json!(22), &json!(19), &json!(3)));
        assert_eq!(made[1]["ok"], true);
        let lines = incident.json(&["diff", "--with", &fork]);
        assert_eq!(lines.last().unwrap()["changed"], 1);
        let status = lines.iter().find(|line| line["field"] == "status").unwrap();
        assert_eq!((&status["here"], &status["there"]), (&json!("failed"), &json!("succeeded")));
        on(&fork, &["verify"]).with(0);
        assert_eq!(crate::support::registry::dump(&incident.url), before);
        incident.run(&["fork", "--into", &fork]).with(1).says(&["there is a file already"]);
        let none = format!("sqlite:{}", folder.join("none.db").display());
        incident
            .run(&["fork", "--skip", "7", "--into", &none])
            .with(1)
            .says(&["event 9, node_task_attached", "needs event 7"]);
        incident
            .run(&["fork", "--at", "10", "--skip", "11", "--into", &none])
            .with(1)
            .says(&["the fork ends at event 10"]);
        incident.run(&["fork", "--skip", "x", "--into", &none]).with(2).says(&["such as 5,7-9"]);
        assert!(!folder.join("none.db").exists());
    }
}

/// Keys that are typed on a terminal, which `script` lends.
#[cfg(target_os = "linux")]
#[test]
fn on_a_terminal_somebody_steps_forward_back_and_to_a_position() {
    let [file, _] = Incident::all();
    let program = crate::support::program::tasklog();
    let replay =
        format!("{} --store {} replay --table tasks --key mtask-41", program.get_program().to_str().unwrap(), file.url);
    let mut command = std::process::Command::new("script");
    command.args(["-qec", &replay, "/dev/null"]);
    let ended = crate::support::program::run(command, b"nn17\nbpeeEq").with(0);
    let shown: Vec<_> = ended.out.lines().filter_map(|line| line.split('#').nth(1)?.split(' ').next()).collect();
    // next, next, to 17, (b is no key), previous, next of this row twice, previous of it
    assert_eq!(shown, ["7", "9", "10", "10", "10", "17", "17", "16", "17", "20", "17"]);
}
