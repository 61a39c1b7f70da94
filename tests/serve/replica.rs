//! A replica is served for reading.

use crate::{
    service::{Service, register},
    support::program::{Store, run, tasklog},
};

#[test]
fn a_replica_answers_reads_and_refuses_commands_with_a_hint() {
    let store = Store::with(&[register("t1"), register("t2")]);
    let replica = format!("sqlite:{}", store.folder.path().join("replica.db").display());
    let mut command = tasklog();
    command.args(["follow", &store.url(), "--into", &replica, "--once"]);
    run(command, b"").with(0);
    let service = Service::of(&replica, &[]);
    assert_eq!(service.get("/v1/tables/tasks/t2").with(200).position(), 2);
    assert!(service.get("/v1/info").json()["follows"].as_str().unwrap().contains("tasklog.db"));
    service.get("/readyz").with(200);
    let detail = service.post("/v1/commands", &register("t3")).problem(403, "read_only");
    assert!(detail.contains("the store that it follows"), "{detail}");
    let stream = [("content-type", "application/x-ndjson")];
    service.post_with("/v1/commands", &register("t3"), &stream).problem(403, "read_only");

    // It is followed further while it is served; a read waits for what was written to the source.
    store.apply(&[register("t3")]).with(0);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| service.get_with("/v1/tables/tasks/t3", &[("tasklog-min-position", "3")]));
        let mut command = tasklog();
        command.args(["follow", &store.url(), "--into", &replica, "--once"]);
        run(command, b"").with(0);
        assert_eq!(reading.join().unwrap().with(200).position(), 3);
    });
}
