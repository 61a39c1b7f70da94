//! The page about the service names everything that there is.

use tasklog::serve::routes::{Place, routes};

use crate::support::program::{run, tasklog};

fn page() -> String {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/http.md");
    std::fs::read_to_string(file).unwrap()
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
