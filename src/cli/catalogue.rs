use std::{
    fs::File,
    io::{BufWriter, ErrorKind, Write},
    path::Path,
};

use clap::Args;
use serde_json::json;

use super::{
    Context, Ended,
    output::{self, FAINT, HEAD},
};
use crate::{Error, Rejection, generate, tables::SIDES};

/// Make a recorded day of one orchestrator: NDJSON that `tasklog apply` reads. The same seed gives the same bytes.
#[derive(Args)]
pub(crate) struct Generate {
    /// Where the randomness begins
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// How many lines at least; a transact is one line
    #[arg(long, default_value_t = 20_000)]
    commands: u64,
    /// The file to write, which must not be there; standard output without
    #[arg(long, value_name = "FILE")]
    out: Option<std::path::PathBuf>,
}

impl Generate {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        let failed = |error| output::io("generating", error);
        let out: Box<dyn Write> = match &self.out {
            Some(path) => Box::new(create(path)?),
            None => Box::new(std::io::stdout().lock()),
        };
        let mut out = BufWriter::new(out);
        let summary = generate::generate(self.seed, self.commands, &mut out).map_err(failed)?;
        out.flush().map_err(failed)?;
        if !context.out.json {
            let refused: u64 = summary.refused();
            eprintln!("{} lines, {} bytes, {refused} of them to be refused", summary.lines, summary.bytes);
        }
        Ok(Ended::Well)
    }
}

/// A new file.
fn create(path: &Path) -> Result<File, Error> {
    File::create_new(path).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Rejection::already_exists(format!("{} is there already", path.display())).into(),
        _ => output::io(&format!("writing {}", path.display()), error),
    })
}

/// The catalogue of commands, queries and events, with their JSON Schemas. It is made from the code.
#[derive(Args)]
pub(crate) struct Commands {
    /// A table, a command, a query or an event type; all of them if absent
    name: Option<String>,
    /// The whole catalogue as a page of Markdown: docs/catalogue.md is made by this
    #[arg(long, conflicts_with = "name")]
    markdown: bool,
}

impl Commands {
    pub(crate) fn run(self, context: &Context) -> Result<Ended, Error> {
        if self.markdown {
            return context.out.verbatim(markdown().trim_end()).map(|()| Ended::Well);
        }
        let Some(name) = self.name else { return Self::list(context) };
        let mut shown = false;
        for side in SIDES {
            let of_table = side.table.name == name;
            for command in side.commands.iter().filter(|command| of_table || command.name == name) {
                shown = true;
                context.out.lines(&pretty(context, &json!({
                    "command": command.name, "about": command.about, "chunked": command.chunked, "lease": command.lease,
                    "args": (command.args)(), "answer": (command.answer)(),
                })))?;
            }
            for query in side.queries.iter().filter(|query| of_table || query.name == name) {
                shown = true;
                context.out.lines(&pretty(
                    context,
                    &json!({
                        "query": query.name, "about": query.about, "args": (query.args)(),
                    }),
                ))?;
            }
            for event in side.table.events.iter().filter(|event| of_table || event.name == name) {
                shown = true;
                context.out.lines(&pretty(context, &json!({
                    "event": event.name, "version": event.version, "table": side.table.name, "payload": (event.schema)(),
                })))?;
            }
        }
        if shown {
            return Ok(Ended::Well);
        }
        Err(Rejection::not_found(format!("{name:?} is no table, command, query or event type")).into())
    }

    fn list(context: &Context) -> Result<Ended, Error> {
        for side in SIDES {
            if !context.out.json {
                context.out.line(format!("{}{}{}", HEAD.render(), side.table.name, HEAD.render_reset()))?;
            }
            for command in side.commands {
                let needs = command.lease.map(|lease| format!(" (lease {lease})")).unwrap_or_default();
                Self::entry(context, "command", command.name, &format!("{}{needs}", command.about))?;
            }
            for query in side.queries {
                Self::entry(context, "query", query.name, query.about)?;
            }
            for event in side.table.events {
                let about =
                    (event.schema)().get("description").and_then(|text| text.as_str()).unwrap_or_default().to_owned();
                Self::entry(context, "event", event.name, &about)?;
            }
        }
        Ok(Ended::Well)
    }

    fn entry(context: &Context, kind: &str, name: &str, about: &str) -> Result<(), Error> {
        if context.out.json {
            return context.out.line(json!({ kind: name, "about": about }).to_string());
        }
        context.out.line(format!("  {}{kind:<8}{} {name:<40} {about}", FAINT.render(), FAINT.render_reset()))
    }
}

fn pretty(context: &Context, value: &serde_json::Value) -> String {
    if context.out.json { value.to_string() } else { format!("{value:#}") }
}

/// The whole catalogue as a page of Markdown.
fn markdown() -> String {
    let mut page = String::from(
        "# The catalogue\n\nEvery command, query and event, made from the code by `tasklog commands --markdown`. \
         `?` marks what may be absent.\nSchemas in full: `tasklog commands NAME`. Rules and meanings: \
         [tables.md](tables.md).\n",
    );
    for side in SIDES {
        page.push_str(&format!(
            "\n## `{}`\n\n| command | arguments | answers | about |\n| --- | --- | --- | --- |\n",
            side.table.name
        ));
        for command in side.commands {
            let (args, answer) = (members((command.args)()), members((command.answer)()));
            let chunked = if command.chunked { "; may take several commits" } else { "" };
            let lease = command.lease.map(|lease| format!("; needs lease `{lease}`")).unwrap_or_default();
            let name = command.name;
            page.push_str(&format!("| `{name}` | {args} | {answer} | {}{chunked}{lease} |\n", command.about));
        }
        page.push_str("\n| query | arguments | about |\n| --- | --- | --- |\n");
        for query in side.queries {
            page.push_str(&format!("| `{}` | {} | {} |\n", query.name, members((query.args)()), query.about));
        }
        page.push_str("\n| event | version | payload | about |\n| --- | --- | --- | --- |\n");
        for event in side.table.events {
            let schema = (event.schema)();
            let about = schema.get("description").and_then(|text| text.as_str()).unwrap_or_default().replace('\n', " ");
            page.push_str(&format!("| `{}` | {} | {} | {about} |\n", event.name, event.version, members(schema)));
        }
    }
    page
}

/// The members of an object schema: `name`, or `name?` if it may be absent.
fn members(schema: schemars::Schema) -> String {
    let required: Vec<_> = schema.get("required").and_then(|names| names.as_array()).cloned().unwrap_or_default();
    let Some(properties) = schema.get("properties").and_then(|members| members.as_object()) else {
        return String::new();
    };
    let shown = properties.keys().map(|name| {
        let optional = if required.iter().any(|known| known == name) { "" } else { "?" };
        format!("`{name}{optional}`")
    });
    shown.collect::<Vec<_>>().join(" ")
}
