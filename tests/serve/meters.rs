//! Metrics, the document of the interface, and the task API of Meilisearch, over real connections.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use tasklog::serve::{openapi, routes::routes};

use crate::service::Service;

fn set_status(service: &Service, id: &str, status: &str) {
    let command = json!({ "command": "tasks.set_status", "args": { "miroir_id": id, "status": status } });
    service.post("/v1/commands", &command.to_string()).with(200);
}

#[test]
fn metrics_count_outcomes_and_requests() {
    let service = Service::new(&[]);
    service.register("mtask-1");
    set_status(&service, "mtask-1", "succeeded");
    set_status(&service, "mtask-1", "succeeded");
    let answered = service.get("/metrics").with(200);
    assert!(answered.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    for line in [
        r#"miroir_tasks_total{status="succeeded"} 1"#,
        r#"miroir_http_request_seconds_count{route="/v1/commands",status="200"} 3"#,
        "miroir_log_append_seconds_count 2",
        "miroir_log_head_position 2",
        r#"miroir_projection_lag_events{store="sqlite"} 0"#,
        "miroir_requests_in_flight 1",
        "miroir_rebuild_progress_ratio 1",
    ] {
        assert!(answered.text.lines().any(|known| known == line), "{line} is not in\n{}", answered.text);
    }
}

#[test]
fn promtool_finds_nothing_to_say_about_the_metrics() {
    let service = Service::new(&[]);
    service.register("mtask-1");
    let lease = json!({ "command": "leader_lease.acquire", "args": { "scope": "ilm", "holder": "pod-1" } });
    service.post("/v1/commands", &lease.to_string()).with(200);
    let text = service.get("/metrics").with(200).text;
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = promtool.expect("promtool: apt-get install --no-install-recommends prometheus");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let checked = promtool.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
    assert!(checked.status.success() && said.is_empty(), "{said}");
}

#[test]
fn the_document_is_served_and_names_every_route() {
    let service = Service::new(&[]);
    let document = service.get("/openapi.json").with(200).json();
    assert_eq!(document, openapi::document());
    let paths = document["paths"].as_object().unwrap();
    for route in routes() {
        let path = route.path.replace("{*", "{");
        assert!(paths[&path].get(route.method.to_ascii_lowercase()).is_some(), "{} {path}", route.method);
    }
}

#[test]
fn tasks_are_listed_and_found_as_meilisearch_does() {
    let service = Service::new(&[]);
    service.register("mtask-1");
    service.register("mtask-2");
    set_status(&service, "mtask-1", "failed");
    let page = service.get("/tasks?limit=1").with(200);
    assert_eq!(page.position(), 3);
    let page = page.json();
    assert_eq!((&page["total"], &page["limit"], &page["from"]), (&json!(2), &json!(1), &page["results"][0]["uid"]));
    let next = service.get(&format!("/tasks?limit=1&from={}", page["next"])).with(200).json();
    assert_eq!(next["next"], Value::Null);
    let failed = service.get("/tasks?statuses=failed").with(200).json();
    assert_eq!((&failed["total"], &failed["results"][0]["uid"]), (&json!(1), &json!(1)));
    for uid in ["1", "mtask-1"] {
        let task = service.get(&format!("/tasks/{uid}")).with(200).json();
        assert_eq!(
            (&task["uid"], &task["status"], &task["miroirId"]),
            (&json!(1), &json!("failed"), &json!("mtask-1"))
        );
    }
    let missing = service.get("/tasks/3").with(404).json();
    assert_eq!((&missing["code"], &missing["type"]), (&json!("task_not_found"), &json!("invalid_request")));
    let wrong = service.get("/tasks?statuses=finished").with(400).json();
    assert_eq!(wrong["code"], "invalid_task_statuses");
}

#[test]
fn values_that_break_a_deployment_rule_keep_the_service_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values.json");
    std::fs::write(&file, r#"{"miroir": {"replicas": 2}, "taskStore": {"backend": "sqlite"}}"#).unwrap();
    let refused = Service::command("memory:", &["--config", file.to_str().unwrap()]).output().unwrap();
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("deployment rule 1: taskStore.backend"), "{said}");
    std::fs::write(&file, r#"{"miroir": {"replicas": 1}}"#).unwrap();
    drop(Service::of("memory:", &["--config", file.to_str().unwrap()]));
}
