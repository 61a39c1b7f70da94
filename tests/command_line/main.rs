//! The command line at its edges: texts that mean harm, signals, files that are not what they should be, and lines that
//! look like commands.
#![allow(clippy::unwrap_used, missing_docs)]

mod files;
mod lines;
mod shown;
mod signals;
#[path = "../support/mod.rs"]
mod support;

fn register(id: &str) -> String {
    format!(r#"{{"command":"tasks.register","args":{{"miroir_id":"{id}","node_tasks":{{"n1":7}}}}}}"#)
}
