//! One command, or one transact, as a line of JSON; and its answer as one.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tasklog_log::{CommitId, Millis};
use uuid::Uuid;

use crate::{
    command::{AnyCommand, CommandOptions},
    engine::{AnyReply, Request},
    rejection::{Error, Rejection},
    tables, text,
};

/// The fields of a line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct Line<'a> {
    command: Option<String>,
    #[serde(borrow)]
    args: Option<&'a RawValue>,
    #[serde(borrow)]
    transact: Option<Vec<Object<'a>>>,
    actor: Option<Arc<str>>,
    reason: Option<Arc<str>>,
    request_id: Option<Arc<str>>,
    command_id: Option<Uuid>,
    #[serde(borrow)]
    lease: Option<Object<'a>>,
    at_ms: Option<u64>,
}

/// What must be an object. serde takes a list of the fields without their names for one as well.
#[derive(Deserialize)]
#[serde(transparent)]
struct Object<'a>(#[serde(borrow)] &'a RawValue);

impl<'a> Object<'a> {
    fn parse<T: Deserialize<'a>>(&self, what: &str) -> Result<T, Rejection> {
        text::arguments(self.0).map_err(|why| Rejection::invalid(format!("{what}: {why}")))
    }
}

/// One command of a transact.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item<'a> {
    command: String,
    #[serde(borrow)]
    args: Option<&'a RawValue>,
}

/// A line that was understood.
#[derive(Debug)]
pub struct ParsedLine {
    /// What to run; its `at` is not set.
    pub request: Request,
    /// The offset from the start of the recording, if the line carries one.
    pub at_ms: Option<Millis>,
}

/// Parses one line: `{"command":"tasks.register","args":{…}}` or `{"transact":[{"command":…,"args":…},…]}`, either with
/// `actor`, `reason`, `request_id`, `command_id`, `lease` and `at_ms`.
///
/// # Errors
/// `invalid`, with the column where the text stops making sense, or naming the command or argument that is wrong.
pub fn parse(text: &str) -> Result<ParsedLine, Rejection> {
    if let Some(at) = text.find(|c: char| !c.is_ascii_whitespace()).filter(|at| text[*at..].starts_with('[')) {
        return Err(Rejection::invalid(format!("column {}: expected an object, found an array", at + 1)));
    }
    let line: Line<'_> = serde_json::from_str(text).map_err(|error| malformed(&error))?;
    let (commands, transact) = match (line.command, line.transact) {
        (Some(name), None) => (vec![command(&name, line.args)?], false),
        (None, Some(items)) if line.args.is_none() => {
            let parse = |(at, item): (usize, &Object<'_>)| {
                let Item { command: name, args } = item.parse(&format!("command {} of the transact", at + 1))?;
                command(&name, args)
            };
            (items.iter().enumerate().map(parse).collect::<Result<_, _>>()?, true)
        }
        _ => {
            return Err(Rejection::invalid(
                r#"expected {"command":…,"args":{…}} or {"transact":[{"command":…,"args":{…}},…]}"#,
            ));
        }
    };
    if commands.is_empty() {
        return Err(Rejection::invalid("transact: expected at least one command"));
    }
    let at_ms = line.at_ms.map(offset).transpose()?;
    let options = CommandOptions {
        actor: line.actor.filter(|actor| !actor.is_empty()),
        reason: line.reason,
        request_id: line.request_id,
        command_id: line.command_id.map(command_id).transpose()?,
        lease: line.lease.map(|lease| lease.parse("lease")).transpose()?,
    };
    Ok(ParsedLine {
        request: Request { commands, transact, options, at: None, earlier: None, ordered: false, stream: None },
        at_ms,
    })
}

/// The id that a caller gives. One that forgot to mint it would be answered with the first outcome for everything it does.
fn command_id(id: Uuid) -> Result<CommitId, Rejection> {
    if id.is_nil() {
        return Err(Rejection::invalid("command_id: the nil UUID is no id"));
    }
    Ok(CommitId(id))
}

/// The largest offset of a recording: far more than anybody records, and far from where instants end.
pub(crate) const AT_MS_MAX: Millis = 100 * 366 * 86_400_000;

fn offset(at_ms: u64) -> Result<Millis, Rejection> {
    match Millis::try_from(at_ms) {
        Ok(at) if at <= AT_MS_MAX => Ok(at),
        _ => Err(Rejection::invalid(format!("at_ms: at most {AT_MS_MAX}, found {at_ms}"))),
    }
}

fn malformed(error: &serde_json::Error) -> Rejection {
    let text = error.to_string();
    // A line of a file is one line: its own number is known to whoever reads the file.
    let what = text.rsplit_once(" at line ").map_or(&*text, |(what, _)| what);
    let column = error.column().max(1);
    match error.line() {
        0 | 1 => Rejection::invalid(format!("column {column}: {what}")),
        line => Rejection::invalid(format!("line {line}, column {column}: {what}")),
    }
}

/// A command by its name and arguments.
///
/// # Errors
/// `invalid`: no such command, or arguments that are not its own.
pub fn command(name: &str, args: Option<&RawValue>) -> Result<Box<dyn AnyCommand>, Rejection> {
    let Some(def) = tables::command(name) else {
        return Err(Rejection::invalid(match closest(name) {
            Some(near) => format!("no command {name:?}; did you mean {near:?}?"),
            None => format!("no command {name:?}; `tasklog commands` lists them"),
        }));
    };
    match args {
        Some(args) => (def.parse)(args),
        None => {
            let empty: &RawValue = serde_json::from_str("{}").map_err(|error| malformed(&error))?;
            (def.parse)(empty)
        }
    }
}

/// The command whose name shares the most with a mistaken one.
fn closest(name: &str) -> Option<&'static str> {
    let verb = name.rsplit('.').next().unwrap_or(name);
    let table = name.split('.').next().unwrap_or(name);
    let names = || tables::SIDES.iter().flat_map(|side| side.commands).map(|def| def.name);
    names()
        .find(|known| known.starts_with(table) && known.ends_with(verb))
        .or_else(|| names().find(|known| known.rsplit('.').next() == Some(verb)))
        .or_else(|| names().find(|known| known.split('.').next() == Some(table)))
}

/// The answer to a line that failed.
#[derive(Serialize)]
struct AnswerLine<'a> {
    line: u64,
    ok: bool,
    error: ErrorBody<'a>,
}

/// An error as machines read it.
#[derive(Serialize)]
pub struct ErrorBody<'a> {
    kind: &'a str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actual: Option<&'a str>,
}

impl<'a> ErrorBody<'a> {
    /// The kind, the message, and for a conflict what was expected and found.
    #[must_use]
    pub fn new(error: &'a Error) -> Self {
        match error {
            Error::Rejected(rejection) => Self {
                kind: rejection.kind.as_str(),
                message: rejection.message.clone(),
                expected: rejection.expected.as_deref(),
                actual: rejection.actual.as_deref(),
            },
            Error::Store(error) => {
                Self { kind: error.kind().as_str(), message: error.full(), expected: None, actual: None }
            }
        }
    }
}

/// The answer to line `number` as one line of JSON:
/// `{"line":1,"ok":true,"first":1,"last":3,"reply":{…}}` or `{"line":2,"ok":false,"error":{…}}`.
#[must_use]
pub fn answer_line(number: u64, answer: &Result<AnyReply, Error>) -> String {
    match answer {
        Ok(reply) => {
            let first = reply.meta.first.map_or("null".to_owned(), |first| first.to_string());
            let last = reply.meta.first.map_or("null".to_owned(), |_| reply.meta.position.to_string());
            let reply = reply_json(reply);
            format!(r#"{{"line":{number},"ok":true,"first":{first},"last":{last},"reply":{reply}}}"#)
        }
        Err(error) => {
            let line = AnswerLine { line: number, ok: false, error: ErrorBody::new(error) };
            // Texts and a number.
            serde_json::to_string(&line).unwrap_or_default()
        }
    }
}

/// A reply as the text of a JSON object: what every reply says, then what the command adds; a transact adds `replies`.
#[must_use]
pub fn reply_json(reply: &AnyReply) -> String {
    let meta = &reply.meta;
    let mut text = String::with_capacity(160);
    // Plain numbers, ids and flags.
    let id = serde_json::to_string(&meta.commit_id).unwrap_or_default();
    let rev = serde_json::to_string(&meta.rev).unwrap_or_default();
    text.push_str(&format!(
        r#"{{"changed":{},"commit_id":{id},"position":{},"rev":{rev}"#,
        meta.changed, meta.position
    ));
    if meta.repeated {
        text.push_str(r#","repeated":true"#);
    }
    let answers = reply.answers.to_json();
    if let [answer] = &answers[..] {
        let fields = answer.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or_default();
        if !fields.is_empty() {
            text.push(',');
            text.push_str(fields);
        }
    } else {
        text.push_str(r#","replies":["#);
        text.push_str(&answers.join(","));
        text.push(']');
    }
    text.push('}');
    text
}
