#![allow(clippy::unwrap_used)]

use tasklog_projections::tables::tasks::TaskStatus;

use super::*;
use crate::{
    OpenOptions, StoreUrl, TaskStore,
    command::{Command, CommandOptions},
    tables::tasks as commands,
};

fn store() -> TaskStore {
    TaskStore::open_with(&StoreUrl::Memory, OpenOptions::default()).unwrap()
}

fn run<C: Command>(store: &TaskStore, command: C) -> u64 {
    store.run_blocking(command, CommandOptions::default()).unwrap().position.0
}

/// Answers the position of the registering event.
fn register(store: &TaskStore, miroir_id: &str, index: &str, kind: &str) -> u64 {
    let task = commands::Register {
        miroir_id: Some(miroir_id.into()),
        index_uid: Some(index.into()),
        task_type: Some(kind.into()),
        ..commands::Register::default()
    };
    run(store, task)
}

fn end(store: &TaskStore, miroir_id: &str, status: TaskStatus, error: Option<&str>) {
    let error = error.map(str::to_owned);
    run(store, commands::SetStatus { miroir_id: miroir_id.into(), status, error });
}

fn asked(params: &[(&str, &str)]) -> Result<Asked, ApiError> {
    Asked::parse(params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

fn page(store: &TaskStore, params: &[(&str, &str)]) -> Tasks {
    list(store, &Uids::default(), &asked(params).unwrap()).unwrap().0
}

fn uids(tasks: &Tasks) -> Vec<u64> {
    tasks.results.iter().map(|task| task.uid).collect()
}

#[test]
fn a_tasks_uid_is_the_position_of_its_registration_whatever_happens_to_it() {
    let store = store();
    let uid = register(&store, "mtask-1", "products", "documentAdditionOrUpdate");
    register(&store, "mtask-2", "products", "documentAdditionOrUpdate");
    let known = Uids::default();
    for _ in 0..2 {
        assert_eq!(get(&store, &known, "mtask-1").unwrap().unwrap().0.uid, uid);
        end(&store, "mtask-1", TaskStatus::Succeeded, None);
    }
    let (task, _) = get(&store, &known, &uid.to_string()).unwrap().unwrap();
    assert_eq!((task.miroir_id.as_str(), task.status.as_str()), ("mtask-1", "succeeded"));
    assert_eq!(task.duration.as_deref(), Some("PT0S"));
    assert_eq!(task.r#type, "documentAdditionOrUpdate");
}

#[test]
fn the_uid_of_a_removed_task_finds_nothing_also_when_its_id_is_used_again() {
    let store = store();
    let first = register(&store, "mtask-1", "products", "settingsUpdate");
    end(&store, "mtask-1", TaskStatus::Succeeded, None);
    run(&store, commands::Prune { cutoff_ms: Some(i64::MAX >> 10), ..commands::Prune::default() });
    let known = Uids::default();
    assert_eq!(get(&store, &known, &first.to_string()).unwrap().unwrap_err().code, "task_not_found");
    let second = register(&store, "mtask-1", "products", "settingsUpdate");
    assert_eq!(get(&store, &known, &first.to_string()).unwrap().unwrap_err().status, 404);
    assert_eq!(get(&store, &known, "mtask-1").unwrap().unwrap().0.uid, second);
}

#[test]
fn positions_of_other_events_are_no_uids() {
    let store = store();
    let uid = register(&store, "mtask-1", "products", "settingsUpdate");
    end(&store, "mtask-1", TaskStatus::Succeeded, None);
    let known = Uids::default();
    for text in [(uid + 1).to_string(), "0".into(), u64::MAX.to_string(), "mtask-none".into()] {
        let error = get(&store, &known, &text).unwrap().unwrap_err();
        assert_eq!(error.message, format!("Task `{text}` not found."));
    }
    let error = get(&store, &known, "cat").unwrap().unwrap_err();
    assert_eq!((error.status, error.code), (400, "invalid_task_uid"));
}

#[test]
fn pages_follow_one_another_without_gaps_in_both_directions() {
    let store = store();
    let all: Vec<_> = (0..7).map(|n| register(&store, &format!("mtask-{n}"), "products", "settingsUpdate")).collect();
    for reverse in ["false", "true"] {
        let mut seen = Vec::new();
        let mut from = None::<u64>;
        loop {
            let text = from.map(|from| from.to_string());
            let mut params = vec![("limit", "3"), ("reverse", reverse)];
            params.extend(text.as_deref().map(|from| ("from", from)));
            let page = page(&store, &params);
            assert_eq!((page.total, page.limit), (7, 3));
            assert_eq!(page.from, page.results.first().map(|task| task.uid));
            seen.extend(uids(&page));
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, all, "reverse {reverse}");
    }
}

#[test]
fn a_page_begins_at_the_moment_of_a_position_that_is_no_tasks() {
    let store = store();
    let uid = register(&store, "mtask-1", "products", "settingsUpdate");
    end(&store, "mtask-1", TaskStatus::Processing, None);
    assert_eq!(uids(&page(&store, &[("from", &(uid + 1).to_string())])), [uid]);
    assert_eq!(uids(&page(&store, &[("from", "999999")])), [uid]);
    assert_eq!(page(&store, &[("from", "0")]).results, []);
}

#[test]
fn filters_join_and_total_counts_what_passes_on_all_pages() {
    let store = store();
    let a = register(&store, "mtask-1", "products", "settingsUpdate");
    let b = register(&store, "mtask-2", "products", "documentDeletion");
    let c = register(&store, "mtask-3", "movies", "documentDeletion");
    end(&store, "mtask-1", TaskStatus::Succeeded, None);
    end(&store, "mtask-2", TaskStatus::Failed, Some("meili-0: Index `products` not found. (index_not_found)"));

    let sorted = |params: &[(&str, &str)]| {
        let page = page(&store, params);
        let mut found = uids(&page);
        found.sort_unstable();
        assert_eq!(page.total, found.len() as u64, "{params:?}");
        found
    };
    assert_eq!(sorted(&[]), [a, b, c]);
    assert_eq!(sorted(&[("statuses", "succeeded,failed")]), [a, b]);
    assert_eq!(sorted(&[("statuses", "*"), ("indexUids", "*")]), [a, b, c]);
    assert_eq!(sorted(&[("types", "documentDeletion")]), [b, c]);
    assert_eq!(sorted(&[("types", "documentDeletion"), ("indexUids", "products,books")]), [b]);
    assert_eq!(sorted(&[("uids", &format!("{a},{c},999"))]), [a, c]);
    assert_eq!(sorted(&[("uids", &a.to_string()), ("statuses", "enqueued")]), [0; 0]);
    assert_eq!(sorted(&[("canceledBy", "1")]), [0; 0]);
    assert_eq!(sorted(&[("afterEnqueuedAt", "2000-01-01")]), [a, b, c]);
    assert_eq!(sorted(&[("beforeEnqueuedAt", "2000-01-01T00:00:00Z")]), [0; 0]);
    assert_eq!(sorted(&[("afterFinishedAt", "2000-01-01")]), [a, b]);
}

#[test]
fn an_error_has_the_code_that_its_node_gave() {
    let store = store();
    for (id, error, code, kind) in [
        ("mtask-1", "meili-0: Index `a` not found. (index_not_found)", "index_not_found", "invalid_request"),
        ("mtask-2", "node_removed", "internal", "internal"),
    ] {
        register(&store, id, "products", "settingsUpdate");
        end(&store, id, TaskStatus::Failed, Some(error));
        let told = get(&store, &Uids::default(), id).unwrap().unwrap().0.error.unwrap();
        assert_eq!((told.message.as_str(), told.code.as_str(), told.r#type.as_str()), (error, code, kind));
        assert_eq!(told.link, format!("https://docs.meilisearch.com/errors#{code}"));
    }
}

#[test]
fn an_imported_task_has_the_name_of_its_kind_that_the_api_uses() {
    let store = store();
    let task = commands::Import {
        miroir_id: "mtask-1".into(),
        node_id: "meili-0".into(),
        task_uid: 3,
        status: TaskStatus::Succeeded,
        created_at: 1_715_873_583_564,
        error: None,
        index_uid: Some("novector".into()),
        task_type: Some("documentImport".into()),
        started_at: Some(1_715_873_583_567),
        finished_at: Some(1_715_873_584_623),
    };
    run(&store, task);
    let (task, _) = get(&store, &Uids::default(), "mtask-1").unwrap().unwrap();
    assert_eq!(task.r#type, "documentAdditionOrUpdate");
    assert_eq!(task.enqueued_at, "2024-05-16T15:33:03.564Z");
    assert_eq!(task.duration.as_deref(), Some("PT1.056S"));
}

#[test]
fn values_that_a_parameter_cannot_have_are_refused_in_meilisearchs_words() {
    let refused = |name: &str, value: &str| asked(&[(name, value)]).unwrap_err();
    let error = refused("statuses", "succeeded,finished");
    assert_eq!(error.code, "invalid_task_statuses");
    assert_eq!(
        error.message,
        "Invalid value in parameter `statuses`: `finished` is not a valid task status. Available statuses are \
         `enqueued`, `processing`, `succeeded`, `failed`, `canceled`."
    );
    for (name, value, code) in [
        ("types", "createIndex", "invalid_task_types"),
        ("uids", "1,cat", "invalid_task_uids"),
        ("uids", "", "invalid_task_uids"),
        ("canceledBy", "cat", "invalid_task_canceled_by"),
        ("limit", "-1", "invalid_task_limit"),
        ("from", "x", "invalid_task_from"),
        ("reverse", "maybe", "invalid_task_reverse"),
        ("indexUids", "the good place", "invalid_index_uid"),
        ("beforeEnqueuedAt", "yesterday", "invalid_task_before_enqueued_at"),
        ("status", "enqueued", "bad_request"),
    ] {
        let error = refused(name, value);
        assert_eq!((error.status, error.code), (400, code), "{name}={value}");
        assert_eq!(error.body().r#type, "invalid_request");
    }
    assert!(refused("status", "enqueued").message.starts_with("Unknown parameter `status`: expected one of `limit`"));
}

#[test]
fn a_page_has_the_members_that_clients_read() {
    let store = store();
    register(&store, "mtask-1", "products", "settingsUpdate");
    let page = serde_json::to_value(page(&store, &[])).unwrap();
    let task = page["results"][0].as_object().unwrap();
    let members = [
        "uid",
        "batchUid",
        "indexUid",
        "status",
        "type",
        "canceledBy",
        "details",
        "error",
        "duration",
        "enqueuedAt",
        "startedAt",
        "finishedAt",
    ];
    for member in members {
        assert!(task.contains_key(member), "{member}");
    }
    assert_eq!(page["limit"], 20);
    assert!(page["next"].is_null());
}
