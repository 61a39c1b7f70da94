//! The page about the service names everything that there is.

use tasklog::serve::routes::{Place, routes};

use crate::{
    service::Service,
    support::{
        console::{assert_prints, project, run_blocks, steady},
        program::{run, tasklog},
    },
};

fn page() -> String {
    std::fs::read_to_string(project("docs/http.md")).unwrap()
}

/// `UPDATE_DOCS=1 cargo test --test serve page` writes what the service answers now.
#[test]
fn the_examples_print_what_the_page_says() {
    let page = page();
    let service = Service::new(&["--heartbeat-ms", "500"]);
    let folder = tempfile::tempdir().unwrap();
    // Its meter of progress is for people.
    std::fs::write(folder.path().join(".curlrc"), "silent\n").unwrap();
    let made = run_blocks(&page, folder.path(), |command| command.replace("http://127.0.0.1:7711", &service.base));
    assert_prints(&project("docs/http.md"), &page, &made, steady);
    assert!(made.matches("$ curl").count() >= 10, "the examples are not run");
}

#[test]
fn every_route_and_every_parameter_is_in_the_page() {
    let page = page();
    for route in routes() {
        let row = format!("| `{} {}` |", route.method, route.path);
        assert!(page.contains(&row), "{row}");
        for param in route.params.iter().filter(|param| param.place != Place::Path) {
            assert!(page.contains(&format!("`{}`", param.name)), "{}", param.name);
        }
    }
}

#[test]
fn every_limit_is_in_the_page_with_its_default() {
    let page = page();
    let mut command = tasklog();
    command.args(["serve", "--help"]);
    let help = run(command, b"").with(0).out;
    let limits = help.split_once("Limits:").expect("a heading").1;
    assert!(limits.contains("--replica-lag-max"), "what bounds a replica comes after the limits");
    let mut flag = "";
    let mut found = 0;
    for line in limits.lines() {
        if let Some(rest) = line.trim().strip_prefix("--") {
            flag = rest.split(' ').next().unwrap();
        } else if let Some(default) = line.trim().strip_prefix("[default: ").and_then(|rest| rest.strip_suffix(']'))
            && default.parse::<u64>().is_ok()
        {
            let row = format!("| `--{flag}` | {default} |");
            assert!(page.contains(&row), "{row}");
            found += 1;
        }
    }
    assert!(found >= 16, "{found}");
}
