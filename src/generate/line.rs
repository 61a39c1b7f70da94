use serde_json::{Value, json};

/// A lease as commands carry it.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) scope: String,
    pub(super) holder: String,
    pub(super) term: i64,
}

impl Lease {
    /// The arguments of a command about the lease itself.
    pub(super) fn args(&self) -> Value {
        json!({"scope": self.scope, "holder": self.holder, "term": self.term})
    }
}

/// One line of a recording, before its instant is known.
#[derive(Clone, Debug)]
pub(super) struct Line {
    commands: Vec<(&'static str, Value)>,
    transact: bool,
    /// Actor, reason, ids, lease: `(field, value)`.
    options: Vec<(&'static str, Value)>,
}

impl Line {
    pub(super) fn one(command: &'static str, args: Value) -> Self {
        Self { commands: vec![(command, args)], transact: false, options: Vec::new() }
    }

    /// Several as one commit; a single one needs no transact.
    pub(super) fn all(commands: Vec<(&'static str, Value)>) -> Self {
        let transact = commands.len() > 1;
        Self { commands, transact, options: Vec::new() }
    }

    pub(super) fn under(self, lease: &Lease) -> Self {
        self.with("lease", json!({"scope": lease.scope, "term": lease.term}))
    }

    pub(super) fn by(self, actor: &str) -> Self {
        self.with("actor", actor.into())
    }

    pub(super) fn because(self, reason: &str) -> Self {
        self.with("reason", reason.into())
    }

    pub(super) fn request(self, id: &str) -> Self {
        self.with("request_id", id.into())
    }

    pub(super) fn repeatable(self, command_id: &str) -> Self {
        self.with("command_id", command_id.into())
    }

    fn with(mut self, field: &'static str, value: Value) -> Self {
        self.options.push((field, value));
        self
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.commands.iter().map(|(name, _)| *name)
    }

    /// The text at its instant, without a line end. Names of commands need no escapes.
    pub(super) fn text(&self, at_ms: u64) -> String {
        let commands = self.commands.iter().map(|(name, args)| format!(r#""command":"{name}","args":{args}"#));
        let body = if self.transact {
            format!(r#""transact":[{{{}}}]"#, commands.collect::<Vec<_>>().join("},{"))
        } else {
            commands.collect()
        };
        let options: String = self.options.iter().map(|(field, value)| format!(r#","{field}":{value}"#)).collect();
        format!(r#"{{"at_ms":{at_ms},{body}{options}}}"#)
    }
}
